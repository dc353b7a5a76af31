"""Laws of the field's other formats: what was sent is read back within the format's own grid, whoever carried it."""

from __future__ import annotations

import json
import os
import struct
from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.codecs.lora_packet import pack_lp0
from firmware_bridge.codecs.opencollar import encode_flash_log, encode_short
from firmware_bridge.codecs.registry import FORMATS, decode_frame
from firmware_bridge.frames import DecodedFix, Frame, Framing
from firmware_bridge.framing.directip import HEADER, PAYLOAD, encode_directip
from firmware_bridge.framing.rnode import encode_rnode

NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def examples(n: int) -> settings:
    return settings(max_examples=n * 10 if NIGHTLY else n, deadline=None, derandomize=True, database=None)


lat_e7 = st.integers(-900_000_000, 900_000_000)
lon_e7 = st.integers(-1_800_000_000, 1_800_000_000)
unix_s = st.integers(0, 2**32 - 1)


def only_fix(format_name: str, payload: bytes, port: int | None = None) -> DecodedFix:
    ((fix,),) = [uplink.fixes for uplink in FORMATS[format_name].decode(payload, port=port)]
    return fix


def place(fix: DecodedFix) -> tuple[float, float]:
    assert fix.lat_deg is not None
    assert fix.lon_deg is not None
    return fix.lat_deg, fix.lon_deg


@examples(100)
@given(lat=lat_e7, lon=lon_e7, has_failed=st.booleans(), speed_kmh=st.integers(0, 255), battery=st.integers(0, 255))
def test_an_oyster_is_read_back_and_a_failed_fix_has_no_place(
    lat: int, lon: int, has_failed: bool, speed_kmh: int, battery: int
) -> None:
    fix = only_fix("digital_matter_oyster", struct.pack("<iiBBB", lat, lon, 2 * has_failed, speed_kmh, battery), 1)
    assert (fix.recorded_at, fix.battery_mv) == (None, 25 * battery)
    if has_failed:
        assert (fix.lat_deg, fix.lon_deg, fix.speed_mps) == (None, None, None)
    else:
        assert place(fix) == (lat / 1e7, lon / 1e7)
        assert fix.speed_mps == pytest.approx(speed_kmh / 3.6)


@examples(100)
@given(
    lat=st.integers(-900_000, 900_000), lon=st.integers(-1_800_000, 1_800_000), alt_cm=st.integers(-(2**23), 2**23 - 1)
)
def test_a_cayenne_lpp_position_is_read_back(lat: int, lon: int, alt_cm: int) -> None:
    body = b"".join(value.to_bytes(3, "big", signed=True) for value in (lat, lon, alt_cm))
    fix = only_fix("cayenne_lpp", b"\x01\x88" + body)
    assert (*place(fix), fix.alt_m) == (lat / 1e4, lon / 1e4, alt_cm / 100)
    assert fix.recorded_at is None


@examples(100)
@given(lat=st.integers(1, 2**24 - 1), lon=st.integers(1, 2**24 - 1), at=unix_s, minutes=st.integers(0, 2**24 - 1))
def test_both_messages_of_the_first_generation_have_one_grid(lat: int, lon: int, at: int, minutes: int) -> None:
    raw = lat.to_bytes(3, "big") + lon.to_bytes(3, "big")
    position = only_fix("opencollar_gen1", raw + struct.pack("<HBBBBBBI", 0, 0x91, 0, 0, 0, 0, 0, at), 1)
    logged = only_fix("opencollar_gen1", raw + minutes.to_bytes(3, "big") + b"\x00", 11)
    assert place(position) == place(logged)
    assert -90 < place(position)[0] <= 90
    assert -180 < place(position)[1] <= 180
    assert position.recorded_at == EPOCH + timedelta(seconds=at)
    assert logged.recorded_at == EPOCH + timedelta(seconds=1_600_000_000, minutes=minutes)


