"""Laws of what models said on the wire: every batch comes back, damage is refused or read, finer is not told."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BatchTooNew, Invalid
from shared.insight import Predicted
from shared.wire.batch import decode_results, encode_results
from shared.wire.batch.container import RESULTS, pack, unpack
from shared.wire.batch.results import (
    NO_STEPS,
    STEP_COLUMNS,
    MapHead,
    MapPart,
    Rest,
    Results,
    Said,
    Stretch,
    rounded,
)

pytestmark = pytest.mark.sync

NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))
LAW = settings(max_examples=1_000 if NIGHTLY else 100, deadline=None, derandomize=True, database=None)

MS = st.integers(-(2**62), 2**62)
TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
OF_STEP: dict[str, st.SearchStrategy[Any]] = {
    "animal_id": TEXT, "ended_ms": MS, "started_ms": MS, "state": st.sampled_from(["resting", "foraging"]),
    "confidence": FLOATS, "is_settled": st.integers(0, 1), "step_m": FLOATS, "log_likelihood": FLOATS,
}  # fmt: skip
SAID = st.builds(
    Said, animal_id=TEXT, through_ms=st.none() | MS, told_ms=MS, interval_s=st.none() | FLOATS,
    models=st.dictionaries(TEXT, TEXT, max_size=3), missing=st.dictionaries(TEXT, TEXT, max_size=3),
    predicted=st.lists(
        st.builds(
            Predicted, at=st.just(datetime(2026, 1, 1, tzinfo=UTC)), horizon_h=FLOATS, lon_deg=FLOATS, lat_deg=FLOATS,
            semi_major_50_m=FLOATS, semi_minor_50_m=FLOATS, semi_major_90_m=FLOATS, semi_minor_90_m=FLOATS,
            bearing_deg=FLOATS, model=TEXT,
        ), max_size=2,
    ).map(tuple),
)  # fmt: skip
MAPS = st.builds(
    MapPart, animal_id=TEXT,
    tiles=st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.binary(max_size=20)), max_size=3),
    head=st.none() | st.builds(MapHead, since_ms=MS, through_ms=MS, model=TEXT, head=st.binary(max_size=9)),
)  # fmt: skip
REST = st.builds(
    Rest, st.lists(st.builds(Stretch, TEXT, MS, st.none() | MS), max_size=3), st.lists(SAID, max_size=3),
    st.lists(MAPS, max_size=2),
)  # fmt: skip


@st.composite
def batches(draw: st.DrawFn) -> Results:
    """Draw what a batch holds."""
    count = draw(st.integers(0, 8))
    steps = {name: draw(st.lists(made, min_size=count, max_size=count)) for name, made in OF_STEP.items()}
    return Results(steps, draw(REST))


def rows(results: Results) -> list[tuple[Any, ...]]:
    return sorted(zip(*(results.steps[column.name] for column in STEP_COLUMNS), strict=True))


@LAW
@given(batches())
def test_every_batch_comes_back(results: Results) -> None:
    found = decode_results(encode_results(results))
    assert rows(found) == rows(results)
    assert found.rest == results.rest


@LAW
@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for made in (data, b"\xcbM\x01" + data, pack(RESULTS, 1, [b"a1", data, b""]), pack(RESULTS, 1, [b"", b"\0", data])):
        read_or_refuse(made)


def test_a_damaged_batch_is_read_or_refused() -> None:
    rng = random.Random(5)
    good = encode_results(some(40))
    for _ in range(2_000 if NIGHTLY else 200):
        data = bytearray(good)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        read_or_refuse(bytes(data))
    with pytest.raises(BatchTooNew):
        decode_results(pack(RESULTS, 2, unpack(good, RESULTS, 1)[1]))


def test_a_batch_of_more_than_is_read_is_refused_before_it_is_spent_on() -> None:
    tiles = [(row, 0, b"") for row in range(20_001)]
    plain = msgspec.msgpack.encode(Rest(maps=[MapPart(animal_id="a", tiles=tiles)]))
    with pytest.raises(Invalid, match="at most 20000"):
        decode_results(pack(RESULTS, 1, [b"", b"\0", plain]))
    with pytest.raises(Invalid, match="three sections"):
        decode_results(pack(RESULTS, 1, [b"", b"\0"]))
    with pytest.raises(Invalid):
        encode_results(Results({**NO_STEPS, "state": ["resting"]}, Rest()))


def test_a_step_costs_a_few_bytes_beside_its_fix() -> None:
    size = len(encode_results(some(1_000)))
    assert size / 1_000 < 12, f"{size / 1_000:.1f} bytes a step"


def some(count: int) -> Results:
    """Return steps of five animals an hour apart."""
    rng = random.Random(1)
    columns: dict[str, list[Any]] = {name: [] for name in OF_STEP}
    for number in range(count):
        ended_ms = 1_700_000_000_000 + number // 5 * 3_600_000 + number % 5 * 61_000
        said = {
            "animal_id": f"animal-{number % 5}", "ended_ms": ended_ms, "started_ms": ended_ms - 3_600_000,
            "state": rng.choice(["resting", "foraging", "migrating"]), "confidence": rng.uniform(0.5, 1.0),
            "is_settled": int(number < count - 10), "step_m": rng.expovariate(1 / 300),
            "log_likelihood": rng.gauss(-8, 2),
        }  # fmt: skip
        for name, value in said.items():
            columns[name].append(rounded(name, value))
    return Results(columns, Rest([Stretch(f"animal-{n}", 0, None) for n in range(5)]))


def read_or_refuse(data: bytes) -> None:
    try:
        decode_results(data)
    except (Invalid, BatchTooNew):
        pass
