"""Jobs over HTTP: who sees which, cancelling, and a stream of events that can be taken up again anywhere."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from cloud.api.jobs import Listeners, stream
from cloud.jobs.kinds import JobKind, Kinds, Run
from cloud.jobs.service import CORRIDOR, Jobs
from cloud.store import jobs as table
from shared.errors import RateLimited
from shared.jobs import CorridorWish
from shared.privacy import OPERATOR, Principal
from tests.access import TokenAuth, logged_in, person
from tests.clouds import Cloud, serving
from tests.contract.conftest import client_of
from tests.workers import Wish, kind_of, now, working

pytestmark = [pytest.mark.integration, pytest.mark.api]

WISH = {
    "species": "Elephant", "start_point": {"lat": -2.5, "lon": 37.5}, "end_point": {"lat": -2.4, "lon": 37.9},
    "optimization_goal": "safest", "steps": 100,
}  # fmt: skip


async def run(run: Run[Wish]) -> dict[str, int]:
    for step in range(3):
        await run.log(f"step {step}")
    await run.progress(50, "half", best={"score": 1})
    return {"n": run.parameters.n}


async def search(run: Run[CorridorWish]) -> dict[str, str]:
    return {"species": run.parameters.species, "goal": run.parameters.goal}


KIND = kind_of(run)
CORRIDORS: JobKind[Any] = JobKind(name=CORRIDOR, parameters=CorridorWish, run=search, is_heavy=True)


def events_of(text: str) -> list[tuple[int, str, Any]]:
    """Return id, name and data of each event of a stream."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "data" in fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


async def client_as(cloud: Cloud, role: Any, name: str = "") -> httpx.AsyncClient:
    access, _ = await logged_in(cloud.accounts, await person(cloud.accounts, role, name=name))
    return client_of(cloud.app, TokenAuth(lambda: access))


async def test_a_corridor_is_asked_for_as_the_original_did_and_answers_with_a_job(database_url: str) -> None:
    async with serving(database_url, kinds=Kinds([CORRIDORS])) as cloud, working(database_url, CORRIDORS) as at:
        answer = await cloud.client.post("/api/v1/corridors/optimize/", json=WISH, headers={"Idempotency-Key": "a"})
        assert answer.status_code == 202, answer.text
        job = answer.json()
        assert answer.headers["Location"] == f"/api/v1/jobs/{job['id']}/"
        assert (job["kind"], job["created_by"], job["parameters"]["goal"]) == ("corridor", "operator", "safest")
        again = await cloud.client.post("/api/v1/corridors/optimize/", json=WISH, headers={"Idempotency-Key": "a"})
        assert again.json()["id"] == job["id"]
        await at.ended(job["id"])
        read = (await cloud.client.get(f"/api/v1/jobs/{job['id']}/")).json()
        assert (read["state"], read["result"]) == ("succeeded", {"species": "Elephant", "goal": "safest"})
        listed = (await cloud.client.get("/api/v1/jobs/", params={"kind": "corridor", "state": "succeeded"})).json()
        assert [each["id"] for each in listed["results"]] == [job["id"]]
        for bad in ({"steps": 5}, {"end_point": WISH["start_point"]}, {"start_point": {"lat": 91, "lon": 0}}):
            refused = await cloud.client.post("/api/v1/corridors/optimize/", json={**WISH, **bad})
            assert (refused.status_code, refused.json()["code"]) == (400, "invalid"), bad


async def test_without_an_optimiser_the_answer_is_that_there_is_none(database_url: str) -> None:
    async with serving(database_url) as cloud:
        answer = await cloud.client.post("/api/v1/corridors/optimize/", json=WISH)
        assert (answer.status_code, answer.json()["code"]) == (503, "model_unavailable")
        assert cloud.count("jobs") == 0


