"""Laws of batches: every set of rows comes back exactly; damage is refused or read, and nothing else happens."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BatchTooNew, Invalid
from shared.wire.batch import FIX_COLUMNS, FixColumns, decode_fixes, decode_records, encode_fixes
from shared.wire.batch.columns import Column
from shared.wire.batch.container import FIXES, Reader, Writer, pack, unpack
from shared.wire.batch.integers import read_integers, read_walks, write_integers, write_walks
from tests.unit.shared.wire.test_batch import Gone, Note, herd, rows

pytestmark = pytest.mark.sync

NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))
LAW = settings(max_examples=2_000 if NIGHTLY else 200, deadline=None, derandomize=True, database=None)

INT64 = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-300, 300), st.sampled_from([-(2**63), 2**63 - 1]))
FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-10_000, 10_000).map(lambda it: it / 10),
    st.integers(0, 400).map(lambda it: it / 10 / 3.6),
    st.integers(0, 400).map(lambda it: it / 10 * (1852 / 3600)),
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)


def values_of(column: Column) -> st.SearchStrategy[object]:
    """Return what ``column`` may hold."""
    if column.name == "is_clock_unset":
        return st.integers(0, 1)
    made: st.SearchStrategy[object] = {
        "text": TEXT, "integer": INT64, "decimal": FLOATS, "number": st.one_of(INT64, FLOATS),
    }[column.kind]  # fmt: skip
    return st.one_of(st.none(), made) if column.is_optional else made


@st.composite
def batches(draw: st.DrawFn) -> FixColumns:
    """Draw columns of one length, some absent."""
    count = draw(st.integers(0, 12))
    columns: FixColumns = {}
    for column in FIX_COLUMNS:
        if column.name in ("collar_id", "raw_ms") or draw(st.booleans()):
            columns[column.name] = draw(st.lists(values_of(column), min_size=count, max_size=count))
    return columns


@LAW
@given(batches())
def test_every_set_of_rows_comes_back(columns: FixColumns) -> None:
    assert rows(decode_fixes(encode_fixes(columns))) == rows(columns)


@LAW
@given(st.lists(INT64, max_size=60), st.data())
def test_integers_come_back_at_every_order(values: list[int], data: st.DataObject) -> None:
    starts = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))), np.bool_)
    starts[:1] = True
    for order in (0, 1, 2):
        out = Writer()
        write_walks(out, np.array(values, np.int64), starts, order)
        source = Reader(bytes(out.data))
        assert read_walks(source, starts, order).tolist() == values
        assert source.is_done


@pytest.mark.parametrize("shape", ["even", "steps", "rare", "constant", "wide"])
def test_integers_take_about_what_their_spread_asks_for(shape: str) -> None:
    rng = random.Random(4)
    values, bits = {
        "even": ([rng.randrange(1000) for _ in range(500)], 10.1),
        "steps": ([round(rng.gauss(0, 100)) for _ in range(500)], 9.3),
        "rare": ([0] * 490 + [2**40] * 10, 3.0),
        "constant": ([12_345_678] * 500, 0.1),
        "wide": ([rng.randrange(-(2**63), 2**63) for _ in range(500)], 64.2),
    }[shape]
    out = Writer()
    write_integers(out, np.array(values, np.int64))
    assert read_integers(Reader(bytes(out.data)), 500).tolist() == values
    assert len(out.data) * 8 / 500 <= bits


@LAW
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    refused_or_read(data)
    refused_or_read(b"\xcbF\x01" + data)
    refused_or_read(pack(FIXES, 1, [b"K1K2notes", data]))
    for prefix in (b"", b"\xcbR\x01"):
        try:
            decode_records(prefix + data, Note | Gone)
        except (Invalid, BatchTooNew):
            pass


@pytest.mark.parametrize("count", [1, 3, 60])
def test_a_damaged_batch_is_read_or_refused(count: int) -> None:
    """Mutations of the bytes on the wire, and, deeper, of the sections before they are packed."""
    rng = random.Random(count)
    good = encode_fixes(herd(count))
    sections = plain_sections(good)
    for _ in range(3_000 if NIGHTLY else 250):
        refused_or_read(mutated(rng, good))
        refused_or_read(pack(FIXES, 1, [mutated(rng, it) if rng.random() < 0.7 else it for it in sections]))


def test_a_truncated_batch_is_refused() -> None:
    good = encode_fixes(herd(20))
    for length in range(len(good)):
        with pytest.raises(Invalid):
            decode_fixes(good[:length])
    with pytest.raises(Invalid):
        decode_fixes(good + b"\0")


def plain_sections(data: bytes) -> list[bytes]:
    return unpack(data, FIXES, 1)[1]


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Return ``data`` with a few bytes changed, doubled, removed or cut off."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(made)) if made else 0
        match rng.randrange(5):
            case 0 if made:
                made[at] ^= 1 << rng.randrange(8)
            case 1 if made:
                made[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                made[at:at] = rng.randbytes(rng.randint(1, 4))
            case 3:
                del made[at : at + rng.randint(1, 4)]
            case _:
                del made[at + 1 + rng.randrange(40) :]
    return bytes(made)


def refused_or_read(data: bytes) -> None:
    try:
        columns = decode_fixes(data)
    except (Invalid, BatchTooNew):
        return
    # what is read can be written: no value that a batch may not hold came through
    count = len(columns["collar_id"])
    assert all(len(values) == count for values in columns.values())
    encode_fixes(columns)
