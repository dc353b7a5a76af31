"""The tidy CSV: what ``shared.movement.tracks`` reads, written."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Final, TextIO

from shared.exchange.rows import TrackFix, degrees, flag_names
from shared.exchange.times import iso_text

#: The columns in their order; what came later stands at the end, so that a file's older readers keep their places.
COLUMNS: Final = (
    "individual", "timestamp", "lon", "lat", "species", "collar_id", "altitude", "speed_mps", "heading", "hdop", "sats",
    "battery_mv", "temperature_c", "flags", "pdop", "h_acc_m", "seq", "battery_pct", "area",
)  # fmt: skip


def write(fixes: Iterable[TrackFix], file: TextIO) -> int:
    """Write ``fixes`` and return how many there were."""
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    n = 0
    for n, fix in enumerate(fixes, 1):  # noqa: B007 - the count is the answer
        writer.writerow(
            (
                fix.individual, iso_text(fix.recorded_ms),
                "" if fix.lon_e7 is None else degrees(fix.lon_e7), "" if fix.lat_e7 is None else degrees(fix.lat_e7),
                fix.species, fix.collar_id, fix.alt_m, fix.speed_mps, fix.heading_deg, fix.hdop, fix.sats,
                fix.battery_mv, fix.temperature_c, flag_names(fix.flags), fix.pdop, fix.h_acc_m, fix.seq,
                fix.battery_pct, fix.area,
            )
        )  # fmt: skip
    return n
