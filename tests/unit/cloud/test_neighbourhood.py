"""The fixes around a change: what was read is answered, what was not is never taken for what is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloud.store.neighbourhood import Bounds, NotEnough, Stretch, Surroundings
from cloud.store.partitions import highest_id, lowest_id
from shared.ids import fix_id
from shared.movement.quality import Judged

pytestmark = pytest.mark.unit

DAY_MS = 86_400_000


def judged(ms: int, **columns: Any) -> Judged:
    said: dict[str, Any] = {
        "id": fix_id("K1", ms, 0, 0), "time_ms": ms, "raw_ms": ms, "lon_e7": 0, "lat_e7": 0, "hdop": None, "pdop": None,
        "sats": None, "h_acc_m": None, "seq": None, "received_ms": None, "is_clock_unset": False, "richness": 0,
        "is_rolled": False,
    }  # fmt: skip
    return Judged(**{**said, **columns})


def times(fixes: list[Judged]) -> list[int]:
    return [fix.time_ms for fix in fixes]


def test_where_all_was_read_fewer_are_there_than_asked_for() -> None:
    around = Surroundings([judged(30), judged(10), judged(20)], is_first_there=True, is_last_there=True)
    assert times(around.before(20, 5)) == [10]
    assert times(around.after(20, 5)) == [30]
    assert times(around.between(10, 20)) == [10, 20]
    assert times(around.between(-5, 500)) == [10, 20, 30]
    assert times(around.before(1_000, 2)) == [20, 30]


def test_where_more_may_lie_beyond_what_was_read_nothing_is_claimed() -> None:
    around = Surroundings([judged(ms) for ms in (10, 20, 30)], is_first_there=False, is_last_there=False)
    assert times(around.before(30, 2)) == [10, 20]
    assert times(around.after(10, 2)) == [20, 30]
    assert times(around.between(11, 29)) == [20]
    refused: list[Callable[[], list[Judged]]] = [
        lambda: around.before(30, 3), lambda: around.after(10, 3), lambda: around.between(10, 20),
        lambda: around.between(20, 30),
    ]  # fmt: skip
    for asked in refused:
        with pytest.raises(NotEnough):
            asked()


@pytest.mark.parametrize(("first_ms", "last_ms", "is_first", "is_last"), [
    (0, 100 * DAY_MS, False, False), (60 * DAY_MS, 90 * DAY_MS, True, True), (0, 90 * DAY_MS, False, True),
])  # fmt: skip
def test_months_that_were_not_looked_into_may_hold_more(
    first_ms: int, last_ms: int, *, is_first: bool, is_last: bool
) -> None:
    middle_ms = 50 * DAY_MS if not is_last else 80 * DAY_MS
    stretch = Stretch(1, middle_ms, middle_ms, Bounds(first_ms, last_ms))
    stretch.take([], 32, is_everywhere=False)
    around = stretch.surroundings({})
    for is_there, ask in ((is_first, around.before), (is_last, around.after)):
        if is_there:
            assert ask(middle_ms, 1) == []
        else:
            with pytest.raises(NotEnough):
                ask(middle_ms, 1)
    stretch.take([], 32, is_everywhere=True)
    assert stretch.surroundings({}).before(middle_ms, 1) == []


def test_what_changed_stands_in_the_place_of_what_is_stored() -> None:
    stretch = Stretch(1, 10, 10, Bounds(10, 10))
    old, new = judged(10), judged(10, hdop=9.0)
    row = (type("Id", (), {"bytes": old.id}), 10, 10, 0, 0, None, None, None, None, None, None, 0, 0, 7)
    stretch.take([row], 32, is_everywhere=True)
    assert stretch.was == {old.id: 7}
    assert stretch.surroundings({new.id: new}).between(0, 20) == [new]


@pytest.mark.parametrize("ms", [-(2**62), -1, 0, 1, 1_780_000_000_000, 2**48 - 1, 2**62])
def test_the_ids_of_an_instant_lie_between_its_bounds(ms: int) -> None:
    for lon_e7, lat_e7 in ((0, 0), (1_800_000_000, -900_000_000), (None, None)):
        identity = fix_id("K1", ms, lon_e7, lat_e7).hex()
        assert lowest_id(ms) <= identity <= highest_id(ms)
