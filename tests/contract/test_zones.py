"""Zones over every store."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from shared.errors import Conflict, Invalid, NotFound
from shared.privacy import View
from shared.store import Store, ZoneQuery
from tests.fakes import FakeClock

pytestmark = pytest.mark.api

UNKNOWN = "00000000-0000-4000-8000-000000000000"
AREA = '{"type":"Polygon","coordinates":[[[37.0,-2.0],[38.0,-2.0],[38.0,-3.0],[37.0,-2.0]]]}'
AREAS = '{"type":"MultiPolygon","coordinates":[[[[37.0,-2.0],[38.0,-2.0],[38.0,-3.0],[37.0,-2.0]]]]}'
ZONE = {"name": "Fields", "zone_type": "agriculture", "geometry": AREA}


async def test_a_zone_comes_back_as_it_was_stored(store: Store, view: View, clock: FakeClock) -> None:
    columns = {**ZONE, "risk_level": "high", "buffer_m": 250.5, "description": "maize", "is_active": False}
    made = await store.create_zone(view, columns)
    assert made == await store.zone(view, made.id)
    assert {name: getattr(made, name) for name in columns} == columns
    assert made.is_active is False
    assert made.rev == 1
    assert made.created_at == made.updated_at == clock.now()


async def test_a_zone_has_what_a_zone_has_unless_told_otherwise(store: Store, view: View) -> None:
    made = await store.create_zone(view, {**ZONE, "id": UNKNOWN, "risk_level": None, "is_active": None})
    assert (made.id, made.risk_level, made.buffer_m, made.description) == (UNKNOWN, "medium", 0.0, "")
    assert made.is_active is True
    with pytest.raises(Conflict):
        await store.create_zone(view, {**ZONE, "id": UNKNOWN})


async def test_a_change_of_a_zone_touches_what_it_names(store: Store, view: View, clock: FakeClock) -> None:
    made = await store.create_zone(view, ZONE)
    clock.tick(60)
    changed = await store.update_zone(view, made.id, {"geometry": AREAS, "is_active": False})
    assert changed == replace(made, geometry=AREAS, is_active=False, rev=2, updated_at=clock.now())
    clock.tick(60)
    assert await store.update_zone(view, made.id, {"is_active": False, "name": "Fields"}) == changed
    assert (await store.update_zone(view, made.id, {"description": None})).description == ""


async def test_a_deleted_zone_is_gone_from_every_read(store: Store, view: View) -> None:
    zone = await store.create_zone(view, ZONE)
    await store.delete_zone(view, zone.id)
    assert (await store.zones(view, ZoneQuery())).count == 0
    for zone_id in (zone.id, UNKNOWN, "", "%"):
        for refused in (
            store.zone(view, zone_id),
            store.update_zone(view, zone_id, {"name": "B"}),
            store.delete_zone(view, zone_id),
        ):
            with pytest.raises(NotFound):
                await refused


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"name": None}, "name: is required"),
        ({"name": ""}, "name: must not be empty"),
        ({"geometry": None}, "geometry: is required"),
        ({"zone_type": "swamp"}, "zone_type: must be one of agriculture"),
        ({"risk_level": "extreme"}, "risk_level: must be one of high, low, medium"),
        ({"geometry": "{"}, "geometry: is no GeoJSON"),
        ({"geometry": '{"type":"Point","coordinates":[37,-2]}'}, "geometry: must be a GeoJSON Polygon"),
        ({"geometry": AREA.replace("38.0,-2.0", "188.0,-2.0")}, "geometry: a longitude is within 180"),
        ({"geometry": AREA.replace("[37.0,-2.0]]]", "[37.0,-2.1]]]")}, "geometry: a ring ends where it begins"),
    ],
)
async def test_a_bad_zone_is_refused(store: Store, view: View, change: dict[str, Any], match: str) -> None:
    with pytest.raises(Invalid, match=match):
        await store.create_zone(view, {**ZONE, **change})
    assert (await store.zones(view, ZoneQuery())).count == 0
    zone = await store.create_zone(view, ZONE)
    with pytest.raises(Invalid, match=match.replace("is required", "must not be empty")):
        await store.update_zone(view, zone.id, {"description": "new", **change})
    assert await store.zone(view, zone.id) == zone


async def test_zones_are_filtered_ordered_and_paged(store: Store, view: View, clock: FakeClock) -> None:
    for name, zone_type, risk_level, is_active in (
        ("Ayo", "road", "low", True),
        ("Bo", "settlement", "high", False),
        ("Cy", "road", "high", True),
    ):
        columns = {"name": name, "zone_type": zone_type, "risk_level": risk_level, "is_active": is_active}
        await store.create_zone(view, {**ZONE, **columns})
        clock.tick(1)

    async def names(**query: Any) -> list[str]:
        return [zone.name for zone in (await store.zones(view, ZoneQuery(**query))).results]

    assert await names() == ["Cy", "Bo", "Ayo"]
    assert await names(ordering="created_at") == ["Ayo", "Bo", "Cy"]
    assert await names(ordering="-name", offset=1) == ["Bo", "Ayo"]
    assert await names(zone_type="road", ordering="name") == ["Ayo", "Cy"]
    assert await names(risk_level="high", zone_type="road") == ["Cy"]
    assert await names(is_active=True, limit=1) == ["Cy"]
    assert await names(is_active=False) == ["Bo"]
    assert await names(zone_type="%") == []
    assert (await store.zones(view, ZoneQuery(limit=1))).count == 3
    assert (await store.zones(view, ZoneQuery(is_active=True, offset=9))).count == 2
    with pytest.raises(Invalid, match="ordering"):
        await store.zones(view, ZoneQuery(ordering="geometry; drop table"))
