"""Who the cloud takes for a station: enrolment by a one-time code, and a signature on every request."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import msgspec
import pytest

from cloud.store.stations import new_code, retire
from shared.sync.records import to_ms
from shared.wire.link import Enrolled
from shared.wire.signatures import new_key, sign
from tests.clouds import EPOCH, START_MS, Cloud, Station

pytestmark = [pytest.mark.integration, pytest.mark.sync, pytest.mark.asyncio(loop_scope="module")]


# --- enrolment ------------------------------------------------------------------------------------------------------


async def code_for(cloud: Cloud, identity: str = "post-1", minutes: int = 10) -> str:
    async with cloud.database.transaction() as connection:
        return await new_code(connection, identity, f"Post {identity}", to_ms(cloud.clock.now()), minutes * 60_000)


async def enrol(cloud: Cloud, code: str, public: bytes) -> httpx.Response:
    return await cloud.client.post("/api/v1/stations/enrol", json={"code": code, "public_key": public.hex()})


async def test_a_code_lets_a_station_in_under_the_clouds_name_for_it(cloud: Cloud) -> None:
    seed, public = new_key()
    code = await code_for(cloud)
    assert [len(part) for part in code.split("-")] == [4, 4, 4, 4]
    answer = await enrol(cloud, code, public)
    assert answer.status_code == 201
    enrolled = msgspec.json.decode(answer.content, type=Enrolled)
    station = Station(cloud.client, enrolled.station_id, seed, EPOCH)
    assert (enrolled.station_id, enrolled.name) == ("post-1", "Post post-1")
    assert enrolled.cloud_epoch == (await station.changes()).epoch


async def test_a_code_is_read_as_people_type_it(cloud: Cloud) -> None:
    code = (await code_for(cloud)).lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert (await enrol(cloud, code, new_key()[1])).status_code == 201


async def test_a_code_that_is_unknown_expired_or_used_by_another_is_refused_alike(cloud: Cloud) -> None:
    unknown = await enrol(cloud, "0000-0000-0000-0000", new_key()[1])
    code = await code_for(cloud, "post-2")
    assert (await enrol(cloud, code, new_key()[1])).status_code == 201
    used = await enrol(cloud, code, new_key()[1])
    code = await code_for(cloud, "post-3", minutes=10)
    cloud.clock.tick(601)
    expired = await enrol(cloud, code, new_key()[1])
    assert [each.status_code for each in (unknown, used, expired)] == [403, 403, 403]
    assert unknown.json() == used.json() == expired.json()
    assert cloud.ask("SELECT id FROM stations") == [("post-2",)]


async def test_after_a_lost_answer_the_same_code_and_key_are_answered_again(cloud: Cloud) -> None:
    code, public = await code_for(cloud), new_key()[1]
    answers = [await enrol(cloud, code, public) for _ in range(3)]
    assert {each.status_code for each in answers} == {201}
    assert len({each.content for each in answers}) == 1


async def test_a_new_code_replaces_the_key_and_an_older_code_is_worth_nothing(cloud: Cloud) -> None:
    old_seed, old = new_key()
    seed, public = new_key()
    assert (await enrol(cloud, await code_for(cloud), old)).status_code == 201
    forgotten = await code_for(cloud)
    assert (await enrol(cloud, await code_for(cloud), public)).status_code == 201
    assert (await enrol(cloud, forgotten, old)).status_code == 403
    refused = await Station(cloud.client, "post-1", old_seed, EPOCH).send("GET", "/changes")
    assert refused.status_code == 401
    assert (await Station(cloud.client, "post-1", seed, EPOCH).send("GET", "/changes")).status_code == 200


async def test_a_retired_station_is_refused_until_a_new_code_lets_it_in(cloud: Cloud) -> None:
    seed, public = new_key()
    code = await code_for(cloud)
    await enrol(cloud, code, public)
    async with cloud.database.transaction() as connection:
        await retire(connection, "post-1", START_MS)
    station = Station(cloud.client, "post-1", seed, EPOCH)
    assert (await station.send("GET", "/changes")).status_code == 401
    assert (await enrol(cloud, code, public)).status_code == 403
    assert (await enrol(cloud, await code_for(cloud), public)).status_code == 201
    assert (await station.send("GET", "/changes")).status_code == 200


async def test_two_stations_with_one_code_at_once_are_one(cloud: Cloud) -> None:
    code = await code_for(cloud)
    answers = await asyncio.gather(*(enrol(cloud, code, new_key()[1]) for _ in range(4)))
    assert sorted(each.status_code for each in answers) == [201, 403, 403, 403]


@pytest.mark.parametrize("said", [
    {"code": "0000-0000-0000-0000", "public_key": "00"}, {"code": "0000-0000-0000-0000", "public_key": "z" * 64},
    {"code": "what?", "public_key": "00" * 32}, {"code": "\0" * 16, "public_key": "00" * 32}, {"code": 7}, {}, [],
])  # fmt: skip
async def test_what_is_no_enrolment_is_invalid(cloud: Cloud, said: Any) -> None:
    answer = await cloud.client.post("/api/v1/stations/enrol", json=said)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


# --- signatures -----------------------------------------------------------------------------------------------------


async def test_a_request_is_refused_unless_the_station_of_the_path_signed_it_as_it_came(
    cloud: Cloud, station: Station
) -> None:
    other = cloud.station("post-2")
    seed, _ = new_key()
    path = f"{station.path}/changes"

    async def answer_to(headers: dict[str, str], query: str = "since=0", body: bytes = b"") -> int:
        answer = await cloud.client.request("GET", f"{path}?{query}", content=body, headers=headers)
        return answer.status_code

    good = sign(station._seed, station.id, "GET", path, "since=0", b"")
    assert await answer_to(good) == 200
    assert await answer_to({}) == 401
    assert await answer_to(good, query="since=1") == 401
    assert await answer_to(good, query="") == 401
    assert await answer_to(good, body=b"{}") == 401
    assert await answer_to(sign(station._seed, station.id, "PUT", path, "since=0", b"")) == 401
    assert await answer_to(sign(station._seed, station.id, "GET", path + "x", "since=0", b"")) == 401
    assert await answer_to(sign(other._seed, other.id, "GET", path, "since=0", b"")) == 401
    assert await answer_to(sign(other._seed, station.id, "GET", path, "since=0", b"")) == 401
    assert await answer_to(sign(seed, "nobody", "GET", path, "since=0", b"")) == 401


async def test_a_station_that_nobody_knows_is_answered_as_a_wrong_signature(cloud: Cloud, station: Station) -> None:
    for identity in ("nobody", "post%2D2", "%FF"):
        path = f"/api/v1/stations/{identity}/changes"
        signed = sign(station._seed, station.id, "GET", path, "", b"")
        assert (await cloud.client.get(path, headers=signed)).status_code == 401
