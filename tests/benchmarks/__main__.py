"""`make bench`: grows a station to each size, measures it there, prints the tables; see the README beside this file."""

from __future__ import annotations

import contextlib
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import rich.progress
import typer

from tests.benchmarks import decode, fill, ingest, latency, machine, reads, tables
from tests.benchmarks.figures import quantile
from tests.benchmarks.herd import COLLARS
from tests.benchmarks.station import configure, station
from tests.benchmarks.tables import Table

ROOT: Final = Path(__file__).parents[2]
README: Final = Path(__file__).with_name("README.md")

MIN_RATIO: Final = 0.6
MAX_P99_MS: Final = 500.0
MAX_PSS_MB: Final = 150.0
PSS_AT_FIXES: Final = 1_000_000

#: What one fix takes on the disk while this runs: in the store, in its copy for the plain insert, in the ledger.
_BYTES_A_FIX: Final = 1_000

console = tables.console()
notes = tables.console(is_stderr=True)


class Effort(msgspec.Struct, frozen=True):
    """How much is measured at each size."""

    rounds: int
    round_fixes: int
    warm_up_fixes: int
    latency_s: float
    reads: int
    run_s: float


FULL: Final = Effort(rounds=3, round_fixes=10_000, warm_up_fixes=2_000, latency_s=20.0, reads=50, run_s=0.5)
QUICK: Final = Effort(rounds=2, round_fixes=1_000, warm_up_fixes=200, latency_s=2.0, reads=3, run_s=0.02)


class AtSize(msgspec.Struct, frozen=True):
    """Everything that was measured at one size; ``stored`` fixes were in it at the end."""

    fixes: int
    stored: int
    filled_per_s: float
    ingest: ingest.Ingest
    latency: latency.Latency
    reads: list[reads.Read]
    pss_mb: float
    start_s: float
    database_bytes_a_fix: float
    ledger_bytes_a_frame: float

    @property
    def worst_pss_mb(self) -> float:
        """The largest of the memory figures."""
        return max(self.ingest.pss_at_start_mb, self.ingest.pss_mb, self.pss_mb)


def main(
    sizes: Annotated[str | None, typer.Option(help="Fixes stored when it is measured, with commas between.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="10,000 fixes and short rounds: shows that it runs.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the tables into the README.")] = False,
    readme: Annotated[Path, typer.Option(help="Where --write puts them.")] = README,
    folder: Annotated[Path, typer.Option("--dir", help="A folder on the disk to measure.")] = ROOT / "var",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the station's files.")] = False,
) -> None:
    """Measure a station at several sizes. Exits 1 where a promise is not kept, except with --quick."""
    wanted = sorted({int(size) for size in (sizes or ("10000" if quick else "100000,1000000,5000000")).split(",")})
    effort = QUICK if quick else FULL
    folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="benchmark-", dir=folder.resolve()))
    try:
        _check_room(place, wanted[-1])
        of_machine = machine.facts(place, effort.run_s * 2)
        with _progress() as progress:
            measured = _measure(place, wanted, effort, progress)
            with _step(progress, "codecs"):
                codecs, peers = decode.codecs(effort.run_s), decode.peers(effort.run_s)
            with _step(progress, "framing"):
                framings = decode.framings(effort.run_s)
        of_machine.append(("syncs after all of it", f"{machine.syncs_per_s(place, effort.run_s * 2):,.0f} a second"))
    finally:
        if keep:
            notes.print(f"kept: {place}")
        else:
            shutil.rmtree(place)
    promises, is_kept = _promises(measured)
    made = [promises, *_tables(measured), *_decode_tables(codecs, framings, peers)]
    made.append(Table("Machine", ("what", "value"), of_machine))
    for table in made:
        console.print(table.on_terminal())
    if write:
        tables.write(made, readme)
        console.print(f"written: {readme}")
    if not is_kept and not quick:
        raise typer.Exit(1)


