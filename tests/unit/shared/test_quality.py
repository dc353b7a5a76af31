"""Each quality rule by example; the laws are in tests/property/test_quality.py."""

from __future__ import annotations

import itertools
import math
from typing import Any

import msgspec
import pytest

from shared.domain import FixFlag
from shared.movement.quality import (
    GENERIC,
    ROLLOVER_MS,
    Judged,
    Limits,
    collar_limits,
    corrected_ms,
    intrinsic_flags,
    judge,
    limits_for,
    limits_of,
    rejudge,
    stands_alone,
)

pytestmark = pytest.mark.unit

MINUTE_MS = 1_700_000_040_000
LON, LAT = 355_000_000, -15_000_000
LIMITS = limits_for("elephant")
# 1e-7 degree of latitude is 11.1 mm.
METRE_E7 = 90
_ids = itertools.count()


def fix(at_s: float = 17.0, north_m: float = 0.0, **columns: Any) -> Judged:
    """Return a fix ``at_s`` after a whole minute and ``north_m`` from the place of all others."""
    time_ms = MINUTE_MS + round(at_s * 1000)
    plain = Judged(
        id=next(_ids).to_bytes(16, "big"),
        time_ms=time_ms,
        raw_ms=time_ms,
        lon_e7=LON,
        lat_e7=LAT + round(north_m * METRE_E7),
    )
    return msgspec.structs.replace(plain, **columns)


def flags(*fixes: Judged, limits: Limits = LIMITS) -> list[FixFlag]:
    return [FixFlag(flag) for flag in judge(fixes, limits)]


NONE = FixFlag(0)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({}, NONE),
        ({"lon_e7": None}, FixFlag.NO_FIX),
        ({"lon_e7": None, "lat_e7": None, "sats": 0, "hdop": 99.9}, FixFlag.NO_FIX),
        ({"lon_e7": 0, "lat_e7": 0}, FixFlag.NULL_ISLAND),
        ({"lon_e7": 600_000, "lat_e7": -600_000}, FixFlag.NULL_ISLAND),
        ({"lon_e7": 900_000, "lat_e7": 900_000}, NONE),  # 0.127 degrees away
        ({"lon_e7": 131_072, "lat_e7": 65_536}, FixFlag.NULL_ISLAND),
        ({"lon_e7": -(1 << 28), "lat_e7": 1 << 27}, FixFlag.NULL_ISLAND),
        ({"lon_e7": 1 << 28, "lat_e7": 0}, FixFlag.NULL_ISLAND),
        ({"lon_e7": 1 << 28}, NONE),  # one of two is chance
        ({"lon_e7": 0, "lat_e7": 514_779_000}, NONE),  # Greenwich
        ({"lon_e7": 1_800_000_000, "lat_e7": -900_000_000}, NONE),
        ({"lon_e7": 1_800_000_001}, FixFlag.OUT_OF_RANGE),
        ({"lat_e7": -900_000_001}, FixFlag.OUT_OF_RANGE),
        ({"hdop": 10.0, "pdop": 10.0, "h_acc_m": 50.0, "sats": 4}, NONE),
        ({"hdop": 10.1}, FixFlag.POOR_DOP),
        ({"pdop": 99.0}, FixFlag.POOR_DOP),
        ({"h_acc_m": 51.0}, FixFlag.POOR_DOP),
        ({"hdop": math.nan}, FixFlag.POOR_DOP),
        ({"pdop": math.inf, "sats": 3}, FixFlag.POOR_DOP | FixFlag.FEW_SATELLITES),
        ({"is_clock_unset": True}, FixFlag.CLOCK_UNSET),
        ({"is_rolled": True}, FixFlag.WEEK_ROLLOVER),
        ({"received_ms": MINUTE_MS + 17_000 - 300_000}, NONE),
        ({"received_ms": MINUTE_MS + 17_000 - 300_001}, FixFlag.FUTURE),
        ({"received_ms": None}, NONE),
        ({"received_ms": 0, "lat_e7": None}, FixFlag.FUTURE | FixFlag.NO_FIX),
    ],
)
def test_what_a_fix_says_of_itself(columns: dict[str, Any], expected: FixFlag) -> None:
    assert FixFlag(intrinsic_flags(fix(**columns), LIMITS)) == expected


