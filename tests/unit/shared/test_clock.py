"""The clock state machine: who is believed, and that a step of the wall clock moves nothing that is anchored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.clock import DRIFT, GNSS_HOLD_S, ClockState, StationClock, VirtualClock

pytestmark = pytest.mark.unit

BUILT = datetime(2026, 1, 1, tzinfo=UTC)
TRUE = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Bench:
    """A wall and a monotonic clock that a test turns by hand, and the station's clock over them."""

    def __init__(self, wall: datetime) -> None:
        self.wall_s = wall.timestamp()
        self.mono_s = 1_000.0
        self.clock = StationClock(lambda: self.wall_s, lambda: self.mono_s, built_at=BUILT)

    def run(self, seconds: float) -> None:
        self.wall_s += seconds
        self.mono_s += seconds

    def state(self) -> ClockState:
        return self.clock.state

    def step_wall(self, to: datetime) -> None:
        self.wall_s = to.timestamp()


def test_a_boot_in_the_past_is_unset_and_a_kept_time_is_held() -> None:
    assert Bench(datetime(1970, 1, 1, tzinfo=UTC)).state() is ClockState.UNSET
    assert Bench(BUILT - timedelta(seconds=1)).state() is ClockState.UNSET
    assert Bench(BUILT).state() is ClockState.HELD


def test_an_unset_clock_becomes_held_when_the_wall_clock_is_put_right() -> None:
    bench = Bench(datetime(1970, 1, 1, tzinfo=UTC))
    bench.step_wall(TRUE)
    assert bench.state() is ClockState.HELD
    assert bench.clock.now() == TRUE


@pytest.mark.parametrize(
    ("state", "is_sure"),
    [
        (ClockState.UNSET, False),
        (ClockState.HELD, False),
        (ClockState.ADMIN, True),
        (ClockState.GNSS, True),
        (ClockState.NTP, True),
    ],
)
def test_sure_means_a_person_or_better(state: ClockState, *, is_sure: bool) -> None:
    assert state.is_sure is is_sure


def test_a_step_of_the_wall_clock_does_not_move_a_clock_set_by_gnss_or_a_person() -> None:
    for by_gnss in (True, False):
        bench = Bench(datetime(1970, 1, 1, tzinfo=UTC))
        if by_gnss:
            bench.clock.gnss_says(TRUE)
        else:
            assert bench.clock.admin_says(TRUE)
        state = bench.state()
        for year in (1970, 2025, 2040):
            bench.step_wall(datetime(year, 1, 1, tzinfo=UTC))
            assert bench.clock.now() == TRUE
            assert bench.state() is state
        bench.run(90.5)
        assert bench.clock.now() == TRUE + timedelta(seconds=90.5)


def test_a_disciplined_clock_is_the_wall_clock() -> None:
    bench = Bench(TRUE)
    bench.clock.kernel_says(is_synchronised=True)
    bench.wall_s += 0.25  # the kernel slews
    assert bench.state() is ClockState.NTP
    assert bench.clock.now() == TRUE + timedelta(seconds=0.25)


def test_ntp_lost_is_held_and_gnss_takes_over() -> None:
    bench = Bench(TRUE)
    bench.clock.kernel_says(is_synchronised=True)
    bench.clock.gnss_says(TRUE + timedelta(hours=1))
    assert bench.state() is ClockState.NTP
    assert bench.clock.now() == TRUE
    bench.clock.kernel_says(is_synchronised=False)
    assert bench.state() is ClockState.HELD
    assert bench.clock.uncertainty is None
    bench.clock.gnss_says(TRUE)
    assert bench.state() is ClockState.GNSS


def test_a_kernel_without_ntp_takes_nothing_from_a_better_informed_clock() -> None:
    bench = Bench(TRUE)
    bench.clock.gnss_says(TRUE)
    bench.clock.kernel_says(is_synchronised=False)
    assert bench.state() is ClockState.GNSS


def test_sources_rise_in_order_and_a_person_overrules_neither_ntp_nor_fresh_gnss() -> None:
    bench = Bench(TRUE)
    wrong = TRUE + timedelta(days=3)
    assert bench.clock.admin_says(TRUE)
    assert bench.state() is ClockState.ADMIN
    bench.clock.gnss_says(TRUE)
    assert bench.state() is ClockState.GNSS
    assert not bench.clock.admin_says(wrong)
    bench.clock.kernel_says(is_synchronised=True)
    assert not bench.clock.admin_says(wrong)
    assert bench.clock.now() == TRUE
    assert bench.state() is ClockState.NTP


def test_a_person_may_overrule_a_receiver_that_has_been_silent_for_a_day() -> None:
    bench = Bench(TRUE)
    bench.clock.gnss_says(TRUE)
    bench.run(GNSS_HOLD_S - 1)
    assert not bench.clock.admin_says(TRUE)
    bench.run(1)
    assert bench.clock.admin_says(TRUE)
    assert bench.state() is ClockState.ADMIN
    assert bench.clock.now() == TRUE


def test_nobody_is_believed_who_names_a_time_before_the_program_was_built() -> None:
    bench = Bench(datetime(1970, 1, 1, tzinfo=UTC))
    early = BUILT - timedelta(days=1)
    bench.clock.gnss_says(early)
    assert not bench.clock.admin_says(early)
    bench.clock.kernel_says(is_synchronised=True)
    assert bench.state() is ClockState.UNSET
    bench.step_wall(TRUE)
    bench.clock.kernel_says(is_synchronised=True)
    assert bench.state() is ClockState.NTP


def test_uncertainty_grows_with_the_time_since_the_last_word() -> None:
    bench = Bench(TRUE)
    assert bench.clock.uncertainty is None
    assert bench.clock.admin_says(TRUE)
    assert bench.clock.uncertainty == timedelta(seconds=60)
    bench.clock.gnss_says(TRUE)
    bench.run(10_000)
    assert bench.clock.uncertainty == timedelta(seconds=1 + 10_000 * DRIFT)
    bench.clock.gnss_says(TRUE + timedelta(seconds=10_000))
    assert bench.clock.uncertainty == timedelta(seconds=1)
    bench.clock.kernel_says(is_synchronised=True)
    bench.run(10_000)
    assert bench.clock.uncertainty == timedelta(seconds=1)


def test_monotonic_is_handed_through() -> None:
    bench = Bench(TRUE)
    bench.step_wall(BUILT)
    assert bench.clock.monotonic() == 1_000.0
    assert bench.clock.now().tzinfo is UTC


def test_virtual_time_runs_at_its_speed_from_its_start() -> None:
    mono_s = 50.0
    clock = VirtualClock(datetime(2010, 1, 1, tzinfo=UTC), 3600.0, lambda: mono_s, origin_s=40.0)
    assert clock.now() == datetime(2010, 1, 1, 10, tzinfo=UTC)
    assert clock.state.is_sure
    assert clock.monotonic() == 50.0
    assert clock.real_seconds_until(datetime(2010, 1, 1, 12, tzinfo=UTC)) == pytest.approx(2.0)
    assert clock.real_seconds_until(datetime(2010, 1, 1, 9, tzinfo=UTC)) == pytest.approx(-1.0)


def test_processes_that_share_an_origin_share_the_virtual_time() -> None:
    start = datetime(2010, 1, 1, tzinfo=UTC)
    first = VirtualClock(start, 60.0, lambda: 123.0, origin_s=100.0)
    second = VirtualClock(start, 60.0, lambda: 123.0, origin_s=100.0)
    assert first.now() == second.now() == start + timedelta(minutes=23)
