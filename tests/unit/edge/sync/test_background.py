"""Sessions from time to time: when the next one begins, and what does not wait for it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from edge.store import outbox
from edge.store.store import SpatialiteStore
from edge.sync.background import ALERT_WAIT_S, FIRST_WAIT_S, LONGEST_WAIT_S, SESSION_S, Background, sole_session
from edge.sync.client import CloudBusy
from shared.errors import NotAuthenticated, NotFound
from shared.wire.link import Changes
from tests.fakes import FakeClock
from tests.unit.edge.sync.fake_cloud import InMemoryCloud
from tests.unit.edge.sync.test_session import VIEW, add, puts, sync

pytestmark = [pytest.mark.integration, pytest.mark.sync]

ALERT = {"alert_type": "high_risk_zone", "title": "near a field"}


def background(
    store: SpatialiteStore,
    cloud: InMemoryCloud,
    clock: FakeClock,
    folder: Path,
    connected: Callable[[], None] = lambda: None,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Background:
    def connect(_: outbox.Enrolment) -> InMemoryCloud:
        connected()
        return cloud

    return Background(
        store, connect, clock, folder, interval_s=60.0, batch_fixes=100, rng=random.Random(1), pause=pause
    )


async def test_a_bad_link_is_tried_later_and_later_and_told_once(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock, tmp_path: Path
) -> None:
    calls: list[int] = []
    uplink = background(store, cloud, clock, tmp_path, lambda: calls.append(1))
    await add(store, 2)
    cloud.faults.extend(["lost"] * 12)
    with capture_logs() as said:
        waits_s = [await uplink.turn() for _ in range(12)]
        assert await uplink.turn() == 60.0
    assert FIRST_WAIT_S / 2 <= waits_s[0] <= FIRST_WAIT_S
    assert all(LONGEST_WAIT_S / 2 <= wait_s <= LONGEST_WAIT_S for wait_s in waits_s[-4:])
    assert [each["event"] for each in said] == ["sync.failed", "sync.works_again"]
    assert (uplink.last_error, len(cloud.kept.fixes), len(calls)) == (None, 2, 13)
    assert await uplink.turn() == 60.0
    assert len(calls) == 13


async def test_what_the_cloud_asks_is_waited_and_what_needs_a_person_is_not_hurried(
    store: SpatialiteStore, clock: FakeClock, tmp_path: Path
) -> None:
    class Refusing(InMemoryCloud):
        error: Exception = CloudBusy("later", 333.0)

        async def changes(self, *_: Any, **__: Any) -> Changes:
            raise self.error

    cloud = Refusing()
    uplink = background(store, cloud, clock, tmp_path)
    assert await uplink.turn() == 333.0
    cloud.error = NotAuthenticated("who is this")
    assert await uplink.turn() == LONGEST_WAIT_S
    assert uplink.last_error == "who is this"


async def test_without_an_enrolment_and_beside_another_session_nothing_is_asked(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock, tmp_path: Path
) -> None:
    uplink = background(store, cloud, clock, tmp_path)
    with sole_session(tmp_path) as is_ours:
        assert is_ours
        assert await uplink.turn() == 60.0
    await store.write(lambda db: db.execute("DELETE FROM enrolment"))
    assert await uplink.turn() == 60.0
    assert cloud.requests == []
    with pytest.raises(NotFound, match="enrol URL CODE"):
        await sync(store, cloud, clock)


async def test_a_folder_that_takes_no_file_ends_no_station(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock, tmp_path: Path
) -> None:
    uplink = background(store, cloud, clock, tmp_path / "nowhere")
    assert await uplink.turn() == LONGEST_WAIT_S
    assert uplink.last_error is not None


async def test_a_session_that_brought_something_is_followed_as_soon_as_after_a_first_failure(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock, tmp_path: Path
) -> None:
    uplink = background(store, cloud, clock, tmp_path)
    await add(store, 2_000)
    cloud.faults.extend(["lost"] * 8)
    waits_s = [await uplink.turn() for _ in range(8)]
    assert waits_s[-1] > 8 * FIRST_WAIT_S
    for _ in range(4):
        before = len(cloud.kept.fixes)
        cloud.faults.extend([*["ok"] * 5, "lost"])
        assert await uplink.turn() <= FIRST_WAIT_S
        assert len(cloud.kept.fixes) > before
    cloud.faults.append("lost")
    assert FIRST_WAIT_S < await uplink.turn() <= 2 * FIRST_WAIT_S


async def test_an_alert_that_waits_behind_a_bad_link_is_tried_each_minute(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock, tmp_path: Path
) -> None:
    uplink = background(store, cloud, clock, tmp_path)
    cloud.faults.extend(["lost"] * 20)
    assert max([await uplink.turn() for _ in range(10)]) > ALERT_WAIT_S
    await store.create_alert(VIEW, ALERT)
    assert max([await uplink.turn() for _ in range(10)]) == ALERT_WAIT_S
    assert await uplink.turn() == 60.0
    assert puts(cloud)[-1] == "alerts"
    cloud.faults.extend(["lost"] * 10)  # there is none any more
    assert max([await uplink.turn() for _ in range(10)]) > ALERT_WAIT_S


class Naps:
    """Pauses that take no time; in the ``n``-th something happens."""

    def __init__(self, n: int, happens: Callable[[], Awaitable[Any]]) -> None:
        self._n = n
        self._happens = happens
        self.slept_s: list[float] = []

    async def __call__(self, wait_s: float) -> None:
        self.slept_s.append(wait_s)
        if len(self.slept_s) == self._n:
            await self._happens()


async def test_an_alert_ends_the_rest_between_two_sessions(
    store: SpatialiteStore, cloud: InMemoryCloud, clock: FakeClock, tmp_path: Path
) -> None:
    naps = Naps(3, lambda: store.create_alert(VIEW, ALERT))
    uplink = background(store, cloud, clock, tmp_path, pause=naps)
    await uplink.rest(await uplink.turn())
    assert len(naps.slept_s) == 3
    await uplink.rest(await uplink.turn())
    assert sum(naps.slept_s[3:]) == 60.0, "one alert ends one rest"
    assert puts(cloud)[:1] == ["alerts"]


async def test_no_alert_hurries_a_cloud_that_asked_to_be_left_alone(
    store: SpatialiteStore, clock: FakeClock, tmp_path: Path
) -> None:
    class Busy(InMemoryCloud):
        async def changes(self, *_: Any, **__: Any) -> Changes:
            raise CloudBusy("later", 333.0)

    naps = Naps(1, lambda: store.create_alert(VIEW, ALERT))
    uplink = background(store, Busy(), clock, tmp_path, pause=naps)
    await uplink.rest(await uplink.turn())
    assert naps.slept_s == [333.0]


async def test_a_long_backlog_makes_way_for_what_comes_down(
    store: SpatialiteStore, clock: FakeClock, tmp_path: Path
) -> None:
    class Slow(InMemoryCloud):
        async def put_batch(self, *given: Any) -> Any:
            clock.tick(SESSION_S / 3)
            return await super().put_batch(*given)

    cloud = Slow()
    uplink = background(store, cloud, clock, tmp_path)
    await add(store, 1_000)
    waits_s = [await uplink.turn() for _ in range(5)]
    assert waits_s == [0.0, 0.0, 0.0, 0.0, 60.0]
    assert len(cloud.kept.fixes) == 1_000
    asked = " ".join(request[0] for request in cloud.requests if request[0] in ("put", "changes"))
    assert "put put put" in asked
    assert "put put put put" not in asked
