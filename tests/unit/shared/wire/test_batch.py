"""Batches: what comes back is what went in, and what is broken is refused with a sentence."""

from __future__ import annotations

import math
import random
import struct
import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard

from shared.errors import BatchTooNew, Invalid
from shared.sync.operations import Operation
from shared.sync.records import ENTITIES, Mark, Record
from shared.wire.batch import (
    FIX_COLUMNS,
    MAX_BATCH_BYTES,
    MAX_PLAIN_BYTES,
    MAX_ROWS,
    FixColumns,
    decode_fixes,
    decode_records,
    encode_fixes,
    encode_records,
)
from shared.wire.batch.container import Reader, Writer, pack, unpack
from shared.wire.batch.integers import write_integers
from tests.benchmarks import wire
from tests.real_data import tracks

NAMES = [column.name for column in FIX_COLUMNS]


def rows(columns: FixColumns) -> list[tuple[str, ...]]:
    """Return the rows as text, sorted: floats by their bits, whole numbers apart from floats."""
    count = len(columns["collar_id"])
    whole = [columns.get(column.name) or [column.default] * count for column in FIX_COLUMNS]
    return sorted(
        tuple(exactly(it, is_decimal=column.kind == "decimal") for column, it in zip(FIX_COLUMNS, row, strict=True))
        for row in zip(*whole, strict=True)
    )


def exactly(value: Any, *, is_decimal: bool) -> str:
    is_float = isinstance(value, float) or (is_decimal and value is not None)
    return struct.pack(">d", value).hex() if is_float else repr(value)


def herd(count: int, seed: int = 1) -> FixColumns:
    """Return fixes of every kind: walks, failed fixes, odd floats, texts."""
    rng = random.Random(seed)
    made: FixColumns = {name: [] for name in NAMES}
    place = {
        f"K{number:02}": [rng.randrange(-1_800_000_000, 1_800_000_000), rng.randrange(900_000_000)]
        for number in range(9)
    }
    for step in range(count):
        collar = rng.choice(sorted(place))
        spot = place[collar]
        spot[0] += rng.randrange(-30_000, 30_000)
        spot[1] += rng.randrange(-30_000, 30_000)
        has_position = rng.random() > 0.05
        raw_ms = 1_700_000_000_000 + step * 600_000 + rng.randrange(20) * 1000
        received_ms = raw_ms + rng.randrange(1000, 9000)
        row: dict[str, Any] = {
            "collar_id": collar,
            "raw_ms": raw_ms,
            "received_ms": received_ms,
            "sure_received_ms": received_ms if rng.random() > 0.1 else None,
            "network_ms": received_ms - 40 if rng.random() > 0.5 else None,
            "lon_e7": spot[0] if has_position else None,
            "lat_e7": spot[1] if has_position else None,
            "source": rng.choice(["collar", "collar", "gps"]),
            "alt_m": round(rng.gauss(1500, 30), 1),
            "speed_mps": rng.randrange(80) / 10 / 3.6,
            "heading_deg": (rng.randrange(36_000) - 18_000) / 100 % 360.0,
            "hdop": rng.choice([None, 1.2, 0.9, 3.0]),
            "pdop": rng.random(),
            "h_acc_m": rng.randrange(90) * 0.1,
            "battery_pct": float(rng.randrange(100)),
            "temperature_c": rng.randrange(256) * 200 / 255 - 100,
            "snr_db": rng.choice([-7.25, 9.5, None, -0.0, 1e300, 5e-324]),
            "sats": rng.randrange(4, 14),
            "seq": step,
            "battery_mv": rng.randrange(3500, 4200),
            "rssi_dbm": rng.choice([-101, -87.5, -90.0, None]),
            "link": rng.choice(["lora", "mqtt://broker/ä", None]),
            "local_id": f"obs-{step:05}" if rng.random() > 0.5 else None,
            "activity_type": rng.choice([None, "grazing"]),
            "notes": rng.choice([None, "", "Ndovu \U0001f418 karibu na mto", "a\x00b"]),
            "said_animal_id": rng.choice([None, "a1"]),
            "is_clock_unset": int(rng.random() < 0.02),
        }
        for name, value in row.items():
            made[name].append(value)
    return made


@pytest.mark.parametrize("count", [0, 1, 2, 7, 40, 1000])
def test_every_column_comes_back(count: int) -> None:
    columns = herd(count)
    back = decode_fixes(encode_fixes(columns))
    assert list(back) == NAMES
    assert rows(back) == rows(columns)


