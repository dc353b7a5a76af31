"""Batches of fixes on the wire: bytes and microseconds a fix, beside gzip JSON of the same rows.

`python -m tests.benchmarks.wire`. The rows are real: stretches of the tracks of two species, five collars a track,
moved by whole days so that they are of one time, as a station would hear them. The files give six decimals of a
degree; a receiver's seventh is drawn at random, and so is what the files lack (times of arrival, speed, heading,
battery, satellites), each with the spread that the codecs give it.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final

from shared.wire.batch import FixColumns, decode_fixes, encode_fixes
from tests.benchmarks import tables
from tests.benchmarks.tables import Table
from tests.real_data import FOLDER

FILES: Final = ("elephant_wall2014_movebank.csv", "elephant_etosha_getz2010.csv", "wildebeest_mara_stabach.csv")
COLLARS: Final = 40
#: Bytes a fix that a batch of so many fixes may take: time, position and the files' own columns; and with all columns.
GOALS: Final = {100: (11.0, 17.0), 1_000: (7.5, 13.0)}
_SIZES: Final = (40, 100, 1_000, 10_000)
_SEEDS: Final = 5
_SECONDS: Final = 0.4
_BEGIN_S: Final = 1_730_000_000
_DAY_S: Final = 86_400


def main() -> None:
    """Print the table."""
    missing = [name for name in FILES if not (FOLDER / name).is_file()]
    if missing:
        raise SystemExit(f"{FOLDER / missing[0]} is absent: set OUTPOST_REAL_DATA to the folder of the tracks")
    tables.console().print(table().on_terminal())


def table() -> Table:
    """Return the table; the tracks must be at hand."""
    rows = [line for count in _SIZES for line in _lines(count)]
    columns = (
        "fixes, columns", "goal, bytes a fix", "batch, bytes a fix", "worst", "gzip JSON", "encode, us a fix", "decode",
        "gzip JSON, encode", "decode",
    )  # fmt: skip
    return Table(f"A batch of {COLLARS} collars, mean of {_SEEDS}", columns, rows)


def fixes(count: int, seed: int, *, is_whole: bool) -> FixColumns:
    """Return ``count`` fixes of 40 collars: the files' own columns, and where ``is_whole`` what a station adds."""
    rng = random.Random(seed)
    tracks = _tracks(FOLDER)
    names = sorted(tracks)
    made: FixColumns = {name: [] for name in ("collar_id", "raw_ms", "lon_e7", "lat_e7", "hdop", "temperature_c")}
    for number in range(min(COLLARS, count)):
        name = names[number % len(names)]
        track = tracks[name]
        share = count // COLLARS + (number < count % COLLARS)
        begin = rng.randrange(len(track) - share)
        moved_s = (_BEGIN_S - track[begin][0]) // _DAY_S * _DAY_S
        for recorded_s, lon_e6, lat_e6, hdop, temperature_c in track[begin : begin + share]:
            made["collar_id"].append(f"{name}-{number // len(names)}")
            made["raw_ms"].append((recorded_s + moved_s) * 1000)
            made["lon_e7"].append(lon_e6 * 10 + rng.randrange(10))
            made["lat_e7"].append(lat_e6 * 10 + rng.randrange(10))
            made["hdop"].append(hdop)
            made["temperature_c"].append(temperature_c)
    return made | _of_a_station(rng, made) if is_whole else made


def _of_a_station(rng: random.Random, made: FixColumns) -> FixColumns:
    count = len(made["raw_ms"])
    received_ms = [raw_ms + rng.randrange(1_500, 9_000) for raw_ms in made["raw_ms"]]
    full_mv = {collar: rng.randrange(3_500, 4_100) for collar in sorted(set(made["collar_id"]))}
    return {
        "received_ms": received_ms,
        "sure_received_ms": list(received_ms),
        "speed_mps": [round(abs(rng.gauss(0.0, 0.6)), 2) for _ in range(count)],
        "heading_deg": [float(rng.randrange(360)) for _ in range(count)],
        "battery_mv": [full_mv[collar] + rng.randrange(-6, 7) for collar in made["collar_id"]],
        "sats": [min(12, max(4, round(rng.gauss(8.0, 1.5)))) for _ in range(count)],
        "link": ["lora"] * count,
    }


_Row = tuple[int, int, int, float | None, float | None]


@cache
def _tracks(folder: Path) -> dict[str, list[_Row]]:
    """Return each animal's rows: seconds, lon and lat in 1e-6 degree, HDOP, temperature."""
    tracks: dict[str, list[_Row]] = {}
    for name in FILES:
        for animal, row in _read(folder / name):
            tracks.setdefault(animal, []).append(row)
    return tracks


def _read(path: Path) -> Iterator[tuple[str, _Row]]:
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            recorded_s = int(datetime.fromisoformat(row["timestamp"]).timestamp())
            place = round(float(row["lon"]) * 1e6), round(float(row["lat"]) * 1e6)
            hdop, temperature_c = (float(row[name]) if row.get(name) else None for name in ("hdop", "temperature_c"))
            yield row["individual"], (recorded_s, *place, hdop, temperature_c)


def _lines(count: int) -> Iterator[tuple[str, ...]]:
    for is_whole in (False, True):
        drawn = [fixes(count, seed, is_whole=is_whole) for seed in range(_SEEDS)]
        sizes = [len(encode_fixes(columns)) / count for columns in drawn]
        packed = [len(_to_json(columns)) / count for columns in drawn]
        columns = drawn[0]
        data, text = encode_fixes(columns), _to_json(columns)
        goal = GOALS.get(count)
        yield (
            f"{count:,}, {'all' if is_whole else 'of the files'}",
            f"{goal[is_whole]:.1f}" if goal else "-",
            f"{sum(sizes) / _SEEDS:.2f}",
            f"{max(sizes):.2f}",
            f"{sum(packed) / _SEEDS:.1f}",
            f"{_us(lambda: encode_fixes(columns)) / count:.2f}",  # noqa: B023  called at once
            f"{_us(lambda: decode_fixes(data)) / count:.2f}",  # noqa: B023  called at once
            f"{_us(lambda: _to_json(columns)) / count:.2f}",  # noqa: B023  called at once
            f"{_us(lambda: json.loads(gzip.decompress(text))) / count:.2f}",  # noqa: B023  called at once
        )


def _to_json(columns: FixColumns) -> bytes:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return gzip.compress(json.dumps(rows, separators=(",", ":")).encode(), 6)


def _us(act: Callable[[], object]) -> float:
    """Return the microseconds that the quickest of several calls takes."""
    best = float("inf")
    end = time.perf_counter() + _SECONDS / 4
    while time.perf_counter() < end:
        began = time.perf_counter()
        act()
        best = min(best, time.perf_counter() - began)
    return best * 1e6


if __name__ == "__main__":
    main()
