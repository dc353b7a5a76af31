"""Fixes as rows, the same in both homes: how one is made, how copies of one become one, what the rules see of it.

A fix is immutable and its id follows from it, so fixes need no revision: the union of two sets of copies is the truth,
whatever the order in which they came. Folding copies is commutative: an empty column takes any value, of two values the
more cautious stays (worse DOP, fewer satellites, earlier reception; the stronger signal), and where neither is, the
smaller one.

A row is a dictionary of the columns of ``fixes`` plus ``collar``, the facts of its collar. Keys of other tables
(``collar_pk``, ``animal_pk``, ``said_animal_pk``) are the home's own numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from shared.domain import EXCLUDING, FixFlag, NewFix
from shared.ids import fix_id
from shared.movement.quality import Judged, Limits, corrected_ms
from shared.sync.records import to_ms

DAY_MS: Final = 86_400_000
#: What a person decided of a fix; the rules leave it alone.
BY_HAND: Final = int(FixFlag.EXCLUDED_BY_HAND | FixFlag.REINSTATED)
#: A fix that no deployment covers is taken for rolled over only if correcting it lands this near its reception.
_PLAUSIBLE_AGE_MS: Final = 2 * 365 * DAY_MS

_KEEP: Final = ("alt_m", "speed_mps", "heading_deg", "seq", "battery_mv", "battery_pct", "temperature_c")
_WORST_IS_MAX: Final = ("hdop", "pdop", "h_acc_m")
_WORST_IS_MIN: Final = ("sats",)
_BEST_IS_MAX: Final = ("rssi_dbm", "snr_db")
_TEXT: Final = ("link", "local_id", "activity_type", "notes")
#: Columns that a copy may fill.
OPTIONAL: Final = (*_KEEP, *_WORST_IS_MAX, *_WORST_IS_MIN, *_BEST_IS_MAX, *_TEXT)
#: Columns that folding may change.
MERGED: Final = (
    *OPTIONAL, "received_ms", "sure_received_ms", "network_ms", "said_animal_pk", "source", "is_clock_unset",
)  # fmt: skip
_CHOICES: Final = (
    (_KEEP, min), (_TEXT, min), (_WORST_IS_MAX, max), (_BEST_IS_MAX, max), (_WORST_IS_MIN, min),
    (("received_ms", "sure_received_ms", "network_ms", "said_animal_pk"), min), (("is_clock_unset",), max),
    (("source",), min),  # in the order of the alphabet a collar's own word comes first
)  # fmt: skip
#: Columns that make one of two copies the richer.
RICH: Final = (
    "alt_m", "speed_mps", "heading_deg", "seq", "battery_mv", "battery_pct", "temperature_c", "hdop", "pdop", "h_acc_m",
    "sats",
)  # fmt: skip
#: The columns of a fix in both databases, but for its geometry.
COLUMNS: Final = (
    "pk", "id", "collar_pk", "animal_pk", "recorded_ms", "raw_ms", "received_ms", "sure_received_ms", "network_ms",
    "lon_e7", "lat_e7", "flags", "source", *OPTIONAL, "is_clock_unset", "said_animal_pk",
)  # fmt: skip

Row = dict[str, Any]
FixOutcome = Literal["new", "enriched", "duplicate"]


class Wearing(msgspec.Struct, frozen=True):
    """One deployment, as far as a fix needs it."""

    started_ms: int
    ended_ms: int | None
    animal_pk: int
    animal_id: str

    def covers(self, ms: int) -> bool:
        """Say whether the collar was on the animal at ``ms``."""
        return self.started_ms <= ms and (self.ended_ms is None or ms < self.ended_ms)


class CollarFacts(msgspec.Struct):
    """A collar, its deployments by their beginning, and the limits of the species that wears it."""

    pk: int
    id: str
    stands_for_animal_pk: int | None
    wearings: list[Wearing]
    limits: Limits

    def animal_pk(self, recorded_ms: int, said_animal_pk: int | None) -> int | None:
        """Return who wore the collar then; else whom the sender named."""
        if self.stands_for_animal_pk is not None:
            return self.stands_for_animal_pk
        for wearing in self.wearings:
            if wearing.covers(recorded_ms):
                return wearing.animal_pk
        return said_animal_pk

    def corrected_ms(self, raw_ms: int, sure_ms: int | None) -> int:
        """Return when the fix was recorded: the device's word, a week rollover undone where that is plausible."""
        if self.wearings:
            lo_ms = min(wearing.started_ms for wearing in self.wearings)
            ends = [wearing.ended_ms for wearing in self.wearings]
            hi_ms = None if None in ends else max(end for end in ends if end is not None)
            if hi_ms is None:
                hi_ms = sure_ms + DAY_MS if sure_ms is not None else None
        elif sure_ms is not None:
            lo_ms, hi_ms = sure_ms - _PLAUSIBLE_AGE_MS, sure_ms + DAY_MS
        else:
            return raw_ms
        if hi_ms is None or raw_ms >= lo_ms:
            return raw_ms
        return corrected_ms(raw_ms, lo_ms, hi_ms)[0]


