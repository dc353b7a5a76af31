"""What a link may carry: caps that no restart and no clock gets around, alerts before all, windows."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from edge.store import unsent
from edge.store.store import SpatialiteStore
from edge.sync.meter import OVERHEAD_BYTES, LinkSpent, Meter, used_today
from edge.sync.metered import MeteredCloud
from edge.sync.profiles import LAN, PROFILES, Profile, profile_of
from edge.sync.session import sync_once
from shared.clock import ClockState
from shared.domain import NewFix
from shared.errors import ConfigError
from tests.fakes import START, FakeClock
from tests.unit.edge.sync.fake_cloud import InMemoryCloud
from tests.unit.edge.sync.test_session import VIEW, add, puts

pytestmark = [pytest.mark.integration, pytest.mark.sync]

DAY_S = 86_400
SLOW = Profile(name="slow", bytes_a_day=10_000)


class Link:
    """A link in virtual time: what has to wait moves the clock."""

    def __init__(self, store: SpatialiteStore, clock: FakeClock, profile: Profile, boot: str = "b1") -> None:
        self.clock = clock
        self.meter = Meter(store, profile, clock, boot, pause=self.pause)

    async def pause(self, seconds: float) -> None:
        self.clock.tick(seconds)


async def test_a_cap_holds_in_every_day_of_measured_time(store: SpatialiteStore, clock: FakeClock) -> None:
    meter = Link(store, clock, SLOW).meter
    rng = random.Random(3)
    spent: list[tuple[float, int]] = []
    for _ in range(150):
        size = rng.randint(100, 2_000)
        try:
            await meter.allow(size)
        except LinkSpent:
            pass
        else:
            spent.append((clock.monotonic(), size))
        clock.tick(rng.uniform(1, 4_000))
        at_s = clock.monotonic()
        assert sum(size for when, size in spent if when > at_s - DAY_S) <= 9_000  # the rest is for alerts
    assert len(spent) > 30


async def test_a_restart_forgets_no_byte_and_an_outage_gives_none(store: SpatialiteStore, clock: FakeClock) -> None:
    await Link(store, clock, SLOW).meter.allow(8_000)
    for boot in ("b1", "b2"):
        clock.tick(3_600)
        with pytest.raises(LinkSpent, match="8000 of 10000 bytes"):
            await Link(store, clock, SLOW, boot).meter.allow(2_000)
    clock.at += timedelta(days=400)  # somebody set the clock
    with pytest.raises(LinkSpent):
        await Link(store, clock, SLOW, "b3").meter.allow(2_000)
    clock.tick(26 * 3_600)
    await Link(store, clock, SLOW, "b3").meter.allow(2_000)
    assert await store.read(lambda db: used_today(db, "slow")) == 2_000


async def test_a_tenth_is_kept_for_alerts(store: SpatialiteStore, clock: FakeClock) -> None:
    meter = Link(store, clock, SLOW).meter
    await meter.allow(9_000)
    with pytest.raises(LinkSpent):
        await meter.allow(1)
    await meter.allow(1_000, is_urgent=True)
    with pytest.raises(LinkSpent):
        await meter.allow(1, is_urgent=True)


async def test_a_rate_makes_requests_wait_for_each_other(store: SpatialiteStore, clock: FakeClock) -> None:
    meter = Link(store, clock, Profile(name="thin", bytes_a_second=100)).meter
    begun_s = clock.monotonic()
    for _ in range(5):
        await meter.allow(1_000)
    await meter.settle(500)
    await meter.allow(1)
    assert clock.monotonic() - begun_s == pytest.approx(55.0)


async def test_a_session_ends_when_the_day_is_spent_and_goes_on_with_the_next(
    store: SpatialiteStore, clock: FakeClock
) -> None:
    cloud = InMemoryCloud()
    await add(store, 300)
    profile = replace(SLOW, bytes_a_day=12_000, batch_fixes=50)
    link = Link(store, clock, profile)
    seen = []
    for _ in range(9):
        done = await sync_once(store, MeteredCloud(cloud, link.meter), clock, profile=profile)
        seen.append(done.is_spent)
        if not done.is_spent:
            break
        clock.tick(3_600 * 26)
    assert (seen[0], seen[-1], len(cloud.kept.fixes)) == (True, False, 300)
    assert max(len(batch.payload) for batch in cloud.payloads) + OVERHEAD_BYTES < 10_800


async def test_a_satellite_carries_alerts_positions_and_records_and_nothing_else(
    store: SpatialiteStore, clock: FakeClock
) -> None:
    cloud = InMemoryCloud()
    await add(store, 500)
    await store.create_alert(VIEW, {"alert_type": "high_risk_zone", "title": "near a field"})
    sat = PROFILES["sat"]
    await sync_once(store, MeteredCloud(cloud, Link(store, clock, sat).meter), clock, profile=sat)
    assert puts(cloud) == ["alerts", "newest", "records"]
    assert cloud.requests[0][:2] == ("put", "alerts")  # before anything is asked for
    assert not [request for request in cloud.requests if request[0] in ("heard", "offset")]
    assert (await store.read(unsent.waiting))["fixes"].items == 499


async def test_outside_its_windows_a_link_carries_alerts_alone(store: SpatialiteStore, clock: FakeClock) -> None:
    cloud = InMemoryCloud()
    await add(store, 2)
    await store.create_alert(VIEW, {"alert_type": "high_risk_zone", "title": "near a field"})
    night = profile_of("lan", windows=("22:00-04:30",))  # it is noon
    await sync_once(store, cloud, clock, profile=night)
    assert puts(cloud) == ["alerts"]
    clock.set_state(ClockState.UNSET)  # who does not know the time does not wait for it
    await sync_once(store, cloud, clock, profile=night)
    assert puts(cloud) == ["alerts", "records", "fixes"]


def test_windows_are_read_across_midnight() -> None:
    night = profile_of("lan", windows=("22:00-04:30",))
    open_at = [
        hour
        for hour in range(24)
        if night.channels_at(START.replace(hour=hour, minute=29), is_sure=True) == LAN.channels
    ]
    assert open_at == [0, 1, 2, 3, 4, 22, 23]


@pytest.mark.parametrize(
    ("name", "more", "why"),
    [
        ("dial-up", {}, "one of lan, cell, sat"),
        ("sat", {"bytes_a_day": 0}, "at least 1"),
        ("sat", {"windows": ("25:00-26:00",)}, "like 01:00-05:30"),
    ],
)
def test_what_no_link_is_like_is_refused(name: str, more: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        profile_of(name, **more)


async def test_after_a_month_alone_alerts_go_first_then_where_animals_are_then_the_rest(
    store: SpatialiteStore, clock: FakeClock
) -> None:
    """One part in 96 of a month of 200 collars at a fix in fifteen minutes, over 256 kbit/s in virtual time."""
    cloud = InMemoryCloud()
    fixes = [
        NewFix(device=f"K{number % 40}", recorded_at=at, received_at=at, lon_deg=37.0 + number / 1e5, lat_deg=-2.0)
        for number in range(6_000)
        for at in [START - timedelta(minutes=6_000 - number)]
    ]
    await store.add_fixes(VIEW, fixes)
    await store.create_alert(VIEW, {"alert_type": "high_risk_zone", "title": "near a field"})
    line = Profile(name="line", bytes_a_second=32_000, batch_fixes=500)  # 256 kbit/s
    link = Link(store, clock, line)
    begun_s = clock.monotonic()
    done = await sync_once(store, MeteredCloud(cloud, link.meter), clock, profile=line)
    assert puts(cloud)[:2] == ["alerts", "newest"]
    assert (done.fixes, len(cloud.kept.fixes)) == (6_000, 6_000)
    took_s = clock.monotonic() - begun_s
    # 96 times as many in the same way: minutes, not hours
    assert took_s * 96 < 1_200


async def test_what_may_wait_for_ever_uses_half_of_a_day_and_ends_no_session(
    store: SpatialiteStore, clock: FakeClock
) -> None:
    meter = Link(store, clock, SLOW).meter
    await meter.allow(5_000, is_spare=True)
    with pytest.raises(LinkSpent):
        await meter.allow(1, is_spare=True)
    await meter.allow(4_000)

    cloud = InMemoryCloud()
    await store.create_animal(VIEW, {"name": "Saba", "species": "elephant"})
    profile = replace(SLOW, name="half", bytes_a_day=40_000)
    for others in (0, 20_000):
        await store.write(
            lambda db: db.execute("INSERT OR REPLACE INTO computed (animal_pk, missing) VALUES (1, '{}')")
        )
        link = Link(store, clock, profile)
        await link.meter.allow(others)
        done = await sync_once(store, MeteredCloud(cloud, link.meter), clock, profile=profile)
        assert not done.is_spent
    assert puts(cloud) == ["records", "results"]  # the second found half of the day's bytes used
    assert (await store.read(unsent.waiting))["results"].items == 1


async def test_a_satellite_takes_no_results(store: SpatialiteStore, clock: FakeClock) -> None:
    cloud = InMemoryCloud()
    await store.create_animal(VIEW, {"name": "Saba", "species": "elephant"})
    await store.write(lambda db: db.execute("INSERT INTO computed (animal_pk, missing) VALUES (1, '{}')"))
    await sync_once(store, cloud, clock, profile=PROFILES["sat"])
    assert puts(cloud) == ["records"]
    await sync_once(store, cloud, clock)
    assert puts(cloud) == ["records", "results"]
