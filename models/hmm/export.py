"""From fitted parameters to the quantised tables of the runtime, and to an artefact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from models.artifact import Input, Manifest, TrainingSet, save
from models.hmm.emissions import TINY, FloatArray, Parameters, log_densities
from models.hmm.runtime import (
    FINE_NAT,
    MIN_STEP_M,
    STATE_NAMES,
    UNIT_NAT,
    Variant,
    angle_nodes_rad,
    number_format,
    step_nodes_m,
    table_shapes,
)

LICENCE = "MIT"

#: A zero step is told apart by the model where at least this share of a state's steps is zero; below, it is read as
#: a step of the shortest length.
_MIN_ZERO_MASS = 1e-9


def quantised(parameters: Parameters, interval_s: float, tolerance: float, *, metres_per_unit: float = 1.0) -> Variant:
    """Return the tables of a model whose steps are in units of ``metres_per_unit``."""
    nodes = step_nodes_m() / metres_per_unit
    nowhere = np.full(nodes.size, np.nan)
    moving = log_densities(parameters, nodes, nowhere)
    angles = angle_nodes_rad()
    turning = log_densities(parameters, np.full(angles.size, np.nan), angles)
    zero = np.array(parameters.zero_mass)
    shortest = log_densities(parameters, np.array([MIN_STEP_M / metres_per_unit]), np.array([np.nan]))[0]
    zero_log = np.log(np.maximum(zero, _MIN_ZERO_MASS)) if zero.max() > _MIN_ZERO_MASS else shortest
    return Variant(
        interval_s=interval_s,
        tolerance=tolerance,
        state_names=STATE_NAMES[parameters.n_states],
        step_table=_int16(moving.T),
        angle_table=_int16(turning.T),
        zero_log=_int16(zero_log),
        log_transitions=_int32(np.log(np.maximum(parameters.transitions, TINY))),
        log_stationary=_int32(np.log(np.maximum(parameters.stationary(), TINY))),
    )


def export(
    folder: Path,
    name: str,
    version: int,
    variants: Sequence[tuple[Variant, Parameters]],
    *,
    metrics: Mapping[str, float],
    trained_on: tuple[TrainingSet, ...],
) -> Manifest:
    """Write a species' variants, shortest interval first, with the float parameters (steps in metres) beside them."""
    arrays: dict[str, tuple[npt.NDArray[Any], float, str]] = {}
    for i, (variant, _) in enumerate(variants):
        for table in table_shapes(variant.n_states):
            arrays[f"{i}/{table}"] = (getattr(variant, table), number_format(table)[1], "nat")
    return save(
        folder,
        model="hmm",
        name=name,
        version=version,
        inputs=(Input(name="step_m", unit="m"), Input(name="angle_rad", unit="rad")),
        arrays=arrays,
        metrics=metrics,
        trained_on=trained_on,
        licence=LICENCE,
        settings={
            "variants": [
                {
                    "interval_s": variant.interval_s,
                    "tolerance": variant.tolerance,
                    "state_names": list(variant.state_names),
                    "parameters": msgspec.to_builtins(parameters),
                }
                for variant, parameters in variants
            ]
        },
    )


def _int16(nats: FloatArray) -> npt.NDArray[np.int16]:
    return np.clip(np.rint(nats / UNIT_NAT), -32768, 32767).astype(np.int16)


def _int32(nats: FloatArray) -> npt.NDArray[np.int32]:
    return np.rint(nats / FINE_NAT).astype(np.int32)
