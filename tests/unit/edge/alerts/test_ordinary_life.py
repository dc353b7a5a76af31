"""What the benchmark measures at length, in small: jittered borders, and a real elephant's ordinary weeks."""

from __future__ import annotations

import os

import numpy as np
import pytest

from edge.alerts.engine import Engine
from edge.alerts.rules import RuleBook
from models.hmm.datasets import trajectories
from tests.benchmarks.alarms import borders, rates, track_of
from tests.real_data import tracks

pytestmark = [pytest.mark.unit, pytest.mark.slow]

IS_NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))


def test_at_jittered_borders_there_is_one_alarm_and_one_all_clear_a_visit_and_none_late() -> None:
    table, is_kept = borders(Engine(RuleBook()), 1000 if IS_NIGHTLY else 100)
    assert is_kept, table.rows


def test_on_the_ordinary_life_of_a_real_elephant_no_rule_rings_more_than_once_a_week() -> None:
    found = trajectories(tracks("elephant_wall2014_movebank.csv"))
    chosen = found if IS_NIGHTLY else [each for each in found if each.individual == "Habiba"]
    rng = np.random.default_rng(7)
    table, is_kept = rates(RuleBook(), [track_of(each, rng) for each in chosen])
    assert is_kept, table.rows
