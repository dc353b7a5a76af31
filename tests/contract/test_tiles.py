"""Vector tiles of the cloud: what a tile holds is what the list holds, for each who asks."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import httpx
import pytest

from cloud.store.squares import SQUARES
from cloud.store.store import PostgresStore
from cloud.store.tiles import MOST_FEATURES
from shared.domain import NewFix
from shared.privacy import OPERATOR, view_for
from shared.store import Store
from tests.fakes import START

pytestmark = [pytest.mark.api, pytest.mark.tracking, pytest.mark.web]

OPERATORS = view_for(OPERATOR)
PLACE = (37.123_456_7, -2.769_432_1)
ZOOM = 14
EXTENT = 4096


@pytest.fixture(autouse=True)
def _only_the_cloud(store: Store) -> None:
    if not isinstance(store, PostgresStore):
        pytest.skip("only the cloud has vector tiles")


def tile_of(lon: float, lat: float, z: int) -> tuple[int, int]:
    side = 2**z
    turn = math.asinh(math.tan(math.radians(lat)))
    return int((lon + 180) / 360 * side), int((1 - turn / math.pi) / 2 * side)


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Give number and value of each field of a protobuf message: numbers and lengths are all that tiles have here."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            assert key & 7 == 2
            size = varint()
            yield key >> 3, data[at : at + size]
            at += size


def dots(tile: bytes, z: int, x: int, y: int) -> list[tuple[str | None, tuple[float, float]]]:
    """Return animal, longitude and latitude of each dot of a tile, as exact as its grid is."""
    found = []
    for number, layer in fields(tile):
        assert number == 3
        assert isinstance(layer, bytes)
        parts = list(fields(layer))
        keys = [value.decode() for part, value in parts if part == 3 and isinstance(value, bytes)]
        texts = [next(fields(value))[1] for part, value in parts if part == 4 and isinstance(value, bytes)]
        for part, feature in parts:
            if part != 2 or not isinstance(feature, bytes):
                continue
            given = dict(fields(feature))
            assert isinstance(given[2], bytes)
            assert isinstance(given[4], bytes)
            tags = list(_varints(given[2]))
            told = dict(zip([keys[n] for n in tags[::2]], [texts[n] for n in tags[1::2]], strict=True))
            animal = told.get("animal")
            who = animal.decode() if isinstance(animal, bytes) else None
            found += [(who, place) for place in _places(list(_varints(given[4])), z, x, y)]
    return found


def points(tile: bytes, z: int, x: int, y: int) -> list[tuple[float, float]]:
    """Return longitude and latitude of the dots of a tile."""
    return [place for _, place in dots(tile, z, x, y)]


def _places(moves: list[int], z: int, x: int, y: int) -> Iterator[tuple[float, float]]:
    assert moves[0] == (len(moves) // 2) << 3 | 1  # one command: so many moves
    px = py = 0
    for dx, dy in zip(moves[1::2], moves[2::2], strict=True):
        px, py = px + ((dx >> 1) ^ -(dx & 1)), py + ((dy >> 1) ^ -(dy & 1))
        lon = (x + px / EXTENT) / 2**z * 360 - 180
        yield lon, math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * (y + py / EXTENT) / 2**z))))


def _varints(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0


async def enter(store: Store, species: str, ages: list[timedelta]) -> None:
    animal = await store.create_animal(OPERATORS, {"name": "Alpha", "species": species})
    await store.create_deployment(
        OPERATORS, {"animal_id": animal.id, "collar_id": "K1", "started_at": START - timedelta(days=90)}
    )
    lon, lat = PLACE
    await store.add_fixes(
        OPERATORS,
        [
            NewFix(
                device="K1", recorded_at=START - age, received_at=START - age, is_clock_sure=True,
                lon_deg=lon + n / 1000, lat_deg=lat,
            )
            for n, age in enumerate(ages)
        ],
    )  # fmt: skip


async def seen(
    client: httpx.AsyncClient, lon: float, lat: float, z: int = ZOOM, query: str = ""
) -> list[tuple[float, float]]:
    x, y = tile_of(lon, lat, z)
    answer = await client.get(f"/api/v1/tiles/fixes/{z}/{x}/{y}.mvt{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/vnd.mapbox-vector-tile")
    return points(answer.content, z, x, y)


async def test_who_sees_exactly_finds_every_fix_where_it_is(store: Store, client: httpx.AsyncClient) -> None:
    await enter(store, "elephant", [timedelta(hours=1), timedelta(days=10)])
    step = 360 / 2**ZOOM / EXTENT
    found = sorted(await seen(client, *PLACE))
    assert len(found) == 2
    assert abs(found[0][0] - PLACE[0]) <= step
    assert abs(found[0][1] - PLACE[1]) <= step
    day = (START - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert len(await seen(client, *PLACE, query=f"?since={day}")) == 1


async def test_a_viewer_finds_the_cells_centre_once_it_is_old_enough_and_nothing_where_the_animal_was(
    store: Store, client: httpx.AsyncClient, viewer_client: httpx.AsyncClient
) -> None:
    await enter(store, "elephant", [timedelta(hours=1), timedelta(days=10)])
    centre = (37.15, -2.75)
    step = 360 / 2**ZOOM / EXTENT
    assert await seen(viewer_client, *PLACE) == []
    (only,) = await seen(viewer_client, *centre)
    assert abs(only[0] - centre[0]) <= step
    assert abs(only[1] - centre[1]) <= step
    assert len(await seen(viewer_client, *centre, z=0)) == 1
    assert len(await seen(client, *PLACE, z=0)) == 1  # two fixes of one animal on one point of the grid


async def test_a_viewer_finds_no_rhino_on_any_tile(
    store: Store, client: httpx.AsyncClient, viewer_client: httpx.AsyncClient
) -> None:
    await enter(store, "black rhino", [timedelta(days=30)])
    assert await seen(viewer_client, *PLACE, z=0) == []
    assert len(await seen(client, *PLACE, z=0)) == 1


def walks(animals: int, fixes: int, stride: float) -> list[NewFix]:
    """Return seeded walks through the place: dense enough that many fixes share a dot where the map is small."""
    rng = random.Random(5)
    made = []
    for n in range(animals):
        lon, lat = PLACE[0] + rng.uniform(-0.05, 0.05), PLACE[1] + rng.uniform(-0.05, 0.05)
        for step in range(fixes):
            lon, lat = (
                round(min(max(each + rng.gauss(0, stride), middle - 0.15), middle + 0.15), 7)
                for each, middle in zip((lon, lat), PLACE, strict=True)
            )
            at = START - timedelta(days=10, minutes=30 * (fixes - step) + n)
            made.append(
                NewFix(device=f"K{n}", recorded_at=at, received_at=at, is_clock_sure=True, lon_deg=lon, lat_deg=lat)
            )
    return made


async def enter_walks(
    store: Store, species: str, animals: int, fixes: int, stride: float = 0.002
) -> dict[str, list[tuple[float, float]]]:
    """Enter them and return the places of each animal, by its id."""
    owner = {}
    for n in range(animals):
        animal = await store.create_animal(OPERATORS, {"name": f"A{n}", "species": species})
        worn = {"animal_id": animal.id, "collar_id": f"K{n}", "started_at": START - timedelta(days=900)}
        await store.create_deployment(OPERATORS, worn)
        owner[f"K{n}"] = animal.id
    made = walks(animals, fixes, stride)
    await store.add_fixes(OPERATORS, made)
    places: dict[str, list[tuple[float, float]]] = {}
    for fix in made:
        assert fix.lon_deg is not None
        assert fix.lat_deg is not None
        places.setdefault(owner[fix.device], []).append((fix.lon_deg, fix.lat_deg))
    return places


def steps_between(one: tuple[float, float], other: tuple[float, float], z: int) -> float:
    """Return how many steps of a tile two places are apart, along the axis that parts them most."""
    (a, b), (c, d) = (_tile_steps(*one, z), _tile_steps(*other, z))
    return max(abs(a - c), abs(b - d))


def _tile_steps(lon: float, lat: float, z: int) -> tuple[float, float]:
    side = 2**z * EXTENT
    return (lon + 180) / 360 * side, (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * side


async def whole(client: httpx.AsyncClient, z: int) -> dict[str | None, list[tuple[float, float]]]:
    """Return the dots of each animal on all tiles about the place."""
    x, y = tile_of(*PLACE, z)
    found: dict[str | None, list[tuple[float, float]]] = {}
    for column, row in itertools.product((x - 1, x, x + 1), (y - 1, y, y + 1)):
        if 0 <= column < 2**z and 0 <= row < 2**z:
            answer = await client.get(f"/api/v1/tiles/fixes/{z}/{column}/{row}.mvt")
            for animal, place in dots(answer.content, z, column, row):
                found.setdefault(animal, []).append(place)
    return found


#: Four dots of the screen: a square's side, in steps of the tile.
SIDE: Final = EXTENT // SQUARES


@pytest.mark.parametrize("zoom", [0, 6, 9, 12])
async def test_a_thinned_tile_has_every_animal_no_dot_where_no_fix_is_and_one_near_each_fix(
    store: Store, client: httpx.AsyncClient, zoom: int
) -> None:
    places = await enter_walks(store, "elephant", animals=4, fixes=150)
    shown = await whole(client, zoom)
    assert shown.keys() == places.keys()
    for animal, each in shown.items():
        assert animal is not None
        for dot in each:
            assert min(steps_between(dot, place, zoom) for place in places[animal]) <= 0.6
    every = [dot for each in shown.values() for dot in each]
    for place in (place for each in places.values() for place in each):
        if zoom < 12 or tile_of(*place, zoom) == tile_of(*PLACE, zoom):  # the nine tiles hold all but the finest map
            assert min(steps_between(dot, place, zoom) for dot in every) <= SIDE + 1
    x, y = tile_of(*PLACE, zoom)
    once, again = [(await client.get(f"/api/v1/tiles/fixes/{zoom}/{x}/{y}.mvt")).content for _ in range(2)]
    assert once == again


async def test_a_tile_has_no_more_dots_than_squares_and_animals(store: Store, client: httpx.AsyncClient) -> None:
    places = await enter_walks(store, "elephant", animals=4, fixes=150)
    shown = await whole(client, 0)
    assert sum(map(len, shown.values())) <= len(places) + 4  # all walk within one square, or on its edge


async def test_many_dots_are_few_bytes_and_all_there(store: Store, client: httpx.AsyncClient) -> None:
    places = await enter_walks(store, "elephant", animals=5, fixes=4000, stride=0.005)
    x, y = tile_of(*PLACE, 10)
    tile = (await client.get(f"/api/v1/tiles/fixes/10/{x}/{y}.mvt")).content
    shown = dots(tile, 10, x, y)
    assert len(shown) > MOST_FEATURES
    assert {animal for animal, _ in shown} == places.keys()
    assert len(tile) < 6 * len(shown)
    rng = random.Random(3)
    for animal, dot in rng.sample(shown, 50):
        assert animal is not None
        assert min(steps_between(dot, place, 10) for place in places[animal]) <= 0.6


@pytest.mark.parametrize("zoom", [6, 9, 12])
async def test_a_viewers_thinned_tile_has_centres_of_cells_alone(
    store: Store, client: httpx.AsyncClient, viewer_client: httpx.AsyncClient, zoom: int
) -> None:
    places = await enter_walks(store, "elephant", animals=4, fixes=150)
    shown = await whole(viewer_client, zoom)
    assert shown.keys() <= places.keys()
    assert shown
    step = 360 / 2**zoom / EXTENT
    for lon, lat in (dot for each in shown.values() for dot in each):
        assert abs((lon - 0.05) * 10 - round((lon - 0.05) * 10)) <= 10 * step
        assert abs((lat - 0.05) * 10 - round((lat - 0.05) * 10)) <= 10 * step


@pytest.mark.parametrize("tile", ["23/0/0.mvt", "1/2/0.mvt", "1/0/2", "1/0/x.mvt", "0/0/-1.mvt"])
async def test_a_tile_that_is_not_on_the_map_is_not_there(client: httpx.AsyncClient, tile: str) -> None:
    assert (await client.get(f"/api/v1/tiles/fixes/{tile}")).status_code == 404
