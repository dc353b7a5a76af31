"""The original platform's database, copied: every row once, its odd values told, a second run without a trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from cloud.ops.import_original import ImportedOriginal, import_original
from cloud.store.database import Database
from cloud.store.store import PostgresStore
from shared.domain import FixFlag
from shared.errors import Invalid, StoreError
from shared.privacy import OPERATOR, view_for
from shared.store import (
    AlertQuery,
    CorridorQuery,
    FixQuery,
    ObservationQuery,
    PatrolLogQuery,
    PatrolRouteQuery,
    PredictionQuery,
    RangerPositionQuery,
    RangerQuery,
    TeamQuery,
    ZoneQuery,
)
from tests.access import accounts_over
from tests.clouds import ask
from tests.fakes import FakeClock
from tests.original_platform import BEGAN, OriginalDatabase, key

pytestmark = pytest.mark.integration

VIEW = view_for(OPERATOR)
SQUARE = [[[37.0, -2.0], [37.1, -2.0], [37.1, -2.1], [37.0, -2.1], [37.0, -2.0]]]
AREA = {"type": "Polygon", "coordinates": SQUARE}


class Copying:
    """Ours beside the original's."""

    def __init__(self, url: str, original: OriginalDatabase, store: PostgresStore, clock: FakeClock) -> None:
        self.url = url
        self.original = original
        self.store = store
        self.accounts = accounts_over(store, clock)
        self.refused: list[str] = []
        self.told: list[tuple[str, int, int]] = []

    async def run(self, **said: Any) -> ImportedOriginal:
        """Copy."""
        return await import_original(
            self.original.url, self.store, self.accounts, refused=self.refused.append,
            told=lambda *at: self.told.append(at), **said,
        )  # fmt: skip

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of ours."""
        tables = [name for (name,) in ask(self.url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        return {name: sorted(ask(self.url, f"SELECT t::text FROM {name} t")) for name in tables}


@pytest.fixture
async def at(database_url: str, blank_database_url: str) -> AsyncIterator[Copying]:
    """Give both databases, the original's with its tables and no row."""
    clock = FakeClock()
    async with Database.open(database_url, pool_max=3) as database:
        store = PostgresStore(database, now=clock.now)
        yield Copying(database_url, OriginalDatabase(blank_database_url), store, clock)


def fill(original: OriginalDatabase) -> None:
    """Enter a reserve's worth of everything, nothing of it odd."""
    original.user("asha")
    original.user("boss", role="admin", is_superuser=True, phone="+254 700 000001", organization="KWS")
    original.add("user_sessions", "s", user_id=key("asha"), refresh_token="refresh-secret")
    original.add("otp_verifications", "o", phone="1", otp_code="123456")
    original.animal("alpha", collar_id="COL001", gender="female", age=12, weight=2500.5, created_by_id=key("asha"))
    original.animal("beta", species="Wildebeest")
    for n in range(50):
        original.position(f"a{n}", "alpha", n * 30, collar_id="COL001", speed_kmh=3.6, directional_angle=370.0 - 360,
                          battery_level="75%", temperature=21.5, activity_type="feeding")  # fmt: skip
    original.position("b0", "beta", 5, source="manual")
    original.add(
        "observations", "seen", local_id=key("l"), observation_type="sighting", description="at the waterhole",
        lat=-2.5, lon=37.5, timestamp=BEGAN, animal_id=key("alpha"), observer_id=key("asha"), photo_url="https://x.example/a.jpg",
    )  # fmt: skip
    original.add(
        "conflict_zones", "farm", name="Farm", zone_type="agriculture", risk_level="high", geometry=AREA,
        buffer_distance_km=1.5,
    )  # fmt: skip
    original.add(
        "corridors", "way", name="Way", species="Elephant", status="active", start_point={"lat": -2.0, "lon": 37.0},
        end_point={"lat": -2.2, "lon": 37.2}, path=[[-2.0, 37.0], [-2.1, 37.1], [-2.2, 37.2]], optimization_score=0.8,
        optimization_data={"steps": 50}, created_by_id=key("boss"),
    )  # fmt: skip
    original.add(
        "wildlife_alerts", "bell", alert_type="high_risk_zone", severity="critical", status="acknowledged", title="In",
        message="near the farm", latitude=-2.5, longitude=37.5, detected_at=BEGAN, acknowledged_at=BEGAN,
        acknowledged_by_id=key("asha"), animal_id=key("alpha"), conflict_zone_id=key("farm"), metadata={"speed": 3},
    )  # fmt: skip
    original.ask("INSERT INTO reports (title) VALUES ('of May')")
    patrols(original)