def test_rows_come_back_sorted_and_their_order_does_not_matter() -> None:
    columns = herd(200)
    order = list(range(200))
    random.Random(3).shuffle(order)
    shuffled = {name: [values[place] for place in order] for name, values in columns.items()}
    data = encode_fixes(shuffled)
    assert data == encode_fixes(columns)
    back = decode_fixes(data)
    keys = list(zip(back["collar_id"], back["raw_ms"], strict=True))
    assert keys == sorted(keys)


def test_absent_columns_have_their_defaults() -> None:
    back = decode_fixes(encode_fixes({"collar_id": ["K1"], "raw_ms": [5]}))
    assert back == {column.name: [column.default] for column in FIX_COLUMNS} | {"collar_id": ["K1"], "raw_ms": [5]}
    assert (back["source"], back["is_clock_unset"], back["received_ms"]) == (["collar"], [0], [None])


@pytest.mark.parametrize("extreme", [0, -1, 2**63 - 1, -(2**63), 2**53 + 1])
def test_integers_of_64_bits_come_back(extreme: int) -> None:
    for others in ([0], [extreme] * 3, [2**63 - 1, -(2**63), 7], list(range(50))):
        values = [extreme, *others]
        columns: FixColumns = {"collar_id": ["K"] * len(values), "raw_ms": list(values)}
        columns |= {name: list(values) for name in ("received_ms", "sure_received_ms", "lon_e7", "seq", "rssi_dbm")}
        assert rows(decode_fixes(encode_fixes(columns))) == rows(columns)


def test_whole_numbers_and_floats_of_one_column_stay_what_they_are() -> None:
    values = [-100, -100.0, -99.5, None, -0.0, 0, 7]
    columns: FixColumns = {"collar_id": ["K"] * 7, "raw_ms": list(range(7)), "rssi_dbm": values}
    back = decode_fixes(encode_fixes(columns))["rssi_dbm"]
    assert [(type(it), repr(it)) for it in back] == [(type(it), repr(it)) for it in values]


def test_a_whole_number_in_a_column_of_decimals_is_that_decimal() -> None:
    columns: FixColumns = {"collar_id": ["K", "K"], "raw_ms": [1, 2], "hdop": [3, 1.5]}
    assert decode_fixes(encode_fixes(columns))["hdop"] == [3.0, 1.5]


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("hdop", math.nan, "hdop"),
        ("hdop", math.inf, "hdop"),
        ("rssi_dbm", -math.inf, "rssi_dbm"),
        ("rssi_dbm", 2**64, "rssi_dbm"),
        ("hdop", 2**53 + 1, "hdop"),
        ("hdop", 10**400, "hdop"),
        ("hdop", "1.5", "hdop"),
        ("hdop", True, "hdop"),
        ("seq", 1.0, "seq"),
        ("seq", 2**63, "seq"),
        ("raw_ms", None, "raw_ms"),
        ("raw_ms", -(2**63) - 1, "raw_ms"),
        ("collar_id", None, "collar_id"),
        ("collar_id", 7, "collar_id"),
        ("source", None, "source"),
        ("is_clock_unset", None, "is_clock_unset"),
        ("is_clock_unset", 2, "is_clock_unset"),
        ("notes", b"x", "notes"),
        ("notes", "\ud800", "Unicode"),
        ("collar_id", "\ud800", "Unicode"),
    ],
)
def test_what_cannot_be_sent_is_refused(column: str, value: object, says: str) -> None:
    columns: FixColumns = {"collar_id": ["K1"], "raw_ms": [5], column: [value]}
    with pytest.raises(Invalid, match=says):
        encode_fixes(columns)


def test_columns_must_be_known_and_of_one_length() -> None:
    good: FixColumns = {"collar_id": ["K1"], "raw_ms": [5]}
    with pytest.raises(Invalid, match="colour"):
        encode_fixes({**good, "colour": ["grey"]})
    with pytest.raises(Invalid, match="seq: has 2 values"):
        encode_fixes({**good, "seq": [1, 2]})
    with pytest.raises(Invalid, match="raw_ms: is required"):
        encode_fixes({"collar_id": []})
    with pytest.raises(Invalid, match="collar_id: is required"):
        encode_fixes({"raw_ms": []})


def test_limits_hold_when_writing() -> None:
    count = MAX_ROWS + 1
    with pytest.raises(Invalid, match=str(MAX_ROWS)):
        encode_fixes({"collar_id": ["K"] * count, "raw_ms": [0] * count})
    noise = random.Random(1).randbytes(MAX_BATCH_BYTES).hex()
    with pytest.raises(Invalid, match="fewer rows"):
        encode_fixes({"collar_id": ["K"], "raw_ms": [0], "notes": [noise + noise]})
    with pytest.raises(Invalid, match="fewer rows"):
        encode_fixes({"collar_id": ["K"], "raw_ms": [0], "notes": ["x" * MAX_PLAIN_BYTES + "y"]})
    full = MAX_ROWS
    assert decode_fixes(encode_fixes({"collar_id": ["K"] * full, "raw_ms": [0] * full}))["raw_ms"] == [0] * full


