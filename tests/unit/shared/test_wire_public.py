"""The mapping between the original platform's names and ours."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.domain import Fix, FixFlag
from shared.errors import Invalid
from shared.wire.live import movement
from shared.wire.public import (
    AnimalPatch,
    CollarPatch,
    DeploymentPatch,
    ObservationPatch,
    TrackingIn,
    TrackingOut,
    battery_level,
    flag_names,
)
from shared.wire.reading import read_json
from tests.fakes import START

pytestmark = pytest.mark.unit

FIX = Fix(
    id="01", collar_id="K1", animal_id="a1", recorded_at=START, raw_recorded_at=START, received_at=START,
    network_time=None, lon_deg=34.5, lat_deg=-2.1, alt_m=1200.0, speed_mps=1.0, heading_deg=90.0, hdop=1.2, pdop=None,
    sats=8, h_acc_m=None, seq=None, battery_mv=3650, battery_pct=None, temperature_c=30.5, rssi_dbm=-85.0, snr_db=None,
    source="collar", flags=0,
)  # fmt: skip


def body(**fields: object) -> TrackingIn:
    """Return a position as a client sends it."""
    return TrackingIn(**{"timestamp": 1730457000000, "lat": -2.1, "lon": 34.5, **fields})  # type: ignore[arg-type]  # any field


def test_a_position_goes_out_under_the_originals_names() -> None:
    out = TrackingOut.of(replace(FIX, flags=int(FixFlag.DUPLICATE | FixFlag.POOR_DOP)))
    assert (out.animal, out.timestamp, out.lat, out.lon, out.altitude) == ("a1", START, -2.1, 34.5, 1200.0)
    assert (out.speed_kmh, out.directional_angle, out.temperature, out.signal_strength) == (3.6, 90.0, 30.5, -85.0)
    assert (out.battery_level, out.flags, out.is_usable) == ("3.65 V", ["duplicate", "poor_dop"], False)


def test_every_flag_has_a_public_name() -> None:
    assert flag_names(sum(FixFlag)) == [str(flag.name).lower() for flag in FixFlag]
    assert flag_names(0) == []


def test_a_position_without_a_collar_shows_none() -> None:
    assert TrackingOut.of(replace(FIX, collar_id="animal:a1")).collar_id is None


@given(st.floats(0, 100), st.integers(0, 20_000))
def test_a_battery_that_was_shown_can_be_sent_back(percent: float, millivolts: int) -> None:
    percent = round(percent, 3)
    for shown, field, want in (
        (battery_level(percent, None), "battery_pct", float(f"{percent:g}")),
        (battery_level(None, millivolts), "battery_mv", millivolts),
    ):
        fix = body(battery_level=shown).fix(device="K1", animal_id=None, received_at=START, is_clock_sure=True)
        assert getattr(fix, field) == pytest.approx(want, abs=5)


def test_percent_is_shown_before_volts() -> None:
    assert battery_level(75.0, 3650) == "75%"
    assert battery_level(None, None) is None


@pytest.mark.parametrize(
    ("sent", "heading_deg", "speed_mps"),
    [
        ({"heading": 360, "speed_kmh": 7.2}, 0.0, 2.0),
        ({"directional_angle": 10, "heading": 20}, 10.0, None),
        ({"heading": -1, "speed_kmh": -3.6}, None, None),
        ({}, None, None),
    ],
)
def test_heading_and_speed_are_read_as_phones_report_them(
    sent: dict[str, float], heading_deg: float | None, speed_mps: float | None
) -> None:
    fix = body(**sent).fix(device="K1", animal_id=None, received_at=START, is_clock_sure=True)
    assert fix.heading_deg == heading_deg
    assert fix.speed_mps == (None if speed_mps is None else pytest.approx(speed_mps))


@pytest.mark.parametrize(
    ("sent", "dbm"), [("-85 dBm", -85.0), ("-85.5", -85.5), (-85, -85.0), ("", None), (None, None)]
)
def test_signal_strength_is_read_as_clients_write_it(sent: str | float | None, dbm: float | None) -> None:
    fix = body(signal_strength=sent).fix(device="K1", animal_id=None, received_at=START, is_clock_sure=True)
    assert fix.rssi_dbm == dbm


def test_a_patch_gives_only_the_columns_that_were_named() -> None:
    assert read_json(b"{}", AnimalPatch).columns() == {}
    assert read_json(b"{}", ObservationPatch).columns() == {}
    assert read_json(b"{}", CollarPatch).columns() == {}
    assert read_json(b"{}", DeploymentPatch).columns() == {}
    everything = b'{"name": " A ", "collar_id": "", "gender": "f", "age": null, "status": null, "notes": " "}'
    assert read_json(everything, AnimalPatch).columns() == {
        "name": "A", "collar_id": None, "gender": "female", "age": None, "status": "active", "notes": None,
    }  # fmt: skip


def test_a_radio_id_is_stored_as_frames_carry_it() -> None:
    sent = b'{"aliases": [" EUI:70-B3-D5-7E-D0-00-00-AB ", "eui:70b3d57ed00000ab", "imei:300434063830000", "link:Ba"]}'
    assert read_json(sent, CollarPatch).columns() == {
        "aliases": ("eui:70b3d57ed00000ab", "imei:300434063830000", "link:Ba")
    }


def test_a_half_position_is_refused() -> None:
    for half in (b'{"lat": 1}', b'{"lon": 1}', b'{"lat": null, "lon": 1}'):
        with pytest.raises(Invalid, match=r"^lat: "):
            read_json(half, ObservationPatch).columns()
    assert read_json(b'{"lat": null, "lon": null}', ObservationPatch).columns() == {"lon_deg": None, "lat_deg": None}


# --- movement
def test_movement_is_the_step_between_the_last_two_fixes() -> None:
    mps, heading_deg = movement(replace(FIX, recorded_at=START - timedelta(hours=1), lat_deg=-2.2), FIX)
    assert mps == pytest.approx(11_057 / 3600, rel=1e-3)
    assert heading_deg == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("gap", [timedelta(0), timedelta(hours=25), -timedelta(hours=1)])
def test_without_a_telling_step_the_receivers_word_stands(gap: timedelta) -> None:
    assert movement(replace(FIX, recorded_at=START - gap), FIX) == (1.0, 90.0)
    assert movement(None, FIX) == (1.0, 90.0)
    assert movement(replace(FIX, lon_deg=None, lat_deg=None), FIX) == (1.0, 90.0)


def test_an_animal_that_stands_has_no_direction() -> None:
    mps, heading_deg = movement(replace(FIX, recorded_at=START - timedelta(hours=1)), FIX)
    assert (mps, heading_deg) == (0.0, None)