def test_fixes_without_a_place_or_a_time_stand_alone() -> None:
    for alone in (fix(lon_e7=None), fix(is_clock_unset=True), fix(lat_e7=10**9), fix(lon_e7=0, lat_e7=0)):
        assert stands_alone(intrinsic_flags(alone, LIMITS))
    for placed in (fix(), fix(hdop=50.0), fix(received_ms=0)):
        assert not stands_alone(intrinsic_flags(placed, LIMITS))


def test_the_minute_copy_of_a_fix_is_its_duplicate_and_the_fix_is_not() -> None:
    assert flags(fix(0, north_m=12), fix(41)) == [FixFlag.DUPLICATE, NONE]
    assert flags(fix(41.25), fix(41)) == [NONE, FixFlag.DUPLICATE]  # a second copy of milliseconds


def test_a_copy_is_truncated_not_rounded_and_lies_near() -> None:
    assert flags(fix(41), fix(60)) == [NONE, NONE]
    assert flags(fix(0, north_m=35), fix(41)) == [NONE, NONE]
    assert flags(fix(5), fix(41)) == [NONE, NONE]  # both know their second


def test_of_copies_at_one_instant_the_richest_stays_then_the_smallest_id() -> None:
    assert flags(fix(richness=1), fix(richness=3), fix(richness=2)) == [FixFlag.DUPLICATE, NONE, FixFlag.DUPLICATE]
    first, second = fix(), fix()
    assert flags(second, first) == [FixFlag.DUPLICATE, NONE]


def test_a_copy_of_a_poor_fix_does_not_hide_that_it_is_poor() -> None:
    assert flags(fix(0), fix(41, hdop=40.0)) == [FixFlag.DUPLICATE, FixFlag.POOR_DOP]


def test_two_places_at_one_instant_are_both_doubted() -> None:
    assert flags(fix(), fix(north_m=400)) == [FixFlag.POSITION_DISAGREEMENT] * 2


def test_neither_a_known_bad_fix_nor_a_copy_makes_a_good_one_doubtful() -> None:
    assert flags(fix(), fix(north_m=400, hdop=40.0)) == [NONE, FixFlag.POOR_DOP]
    # The copy of the fix at second 50 stands at second 0, where another fix of a fast schedule is.
    assert flags(fix(0), fix(0, north_m=80), fix(50, north_m=80)) == [NONE, FixFlag.DUPLICATE, NONE]


HOUR_S = 3600


def test_an_outlier_is_flagged_on_both_its_legs_and_no_neighbour_with_it() -> None:
    track = [fix(k * HOUR_S + 17, north_m=k * 500) for k in range(7)]
    track[3] = fix(3 * HOUR_S + 17, north_m=90_000)
    assert flags(*track) == [NONE] * 3 + [FixFlag.IMPOSSIBLE_SPEED] + [NONE] * 3


def test_the_newest_fix_is_flagged_by_its_one_leg_until_the_next_clears_it() -> None:
    far = [fix(k * HOUR_S + 17, north_m=90_000 * (k > 1)) for k in range(4)]
    assert flags(*far[:3]) == [NONE, NONE, FixFlag.IMPOSSIBLE_SPEED]
    assert flags(*far) == [NONE] * 4  # it went there: carried by truck, or a gap in the truth that we do not know


@pytest.mark.parametrize("size", [2, 3])
def test_a_run_of_outliers_at_one_wrong_place_is_flagged_and_no_neighbour_with_it(size: int) -> None:
    track = [fix(k * HOUR_S + 17, north_m=k * 500) for k in range(10)]
    for k in range(4, 4 + size):
        track[k] = fix(k * HOUR_S + 17, north_m=90_000 + 10 * k)
    expected = [FixFlag.IMPOSSIBLE_SPEED if 4 <= k < 4 + size else NONE for k in range(10)]
    assert flags(*track) == expected
    assert flags(*track[: 5 + size]) == expected[: 5 + size]  # the first fix after it is not accused in its place
    assert flags(*track[: 4 + size]) == [NONE] * (4 + size)  # without one after it, it may have gone there


def test_a_fourth_fix_at_the_other_place_is_believed() -> None:
    track = [fix(k * HOUR_S + 17, north_m=90_000 * (4 <= k < 8)) for k in range(12)]
    assert flags(*track) == [NONE] * 12


