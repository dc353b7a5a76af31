"""A trail says of each fix in which state its animal was, also between the ends of a model's steps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.domain import Fix
from shared.wire.trails import NO_STATE, TrailsOut

pytestmark = pytest.mark.unit

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def at(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


def fix_at(when: datetime) -> Fix:
    return Fix(
        id=when.isoformat(), collar_id="K1", animal_id="a", recorded_at=when, raw_recorded_at=when, received_at=when,
        network_time=None, lon_deg=37.0, lat_deg=-2.0, alt_m=None, speed_mps=None, heading_deg=None, hdop=None,
        pdop=None, sats=None, h_acc_m=None, seq=None, battery_mv=None, battery_pct=None, temperature_c=None,
        rssi_dbm=None, snr_db=None, source="collar", flags=0,
    )  # fmt: skip


def test_a_fix_between_the_ends_of_a_step_has_its_state_and_one_in_a_gap_has_none() -> None:
    minutes = (0, 30, 60, 90, 120, 300, 330, 360, 390)
    own = [fix_at(at(each)) for each in reversed(minutes)]
    steps = [(at(0), at(60), "resting"), (at(60), at(120), "foraging"), (at(300), at(360), "resting")]
    found = TrailsOut.of(own, {"a": steps}, at(0), at(400), 200, is_cut=False)
    (trail,) = found.animals
    said = [None if state == NO_STATE else found.states[state] for state in trail.state]
    assert said == [None, "resting", "resting", "foraging", "foraging", None, "resting", "resting", None]
