"""COBS, SLIP and KISS: bytes on the wire, and what each refuses."""

from __future__ import annotations

import pytest

from firmware_bridge.frames import Frame
from firmware_bridge.framing.cobs import CobsDecoder, decode_cobs, encode_cobs, encode_frame
from firmware_bridge.framing.kiss import KissDecoder, encode_kiss
from firmware_bridge.framing.slip import SlipDecoder, encode_slip, unescape
from shared.errors import FrameError


@pytest.mark.parametrize(
    ("raw", "stuffed"),
    [
        ("", "01"),
        ("00", "0101"),
        ("0000", "010101"),
        ("11220033", "0311220233"),
        ("11000000", "0211010101"),
        ("c0db00c001", "03c0db03c001"),
        ("11" * 254, "ff" + "11" * 254),
        ("11" * 255, "ff" + "11" * 254 + "0211"),
    ],
)
def test_cobs_stuffs_as_its_paper_says(raw: str, stuffed: str) -> None:
    assert encode_cobs(bytes.fromhex(raw)).hex() == stuffed
    assert decode_cobs(bytes.fromhex(stuffed)).hex() == raw


def test_a_frame_is_payload_and_checksum_stuffed_and_ended() -> None:
    # 29b1 is the checksum of these nine bytes, and holds no zero.
    assert encode_frame(b"123456789") == b"\x0c123456789\x29\xb1\x00"
    assert CobsDecoder().feed(b"\x0c123456789\x29\xb1\x00") == [Frame("cobs", b"123456789")]


def test_an_empty_payload_is_a_frame() -> None:
    assert CobsDecoder().feed(encode_frame(b"")) == [Frame("cobs", b"")]


def test_delimiters_at_the_start_and_in_a_row_are_not_damage() -> None:
    decoder = CobsDecoder()
    assert decoder.feed(b"\x00\x00" + encode_frame(b"a") + b"\x00\x00\x00") == [Frame("cobs", b"a")]
    assert decoder.flush() == []
    assert (decoder.skipped, decoder.damaged) == (0, 0)


@pytest.mark.parametrize("wire", ["01", "0101", "0211", "05112200", "0311223344", "0c313233343536373839" + "29b2"])
def test_a_segment_without_a_true_checksum_is_damaged(wire: str) -> None:
    decoder = CobsDecoder()
    segment = bytes.fromhex(wire)
    frames = decoder.feed(segment + b"\x00" + encode_frame(b"next"))
    assert frames == [Frame("cobs", b"next")]
    assert decoder.damaged >= 1


def test_a_frame_that_lost_only_its_delimiter_is_given_on_silence() -> None:
    decoder = CobsDecoder()
    assert decoder.feed(encode_frame(b"whole")[:-1]) == []
    assert decoder.flush() == [Frame("cobs", b"whole")]
    assert decoder.damaged == 0


def test_half_a_frame_is_given_up_on_silence() -> None:
    decoder = CobsDecoder()
    decoder.feed(encode_frame(b"a longer payload")[:9])
    assert decoder.flush() == []
    assert (decoder.skipped, decoder.damaged) == (9, 1)
    assert decoder.feed(encode_frame(b"next")) == [Frame("cobs", b"next")]


def test_a_segment_beyond_the_bound_is_refused_however_it_comes() -> None:
    for step in (1, 7, 1000):
        decoder = CobsDecoder(max_frame=64)
        wire = b"\x11" * 200 + b"\x00" + encode_frame(b"next")
        frames = [f for i in range(0, len(wire), step) for f in decoder.feed(wire[i : i + step])]
        assert frames == [Frame("cobs", b"next")]
        assert (decoder.skipped, decoder.damaged) == (200, 1)


def test_bytes_that_cobs_never_gives_are_a_frame_error() -> None:
    with pytest.raises(FrameError, match="not COBS"):
        decode_cobs(b"\x05\x11")


def test_slip_escapes_its_two_bytes() -> None:
    assert encode_slip(bytes.fromhex("c0db00c001")).hex() == "c0dbdcdbdd00dbdc01c0"
    assert SlipDecoder().feed(bytes.fromhex("c0dbdcdbdd00dbdc01c0")) == [Frame("slip", bytes.fromhex("c0db00c001"))]


def test_slip_needs_no_delimiter_at_the_very_start() -> None:
    assert SlipDecoder().feed(b"first\xc0second\xc0") == [Frame("slip", b"first"), Frame("slip", b"second")]


@pytest.mark.parametrize("segment", [b"a\xdb", b"a\xdbb", b"\xdb\xdb\xdc"])
def test_an_escape_of_nothing_is_damage(segment: bytes) -> None:
    decoder = SlipDecoder()
    assert decoder.feed(b"\xc0" + segment + b"\xc0ok\xc0") == [Frame("slip", b"ok")]
    assert (decoder.skipped, decoder.damaged) == (len(segment), 1)
    with pytest.raises(FrameError, match="means nothing"):
        unescape(segment)


def test_half_a_slip_frame_is_given_up_on_silence() -> None:
    decoder = SlipDecoder()
    decoder.feed(b"\xc0half")
    assert decoder.flush() == []
    assert decoder.damaged == 1
    assert decoder.feed(b"\xc0next\xc0") == [Frame("slip", b"next")]


def test_kiss_gives_data_and_counts_what_else_the_modem_says() -> None:
    decoder = KissDecoder()
    wire = encode_kiss(b"data") + encode_kiss(b"\x10", command=1) + encode_kiss(b"other port", port=3) + b"\xc0\xff\xc0"
    assert decoder.feed(wire) == [Frame("kiss", b"data"), Frame("kiss", b"other port")]
    assert decoder.commands == 2
    assert (decoder.skipped, decoder.damaged) == (0, 0)


def test_kiss_frames_may_share_a_delimiter() -> None:
    assert KissDecoder().feed(b"\xc0\x00one\xc0\x00two\xc0") == [Frame("kiss", b"one"), Frame("kiss", b"two")]


def test_a_modems_greeting_is_not_data() -> None:
    decoder = KissDecoder()
    assert decoder.feed(b"\x00READY\r\n") == []
    assert decoder.feed(b"v1.2" + encode_kiss(b"data")) == [Frame("kiss", b"data")]
    assert decoder.skipped == len(b"\x00READY\r\nv1.2")


def test_half_a_kiss_frame_is_given_up_on_silence() -> None:
    decoder = KissDecoder()
    decoder.feed(b"\xc0\x00half")
    assert decoder.flush() == []
    assert decoder.damaged == 1
    assert decoder.feed(b"rest" + encode_kiss(b"next")) == [Frame("kiss", b"next")]


def test_kiss_has_sixteen_ports_and_commands() -> None:
    assert encode_kiss(b"x", port=15, command=15) == b"\xc0\xffx\xc0"
    with pytest.raises(ValueError, match="0 to 15"):
        encode_kiss(b"x", port=16)
