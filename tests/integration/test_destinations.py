"""Destinations of the cloud: what each is sent, held, told; over real connections, and from a real queue."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from cloud.accounts.secret import make_secret
from cloud.jobs.kinds import Kinds
from cloud.jobs.sending import Destinations, Sent
from cloud.jobs.service import Jobs
from cloud.store import destinations as table
from cloud.store.departures import judge
from shared.domain import FixFlag, NewFix
from shared.errors import Conflict, Forbidden, Invalid, LinkError, NotFound
from shared.exchange import movebank_feed
from shared.exchange.rows import TrackFix
from shared.exchange.sites import MOST, MOST_REFUSED
from shared.jobs import Job
from shared.privacy import OPERATOR, TIERS, species_listed, view_for
from shared.store import AnimalQuery, FixQuery
from shared.sync.records import from_ms, to_ms
from tests.access import TokenAuth, accounts_over, logged_in, person
from tests.clouds import Cloud, ask, serving, wipe
from tests.contract.conftest import client_of
from tests.fakes import START
from tests.receivers import LOGIN, TOKEN, Double, receivers
from tests.services import Postgres
from tests.workers import working

pytestmark = [pytest.mark.integration]

ROOT = Path(__file__).parents[2]
VIEW = view_for(OPERATOR)
HOUR = timedelta(hours=1)
N = 2 * MOST + 17
KINDS = ("earthranger", "gundi", "movebank")


@pytest.fixture
def serve() -> Iterator[Callable[..., Double]]:
    with receivers() as start:
        yield start


async def at_once(_: float) -> None:
    """Wait for nothing."""


class Sending:
    """A cloud with a worker that sends, and what a test asks of both."""

    def __init__(self, cloud: Cloud, known: Destinations, jobs: Jobs, ended: Callable[[Job], Any]) -> None:
        self.cloud = cloud
        self.store = cloud.store
        self.known = known
        self.jobs = jobs
        self._ended = ended

    async def add(self, double: Double, **columns: Any) -> str:
        """Add a destination and return its id."""
        token = LOGIN if double.kind == "movebank" else TOKEN
        made = await self.known.add(
            {
                "name": f"{double.kind} {double.server_port}", "kind": double.kind, "url": double.url, "token": token,
                "provider": "" if double.kind == "gundi" else "outpost", "species": None, "animals": None,
                "precision": "exact", "is_enabled": True, "interval_s": 60, **columns,
            },
            "operator",
        )  # fmt: skip
        return made.id

    async def send(self, identity: str) -> Job:
        """Send now and return the job when it has ended."""
        job: Job = await self._ended(await self.known.send_now(self.jobs, identity, OPERATOR))
        return job

    async def sent(self, identity: str) -> Sent:
        """Send now, which must go well."""
        job = await self.send(identity)
        assert job.state == "succeeded", job
        return msgspec.json.decode(job.result or b"", type=Sent)


@contextlib.asynccontextmanager
async def sending(url: str) -> AsyncIterator[Sending]:
    """Give a cloud and a worker over the database of ``url``; its clock is the test's."""
    async with serving(url) as cloud:
        known = Destinations(cloud.database, accounts_over(cloud.store, cloud.clock), now=cloud.clock.now)
        kind = known.kind(at_once)
        async with working(url, kind) as at:
            yield Sending(cloud, known, Jobs(cloud.database, Kinds([kind]), now=cloud.clock.now), at.ended)


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> Iterator[str]:
    made = postgres.create()
    yield made
    postgres.drop(made)


@pytest.fixture
async def at(url: str) -> AsyncIterator[Sending]:
    wipe(url)
    async with sending(url) as found:
        yield found


async def wear(at: Sending, collar_id: str, name: str, species: str = "Loxodonta africana") -> str:
    animal = await at.store.create_animal(VIEW, {"name": name, "species": species})
    span = {"animal_id": animal.id, "collar_id": collar_id, "started_at": START - 9 * HOUR, "ended_at": None}
    await at.store.create_deployment(VIEW, span)
    return animal.id


