from __future__ import annotations

import random

import pytest

from firmware_bridge.transports.backoff import FIRST_S, LONGEST_S, Backoff

pytestmark = pytest.mark.unit


def test_waits_double_up_to_the_longest_and_are_shortened_by_at_most_half() -> None:
    backoff = Backoff(random.Random(1))
    ceiling_s = FIRST_S
    for _ in range(200):
        assert ceiling_s / 2 <= backoff.next_s() <= ceiling_s
        ceiling_s = min(ceiling_s * 2, LONGEST_S)


def test_a_success_begins_again() -> None:
    backoff = Backoff(random.Random(1))
    for _ in range(10):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= FIRST_S
