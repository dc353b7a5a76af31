"""Laws of framing: chunking does not matter, damage stays where it is, memory is bounded, silence frees it."""

from __future__ import annotations

import itertools
import os
import struct
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.frames import Frame, FrameDecoder
from firmware_bridge.framing.cobs import encode_frame
from firmware_bridge.framing.directip import HEADER, PAYLOAD, encode_directip
from firmware_bridge.framing.kiss import encode_kiss
from firmware_bridge.framing.meshtastic import encode_mesh_frame
from firmware_bridge.framing.nmea import encode_sentence
from firmware_bridge.framing.registry import DECODERS, decoder_for
from firmware_bridge.framing.rnode import encode_rnode
from firmware_bridge.framing.slip import encode_slip
from firmware_bridge.framing.ubx import encode_ubx

NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))
START = datetime(2026, 1, 1, tzinfo=UTC)
ALL = sorted(DECODERS)

#: Bytes that mean something to one of the framings, so that random noise hits their special cases.
SPECIAL = b"\x00\x01\xc0\xdb\xdc\xdd$*\r\n\xb5\x62\x07\x94\xc3\x23\x24+:>{}"


def examples(n: int) -> settings:
    return settings(max_examples=n * 10 if NIGHTLY else n, deadline=None, derandomize=True, database=None)


def noise(max_size: int = 200) -> st.SearchStrategy[bytes]:
    byte = st.one_of(st.sampled_from(SPECIAL), st.integers(0, 255))
    return st.lists(byte, max_size=max_size).map(bytes)


def epoch(number: int) -> bytes:
    """Return RMC and GGA of the ``number``-th second."""
    instant = START + timedelta(seconds=number)
    clock = f"{instant:%H%M%S}.00"
    return encode_sentence(
        f"GNRMC,{clock},A,0222.972776,S,03720.283660,E,1.4,123.4,{instant:%d%m%y},,,A,V"
    ) + encode_sentence(f"GNGGA,{clock},0222.972776,S,03720.283660,E,1,09,1.01,1202.2,M,-15.2,M,,")


def nav_pvt(number: int) -> bytes:
    """Return a NAV-PVT message that differs from that of any other number."""
    return encode_ubx(0x01, 0x07, struct.pack("<I", number) + bytes(88))


payloads = st.binary(min_size=1, max_size=60)


def delimited(name: str, encode: Callable[[bytes], bytes]) -> st.SearchStrategy[tuple[Frame, bytes]]:
    return payloads.map(lambda payload: (Frame(name, payload), encode(payload)))  # type: ignore[arg-type]


def numbered(kinds: Sequence[str]) -> st.SearchStrategy[list[tuple[Frame, bytes]]]:
    """Return epochs and messages in which no two neighbours share a time."""

    def build(chosen: list[str]) -> list[tuple[Frame, bytes]]:
        wires = [(kind, epoch(i) if kind == "nmea" else nav_pvt(i)) for i, kind in enumerate(chosen)]
        return [(Frame(kind, wire), wire) for kind, wire in wires]  # type: ignore[arg-type]

    return st.lists(st.sampled_from(kinds), min_size=1, max_size=8).map(build)


def hex_line(name: str, head: bytes) -> st.SearchStrategy[list[tuple[Frame, bytes]]]:
    lines = payloads.map(lambda payload: head + payload.hex().upper().encode())
    return st.lists(lines.map(lambda line: (Frame(name, line), line + b"\r\n")), min_size=1, max_size=8)  # type: ignore[arg-type]


def written(
    name: str, lines: st.SearchStrategy[bytes], end: bytes = b"\r\n"
) -> st.SearchStrategy[list[tuple[Frame, bytes]]]:
    return st.lists(lines.map(lambda line: (Frame(name, line), line + end)), min_size=1, max_size=8)  # type: ignore[arg-type]


def rnode_frame(payload: bytes, rssi_dbm: int, quarters: int) -> tuple[Frame, bytes]:
    wire = encode_rnode(payload, rssi_dbm, quarters / 4)
    return Frame("rnode", wire), wire


def mesh_frame(payload: bytes, portnum: int) -> tuple[Frame, bytes]:
    """Return a packet of the position application; lengths stay below 128 so that they are one byte."""
    data = b"\x08" + bytes((portnum,)) + b"\x12" + bytes((len(payload),)) + payload
    packet = b"\x0d\x01\x02\x03\x04\x22" + bytes((len(data),)) + data
    wire = encode_mesh_frame(b"\x12" + bytes((len(packet),)) + packet)
    return Frame("meshtastic", wire), wire


def directip_message(payload: bytes, number: int) -> tuple[Frame, bytes]:
    header = struct.pack(">I15sBHHI", number, b"300434061234560", 0, number & 0xFFFF, 0, 1_767_225_600)
    wire = encode_directip({HEADER: header, PAYLOAD: payload})
    return Frame("directip", wire), wire