def heard(hour: float, collar_id: str = "K1", lon: float | None = 37.5, **more: Any) -> NewFix:
    at = START + hour * HOUR
    lat = None if lon is None else -2.5
    return NewFix(device=f"collar:{collar_id}", recorded_at=at, received_at=at, lon_deg=lon, lat_deg=lat, **more)


async def fill(
    at: Sending, n: int, collar_id: str = "K1", name: str = "Ayo", species: str = "Loxodonta africana"
) -> None:
    await wear(at, collar_id, name, species)
    await at.store.add_fixes(VIEW, [heard(k / 10, collar_id, 37.5 + k * 1e-5, battery_mv=3_600 - k) for k in range(n)])


@pytest.mark.parametrize("kind", KINDS)
async def test_each_fix_arrives_exactly_once_those_of_before_and_those_that_come(
    kind: str, at: Sending, serve: Callable[..., Double]
) -> None:
    double = serve(kind)
    await fill(at, N)
    identity = await at.add(double)
    done = await at.sent(identity)
    assert (done.sent, done.refused, done.retries) == (N, 0, 0)
    assert (len(double.kept), len(double.bodies)) == (N, 3)
    assert (await at.sent(identity)).sent == 0
    # a late one among the others, and the others once more
    await at.store.add_fixes(VIEW, [heard(0.55), heard(99), heard(0.1, lon=37.5 + 1e-5)])
    assert (await at.sent(identity)).sent == 2
    assert (len(double.kept), len(double.bodies)) == (N + 2, 4)
    there = await at.known.get(identity)
    assert (there.sent, there.waiting, there.held, there.refused, there.changes_waiting) == (N + 2, 0, 0, 0, 0)
    assert there.last_sent_at is not None
    assert not there.is_beginning


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["dropped", "cut", "500", "page"])
async def test_a_fault_is_followed_by_the_same_bytes_until_they_are_there(
    kind: str, fault: str, at: Sending, serve: Callable[..., Double]
) -> None:
    double = serve(kind, script=lambda n: fault if n % 3 else "ok")
    await fill(at, N)
    identity = await at.add(double)
    done = await at.sent(identity)
    assert (done.sent, len(double.kept)) == (N, N)
    sent = Counter(double.bodies)
    assert len(sent) == 3
    assert max(sent.values()) > 1
    assert done.retries == len(double.bodies) - 3


async def test_a_conflict_means_that_it_is_there(at: Sending, serve: Callable[..., Double]) -> None:
    double = serve("earthranger", script=lambda _: "409")
    await fill(at, 5)
    assert (await at.sent(await at.add(double))).sent == 5


async def test_a_receiver_that_is_away_ends_the_run_and_the_next_begins_with_the_same_bytes(
    at: Sending, serve: Callable[..., Double]
) -> None:
    double = serve("gundi", script=lambda n: "dropped" if n < 3 else "ok")
    await fill(at, 5)
    identity = await at.add(double)
    job = await at.send(identity)
    assert (job.state, job.error_code) == ("failed", "link")
    there = await at.known.get(identity)
    assert (there.failures, there.error_code, there.waiting, there.sent) == (1, "link", 5, 0)
    first_due = there.due_at
    assert first_due >= at.cloud.clock.now() + timedelta(seconds=60)
    # what is known of the fixes changes before the next run; what was frozen does not
    await at.store.add_fixes(VIEW, [heard(k / 10, lon=37.5 + k * 1e-5, temperature_c=30.0) for k in range(5)])
    assert (await at.sent(identity)).sent == 5
    assert len(set(double.bodies)) == 1
    assert len(double.kept) == 5
    there = await at.known.get(identity)
    assert (there.failures, there.error_code, there.error) == (0, None, None)


