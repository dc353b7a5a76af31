"""Corridors over every store."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from shared.errors import Conflict, Invalid, NotFound
from shared.privacy import View
from shared.store import CorridorQuery, Store
from tests.fakes import FakeClock

pytestmark = [pytest.mark.api, pytest.mark.corridors]

UNKNOWN = "00000000-0000-4000-8000-000000000000"
LINE = '{"type":"LineString","coordinates":[[37.0,-2.0],[37.5,-2.25],[38.0,-2.5]]}'
LINES = '{"type":"MultiLineString","coordinates":[[[37.0,-2.0],[38.0,-2.5]],[[38.5,-2.5],[39.0,-3.0]]]}'
AREA = '{"type":"Polygon","coordinates":[[[37.0,-2.0],[38.0,-2.0],[38.0,-3.0],[37.0,-2.0]]]}'
AREAS = '{"type":"MultiPolygon","coordinates":[[[[37.0,-2.0],[38.0,-2.0],[38.0,-3.0],[37.0,-2.0]]]]}'
ROUTE = {"name": "Kitenden", "geometry": LINE}
ENDS = {"start_lon_deg": 37.0, "start_lat_deg": -2.0, "end_lon_deg": 38.0, "end_lat_deg": -2.5}
NOWHERE = dict.fromkeys(ENDS)


async def test_a_corridor_comes_back_as_it_was_stored(store: Store, view: View, clock: FakeClock) -> None:
    columns = {
        **ROUTE, **ENDS, "description": "to the swamps", "species": "elephant", "status": "active", "width_m": 750.5,
        "optimization_score": 0.875, "optimization_data": '{"steps":50}', "created_by": "somebody",
    }  # fmt: skip
    made = await store.create_corridor(view, columns)
    assert made == await store.corridor(view, made.id)
    assert {name: getattr(made, name) for name in columns} == columns
    assert made.rev == 1
    assert made.created_at == made.updated_at == clock.now()


async def test_a_corridor_has_what_a_corridor_has_unless_told_otherwise(store: Store, view: View) -> None:
    made = await store.create_corridor(view, {**ROUTE, "id": UNKNOWN, "status": None, "width_m": None})
    assert (made.id, made.status, made.width_m, made.description) == (UNKNOWN, "planned", 2_000.0, "")
    assert (made.species, made.start_lon_deg, made.optimization_score, made.optimization_data) == (None,) * 4
    assert made.created_by == view.principal.user_id
    with pytest.raises(Conflict):
        await store.create_corridor(view, {**ROUTE, "id": UNKNOWN})


@pytest.mark.parametrize("geometry", [LINE, LINES, AREA, AREAS])
async def test_a_corridor_is_lines_or_areas_and_only_lines_have_a_width(
    store: Store, view: View, geometry: str
) -> None:
    made = await store.create_corridor(view, {"name": "C", "geometry": geometry})
    assert made.geometry == geometry
    assert made.width_m == (2_000.0 if geometry in (LINE, LINES) else 0.0)
    line = await store.update_corridor(view, made.id, {"geometry": LINE})
    assert line.width_m == 2_000.0


async def test_two_points_are_a_plan_and_nothing_is_none(store: Store, view: View) -> None:
    plan = await store.create_corridor(view, {"name": "Plan", **ENDS})
    assert (plan.geometry, plan.start_lon_deg, plan.end_lat_deg) == (None, 37.0, -2.5)
    for missing in ENDS:
        with pytest.raises(Invalid, match="geometry: is required where start and end are not both given"):
            await store.create_corridor(view, {"name": "Plan", **ENDS, missing: None})
    drawn = await store.update_corridor(view, plan.id, {"geometry": LINE, **NOWHERE})
    assert (drawn.geometry, drawn.start_lon_deg, drawn.width_m) == (LINE, None, 2_000.0)
    with pytest.raises(Invalid, match="geometry: is required"):
        await store.update_corridor(view, plan.id, {"geometry": None})
    assert await store.corridor(view, plan.id) == drawn
    planned = await store.update_corridor(view, plan.id, {"geometry": None, **ENDS})
    assert replace(planned, rev=plan.rev) == plan


async def test_a_change_of_a_corridor_touches_what_it_names(store: Store, view: View, clock: FakeClock) -> None:
    made = await store.create_corridor(view, {**ROUTE, "species": "elephant"})
    clock.tick(60)
    changed = await store.update_corridor(view, made.id, {"geometry": LINES, "status": "active"})
    assert changed == replace(made, geometry=LINES, status="active", rev=2, updated_at=clock.now())
    clock.tick(60)
    assert await store.update_corridor(view, made.id, {"status": "active", "name": "Kitenden"}) == changed
    reset = await store.update_corridor(view, made.id, {"description": None, "species": None})
    assert (reset.description, reset.species) == ("", None)


async def test_a_deleted_corridor_is_gone_from_every_read(store: Store, view: View) -> None:
    corridor = await store.create_corridor(view, ROUTE)
    await store.delete_corridor(view, corridor.id)
    assert (await store.corridors(view, CorridorQuery())).count == 0
    for corridor_id in (corridor.id, UNKNOWN, "", "%"):
        for refused in (
            store.corridor(view, corridor_id),
            store.update_corridor(view, corridor_id, {"name": "B"}),
            store.delete_corridor(view, corridor_id),
        ):
            with pytest.raises(NotFound):
                await refused


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"name": None}, "name: is required"),
        ({"name": ""}, "name: must not be empty"),
        ({"geometry": None}, "geometry: is required"),
        ({"status": "open"}, "status: must be one of active, inactive, planned, under_review"),
        ({"width_m": -0.5}, "width_m: must not be less than 0"),
        ({"width_m": float("nan")}, "width_m: must be a number"),
        ({"optimization_score": float("inf")}, "optimization_score: must be a number"),
        ({"optimization_data": "{"}, "optimization_data: is no JSON"),
        ({"optimization_data": f'"{"x" * 500_000}"'}, "optimization_data: has 500002 characters"),
        ({"start_lat_deg": 90.1}, "start_lat_e7: must be a whole number"),
        ({"end_lon_deg": -180.1}, "end_lon_e7: must be a whole number"),
        ({"geometry": "{"}, "geometry: is no GeoJSON"),
        ({"geometry": '{"type":"Point","coordinates":[37,-2]}'}, "geometry: must be a GeoJSON LineString, Multi"),
        ({"geometry": '{"type":"LineString","coordinates":[[37,-2]]}'}, "geometry: a line has at least two corners"),
        ({"geometry": '{"type":"LineString","coordinates":[[1,2],[1,2]]}'}, "geometry: a line leads somewhere"),
        ({"geometry": LINE.replace("38.0", "188.0")}, "geometry: a longitude is within 180"),
        ({"geometry": AREA.replace("[37.0,-2.0]]]", "[37.0,-2.1]]]")}, "geometry: a ring ends where it begins"),
    ],
)
async def test_a_bad_corridor_is_refused(store: Store, view: View, change: dict[str, Any], match: str) -> None:
    with pytest.raises(Invalid, match=match):
        await store.create_corridor(view, {**ROUTE, **change})
    assert (await store.corridors(view, CorridorQuery())).count == 0
    corridor = await store.create_corridor(view, ROUTE)
    with pytest.raises(Invalid, match=match.replace("name: is required", "name: must not be empty")):
        await store.update_corridor(view, corridor.id, {"description": "new", **change})
    assert await store.corridor(view, corridor.id) == corridor


async def test_corridors_are_filtered_searched_ordered_and_paged(store: Store, view: View, clock: FakeClock) -> None:
    for name, species, status, description in (
        ("Ayo", "elephant", "active", "by the river"),
        ("Bo", "wildebeest", "planned", "100% open"),
        ("Cy", "elephant", "planned", "over the RIDGE"),
    ):
        columns = {"name": name, "species": species, "status": status, "description": description}
        await store.create_corridor(view, {**ROUTE, **columns})
        clock.tick(1)

    async def names(**query: Any) -> list[str]:
        return [corridor.name for corridor in (await store.corridors(view, CorridorQuery(**query))).results]

    assert await names() == ["Cy", "Bo", "Ayo"]
    assert await names(ordering="created_at") == ["Ayo", "Bo", "Cy"]
    assert await names(ordering="-name", offset=1) == ["Bo", "Ayo"]
    assert await names(species="elephant", ordering="name") == ["Ayo", "Cy"]
    assert await names(species="elephant", status="planned") == ["Cy"]
    assert await names(status="%") == []
    assert await names(search="ri", ordering="name") == ["Ayo", "Cy"]
    assert await names(search="BO") == ["Bo"]
    assert await names(search="%") == ["Bo"]
    assert await names(search="_") == []
    assert await names(search="r", status="active") == ["Ayo"]
    assert (await store.corridors(view, CorridorQuery(limit=1))).count == 3
    assert (await store.corridors(view, CorridorQuery(search="r", offset=9))).count == 2
    with pytest.raises(Invalid, match="ordering"):
        await store.corridors(view, CorridorQuery(ordering="geometry; drop table"))