def patrols(original: OriginalDatabase) -> None:
    """Enter a patrol with all that was kept of it, and what a model said of ``alpha``."""
    original.add("rangers_rangerteam", "north", name="North", description="by the river")
    original.add("rangers_ranger", "asha on patrol", badge_number="R1", team_id=key("north"), user_id=key("asha"),
                 emergency_contact="+254 700 1", current_status="on_duty")  # fmt: skip
    ranger = key("asha on patrol")
    for n in range(3):
        original.add("rangers_rangertracking", f"step{n}", ranger_id=ranger, lat=-2.5 + n / 1e3, lon=37.5,
                     timestamp=BEGAN + timedelta(minutes=n), speed_kmh=3.6, directional_angle=360.0)  # fmt: skip
    original.add("rangers_patrollog", "snare", ranger_id=ranger, team_id=key("north"), lat=-2.5, lon=37.5,
                 log_type="emergency", priority="critical", title="Snare", animal_id=key("alpha"), timestamp=BEGAN,
                 photo_url="photos/b.jpg", is_resolved=True, resolved_at=BEGAN, resolved_by_id=key("boss"))  # fmt: skip
    original.add("rangers_patrolroute", "round", name="Round", team_id=key("north"), estimated_duration_hours=2.5,
                 waypoints=[{"lat": -2.5, "lon": 37.5, "name": "Ford"}, [-2.6, 37.6]], scheduled_start=BEGAN,
                 scheduled_end=BEGAN + timedelta(hours=3), status="completed")  # fmt: skip
    original.ask(
        "INSERT INTO rangers_patrolroute_assigned_rangers (patrolroute_id, ranger_id)"
        f" VALUES ('{key('round')}', '{key('asha on patrol')}')"
    )
    original.add("predictions", "p", animal_id=key("alpha"), prediction_type="movement", results={"next": [1, 2]},
                 confidence=0.5, model_version="lstm-1", created_at=BEGAN, created_by_id=key("boss"))  # fmt: skip


async def test_every_row_comes_as_it_was_and_what_is_not_read_is_named(at: Copying) -> None:
    fill(at.original)
    done = await at.run()
    for table, n in {
        "users": 2, "animals": 2, "deployments": 1, "tracking": 51, "observations": 1, "conflict_zones": 1,
        "corridors": 1, "wildlife_alerts": 1, "rangers_rangerteam": 1, "rangers_ranger": 1,
        "rangers_rangertracking": 3, "rangers_patrollog": 1, "rangers_patrolroute": 1, "predictions": 1,
    }.items():  # fmt: skip
        taken = getattr(done, table)
        assert (taken.rows, taken.new, taken.known, taken.refused) == (n, n, 0, 0), table
    assert (done.left, done.problems, at.refused) == ({"reports": 1}, [], [])
    assert ("tracking", 51, 51) in at.told

    alpha = await at.store.animal(VIEW, key("alpha"))
    assert (alpha.name, alpha.species, alpha.collar_id, alpha.gender) == ("alpha", "Elephant", "COL001", "female")
    assert (alpha.age, alpha.weight, alpha.created_by, alpha.health_status) == (12, 2500.5, key("asha"), "healthy")
    page = await at.store.fixes(VIEW, FixQuery(animal_id=alpha.id, ordering="timestamp", limit=100))
    assert page.count == 50
    first = page.results[0]
    assert (first.recorded_at, first.lon_deg, first.lat_deg, first.collar_id) == (BEGAN, 37.5, -2.5, "COL001")
    assert (first.speed_mps, first.heading_deg, first.battery_pct, first.temperature_c) == (1.0, 10.0, 75.0, 21.5)
    assert (first.source, first.local_id, first.activity_type) == ("gps", key("local a0"), "feeding")
    (beta,) = (await at.store.fixes(VIEW, FixQuery(animal_id=key("beta")))).results
    assert (beta.source, beta.collar_id) == ("manual", f"animal:{key('beta')}")
    (seen,) = (await at.store.observations(VIEW, ObservationQuery())).results
    assert (seen.id, seen.animal_id, seen.observer) == (key("seen"), alpha.id, key("asha"))
    (farm,) = (await at.store.zones(VIEW, ZoneQuery())).results
    assert (farm.id, farm.buffer_m, farm.risk_level) == (key("farm"), 1500.0, "high")
    (way,) = (await at.store.corridors(VIEW, CorridorQuery())).results
    assert (way.id, way.optimization_score, way.optimization_data) == (key("way"), 0.8, '{"steps":50}')
    assert "LineString" in (way.geometry or "")
    (bell,) = (await at.store.alerts(VIEW, AlertQuery())).results
    assert (bell.id, bell.status, bell.zone_id, bell.is_late) == (key("bell"), "acknowledged", farm.id, True)
    assert (bell.acknowledged_at, bell.note) == (BEGAN, '{"speed":3}')


