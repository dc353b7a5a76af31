"""RNode: KISS frames of a packet and of how it was heard."""

from __future__ import annotations

import pytest

from firmware_bridge.frames import Frame
from firmware_bridge.framing.registry import decoder_for
from firmware_bridge.framing.rnode import Heard, RNodeDecoder, decode_rnode, encode_rnode
from shared.errors import FrameError

WIRE = bytes.fromhex("c02363c0c024e8c0c000aabbc0")


def test_rssi_and_snr_travel_with_their_packet() -> None:
    (frame,) = RNodeDecoder().feed(WIRE)
    assert frame == Frame("rnode", WIRE)
    assert decode_rnode(frame.payload) == Heard(b"\xaa\xbb", -58.0, -6.0)


@pytest.mark.parametrize(("snr_db", "escaped"), [(-16.0, b"\xdb\xdc"), (-9.25, b"\xdb\xdd")])
def test_a_signal_that_looks_like_a_delimiter_is_escaped(snr_db: float, escaped: bytes) -> None:
    wire = encode_rnode(b"a", -58, snr_db)
    assert escaped in wire
    (frame,) = RNodeDecoder().feed(wire)
    assert decode_rnode(frame.payload).snr_db == snr_db


def test_the_signal_of_one_packet_is_never_that_of_the_next() -> None:
    decoder = RNodeDecoder()
    first, second = decoder.feed(WIRE + b"\xc0\x00\xcc\xc0")
    assert decode_rnode(first.payload).rssi_dbm == -58.0
    assert decode_rnode(second.payload) == Heard(b"\xcc")
    decoder.feed(b"\xc0\x23\x63\xc0")
    decoder.flush()
    (third,) = decoder.feed(b"\xc0\x00\xdd\xc0")
    assert decode_rnode(third.payload) == Heard(b"\xdd")


def test_what_the_modem_says_of_itself_is_counted_and_not_passed_on() -> None:
    decoder = RNodeDecoder()
    assert decoder.feed(b"\xc0\x08\x46\xc0\xc0\x06\x01\xc0") == []
    assert (decoder.commands, decoder.damaged) == (2, 0)


@pytest.mark.parametrize("wire", ["", "c02363c0", "c000aac0c000bbc0", "c02300ffc0c000aac0", "c00646c0", "c000db00c0"])
def test_what_is_not_one_packet_is_refused(wire: str) -> None:
    with pytest.raises(FrameError):
        decode_rnode(bytes.fromhex(wire))


def test_ax25_modems_speak_kiss_under_a_name_of_their_own() -> None:
    assert decoder_for("ax25").feed(b"\xc0\x00abc\xc0") == [Frame("ax25", b"abc")]