# -- what is broken


def container(kind: int, *sections: bytes, version: int = 1) -> bytes:
    return pack(kind, version, sections)


def lying_frame(claimed: int) -> bytes:
    """Return a zstd frame that claims a content of ``claimed`` bytes and has one."""
    frame = zstandard.ZstdCompressor(write_content_size=True).compress(b"a" * 70_000)
    size_at = frame.index(struct.pack("<I", 70_000))
    return frame[:size_at] + struct.pack("<I", claimed) + frame[size_at + 4 :]


def test_a_later_version_is_no_fault_and_told_by_both_names() -> None:
    for kind, decode in ((ord("F"), decode_fixes), (ord("R"), lambda it: decode_records(it, Note))):
        with pytest.raises(BatchTooNew, match=r"version 2.*up to 1"):
            decode(container(kind, b"", version=2))
        with pytest.raises(Invalid, match="version 0"):
            decode(container(kind, b"", version=0))
        with pytest.raises(BatchTooNew, match=f"version {2**40}"):
            decode(container(kind, b"", version=2**40))


def test_kinds_are_told_apart() -> None:
    with pytest.raises(Invalid, match="records, not of fixes"):
        decode_fixes(encode_records([]))
    with pytest.raises(Invalid, match="fixes, not of records"):
        decode_records(encode_fixes({"collar_id": [], "raw_ms": []}), Note)
    with pytest.raises(Invalid, match="unknown kind"):
        decode_fixes(b"\xcbX\x01")
    for data in (b"", b"\xcb", b"{}", bytes(50)):
        with pytest.raises(Invalid):
            decode_fixes(data)


@pytest.mark.parametrize("lengths", [(0, 3), (3, 0), (-1, 4), (4, -1), (2, 2)])
def test_an_owner_without_rows_is_refused_and_so_are_rows_that_do_not_add_up(lengths: tuple[int, int]) -> None:
    _, (text, numbers) = unpack(encode_fixes({"collar_id": ["A", "B", "B"], "raw_ms": [5, 6, 7]}), ord("F"), 1)
    said, lie = Writer(), Writer()
    write_integers(said, np.array([1, 2]))
    write_integers(lie, np.array(lengths))
    assert numbers.count(said.data) == 1
    with pytest.raises(Invalid, match="collar_id: the batch has"):
        decode_fixes(container(ord("F"), text, numbers.replace(said.data, lie.data)))


@pytest.mark.parametrize("claimed", [MAX_PLAIN_BYTES + 1, 2**31, 2**32 - 1])
def test_a_bomb_is_refused_before_it_takes_memory(claimed: int) -> None:
    frame = lying_frame(claimed)
    data = bytearray(b"\xcbF\x01")
    out = Writer()
    out.varint(len(frame) << 1 | 1)
    data += out.data + frame
    assert peak_bytes(bytes(data)) < 1 << 20
    bomb = zstandard.ZstdCompressor().compress(bytes(MAX_PLAIN_BYTES + 1))
    out = Writer()
    out.varint(len(bomb) << 1 | 1)
    assert peak_bytes(bytes(b"\xcbF\x01" + out.data + bomb)) < 1 << 20


def test_a_frame_that_does_not_say_its_length_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"a" * 100)
    out = Writer()
    out.varint(len(frame) << 1 | 1)
    with pytest.raises(Invalid, match="does not say"):
        decode_fixes(bytes(b"\xcbF\x01" + out.data + frame))


