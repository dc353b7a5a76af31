"""Every kind of fault that is put into a real track is found, and next to nothing else is accused."""

from __future__ import annotations

import os

import pytest

from tests import real_data
from tests.benchmarks.quality import FAULTS, FILES, score_of, tracks_of

FULL = bool(os.environ.get("OUTPOST_NIGHTLY"))
NAMES = FILES if FULL else ("buffalo_kruger_cross2016.csv", "coyote_cougar_utah_mahoney2016.csv", "reddeer_amt.csv")
#: Faults that cannot be told from an animal, and ones that are found nearly always; all others always.
BY_DESIGN = {"a spike, half as far as possible": 0.0, "four in a row at one wrong place": 0.0}
NEARLY = {"a clock that fell behind": 0.98, "a fifth of the track in another time zone": 0.85}
ACCUSES_BOTH = "another place at the same instant"


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_each_kind_are_found_and_good_fixes_are_left_alone(name: str) -> None:
    tracks = {
        (f"{file} {whose}", species): track
        for file in NAMES
        for (whose, species), track in tracks_of(real_data.tracks(file)).items()
    }
    score = score_of(name, tracks)
    share = score.found / score.injected
    if name in BY_DESIGN:
        assert share == BY_DESIGN[name]
    else:
        assert share >= NEARLY.get(name, 1.0)
    if name != ACCUSES_BOTH:
        assert score.false_alarms <= 1e-4 * score.good