def row_of(fix: NewFix, collar: CollarFacts, said_animal_pk: int | None) -> Row:
    """Return a new fix of ``collar`` as a row; ``said_animal_pk`` is whom its sender named."""
    raw_ms = to_ms(fix.recorded_at)
    received_ms = to_ms(fix.received_at)
    row = {
        "received_ms": received_ms,
        "sure_received_ms": received_ms if fix.is_clock_sure else None,
        "network_ms": None if fix.network_time is None else to_ms(fix.network_time),
        "source": fix.source,
        "alt_m": fix.alt_m,
        "speed_mps": fix.speed_mps,
        "heading_deg": fix.heading_deg,
        "hdop": fix.hdop,
        "pdop": fix.pdop,
        "sats": fix.sats,
        "h_acc_m": fix.h_acc_m,
        "seq": fix.seq,
        "battery_mv": fix.battery_mv,
        "battery_pct": fix.battery_pct,
        "temperature_c": fix.temperature_c,
        "rssi_dbm": fix.rssi_dbm,
        "snr_db": fix.snr_db,
        "link": fix.link,
        "local_id": fix.local_id,
        "activity_type": fix.activity_type,
        "notes": fix.notes,
        "is_clock_unset": int(fix.is_clock_unset),
    }
    lon_e7 = None if fix.lon_deg is None else round(fix.lon_deg * 1e7)
    lat_e7 = None if fix.lat_deg is None else round(fix.lat_deg * 1e7)
    return place(row, collar, raw_ms, lon_e7, lat_e7, said_animal_pk)


def place(
    row: Row, collar: CollarFacts, raw_ms: int, lon_e7: int | None, lat_e7: int | None, said_animal_pk: int | None
) -> Row:
    """Complete what was said of a fix by what follows from its collar: id, true time, wearer; return ``row``."""
    row["id"] = fix_id(collar.id, raw_ms, lon_e7, lat_e7)
    row["collar"] = collar
    row["collar_pk"] = collar.pk
    row["raw_ms"] = raw_ms
    row["lon_e7"] = lon_e7
    row["lat_e7"] = lat_e7
    row["said_animal_pk"] = said_animal_pk
    row["recorded_ms"] = recorded_ms = collar.corrected_ms(raw_ms, row["sure_received_ms"])
    row["animal_pk"] = collar.animal_pk(recorded_ms, said_animal_pk)
    return row


def fold(into: Row, other: Mapping[str, Any]) -> bool:
    """Fold ``other``, a copy of the same fix, into ``into``; say whether anything changed."""
    did_change = False
    for names, choose in _CHOICES:
        for name in names:
            ours, theirs = into[name], other[name]
            if theirs is None or theirs == ours:
                continue
            if ours is None or choose(ours, theirs) != ours:
                into[name] = theirs
                did_change = True
    return did_change