@examples(100)
@given(
    lat=st.tuples(st.booleans(), st.integers(0, 89), st.integers(0, 599_999)),
    lon=st.tuples(st.booleans(), st.integers(0, 179), st.integers(1, 599_999)),
)
def test_a_sigfox_coordinate_is_degrees_and_minutes(lat: tuple[bool, int, int], lon: tuple[bool, int, int]) -> None:
    raw = b"".join((is_minus << 31 | deg * 1_000_000 + part).to_bytes(4, "big") for is_minus, deg, part in (lat, lon))
    body = {"deviceId": "1", "time": 0, "data": (raw + bytes(4)).hex()}
    fix = only_fix("sigfox_rhino_v1", json.dumps(body).encode())
    meant = [(deg + part / 600_000) * (-1 if is_minus else 1) for is_minus, deg, part in (lat, lon)]
    assert place(fix) == pytest.approx(meant, abs=1e-9)


@examples(100)
@given(
    lat=st.integers(0, 9000 * 60 - 1), lon=st.integers(0, 18_000 * 60 - 1), south=st.booleans(), west=st.booleans(),
    second=st.integers(0, 86_399),
)  # fmt: skip
def test_a_plain_aprs_position_is_read_back(lat: int, lon: int, south: bool, west: bool, second: int) -> None:
    lat_text = f"{lat // 6000:02}{lat % 6000 // 100:02}.{lat % 100:02}{'NS'[south]}"
    lon_text = f"{lon // 6000:03}{lon % 6000 // 100:02}.{lon % 100:02}{'EW'[west]}"
    clock = f"{second // 3600:02}{second // 60 % 60:02}{second % 60:02}h"
    fix = only_fix("aprs", f"COLLAR-7>APRS:/{clock}{lat_text}/{lon_text}[".encode())
    meant = (lat / 6000 * (-1 if south else 1), lon / 6000 * (-1 if west else 1))
    assert place(fix) == pytest.approx(meant, abs=1e-9)
    assert fix.time_of_day is not None
    assert fix.time_of_day.hour * 3600 + fix.time_of_day.minute * 60 + fix.time_of_day.second == second


def base91(value: int) -> str:
    return "".join(chr(value // 91**power % 91 + 33) for power in (3, 2, 1, 0))


@examples(100)
@given(lat=st.integers(0, 380_926 * 180), lon=st.integers(0, min(190_463 * 360, 91**4 - 1)))
def test_a_packed_aprs_position_is_read_back(lat: int, lon: int) -> None:
    lat = min(lat, 91**4 - 1)
    fix = only_fix("aprs", f"COLLAR-7>APRS:!/{base91(lat)}{base91(lon)}[  !".encode())
    assert place(fix) == pytest.approx((90 - lat / 380_926, lon / 190_463 - 180), abs=1e-9)


def short(at: int, lat: int, lon: int) -> bytes:
    return encode_short(recorded_at=EPOCH + timedelta(seconds=at), lat_deg=lat / 1e7, lon_deg=lon / 1e7)


@examples(60)
@given(at=unix_s, lat=lat_e7, lon=lon_e7)
def test_one_message_is_one_fix_over_every_carrier(at: int, lat: int, lon: int) -> None:
    message = short(at, lat, lon)
    lp0 = pack_lp0(7, 13, message)
    header = struct.pack(">I15sBHHI", 1, b"300434061234560", 0, 1, 0, 0)
    buffer = encode_flash_log([(13, message, EPOCH)])
    stack = {
        "end_device_ids": {"dev_eui": "01" * 8},
        "uplink_message": {"f_port": 13, "frm_payload": b64encode(message).decode()},
    }
    carriers: list[tuple[Framing, bytes, str]] = [
        ("rak", b"+EVT:RXP2P:-94:-6:" + message.hex().encode(), ""),
        ("rn2483", b"radio_rx  " + lp0.hex().encode(), ""),
        ("rnode", encode_rnode(message, -94, -6), ""),
        ("lp0", json.dumps({"gatewayEui": "", "rxpk": {"data": b64encode(lp0).decode()}}).encode(), ""),
        ("directip", encode_directip({HEADER: header, PAYLOAD: buffer}), ""),
        ("mqtt", json.dumps(stack).encode(), "v3/a@t/devices/d/up"),
    ]
    fixes = {fix for carrier in carriers for up in decode_frame(Frame(*carrier)) for fix in up.fixes}
    assert [(fix.recorded_at, *place(fix)) for fix in fixes] == [(EPOCH + timedelta(seconds=at), lat / 1e7, lon / 1e7)]
