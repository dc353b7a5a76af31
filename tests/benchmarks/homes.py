"""Both homes side by side: operations of their contract a second, and a station's backlog into the cloud.

`python -m tests.benchmarks.homes`, the second part of `make bench`.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated, Final

import typer

from tests.benchmarks import contract, machine, tables
from tests.benchmarks.reconcile import Reconciled, reconcile
from tests.benchmarks.tables import Table

ROOT: Final = Path(__file__).parents[2]
README: Final = Path(__file__).with_name("README.md")
MARKS: Final = (
    "<!-- tables: written by `python -m tests.benchmarks.homes --write` -->",
    "<!-- end of tables of both homes -->",
)
BATCHES: Final = (1_000, 2_000, 4_000)
#: What is promised of a station's own batches: this part of the speed of COPY.
MIN_RATIO: Final = 0.3
PROMISED_AT: Final = 4_000


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Short rounds: shows that it runs.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the tables into the README.")] = False,
    readme: Annotated[Path, typer.Option(help="Where --write puts them.")] = README,
) -> None:
    """Measure both homes and print the tables; exits with 1 where a promise is not kept, --quick never does."""
    rounds, fixes, seconds = (1, 2_000, 0.05) if quick else (3, 60_000, 1.5)
    console = tables.console()
    of_machine = machine.facts(ROOT, 0.1 if quick else 1.0)
    measured = [
        (batch, [reconcile(fixes, batch) for _ in range(rounds)]) for batch in (BATCHES[:1] if quick else BATCHES)
    ]
    rates = contract.rates(seconds, 1_000 if quick else 20_000)
    made = [
        Table(
            "A station's backlog into the cloud, fixes/s",
            (
                "fixes in a batch",
                "through HTTP",
                "COPY, a batch a commit",
                "COPY at once",
                "ratio of each round",
                "ratio",
            ),
            [_row(batch, each) for batch, each in measured],
        ),
        Table(
            "Operations of the contract, calls/s",
            ("operation", "station", "cloud"),
            [(rate.operation, _figure(rate.station_per_s), _figure(rate.cloud_per_s)) for rate in rates],
        ),
        Table("Machine, both homes", ("what", "value"), of_machine),
    ]
    for table in made:
        console.print(table.on_terminal())
    if write:
        tables.write(made, readme, MARKS)
        console.print(f"written: {readme}")
    ratios = [statistics.median(one.ratio for one in each) for batch, each in measured if batch == PROMISED_AT]
    if any(ratio < MIN_RATIO for ratio in ratios):
        console.print(f"[red]the ratio to COPY is {min(ratios):.2f}, promised is {MIN_RATIO}[/red]")
        raise typer.Exit(1)


def _row(batch: int, rounds: list[Reconciled]) -> tuple[str, ...]:
    ratios = [each.ratio for each in rounds]
    return (
        f"{batch:,}",
        _figure(statistics.median(each.http_per_s for each in rounds)),
        _figure(statistics.median(each.copy_batches_per_s for each in rounds)),
        _figure(statistics.median(each.copy_once_per_s for each in rounds)),
        " ".join(f"{ratio:.2f}" for ratio in ratios),
        f"{statistics.median(ratios):.2f}",
    )


def _figure(value: float) -> str:
    return f"{value:,.0f}"


if __name__ == "__main__":
    typer.run(main)
