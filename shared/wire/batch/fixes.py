"""Fixes as a batch: the columns they have, and the versions of it that are read and written.

How columns become bytes is said in ``columns``, what a later version may change in ``schema``.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from shared.errors import Invalid
from shared.wire.batch.columns import Column, Columns, Table, read_columns, write_columns
from shared.wire.batch.container import FIXES, pack, unpack
from shared.wire.batch.schema import ColumnLadder

#: Columns of fixes by name; one that is absent has its default in every row.
FixColumns: TypeAlias = Columns

#: Places in this tuple are on the wire: never reorder, only append (and raise the version).
FIX_COLUMNS: Final = (
    Column("collar_id", "text", is_optional=False),
    Column("raw_ms", "integer", is_optional=False, orders=(1, 2)),
    Column("received_ms", "integer", after="raw_ms"),
    Column("sure_received_ms", "integer", after="received_ms"),
    Column("network_ms", "integer", after="received_ms"),
    Column("lon_e7", "integer", orders=(1, 2)),
    Column("lat_e7", "integer", orders=(1, 2)),
    Column("source", "text", is_optional=False, default="collar"),
    Column("alt_m", "decimal"),
    Column("speed_mps", "decimal"),
    Column("heading_deg", "decimal"),
    Column("hdop", "decimal"),
    Column("pdop", "decimal"),
    Column("h_acc_m", "decimal"),
    Column("battery_pct", "decimal"),
    Column("temperature_c", "decimal"),
    Column("snr_db", "decimal"),
    Column("sats", "integer"),
    Column("seq", "integer"),
    Column("battery_mv", "integer"),
    Column("rssi_dbm", "number"),
    Column("link", "text"),
    Column("local_id", "text"),
    Column("activity_type", "text"),
    Column("notes", "text"),
    Column("said_animal_id", "text"),
    Column("is_clock_unset", "integer", is_optional=False, default=0),
)

#: No column has changed since the first: what every program so far has written is version 1.
FIX_LADDER: Final = ColumnLadder(
    Table("fixes", FIX_COLUMNS, order=("raw_ms", "lon_e7", "lat_e7"), claims=("is_clock_unset",))
)


def encode_fixes(columns: FixColumns, version: int | None = None, ladder: ColumnLadder = FIX_LADDER) -> bytes:
    """Return the rows of ``columns`` as a batch, for a program of an older ``version`` where one is named.

    Raises Invalid as ``write_columns`` does and for more than a batch may hold, BatchTooOld for a version that is left
    behind.
    """
    wanted = ladder.newest if version is None else min(version, ladder.newest)
    ladder.check(wanted)
    return pack(FIXES, wanted, write_columns(ladder.table(wanted), ladder.lowered(wanted, columns)))


def decode_fixes(data: bytes, ladder: ColumnLadder = FIX_LADDER) -> FixColumns:
    """Return every column of a batch as this program means them, sorted by (collar, raw time, lon, lat).

    Raises Invalid, and BatchTooNew and BatchTooOld for a version that this program does not read.
    """
    version, sections = unpack(data, FIXES, ladder.newest)
    ladder.check(version)
    if len(sections) != 2:
        raise Invalid("a batch of fixes has two sections")
    return ladder.raised(version, read_columns(ladder.table(version), *sections))