def _measure(place: Path, wanted: Sequence[int], effort: Effort, progress: rich.progress.Progress) -> list[AtSize]:
    folder = place / "station"
    config = configure(folder)
    with _step(progress, f"{COLLARS} animals"):
        fill.herd_up(config)
    measured = []
    count = 0
    for size in wanted:
        filled_per_s = _grow(progress, folder, count, size)
        count = max(count, size)
        with _step(progress, f"{size:,} fixes: durable ingest beside plain insert"):
            pair = ingest.measure(
                folder, configure(folder), count, effort.round_fixes, effort.rounds, effort.warm_up_fixes
            )
        count += effort.warm_up_fixes + effort.rounds * effort.round_fixes
        # started anew: a minute after its start a station checks every page, which is no part of these figures
        with station(folder) as running:
            with _step(progress, f"{size:,} fixes: frame to API"):
                delays = latency.frame_to_api(running, count, effort.latency_s)
            count += len(delays.api_ms)
            with _step(progress, f"{size:,} fixes: reads"):
                asked = reads.measure(running, count, effort.reads)
            stored, frames = running.detail()["store"]["fixes"], running.detail()["ledger"]["frames"]
            pss_mb, start_s = running.pss_mb(), running.start_s
        if not stored == frames == count:
            raise RuntimeError(f"{count} fixes were sent, {frames} frames kept, {stored} fixes stored")
        ledger_bytes = sum(path.stat().st_size for path in config.ledger_dir.iterdir())
        measured.append(
            AtSize(
                size, count, filled_per_s, pair, delays, asked, pss_mb, start_s,
                config.database.stat().st_size / count, ledger_bytes / count,
            )
        )  # fmt: skip
    return measured


def _grow(progress: rich.progress.Progress, folder: Path, first: int, last: int) -> float:
    """Grow the station and return the fixes per second; NaN where it has the size already."""
    if first >= last:
        return math.nan
    task = progress.add_task(f"{last:,} fixes: filling", total=last - first)
    began = time.perf_counter()
    fill.grow(configure(folder), first, last, lambda count: progress.advance(task, count))
    return (last - first) / (time.perf_counter() - began)


@contextlib.contextmanager
def _progress() -> Iterator[rich.progress.Progress]:
    with rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
        console=notes,
        disable=not notes.is_terminal,
    ) as progress:
        yield progress


@contextlib.contextmanager
def _step(progress: rich.progress.Progress, what: str) -> Iterator[None]:
    task = progress.add_task(what, total=None)
    yield
    progress.update(task, total=1, completed=1)


def _check_room(place: Path, largest: int) -> None:
    needed = largest * _BYTES_A_FIX + 10**9
    if shutil.disk_usage(place).free < needed:
        raise typer.BadParameter(f"{place} has no {needed / 1e9:.0f} GB left: choose another with --dir")
    if machine.file_system(place) in ("tmpfs", "ramfs"):
        notes.print(f"[yellow]{place} lies in memory: figures about durability mean nothing there")


def _promises(measured: Sequence[AtSize]) -> tuple[Table, bool]:
    """Return the promises with the figures beside them, and whether all are kept."""
    rows = []
    verdicts = []
    for at in measured:
        p99_ms = quantile(at.latency.api_ms, 0.99)
        claims = [
            (
                "durable ingest / plain insert",
                f">= {MIN_RATIO}",
                f"{at.ingest.ratio:.2f}",
                at.ingest.ratio >= MIN_RATIO,
            ),
            ("frame to API, p99", f"< {MAX_P99_MS:.0f} ms", f"{p99_ms:.0f} ms", p99_ms < MAX_P99_MS),
        ]
        if at.fixes == PSS_AT_FIXES:
            claims.append(
                (
                    "memory (PSS), worst",
                    f"< {MAX_PSS_MB:.0f} MB",
                    f"{at.worst_pss_mb:.0f} MB",
                    at.worst_pss_mb < MAX_PSS_MB,
                )
            )
        for what, limit, figure, is_kept in claims:
            rows.append((what, f"{at.fixes:,}", limit, figure, "yes" if is_kept else "NO"))
            verdicts.append(is_kept)
    return Table("Promises", ("what", "fixes stored", "promised", "measured", "kept"), rows), all(verdicts)