def test_of_two_stretches_that_contradict_each_other_the_longer_is_believed() -> None:
    away = {3, 4, 8, 9}  # three good fixes between two runs of two
    track = [fix(k * HOUR_S + 17, north_m=90_000 * (k in away)) for k in range(13)]
    assert [k for k, flag in enumerate(flags(*track)) if flag] == sorted(away)


def test_a_run_with_an_outlier_of_its_own_in_it_is_flagged_whole() -> None:
    norths = (0, 0, 0, 0, 90_000, -200_000, 90_000, 0, 0, 0, 0)
    track = [fix(k * HOUR_S + 17, north_m=north) for k, north in enumerate(norths)]
    assert [k for k, flag in enumerate(flags(*track)) if flag] == [4, 5, 6]


def test_a_time_before_there_were_collars_is_of_a_clock_that_was_never_set() -> None:
    at_ms = 315_964_800_000  # the beginning of GPS time
    never_set = fix(time_ms=at_ms, raw_ms=at_ms)
    assert flags(never_set) == [FixFlag.CLOCK_UNSET]
    assert stands_alone(intrinsic_flags(never_set, LIMITS))
    rolled = fix(is_rolled=True, raw_ms=at_ms)
    assert flags(rolled) == [FixFlag.WEEK_ROLLOVER]


def test_the_newest_fix_is_not_accused_by_an_outlier_before_it() -> None:
    track = [fix(17), fix(HOUR_S + 17), fix(2 * HOUR_S + 17, north_m=90_000), fix(3 * HOUR_S + 17)]
    assert flags(*track) == [NONE, NONE, FixFlag.IMPOSSIBLE_SPEED, NONE]


def test_the_first_fix_is_never_accused() -> None:
    assert flags(fix(17, north_m=90_000), fix(HOUR_S + 17), fix(2 * HOUR_S + 17)) == [NONE, NONE, NONE]


def test_an_outlier_is_seen_past_fixes_that_do_not_count() -> None:
    track = [fix(17), fix(900, lon_e7=None), fix(HOUR_S, north_m=90_000), fix(HOUR_S + 9, hdop=50.0), fix(2 * HOUR_S)]
    assert flags(*track)[2] == FixFlag.IMPOSSIBLE_SPEED


def test_a_charge_is_possible_for_a_minute_and_not_for_an_hour() -> None:
    assert flags(fix(1), fix(61, north_m=400), fix(121, north_m=0)) == [NONE] * 3
    assert flags(fix(1), fix(3601, north_m=24_000), fix(7201)) == [NONE, FixFlag.IMPOSSIBLE_SPEED, NONE]


def test_jitter_at_one_fix_a_second_is_no_speed() -> None:
    assert flags(*(fix(k, north_m=14 * (k % 2)) for k in range(1, 9))) == [NONE] * 8
    within_error = [fix(k, north_m=60 * (k % 2), h_acc_m=40.0) for k in range(1, 9)]
    assert flags(*within_error) == [NONE] * 8


def test_a_step_over_the_antimeridian_is_short() -> None:
    track = [fix(k * 600 + 1, lon_e7=1_799_999_000 if k % 2 else -1_799_999_000) for k in range(4)]
    assert flags(*track) == [NONE] * 4


def numbered(*numbers: int | None) -> list[FixFlag]:
    return flags(*(fix(k * HOUR_S + 17, seq=seq) for k, seq in enumerate(numbers)))


OUT = FixFlag.OUT_OF_ORDER


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((100, 101, 103, 150), (0, 0, 0, 0)),
        ((100, 100, 101), (0, 0, 0)),
        ((65_534, 65_535, 0, 1), (0, 0, 0, 0)),  # it wrapped
        ((65_530, 20, 21), (0, 0, 0)),  # it wrapped, some lost
        ((400, 401, 0, 1), (0, 0, 0, 0)),  # it restarted
        ((9_000, 40, 41), (0, 0, 0)),  # it restarted, many lost
        ((100, None, 99), (0, 0, 0)),  # a neighbour without a number says nothing
        ((100, 201, 101, 102), (0, OUT, 0, 0)),  # recorded later, on a clock that was set back
        ((100, 101, 50, 102), (0, 0, OUT, 0)),  # recorded earlier, on a clock that ran ahead
        ((100, 102, 101, 103), (0, OUT, 0, 0)),  # either would do: the higher number
        ((18, 65_530, 19), (0, OUT, 0)),  # backwards over the wrap
        ((70_100, 70_050), (OUT, 0)),  # wider counters count too
    ],
)
def test_numbers_that_run_backwards(numbers: tuple[int | None, ...], expected: tuple[int, ...]) -> None:
    assert numbered(*numbers) == [FixFlag(flag) for flag in expected]


