"""What a running program asks of the collector of cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from shared.collector import YOUNG, settle


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_what_is_there_when_a_program_is_ready_is_not_looked_at_again_and_what_is_new_is() -> None:
    lasting = [[n] for n in range(1_000)]
    settle()
    assert gc.get_freeze_count() > len(lasting)
    assert gc.get_threshold()[0] == YOUNG
    assert len(gc.get_objects()) < 1_000
    ring: list[object] = []
    ring.append(ring)
    del ring
    assert gc.collect() >= 1
