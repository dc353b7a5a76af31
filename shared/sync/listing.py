"""What the lists of both homes have in common: how a fix is selected, conditions, order, search. Text and values only.

The same words of SQL hold in SQLite and in PostgreSQL; what differs stays in the homes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from shared.domain import EXCLUDING, Fix, FixFlag
from shared.errors import Invalid
from shared.sync.records import degrees, from_ms, to_ms

#: Fixes ``f`` with their collar ``c`` and their animal ``a``; ``fix_of`` reads its rows.
FIX: Final = """
SELECT f.id, c.id, a.id, f.recorded_ms, f.raw_ms, f.received_ms, f.network_ms, f.lon_e7, f.lat_e7, f.alt_m, f.speed_mps,
  f.heading_deg, f.hdop, f.pdop, f.sats, f.h_acc_m, f.seq, f.battery_mv, f.battery_pct, f.temperature_c, f.rssi_dbm,
  f.snr_db, f.source, f.flags, f.link, f.local_id, f.activity_type, f.notes
FROM fixes f JOIN collars c ON c.pk = f.collar_pk LEFT JOIN animals a ON a.pk = f.animal_pk AND a.deleted_ms IS NULL"""

#: The same of what a reduced view has (``shared.sync.reduced``), with the area that stands for a place; the last column
#: says whether a row is reduced.
REDUCED_FIX: Final = FIX.replace("f.notes", "f.notes, f.area, f.is_reduced")
_AREA_AT: Final = 28

#: ``shared.domain.is_usable`` of fixes ``f``.
USABLE: Final = (
    f"(f.flags & {int(FixFlag.EXCLUDED_BY_HAND)} = 0 AND"
    f" (f.flags & {int(FixFlag.REINSTATED)} <> 0 OR f.flags & {int(EXCLUDING)} = 0))"
)

#: The collar that the animal ``r`` wears now.
COLLAR_OF: Final = (
    "(SELECT c.id FROM deployments d JOIN collars c ON c.pk = d.collar_pk WHERE d.animal_pk = r.pk"
    " AND d.ended_ms IS NULL AND d.deleted_ms IS NULL LIMIT 1)"
)


class Where:
    """Conditions and the values bound to them; ``mark`` is what stands for a value in the home's SQL."""

    def __init__(self, mark: str, *conditions: str) -> None:
        self._mark = mark
        self._conditions = list(conditions)
        self.values: list[Any] = []

    def add(self, condition: str, *values: Any) -> None:
        """Add a condition, which has the home's mark for each of ``values``."""
        self._conditions.append(condition)
        self.values += values

    def add_equal(self, columns: Mapping[str, Any]) -> None:
        """Ask that each column has its value; None asks nothing."""
        for column, value in columns.items():
            if value is not None:
                self.add(f"{column} = {self._mark}", value)

    def add_span(self, column: str, since: datetime | None, until: datetime | None) -> None:
        """Ask that ``column``, in milliseconds, is not before ``since`` and before ``until``."""
        if since is not None:
            self.add(f"{column} >= {self._mark}", to_ms(since))
        if until is not None:
            self.add(f"{column} < {self._mark}", to_ms(until))

    def copy(self) -> Where:
        """Return the same conditions, to add others to."""
        copied = Where(self._mark, *self._conditions)
        copied.values = list(self.values)
        return copied

    def sql(self) -> str:
        """Return the clause, with a space before it; empty where nothing is asked."""
        return f" WHERE {' AND '.join(self._conditions)}" if self._conditions else ""

    def __bool__(self) -> bool:
        return bool(self._conditions)


def fix_of(identity: str, row: Sequence[Any]) -> Fix:
    """Return a row of ``FIX`` or ``REDUCED_FIX`` as a fix; ``identity`` is its id in text, drivers differ in it."""
    return Fix(
        id=identity, collar_id=row[1], animal_id=row[2], recorded_at=from_ms(row[3]),
        raw_recorded_at=from_ms(row[4]), received_at=from_ms(row[5]),
        network_time=None if row[6] is None else from_ms(row[6]), lon_deg=degrees(row[7]), lat_deg=degrees(row[8]),
        alt_m=row[9], speed_mps=row[10], heading_deg=row[11], hdop=row[12], pdop=row[13], sats=row[14],
        h_acc_m=row[15], seq=row[16], battery_mv=row[17], battery_pct=row[18], temperature_c=row[19],
        rssi_dbm=row[20], snr_db=row[21], source=row[22], flags=row[23], link=row[24], local_id=row[25],
        activity_type=row[26], notes=row[27], area=row[_AREA_AT] if len(row) > _AREA_AT else None,
    )  # fmt: skip


def order_by(ordering: str, columns: Mapping[str, str], tie: str) -> str:
    """Return the order that a caller asks for by a public name, ``tie`` deciding between equals; raises Invalid."""
    name = ordering.removeprefix("-")
    if name not in columns:
        raise Invalid(f"ordering: must be one of {', '.join(columns)}, with - for descending")
    direction = " DESC" if ordering.startswith("-") else ""
    return f"{columns[name]}{direction}, {tie}{direction}"


def like_pattern(text: str) -> str:
    r"""Return the pattern that finds ``text`` anywhere, with ``\`` as its escape."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