async def test_each_failure_puts_the_next_run_off_for_longer_and_as_long_as_is_asked(
    at: Sending, serve: Callable[..., Double]
) -> None:
    double = serve("earthranger", script=lambda _: "500")
    await fill(at, 3)
    identity = await at.add(double)
    pauses = []
    for _ in range(8):
        assert (await at.send(identity)).state == "failed"
        pauses.append(((await at.known.get(identity)).due_at - at.cloud.clock.now()).total_seconds())
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (120, 3_600)
    there = await at.known.get(identity)
    async with at.cloud.database.transaction() as db:
        await table.note_failure(db, there.pk, "link", "later", 0, 7_200.0)
    assert (await at.known.get(identity)).due_at == from_ms(7_200_000)


async def test_one_row_that_is_refused_costs_no_other_and_waits_for_a_person(
    at: Sending, serve: Callable[..., Double]
) -> None:
    double = serve("earthranger", poison=frozenset({"K2"}))
    await fill(at, 40)
    await wear(at, "K2", "Bo")
    await at.store.add_fixes(VIEW, [heard(1, "K2"), heard(20, "K2"), *(heard(50 + k) for k in range(9))])
    identity = await at.add(double)
    done = await at.sent(identity)
    assert (done.sent, done.refused, len(double.kept)) == (49, 2, 49)
    assert (await at.known.get(identity)).refused == 2
    double.poison = frozenset()
    assert (await at.sent(identity)).sent == 2
    there = await at.known.get(identity)
    assert (there.sent, there.refused) == (51, 0)


async def test_a_receiver_that_refuses_everything_ends_the_run_and_costs_no_fix(
    at: Sending, serve: Callable[..., Double]
) -> None:
    double = serve("earthranger", poison=frozenset({"K1"}))
    await fill(at, MOST + 20)
    identity = await at.add(double)
    job = await at.send(identity)
    assert (job.state, job.error_code) == ("failed", "invalid")
    assert "refuses one fix after the other" in str(job.error)
    there = await at.known.get(identity)
    assert (there.refused, there.waiting, there.failures) == (0, MOST + 20, 1)
    assert len(double.bodies) < 4 * MOST_REFUSED
    double.poison = frozenset()
    assert (await at.sent(identity)).sent == MOST + 20


async def test_what_a_rule_or_a_missing_deployment_holds_back_is_sent_when_it_is_cleared(
    at: Sending, serve: Callable[..., Double]
) -> None:
    double = serve("earthranger")
    await wear(at, "K1", "Ayo")
    far = [heard(0), heard(1), heard(2, lon=39.5), heard(3, lon=None), heard(4, lon=0.0)]
    stored = await at.store.add_fixes(VIEW, [*far[:4], heard(1, "K9")])
    assert (await at.store.fix(VIEW, stored[2].id)).flags == FixFlag.IMPOSSIBLE_SPEED
    identity = await at.add(double)
    assert (await at.sent(identity)).sent == 2
    assert (await at.known.get(identity)).held == 2
    # It went there after all, and the collar without an animal was Bo's.
    await at.store.add_fixes(VIEW, [heard(3 + k, lon=39.5) for k in range(1, 5)])
    await wear(at, "K9", "Bo")
    assert (await at.sent(identity)).sent == 6
    assert (await at.known.get(identity)).held == 0
    assert len(double.kept) == 8
    # what a person takes out afterwards is there already; what is taken out before does not go
    late = await at.store.add_fixes(VIEW, [heard(50)])
    await at.store.flag_fix(VIEW, late[0].id, is_excluded=True)
    assert (await at.sent(identity)).sent == 0
    await at.store.flag_fix(VIEW, late[0].id, is_excluded=False)
    assert (await at.sent(identity)).sent == 1


