"""Figures of the README."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from models.bbmm.figures import figure
from models.bbmm.runtime import load_calibration

pytestmark = [pytest.mark.unit, pytest.mark.ml]


def test_a_figure_is_well_formed_and_shows_normal_distances_on_the_diagonal() -> None:
    distance_sd = np.sqrt(-2 * np.log1p(-(np.arange(10_000) + 0.5) / 10_000))
    text = figure("a < b", distance_sd, np.full(10_000, 60.0), load_calibration("elephant"))
    root = ET.fromstring(text)
    line = next(root.iter("{http://www.w3.org/2000/svg}polyline"))
    points = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert all((x - 60) / 300 == pytest.approx(1 - (y - 40) / 300, abs=0.01) for x, y in points)
