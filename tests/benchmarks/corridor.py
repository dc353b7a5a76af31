"""Corridors: steps a second of the walkers with the training observation, and a route beside the exact path.

``python -m tests.benchmarks.corridor``; one thread.
"""

from __future__ import annotations

import time

import numpy as np

from models.corridor.exact import least_cost
from models.corridor.landscape import HELD_OUT, landscape
from models.corridor.planner import generate
from models.corridor.pools import training_pool
from models.corridor.studies import pairs_on
from models.corridor.walkers import Walkers

STEPS = 200
WALKERS = 2048
SIDES = (100, 500, 2000)


def steps_per_s(*, has_terms: bool) -> tuple[float, float]:
    """Return steps a second by the clock and by the processor's time."""
    walkers = Walkers(training_pool(0, 16, (64, 64), goals=2), WALKERS, has_terms=has_terms)
    walkers.reset(0)
    rng = np.random.default_rng(0)
    actions = [rng.integers(8, size=WALKERS) for _ in range(STEPS)]
    for action in actions[:10]:
        walkers.step(action)
    begun, used = time.perf_counter(), time.process_time()
    for action in actions:
        walkers.step(action)
    count = WALKERS * STEPS
    return count / (time.perf_counter() - begun), count / (time.process_time() - used)


def routes_s(side: int) -> tuple[float, float, float, float]:
    """Return seconds of the exact path and of a route by PPO with search, by the clock, then its processor's time."""
    surface = landscape(HELD_OUT + side, (side, side))
    start, end = pairs_on(surface, 1, side)[0]
    begun = time.perf_counter()
    least_cost(surface, start, end)
    exact_s = time.perf_counter() - begun
    begun, used = time.perf_counter(), time.process_time()
    found = generate(surface, start, end, algorithm="ppo")
    return exact_s, time.perf_counter() - begun, time.process_time() - used, found.scores.cost_ratio


def main() -> None:
    """Print the tables."""
    print("| walkers | steps/s by the clock | by the processor's time |\n|---|--:|--:|")
    for title, has_terms in (("with the training observation", False), ("and every reward term", True)):
        clock, processor = steps_per_s(has_terms=has_terms)
        print(f"| {WALKERS}, {title} | {clock:,.0f} | {processor:,.0f} |")
    print("\n| cells | exact path s | route s | its processor's time s | cost ratio |\n|---|--:|--:|--:|--:|")
    for side in SIDES:
        exact_s, route_s, used_s, ratio = routes_s(side)
        print(f"| {side} x {side} | {exact_s:.2f} | {route_s:.2f} | {used_s:.2f} | {ratio:.4f} |")


if __name__ == "__main__":
    main()