def test_a_failed_or_copied_fix_takes_no_part_in_the_order() -> None:
    assert flags(fix(17, seq=100), fix(900, seq=30, lon_e7=None), fix(1800, seq=101)) == [NONE, FixFlag.NO_FIX, NONE]


def test_a_rollover_is_undone_where_that_lands_in_the_deployment() -> None:
    lo, hi = MINUTE_MS, MINUTE_MS + 10**9
    for k in (1, 2, 3):
        assert corrected_ms(lo + 5 - k * ROLLOVER_MS, lo, hi) == (lo + 5, True)
    assert corrected_ms(lo + 5 - 4 * ROLLOVER_MS, lo, hi) == (lo + 5 - 4 * ROLLOVER_MS, False)
    assert corrected_ms(lo - 1 - ROLLOVER_MS, lo, hi) == (lo - 1 - ROLLOVER_MS, False)
    assert corrected_ms(hi + 1, lo, hi) == (hi + 1, False)
    assert corrected_ms(lo, lo, hi) == (lo, False)


@pytest.mark.parametrize(
    ("species", "like"),
    [
        ("Loxodonta africana", "elephant"),
        ("LOXODONTA CYCLOTIS", "elephant"),
        ("African bush elephant", "elephant"),
        ("elephants", "elephant"),
        ("Connochaetes taurinus mearnsi", "wildebeest"),
        ("white-bearded wildebeest", "wildebeest"),
        ("Syncerus caffer", "buffalo"),
        ("Cape Buffalo", "buffalo"),
        ("Equus quagga", "zebra"),
        ("Panthera leo", "lion"),
        ("Acinonyx jubatus", "cheetah"),
        ("Diceros bicornis", "rhino"),
        ("black rhinoceros", "rhino"),
        ("Lycaon pictus", "wild dog"),
        ("African wild dogs", "wild_dog"),
    ],
)
def test_a_species_is_known_by_its_names(species: str, like: str) -> None:
    assert limits_for(species) is limits_for(like)
    assert limits_for(species) is not GENERIC


@pytest.mark.parametrize("species", [None, "", "  ", "Canis latrans", "Panthera pardus", "s"])
def test_a_species_unknown_to_the_table_has_generous_limits(species: str | None) -> None:
    assert limits_for(species) is GENERIC


class Nothing:
    """A collar without fixes."""

    def between(self, lo_ms: int, hi_ms: int) -> list[Judged]:
        return []

    def before(self, ms: int, n: int) -> list[Judged]:
        return []

    def after(self, ms: int, n: int) -> list[Judged]:
        return []


def test_rejudging_after_the_last_fix_was_removed_is_nothing() -> None:
    assert rejudge(Nothing(), (5, 5), LIMITS) == {}
    assert rejudge(Nothing(), (5, 10**12), LIMITS) == {}
    assert judge([], LIMITS) == []


def test_a_range_that_runs_backwards_is_refused() -> None:
    with pytest.raises(ValueError, match="before it begins"):
        rejudge(Nothing(), (6, 5), LIMITS)


@pytest.mark.parametrize("text", ["{}", '{"max_hdop":1.5,"min_sats":0}', '{"sprint_mps":0.0}'])
def test_a_collars_own_limits_stand_in_the_place_of_its_species(text: str) -> None:
    own = collar_limits(text)
    said = msgspec.json.decode(text)
    assert msgspec.structs.asdict(limits_of("elephant", text)) == {**msgspec.structs.asdict(LIMITS), **said}
    assert collar_limits(own.text()) == own
    assert limits_of("elephant", None) is LIMITS


@pytest.mark.parametrize("text", ["", "[]", '{"max_hdop":0}', '{"max_hdop":null,"x":1}', '{"min_sats":1.5}', "null"])
def test_limits_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        collar_limits(text)