async def test_an_alias_that_comes_late_sends_nothing_twice_and_all_that_was_nobodys(
    at: Sending, serve: Callable[..., Double]
) -> None:
    double = serve("earthranger")
    await wear(at, "K1", "Ayo")
    await wear(at, "R1", "Ayo's other name")
    await at.store.add_fixes(VIEW, [heard(0), heard(1, "R1"), heard(2, "R2"), heard(3, "R2")])
    identity = await at.add(double)
    assert (await at.sent(identity)).sent == 2
    assert (await at.known.get(identity)).held == 2
    for deployment in (await at.store.deployments(VIEW, animal_id=None, collar_id="R1", offset=0, limit=9)).results:
        await at.store.delete_deployment(VIEW, deployment.id)
    collar = await at.store.collar(VIEW, "K1")
    await at.store.put_collar(VIEW, "K1", {"aliases": [*collar.aliases, "R1", "R2"]})
    assert (await at.sent(identity)).sent == 2
    assert (await at.known.get(identity)).held == 0
    assert Counter(row["recorded_at"] for row in double.kept.values()).most_common(1)[0][1] == 1
    assert len(double.kept) == 4


async def test_a_scope_lets_only_its_own_leave_and_a_wider_one_sends_the_rest_once(
    at: Sending, serve: Callable[..., Double]
) -> None:
    double = serve("gundi")
    await fill(at, 6)
    await fill(at, 5, "K2", "Bo", "Panthera leo")
    identity = await at.add(double, species=["Panthera leo"])
    assert (await at.sent(identity)).sent == 5
    assert {row["source"] for row in double.kept.values()} == {"K2"}
    await at.known.change(identity, {"species": None, "animals": ["Ayo"]})
    assert (await at.sent(identity)).sent == 6
    await at.known.change(identity, {"animals": None})
    assert (await at.sent(identity)).sent == 0
    assert len(double.kept) == 11
    # an animal that becomes of the species is of the scope from then on
    lions = serve("gundi")
    other = await at.add(lions, species=["Panthera leo"])
    assert (await at.sent(other)).sent == 5
    (ayo,) = [animal for animal in (await at.store.animals(VIEW, _all())).results if animal.name == "Ayo"]
    await at.store.update_animal(VIEW, ayo.id, {"species": "Panthera leo"})
    assert (await at.sent(other)).sent == 6
    with pytest.raises(NotFound, match="no animal Nobody"):
        await at.known.change(identity, {"animals": ["Nobody"]})


def _all() -> Any:
    return AnimalQuery(limit=50)


async def test_a_reduced_destination_is_sent_cells_when_they_are_old_and_the_most_sensitive_never(
    at: Sending, serve: Callable[..., Double]
) -> None:
    double = serve("earthranger")
    await fill(at, 3, "K1", "Ayo", "Loxodonta africana")
    await fill(at, 3, "K2", "Gnu", "wildebeest")
    await fill(at, 3, "K3", "Rhea", "Diceros bicornis")
    _set(at, START + 2 * HOUR)
    identity = await at.add(double, precision="reduced")
    assert (await at.sent(identity)).sent == 3
    assert {row["manufacturer_id"] for row in double.kept.values()} == {"K2"}
    assert (await at.known.get(identity)).held == 6
    _set(at, START + timedelta(hours=80))
    assert (await at.sent(identity)).sent == 3
    _set(at, START + timedelta(days=30))
    assert (await at.sent(identity)).sent == 0
    assert (await at.known.get(identity)).held == 3
    for row in double.kept.values():
        cell_e7 = TIERS[2 if row["manufacturer_id"] == "K1" else 4].cell_e7
        assert cell_e7 is not None
        assert (round(row["location"]["lon"] * 1e7) + 1_800_000_000) % cell_e7 == cell_e7 // 2
        assert row["additional"] == {}


def _set(at: Sending, instant: Any) -> None:
    at.cloud.clock.at = instant


async def test_the_reduced_view_of_sql_and_that_of_a_destination_are_one(
    at: Sending, serve: Callable[..., Double]
) -> None:
    double = serve("earthranger")
    await fill(at, 4, "K1", "Ayo", "Loxodonta africana")
    await fill(at, 4, "K2", "Gnu", "wildebeest")
    _set(at, START + timedelta(days=9))
    identity = await at.add(double, precision="reduced")
    await at.sent(identity)
    viewer = at.cloud.accounts.view(msgspec.structs.replace(OPERATOR, user_id="v", role="viewer"))
    seen = (await at.store.fixes(viewer, FixQuery(limit=50))).results
    assert {(each.collar_id, to_ms(each.recorded_at), each.lon_deg, each.lat_deg) for each in seen} == {
        (row["manufacturer_id"], _ms(row["recorded_at"]), row["location"]["lon"], row["location"]["lat"])
        for row in double.kept.values()
    }


