"""Laws of derived ids: equal if and only if the content is, ordered by time, valid for every input."""

from __future__ import annotations

import os
import uuid

from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.store.appending import ids_of
from shared.ids import fix_id, fix_time_ms, id_bytes, id_text

LAW = settings(
    max_examples=2_000 if os.environ.get("OUTPOST_NIGHTLY") else 200, deadline=None, derandomize=True, database=None
)

DEVICES = st.text(st.characters(codec="utf-8"), max_size=12)
TIMES = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(0, 5))
DEGREES_E7 = st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1), st.integers(0, 2))
CONTENTS = st.tuples(DEVICES, TIMES, DEGREES_E7, DEGREES_E7)


@LAW
@given(CONTENTS, CONTENTS)
def test_ids_are_equal_exactly_where_contents_are(
    a: tuple[str, int, int | None, int | None], b: tuple[str, int, int | None, int | None]
) -> None:
    assert (fix_id(*a) == fix_id(*b)) == (a == b)
    assert fix_id(*a) == fix_id(*a)


@LAW
@given(CONTENTS, CONTENTS)
def test_ids_sort_by_time(
    a: tuple[str, int, int | None, int | None], b: tuple[str, int, int | None, int | None]
) -> None:
    time_a, time_b = (min(max(raw_ms, 0), 2**48 - 1) for raw_ms in (a[1], b[1]))
    if time_a < time_b:
        assert fix_id(*a) < fix_id(*b)
        assert id_text(fix_id(*a)) < id_text(fix_id(*b))


@LAW
@given(CONTENTS)
def test_every_id_is_a_valid_uuid_and_survives_text(content: tuple[str, int, int | None, int | None]) -> None:
    raw = fix_id(*content)
    parsed = uuid.UUID(bytes=raw)
    assert (len(raw), parsed.version, parsed.variant) == (16, 8, uuid.RFC_4122)
    assert id_bytes(id_text(raw)) == raw
    assert fix_time_ms(raw) == min(max(content[1], 0), 2**48 - 1)


@LAW
@given(st.lists(CONTENTS, min_size=1, max_size=8))
def test_ids_that_the_cloud_works_out_many_at_a_time_are_the_same(
    contents: list[tuple[str, int, int | None, int | None]],
) -> None:
    names, raw_ms, lon_e7, lat_e7 = zip(*contents, strict=True)
    assert ids_of(names, raw_ms, lon_e7, lat_e7) == b"".join(fix_id(*each) for each in contents)