async def test_a_second_run_changes_nothing_and_brings_what_is_new_since(at: Copying) -> None:
    fill(at.original)
    await at.run()
    await at.store.update_animal(VIEW, key("alpha"), {"name": "Renamed here"})
    await at.store.delete_animal(VIEW, key("beta"))
    before = at.everything()
    done = await at.run()
    assert at.everything() == before
    for table in (
        "users", "animals", "deployments", "tracking", "observations", "corridors", "wildlife_alerts", "rangers_ranger",
        "rangers_rangerteam", "rangers_rangertracking", "rangers_patrollog", "rangers_patrolroute", "predictions",
    ):  # fmt: skip
        taken = getattr(done, table)
        assert (taken.new, taken.known, taken.refused) == (0, taken.rows, 0), table
    at.original.position("later", "alpha", 9_000, collar_id="COL001")
    at.original.user("new")
    done = await at.run()
    assert (done.tracking.new, done.tracking.known, done.users.new) == (1, 51, 1)
    assert (await at.store.animal(VIEW, key("alpha"))).name == "Renamed here"


async def test_rangers_come_with_their_teams_positions_logs_and_plans_and_nothing_rings(at: Copying) -> None:
    fill(at.original)
    await at.run()
    (ranger,) = (await at.store.rangers(VIEW, RangerQuery())).results
    assert (ranger.id, ranger.name, ranger.user_id) == (key("asha on patrol"), "asha", key("asha"))
    assert (ranger.badge_number, ranger.team_id, ranger.current_status) == ("R1", key("north"), "on_duty")
    assert ranger.emergency_contact == "+254 700 1"
    (team,) = (await at.store.teams(VIEW, TeamQuery())).results
    assert (team.id, team.description) == (key("north"), "by the river")
    steps = (await at.store.ranger_positions(VIEW, RangerPositionQuery(ordering="timestamp"))).results
    assert [step.recorded_at for step in steps] == [BEGAN + timedelta(minutes=n) for n in range(3)]
    assert (steps[0].speed_mps, steps[0].heading_deg, steps[0].lat_deg) == (1.0, 0.0, -2.5)
    (line,) = (await at.store.patrol_logs(VIEW, PatrolLogQuery())).results
    assert (line.id, line.title, line.is_resolved, line.resolved_by) == (key("snare"), "Snare", True, key("boss"))
    assert (line.recorded_at, line.animal_id, line.notes) == (BEGAN, key("alpha"), "photo: photos/b.jpg")
    assert (line.alert_id, (await at.store.alerts(VIEW, AlertQuery())).count) == (None, 1)
    (route,) = (await at.store.patrol_routes(VIEW, PatrolRouteQuery())).results
    assert (route.status, route.assigned_rangers) == ("completed", f'["{ranger.id}"]')
    assert route.waypoints == '[{"lat":-2.5,"lon":37.5,"name":"Ford"},{"lat":-2.6,"lon":37.6}]'
    (said,) = (await at.store.predictions(VIEW, PredictionQuery())).results
    assert (said.id, said.results, said.confidence) == (key("p"), '{"next":[1,2]}', 0.5)
    assert (said.created_at, said.created_by, said.model_version) == (BEGAN, key("boss"), "lstm-1")


async def test_odd_rows_of_rangers_are_refused_with_the_reason_and_never_a_neighbour(at: Copying) -> None:
    fill(at.original)
    on_patrol = key("asha on patrol")
    at.original.add("rangers_rangertracking", "nowhere", ranger_id=on_patrol, lat=95.0, lon=37.5, timestamp=BEGAN)
    at.original.add("rangers_patrollog", "odd", ranger_id=on_patrol, lat=-2.5, lon=37.5, log_type="party", title="x")
    at.original.add("rangers_patrolroute", "back", name="Back", team_id=key("north"), estimated_duration_hours=1,
                    waypoints=[], scheduled_start=BEGAN, scheduled_end=BEGAN - timedelta(hours=1))  # fmt: skip
    at.original.add("rangers_ranger", "boss on leave", badge_number="R2", user_id=key("boss"), current_status="asleep")
    at.original.add(
        "rangers_rangertracking", "his", ranger_id=key("boss on leave"), lat=-2.5, lon=37.5, timestamp=BEGAN
    )
    at.original.add("predictions", "strange", prediction_type="weather")
    done = await at.run()
    refused = {each.partition(":")[0]: each.partition(": ")[2] for each in at.refused}
    for table, word, reason in (
        ("rangers_rangertracking", "nowhere", "lat"), ("rangers_patrollog", "odd", "log_type"),
        ("rangers_patrolroute", "back", "scheduled_end"), ("rangers_ranger", "boss on leave", "current_status"),
        ("rangers_rangertracking", "his", "ranger: is not here"), ("predictions", "strange", "prediction_type"),
    ):  # fmt: skip
        assert reason in refused.pop(f"{table} {key(word)}"), word
    assert not refused
    assert (done.rangers_rangertracking.new, done.rangers_patrollog.new, done.predictions.new) == (3, 1, 1)
    assert not any("37.5" in problem for problem in at.refused)


