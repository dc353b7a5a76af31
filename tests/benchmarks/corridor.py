"""Corridors: steps a second of the walkers and of PPO's training, and a route beside the exact path; one thread.

``python -m tests.benchmarks.corridor [--write]``. Processor's time stands beside the clock's: on a machine that does
other things, too, it is what counts.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer

from models.corridor.exact import least_cost
from models.corridor.landscape import HELD_OUT, landscape
from models.corridor.planner import generate
from models.corridor.pools import training_pool
from models.corridor.studies import pairs_on
from models.corridor.train import Plan, ppo_of
from models.corridor.walkers import Walkers
from tests.benchmarks import machine, tables
from tests.benchmarks.tables import Table

ROOT: Final = Path(__file__).parents[2]
README: Final = Path(__file__).with_name("README.md")
MARKS: Final = (
    "<!-- tables: written by `python -m tests.benchmarks.corridor --write` -->",
    "<!-- end of tables of corridors -->",
)
WALKERS: Final = 2048
SIDES: Final = (100, 500, 2000)
MOST_S: Final = {500: 2.0}
LEAST_STEPS: Final = 600_000


def walking(steps: int) -> Table:
    """Return steps a second of walkers that move at random, with the training observation and with all reward terms."""
    rows = []
    for title, has_terms in (("with the training observation", False), ("and every reward term", True)):
        walkers = Walkers(training_pool(0, 16, (64, 64), goals=2), WALKERS, has_terms=has_terms)
        walkers.reset(0)
        rng = np.random.default_rng(0)
        actions = [rng.integers(8, size=WALKERS) for _ in range(steps)]
        for action in actions[:10]:
            walkers.step(action)
        begun, used = time.perf_counter(), time.process_time()
        for action in actions:
            walkers.step(action)
        count = WALKERS * steps
        took_s, used_s = time.perf_counter() - begun, time.process_time() - used
        promised = "-" if has_terms else f">= {LEAST_STEPS:,}: {'yes' if count / took_s >= LEAST_STEPS else 'NO'}"
        rows.append((f"{WALKERS:,}, {title}", f"{count / took_s:,.0f}", f"{count / used_s:,.0f}", promised))
    columns = ("walkers", "steps/s by the clock", "by the processor's time", "promised")
    return Table("Steps of the environment, one thread", columns, rows)


def learning(steps: int) -> Table:
    """Return steps a second of PPO as it is trained: walking, its network's answers and its updates."""
    plan = Plan()
    algorithm = ppo_of(training_pool(0, 16, (64, 64), goals=2), plan)
    begun, used = time.perf_counter(), time.process_time()
    algorithm.learn(steps)
    took_s, used_s = time.perf_counter() - begun, time.process_time() - used
    done = int(algorithm.num_timesteps)
    row = (f"{done:,}", f"{done / took_s:,.0f}", f"{done / used_s:,.0f}")
    return Table("Steps of PPO, with its updates", ("steps", "steps/s by the clock", "by the processor's time"), [row])


def routes(sides: tuple[int, ...], runs: int) -> Table:
    """Return how long a route by PPO with search takes beside the exact path, the shortest of some runs."""
    rows = []
    for side in sides:
        surface = landscape(HELD_OUT + side, (side, side))
        start, end = pairs_on(surface, 1, side)[0]
        exact_s = [_seconds(functools.partial(least_cost, surface, start, end)) for _ in range(runs)]
        taken = []
        for _ in range(runs):
            begun, used = time.perf_counter(), time.process_time()
            found = generate(surface, start, end, algorithm="ppo")
            taken.append((time.perf_counter() - begun, time.process_time() - used, found.scores.cost_ratio))
        took_s, used_s, ratio = min(taken)
        most_s = MOST_S.get(side)
        promised = "-" if most_s is None else f"< {most_s:g} s: {'yes' if took_s < most_s else 'NO'}"
        rows.append(
            (f"{side} x {side}", f"{min(exact_s):.3f}", f"{took_s:.2f}", f"{used_s:.2f}", f"{ratio:.4f}", promised)
        )
    columns = ("cells", "MCP_Geometric s", "generate s", "its processor's time s", "cost ratio", "promised")
    return Table("A route by PPO with search beside the exact path", columns, rows)


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Short rounds: shows that it runs.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the tables into the README.")] = False,
    readme: Annotated[Path, typer.Option(help="Where --write puts them.")] = README,
) -> None:
    """Measure and print the tables."""
    made = [
        walking(20 if quick else 400),
        learning(16_384 if quick else 163_840),
        routes(SIDES[:1] if quick else SIDES, 1 if quick else 3),
        Table("Machine, corridors", ("what", "value"), machine.facts(ROOT, 0.1 if quick else 1.0)),
    ]
    for table in made:
        tables.console().print(table.on_terminal())
    if write:
        tables.write(made, readme, MARKS)
        tables.console().print(f"written: {readme}")


if __name__ == "__main__":
    typer.run(main)
