from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from firmware_bridge.simulator.movement import SPECIES, Position, Species, Walker

pytestmark = pytest.mark.unit

START = datetime(2026, 1, 1, tzinfo=UTC)
HOME_LON_DEG, HOME_LAT_DEG = 37.3, -2.4


def walker(species: Species, seed: int = 1) -> Walker:
    return Walker(
        species, home_lon_deg=HOME_LON_DEG, home_lat_deg=HOME_LAT_DEG, start=START, rng=np.random.default_rng(seed)
    )


def walk(species: Species, *, hours: int, seed: int = 1, every_s: int = 1800) -> list[Position]:
    animal = walker(species, seed)
    return [animal.advance(START + timedelta(seconds=n * every_s)) for n in range(hours * 3600 // every_s)]


def distance_m(a: Position, b: Position) -> float:
    east = (b.lon_deg - a.lon_deg) * math.cos(math.radians(a.lat_deg))
    return 111_320.0 * math.hypot(east, b.lat_deg - a.lat_deg)


@pytest.mark.parametrize("species", SPECIES.values(), ids=SPECIES.keys())
def test_no_animal_is_faster_than_its_species(species: Species) -> None:
    track = walk(species, hours=24 * 20)
    fastest_mps = max(distance_m(a, b) for a, b in itertools.pairwise(track)) / 1800
    # 1 % for the flat-earth projection of the walk.
    assert 0 < fastest_mps <= species.top_speed_mps * 1.01


@pytest.mark.parametrize("species", SPECIES.values(), ids=SPECIES.keys())
def test_an_animal_stays_around_its_home(species: Species) -> None:
    home = Position(HOME_LON_DEG, HOME_LAT_DEG)
    furthest_m = max(distance_m(home, position) for position in walk(species, hours=24 * 60, every_s=7200))
    assert furthest_m < 6 * species.home_radius_m + species.migration_m


def test_one_seed_gives_the_same_walk_and_another_seed_another() -> None:
    lion = SPECIES["lion"]
    assert walk(lion, hours=48) == walk(lion, hours=48)
    assert walk(lion, hours=48) != walk(lion, hours=48, seed=2)


def test_a_lion_walks_at_night_and_rests_by_day() -> None:
    lion = SPECIES["lion"]
    assert lion.activity(20.5) > 5 * lion.activity(12.5)
    track = walk(lion, hours=24 * 60, every_s=3600)
    by_hour = np.zeros(24)
    for index, (a, b) in enumerate(itertools.pairwise(track)):
        by_hour[index % 24] += distance_m(a, b)
    # Home lies at 37 degrees east: local solar time is 2.5 hours ahead of UTC.
    assert by_hour[[17, 18, 19, 1, 2]].mean() > 1.5 * by_hour[[8, 9, 10, 11]].mean()


def test_all_three_states_occur() -> None:
    animal = walker(SPECIES["elephant"])
    states = set()
    for hour in range(24 * 10):
        animal.advance(START + timedelta(hours=hour))
        states.add(animal.state)
    assert states == {"resting", "foraging", "migrating"}


def test_wildebeest_follow_the_year() -> None:
    animal = walker(SPECIES["wildebeest"])
    april = animal.advance(datetime(2026, 4, 1, tzinfo=UTC))
    october = animal.advance(datetime(2026, 10, 1, tzinfo=UTC))
    assert april.lat_deg - october.lat_deg > 0.4