async def test_people_come_without_passwords_and_as_viewers_unless_roles_are_kept(at: Copying) -> None:
    fill(at.original)
    at.original.user("bad", email="no address")
    at.original.user("gone", is_active=False, role="conservation_manager")
    done = await at.run()
    assert (done.users.new, done.users.refused) == (3, 1)
    people = {user.email: user for user in await at.accounts.users()}
    assert set(people) == {"asha@example.org", "boss@example.org", "gone@example.org"}
    assert {user.role for user in people.values()} == {"viewer"}
    assert {user.password_hash for user in people.values()} == {None}
    assert (people["boss@example.org"].phone, people["boss@example.org"].organization) == ("+254700000001", "KWS")
    assert (people["gone@example.org"].is_active, people["asha@example.org"].stations) == (False, ())
    whole = str(at.everything())
    for secret in ("pbkdf2", "refresh-secret", "123456"):
        assert secret not in whole
    assert ask(at.url, "SELECT count(*) FROM audit WHERE action = 'user.import'") == [(3,)]


async def test_roles_are_kept_when_an_operator_says_so(at: Copying) -> None:
    fill(at.original)
    at.original.user("odd", role="superhero")
    done = await at.run(keeps_roles=True)
    people = {user.name: user for user in await at.accounts.users()}
    assert {name: user.role for name, user in people.items()} == {"asha": "ranger", "boss": "admin"}
    assert people["asha"].stations == ("*",)
    assert done.problems == [f"users {key('odd')}: role: must be one of admin, conservation_manager, ranger, viewer"]


async def test_odd_values_are_kept_as_words_or_refused_with_the_reason_and_never_a_neighbour(at: Copying) -> None:
    original = at.original
    original.animal("odd", collar_id="COL 1/7", gender="M", status="Active", health_status="HEALTHY")
    original.animal("wrong", status="eaten")
    original.position("words", "odd", 1, battery_level="High", signal_strength="4 bars", notes="by hand")
    original.position("volts", "odd", 2, battery_level="3.65 V", signal_strength="-85 dBm")
    original.position("nan", "odd", 3, lat=float("nan"))
    original.position("far", "odd", 4, lat=95.0)
    original.position("huge", "odd", 5, lon=1e300)
    original.position("null", "odd", 6, lat=0.0, lon=0.0, speed_kmh=float("inf"), directional_angle=-1)
    original.position("old", "odd", 7, timestamp="1969-01-01T00:00:00Z")
    original.position("twice", "odd", 8)
    original.position("twice again", "odd", 8)
    original.add("conflict_zones", "feature", name="F", zone_type="road", risk_level="low", buffer_distance_km=0,
                 geometry={"type": "Feature", "properties": {}, "geometry": AREA})  # fmt: skip
    original.add("conflict_zones", "line", name="L", zone_type="road", risk_level="low", buffer_distance_km=0,
                 geometry={"type": "LineString", "coordinates": [[0, 0], [1, 1]]})  # fmt: skip
    original.add("corridors", "lng", name="C", species="Elephant", status="planned",
                 start_point={"latitude": -2, "lng": 37}, end_point=[-2.1, 37.1])  # fmt: skip
    original.add("corridors", "placeless", name="C", species="Elephant", status="planned", start_point={},
                 end_point=[-2.1, 37.1])  # fmt: skip
    original.add("observations", "photo", local_id=key("l"), observation_type="health", description="lame", lat=-2.5,
                 lon=37.5, timestamp=BEGAN, photo_url="photos/a.jpg")  # fmt: skip
    original.add("wildlife_alerts", "strange", alert_type="ufo", severity="low", status="active", title="t", message="",
                 latitude=0, longitude=0, detected_at=BEGAN, animal_id=key("odd"))  # fmt: skip
    done = await at.run()

    odd = await at.store.animal(VIEW, key("odd"))
    assert (odd.collar_id, odd.gender, odd.status, odd.health_status) == ("COL-1-7", "male", "active", "healthy")
    fixes = (await at.store.fixes(VIEW, FixQuery(animal_id=odd.id, ordering="timestamp"))).results
    by_id = {fix.local_id: fix for fix in fixes}
    words = by_id[key("local words")]
    assert (words.battery_pct, words.rssi_dbm) == (None, None)
    assert words.notes == "by hand\nbattery_level: High\nsignal_strength: 4 bars"
    volts = by_id[key("local volts")]
    assert (volts.rssi_dbm, volts.battery_mv, volts.notes) == (-85.0, 3650, None)
    assert by_id[key("local far")].flags & FixFlag.OUT_OF_RANGE
    null = by_id[key("local null")]
    assert (null.flags & FixFlag.NULL_ISLAND > 0, null.speed_mps, null.heading_deg) == (True, None, None)
    assert (done.tracking.new, done.tracking.known, done.tracking.refused) == (5, 1, 3)
    assert (await at.store.zone(VIEW, key("feature"))).name == "F"
    assert (await at.store.corridor(VIEW, key("lng"))).start_lon_deg == 37
    assert (await at.store.observation(VIEW, key("photo"))).description == "lame\nphoto: photos/a.jpg"
    refused = {each.partition(":")[0]: each.partition(": ")[2] for each in at.refused}
    assert refused[f"animals {key('odd')}"] == "collar_id is kept as COL-1-7"
    for table, word, reason in (
        ("animals", "wrong", "status"), ("tracking", "nan", "no place"), ("tracking", "huge", "no place"),
        ("tracking", "old", "timestamp"), ("conflict_zones", "line", "Polygon"),
        ("corridors", "placeless", "start_point"), ("wildlife_alerts", "strange", "alert_type"),
    ):  # fmt: skip
        assert reason in refused.pop(f"{table} {key(word)}"), word
    assert len(refused) == 1
    assert not any("37.5" in problem for problem in at.refused)


