"""NAV-PVT: flags decide, not coordinates."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta

import pytest

from firmware_bridge.codecs.ubx import NavPvtCodec
from firmware_bridge.frames import DecodedFix, Uplink
from firmware_bridge.framing.ubx import encode_ubx
from shared.errors import FrameError

AT = datetime(2026, 1, 1, 12, 0, 5, tzinfo=UTC)
_FIELDS = struct.Struct("<IHBBBBBBIiBBBBiiiiIIiiiiiIIHB")


def pvt(
    *,
    month: int = 1,
    second: int = 5,
    valid: int = 0b111,
    nano: int = 0,
    fix_type: int = 3,
    flags: int = 1,
    h_acc_mm: int = 4816,
    heading_e5: int = 12_340_000,
    flags3: int = 0,
    length: int = 92,
) -> bytes:
    body = _FIELDS.pack(
        *(345_618_000, 2026, month, 1, 12, 0, second, valid, 25, nano, fix_type, flags, 0, 9),
        *(373_380_610, -23_828_796, 1_187_000, 1_202_200, h_acc_mm, 9000, 0, 0, 0, 720, heading_e5, 0, 0, 120, flags3),
    )
    return encode_ubx(0x01, 0x07, body.ljust(length, b"\x00"))


def decode(payload: bytes) -> Uplink:
    (uplink,) = NavPvtCodec().decode(payload)
    return uplink


def fix_of(payload: bytes) -> DecodedFix:
    (fix,) = decode(payload).fixes
    return fix


@pytest.mark.parametrize("length", [84, 92])
def test_a_fix_has_the_altitude_above_the_sea(length: int) -> None:
    fix = fix_of(pvt(length=length))
    assert (fix.recorded_at, fix.lat_deg, fix.lon_deg, fix.alt_m) == (AT, -2.3828796, 37.338061, 1202.2)
    assert (fix.sats, fix.pdop, fix.h_acc_m) == (9, 1.2, 4.816)
    assert (fix.speed_mps, fix.heading_deg) == (0.72, 123.4)


def test_nanoseconds_may_be_before_the_second() -> None:
    assert fix_of(pvt(nano=-277_753)).recorded_at == AT - timedelta(microseconds=278)
    assert fix_of(pvt(nano=500_000_000)).recorded_at == AT + timedelta(milliseconds=500)


def test_a_leap_second_is_read() -> None:
    assert fix_of(pvt(second=60)).recorded_at == AT + timedelta(seconds=55)


def test_a_western_heading_is_counted_from_0_to_360() -> None:
    assert fix_of(pvt(heading_e5=-9_000_000)).heading_deg == 270.0


def test_an_unknown_accuracy_is_not_four_thousand_kilometres() -> None:
    assert fix_of(pvt(h_acc_mm=0xFFFF_FFFF)).h_acc_m is None


@pytest.mark.parametrize(
    ("payload", "reason", "recorded_at"),
    [
        (pvt(valid=0b110), "validDate=0", None),
        (pvt(valid=0b101), "validTime=0", None),
        (pvt(flags=0), "gnssFixOk=0", AT),
        (pvt(fix_type=0), "fixType=0", AT),
        (pvt(fix_type=1), "fixType=1", AT),
        (pvt(fix_type=4), "fixType=4", AT),
        (pvt(fix_type=5), "fixType=5", AT),
        (pvt(flags3=1), "invalidLlh=1", AT),
        (pvt(valid=0, fix_type=0), "validDate=0,fixType=0", None),
    ],
)
def test_what_the_receiver_does_not_vouch_for_is_no_fix(
    payload: bytes, reason: str, recorded_at: datetime | None
) -> None:
    uplink = decode(payload)
    (fix,) = uplink.fixes
    assert (fix.lat_deg, fix.lon_deg, fix.alt_m, fix.recorded_at) == (None, None, None, recorded_at)
    assert (uplink.details["valid"], uplink.details["reason"]) == (False, reason)


def test_a_2d_fix_is_a_fix() -> None:
    assert fix_of(pvt(fix_type=2)).lat_deg == -2.3828796


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not NAV-PVT"),
        (encode_ubx(0x01, 0x35, bytes(92)), "01-35 is not NAV-PVT"),
        (pvt()[:-3], "97 bytes"),
        (encode_ubx(0x01, 0x07, bytes(20)), "28 bytes"),
        (pvt()[:-1] + b"\x00", "checksum"),
        (b"\xb5\x63" + pvt()[2:], "header"),
        (pvt(month=13), "does not exist"),
    ],
)
def test_what_cannot_be_read_says_why(payload: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        NavPvtCodec().decode(payload)
