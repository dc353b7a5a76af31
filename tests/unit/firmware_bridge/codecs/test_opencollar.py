"""OpenCollar messages, and the traps that the field has found in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from firmware_bridge.codecs.opencollar import (
    FlashRecord,
    OpenCollarCodec,
    encode_device_time,
    encode_flash_log,
    encode_long,
    encode_short,
    encode_status,
)
from firmware_bridge.frames import DecodedFix, Uplink
from shared.errors import FrameError

AT = datetime(2026, 1, 1, tzinfo=UTC)
#: Where the firmware's clock starts.
CLOCK_START = datetime(2020, 11, 25, 14, 29, 35, tzinfo=UTC)
LONG = bytes.fromhex("f21e0100011b00c46694fe02564116b81c1200030906000100b9556900000000")
LONG_ACTIVE = bytes.fromhex("f21e0101000400c46694fe02564116b81c120003090600013cb9556901897602")
SHORT = bytes.fromhex("930e00b95569c46694fe025641160600")
STATUS = bytes.fromhex("f40e00207301a70580808a1872110000")


def decode(payload: bytes, port: int | None = None) -> Uplink:
    (uplink,) = OpenCollarCodec().decode(payload, port=port)
    return uplink


def fix_of(payload: bytes, port: int | None = None) -> DecodedFix:
    (fix,) = decode(payload, port).fixes
    return fix


def test_the_altitude_is_above_the_ellipsoid_and_leftovers_are_not_read() -> None:
    fix = fix_of(LONG[:-3] + b"\x89\x76\x02", 2)
    assert (fix.lat_deg, fix.lon_deg, fix.alt_m, fix.recorded_at) == (-2.3828796, 37.338061, 1187.0, AT)
    assert (fix.sats, fix.pdop, fix.h_acc_m, fix.hdop) == (9, 1.0, 6.0, None)
    assert (fix.heading_deg, fix.speed_mps) == (None, None)


def test_the_course_is_little_endian() -> None:
    fix = fix_of(LONG_ACTIVE, 2)
    assert (fix.heading_deg, fix.speed_mps) == (123.45, 2.0)


def test_a_western_course_is_counted_from_0_to_360() -> None:
    # -90 degrees, as (-90 * 100 + 18000).
    assert fix_of(LONG_ACTIVE[:29] + (9_000).to_bytes(2, "little") + b"\x01").heading_deg == 270.0


@pytest.mark.parametrize("fix_type", [0, 2, 3])
def test_without_success_there_is_no_position_whatever_the_message_holds(fix_type: int) -> None:
    refused = bytearray(LONG)
    refused[2] = 0b10  # special builds use the bits above the lowest
    refused[19] = fix_type
    uplink = decode(bytes(refused), 2)
    (fix,) = uplink.fixes
    assert (fix.recorded_at, fix.lon_deg, fix.lat_deg, fix.alt_m, fix.h_acc_m) == (AT, None, None, None, None)
    assert (uplink.details["quality"], uplink.details["lat"]) == ("no_fix", -2.3828796)


def test_success_is_the_lowest_bit_alone() -> None:
    assert fix_of(LONG[:2] + b"\xff" + LONG[3:], 2).lat_deg == -2.3828796


@pytest.mark.parametrize(
    ("after_start", "is_unset"),
    [
        (timedelta(seconds=-1), False),
        (timedelta(0), True),
        (timedelta(seconds=424), True),
        (timedelta(days=30, seconds=-1), True),
        (timedelta(days=30), False),
        (timedelta(days=1862), False),
    ],
)
def test_a_time_soon_after_the_firmwares_start_value_was_never_set(after_start: timedelta, is_unset: bool) -> None:
    fix = fix_of(encode_long(recorded_at=CLOCK_START + after_start, lat_deg=None, lon_deg=None))
    assert fix.is_clock_unset is is_unset


@pytest.mark.parametrize(("at", "is_unset"), [(datetime(1970, 1, 1, 0, 5, tzinfo=UTC), True), (AT, False)])
def test_a_clock_that_starts_at_zero_was_never_set(at: datetime, is_unset: bool) -> None:
    assert fix_of(encode_short(recorded_at=at, lat_deg=1, lon_deg=2)).is_clock_unset is is_unset


def test_the_id_decides_where_no_port_is_known() -> None:
    assert [decode(payload).port for payload in (LONG, SHORT, b"\x95" + SHORT[1:], STATUS)] == [2, 13, 16, 4]
    assert decode(LONG, 0).port == 2


def test_the_fix_of_a_short_message_and_of_its_resend_are_one() -> None:
    assert fix_of(SHORT, 13) == fix_of(b"\x95" + SHORT[1:], 16)


def test_a_status_speaks_of_the_device() -> None:
    status = decode(STATUS, 4).status
    assert status is not None
    assert (status.battery_mv, status.temperature_c, status.uptime_raw) == (3650, 30.98, 5)
    assert (status.firmware, status.hardware, status.errors) == ("v7.2", "1.8", ("ublox_fix",))


def test_a_charger_is_reported_only_while_it_charges() -> None:
    assert decode(STATUS).details["charge_mv"] == 0
    assert decode(STATUS[:-2] + b"\x0a\x00").details["charge_mv"] == 6000


def test_the_device_time_is_not_a_fix() -> None:
    uplink = decode(encode_device_time(AT), 18)
    assert (uplink.device_time, uplink.fixes) == (AT, ())


def test_messages_of_port_31_are_told_apart_by_their_id() -> None:
    last = fix_of(bytes.fromhex("fe10c46694fe02564116b81c120000b95569"), 31)
    assert (last.lat_deg, last.lon_deg, last.alt_m, last.recorded_at) == (-2.3828796, 37.338061, 1187.0, AT)
    assert decode(bytes.fromhex("fd06a1b2c3d4e5f6"), 31).details["mac"] == "a1:b2:c3:d4:e5:f6"
    assert decode(bytes.fromhex("f302a201"), 31).details["ack"] == "a201"


def test_a_last_position_of_zeros_is_none() -> None:
    assert decode(bytes.fromhex("fe10" + "00" * 12 + "00b95569"), 31).fixes == ()


def test_several_messages_in_one_payload_are_several_uplinks() -> None:
    uplinks = OpenCollarCodec().decode(LONG + STATUS + SHORT)
    assert [uplink.port for uplink in uplinks] == [2, 4, 13]


@pytest.mark.parametrize(
    ("payload", "port", "reason"),
    [
        (b"", None, "too few"),
        (b"\xf2", 2, "too few"),
        (LONG[:-1], 2, "cut short"),
        (b"\xf2\x1d" + LONG[2:-1], 2, "length 29 instead of 30"),
        (b"\xf2\x1f" + LONG[2:] + b"\x00", 2, "length 31 instead of 30"),
        (LONG + b"\x00", 2, "too few"),
        (SHORT, 2, "93 does not belong on port 2"),
        (b"\xf6\x01\x00", None, "unknown OpenCollar message F6"),
        (LONG, 30, "port 30"),
        (b"", 29, "empty"),
        (b"\x0d\x93\x0e", 29, "cut short"),
        (b"\x1e\xf2\x00" + bytes(4), 29, "does not belong on port 30"),
    ],
)
def test_what_cannot_be_read_says_why(payload: bytes, port: int | None, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        OpenCollarCodec().decode(payload, port=port)


def test_a_flash_record_keeps_its_own_port_and_the_time_it_was_stored() -> None:
    stored = [AT + timedelta(seconds=1), AT + timedelta(hours=1)]
    log = encode_flash_log([FlashRecord(13, SHORT, stored[0]), (2, LONG, stored[1])])
    uplink = decode(log, 29)
    assert [(r["port"], r["stored_at"]) for r in uplink.details["records"]] == [
        (13, int(stored[0].timestamp())),
        (2, int(stored[1].timestamp())),
    ]
    assert uplink.port == 29
    assert len(uplink.fixes) == 2
    assert uplink.details["unique_fixes"] == 1


def test_the_status_stored_last_is_the_status_of_a_flash_log() -> None:
    old, new = (encode_status(battery_mv=mv, temperature_c=20) for mv in (4000, 3600))
    log = encode_flash_log([(4, new, AT + timedelta(days=2)), (4, old, AT)])
    status = decode(log, 29).status
    assert status is not None
    assert status.battery_mv == 3600


def test_a_truncated_record_leaves_its_neighbours_and_is_reported() -> None:
    log = encode_flash_log([(13, SHORT, AT), (2, LONG, AT)])
    uplink = decode(log[:-5], 29)
    assert len(uplink.fixes) == 1
    (rest,) = uplink.details["unread"]
    assert rest["offset"] == 1 + len(SHORT) + 4
    assert rest["reason"] == "the record was cut short"


def test_an_encoder_refuses_what_no_field_holds() -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        encode_short(recorded_at=AT, lat_deg=300, lon_deg=0)
    with pytest.raises(ValueError, match="no zone"):
        encode_short(recorded_at=AT.replace(tzinfo=None), lat_deg=0, lon_deg=0)


def test_an_encoder_cuts_counts_to_their_field() -> None:
    fix = fix_of(encode_long(recorded_at=AT, lat_deg=0.1, lon_deg=0.1, sats=999, h_acc_m=1e6, ttf_s=-1))
    assert (fix.sats, fix.h_acc_m) == (255, 65535.0)
