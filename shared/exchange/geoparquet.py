"""GeoParquet 1.1: one row a fix, a WKB Point and its box as columns, the ``geo`` metadata that readers look for.

pyarrow writes it. It is a heavy library that a station has no other use for, so it is imported on first use; without it
the error says what to install. Rows are written in groups, so a file of any size fits into the memory of one group.

Source: GeoParquet 1.1.0 (``format-specs/geoparquet.md`` of opengeospatial/geoparquet). No ``crs`` means OGC:CRS84:
WGS 84, longitude first. A point's covering box is the point: it is written, because readers select
row groups by it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO, Final

from shared.errors import Invalid
from shared.exchange.rows import EXTRAS, WHOLE, TrackFix, flag_names
from shared.exchange.times import utc

ROW_GROUP: Final = 50_000
_WKB_POINT: Final = struct.Struct("<BIdd")
_SIDES: Final = ("xmin", "ymin", "xmax", "ymax")


def write(fixes: Iterable[TrackFix], file: BinaryIO, *, row_group: int = ROW_GROUP) -> int:
    """Write ``fixes`` and return how many there were; raises Invalid where pyarrow is not installed."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise Invalid("GeoParquet needs pyarrow, which is not installed here: `pip install pyarrow`") from error
    schema = pa.schema(
        [
            ("individual", pa.string()), ("species", pa.string()), ("collar_id", pa.string()),
            ("recorded_at", pa.timestamp("ms", tz="UTC")), ("flags", pa.string()),
            *((name, pa.int64() if name in WHOLE else pa.float64()) for name in EXTRAS),
            ("geometry", pa.binary()), ("bbox", pa.struct([(side, pa.float64()) for side in _SIDES])),
        ]
    )  # fmt: skip
    n = 0
    box: list[float] | None = None
    with parquet.ParquetWriter(file, schema, compression="zstd", store_schema=False) as writer:
        for some in _groups(fixes, row_group):
            columns = _columns(some)
            boxes = [each for each in columns["bbox"] if each is not None]
            box = _united(box, boxes)
            writer.write_table(pa.table(columns, schema=schema), row_group_size=row_group)
            n += len(some)
        writer.add_key_value_metadata({"geo": json.dumps(_geo(box))})
    return n


def _groups(fixes: Iterable[TrackFix], size: int) -> Iterator[list[TrackFix]]:
    rows = iter(fixes)
    while some := list(islice(rows, size)):
        yield some


def _columns(fixes: Sequence[TrackFix]) -> dict[str, list[Any]]:
    places = [(fix.lon_e7 / 1e7, fix.lat_e7 / 1e7) if _is_placed(fix) else None for fix in fixes]  # type: ignore[operator] # it is placed
    return {
        "individual": [fix.individual for fix in fixes],
        "species": [fix.species for fix in fixes],
        "collar_id": [fix.collar_id for fix in fixes],
        "recorded_at": [utc(fix.recorded_ms) for fix in fixes],
        "flags": [flag_names(fix.flags) for fix in fixes],
        **{name: [getattr(fix, name) for fix in fixes] for name in EXTRAS},
        "geometry": [None if place is None else _WKB_POINT.pack(1, 1, *place) for place in places],
        "bbox": [None if p is None else {"xmin": p[0], "ymin": p[1], "xmax": p[0], "ymax": p[1]} for p in places],
    }


def _is_placed(fix: TrackFix) -> bool:
    return fix.is_placed


def _united(box: list[float] | None, boxes: Sequence[dict[str, float]]) -> list[float] | None:
    if not boxes:
        return box
    mine = [
        min(each["xmin"] for each in boxes), min(each["ymin"] for each in boxes),
        max(each["xmax"] for each in boxes), max(each["ymax"] for each in boxes),
    ]  # fmt: skip
    if box is None:
        return mine
    return [min(box[0], mine[0]), min(box[1], mine[1]), max(box[2], mine[2]), max(box[3], mine[3])]


def _geo(box: list[float] | None) -> dict[str, Any]:
    geometry: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["Point"],
        "covering": {"bbox": {side: ["bbox", side] for side in _SIDES}},
    }
    if box is not None:
        geometry["bbox"] = box
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