waypoints = st.tuples(st.integers(0, 89), st.text("abcXYZ019 -", min_size=1, max_size=20)).map(
    lambda drawn: encode_sentence(f"GPWPL,{drawn[0]:02}22.97,S,03720.28,E,{drawn[1]}").rstrip()
)
aprs_lines = st.tuples(
    st.sampled_from(["COL", "COLLAR-7", "N0CALL-15"]), st.text("!/@0123456789.NSEW [=", min_size=1)
).map(lambda drawn: f"{drawn[0]}>APRS,WIDE1-1:{drawn[1]}".encode())
offload_lines = payloads.map(
    lambda payload: b'{"gatewayEui": "0102030405060708", "rxpk": {"data": "%b"}}' % b64encode(payload)
)

STREAMS: dict[str, st.SearchStrategy[list[tuple[Frame, bytes]]]] = {
    "cobs": st.lists(delimited("cobs", encode_frame), min_size=1, max_size=8),
    "slip": st.lists(delimited("slip", encode_slip), min_size=1, max_size=8),
    "kiss": st.lists(delimited("kiss", encode_kiss), min_size=1, max_size=8),
    "nmea": numbered(["nmea"]),
    "ubx": numbered(["ubx"]),
    "mixed": numbered(["nmea", "ubx"]),
    "rnode": st.lists(
        st.builds(rnode_frame, payloads, st.integers(-157, 98), st.integers(-128, 127)), min_size=1, max_size=8
    ),
    "rak": st.tuples(st.integers(-140, 0), st.integers(-20, 20)).flatmap(
        lambda signal: hex_line("rak", b"+EVT:RXP2P:%d:%d:" % signal)
    ),
    "rn2483": hex_line("rn2483", b"radio_rx  "),
    "lp0": written("lp0", offload_lines),
    "meshtastic": st.lists(st.builds(mesh_frame, payloads, st.just(3)), min_size=1, max_size=8),
    "wpl": written("wpl", waypoints),
    "ax25": st.lists(delimited("ax25", encode_kiss), min_size=1, max_size=8),
    "aprs": written("aprs", aprs_lines),
    "directip": st.lists(st.builds(directip_message, payloads, st.integers(0, 2**32 - 1)), min_size=1, max_size=8),
}
#: The last byte of a frame is all that parts it from the next: damage to it is damage to both.
SHARED_END = frozenset({"cobs", "aprs"})


def covered_by_checksum(framing: str, wire: bytes | bytearray) -> Sequence[int]:
    """Return the places at which a flipped bit must be noticed as damage."""
    if framing == "nmea":
        return range(1, wire.index(b"*"))
    if framing == "ubx":
        # A length that grows beyond the bound is no message at all, and so no damaged one.
        return [2, 3, *range(6, len(wire))]
    return range(len(wire) - 1)


