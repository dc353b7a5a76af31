"""The formats by name: which there are, which a file is in, and how to read and write each."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from datetime import tzinfo
from pathlib import Path
from typing import Final, Literal, TextIO

from shared.errors import Invalid
from shared.exchange import geojson, gpx, kml, movebank, tidy
from shared.exchange.movebank import OtherSensor
from shared.exchange.rows import TrackFix
from shared.movement.tracks import REQUIRED, BadRow, TrackRow, csv_names, read_tracks

ImportFormat = Literal["tidy", "movebank", "movebank-reference", "gpx", "geojson"]
IMPORTED: Final[tuple[ImportFormat, ...]] = ("tidy", "movebank", "movebank-reference", "gpx", "geojson")
_BY_SUFFIX: Final[dict[str, ImportFormat]] = {".gpx": "gpx", ".geojson": "geojson", ".json": "geojson"}
_SAMPLE: Final = 1 << 16


#: Text formats of fixes; each writer returns how many fixes it wrote. ``movebank`` writes a study of Outpost's.
WRITTEN: Final[dict[str, Callable[[Iterable[TrackFix], TextIO], int]]] = {
    "tidy": tidy.write,
    "movebank": lambda fixes, file: movebank.write(fixes, file, study="Outpost"),
    "gpx": gpx.write,
    "geojson": geojson.write,
    "geojson-lines": geojson.write_lines,
    "kml": kml.write,
}
_EXPORT_SUFFIXES: Final = {
    ".gpx": "gpx", ".geojson": "geojson", ".json": "geojson", ".kml": "kml", ".parquet": "geoparquet",
}  # fmt: skip


def format_of(path: Path) -> ImportFormat:
    """Return the format that ``path`` is in, by its name or else by the columns of its first line; raises Invalid."""
    if (found := _BY_SUFFIX.get(path.suffix.lower())) is not None:
        return found
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            names = csv_names(csv.DictReader(iter([file.readline(_SAMPLE)])), path)
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error
    if "location-long" in names:
        return "movebank"
    if set(movebank.REQUIRED_REFERENCE) <= set(names) and not set(REQUIRED) <= set(names):
        return "movebank-reference"
    return "tidy"


def read_rows(
    path: Path, form: ImportFormat, *, zone: tzinfo | None, individual: str | None = None
) -> Iterator[TrackRow | BadRow | OtherSensor]:
    """Yield the rows of a file of fixes; ``zone`` is that of times which carry none, None refuses such a file."""
    if form == "movebank":
        return movebank.read(path, zone)
    if form == "gpx":
        return gpx.read(path, zone, individual)
    if form == "geojson":
        return geojson.read(path, zone, individual)
    if form == "tidy":
        return read_tracks(path, zone)
    raise Invalid(f"{path}: {form} holds no fixes")


def written_format(path: Path) -> str:
    """Return the format that a file of this name is written in where nobody says: tidy, unless its suffix says."""
    return _EXPORT_SUFFIXES.get(path.suffix.lower(), "tidy")


def rows_in(path: Path, form: ImportFormat) -> int:
    """Return about how many rows a file has, for a progress bar; 0 where it cannot be told."""
    mark = {"gpx": b"<trkpt", "geojson": b'"Feature"'}.get(form, b"\n")
    n, tail = 0, b""
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                n += (tail + piece).count(mark)
                tail = piece[1 - len(mark) :] if len(mark) > 1 else b""
    except OSError:
        return 0
    return n
