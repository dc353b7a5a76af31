"""Meshtastic positions in their three forms."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from typing import Any

import pytest

from firmware_bridge.codecs.registry import FORMATS, decode_frame
from firmware_bridge.frames import Frame, Uplink
from firmware_bridge.framing.meshtastic import MeshtasticDecoder, encode_mesh_frame
from shared.errors import FrameError

T = 1_767_225_600
AT = datetime(2026, 1, 1, tzinfo=UTC)
LAT, LON = -23_828_796, 373_380_610


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    head, rest = number & 0x7F, number >> 7
    return bytes((head | 0x80,)) + varint(rest) if rest else bytes((head,))


def fixed(number: int, value: int) -> bytes:
    return varint(number << 3 | 5) + struct.pack("<I", value & 0xFFFF_FFFF)


def block(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def count(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


POSITION = fixed(1, LAT) + fixed(2, LON) + count(3, -40) + fixed(4, T + 5) + fixed(7, T) + count(12, 110)


def packet(position: bytes = POSITION, *, rx_time: int = T + 6) -> bytes:
    data = count(1, 3) + block(2, position)
    return fixed(1, 0x7EFEEE00) + block(4, data) + fixed(6, 99) + fixed(7, rx_time) + count(12, -60)


def envelope(mesh_packet: bytes) -> bytes:
    return block(1, mesh_packet) + block(2, b"LongFast") + block(3, b"!0a0b0c0d")


def json_position(**payload: Any) -> dict[str, Any]:
    return {
        "from": 0x7EFEEE00,
        "type": "position",
        "timestamp": T + 6,
        "sender": "!0a0b0c0d",
        "payload": {"latitude_i": LAT, "longitude_i": LON, "altitude": -40, "time": T + 5, "timestamp": T, **payload},
    }


def heard(body: bytes | dict[str, Any]) -> Uplink:
    form = "e" if isinstance(body, bytes) else "json"
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    (uplink,) = decode_frame(Frame("mqtt", payload, f"msh/EU_868/2/{form}/LongFast/!0a0b0c0d"))
    return uplink


def test_serial_protobuf_and_json_of_a_packet_are_one_fix_of_one_device() -> None:
    (frame,) = MeshtasticDecoder().feed(encode_mesh_frame(block(2, packet())))
    (serial,) = decode_frame(frame)
    uplinks = [serial, heard(envelope(packet())), heard(json_position())]
    assert {uplink.device for uplink in uplinks} == {"mesh:!7efeee00"}
    places = {(fix.recorded_at, fix.lat_deg, fix.lon_deg, fix.alt_m) for up in uplinks for fix in up.fixes}
    assert places == {(AT, LAT / 1e7, LON / 1e7, -40.0)}
    assert {uplink.network_time for uplink in uplinks} == {datetime(2026, 1, 1, 0, 0, 6, tzinfo=UTC)}


def test_the_senders_clock_stands_in_for_the_receivers_time() -> None:
    assert heard(json_position(timestamp=0)).fixes[0].recorded_at == datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)


def test_a_position_without_any_time_gets_none_from_a_peer() -> None:
    uplink = heard(json_position(timestamp=0, time=0))
    assert (uplink.fixes[0].recorded_at, uplink.network_time) == (None, None)
    assert uplink.details["rx_time"] == T + 6


def test_a_node_whose_clock_nobody_set_tells_no_network_time() -> None:
    assert heard(envelope(packet(rx_time=500))).network_time is None
    assert heard(envelope(packet(rx_time=0))).network_time is None


def test_what_a_channel_blurred_has_the_radius_of_the_blur() -> None:
    assert heard(json_position(precision_bits=32)).fixes[0].h_acc_m is None
    assert heard(json_position(precision_bits=13)).fixes[0].h_acc_m == pytest.approx(2918, abs=1)


def test_a_node_that_tells_only_its_time_did_not_fail_to_fix() -> None:
    assert heard(envelope(packet(fixed(4, T)))).fixes == ()


def test_speed_and_course_have_no_unit_to_rely_on() -> None:
    fix = heard(json_position(ground_speed=20, ground_track=12_345)).fixes[0]
    assert (fix.speed_mps, fix.heading_deg) == (None, None)


def test_text_between_people_is_not_passed_on() -> None:
    uplink = heard({"from": 1, "type": "text", "payload": {"text": "meet me at the den"}})
    assert uplink.fixes == ()
    assert "den" not in str(uplink.details)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (block(1, fixed(1, 5) + block(5, b"secret")), "encrypted"),
        (block(1, fixed(1, 5)), "packet is empty"),
        (block(1, block(4, b"")), "names no sender"),
        (block(2, b"LongFast"), "envelope is empty"),
        (b"\xff", "does not end"),
    ],
)
def test_a_packet_that_cannot_be_read_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        heard(body)


def test_a_node_that_speaks_of_itself_is_no_packet() -> None:
    with pytest.raises(FrameError, match="speaks of itself"):
        FORMATS["meshtastic_serial"].decode(encode_mesh_frame(block(3, count(1, 1))))