async def test_people_see_their_own_jobs_and_administrators_everybody_s(database_url: str) -> None:
    async with (
        serving(database_url, kinds=Kinds([CORRIDORS])) as cloud,
        await client_as(cloud, "conservation_manager", "m1") as mine,
        await client_as(cloud, "conservation_manager", "m2") as other,
        await client_as(cloud, "viewer") as viewer,
    ):
        job = (await mine.post("/api/v1/corridors/optimize/", json=WISH)).json()
        path = f"/api/v1/jobs/{job['id']}/"
        assert (await viewer.post("/api/v1/corridors/optimize/", json=WISH)).status_code == 403
        for stranger in (other, viewer):
            assert (await stranger.get("/api/v1/jobs/")).json()["count"] == 0
            for method, where in (("GET", path), ("DELETE", path), ("GET", f"{path}events/")):
                assert (await stranger.request(method, where)).status_code == 404, (method, where)
        assert (await mine.get("/api/v1/jobs/")).json()["count"] == 1
        assert (await cloud.client.get(path)).json()["id"] == job["id"]
        gone = await mine.delete(path)
        assert (gone.status_code, gone.json()["state"]) == (200, "cancelled")


async def test_events_are_taken_up_again_at_any_number_and_end_with_the_job(database_url: str) -> None:
    async with serving(database_url, kinds=Kinds([KIND])) as cloud, working(database_url, KIND) as at:
        job = await at.ended(await at.jobs.submit("test", Wish(n=7), OPERATOR))
        path = f"/api/v1/jobs/{job.id}/events/"
        whole = await cloud.client.get(path)
        assert whole.headers["content-type"].startswith("text/event-stream")
        assert whole.headers["cache-control"] == "no-store"
        events = events_of(whole.text)
        assert [name for _, name, _ in events if name != "progress"] == ["state", "state", "log", "log", "log", "state"]
        assert [data["line"] for _, name, data in events if name == "log"] == ["step 0", "step 1", "step 2"]
        ((_, _, told),) = [event for event in events if event[1] == "progress"]
        assert told == {"percent": 100.0, "message": "half", "best": {"score": 1}}
        assert events[-1][2]["result"] == {"n": 7}
        numbers = [n for n, _, _ in events]
        assert numbers == sorted(set(numbers))
        for n in numbers[:-1]:
            rest = await cloud.client.get(path, headers={"Last-Event-ID": str(n)})
            assert events_of(rest.text) == [event for event in events if event[0] > n]
        over = await cloud.client.get(path, params={"last_event_id": str(numbers[-1])})
        assert (over.status_code, over.content) == (204, b"")
        for nonsense in ("-1", "x", "9" * 30):
            assert events_of((await cloud.client.get(path, headers={"Last-Event-ID": nonsense})).text) == events


async def test_a_stream_follows_a_job_from_its_queue_to_its_end_and_ends_with_the_right_to_listen(
    database_url: str,
) -> None:
    async def may() -> bool:
        return True

    async with serving(database_url) as cloud:
        jobs, listeners = Jobs(cloud.database, Kinds([KIND]), now=now), Listeners(most=1)
        made = await jobs.submit("test", Wish(), OPERATOR)
        following = stream(jobs, listeners, OPERATOR, made.id, 0, may_go_on=may, poll_s=0.02)
        assert b"retry" in await anext(following)
        ((first, name, data),) = events_of((await anext(following)).decode())
        assert (name, data["state"]) == ("state", "queued")
        with pytest.raises(RateLimited):
            listeners.admit()
        async with cloud.database.transaction() as connection:
            begun = await table.begin(connection, made.id, 1, 3)
        assert begun is not None
        ((second, _, data),) = events_of((await anext(following)).decode())
        assert (second > first, data["state"]) == (True, "running")
        await jobs.cancel(OPERATOR, made.id)
        async with cloud.database.transaction() as connection:
            assert await table.cancelled(connection, made.id, begun.attempt, 2)
        ((_, _, data),) = events_of((await anext(following)).decode())
        assert data["state"] == "cancelled"
        assert [rest async for rest in following] == []
        listeners.admit()


async def test_jobs_of_an_administrator_of_some_stations_are_not_everybody_s(database_url: str) -> None:
    async with serving(database_url) as cloud:
        jobs = Jobs(cloud.database, Kinds([KIND]), now=now)
        await jobs.submit("test", Wish(), OPERATOR)
        some = Principal(user_id="x", role="admin", stations=("post-1",))
        assert (await jobs.page(some, kind=None, state=None, offset=0, limit=9)).count == 0
