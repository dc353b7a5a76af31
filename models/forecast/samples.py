"""One animal's anchors with what is known at each, and what then came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from models.forecast.baselines import Baselines, FloatArray
from models.forecast.datasets import Animal
from models.forecast.features import Anchors, Known, anchors_of, known_at
from models.forecast.runtime import ALL_GROUPS

# Anchors whose features are worked out at once.
_AT_ONCE: Final = 1_000


class Samples(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One animal's anchors with their truths (m, H, 2) in each anchor's frame, NaN where unknown."""

    animal: Animal
    anchors: Anchors
    target_m: FloatArray


def known_of(animal: Animal) -> Known:
    """Return what is known at an animal's anchors, before any regression."""
    parts = [
        known_at(
            animal.times_s,
            animal.lon_deg,
            animal.lat_deg,
            animal.at[begin : begin + _AT_ONCE],
            states=animal.states,
            group=animal.group,
        )
        for begin in range(0, animal.at.size, _AT_ONCE)
    ]
    return Known(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in Known.__struct_fields__})


def samples_of(animal: Animal, baselines: Sequence[Baselines], known: Known | None = None) -> Samples:
    """Return an animal's anchors and truths; ``baselines`` are those of ``ALL_GROUPS``."""
    fitted = baselines[ALL_GROUPS.index(animal.group or "other")]
    anchors = anchors_of(known_of(animal) if known is None else known, fitted)
    return Samples(animal=animal, anchors=anchors, target_m=anchors.to_frame(animal.target_m))
