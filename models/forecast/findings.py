"""What an evaluation of the forecast finds, and the tables that tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from models.forecast.baselines import HORIZONS_H
from models.forecast.fitted import ALL_GROUPS

SERVED: Final = "served"
FLOAT: Final = "network, float32"
#: How a network is called from which a part of what it knows was hidden.
WITHOUT: Final = "network without "


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one set at one horizon; ``individual`` None for all of the set.

    ``nll`` is in nats, of a density per square metre. Coverage is given for what is served.
    """

    split: str
    dataset: str
    individual: str | None
    horizon_h: int
    model: str
    n: int
    mean_m: float
    median_m: float
    nll: float
    coverage_50: float | None = None
    coverage_90: float | None = None


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """What is served against a plain forecast, over all sets and horizons: mean of ratios less one, with interval."""

    split: str
    baseline: str
    change: float
    low: float
    high: float


class Int8Cost(msgspec.Struct, frozen=True, kw_only=True):
    """How much an int8 engine adds to the float network's mean error: over all sets and horizons, and at worst."""

    engine: str
    mean: float
    worst: float
    bytes: int


class Without(msgspec.Struct, frozen=True, kw_only=True):
    """How much the network's mean error grows, over all sets and horizons, when a part of what it knows is hidden."""

    part: str
    change: float


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of processor time of one ``predict`` with its calibration, with and without states to work out."""

    engine: str
    median_ms: float
    median_ms_given_states: float
    slowest_ms: float


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A promise, what was found, and whether it is kept."""

    promise: str
    found: str
    is_kept: bool


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured."""

    version: int
    served: dict[str, list[str]]
    refused_engines: list[str]
    rows: list[Row]
    against: list[Against]
    int8: list[Int8Cost]
    without: list[Without]
    speed: list[Speed]
    bars: list[Bar]


def pairs(rows: Sequence[Row], model: str, other: str, split: str = "forward") -> list[tuple[Row, Row]]:
    """Return the rows of two models on the same set and horizon, individuals left out."""
    of_sets = {
        (row.dataset, row.horizon_h, row.model): row for row in rows if row.individual is None and row.split == split
    }
    return [
        (row, of_sets[dataset, hours, other])
        for (dataset, hours, name), row in of_sets.items()
        if name == model and (dataset, hours, other) in of_sets
    ]


def report(found: Evaluation) -> str:
    """Return the tables in Markdown, as the README has them."""
    lines = [f"Version {found.version}.", "", "| promise | found | kept |", "|---|---|---|"]
    lines += [f"| {bar.promise} | {bar.found} | {'yes' if bar.is_kept else '**no**'} |" for bar in found.bars]
    for split in dict.fromkeys(row.split for row in found.rows):
        lines += ["", f"**{split}**: mean / median error in metres", ""]
        lines += _table([row for row in found.rows if row.split == split and row.individual is None])
    lines += ["", "**left out, by individual**: what is served, mean error in metres", ""]
    lines += _individuals([row for row in found.rows if row.split == "left out" and row.individual is not None])
    lines += ["", "| engine | bytes | cost of int8 | at worst | ms an animal | with states given | slowest |"]
    lines += ["|---|--:|--:|--:|--:|--:|--:|"]
    for cost in found.int8:
        for speed in found.speed:
            if speed.engine == cost.engine:
                lines.append(
                    f"| {cost.engine} | {cost.bytes} | {cost.mean:+.3%} | {cost.worst:+.3%} | {speed.median_ms:.1f} "
                    f"| {speed.median_ms_given_states:.1f} | {speed.slowest_ms:.1f} |"
                )
    lines += ["", "| the network without | mean error |", "|---|--:|"]
    lines += [f"| {one.part} | {one.change:+.1%} |" for one in found.without]
    lines += [
        "",
        "| group | " + " | ".join(f"{hours} h" for hours in HORIZONS_H) + " |",
        "|---|" + "---|" * len(HORIZONS_H),
    ]
    lines += [f"| {group} | {' | '.join(found.served[group])} |" for group in ALL_GROUPS]
    return "\n".join(lines)


def _table(rows: Sequence[Row]) -> list[str]:
    models = [
        name for name in dict.fromkeys(row.model for row in rows) if not name.startswith(("network, int8", WITHOUT))
    ]
    lines = [
        "| set | h | n | " + " | ".join(models) + " | nll | 50 % | 90 % |",
        "|---|--:|--:|" + "--:|" * (len(models) + 3),
    ]
    for dataset, hours in dict.fromkeys((row.dataset, row.horizon_h) for row in rows):
        cells = {row.model: row for row in rows if (row.dataset, row.horizon_h) == (dataset, hours)}
        served = cells[SERVED]
        errors = " | ".join(f"{cells[name].mean_m:.0f} / {cells[name].median_m:.0f}" for name in models)
        lines.append(
            f"| {dataset} | {hours} | {served.n} | {errors} | {served.nll:.2f} "
            f"| {served.coverage_50:.3f} | {served.coverage_90:.3f} |"
        )
    return lines


def _individuals(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| individual | h | n | served | persistence | ridge | 50 % | 90 % |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for individual, hours in dict.fromkeys((row.individual, row.horizon_h) for row in rows):
        cells = {row.model: row for row in rows if (row.individual, row.horizon_h) == (individual, hours)}
        served = cells[SERVED]
        lines.append(
            f"| {individual} | {hours} | {served.n} | {served.mean_m:.0f} | {cells['persistence'].mean_m:.0f} "
            f"| {cells['ridge'].mean_m:.0f} | {served.coverage_50:.3f} | {served.coverage_90:.3f} |"
        )
    return lines