def test_sections_together_are_bounded() -> None:
    frame = zstandard.ZstdCompressor().compress(bytes(MAX_PLAIN_BYTES // 2 + 1))
    out = Writer()
    for _ in range(2):
        out.varint(len(frame) << 1 | 1)
        out.raw(frame)
    with pytest.raises(Invalid, match="more than"):
        decode_fixes(bytes(b"\xcbF\x01" + out.data))


def test_text_that_repeats_itself_into_gigabytes_is_refused() -> None:
    """20,000 strings that each repeat a megabyte of the one before would be 20 GB."""
    count = MAX_ROWS
    numbers = Writer()
    numbers.varint(count)
    numbers.varint(count)
    numbers.byte(0)  # shared lengths: fixed, no bits, all one megabyte
    numbers.signed(1 << 20)
    numbers.byte(0)
    numbers.signed(1)
    assert peak_bytes(container(ord("F"), bytes(2 << 20), bytes(numbers.data))) < 12 << 20


def peak_bytes(data: bytes) -> int:
    """Return what refusing ``data`` took at most."""
    tracemalloc.start()
    try:
        with pytest.raises(Invalid):
            decode_fixes(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_batch_over_the_limit_is_not_looked_at() -> None:
    with pytest.raises(Invalid, match=str(MAX_BATCH_BYTES)):
        decode_fixes(bytes(MAX_BATCH_BYTES + 1))


def test_numbers_are_read_as_they_were_written() -> None:
    values = [0, 1, 127, 128, 2**32, 2**64 - 1]
    signed = [0, 1, -1, 2**63 - 1, -(2**63), -64, 64]
    out = Writer()
    for value in values:
        out.varint(value)
    for value in signed:
        out.signed(value)
    source = Reader(bytes(out.data))
    assert [source.varint() for _ in values] == values
    assert [source.signed() for _ in signed] == signed
    assert source.is_done
    for broken in (b"", b"\x80", b"\xff" * 10, b"\xff" * 9 + b"\x02"):
        with pytest.raises(Invalid):
            Reader(broken).varint()


# -- records


class Note(msgspec.Struct, frozen=True, tag="note"):
    id: str
    text: str = ""
    at_ms: int = 0


class Gone(msgspec.Struct, frozen=True, tag="gone"):
    id: str


def test_records_come_back() -> None:
    ops = [Note("n1", "Ndovu \U0001f418", 2**63 - 1), Gone("n2"), Note("n3")]
    back: list[Note | Gone] = decode_records(encode_records(ops), Note | Gone)
    assert back == ops
    assert decode_records(encode_records([]), Note) == []
    many = [Note(f"n{number}", "the same words again") for number in range(1000)]
    data = encode_records(many)
    assert decode_records(data, Note) == many
    assert len(data) < 5000


def test_a_corridor_and_its_edit_come_back() -> None:
    columns = {
        **ENTITIES["corridor"].columns, "name": "Kitenden", "start_lon_e7": -1_800_000_000, "optimization_score": 0.875,
        "geometry": '{"type":"LineString","coordinates":[[37.0,-2.0],[38.0,-3.0]]}',
        "optimization_data": '{"steps":50}',
    }  # fmt: skip
    record = Record(
        entity="corridor", id="c", columns=columns, created_ms=1, updated_ms=2, marks={"name": Mark(1, "s")}
    )
    edit = Operation(id="o", entity="corridor", row_id="c", kind="update", made_ms=1, columns={"width_m": 0.5})
    assert decode_records(encode_records([record]), Record) == [record]
    assert decode_records(encode_records([edit]), Operation) == [edit]


def test_records_of_another_shape_are_refused() -> None:
    with pytest.raises(Invalid, match="what they should be"):
        decode_records(encode_records([Gone("n2")]), Note)
    for plain in (b"", b"\xdd\xff\xff\xff\xff", b"\x91", b"\x91" * 100_000, b"\x91\xa1\xff", b"\x90\x90", b"\xc1"):
        with pytest.raises(Invalid):
            decode_records(container(ord("R"), plain), Note)
    with pytest.raises(Invalid, match="one section"):
        decode_records(container(ord("R"), b"\x90", b"\x90"), Note)


def test_records_have_limits() -> None:
    with pytest.raises(Invalid, match=str(MAX_ROWS)):
        encode_records([Gone("g")] * (MAX_ROWS + 1))
    with pytest.raises(Invalid, match=str(MAX_ROWS)):
        decode_records(container(ord("R"), msgspec.msgpack.encode([Gone("g")] * (MAX_ROWS + 1))), Gone)
    with pytest.raises(Invalid, match="cannot be written"):
        encode_records([Note("n", at_ms=2**64)])
    with pytest.raises(Invalid, match="cannot be written"):
        encode_records([Note("\ud800")])


# -- real tracks


@pytest.mark.parametrize("count", sorted(wire.GOALS))
@pytest.mark.parametrize("is_whole", [False, True])
def test_real_fixes_take_no_more_bytes_than_promised(count: int, is_whole: bool) -> None:
    for name in wire.FILES:
        tracks(name)
    for seed in range(3):
        columns = wire.fixes(count, seed, is_whole=is_whole)
        data = encode_fixes(columns)
        assert len(data) / count <= wire.GOALS[count][is_whole]
        assert rows(decode_fixes(data)) == rows(columns)
