"""Our own JSON fix: strict types, clear reasons."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from firmware_bridge.codecs.outpost_json import OutpostJsonCodec, encode_fix
from firmware_bridge.frames import Uplink
from shared.errors import FrameError

TOPIC = "outpost/post-1/gw-2/fix"
AT = datetime(2026, 1, 1, tzinfo=UTC)


def body(**fields: Any) -> bytes:
    fix = {"collar_id": "COL001", "recorded_at": "2026-01-01T00:00:00Z", "lon_deg": 37.338061, "lat_deg": -2.3828796}
    return json.dumps(fix | fields).encode()


def decode(payload: bytes, topic: str = TOPIC) -> Uplink:
    (uplink,) = OutpostJsonCodec().decode(payload, topic=topic)
    return uplink


def test_every_field_is_taken() -> None:
    uplink = decode(
        body(seq=7, alt_m=1187, hdop=1.5, sats=9, battery_mv=3650, temperature_c=31.5, speed_mps=0.5, heading_deg=-90)
    )
    (fix,) = uplink.fixes
    assert uplink.device == "collar:COL001"
    assert (fix.recorded_at, fix.lon_deg, fix.lat_deg) == (AT, 37.338061, -2.3828796)
    assert (fix.seq, fix.alt_m, fix.hdop, fix.sats) == (7, 1187.0, 1.5, 9)
    assert (fix.battery_mv, fix.temperature_c, fix.speed_mps, fix.heading_deg) == (3650, 31.5, 0.5, 270.0)


def test_the_receipt_goes_beside_the_topic_of_the_fix() -> None:
    assert decode(body()).receipt_topic == "outpost/post-1/gw-2/ack"
    assert decode(body(), topic="").receipt_topic is None


def test_any_zone_is_read_as_the_instant_that_it_names() -> None:
    assert decode(body(recorded_at="2026-01-01T03:00:00.5+03:00")).fixes[0].recorded_at == AT.replace(
        microsecond=500_000
    )


def test_two_nulls_are_a_failed_fix() -> None:
    (fix,) = decode(body(lon_deg=None, lat_deg=None)).fixes
    assert (fix.recorded_at, fix.lon_deg, fix.lat_deg) == (AT, None, None)


def test_fields_of_a_newer_gateway_are_ignored() -> None:
    assert len(decode(body(mood="calm")).fixes) == 1


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (body(lon_deg=180.1), r"<= 180.*lon_deg"),
        (body(lat_deg=-90.1), r">= -90.*lat_deg"),
        (body(lon_deg=float("nan")), "malformed"),
        (body().replace(b"37.338061", b"1e999"), r"out of range.*lon_deg"),
        (body(lat_deg=None), "both"),
        (body(lat_deg="-2.3"), r"got `str`.*lat_deg"),
        (body(seq=True), r"got `bool`.*seq"),
        (body(seq=1.5), r"got `float`.*seq"),
        (body(seq=2**63), "seq"),
        (body(recorded_at="2026-01-01T00:00:00"), r"timezone.*recorded_at"),
        (body(recorded_at="2026-13-01T00:00:00Z"), "recorded_at"),
        (body(recorded_at=1767225600), "recorded_at"),
        (body(recorded_at="0001-01-01T00:00:00+14:00"), "beyond the calendar"),
        (body(collar_id=""), "collar_id"),
        (body(collar_id="a" * 65), "collar_id"),
        (body(collar_id="a b"), "collar_id"),
        (body(collar_id="a\n"), "collar_id"),
        (b'{"collar_id":"COL001"}', "recorded_at"),
        (b'{"collar_id":"\xff"}', "UTF-8"),
        (b"", "truncated"),
    ],
)
def test_what_cannot_be_read_says_why(payload: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        OutpostJsonCodec().decode(payload, topic=TOPIC)


def test_the_encoder_leaves_out_what_is_unknown() -> None:
    wire = encode_fix(collar_id="COL001", recorded_at=AT, lon_deg=1.5, lat_deg=2.5, seq=None, sats=4)
    assert json.loads(wire) == {
        "collar_id": "COL001",
        "recorded_at": "2026-01-01T00:00:00Z",
        "lon_deg": 1.5,
        "lat_deg": 2.5,
        "sats": 4,
    }


@pytest.mark.parametrize("wrong", [{"lon_deg": 200.0}, {"lon_deg": float("nan")}, {"foo": 1.0}, {"sats": 1.5}])
def test_the_encoder_writes_nothing_that_the_decoder_refuses(wrong: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"lon_deg": 1.0, "lat_deg": 2.0} | wrong
    with pytest.raises(ValueError, match=next(iter(wrong))):
        encode_fix(collar_id="COL001", recorded_at=AT, **fields)
