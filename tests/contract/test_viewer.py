"""What a viewer gets, byte by byte, and what an adversary with a viewer's account makes of it: over both homes."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar import Litestar

from cloud.store.store import PostgresStore
from edge.api.events import EventHub, stream
from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.clock import ClockState
from shared.domain import NewFix, Prediction
from shared.ids import id_bytes, id_text
from shared.privacy import OPERATOR, Principal, View, species_listed, view_for
from shared.store import AlertQuery, AnimalQuery, BoundingBox, FixQuery, ObservationQuery, Store
from tests.access import TokenAuth, logged_in, operator_of, person
from tests.contract.conftest import client_of, session_of
from tests.fakes import START, FakeClock

pytestmark = [pytest.mark.api, pytest.mark.auth, pytest.mark.usefixtures("only_homes")]

EXAMPLES = 200 if os.environ.get("OUTPOST_NIGHTLY") else 20
OPERATORS = view_for(OPERATOR)
#: One of each category, and the side of its cell in degrees.
SPECIES = {"black rhino": None, "elephant": 0.1, "okapi": 0.1, "giraffe": 0.01, "plains zebra": 0.01}
DELAY = {
    "black rhino": timedelta(days=7), "elephant": timedelta(hours=72), "okapi": timedelta(hours=72),
    "giraffe": timedelta(hours=24), "plains zebra": timedelta(hours=1),
}  # fmt: skip
#: Every list and row that a viewer may read.
PAGES = (
    "animals/", "animals/live_status/", "animals/trails/", "tracking/", "tracking/live/", "tracking/observations/",
    "collars/", "deployments/", "conflict-zones/", "conflict-zones/geojson/", "corridors/", "corridors/geojson/",
    "alerts/", "alerts/active/", "alerts/critical/", "alerts/stats/", "predictions/", "predictions/history/",
)  # fmt: skip
PLACE = (37.123_456_7, -2.769_432_1)


@pytest.fixture
def viewer(accounts: Accounts) -> View:
    """Give what a viewer sees now."""
    return accounts.view(Principal(user_id="guest", role="viewer"))


def fix(device: str, lon: float, lat: float, age: timedelta, **said: Any) -> NewFix:
    at = START - age
    return NewFix(device=device, recorded_at=at, received_at=at, lon_deg=lon, lat_deg=lat, **said)


async def herd(store: Store) -> dict[str, str]:
    """Enter an animal of each species with a collar of its own; return the animals' ids."""
    ids = {}
    for number, species in enumerate(SPECIES):
        animal = await store.create_animal(
            OPERATORS, {"name": species, "species": species, "notes": f"sleeps at {PLACE}"}
        )
        await store.create_deployment(
            OPERATORS,
            {
                "animal_id": animal.id, "collar_id": f"K{number}", "started_at": START - timedelta(days=400),
                "notes": str(PLACE),
            },
        )  # fmt: skip
        ids[species] = animal.id
    return ids


