"""Frames that say their length and have no checksum: Meshtastic's and DirectIP's."""

from __future__ import annotations

import struct

import pytest

from firmware_bridge.frames import Frame
from firmware_bridge.framing.directip import HEADER, LOCATION, PAYLOAD, DirectIpDecoder, elements_of, encode_directip
from firmware_bridge.framing.meshtastic import MAX_BODY, MeshtasticDecoder, body_of, encode_mesh_frame
from firmware_bridge.framing.protobuf import read_fields
from shared.errors import FrameError

IRIDIUM = encode_directip({HEADER: struct.pack(">I15sBHHI", 7, b"3" * 15, 0, 1, 0, 0), PAYLOAD: b"\x01\x02\x03"})


def packet(*, portnum: int = 3) -> bytes:
    """Return a mesh packet of one application, with one byte of content."""
    data = bytes((0x08, portnum, 0x12, 1, 0xAA))
    body = b"\x0d\x01\x00\x00\x00\x22" + bytes((len(data),)) + data
    return encode_mesh_frame(b"\x12" + bytes((len(body),)) + body)


ENCRYPTED = encode_mesh_frame(b"\x12\x08\x0d\x01\x00\x00\x00\x2a\x01\xaa")
MY_INFO = encode_mesh_frame(b"\x1a\x02\x08\x01")


def test_a_position_is_found_in_a_nodes_log() -> None:
    decoder = MeshtasticDecoder()
    log = b"INFO | ??:??:?? 5 [Router] heard \xc3\x94\r\n"
    assert decoder.feed(log + packet() + log) == [Frame("meshtastic", packet())]
    assert decoder.skipped == 2 * len(log)


def test_other_peoples_messages_and_the_nodes_own_configuration_are_not_passed_on() -> None:
    decoder = MeshtasticDecoder()
    assert decoder.feed(packet(portnum=1) + MY_INFO + packet()) == [Frame("meshtastic", packet())]
    assert (decoder.ignored, decoder.damaged) == (2, 0)


def test_an_encrypted_packet_is_passed_on_as_it_may_be_a_position() -> None:
    assert MeshtasticDecoder().feed(ENCRYPTED) == [Frame("meshtastic", ENCRYPTED)]


def test_a_false_start_claims_no_frame_that_stands_inside_its_length() -> None:
    decoder = MeshtasticDecoder()
    assert decoder.feed(b"\x94\xc3\x00\x20" + packet() + bytes(16)) == [Frame("meshtastic", packet())]
    assert decoder.damaged == 1


def test_a_length_beyond_the_bound_claims_nothing() -> None:
    decoder = MeshtasticDecoder()
    assert decoder.feed(b"\x94\xc3\xff\xff" + packet()) == [Frame("meshtastic", packet())]
    assert decoder.damaged == 0
    with pytest.raises(ValueError, match="513 bytes"):
        encode_mesh_frame(bytes(MAX_BODY + 1))


def test_a_false_start_is_given_up_on_silence() -> None:
    decoder = MeshtasticDecoder()
    assert decoder.feed(b"\x94\xc3\x01\xff" + packet()) == []
    assert decoder.flush() == [Frame("meshtastic", packet())]


@pytest.mark.parametrize("frame", [b"", b"\x94\xc3\x00", packet()[:-1], packet() + b"\x00", b"\x94\xc4" + packet()[2:]])
def test_what_is_no_whole_frame_has_no_body(frame: bytes) -> None:
    with pytest.raises(FrameError):
        body_of(frame)


def test_a_directip_message_is_found_between_noise() -> None:
    decoder = DirectIpDecoder()
    assert decoder.feed(b"\x01\x00" + b"\x01\xff\xff" + IRIDIUM) == [Frame("directip", IRIDIUM)]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "begins with 01"),
        (b"\x02\x00\x00", "begins with 01"),
        (IRIDIUM[:-1], "says"),
        (encode_directip({PAYLOAD: b"a"}), "neither a header nor a confirmation"),
        (encode_directip({HEADER: b"too short"}), "cannot have 9 bytes"),
        (encode_directip({HEADER: bytes(28), LOCATION: bytes(10)}), "cannot have 10 bytes"),
        (b"\x01\x00\x05\x05\x00\x02\x01\x01", "cannot have 2 bytes"),
        (b"\x01\x00\x04\x05\x00\x02\x01", "cut short"),
        (b"\x01\x00\x08\x05\x00\x01\x01\x05\x00\x01\x01", "twice"),
    ],
)
def test_a_directip_message_that_does_not_add_up_is_refused(message: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        elements_of(message)


def test_elements_come_in_any_order_and_unknown_ones_are_stepped_over() -> None:
    found = elements_of(encode_directip({0x7A: b"new", PAYLOAD: b"a", HEADER: bytes(28)}))
    assert (found[PAYLOAD], found[HEADER]) == (b"a", bytes(28))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x00\x00", "field number 0"),
        (b"\x0b", "wire type 3"),
        (b"\x0d\x00\x00", "cut short: 2 of 4"),
        (b"\x12\x05abc", "cut short: 3 of 5"),
        (b"\x08\xff", "does not end"),
        (b"\x08" + b"\xff" * 11, "does not end"),
    ],
)
def test_a_protobuf_message_that_cannot_be_taken_apart_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        read_fields(data)


def test_protobuf_numbers_of_every_kind_are_read() -> None:
    fields = read_fields(
        b"\x08\xc4\xff\xff\xff\xff\xff\xff\xff\xff\x01" + b"\x10\x03" + b"\x1d\xfe\xff\xff\xff"
        + b"\x25\x00\x00\xd0\x40" + b"\x2a\x02hi" + b"\x31" + bytes(8) + b"\x10\x05"
    )  # fmt: skip
    assert fields.signed(1) == -60
    assert (fields.unsigned(2), fields.zigzag(2)) == (5, -3)  # the last one counts
    assert (fields.sfixed32(3), fields.fixed32(3)) == (-2, 2**32 - 2)
    assert fields.float32(4) == 6.5
    assert fields.text(5) == "hi"
    assert (fields.unsigned(5), fields.raw(4), fields.fixed32(6), fields.message(9)) == (None, None, None, None)