def fold_batch(rows: Iterable[Row]) -> tuple[dict[bytes, Row], list[bytes]]:
    """Return one row for each fix among ``rows``, and the id of every row in its order."""
    batch: dict[bytes, Row] = {}
    order: list[bytes] = []
    for row in rows:
        identity: bytes = row["id"]
        order.append(identity)
        if (twin := batch.get(identity)) is None:
            batch[identity] = row
        elif fold(twin, row):
            retime(twin)
    return batch, order


def retime(row: Row) -> bool:
    """Correct time and wearer anew: a copy may tell what the first one could not. Say whether either changed."""
    collar: CollarFacts = row["collar"]
    recorded_ms = collar.corrected_ms(row["raw_ms"], row["sure_received_ms"])
    animal_pk = collar.animal_pk(recorded_ms, row["said_animal_pk"])
    if (recorded_ms, animal_pk) == (row["recorded_ms"], row["animal_pk"]):
        return False
    row["recorded_ms"], row["animal_pk"] = recorded_ms, animal_pk
    return True


def by_hand_of_both(flags: int, other: int) -> int:
    """Return what people decided of two copies of one fix: of two decisions the more cautious."""
    by_hand = (flags | other) & BY_HAND
    return int(FixFlag.EXCLUDED_BY_HAND) if by_hand & FixFlag.EXCLUDED_BY_HAND else by_hand


def flags_by_hand(flags: int, *, is_excluded: bool) -> int:
    """Return ``flags`` after a person has taken the fix out, or reinstated it against the rules."""
    flags &= ~BY_HAND
    if is_excluded:
        return flags | int(FixFlag.EXCLUDED_BY_HAND)
    return flags | int(FixFlag.REINSTATED) if flags & EXCLUDING else flags


def judged_columns(row: Mapping[str, Any]) -> Judged:
    """Return a row as the quality rules take it."""
    return Judged(
        id=row["id"], time_ms=row["recorded_ms"], raw_ms=row["raw_ms"], lon_e7=row["lon_e7"], lat_e7=row["lat_e7"],
        hdop=row["hdop"], pdop=row["pdop"], sats=row["sats"], h_acc_m=row["h_acc_m"], seq=row["seq"],
        received_ms=row["sure_received_ms"], is_clock_unset=bool(row["is_clock_unset"]), richness=filled(row, RICH),
        is_rolled=row["recorded_ms"] != row["raw_ms"],
    )  # fmt: skip


def filled(row: Mapping[str, Any], names: Iterable[str]) -> int:
    """Count the columns that hold something."""
    return sum(row[name] is not None for name in names)


def stretches(times_ms: list[int]) -> list[list[int]]:
    """Split instants where they lie far apart: a batch with one fix of today and one of last year loads no year."""
    times_ms.sort()
    cuts = [index for index in range(1, len(times_ms)) if times_ms[index] - times_ms[index - 1] > 2 * DAY_MS]
    starts, ends = [0, *cuts], [*cuts, len(times_ms)]
    return [times_ms[start:end] for start, end in zip(starts, ends, strict=True)]


def is_placed(row: Mapping[str, Any]) -> bool:
    """Say whether a judged row has a place on the globe."""
    return row["lon_e7"] is not None and row["lat_e7"] is not None and not row["flags"] & FixFlag.OUT_OF_RANGE


def said_again(outcomes: Sequence[FixOutcome], order: Sequence[bytes]) -> list[FixOutcome]:
    """Return the outcome of every copy of a batch: of the copies of a new fix the first is ``new``."""
    seen: set[bytes] = set()
    answers: list[FixOutcome] = []
    for outcome, identity in zip(outcomes, order, strict=True):
        answers.append("duplicate" if identity in seen and outcome == "new" else outcome)
        seen.add(identity)
    return answers