def chunks(wire: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    return [wire[start:stop] for start, stop in itertools.pairwise(edges)]


def heard(decoder: FrameDecoder, parts: Sequence[bytes]) -> list[Frame]:
    """Return all frames of ``parts`` and of the silence after them."""
    frames = [frame for part in parts for frame in decoder.feed(part)]
    return frames + decoder.flush()


def held_bytes(thing: object) -> int:
    """Return how many bytes of the stream an object keeps, through all that hangs on it."""
    if isinstance(thing, bytes | bytearray):
        return len(thing)
    if isinstance(thing, dict):
        return sum(held_bytes(value) for value in thing.values())
    if isinstance(thing, list | tuple):
        return sum(held_bytes(value) for value in thing)
    return held_bytes(vars(thing)) if type(thing).__module__.startswith("firmware_bridge") else 0


@pytest.mark.parametrize("name", ALL)
@examples(30)
@given(data=st.data())
def test_what_was_sent_is_heard(name: str, data: st.DataObject) -> None:
    sent = data.draw(STREAMS[name])
    decoder = decoder_for(name)
    assert heard(decoder, [b"".join(wire for _, wire in sent)]) == [frame for frame, _ in sent]
    assert (decoder.skipped, decoder.damaged) == (0, 0)


@pytest.mark.parametrize("name", ALL)
@examples(30)
@given(data=st.data())
def test_chunking_does_not_matter(name: str, data: st.DataObject) -> None:
    sent = data.draw(STREAMS[name])
    wire = b"".join(part for _, frame in sent for part in (data.draw(noise(40)), frame))
    cuts = data.draw(st.lists(st.integers(0, 10_000), max_size=12))
    whole, cut, single = decoder_for(name), decoder_for(name), decoder_for(name)
    expected = heard(whole, [wire])
    assert heard(cut, chunks(wire, cuts)) == expected
    assert heard(single, [wire[i : i + 1] for i in range(len(wire))]) == expected
    for other in (cut, single):
        assert (other.skipped, other.damaged) == (whole.skipped, whole.damaged)


@pytest.mark.parametrize("name", ALL)
@examples(25)
@given(data=st.data())
def test_chunking_does_not_matter_in_noise_beyond_every_bound(name: str, data: st.DataObject) -> None:
    wire = data.draw(noise(60)) * data.draw(st.integers(1, 150))
    cuts = data.draw(st.lists(st.integers(0, 10_000), max_size=12))
    whole, cut = decoder_for(name), decoder_for(name)
    assert heard(cut, chunks(wire, cuts)) == heard(whole, [wire])
    assert (cut.skipped, cut.damaged) == (whole.skipped, whole.damaged)


@pytest.mark.parametrize("name", ALL)
@examples(30)
@given(data=st.data())
def test_damage_to_one_frame_never_costs_another(name: str, data: st.DataObject) -> None:
    sent = data.draw(STREAMS[name])
    victim = data.draw(st.integers(0, len(sent) - 1))
    wire = bytearray(sent[victim][1])
    last = len(wire) - (2 if name in SHARED_END else 1)
    wire[data.draw(st.integers(0, last))] ^= data.draw(st.integers(1, 255))
    parts = [bytes(wire) if i == victim else part for i, (_, part) in enumerate(sent)]
    frames = heard(decoder_for(name), parts)
    before = [frame for frame, _ in sent[:victim]]
    after = [frame for frame, _ in sent[victim + 1 :]]
    assert frames[: len(before)] == before
    assert frames[len(frames) - len(after) :] == after


@pytest.mark.parametrize("name", ["cobs", "nmea", "ubx", "mixed"])
@examples(30)
@given(data=st.data())
def test_a_frame_with_a_wrong_checksum_is_counted_and_not_given(name: str, data: st.DataObject) -> None:
    sent = data.draw(STREAMS[name])
    victim = data.draw(st.integers(0, len(sent) - 1))
    wire = bytearray(sent[victim][1])
    wire[data.draw(st.sampled_from(covered_by_checksum(sent[victim][0].framing, wire)))] ^= data.draw(
        st.integers(1, 255)
    )
    decoder = decoder_for(name)
    frames = heard(decoder, [bytes(wire) if i == victim else part for i, (_, part) in enumerate(sent)])
    assert frames != [frame for frame, _ in sent]
    assert decoder.damaged >= 1
    assert decoder.skipped > 0


@pytest.mark.parametrize("name", ALL)
@examples(25)
@given(data=st.data())
def test_noise_before_a_silence_never_costs_the_frame_after_it(name: str, data: st.DataObject) -> None:
    sent = data.draw(STREAMS[name])
    decoder = decoder_for(name)
    heard(decoder, [data.draw(noise())])
    assert heard(decoder, [wire for _, wire in sent]) == [frame for frame, _ in sent]


@pytest.mark.parametrize("name", ALL)
@examples(30)
@given(data=st.data())
def test_buffers_stay_bounded_and_a_silence_empties_them(name: str, data: st.DataObject) -> None:
    decoder = decoder_for(name)
    piece = data.draw(noise(80))
    start = data.draw(
        st.sampled_from(
            [b"", b"\xc0\x00", b"$GNRMC,", b"\xb5\x62\x01\x07\xff\x07", b"\x94\xc3\x02\x00", b"\x01\x09\x00"]
        )
    )
    decoder.feed(start)
    for _ in range(120):
        decoder.feed(piece)
        # One message at its longest, and one epoch of three sentences.
        assert held_bytes(decoder) <= 2400 + 3 * 256
    decoder.flush()
    assert held_bytes(decoder) == 0


@pytest.mark.parametrize("name", ["ubx", "mixed"])
@examples(25)
@given(length=st.integers(0, 0xFFFF), kind=st.binary(min_size=2, max_size=2), data=st.data())
def test_a_false_sync_word_holds_nothing_up_beyond_a_silence(
    name: str, length: int, kind: bytes, data: st.DataObject
) -> None:
    sent = data.draw(STREAMS[name])
    frames = heard(decoder_for(name), [b"\xb5\x62" + kind + struct.pack("<H", length), *(wire for _, wire in sent)])
    assert frames == [frame for frame, _ in sent]


@pytest.mark.parametrize("name", ALL)
@examples(40)
@given(parts=st.lists(noise(), max_size=6))
def test_noise_never_raises_and_every_byte_is_accounted_for(name: str, parts: list[bytes]) -> None:
    decoder = decoder_for(name)
    frames = heard(decoder, parts)
    assert decoder.skipped <= sum(map(len, parts))
    if not frames and name in {"ubx", "mixed"}:
        assert decoder.skipped == sum(map(len, parts))
