"""Fixes that the cloud took itself come down to a station: each once, and none of them goes up again."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.store import outbox, unsent
from edge.store.fixes import StoredFix
from edge.store.store import SpatialiteStore
from edge.sync.session import sync_once
from shared.domain import Fix, NewFix
from shared.errors import LinkError
from shared.privacy import OPERATOR, view_for
from shared.store import FixQuery
from shared.sync.records import to_ms
from tests.fakes import START, FakeClock
from tests.unit.edge.sync.fake_cloud import InMemoryCloud, columns_of

pytestmark = [pytest.mark.integration, pytest.mark.sync]

VIEW = view_for(OPERATOR)
START_MS = to_ms(START)


@pytest.fixture(scope="module")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file of an empty store."""
    path = tmp_path_factory.mktemp("new") / "station.db"
    SpatialiteStore(path, None, now=FakeClock().now).close_now()
    return path


class Station:
    """A store that is enrolled, and what it told of fixes that came."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        self.told: list[StoredFix] = []
        self.clock = clock
        self.store = SpatialiteStore(path, None, now=clock.now, readers=1, stored=self.told.extend)

    async def sync(self, cloud: InMemoryCloud) -> tuple[int, int]:
        """Hold a session; return how many fixes came down and how many of them were news."""
        done = await sync_once(self.store, cloud, self.clock)
        return done.heard, done.new_fixes

    async def fixes(self) -> list[Fix]:
        """Return every fix, the oldest first."""
        page = await self.store.fixes(VIEW, FixQuery(ordering="timestamp"))
        return page.results


@pytest.fixture
async def station(new_database: Path, tmp_path: Path) -> AsyncIterator[Station]:
    station = Station(Path(shutil.copy(new_database, tmp_path / "station.db")), FakeClock())
    await station.store.write(
        lambda db: outbox.enrol(
            db, url="https://cloud.example", station_id="post-1", private_key=bytes(32), cloud_epoch="cloud-1",
            epoch="e1" * 8, now_ms=START_MS,
        )
    )  # fmt: skip
    yield station
    await station.store.close()


@pytest.fixture
def cloud() -> InMemoryCloud:
    cloud = InMemoryCloud()
    cloud.own = [row(n) for n in range(5)]
    return cloud


def row(hours: int, **said: Any) -> dict[str, Any]:
    ms = START_MS + 3_600_000 * hours
    return {
        "collar_id": "imei:1", "raw_ms": ms, "received_ms": ms + 60_000, "lon_e7": 375_000_000, "lat_e7": -25_000_000,
        "source": "collar", "is_clock_unset": 0, "battery_mv": 3_600 - hours, "link": "directip", **said,
    }  # fmt: skip


async def test_each_comes_once_over_however_many_sessions_and_waits_for_nobody(
    station: Station, cloud: InMemoryCloud
) -> None:
    assert await station.sync(cloud) == (5, 5)
    assert [fix.outcome for fix in station.told] == ["new"] * 5
    assert [to_ms(fix.recorded_at) for fix in await station.fixes()] == [row(n)["raw_ms"] for n in range(5)]
    assert {fix.link for fix in await station.fixes()} == {"directip"}
    assert (await station.store.collar(VIEW, "imei:1")).battery_mv == 3_596
    assert await station.sync(cloud) == (0, 0)
    assert cloud.own is not None
    cloud.own.append(row(5))
    assert await station.sync(cloud) == (1, 1)
    assert cloud.kept.fixes == {}  # none went up
    assert (await station.store.read(unsent.waiting))["fixes"].items == 0


@pytest.mark.parametrize("request_n", range(1, 8))
async def test_a_session_that_breaks_off_anywhere_goes_on_where_it_stopped(
    station: Station, cloud: InMemoryCloud, request_n: int
) -> None:
    cloud.faults.extend(["ok"] * request_n + ["unanswered"])
    with contextlib.suppress(LinkError):
        await station.sync(cloud)
    cloud.faults.clear()
    await station.sync(cloud)
    assert len(await station.fixes()) == 5
    assert [fix.outcome for fix in station.told] == ["new"] * 5


async def test_a_copy_that_a_station_heard_itself_and_one_from_above_are_one_row_and_its_own_word_goes_up(
    station: Station, cloud: InMemoryCloud
) -> None:
    own = NewFix(
        device="imei:1", recorded_at=START, received_at=START, lon_deg=37.5, lat_deg=-2.5, alt_m=1_200.0, link="mast"
    )
    await station.store.add_fixes(VIEW, [own])
    assert await station.sync(cloud) == (5, 5)
    first = (await station.fixes())[0]
    assert (first.alt_m, first.battery_mv) == (1_200.0, 3_600)
    assert len(await station.fixes()) == 5
    (sent,) = cloud.kept.fixes.values()
    assert sent["alt_m"] == 1_200.0


async def test_in_a_new_life_of_the_cloud_they_are_taken_again_and_stored_once(
    station: Station, cloud: InMemoryCloud
) -> None:
    await station.sync(cloud)
    cloud.restore(cloud.backup(), "cloud-2")
    assert await station.sync(cloud) == (5, 0)
    assert len(await station.fixes()) == 5
    here = await station.store.read(outbox.enrolled)
    assert (here.cloud_epoch, here.heard_cursor, here.heard_after) == ("cloud-2", 5, None)


async def test_a_cloud_that_was_restored_from_before_them_gets_them_back(
    station: Station, cloud: InMemoryCloud
) -> None:
    await station.sync(cloud)
    cloud.restore(cloud.backup(), "cloud-2")
    cloud.own = []
    await station.sync(cloud)
    assert len(cloud.kept.fixes) == 5
    assert (await station.store.read(unsent.waiting))["fixes"].items == 0


async def test_a_page_of_a_life_that_is_over_is_not_taken(station: Station, cloud: InMemoryCloud) -> None:
    await station.sync(cloud)
    assert await station.store.take_heard("another", 99, None, columns_of([row(9)])) == (0, 0)
    assert (await station.store.read(outbox.enrolled)).heard_cursor == 5
    assert len(await station.fixes()) == 5


async def test_a_long_way_down_does_not_hold_up_what_waits_to_go_up(station: Station, cloud: InMemoryCloud) -> None:
    for n in range(3):
        at = START + timedelta(minutes=n)
        await station.store.add_fixes(VIEW, [NewFix(device="K1", recorded_at=at, received_at=at, lon_deg=1, lat_deg=1)])
    await sync_once(station.store, cloud, station.clock, batch_fixes=1)
    kinds = [kind for kind, *_ in cloud.requests if kind in ("put", "heard")]
    assert kinds[:4] == ["put", "heard", "put", "heard"]
    assert kinds.count("heard") == 5


async def test_a_cloud_that_knows_no_such_thing_is_served_as_ever(station: Station, cloud: InMemoryCloud) -> None:
    cloud.own = None
    assert await station.sync(cloud) == (0, 0)
