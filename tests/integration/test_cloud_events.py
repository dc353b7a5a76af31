"""What the cloud tells those who listen: positions and alerts as they come in, to whom they are shown."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from cloud.api.events import Happenings, stream
from cloud.store import news
from cloud.store.store import PostgresStore
from shared.api.hints import Hints
from shared.domain import NewFix
from shared.privacy import Principal, View
from shared.sync.phone.cursor import Cursor
from tests.clouds import VIEW, Cloud, fix_row, serving
from tests.fakes import START

pytestmark = [pytest.mark.integration, pytest.mark.sync]

RANGER = Principal(user_id="r1", role="ranger", stations=("post-1",))
VIEWER = Principal(user_id="v1", role="viewer", stations=())


@pytest_asyncio.fixture
async def cloud(database_url: str) -> AsyncIterator[Cloud]:
    async with serving(database_url) as cloud:
        yield cloud


async def wearing(cloud: Cloud, name: str, collar: str) -> str:
    animal = await cloud.store.create_animal(VIEW, {"name": name, "species": "elephant"})
    await cloud.store.create_deployment(
        VIEW, {"animal_id": animal.id, "collar_id": collar, "started_at": START - timedelta(days=1)}
    )
    return animal.id


async def heard(cloud: Cloud, collar: str, *, minutes: int = 0) -> str:
    fix = NewFix(
        device=collar, recorded_at=START + timedelta(minutes=minutes), lon_deg=37.5, lat_deg=-2.5, received_at=START
    )
    (added,) = await cloud.store.add_fixes(VIEW, [fix])
    return added.id


async def told(store: PostgresStore, view: View, seen: int) -> tuple[list[tuple[str, Any]], str]:
    """Return the events up to the first hint, and the id that a client keeps then."""

    async def goes_on() -> bool:
        return True

    hints = Hints(lambda: store.phone_timestamp(VIEW), every_s=0.01)
    happenings = Happenings(store)
    lines = stream(hints, seen, lambda after, until: happenings.between(view, after, until), may_go_on=goes_on)
    events: list[tuple[str, Any]] = []
    kept = ""
    async for chunk in lines:
        for event in chunk.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in event.split("\n") if ": " in line and line[0] != ":")
            if "event" not in fields:
                continue
            if fields["event"] == "sync":
                await lines.aclose()
                return events, fields["id"]
            assert "id" not in fields  # who loses the line before the hint gets these again
            events.append((fields["event"], json.loads(fields["data"])))
    raise AssertionError(kept)


async def test_positions_and_alerts_are_told_and_who_comes_back_is_told_what_he_missed(cloud: Cloud) -> None:
    animal = await wearing(cloud, "Alpha", "K1")
    await wearing(cloud, "Beta", "K2")
    before = await cloud.store.phone_timestamp(VIEW)
    await heard(cloud, "K1")
    newest = await heard(cloud, "K1", minutes=5)
    columns = {"animal_id": animal, "alert_type": "rapid_movement", "severity": "high", "status": "active",
               "title": "runs", "message": "", "detected_at": START}  # fmt: skip
    alert = await cloud.store.create_alert(VIEW, columns)
    events, kept = await told(cloud.store, VIEW, before)
    assert [name for name, _ in events] == ["fix", "alert"]
    fix, rung = (data for _, data in events)
    assert (fix["id"], fix["animal"], fix["lon"], fix["lat"]) == (newest, animal, 37.5, -2.5)
    assert (rung["id"], rung["animal"], rung["status"], rung["rings"]) == (alert.id, animal, "active", True)
    # any process of the cloud says the same to who comes back, and only what is new to who has heard it
    other = PostgresStore(cloud.database, now=cloud.clock.now)
    assert (await told(other, VIEW, before))[0] == events
    later = await heard(cloud, "K2")
    assert [data["id"] for _, data in (await told(other, VIEW, int(kept)))[0]] == [later]


async def test_a_ranger_is_told_where_animals_of_his_station_are_and_a_viewer_nothing(cloud: Cloud) -> None:
    await wearing(cloud, "Alpha", "K1")
    await wearing(cloud, "Beta", "K2")
    before = await cloud.store.phone_timestamp(VIEW)
    await cloud.station("post-1").bring_fixes(fix_row(0, "K1"))
    await cloud.station("post-2").bring_fixes(fix_row(0, "K2"))
    ranger, viewer = map(cloud.accounts.view, (RANGER, VIEWER))
    assert {data["collar_id"] for _, data in (await told(cloud.store, VIEW, before))[0]} == {"K1", "K2"}
    assert [data["collar_id"] for _, data in (await told(cloud.store, ranger, before))[0]] == ["K1"]
    assert (await told(cloud.store, viewer, before))[0] == []


async def test_who_missed_too_much_or_knows_another_life_fetches_everything_anew(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wearing(cloud, "Alpha", "K1")
    before = Cursor.of(await cloud.store.phone_timestamp(VIEW))
    await heard(cloud, "K1")
    await heard(cloud, "K1", minutes=5)
    lost = [("lost", {"missed": None})]
    assert (await told(cloud.store, VIEW, Cursor(before.epoch + 1, before.seq).packed()))[0] == lost
    monkeypatch.setattr(news, "MOST_LINES", 1)
    assert (await told(cloud.store, VIEW, before.packed()))[0] == lost
