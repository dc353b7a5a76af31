"""A way walked twice at a whole number of half hours is a twin; a rest is none, however coarse its grid."""

from __future__ import annotations

import random

import pytest

from shared.movement.twins import GRAIN_MS, REACH_MS, Place, zone_twins
from tests import real_data
from tests.benchmarks.quality import FILES, places_of

pytestmark = pytest.mark.unit

START_MS = 1_700_000_040_250
HOUR_MS = 3_600_000
QUARTER_MS = 900_000


def walk(n: int, step_ms: int, seed: int = 1, grid_e7: int = 1) -> list[Place]:
    """Return a way of some hundred metres a step on a grid of places."""
    rng = random.Random(seed)
    lon, lat, found = 355_000_007, -15_000_003, []
    for k in range(n):
        lon, lat = lon + rng.randint(-60_000, 60_000), lat + rng.randint(-60_000, 60_000)
        found.append(Place(START_MS + k * step_ms, lon // grid_e7 * grid_e7, lat // grid_e7 * grid_e7))
    return found


def moved(places: list[Place], shift_ms: int) -> list[Place]:
    return [Place(place.time_ms + shift_ms, place.lon_e7, place.lat_e7) for place in places]


@pytest.mark.parametrize("shift_ms", [GRAIN_MS, HOUR_MS, 3 * HOUR_MS, 11 * GRAIN_MS, REACH_MS])
@pytest.mark.parametrize("step_ms", [QUARTER_MS, HOUR_MS, 3 * HOUR_MS])
def test_every_fix_of_a_way_read_in_another_zone_is_found_beside_the_true_one(shift_ms: int, step_ms: int) -> None:
    track = walk(60, step_ms)
    both = track + moved(track, shift_ms)
    random.Random(2).shuffle(both)
    late = set(moved(track, shift_ms))
    found = zone_twins(both)
    assert {both[twin.later] for twin in found} == late
    assert {twin.shift_ms for twin in found} == {shift_ms}
    assert all(moved([both[twin.earlier]], shift_ms) == [both[twin.later]] for twin in found)


@pytest.mark.parametrize("shift_ms", [HOUR_MS + 1000, GRAIN_MS // 2, REACH_MS + GRAIN_MS])
def test_what_is_no_offset_of_a_time_zone_makes_no_twin(shift_ms: int) -> None:
    track = walk(60, HOUR_MS)
    assert zone_twins(track + moved(track, shift_ms)) == []


def test_a_rest_on_a_coarse_grid_has_no_twin_nor_two_rests_one_after_the_other() -> None:
    rests = [Place(START_MS + k * HOUR_MS, 355_000_000 + 10_000 * (k // 6), -15_000_000) for k in range(24)]
    assert zone_twins(rests) == []


def test_one_pair_alone_is_chance() -> None:
    track = walk(60, HOUR_MS)
    assert zone_twins([*track, *moved(track[20:21], 3 * HOUR_MS)]) == []


def test_on_a_coarse_grid_a_way_walked_twice_between_itself_is_a_twin() -> None:
    track = walk(60, HOUR_MS, grid_e7=1_000)
    found = zone_twins(track + moved(track, 3 * HOUR_MS))
    assert len(found) == 60


@pytest.mark.parametrize("name", FILES)
def test_clean_real_tracks_have_no_twins(name: str) -> None:
    for track in places_of(real_data.tracks(name)).values():
        assert zone_twins(track) == []