async def test_a_collar_that_changed_its_animal_leaves_each_position_with_its_own(at: Copying) -> None:
    at.original.animal("first")
    at.original.animal("second", collar_id="K1")
    for n in range(5):
        at.original.position(f"f{n}", "first", n, collar_id="K1")
        at.original.position(f"s{n}", "second", 100 + n, collar_id="K1")
    at.original.position("lent", "first", 102.5, collar_id="K1")
    await at.run()
    for name, n in (("first", 6), ("second", 5)):
        page = await at.store.fixes(VIEW, FixQuery(animal_id=key(name)))
        assert page.count == n, name


async def test_an_earlier_release_s_columns_are_read_too(at: Copying) -> None:
    at.original.animal("alpha")
    at.original.ask("ALTER TABLE tracking RENAME COLUMN directional_angle TO heading")
    at.original.ask("ALTER TABLE tracking ADD COLUMN accuracy double precision")
    for name in ("battery_level", "signal_strength"):
        at.original.ask(f"ALTER TABLE tracking ALTER COLUMN {name} TYPE double precision USING NULL")
    at.original.ask("DROP TABLE wildlife_alerts, predictions, rangers_patrolroute_assigned_rangers")
    at.original.ask("DROP TABLE rangers_rangertracking, rangers_patrollog, rangers_patrolroute, rangers_ranger")
    at.original.position("a", "alpha", 0, heading=45.0, accuracy=4.0, battery_level=81.0, signal_strength=-90.0)
    await at.run()
    (fix,) = (await at.store.fixes(VIEW, FixQuery())).results
    assert (fix.heading_deg, fix.h_acc_m, fix.battery_pct, fix.rssi_dbm) == (45.0, 4.0, 81.0, -90.0)


async def test_another_program_s_database_is_refused_before_anything_is_written(at: Copying, database_url: str) -> None:
    at.original.ask("ALTER TABLE tracking DROP COLUMN lat CASCADE")
    with pytest.raises(Invalid, match="no column lat"):
        await at.run()
    with pytest.raises(Invalid, match="original platform"):
        await import_original(database_url, at.store, at.accounts)
    with pytest.raises(StoreError):
        await import_original("postgresql://nobody@127.0.0.1:1/none", at.store, at.accounts)


async def test_what_is_written_there_meanwhile_is_not_waited_for_and_nothing_there_changes(at: Copying) -> None:
    fill(at.original)
    with psycopg.connect(at.original.url) as busy:
        busy.execute("UPDATE animals SET name = 'half done'")
        async with asyncio.timeout(60):
            done = await at.run()
        assert done.animals.new == 2
    assert (await at.store.animal(VIEW, key("alpha"))).name == "alpha"
