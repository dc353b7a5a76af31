"""A large file into a station and out of it again in every format: seconds and peak memory of each, in its own process.

`python -m tests.benchmarks.exchange [--rows N] [--write]`. The file is a Movebank CSV of 20 animals on a fix every 15
minutes that wander in home ranges of 20 km; the station is the shipped one, encrypted, with every commit synced. Peak
memory is what the kernel says a process had at most (VmHWM); the first line is that of the program doing nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from edge.ops.import_tracks import import_tracks
from edge.store.export import FORMATS, Selection, export_tracks
from edge.store.store import SpatialiteStore
from shared.privacy import OPERATOR, view_for
from tests.benchmarks import tables
from tests.benchmarks.tables import Table

README: Final = Path(__file__).with_name("README.md")
MARKS: Final = (
    "<!-- exchange: written by `python -m tests.benchmarks.exchange --write` -->", "<!-- end of exchange -->",
)  # fmt: skip
ANIMALS: Final = 20
_START: Final = datetime(2020, 1, 1, 0, 0, 17, 250_000, UTC)
_STEP: Final = timedelta(minutes=15)
_RANGE_DEG: Final = 0.1
_KEY: Final = bytes(range(32))
_SUFFIX: Final = {"gpx": "gpx", "kml": "kml", "geojson": "geojson", "geojson-lines": "geojson", "geoparquet": "parquet"}


def write_file(path: Path, rows: int) -> None:
    """Write a Movebank CSV of ``rows`` events, animal after animal."""
    rng = random.Random(20_260_101)
    with path.open("w", encoding="utf-8") as file:
        file.write(
            "event-id,visible,timestamp,location-long,location-lat,gps:hdop,gps:satellite-count,sensor-type,"
            "individual-taxon-canonical-name,tag-local-identifier,individual-local-identifier\n"
        )
        for animal in range(ANIMALS):
            home = (36 + animal * 0.2, -2.0)
            east, north = 0.0, 0.0
            for number in range(rows // ANIMALS):
                east, north = 0.99 * east + rng.gauss(0, 0.004), 0.99 * north + rng.gauss(0, 0.004)
                lon = home[0] + _RANGE_DEG * math.tanh(east)
                lat = home[1] + _RANGE_DEG * math.tanh(north)
                at = _START + number * _STEP + timedelta(seconds=rng.randrange(60))
                file.write(
                    f"{number},true,{at:%Y-%m-%d %H:%M:%S}.250,{lon:.7f},{lat:.7f},{rng.choice((0.9, 1.2, 2.4))},"
                    f"{rng.randint(5, 12)},gps,Loxodonta africana,K{animal},Elephant {animal}\n"
                )


async def _do(act: str, database: Path, path: Path) -> int:
    store = SpatialiteStore(database, _KEY, now=lambda: datetime.now(UTC))
    view = view_for(OPERATOR)
    try:
        if act == "import":
            done = await import_tracks(store, view, path, received_at=datetime.now(UTC))
            assert done.refused == 0, done.problems
            return done.new + done.duplicates
        if act == "open":
            return 0
        return await export_tracks(store, view, path, Selection(), form=act)
    finally:
        await store.close()


def child(act: str, database: str, path: str) -> None:
    """Do one thing and print what it cost, as JSON."""
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    rows = asyncio.run(_do(act, Path(database), Path(path)))
    wall_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_kib = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    print(json.dumps({"rows": rows, "wall_s": wall_s, "cpu_s": cpu_s, "peak_kib": peak_kib}))


def _measured(act: str, database: Path, path: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.exchange", "--child", act, str(database), str(path)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def main() -> None:
    """Print the table; ``--write`` puts it into the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--child", nargs=3)
    asked = parser.parse_args()
    if asked.child:
        child(*asked.child)
        return
    with tempfile.TemporaryDirectory(prefix="outpost-exchange-") as folder:
        database, file = Path(folder) / "station.db", Path(folder) / "in.csv"
        write_file(file, asked.rows)
        lines = []
        acts = [("the program alone", "open", file), ("import, Movebank CSV", "import", file)]
        acts.append(("import of the same file again", "import", file))
        acts += [
            (f"export, {form}", form, Path(folder) / f"out.{_SUFFIX.get(form, 'csv')}")
            for form in FORMATS
            if form != "movebank-reference"
        ]
        for name, act, path in acts:
            found = _measured(act, database, path)
            print(name, found, file=sys.stderr, flush=True)
            rate = f"{found['rows'] / found['wall_s']:,.0f}" if found["rows"] else ""
            lines.append(
                (name, f"{found['rows']:,}", f"{found['wall_s']:.0f}", f"{found['cpu_s']:.0f}", rate,
                 f"{found['peak_kib'] / 1024:.0f}", f"{path.stat().st_size / 1e6:.0f}")
            )  # fmt: skip
        table = Table(
            "Files in and out", ("what", "fixes", "seconds", "CPU seconds", "fixes/s", "peak MiB", "file MB"), lines
        )
    tables.console().print(table.on_terminal())
    if asked.write:
        tables.write([table], README, MARKS)


if __name__ == "__main__":
    main()