def _ms(text: str) -> int:
    return to_ms(datetime.fromisoformat(text))


async def test_a_worker_sends_by_itself_what_is_due_and_makes_no_job_where_there_is_nothing(
    at: Sending, serve: Callable[..., Double]
) -> None:
    double = serve("earthranger")
    await fill(at, 5)
    identity = await at.add(double)
    paused = await at.add(serve("gundi"), is_enabled=False)
    assert await at.known.enter_due(at.jobs) == 1
    assert await at.known.enter_due(at.jobs) == 0  # its job is there
    job_id = (await at.known.get(identity)).job_id
    assert job_id is not None
    assert (await at._ended(await at.jobs.job(OPERATOR, job_id))).state == "succeeded"
    assert len(double.kept) == 5
    at.cloud.clock.tick(61)
    assert await at.known.enter_due(at.jobs) == 0
    await at.store.add_fixes(VIEW, [heard(99)])
    assert await at.known.enter_due(at.jobs) == 0  # its turn has just been
    at.cloud.clock.tick(61)
    assert await at.known.enter_due(at.jobs) == 1
    with pytest.raises(Conflict, match="paused"):
        await at.known.send_now(at.jobs, paused, OPERATOR)


async def test_tokens_are_sealed_anew_with_a_new_key_and_sending_goes_on(
    at: Sending, serve: Callable[..., Double]
) -> None:
    double = serve("earthranger")
    await fill(at, 3)
    identity = await at.add(double)
    accounts = accounts_over(at.store, at.cloud.clock)
    name = await accounts.rotate_field_key(OPERATOR)
    assert (await accounts.key_status()).sealed["0"] >= 1
    await accounts.reseal(OPERATOR)
    assert set((await accounts.key_status()).sealed) == {name}
    ((sealed,),) = ask(at.cloud.url, "SELECT token FROM destinations")
    assert sealed.startswith(f"s1.{name}.")
    assert (await at.sent(identity)).sent == 3


async def test_a_wrong_token_and_a_wrong_address_are_told_without_the_token(
    at: Sending, serve: Callable[..., Double]
) -> None:
    double = serve("earthranger")
    await fill(at, 3)
    identity = await at.add(double, token="another")
    job = await at.send(identity)
    assert (job.state, job.error_code) == ("failed", "forbidden")
    assert "refuses the token" in str(job.error)
    assert "another" not in str(job.error)
    with pytest.raises(Forbidden, match="refuses the token"):
        await at.known.probe(identity)
    await at.known.change(identity, {"token": TOKEN})
    assert (await at.known.probe(identity)).verdict == "done"
    assert double.kept == {}
    lost = serve("earthranger", script=lambda _: "404")
    with pytest.raises(Invalid, match="there is nothing at"):
        await at.known.probe(await at.add(lost))
    busy = serve("gundi", script=lambda _: "500")
    with pytest.raises(LinkError, match="answer 500"):
        await at.known.probe(await at.add(busy))
    movebank = serve("movebank")
    assert (await at.known.probe(await at.add(movebank))).verdict == "done"
    assert movebank.kept == {}


async def test_an_address_that_others_can_listen_to_and_a_half_login_are_refused(at: Sending) -> None:
    good = {
        "name": "x", "kind": "earthranger", "url": "https://reserve.example.org", "token": TOKEN, "provider": "outpost",
        "species": None, "animals": None, "precision": "exact", "is_enabled": True, "interval_s": 60,
    }  # fmt: skip
    for bad in (
        {"url": "http://reserve.example.org"}, {"url": "ftp://x"}, {"url": "https://u:p@x"}, {"url": "https://[x"},
        {"provider": ""}, {"kind": "movebank"}, {"token": "a\nb"},
    ):  # fmt: skip
        with pytest.raises(Invalid):
            await at.known.add({**good, **bad}, "operator")
    made = await at.known.add(good, "operator")
    with pytest.raises(Conflict):
        await at.known.add(good, "operator")
    with pytest.raises(Invalid, match="another address needs it again"):
        await at.known.change(made.id, {"url": "https://elsewhere.example.org"})


