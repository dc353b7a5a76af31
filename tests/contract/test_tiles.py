"""Vector tiles of the cloud: what a tile holds is what the list holds, for each who asks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest

from cloud.store.store import PostgresStore
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


def points(tile: bytes, z: int, x: int, y: int) -> list[tuple[float, float]]:
    """Return longitude and latitude of the points of a tile, as exact as its grid is."""
    found = []
    for number, layer in fields(tile):
        assert number == 3
        assert isinstance(layer, bytes)
        for part, feature in fields(layer):
            if part != 2 or not isinstance(feature, bytes):
                continue
            packed = next(value for name, value in fields(feature) if name == 4)
            assert isinstance(packed, bytes)
            _, dx, dy = list(_varints(packed))
            px, py = ((value >> 1) ^ -(value & 1) for value in (dx, dy))
            side = 2**z
            lon = (x + px / EXTENT) / side * 360 - 180
            lat = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * (y + py / EXTENT) / side))))
            found.append((lon, lat))
    return found


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


@pytest.mark.parametrize("tile", ["23/0/0.mvt", "1/2/0.mvt", "1/0/2", "1/0/x.mvt", "0/0/-1.mvt"])
async def test_a_tile_that_is_not_on_the_map_is_not_there(client: httpx.AsyncClient, tile: str) -> None:
    assert (await client.get(f"/api/v1/tiles/fixes/{tile}")).status_code == 404