def numbers(value: Any) -> Iterator[float]:
    """Give every number in an answer, also those in its texts."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        yield float(value)
    elif isinstance(value, str):
        yield from (float(found) for found in re.findall(r"-?\d+\.\d+", value))
    else:
        for each in value.values() if isinstance(value, dict) else value:
            yield from numbers(each)


def is_of_a_cell(degrees: float, side: float) -> bool:
    cells = (degrees + 180) / side - 0.5
    return abs(cells - round(cells)) < 1e-6


# --- every byte -----------------------------------------------------------------------------------------------------
async def test_no_answer_to_a_viewer_holds_a_place_finer_than_its_cell(
    store: Store, viewer_client: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    lon, lat = PLACE
    ids = await herd(store)
    for number, species in enumerate(SPECIES):
        for age in (timedelta(minutes=5), DELAY[species] + timedelta(hours=1), timedelta(days=30)):
            shift = age / timedelta(days=1) / 1_000
            added = [fix(f"K{number}", lon + shift, lat - shift, age, alt_m=1234.5, notes=str(PLACE), speed_mps=3.21)]
            await store.add_fixes(OPERATORS, added)
        for age in (timedelta(minutes=5), timedelta(days=30)):
            said = Prediction(
                id=f"{number} {age}", prediction_type="movement", created_at=START - age, animal_id=ids[species],
                input_data=f'{{"lat":{lat}}}', results=f'{{"predictions":[{{"lat":{lat},"lon":{lon}}}]}}',
                confidence=0.9, model_version="forecast 1", created_by="ann",
            )  # fmt: skip
            await store.keep_prediction(OPERATORS, said, said.id)
            place = {"lon_deg": lon, "lat_deg": lat}
            await store.create_observation(
                OPERATORS,
                {
                    "animal_id": ids[species], "observation_type": "sighting", "recorded_at": START - age, **place,
                    "description": f"at {PLACE}", "photo_url": f"https://x.example/{lat}",
                },
            )  # fmt: skip
            await store.create_alert(
                OPERATORS,
                {
                    "animal_id": ids[species], "alert_type": "high_risk_zone", "title": f"at {PLACE}",
                    "message": str(PLACE), "detected_at": START - age, **place,
                },
            )  # fmt: skip
    ring = [[lon, lat], [lon + 0.5, lat], [lon, lat + 0.5], [lon, lat]]
    await client.post(
        "/api/v1/conflict-zones/",
        json={
            "name": "Farm", "zone_type": "agriculture", "risk_level": "low", "description": str(PLACE),
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        },
    )  # fmt: skip
    way = {"name": "Way", "species": "elephant", "description": str(PLACE), "optimization_data": {"via": list(PLACE)}}
    for where in (
        {"geometry": {"type": "LineString", "coordinates": [[lon, lat], [lon + 0.5, lat]]}},
        {"start_point": {"lat": lat, "lon": lon}, "end_point": {"lat": lat, "lon": lon}},
    ):
        assert (await client.post("/api/v1/corridors/", json={**way, **where})).status_code == 201
    exact = "".join([(await client.get(f"/api/v1/{page}?page_size=500")).text for page in PAGES])
    assert str(lon) in exact, "the operator sees the place, so this test could fail"
    answers = [await viewer_client.get(f"/api/v1/{page}", params={"page_size": 500}) for page in PAGES]
    seen = {page: answer.json() for page, answer in zip(PAGES, answers, strict=True)}
    assert [row["geometry"] is None for row in seen["corridors/"]["results"]] == [True, False]
    fixes = seen["tracking/"]["results"]
    for row in fixes:
        answers.append(await viewer_client.get(f"/api/v1/tracking/{row['id']}/"))
        assert answers[-1].json() == row, "a viewer's id leads to the viewer's row"
    whole = "".join(answer.text for answer in answers)
    assert all(answer.status_code == 200 for answer in answers), whole
    for answer in answers:
        for digits in (f"{abs(lon):.4f}"[:-1], f"{abs(lat):.4f}"[:-1], "1234.5", "3.21", "11.56"):
            assert digits not in answer.text, f"{digits} in {answer.url}: {answer.text[:2000]}"
    species_of = {identity: species for species, identity in ids.items()}
    assert {species_of[row["animal"]] for row in fixes} == set(SPECIES)
    for row in [*fixes, *seen["tracking/observations/"]["results"]]:
        side = SPECIES[species_of[row["animal"]]]
        if side is None:
            assert (row["lat"], row["lon"]) == (None, None)
        else:
            assert is_of_a_cell(row["lon"], side), row
            assert is_of_a_cell(row["lat"], side), row
    for row in fixes:
        assert [row[name] for name in ("altitude", "speed_kmh", "notes", "local_id", "temperature")] == [None] * 5
    assert all(alert["animal"] is None and alert["latitude"] is None for alert in seen["alerts/"]["results"])
    assert all(row["detected_at"].endswith("T00:00:00Z") for row in seen["alerts/"]["results"])


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lon=st.integers(-1_799_999_999, 1_799_999_999), lat=st.integers(-899_999_999, 899_999_999),
    species=st.sampled_from(sorted(SPECIES)), minutes=st.integers(1, 20_000),
)  # fmt: skip
async def test_any_place_of_any_species_at_any_age_is_its_cell_or_nothing(
    store: Store, viewer: View, lon: int, lat: int, species: str, minutes: int
) -> None:
    known = {animal.species: animal for animal in (await store.animals(OPERATORS, _all_animals())).results}
    if not known:
        await herd(store)
        known = {animal.species: animal for animal in (await store.animals(OPERATORS, _all_animals())).results}
    age = timedelta(minutes=minutes)
    number = list(SPECIES).index(species)
    # each on a day of its own, so that no rule of speed has anything to say of two of them
    (added,) = await store.add_fixes(OPERATORS, [fix(f"K{number}", lon / 1e7, lat / 1e7, age)])
    mine = FixQuery(animal_id=known[species].id, limit=1000)
    assert viewer.veil is not None
    face = id_text(viewer.veil.veiled(id_bytes(added.id)))
    shown = [row for row in (await store.fixes(viewer, mine)).results if row.id == face]
    if age < DELAY[species]:
        assert shown == []
    side = SPECIES[species]
    for row in shown:
        assert row.id != added.id
        if side is None:
            assert row.lon_deg is None
        else:
            assert row.lon_deg is not None
            assert row.lat_deg is not None
            assert abs(row.lon_deg - lon / 1e7) <= side / 2 + 1e-9
            assert abs(row.lat_deg - lat / 1e7) <= side / 2 + 1e-9
            assert is_of_a_cell(row.lon_deg, side)
            assert is_of_a_cell(row.lat_deg, side)


def _all_animals() -> AnimalQuery:
    return AnimalQuery(limit=1000)


# --- what an adversary tries ----------------------------------------------------------------------------------------
async def test_bisecting_finds_no_more_than_the_cell(store: Store, viewer: View) -> None:
    lon, lat = PLACE
    ids = await herd(store)
    await store.add_fixes(OPERATORS, [fix("K1", lon, lat, timedelta(days=10))])

    async def is_in(west: float, east: float) -> bool:
        box = BoundingBox(west=west, south=-90, east=east, north=90)
        return (await store.fixes(viewer, FixQuery(animal_id=ids["elephant"], bbox=box))).count == 1

    west, east = -180.0, 180.0
    for _ in range(60):
        middle = (west + east) / 2
        if await is_in(west, middle):
            east = middle
        else:
            west = middle
    cell = (int((lon + 180) / 0.1) + 0.5) * 0.1 - 180
    assert abs(east - cell) < 1e-6, "the search ends at the centre of the cell"
    assert abs(east - lon) > 0.01, "which is not where the animal is"


async def test_two_places_of_one_cell_cannot_be_told_apart(store: Store, viewer: View) -> None:
    ids = await herd(store)
    await store.add_fixes(OPERATORS, [fix("K1", 37.101, -2.701, timedelta(days=10), speed_mps=1.0, alt_m=900.0)])
    (first,) = (await store.fixes(viewer, FixQuery(animal_id=ids["elephant"]))).results
    await store.add_fixes(OPERATORS, [fix("K1", 37.199, -2.799, timedelta(days=10, seconds=1), notes="x")])
    both = (await store.fixes(viewer, FixQuery(animal_id=ids["elephant"], ordering="timestamp"))).results
    places = {(row.lon_deg, row.lat_deg, row.alt_m, row.speed_mps, row.flags, row.notes) for row in [first, *both]}
    assert len(places) == 1


async def test_no_filter_count_or_order_tells_of_what_is_too_new(
    store: Store, viewer: View, viewer_client: httpx.AsyncClient
) -> None:
    lon, lat = PLACE
    ids = await herd(store)

    async def everything() -> list[str]:
        asked = [f"/api/v1/{page}" for page in PAGES]
        asked += [f"/api/v1/tracking/?ordering={order}" for order in ("timestamp", "-received_at", "created_at")]
        asked += [
            f"/api/v1/tracking/?bbox={lon - 1e-3},{lat - 1e-3},{lon + 1e-3},{lat + 1e-3}",
            f"/api/v1/tracking/?animal={ids['elephant']}&usable=true", "/api/v1/tracking/?activity_type=resting",
            "/api/v1/tracking/?search=elephant", f"/api/v1/tracking/by_animal/?animal_id={ids['elephant']}",
            f"/api/v1/alerts/?animal={ids['elephant']}", f"/api/v1/alerts/stats/?animal={ids['elephant']}",
            "/api/v1/tracking/observations/?search=drinking",
        ]  # fmt: skip
        return [re.sub(r'"last_heard_at":[^,}]*', "", (await viewer_client.get(url)).text) for url in asked]

    before = await everything()
    (added,) = await store.add_fixes(
        OPERATORS, [fix("K1", lon, lat, timedelta(minutes=2), activity_type="resting", notes="n")]
    )
    place = {"animal_id": ids["elephant"], "lon_deg": lon, "lat_deg": lat}
    when = START - timedelta(minutes=2)
    observed = await store.create_observation(
        OPERATORS, {**place, "observation_type": "sighting", "recorded_at": when, "description": "drinking"}
    )
    raised = await store.create_alert(
        OPERATORS, {**place, "alert_type": "corridor_exit", "title": "Exit", "detected_at": when}
    )
    assert await everything() == before
    for path in (f"tracking/{added.id}", f"tracking/observations/{observed.id}", f"alerts/{raised.id}"):
        assert (await viewer_client.get(f"/api/v1/{path}/")).status_code == 404
    # and a viewer cannot ask by entering what may be there already
    body = {"collar_id": "K1", "timestamp": when.isoformat(), "lat": lat, "lon": lon}
    assert (await viewer_client.post("/api/v1/tracking/", json=body)).status_code == 403
    assert (await viewer_client.post("/api/v1/tracking/bulk_upload/", json=[body])).status_code == 403


async def test_no_search_finds_a_word_that_is_hidden_from_who_searches(
    app: Litestar, store: Store, accounts: Accounts, clock: FakeClock, client: httpx.AsyncClient, viewer_user: User
) -> None:
    ids = await herd(store)
    notes, words = {"notes": "at Umbrella Spring"}, {"description": "along Umbrella Spring"}
    heard = fix("K1", *PLACE, timedelta(days=10), local_id="umbrella", notes="at Umbrella Spring")
    await store.add_fixes(OPERATORS, [heard])
    await store.create_animal(OPERATORS, {"name": "Naisha", "species": "elephant", **notes})
    assert (await client.patch("/api/v1/collars/K1/", json=notes)).is_success
    line = '{"type":"LineString","coordinates":[[37.1,-2.7],[37.2,-2.6]]}'
    await store.create_corridor(OPERATORS, {"name": "North", "geometry": line, **words})
    place = {"animal_id": ids["elephant"], "lon_deg": PLACE[0], "lat_deg": PLACE[1]}
    seen = {"observation_type": "sighting", "recorded_at": START, "observer": "Umbrella"}
    await store.create_observation(OPERATORS, {**place, **seen, **words})
    clock.tick(30 * 86_400)
    searched = [
        path
        for path, item in app.openapi_schema.to_schema()["paths"].items()
        if any(each["name"] == "search" for each in item.get("get", {}).get("parameters", []))
    ]
    asked = []
    async with client_of(app, await session_of(accounts, viewer_user)) as viewer:
        for path in searched:
            answer = await viewer.get(path, params={"search": "umbrella"})
            if answer.status_code == 403:
                continue
            body = answer.json()
            assert (answer.status_code, body.get("results", body.get("features"))) == (200, []), path
            asked.append(path)
        assert (await viewer.get("/api/v1/corridors/?search=nort")).json()["count"] == 1
    assert len(asked) > 5, searched
    async with client_of(app, operator_of(app)) as staff:
        for path in ("corridors", "tracking/observations"):
            assert (await staff.get(f"/api/v1/{path}/?search=umbrella")).json()["count"] == 1, path


async def test_a_fix_whose_own_date_is_old_is_as_new_as_its_arrival(store: Store, viewer: View) -> None:
    ids = await herd(store)
    early = fix("K1", *PLACE, timedelta(days=300))
    late = NewFix(**{**{name: getattr(early, name) for name in early.__struct_fields__}, "received_at": START})
    await store.add_fixes(OPERATORS, [late])
    assert (await store.fixes(viewer, FixQuery(animal_id=ids["elephant"]))).count == 0
    unsure = NewFix(
        device="K1", recorded_at=START - timedelta(days=200), received_at=START - timedelta(days=200), lon_deg=1.0,
        lat_deg=1.0, is_clock_sure=False,
    )  # fmt: skip
    await store.add_fixes(OPERATORS, [unsure])
    assert (await store.fixes(viewer, FixQuery(animal_id=ids["elephant"]))).count == 0, "nobody knows when it came"


async def test_on_an_unsure_clock_a_viewer_sees_no_place_and_a_ranger_all(
    store: Store, accounts: Accounts, clock: FakeClock
) -> None:
    await herd(store)
    await store.add_fixes(OPERATORS, [fix("K4", *PLACE, timedelta(days=30))])
    clock.at += timedelta(days=3650)
    clock.set_state(ClockState.HELD)
    view = accounts.view(Principal(user_id="guest", role="viewer"))
    assert (await store.fixes(view, FixQuery())).count == 0
    assert await store.live_animals(view) == []
    assert (await store.observations(view, ObservationQuery())).count == 0
    assert (await store.alerts(view, AlertQuery())).count == 0
    ranger = accounts.view(Principal(user_id="asha", role="ranger"))
    assert (await store.fixes(ranger, FixQuery())).count == 1


async def test_whose_wearer_nobody_knows_is_as_secret_as_a_rhino(store: Store, viewer: View) -> None:
    await store.add_fixes(OPERATORS, [fix("K9", *PLACE, timedelta(days=6)), fix("K9", *PLACE, timedelta(days=8))])
    (row,) = (await store.fixes(viewer, FixQuery())).results
    assert (row.lon_deg, row.lat_deg) == (None, None)


async def test_how_an_animal_moves_is_not_told_where_its_place_is_not(store: Store, viewer: View) -> None:
    await herd(store)
    for hours in (2, 3):
        await store.add_fixes(OPERATORS, [fix("K4", 37.001, -2.001 + hours / 1000, timedelta(hours=hours))])
    (live,) = await store.live_animals(viewer)
    assert (live.previous, live.fix.speed_mps, live.fix.heading_deg) == (None, None, None)
    assert live.animal.notes is None
    exact = [each for each in await store.live_animals(OPERATORS) if each.animal.species == "plains zebra"]
    assert exact[0].previous is not None


async def test_the_events_of_a_viewer_tell_of_no_animal() -> None:
    hub = EventHub()
    heard: list[bytes] = []
    reader = stream(hub, None, 0.01, is_exact=False)
    heard.append(await anext(reader))
    hub.publish("fix", {"lat": PLACE[1], "lon": PLACE[0]})
    hub.publish("alert", {"lat": PLACE[1]})
    hub.publish("link", {"name": "base"})
    heard.append(await anext(reader))
    assert b"event: link" in heard[-1]
    hub.publish("fix", {"lat": PLACE[1]})
    hub.close()
    heard += [each async for each in reader]
    assert b"fix" not in b"".join(heard)
    assert str(PLACE[1]).encode() not in b"".join(heard)


async def test_the_cells_are_those_of_the_table(viewer: View) -> None:
    assert [species_listed().category(species) for species in SPECIES] == [1, 2, 2, 3, 4]
    assert not viewer.is_exact


async def test_in_the_cloud_people_of_a_station_see_exactly_what_it_brought_and_the_rest_in_cells(
    store: Store, app: Litestar, accounts: Accounts
) -> None:
    if not isinstance(store, PostgresStore):
        pytest.skip("a station has no other stations' data")
    ids = await herd(store)
    lon, lat = PLACE
    await store.add_fixes(OPERATORS, [fix("K1", lon, lat, timedelta(days=9)), fix("K3", lon, lat, timedelta(days=9))])
    async with store.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO stations (id, name, public_key, enrolled_ms) VALUES ('post-1', 'P', %s, 0)", (bytes(32),)
        )
        await connection.execute(
            "INSERT INTO station_collars (station_id, collar_pk) SELECT 'post-1', pk FROM collars WHERE id = 'K3'"
        )
    user = await person(accounts, "ranger", stations=("post-1",), name="asha")
    access, _ = await logged_in(accounts, user)
    async with client_of(app, TokenAuth(lambda: access)) as ranger:
        rows = (await ranger.get("/api/v1/tracking/")).json()["results"]
        by_animal = {row["animal"]: row for row in rows}
        own, other = by_animal[ids["giraffe"]], by_animal[ids["elephant"]]
        assert (own["lon"], own["lat"]) == PLACE
        assert is_of_a_cell(other["lon"], 0.1)
        for row in (own, other):
            assert (await ranger.get(f"/api/v1/tracking/{row['id']}/")).json() == row
        box = f"{lon - 1e-3},{lat - 1e-3},{lon + 1e-3},{lat + 1e-3}"
        found = (await ranger.get(f"/api/v1/tracking/?bbox={box}")).json()["results"]
        assert [row["animal"] for row in found] == [ids["giraffe"]]
        # what they post is answered as they posted it, and leads to nothing else
        body = {"collar_id": "K8", "timestamp": START.isoformat(), "lat": lat, "lon": lon}
        posted = await ranger.post("/api/v1/tracking/", json=body)
        assert (posted.status_code, posted.json()["lat"]) == (201, lat)
        alert = await store.create_alert(
            OPERATORS,
            {
                "animal_id": ids["elephant"], "alert_type": "corridor_exit", "title": "Exit", "lon_deg": lon,
                "lat_deg": lat, "detected_at": START - timedelta(days=30),
            },
        )  # fmt: skip
        said = await ranger.post(f"/api/v1/alerts/{alert.id}/note/", json={"note": "seen"})
        assert str(lon) not in said.text


def around(lon: float, lat: float, side: float) -> dict[str, Any]:
    """Return a square of ``side`` degrees that has a place in it, not in its middle."""
    west, south, east, north = lon - side / 3, lat - side / 3, lon + side * 2 / 3, lat + side * 2 / 3
    return {
        "type": "Polygon",
        "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
    }


async def test_of_the_most_sensitive_a_viewer_reads_the_name_of_the_protected_area_a_week_later(
    store: Store, viewer_client: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    lon, lat = PLACE
    ids = await herd(store)
    for name, kind, side in (
        ("Reserve", "protected_area", 0.4), ("Park", "protected_area", 0.2), ("Den", "protected_area", 0.05),
        ("Farms", "agriculture", 1.0),
    ):  # fmt: skip
        body = {"name": name, "zone_type": kind, "risk_level": "low", "geometry": around(lon, lat, side)}
        assert (await client.post("/api/v1/conflict-zones/", json=body)).status_code == 201
    for number, species in enumerate(SPECIES):
        await store.add_fixes(OPERATORS, [fix(f"K{number}", lon, lat, DELAY[species] + timedelta(hours=1))])
    await store.add_fixes(OPERATORS, [fix("K0", lon + 3, lat, DELAY["black rhino"] + timedelta(hours=2))])
    await store.add_fixes(OPERATORS, [fix("K0", lon, lat, timedelta(days=6))])

    rows = (await viewer_client.get(f"/api/v1/tracking/?animal={ids['black rhino']}")).json()["results"]
    assert [(row["area"], row["lat"], row["lon"]) for row in rows] == [("Reserve", None, None), (None, None, None)]
    assert (await viewer_client.get(f"/api/v1/tracking/{rows[0]['id']}/")).json() == rows[0]
    live = (await viewer_client.get("/api/v1/animals/live_status/")).json()
    by_animal = {row["animal_id"]: row["current_position"] for row in live}
    assert by_animal[ids["black rhino"]]["area"] == "Reserve"
    tracked = (await viewer_client.get("/api/v1/tracking/live_tracking/")).json()["species_data"]
    assert {row["individual_id"]: row["current_area"] for row in tracked}[ids["black rhino"]] == "Reserve"
    # a cell says more than an area, and who sees a place needs neither
    others = (await viewer_client.get(f"/api/v1/tracking/?animal={ids['elephant']}")).json()["results"]
    assert [row["area"] for row in others] == [None]
    exact = (await client.get(f"/api/v1/tracking/?animal={ids['black rhino']}")).json()["results"]
    assert [(row["area"], row["lat"]) for row in exact] == [(None, lat)] * 3
    # no word finds the rows of an area, and no box does
    box = f"{lon - 1},{lat - 1},{lon + 1},{lat + 1}"
    for asked in (f"bbox={box}", "search=Reserve", "search=Den"):
        found = (await viewer_client.get(f"/api/v1/tracking/?animal={ids['black rhino']}&{asked}")).json()
        assert found["results"] == [], asked


async def test_what_rangers_report_of_the_most_sensitive_names_the_area_to_a_viewer_and_to_his_phone(
    store: Store, viewer_client: httpx.AsyncClient, client: httpx.AsyncClient, clock: FakeClock
) -> None:
    lon, lat = PLACE
    ids = await herd(store)
    body = {"name": "Reserve", "zone_type": "protected_area", "risk_level": "low", "geometry": around(lon, lat, 0.4)}
    assert (await client.post("/api/v1/conflict-zones/", json=body)).status_code == 201
    for species, east, age in (
        ("black rhino", 0.0, timedelta(days=8)), ("elephant", 0.0, timedelta(days=8)),
        ("black rhino", 3.0, timedelta(days=8)), ("black rhino", 0.0, timedelta(days=6)),
    ):  # fmt: skip
        clock.at = START - age
        columns = {
            "animal_id": ids[species], "observation_type": "sighting", "recorded_at": clock.at, "lon_deg": lon + east,
            "lat_deg": lat,
        }  # fmt: skip
        await store.create_observation(OPERATORS, columns)
    clock.at = START
    listed = "/api/v1/tracking/observations/?ordering=created_at"
    seen = (await viewer_client.get(listed)).json()["results"]
    told = sorted((row["animal"] == ids["black rhino"], row["area"] or "", row["lat"] is None) for row in seen)
    assert told == [(False, "", False), (True, "", True), (True, "Reserve", True)]
    for row in seen:
        assert (await viewer_client.get(f"/api/v1/tracking/observations/{row['id']}/")).json() == row
    exact = (await client.get(listed)).json()["results"]
    assert [row["area"] for row in exact] == [None] * 4
    for search in ("Reserve", "sighting"):
        assert (await viewer_client.get(f"{listed}&search={search}")).json()["results"] == []
    pull = {"last_pulled_at": "0", "schema_version": "1", "migration": "null"}
    (of_viewer, of_all) = [
        (await each.get("/api/v1/sync/pull", params=pull)).json()["changes"]["observations"]["updated"]
        for each in (viewer_client, client)
    ]
    assert sorted(row.get("area", "") for row in of_viewer) == ["", "", "Reserve"]
    assert {row["lat"] for row in of_viewer if row.get("area")} == {None}
    assert not any("area" in row for row in of_all)


async def test_models_tell_a_viewer_nothing_that_would_sharpen_a_place(
    store: Store, viewer_client: httpx.AsyncClient, client: httpx.AsyncClient, settle: Callable[[], Awaitable[None]]
) -> None:
    lon, lat = PLACE
    ids = await herd(store)
    for number, _ in enumerate(SPECIES):
        hours = [timedelta(days=30, hours=-n) for n in range(30)]
        added = [fix(f"K{number}", lon + n / 500, lat - n / 900, age) for n, age in enumerate(hours)]
        await store.add_fixes(OPERATORS, added)
    await settle()
    pages = [
        "animals/live_status/", "tracking/live_tracking/", "tracking/behavior/summary/",
        *(f"animals/{each}/movement_trail/?hours=1000" for each in ids.values()),
        *(f"tracking/behavior/analyze/?hours=1000&animal_id={each}" for each in ids.values()),
    ]  # fmt: skip
    exact = "".join([(await client.get(f"/api/v1/{page}")).text for page in pages])
    assert "foraging" in exact or "migrating" in exact or "resting" in exact
    assert f"{lon + 29 / 500:.7f}"[:8] in exact, "the operator sees the place, so this test could fail"
    answers = [await viewer_client.get(f"/api/v1/{page}") for page in pages]
    assert [answer.status_code for answer in answers] == [200] * len(pages)
    whole = "".join(answer.text for answer in answers)
    for word in ("foraging", "migrating", "resting", "elephant 1", "network"):
        assert word not in whole
    sides = [side for side in SPECIES.values() if side is not None]
    for answer in answers:
        for key in ("lat", "lon"):
            found = [float(each) for each in re.findall(rf'"{key}":(-?\d+\.?\d*)', answer.text)]
            assert all(any(is_of_a_cell(each, side) for side in sides) for each in found), (answer.url, found)
    live = answers[0].json()
    assert all(row["movement"]["behavior_state"] is None and row["predictions"] == [] for row in live)
    assert all(row["alerts"] == {"active_count": 0, "has_critical": False, "latest_alert": None} for row in live)
    for each in ids.values():
        for path in ("utilisation/", "utilisation/8/150/130.png"):
            answer = await viewer_client.get(f"/api/v1/animals/{each}/{path}")
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
