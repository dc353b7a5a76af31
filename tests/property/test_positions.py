"""Positions of phones: the columns that are read at once are those of the fix that each stands for."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.store.appending import columns_of
from shared.domain import NewFix
from shared.errors import Invalid
from shared.sync.phone.positions import Positions, together
from shared.wire.public import TrackingIn
from shared.wire.public.fields import ANIMAL_DEVICE
from shared.wire.reading import read_json

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)

numbers = st.floats(-300, 300, allow_nan=False) | st.integers(-300, 300)
texts = st.text(max_size=8) | st.sampled_from(["75%", "3.65 V", "101%", "-85 dBm", " ", "a\x01"])
times = (
    st.integers(0, 2**50) | st.floats(0, 2**42, allow_nan=False) | st.datetimes(timezones=st.just(UTC)).map(str)
    | st.sampled_from(["2024-05-01T10:30:00.1234567Z", "2024-05-01T10:30:00+03:00", "2024-05-01", "x", True])
)  # fmt: skip
bodies = st.fixed_dictionaries(
    {"timestamp": times, "lat": st.floats(-90, 90), "lon": st.floats(-180, 180)},
    optional={
        "collar_id": st.sampled_from(["K1", " K2 ", "K 3", "collar:x", ""]), "animal": st.sampled_from(["a1", ""]),
        **dict.fromkeys(["altitude", "speed_kmh", "directional_angle", "heading", "temperature", "hdop"], numbers),
        **dict.fromkeys(["local_id", "activity_type", "notes"], texts),
        **dict.fromkeys(["battery_level", "signal_strength"], numbers | texts),
        "source": st.sampled_from(["gps", "manual", None]), "sats": st.integers(0, 255),
    },
)  # fmt: skip


@given(st.lists(bodies, max_size=6))
def test_columns_are_those_of_the_fixes(said: list[dict[str, Any]]) -> None:
    batch = Positions(NOW, is_clock_sure=True, link="api")
    fixes: list[NewFix] = []
    for cells in said:
        try:
            body = read_json(msgspec.json.encode(cells), TrackingIn)
            device = batch.device(body.collar_id, "a1")
        except Invalid:
            continue
        assert device is not None
        try:
            fix = body.fix(device=device, animal_id="a1", received_at=NOW, is_clock_sure=True)
        except Invalid as error:
            with pytest.raises(Invalid, match=re.escape(error.detail)):
                body.said()
        else:
            batch.add(device, "a1", body.said())
            fixes.append(fix)
    found = {name: list(values) for name, values in batch.columns().items()}
    assert found == {name: list(values) for name, values in columns_of(fixes).items()}
    assert len(batch) == len(fixes)
    twice = together([batch.columns(), batch.columns()])
    assert {name: list(values) for name, values in twice.items()} == {n: [*v, *v] for n, v in found.items()}


def test_a_position_without_a_collar_is_of_the_animal_that_it_names() -> None:
    batch = Positions(NOW, is_clock_sure=False, link="api")
    assert batch.device(None, "a1") == batch.device("  ", "a1") == f"{ANIMAL_DEVICE}a1"
    assert batch.device(None, None) is None
