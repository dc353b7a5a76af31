"""Bodies, instants and the sentences that refuse them."""

from __future__ import annotations

import contextlib
import math
from datetime import UTC, datetime
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from shared.errors import Invalid
from shared.wire.reading import EARLIEST, LATEST, bound, instant, optional_text, read_json, text

pytestmark = pytest.mark.unit

MOMENT = datetime(2024, 11, 1, 10, 30, tzinfo=UTC)


class Inner(Struct):
    """A body inside a body."""

    depth: Annotated[int, Meta(ge=0, le=10)]


class Body(Struct):
    """A body with one field of each kind."""

    name: Annotated[str, Meta(min_length=2, max_length=5)]
    size: Annotated[float, Meta(ge=-0.5, le=1)] | None = None
    kind: Literal["a", "b"] | None = None
    inner: list[Inner] = []


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{}", "name: is required"),
        (b'{"name": "x"}', "name: must have 2 to 5 characters"),
        (b'{"name": "abcdef"}', "name: must have 2 to 5 characters"),
        (b'{"name": "abc", "size": 1.5}', "size: must be between -0.5 and 1"),
        (b'{"name": "abc", "size": "1"}', "size: expected `float | null`, got `str`"),
        (b'{"name": "abc", "kind": "c"}', "kind: must be one of a, b"),
        (b'{"name": "abc", "inner": [{"depth": 3}, {}]}', "inner[1].depth: is required"),
        (b'{"name": "abc", "inner": 3}', "inner: expected `array`, got `int`"),
        (b"[]", "the body: expected `object`, got `array`"),
        (b"", "the body is not JSON: Input data was truncated"),
        (b'{"name": "\xff\xfe"}', "the body is not UTF-8"),
    ],
)
def test_a_refusal_is_a_sentence_that_begins_with_the_field(body: bytes, detail: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_json(body, Body)
    assert refused.value.detail == detail


def test_depth_is_refused_not_a_crash() -> None:
    with pytest.raises(Invalid, match="nested too deeply"):
        read_json(b"[" * 100_000, object)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(body: bytes) -> None:
    with contextlib.suppress(Invalid):
        read_json(body, Body)


@pytest.mark.parametrize(
    "value",
    [
        "2024-11-01T10:30:00Z",
        "2024-11-01t10:30:00z",
        " 2024-11-01 13:30:00+03:00 ",
        "2024-11-01T10:30:00.000Z",
        1730457000000,
        1730457000000.0,
    ],
)
def test_an_instant_is_read_from_text_with_a_zone_and_from_milliseconds(value: str | float) -> None:
    moment = instant("timestamp", value)
    assert moment == MOMENT
    assert moment.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    ["2024-11-01T10:30:00", "2024-11-01", "", "now", "1730457000000", "0001-01-01T00:00:00+14:00",
     "9999-12-31T23:59:59-14:00", 1730457000, -1, 2**63, 10**400, math.nan, math.inf, -math.inf],
)  # fmt: skip
def test_what_names_no_instant_is_refused_with_its_field(value: str | float) -> None:
    with pytest.raises(Invalid, match=r"^timestamp: "):
        instant("timestamp", value)


@given(st.datetimes(EARLIEST.replace(tzinfo=None), LATEST.replace(tzinfo=None, year=2099)))
def test_an_instant_survives_both_spellings_to_the_millisecond(naive: datetime) -> None:
    moment = naive.replace(tzinfo=UTC, microsecond=naive.microsecond // 1000 * 1000)
    assert instant("t", moment.isoformat()) == moment
    assert instant("t", round(moment.timestamp() * 1000)) == moment


def test_a_bare_day_bounds_the_whole_day() -> None:
    assert bound("since", "2024-11-01") == datetime(2024, 11, 1, tzinfo=UTC)
    assert bound("until", "2024-11-01", is_end=True) == datetime(2024, 11, 2, tzinfo=UTC)
    assert bound("until", "2024-11-01T10:30:00Z", is_end=True) == MOMENT
    assert bound("since", "2024-11-01T13:30:00 03:00") == MOMENT
    assert bound("since", "1730457000000") == MOMENT
    for wrong in ("2024-02-30", "0001-01-01", "9999-12-31", "²"):
        with pytest.raises(Invalid, match=r"^since: "):
            bound("since", wrong, is_end=True)


def test_text_is_trimmed_and_control_characters_are_refused() -> None:
    assert text("name", "  Alpha \n") == "Alpha"
    assert optional_text("notes", " two\nlines ") == "two\nlines"
    assert optional_text("notes", "   ") is None
    assert optional_text("notes", None) is None
    for wrong in ("", "  ", "a\x00b", "\x1b[31m"):
        with pytest.raises(Invalid, match=r"^name: "):
            text("name", wrong)