# --- over HTTP --------------------------------------------------------------------------------------------------------
BODY = {
    "name": "Reserve", "kind": "earthranger", "url": "https://reserve.example.org", "token": TOKEN,
    "provider": "outpost",
}  # fmt: skip


async def test_a_destination_is_made_changed_and_removed_and_its_token_never_comes_back(at: Sending) -> None:
    client = at.cloud.client
    made = await client.post("/api/v1/destinations/", json=BODY)
    assert made.status_code == 201, made.text
    path = f"/api/v1/destinations/{made.json()['id']}/"
    assert (await client.post("/api/v1/destinations/", json=BODY)).status_code == 409
    changed = await client.patch(path, json={"species": ["Panthera leo"], "is_enabled": False})
    assert changed.json()["species"] == ["Panthera leo"]
    listed = await client.get("/api/v1/destinations/")
    read = await client.get(path)
    fields = await client.get("/api/v1/destinations/", params={"fields": "id,held"})
    assert fields.json()["results"] == [{"id": made.json()["id"], "held": 0}]
    assert listed.json()["results"] == [read.json()]
    refused = await client.post(f"{path}send/")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    metrics = await client.get("/metrics")
    detail = await client.get("/health/detail/")
    ((sealed,),) = ask(at.cloud.url, "SELECT token FROM destinations")
    for answer in (made, changed, listed, read, refused, metrics, detail):
        assert TOKEN not in answer.text
        assert sealed not in answer.text
    assert "outpost_destination_waiting" in metrics.text
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    noted = ask(at.cloud.url, "SELECT action FROM audit WHERE action LIKE 'destination.%' ORDER BY seq")
    assert [action for (action,) in noted] == ["destination.add", "destination.change", "destination.remove"]
    assert not any(TOKEN in detail for (detail,) in ask(at.cloud.url, "SELECT detail FROM audit"))


async def test_send_now_answers_with_the_job_and_with_the_same_one_while_it_is_alive(
    url: str, serve: Callable[..., Double]
) -> None:
    double = serve("earthranger")
    wipe(url)
    async with serving(url) as cloud:
        known = Destinations(cloud.database, cloud.accounts, now=cloud.clock.now)
        async with serving(url, kinds=Kinds([known.kind()])) as served:
            made = (await served.client.post("/api/v1/destinations/", json={**BODY, "url": double.url})).json()
            first = await served.client.post(f"/api/v1/destinations/{made['id']}/send/")
            again = await served.client.post(f"/api/v1/destinations/{made['id']}/send/")
            assert (first.status_code, again.status_code) == (202, 202)
            assert first.json()["id"] == again.json()["id"]
            assert first.headers["Location"] == f"/api/v1/jobs/{first.json()['id']}/"


async def test_only_an_administrator_with_a_fresh_factor_adds_one(at: Sending) -> None:
    for role, is_fresh, wanted in (
        ("conservation_manager", True, 403), ("viewer", True, 403), ("admin", False, 403), ("admin", True, 201),
    ):  # fmt: skip
        accounts = at.cloud.accounts
        who = await person(accounts, role, name=f"{role}{is_fresh}")  # type: ignore[arg-type] # one of the roles
        access, _ = await logged_in(accounts, who, is_fresh=is_fresh)
        client: httpx.AsyncClient = client_of(at.cloud.app, TokenAuth(lambda access=access: access))  # type: ignore[misc] # bound now
        async with client:
            answer = await client.post("/api/v1/destinations/", json=BODY)
        assert answer.status_code == wanted, (role, is_fresh, answer.text)