def _tables(measured: Sequence[AtSize]) -> list[Table]:
    """Return the tables with a row for each size, and that of the reads, with columns for each."""
    ingested, delayed, kept = [], [], []
    for at in measured:
        size = f"{at.fixes:,}"
        rounds = at.ingest.rounds
        ingested.append((
            size,
            f"{statistics.median(each.durable for each in rounds):,.0f}",
            f"{statistics.median(each.plain for each in rounds):,.0f}",
            " ".join(f"{each.ratio:.2f}" for each in rounds),
            f"{at.ingest.ratio:.2f}",
        ))  # fmt: skip
        event_ms, api_ms = at.latency.event_ms, at.latency.api_ms
        delayed.append((
            size, *(f"{quantile(times, share):.1f}" for times in (event_ms, api_ms) for share in (0.5, 0.99)),
            f"{max(api_ms):.1f}",
        ))  # fmt: skip
        kept.append((
            size, f"{at.ingest.pss_at_start_mb:.0f}", f"{at.ingest.pss_mb:.0f}", f"{at.pss_mb:.0f}",
            f"{at.database_bytes_a_fix:.0f}", f"{at.ledger_bytes_a_frame:.0f}",
            f"{max(at.ingest.start_s, at.start_s):.2f}",
            "-" if math.isnan(at.filled_per_s) else f"{at.filled_per_s:,.0f}",
        ))  # fmt: skip
    asked = []
    for index, read in enumerate(measured[0].reads):
        cells = [read.name]
        for at in measured:
            took_ms = at.reads[index].took_ms
            cells += [f"{at.reads[index].rows:,}", f"{quantile(took_ms, 0.5):.1f} / {quantile(took_ms, 0.95):.1f}"]
        asked.append(cells)
    heads = [head for at in measured for head in (f"rows of {at.fixes:,}", "p50 / p95, ms")]
    return [
        Table(
            "Durable ingest beside plain insert, fixes/s",
            ("fixes stored", "durable", "plain", "ratio of each round", "ratio, median"),
            ingested,
        ),
        Table(
            f"From a frame to the API at {latency.RATE_HZ:.0f} fixes/s, ms",
            ("fixes stored", "event p50", "event p99", "API p50", "API p99", "API max"),
            delayed,
        ),
        Table(
            "Memory, disk, start",
            (
                "fixes stored", "PSS at start, MB", "after ingest", "after reads", "database, bytes a fix",
                "ledger, bytes a frame", "start to ready, s", "filled, fixes/s",
            ),
            kept,
        ),
        Table("Reads", ("question", *heads), asked),
    ]  # fmt: skip


def _decode_tables(
    codecs: Sequence[decode.Speed], framings: Sequence[decode.Speed], peers: Sequence[decode.Beside]
) -> list[Table]:
    return [
        Table(
            "Decoding alone, one thread",
            ("codec", "payload, bytes", "frames/s", "fixes/s", "us a fix"),
            [
                (it.name, f"{it.frame_bytes:.0f}", f"{it.frames:,.0f}", f"{it.fixes:,.0f}", f"{1e6 / it.fixes:.1f}")
                for it in codecs
            ],
        ),
        Table(
            "Decoding beside a library, frames/s",
            ("codec", "ours", "library", "theirs", "ours / theirs"),
            [
                (it.name, f"{it.frames:,.0f}", it.library, f"{it.theirs:,.0f}", f"{it.frames / it.theirs:.2f}")
                for it in peers
            ],
        ),
        Table(
            "Framing alone, one thread",
            ("framing", "on the wire, bytes", "frames/s", "MB/s"),
            [(it.name, f"{it.frame_bytes:.0f}", f"{it.frames:,.0f}", f"{it.megabytes:.1f}") for it in framings],
        ),
    ]


if __name__ == "__main__":
    typer.run(main)
