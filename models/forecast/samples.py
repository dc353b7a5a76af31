"""One animal's anchors with what is known at each, and what then came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from models.forecast.baselines import Baselines, FloatArray
from models.forecast.datasets import Animal
from models.forecast.features import Anchors, BoolArray, IntArray, Known, anchors_of, known_at
from models.forecast.fitted import ALL_GROUPS

# Anchors whose features are worked out at once.
_AT_ONCE: Final = 500


class Samples(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Anchors of one animal with their truths (m, H, 2) in each anchor's frame, NaN where unknown, and parts (m, H)."""

    animal: Animal
    anchors: Anchors
    target_m: FloatArray
    split: IntArray

    def of_part(self, number: int) -> Samples:
        """Return the anchors that belong to a part at some horizon."""
        rows = (self.split == number).any(axis=1)
        names = Anchors.__struct_fields__
        return Samples(
            animal=self.animal,
            anchors=Anchors(**{name: getattr(self.anchors, name)[rows] for name in names}),
            target_m=self.target_m[rows],
            split=self.split[rows],
        )


def before_test(animal: Animal) -> BoolArray:
    """Return which anchors belong to the training or the validation part at some horizon; shape (m,)."""
    return np.asarray(((animal.split == 0) | (animal.split == 1)).any(axis=1))


def known_of(animal: Animal, rows: BoolArray | None = None) -> Known:
    """Return what is known at an animal's anchors, or some of them, before any regression."""
    at = animal.at if rows is None else animal.at[rows]
    parts = [
        known_at(
            animal.times_s,
            animal.lon_deg,
            animal.lat_deg,
            at[begin : begin + _AT_ONCE],
            states=animal.states,
            group=animal.group,
        )
        for begin in range(0, max(at.size, 1), _AT_ONCE)
    ]
    return Known(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in Known.__struct_fields__})


def rows_of(known: Known, rows: BoolArray) -> Known:
    """Return what is known at some of the anchors."""
    return Known(**{name: getattr(known, name)[rows] for name in Known.__struct_fields__})


def samples_of(
    animal: Animal, baselines: Sequence[Baselines], *, known: Known | None = None, rows: BoolArray | None = None
) -> Samples:
    """Return an animal's anchors, or some of them, with their truths.

    ``baselines`` are those of ``ALL_GROUPS``; ``known`` is what ``known_of`` gave for the same rows, if it is at hand.
    """
    fitted = baselines[ALL_GROUPS.index(animal.group or "other")]
    anchors = anchors_of(known_of(animal, rows) if known is None else known, fitted)
    chosen = slice(None) if rows is None else rows
    return Samples(
        animal=animal,
        anchors=anchors,
        target_m=anchors.to_frame(animal.target_m[chosen]),
        split=animal.split[chosen],
    )
