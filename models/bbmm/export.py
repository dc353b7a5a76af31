"""A calibration as an artefact with its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from models.artifact import Input, Manifest, TrainingSet, save
from models.bbmm.heldout import Case
from models.bbmm.runtime import Calibration

_INPUTS: Final = (
    Input(name="time", unit="s"),
    Input(name="easting", unit="m"),
    Input(name="northing", unit="m"),
    Input(name="hdop", unit="1"),
    Input(name="horizontal accuracy", unit="m"),
)


def export(
    folder: Path,
    calibration: Calibration,
    trained_on: Sequence[tuple[Case, int]],
    metrics: Mapping[str, float],
) -> Manifest:
    """Write a calibration; ``trained_on`` are the cases behind it, each with its number of fixes."""
    files = dict.fromkeys(case.file for case, _ in trained_on)
    return save(
        folder,
        model="bbmm",
        name=calibration.name,
        version=calibration.version,
        inputs=_INPUTS,
        arrays={
            "up_to_gap_s": (calibration.up_to_gap_s.astype(np.float32), 1.0, "s"),
            "radius_50": (calibration.radius_50.astype(np.float32), 1.0, "standard deviations"),
            "radius_95": (calibration.radius_95.astype(np.float32), 1.0, "standard deviations"),
        },
        metrics=metrics,
        trained_on=tuple(
            _set(file, [(case, fixes) for case, fixes in trained_on if case.file == file]) for file in files
        ),
        licence="MIT",
        settings={
            "errors": msgspec.to_builtins(calibration.errors),
            "variance_m2_per_s": calibration.variance_m2_per_s,
            "max_gap_s": calibration.max_gap_s,
        },
    )


def _set(file: str, cases: Sequence[tuple[Case, int]]) -> TrainingSet:
    first, _ = cases[0]
    return TrainingSet(
        dataset=file,
        individuals=tuple(case.individual for case, _ in cases),
        rows=sum(fixes for _, fixes in cases),
        licence=first.licence,
        citation=first.citation,
    )
