"""What the live views say of an animal, its zones and its corridors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.domain import Animal, Fix
from shared.insight import AlertsNow, AnimalInsight, Predicted, StepSaid
from shared.movement.areas import Nearby
from shared.movement.season import season
from shared.store import LiveAnimal
from shared.wire.live import LiveStatusOut, LiveTrackingOut, TrackedOut, current_risk

pytestmark = pytest.mark.unit

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
FIX = Fix(
    id="f1", collar_id="K1", animal_id="a1", recorded_at=AT, raw_recorded_at=AT, received_at=AT, network_time=None,
    lon_deg=37.5, lat_deg=-2.3, alt_m=None, speed_mps=1.0, heading_deg=90.0, hdop=None, pdop=None, sats=None,
    h_acc_m=None, seq=None, battery_mv=None, battery_pct=80.0, temperature_c=None, rssi_dbm=-90.0, snr_db=None,
    source="collar", flags=0,
)  # fmt: skip
ANIMAL = Animal(id="a1", name="Alpha", species="Elephant", created_at=AT, updated_at=AT, collar_id="K1")
STEP = StepSaid(
    started_at=AT - timedelta(hours=2), ended_at=AT - timedelta(hours=1), step_m=300.0, state="foraging",
    confidence=0.91234, is_settled=True, log_likelihood=-3.0,
)  # fmt: skip


def said(**given: Any) -> AnimalInsight:
    """Return what is said of an animal; nothing, but for what ``given`` says."""
    nothing: dict[str, Any] = {
        "live": LiveAnimal(animal=ANIMAL, fix=FIX, previous=None), "step": None, "distance_24h_m": None,
        "path_sd_m": None, "nearby": (), "alerts": AlertsNow(),
    }  # fmt: skip
    return AnimalInsight(**{**nothing, **given})


def zone(distance_m: float, *, risk: str = "high", buffer_m: float = 0.0, **fields: Any) -> Nearby:
    """Return a settlement so far away."""
    shape: dict[str, Any] = {"kind": "zone", "id": "z", "name": f"Z{distance_m:g}", "zone_type": "settlement"}
    return Nearby(
        **{
            **shape,
            "distance_m": distance_m,
            "is_inside": distance_m == 0,
            "risk_level": risk,
            "buffer_m": buffer_m,
            **fields,
        }
    )


def corridor(*, status: str = "active", species: str | None = None, distance_m: float = 0.0) -> Nearby:
    """Return a corridor."""
    return Nearby(
        kind="corridor", id="c", name="River", distance_m=distance_m, is_inside=distance_m == 0, species=species,
        status=status,  # type: ignore[arg-type] # a word of the test
    )  # fmt: skip


def predicted(hours: float, lon: float, lat: float) -> Predicted:
    """Return a prediction so many hours ahead."""
    return Predicted(
        at=AT + timedelta(hours=hours), horizon_h=hours, lon_deg=lon, lat_deg=lat, semi_major_50_m=200.0,
        semi_minor_50_m=100.0, semi_major_90_m=400.0, semi_minor_90_m=200.0, bearing_deg=45.0, model="network",
    )  # fmt: skip


def test_what_no_model_says_is_null_and_has_its_reason() -> None:
    live = LiveStatusOut.of(said(missing={"behaviour": "there is no step yet"}))
    assert (live.movement.speed_kmh, live.movement.behavior_state, live.movement.path_width_m) == (3.6, None, None)
    assert (live.predicted_position.lat, live.conflict_risk.predicted.risk_level) == (None, None)
    assert (live.predictions, live.corridor_status.predicted_in_corridor) == ([], None)
    assert live.corridor_status.inside_corridor is False
    assert (live.conflict_risk.current.risk_level, live.alerts.active_count) == (None, 0)
    assert live.missing == {"behaviour": "there is no step yet"}


def test_what_models_say_is_shown_with_who_said_it() -> None:
    found = said(
        step=STEP, distance_24h_m=12_345.6, path_sd_m=87.66, models={"behaviour": "elephant 1", "path": "elephant 2"},
        alerts=AlertsNow(active_count=2, has_critical=True, latest_title="Alpha is in Village"),
        predicted=(predicted(1, 37.6, -2.4), predicted(6, 37.7, -2.5)), predicted_nearby=(zone(0.0), corridor()),
    )  # fmt: skip
    live = LiveStatusOut.of(found)
    assert (live.movement.behavior_state, live.movement.behavior_source) == ("foraging", "elephant 1")
    assert (live.movement.behavior_confidence, live.movement.behavior_until) == (0.912, AT - timedelta(hours=1))
    assert (live.movement.distance_24h_km, live.movement.path_width_m) == (12.346, 87.7)
    assert (live.predicted_position.lat, live.predicted_position.prediction_time) == (-2.4, AT + timedelta(hours=1))
    assert (live.predicted_position.radius_50_m, live.predicted_position.radius_90_m) == (200.0, 400.0)
    assert [(each.hours, each.lat, each.model) for each in live.predictions] == [
        (1.0, -2.4, "network"), (6.0, -2.5, "network"),
    ]  # fmt: skip
    assert (live.conflict_risk.predicted.risk_level, live.conflict_risk.predicted.reason) == ("high", "inside Z0")
    assert live.corridor_status.predicted_in_corridor is True
    assert live.corridor_status.predicted_corridor_name == "River"
    assert live.corridor_status.inside_corridor is False
    assert (live.alerts.active_count, live.alerts.has_critical) == (2, True)
    tracked = TrackedOut.of(found)
    assert (tracked.current_coords, tracked.predicted_coords) == ([-2.3, 37.5], [-2.4, 37.6])
    assert (tracked.state, tracked.active_alerts, tracked.recommendation, tracked.reward) == ("foraging", 2, None, None)


@pytest.mark.parametrize(
    ("near", "is_in"),
    [
        (corridor(), True),
        (corridor(species="elephant"), True),
        (corridor(species="Buffalo"), False),
        (corridor(status="planned"), False),
        (corridor(distance_m=10.0), False),
        (zone(0.0), False),
    ],
)
def test_an_animal_is_in_an_active_corridor_of_its_species(near: Nearby, is_in: bool) -> None:
    live = LiveStatusOut.of(said(nearby=(near,)))
    assert live.corridor_status.inside_corridor is is_in
    assert live.corridor_status.corridor_name == ("River" if is_in else None)


@pytest.mark.parametrize(
    ("near", "level", "reason"),
    [
        ((zone(0.0),), "high", "inside Z0"),
        ((zone(800.0, buffer_m=1000.0),), "medium", "within the buffer of Z800"),
        ((zone(800.0, buffer_m=1000.0, risk="low"),), "low", "within the buffer of Z800"),
        ((zone(2500.0, buffer_m=1000.0),), "low", "2.5 km from Z2500"),
        ((zone(0.0, risk="low"), zone(100.0, buffer_m=500.0)), "medium", "within the buffer of Z100"),
        ((zone(0.0, zone_type="protected_area"),), None, None),
        ((corridor(),), None, None),
        ((), None, None),
    ],
)
def test_the_risk_is_the_highest_of_the_zones_around(
    near: tuple[Nearby, ...], level: str | None, reason: str | None
) -> None:
    found = current_risk(near)
    assert (found.risk_level, found.reason) == (level, reason)
    assert (found.distance_to_conflict_km is None) == (level is None)


def test_the_season_is_that_of_most_animals() -> None:
    elsewhere = said(live=LiveAnimal(animal=ANIMAL, fix=Fix(**{**_fields(FIX), "lat_deg": 50.0}), previous=None))
    assert LiveTrackingOut.of([said(), said(), elsewhere], AT).season == "dry"
    assert LiveTrackingOut.of([elsewhere], AT).season is None
    assert LiveTrackingOut.of([], AT).season is None


def _fields(fix: Fix) -> dict[str, Any]:
    return {name: getattr(fix, name) for name in fix.__struct_fields__}


@pytest.mark.parametrize(
    ("lat", "month", "expected"),
    [(-2.5, 4, "wet"), (-2.5, 7, "dry"), (-2.5, 11, "wet"), (-19.0, 1, "wet"), (-19.0, 8, "dry"), (15.5, 8, "wet"),
     (15.5, 2, "dry"), (45.0, 2, None)],
)  # fmt: skip
def test_it_rains_by_latitude(lat: float, month: int, expected: str | None) -> None:
    assert season(20.0, lat, datetime(2026, month, 15, tzinfo=UTC)) == expected
