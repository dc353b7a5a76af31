"""The series of charts, over HTTP and the same in every home."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar

from shared.accounts.service import Accounts
from shared.store import Store
from shared.sync import log
from shared.sync.log import Session
from shared.sync.records import to_ms
from tests.access import person
from tests.contract.conftest import client_of, session_of
from tests.contract.walks import upload, walk
from tests.fakes import START, FakeClock
from tests.memory_store import InMemoryStore

pytestmark = [pytest.mark.api, pytest.mark.tracking]

Make = Callable[..., Awaitable[dict[str, Any]]]
CHARTS = "/api/v1/charts"


@pytest.fixture
async def elephant(
    client: httpx.AsyncClient, make_animal: Make, clock: FakeClock, settle: Callable[[], Awaitable[None]]
) -> dict[str, Any]:
    """Give an elephant that was followed for two days, from noon to noon."""
    made = await make_animal(collar_id="COL001", species="African elephant")
    clock.tick(47 * 3600)
    await upload(client, [{**each, "battery_level": f"{90 - n / 2}%"} for n, each in enumerate(walk(48))])
    await settle()
    return made


async def chart(client: httpx.AsyncClient, name: str, **asked: Any) -> dict[str, Any]:
    answer = await client.get(f"{CHARTS}/{name}/", params=asked)
    assert answer.status_code == 200, answer.text
    read: dict[str, Any] = answer.json()
    return read


async def test_the_way_of_each_day_is_that_of_its_steps(client: httpx.AsyncClient, elephant: dict[str, Any]) -> None:
    found = await chart(client, "movement", animal_id=elephant["id"], days=4)
    assert (found["animal_id"], found["is_cut"], found["missing"]) == (elephant["id"], False, None)
    days = {each["day"]: each["distance_km"] for each in found["days"]}
    assert list(days) == ["2026-05-31", "2026-06-01", "2026-06-02", "2026-06-03"]
    assert days["2026-05-31"] is None
    live = (await client.get("/api/v1/animals/live_status/")).json()[0]["movement"]["distance_24h_km"]
    assert sum(km for km in days.values() if km) > live > 0
    assert days["2026-06-02"] == pytest.approx(8 * (0.01 + 0.25 + 1.4), rel=0.35)  # each leg for eight of its hours


async def test_days_and_hours_are_those_of_who_asks(client: httpx.AsyncClient, elephant: dict[str, Any]) -> None:
    here = await chart(client, "movement", animal_id=elephant["id"], days=3, utc_offset_min=180)
    there = await chart(client, "movement", animal_id=elephant["id"], days=3)
    assert [each["day"] for each in here["days"]] == [each["day"] for each in there["days"]]
    assert here["days"] != there["days"]
    assert sum(each["distance_km"] for each in here["days"]) == pytest.approx(
        sum(each["distance_km"] for each in there["days"]), abs=0.01
    )
    hours = [
        (await chart(client, "behaviour", animal_id=elephant["id"], utc_offset_min=offset))["hours"]
        for offset in (0, 180)
    ]
    assert [each["steps"] for each in hours[1]] == [each["steps"] for each in hours[0][-3:] + hours[0][:-3]]


async def test_a_step_over_more_than_a_day_is_no_days_way(
    client: httpx.AsyncClient, make_animal: Make, clock: FakeClock
) -> None:
    made = await make_animal(collar_id="COL009")
    clock.tick(4 * 86_400)
    at = [0, 1, 49, 50]
    await upload(client, [
        {
            "collar_id": "COL009", "timestamp": (START + timedelta(hours=hours)).isoformat(), "lat": -2.5,
            "lon": 37.5 + 0.001 * hours,
        }
        for hours in at
    ])  # fmt: skip
    found = await chart(client, "movement", animal_id=made["id"], days=5)
    days = {each["day"]: each["distance_km"] for each in found["days"]}
    step_km = pytest.approx(0.111, abs=0.002)
    assert (days["2026-06-01"], days["2026-06-02"], days["2026-06-03"]) == (step_km, None, step_km)


async def test_shares_of_an_hour_make_a_whole(client: httpx.AsyncClient, elephant: dict[str, Any]) -> None:
    found = await chart(client, "behaviour", animal_id=elephant["id"], days=7)
    assert found["missing"] is None
    assert [each["hour"] for each in found["hours"]] == list(range(24))
    assert sum(each["steps"] for each in found["hours"]) > 40
    for each in found["hours"]:
        assert sum(each["shares"].values()) == pytest.approx(1 if each["steps"] else 0, abs=0.001)
        assert set(each["shares"]) <= set(found["states"])


async def test_a_battery_is_told_with_its_newest_reading_last(
    client: httpx.AsyncClient, elephant: dict[str, Any]
) -> None:
    found = await chart(client, "battery", animal_id=elephant["id"], days=7)
    readings = found["readings"]
    assert len(readings) == 48
    assert [readings[0]["percent"], readings[-1]["percent"]] == [90, 66.5]
    assert readings[0]["at"] < readings[-1]["at"]
    assert readings[0]["volts"] is None


async def test_who_sees_cells_is_told_why_there_is_no_distance(
    store: Store, app: Litestar, accounts: Accounts, elephant: dict[str, Any], clock: FakeClock
) -> None:
    if isinstance(store, InMemoryStore):
        pytest.skip("the double reduces nothing")
    clock.tick(48 * 3600)  # an elephant is shown to viewers after 72 hours
    async with client_of(app, await session_of(accounts, await person(accounts, "viewer"))) as viewer:
        found = await chart(viewer, "movement", animal_id=elephant["id"], days=14)
        behaviour = await chart(viewer, "behaviour", animal_id=elephant["id"], days=14)
        battery = await chart(viewer, "battery", animal_id=elephant["id"], days=14)
    assert found["days"] == []
    assert "reduced precision" in found["missing"]
    assert (behaviour["hours"], bool(behaviour["missing"])) == ([], True)
    assert battery["readings"] == []  # of a position that is shown coarsely nothing else is told


async def test_an_unknown_animal_and_too_many_days_are_refused(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"{CHARTS}/movement/", params={"animal_id": "nobody"})).status_code == 404
    assert (await client.get(f"{CHARTS}/battery/")).status_code == 400
    assert (await client.get(f"{CHARTS}/traffic/", params={"days": 93})).status_code == 400


def carried(identity: str, device: str, day: int, up: int, down: int, path: log.Path = "session") -> Session:
    at = to_ms(START + timedelta(days=day))
    return Session(
        id=identity, user_id=None, device_id=device, path=path, total=1, synced=1, conflicts=0, failed=0, started_ms=at,
        completed_ms=at + 1, bytes_up=up, bytes_down=down,
    )  # fmt: skip


async def test_what_sessions_carried_is_summed_by_station_and_day(
    client: httpx.AsyncClient, accounts: Accounts, app: Litestar, clock: FakeClock
) -> None:
    clock.tick(2 * 86_400)
    for number, row in enumerate([
        ("north", 0, 100, 7), ("north", 0, 50, 3), ("north", 2, 9, 0), ("south", 1, 400, 20), ("north", -30, 1, 1),
    ]):  # fmt: skip
        await accounts.tables.write(log.note(carried(f"c{number}", *row)))
    await accounts.tables.write(log.note(carried("phone", "phone-1", 1, 5, 5, "upload")))
    found = await chart(client, "traffic", days=7)
    assert (found["since"], found["until"]) == ("2026-05-28", "2026-06-03")
    assert found["stations"] == [
        {"station": "north", "days": [
            {"day": "2026-06-01", "bytes_up": 150, "bytes_down": 10},
            {"day": "2026-06-03", "bytes_up": 9, "bytes_down": 0},
        ]},
        {"station": "south", "days": [{"day": "2026-06-02", "bytes_up": 400, "bytes_down": 20}]},
    ]  # fmt: skip
    if accounts.home == "station":  # its people see all that it has
        return
    of_north = await person(accounts, "conservation_manager", stations=("north",))
    async with client_of(app, await session_of(accounts, of_north)) as manager:
        assert [each["station"] for each in (await chart(manager, "traffic", days=7))["stations"]] == ["north"]
