"""What is promised of the forecast, and whether the figures keep it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from models.forecast.baselines import NAMES
from models.forecast.findings import SERVED, Against, Bar, Int8Cost, Row, Speed, pairs

#: Coverage over fewer forecasts than this, all of one or two animals, proves little either way.
LARGE: Final = 2_000
#: Gap to the best plain forecast, gains over persistence, coverage and cost of int8 that are promised.
MOST_ABOVE_BEST: Final = 0.005
BOUNDS_50: Final = (0.45, 0.55)
BOUNDS_90: Final = (0.87, 0.93)
MOST_INT8_COST: Final = 0.005
LEAST_WILDEBEEST_GAIN: Final = 0.2


def bars_of(
    rows: Sequence[Row], against: Sequence[Against], costs: Sequence[Int8Cost], speed: Sequence[Speed]
) -> list[Bar]:
    """Return every promise with what was found."""
    bars = [bar for split in ("forward", "left out") if (bar := _best_bar(rows, split)) is not None]
    bars += [
        Bar(
            promise=f"{one.split}: served is better than {one.baseline} over all sets and horizons",
            found=f"{one.change:+.1%} ({one.low:+.1%} to {one.high:+.1%})",
            is_kept=one.high < 0,
        )
        for one in against
    ]
    bars += _wildebeest_bars(rows)
    bars += _coverage_bars(rows)
    for cost in costs:
        bars.append(
            Bar(
                promise=f"int8 {cost.engine} costs at most {MOST_INT8_COST:.1%} of the mean error",
                found=f"{cost.mean:+.2%}, at worst {cost.worst:+.2%}",
                is_kept=cost.mean <= MOST_INT8_COST,
            )
        )
    for one_speed in speed:
        bars.append(
            Bar(
                promise=f"{one_speed.engine}: an animal takes less than 20 ms",
                found=f"median {one_speed.median_ms:.1f} ms, {one_speed.median_ms_given_states:.1f} ms given states",
                is_kept=one_speed.median_ms < 20,
            )
        )
    return bars


def _best_bar(rows: Sequence[Row], split: str) -> Bar | None:
    worst = (-math.inf, "")
    for mine, _ in pairs(rows, SERVED, "persistence", split):
        best = min(
            theirs.mean_m
            for name in NAMES
            for row, theirs in pairs(rows, SERVED, name, split)
            if (row.dataset, row.horizon_h) == (mine.dataset, mine.horizon_h)
        )
        worst = max(worst, (mine.mean_m / best - 1, f"{mine.dataset} at {mine.horizon_h} h"))
    if not worst[1]:
        return None
    return Bar(
        promise=f"{split}: served is at most {MOST_ABOVE_BEST:.1%} above the best plain forecast anywhere",
        found=f"{worst[0]:+.2%} ({worst[1]})",
        is_kept=worst[0] <= MOST_ABOVE_BEST,
    )


def _wildebeest_bars(rows: Sequence[Row]) -> list[Bar]:
    found = []
    for split in ("forward", "left out"):
        for mine, theirs in pairs(rows, SERVED, "persistence", split):
            if mine.dataset.startswith("wildebeest") and mine.horizon_h == 12:
                gain = 1 - mine.mean_m / theirs.mean_m
                found.append(
                    Bar(
                        promise=f"{split}: wildebeest at 12 h are {LEAST_WILDEBEEST_GAIN:.0%} below persistence",
                        found=f"{gain:.1%}",
                        is_kept=gain >= LEAST_WILDEBEEST_GAIN,
                    )
                )
    return found


def _coverage_bars(rows: Sequence[Row]) -> list[Bar]:
    """The bars of coverage on left-out animals: of every set, and of those that are large enough to prove something."""
    served = [row for row in rows if row.split == "left out" and row.individual is None and row.model == SERVED]
    found = []
    for least, title in ((LARGE, f"each set of {LARGE:,} forecasts or more"), (0, "each set")):
        for share, bounds in ((0.5, BOUNDS_50), (0.9, BOUNDS_90)):
            values = [
                (value, f"{row.dataset} at {row.horizon_h} h")
                for row in served
                if row.n >= least and (value := row.coverage_50 if share == 0.5 else row.coverage_90) is not None
            ]
            if values:
                low, high = min(values), max(values)
                found.append(
                    Bar(
                        promise=f"left out: {share:.0%} ellipses hold {bounds[0]} to {bounds[1]} in {title}",
                        found=f"{low[0]:.3f} ({low[1]}) to {high[0]:.3f} ({high[1]})",
                        is_kept=bounds[0] <= low[0] and high[0] <= bounds[1],
                    )
                )
    return found
