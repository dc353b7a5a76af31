"""What lies near a place, the same in every store."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.movement.areas import Place
from shared.privacy import View
from shared.store import Store

pytestmark = pytest.mark.integration


def box(west: float, south: float, east: float, north: float) -> str:
    """Return a rectangle as GeoJSON."""
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return json.dumps({"type": "Polygon", "coordinates": [ring]})


def line(*corners: list[float]) -> str:
    """Return a line as GeoJSON."""
    return json.dumps({"type": "LineString", "coordinates": corners})


async def zone(store: Store, view: View, name: str, geometry: str, **columns: Any) -> str:
    """Enter a zone."""
    return (
        await store.create_zone(view, {"name": name, "zone_type": "settlement", "geometry": geometry, **columns})
    ).id


async def test_zones_and_corridors_come_the_nearest_first_with_their_distance(store: Store, view: View) -> None:
    inside = await zone(store, view, "Village", box(37.0, -2.1, 37.2, -1.9), risk_level="high", buffer_m=500.0)
    beside = await zone(store, view, "Farm", box(37.11, -2.1, 37.2, -1.9))
    await zone(store, view, "Far", box(38.0, -2.1, 38.2, -1.9))
    await zone(store, view, "Off", box(37.0, -2.1, 37.2, -1.9), is_active=False)
    route = await store.create_corridor(
        view,
        {"name": "River", "species": "elephant", "geometry": line([37.0, -2.02], [37.2, -2.02]), "width_m": 3000.0},
    )
    [near] = await store.areas_near(view, [Place(37.1, -2.0)], 10_000.0)
    assert [(each.kind, each.id, each.is_inside) for each in near] == [
        ("zone", inside, True), ("corridor", route.id, False), ("zone", beside, False),
    ]  # fmt: skip
    assert [each.distance_m for each in near] == pytest.approx([0.0, 711.5, 1112.5], abs=1.0)
    assert (near[0].name, near[0].zone_type, near[0].risk_level, near[0].buffer_m) == (
        "Village", "settlement", "high", 500.0,
    )  # fmt: skip
    assert (near[1].species, near[1].status) == ("elephant", "planned")


async def test_a_zone_is_near_within_its_own_buffer_whatever_the_reach(store: Store, view: View) -> None:
    wide = await zone(store, view, "Wide", box(37.3, -2.1, 37.4, -1.9), buffer_m=30_000.0)
    await zone(store, view, "Narrow", box(37.3, -2.1, 37.4, -1.9), buffer_m=500.0)
    [near, far] = await store.areas_near(view, [Place(37.1, -2.0), Place(36.0, -2.0)], 10_000.0)
    assert [each.id for each in near] == [wide]
    assert far == []


async def test_nothing_is_near_where_nothing_is_drawn(store: Store, view: View) -> None:
    assert await store.areas_near(view, [Place(37.1, -2.0), Place(0.0, 0.0)], 10_000.0) == [[], []]
    assert await store.areas_near(view, [], 10_000.0) == []


async def test_across_the_antimeridian_is_near(store: Store, view: View) -> None:
    fiji = await zone(store, view, "Fiji", box(179.9, -17.1, 180.0, -16.9))
    [near] = await store.areas_near(view, [Place(-179.99, -17.0)], 10_000.0)
    assert [each.id for each in near] == [fiji]
    assert near[0].distance_m == pytest.approx(1064.6, abs=2.0)
