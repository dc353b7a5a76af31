"""Fixes as rows: how copies of one become one, whose they are and when they were recorded."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.domain import FixFlag, NewFix
from shared.ids import fix_id
from shared.movement.quality import ROLLOVER_MS, limits_for
from shared.sync.fixes import (
    COLUMNS,
    DAY_MS,
    MERGED,
    OPTIONAL,
    RICH,
    CollarFacts,
    FixOutcome,
    Row,
    Wearing,
    by_hand_of_both,
    filled,
    flags_by_hand,
    fold,
    fold_batch,
    is_placed,
    judged_columns,
    retime,
    row_of,
    said_again,
    stretches,
)
from shared.sync.records import to_ms
from tests.fakes import START

pytestmark = [pytest.mark.unit, pytest.mark.sync]

NOW_MS = to_ms(START)
HOUR_MS = 3_600_000
OUT, BACK, FEW = int(FixFlag.EXCLUDED_BY_HAND), int(FixFlag.REINSTATED), int(FixFlag.FEW_SATELLITES)


def collar(*wearings: Wearing, stands_for: int | None = None) -> CollarFacts:
    """Return collar K1."""
    return CollarFacts(
        pk=5, id="K1", stands_for_animal_pk=stands_for, wearings=list(wearings), limits=limits_for("elephant")
    )


def new_fix(**given: Any) -> NewFix:
    """Return a fix of collar K1."""
    given = {"recorded_at": START, "received_at": START, "lon_deg": 37.5, "lat_deg": -2.5, **given}
    return NewFix(device="K1", **given)


def row(said: int | None = None, facts: CollarFacts | None = None, **given: Any) -> Row:
    """Return a fix as a row."""
    return row_of(new_fix(**given), facts or collar(), said)


# --- whose and when
def test_a_row_has_every_column_of_the_table_but_what_the_home_adds() -> None:
    made = row()
    assert set(COLUMNS) - made.keys() == {"pk", "flags"}
    assert set(MERGED) <= made.keys()
    assert made["id"] == fix_id("K1", NOW_MS, 375_000_000, -25_000_000)
    assert (made["collar_pk"], made["recorded_ms"], made["raw_ms"]) == (5, NOW_MS, NOW_MS)


def test_a_deployment_decides_before_the_sender_and_a_stand_in_before_both() -> None:
    worn = Wearing(NOW_MS, NOW_MS + 10, 1, "a")
    assert [worn.covers(ms) for ms in (NOW_MS - 1, NOW_MS, NOW_MS + 9, NOW_MS + 10)] == [False, True, True, False]
    after = Wearing(NOW_MS + 10, None, 2, "b")
    facts = collar(worn, after)
    assert [facts.animal_pk(NOW_MS + ms, 9) for ms in (-1, 0, 9, 10, 10**12)] == [9, 1, 1, 2, 2]
    assert collar(worn, stands_for=7).animal_pk(NOW_MS, 9) == 7
    assert row(9, collar(worn))["animal_pk"] == 1


def test_a_rolled_over_clock_is_set_right_where_that_lands_it_in_a_deployment() -> None:
    rolled = START - timedelta(milliseconds=ROLLOVER_MS)
    received = {"received_at": START + timedelta(hours=1)}
    worn = collar(Wearing(NOW_MS - HOUR_MS, None, 1, "a"))
    made = row(None, worn, recorded_at=rolled, **received)
    assert (made["recorded_ms"], made["raw_ms"], made["animal_pk"]) == (NOW_MS, NOW_MS - ROLLOVER_MS, 1)
    assert made["id"] == fix_id("K1", NOW_MS - ROLLOVER_MS, 375_000_000, -25_000_000)
    assert judged_columns(made).is_rolled
    assert row(None, collar(), recorded_at=rolled, **received)["recorded_ms"] == NOW_MS
    unsure = row(None, worn, recorded_at=rolled, is_clock_sure=False, **received)
    assert (unsure["recorded_ms"], unsure["sure_received_ms"]) == (NOW_MS - ROLLOVER_MS, None)
    ended = collar(Wearing(NOW_MS - HOUR_MS, NOW_MS + HOUR_MS, 1, "a"))
    assert row(None, ended, recorded_at=rolled, is_clock_sure=False, **received)["recorded_ms"] == NOW_MS
    old = row(None, collar(), recorded_at=START - timedelta(days=300), **received)
    assert old["recorded_ms"] == old["raw_ms"]


def test_a_copy_on_a_sure_clock_sets_an_unsure_one_right() -> None:
    rolled = START - timedelta(milliseconds=ROLLOVER_MS)
    facts = collar(Wearing(NOW_MS - HOUR_MS, None, 1, "a"))
    unsure = row(None, facts, recorded_at=rolled, is_clock_sure=False)
    assert fold(unsure, row(None, facts, recorded_at=rolled))
    assert retime(unsure)
    assert (unsure["recorded_ms"], unsure["animal_pk"]) == (NOW_MS, 1)
    assert not retime(unsure)


# --- copies
def test_of_two_values_the_more_cautious_stays() -> None:
    ours = row(3, hdop=1.0, sats=9, rssi_dbm=-100.0, alt_m=5.0, source="manual", notes="b", is_clock_unset=False)
    theirs = row(
        2, hdop=2.0, sats=4, rssi_dbm=-90.0, alt_m=4.0, source="collar", notes="a", is_clock_unset=True, snr_db=1.0,
        received_at=START - timedelta(hours=1), battery_mv=3600,
    )  # fmt: skip
    assert fold(ours, theirs)
    expected = {
        "hdop": 2.0, "sats": 4, "rssi_dbm": -90.0, "alt_m": 4.0, "source": "collar", "notes": "a", "snr_db": 1.0,
        "is_clock_unset": 1, "battery_mv": 3600, "received_ms": NOW_MS - HOUR_MS, "said_animal_pk": 2,
        "sure_received_ms": NOW_MS - HOUR_MS,
    }  # fmt: skip
    assert {name: ours[name] for name in expected} == expected
    assert not fold(ours, theirs)


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


copies = st.lists(
    st.builds(
        lambda said, hours, given: (said, START + timedelta(hours=hours), given),
        optional(st.integers(1, 3)),
        st.integers(0, 3),
        st.fixed_dictionaries(
            {"is_clock_sure": st.booleans(), "source": st.sampled_from(["collar", "gps", "imported"])},
            optional={
                "hdop": st.sampled_from([1.0, 2.0]), "sats": st.integers(3, 5),
                "rssi_dbm": st.sampled_from([-9.0, -8.0]), "alt_m": st.sampled_from([1.0, 2.0]),
                "notes": st.sampled_from(["a", "b"]), "seq": st.integers(0, 2), "is_clock_unset": st.booleans(),
            },
        ),
    ),
    min_size=1,
    max_size=5,
)  # fmt: skip


@given(copies, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_folding_does_not_depend_on_order_or_grouping(drawn: list[Any], chance: Any) -> None:
    rolled = START - timedelta(milliseconds=ROLLOVER_MS)
    facts = collar(Wearing(NOW_MS - HOUR_MS, None, 1, "a"))

    def rows() -> list[Row]:
        return [row(said, facts, recorded_at=rolled, received_at=at, **given) for said, at, given in drawn]

    def folded(one: Row, other: Row) -> Row:
        fold(one, other)
        retime(one)
        return one

    whole = functools.reduce(folded, rows())
    shuffled = rows()
    chance.shuffle(shuffled)
    cut = chance.randint(0, len(shuffled))
    parts = [functools.reduce(folded, part) for part in (shuffled[:cut], shuffled[cut:]) if part]
    assert functools.reduce(folded, parts[::-1]) == whole
    batch, order = fold_batch([*rows(), *shuffled])
    assert batch == {whole["id"]: whole}
    assert order == [whole["id"]] * 2 * len(drawn)
    assert filled(whole, OPTIONAL) >= filled(whole, RICH)


def test_the_first_copy_of_a_batch_is_the_new_one() -> None:
    outcomes: list[FixOutcome] = ["new", "new", "enriched", "enriched", "new"]
    order = [b"a", b"b", b"c", b"c", b"a"]
    assert said_again(outcomes, order) == ["new", "new", "enriched", "enriched", "duplicate"]


# --- what a person decided
def test_a_person_takes_a_fix_out_or_overrules_the_rules() -> None:
    assert flags_by_hand(FEW, is_excluded=True) == FEW | OUT
    assert flags_by_hand(FEW | OUT, is_excluded=False) == FEW | BACK
    assert flags_by_hand(OUT, is_excluded=False) == 0
    assert flags_by_hand(FEW | BACK, is_excluded=True) == FEW | OUT


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [(0, 0, 0), (OUT, 0, OUT), (0, BACK, BACK), (OUT, BACK, OUT), (BACK | FEW, BACK, BACK), (FEW, FEW, 0)],
)
def test_of_two_decisions_the_more_cautious_stays(one: int, other: int, both: int) -> None:
    assert by_hand_of_both(one, other) == both
    assert by_hand_of_both(other, one) == both


# --- places and times
def test_a_place_is_on_the_globe() -> None:
    assert is_placed({**row(), "flags": FEW})
    assert not is_placed({**row(), "flags": int(FixFlag.OUT_OF_RANGE)})
    failed = row_of(replace(new_fix(), lon_deg=None, lat_deg=None), collar(), None)
    assert not is_placed({**failed, "flags": 0})


def test_times_that_lie_far_apart_are_apart() -> None:
    times = [NOW_MS, NOW_MS - 400 * DAY_MS, NOW_MS + 2 * DAY_MS, NOW_MS + 4 * DAY_MS + 1]
    assert stretches(times) == [[NOW_MS - 400 * DAY_MS], [NOW_MS, NOW_MS + 2 * DAY_MS], [NOW_MS + 4 * DAY_MS + 1]]
    assert stretches([5]) == [[5]]