def test_a_row_is_judged_by_scope_before_its_flags() -> None:
    there = table.Destination(
        pk=1, id="d", name="d", kind="gundi", url="https://x", provider="", token="", species=["lion"], animals=None,
        precision="exact", is_enabled=True, interval_s=60, created_by="o", is_beginning=False, sent=0, failures=0,
        error_code=None, error=None, created_at=START, last_sent_at=None, failed_at=None, due_at=START, job_id=None,
        waiting=0, refused=0, held=0, changes_waiting=0,
    )  # fmt: skip
    row: dict[str, Any] = {
        "lon_e7": 1, "lat_e7": 1, "animal_id": None, "species": None, "flags": int(FixFlag.IMPOSSIBLE_SPEED),
    }  # fmt: skip
    assert judge(there, row, species_listed(), 0) is None
    assert judge(there, {**row, "animal_id": "a", "species": "lion"}, species_listed(), 0) == (1, None)


def test_what_movebank_is_sent_is_this() -> None:
    site = movebank_feed.site("https://www.movebank.org", "our feed", LOGIN)
    fix = TrackFix(
        animal_id="1", individual="Ayo", species="lion", collar_id="K1", recorded_ms=1_780_315_200_250,
        lon_e7=375_000_001, lat_e7=-25_000_000, flags=0, alt_m=1200.5,
    )  # fmt: skip
    written = site.observation(fix)
    assert json.loads(written) == {
        "recorded_at": "2026-06-01T12:00:00.250Z", "tag_id": "K1", "lon": "37.5000001", "lat": "-2.5000000",
        "sensor_type": "GPS", "tag_manufacturer_name": "Outpost",
    }  # fmt: skip
    assert site.body([written]) == site.body([written])
    assert b'name="feed"\r\n\r\nour feed\r\n' in site.body([written])


# --- commands ---------------------------------------------------------------------------------------------------------
def outpost_cloud(config: Path, *words: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        "from cloud.cli import main; main()",
        "destination",
        *words,
        "--config",
        str(config),
    ]
    environment = {**os.environ, "OUTPOST_DESTINATION_TOKEN": token}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, env=environment)


@pytest.mark.slow
async def test_destinations_are_kept_by_commands_which_print_facts_and_no_token(
    url: str, tmp_path: Path, serve: Callable[..., Double]
) -> None:
    wipe(url)
    double = serve("earthranger")
    key = tmp_path / "cloud.key"
    make_secret(key)
    config = tmp_path / "cloud.toml"
    config.write_text(f'[database]\nurl = "{url}"\n[accounts]\nkey_file = "{key}"\n')

    async def run(*words: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(outpost_cloud, config, *words, token=token)

    add = ("add", "Reserve", "--kind", "earthranger", "--url", double.url, "--provider", "outpost", "--json")
    without = await run(*add, token="")
    assert (without.returncode, without.stdout) == (1, "")
    assert "OUTPOST_DESTINATION_TOKEN" in without.stderr
    made = await run(*add, "--species", "Panthera leo", "--reduced")
    assert made.returncode == 0, made.stderr
    facts = json.loads(made.stdout)
    assert (facts["name"], facts["species"], facts["precision"]) == ("Reserve", ["Panthera leo"], "reduced")
    assert json.loads((await run("test", "Reserve", "--json")).stdout)["lets_in"] is True
    assert double.kept == {}
    paused = await run("pause", "Reserve", "--json")
    assert json.loads(paused.stdout)["is_enabled"] is False
    assert json.loads((await run("resume", "Reserve", "--json")).stdout)["is_enabled"] is True
    listed = await run("list", "--json")
    assert [each["id"] for each in json.loads(listed.stdout)] == [facts["id"]]
    gone = await run("remove", facts["id"], "--json")
    assert json.loads(gone.stdout) == {"removed": "Reserve", "sent": 0}
    assert (await run("test", "Reserve")).returncode == 1
    for said in (made, paused, listed, gone):
        assert TOKEN not in said.stdout + said.stderr
    assert len(ask(url, "SELECT 1 FROM audit WHERE action LIKE 'destination.%'")) == 4
