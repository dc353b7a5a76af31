"""Fixes into the database: once each for ever, judged as a set, set-wise.

One call is part of one transaction of the writer thread. Steps, for a batch of any size:

1. devices to collars (aliases resolved, unknown ones created), fixes to ids;
2. copies inside the batch merged, ids that are stored already found with one statement;
3. new rows inserted, richer copies fill the empty columns of old rows;
4. each touched collar's neighbourhood judged again (``shared.movement.quality``), changed flags written;
5. one outbox row for the run of new primary keys, one for each enriched row.

Merging copies is commutative, so neither the row nor its flags depend on the order of arrival: an empty column takes
any value, of two values the more cautious stays (worse DOP, fewer satellites, earlier reception; the stronger signal),
and where neither is, the smaller one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from edge.store.driver import Connection, insert_rows
from edge.store.neighbourhood import Neighbourhood, filled, judged_columns
from shared.domain import EXCLUDING, FixFlag, NewFix
from shared.ids import fix_id
from shared.movement.quality import Limits, corrected_ms, intrinsic_flags, limits_for, rejudge, stands_alone

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_DAY_MS: Final = 86_400_000
_BY_HAND: Final = int(FixFlag.EXCLUDED_BY_HAND | FixFlag.REINSTATED)
_CHUNK: Final = 400
#: How many fixes of a collar are judged at a time when all of them are.
_STRETCH: Final = 5_000

#: A fix that no deployment covers is taken for rolled over only if correcting it lands this near its reception.
_PLAUSIBLE_AGE_MS: Final = 2 * 365 * _DAY_MS

_KEEP: Final = ("alt_m", "speed_mps", "heading_deg", "seq", "battery_mv", "battery_pct", "temperature_c")
_WORST_IS_MAX: Final = ("hdop", "pdop", "h_acc_m")
_WORST_IS_MIN: Final = ("sats",)
_BEST_IS_MAX: Final = ("rssi_dbm", "snr_db")
_TEXT: Final = ("link", "local_id", "activity_type", "notes")
_OPTIONAL: Final = (*_KEEP, *_WORST_IS_MAX, *_WORST_IS_MIN, *_BEST_IS_MAX, *_TEXT)
_MERGED: Final = (
    *_OPTIONAL, "received_ms", "sure_received_ms", "network_ms", "said_animal_pk", "source", "is_clock_unset",
)  # fmt: skip
_CHOICES: Final = (
    (_KEEP, min), (_TEXT, min), (_WORST_IS_MAX, max), (_BEST_IS_MAX, max), (_WORST_IS_MIN, min),
    (("received_ms", "sure_received_ms", "network_ms", "said_animal_pk"), min), (("is_clock_unset",), max),
    (("source",), min),  # in the order of the alphabet a collar's own word comes first
)  # fmt: skip

COLUMNS: Final = (
    "pk", "id", "collar_pk", "animal_pk", "recorded_ms", "raw_ms", "received_ms", "sure_received_ms", "network_ms",
    "lon_e7", "lat_e7", "flags", "source", *_OPTIONAL, "is_clock_unset", "said_animal_pk", "geom",
)  # fmt: skip
INSERT: Final = f"INSERT INTO fixes ({', '.join(COLUMNS)})"
_UPDATE: Final = f"UPDATE fixes SET {', '.join(f'{name} = ?' for name in _MERGED)} WHERE pk = ?"
#: Whose fix it is: ?1 for a row that stands for an animal, else who wore the collar then, else whom the sender named.
_WEARER: Final = (
    "coalesce(?1, (SELECT d.animal_pk FROM deployments d WHERE d.collar_pk = fixes.collar_pk AND d.deleted_ms IS NULL"
    " AND d.started_ms <= fixes.recorded_ms AND (d.ended_ms IS NULL OR fixes.recorded_ms < d.ended_ms)"
    " ORDER BY d.started_ms LIMIT 1), said_animal_pk)"
)
_POINT = struct.Struct("<BBiddddBIddB")


def point_blob(lon_e7: int, lat_e7: int) -> bytes:
    """Return SpatiaLite's geometry of a point in WGS 84 (its BLOB format: header, box, class 1, x, y, end mark)."""
    x, y = lon_e7 / 1e7, lat_e7 / 1e7
    return _POINT.pack(0, 1, 4326, x, y, x, y, 0x7C, 1, x, y, 0xFE)


def to_ms(instant: datetime) -> int:
    """Return whole milliseconds since 1970 of an aware instant."""
    return (instant - _EPOCH) // _MS


def from_ms(ms: int) -> datetime:
    """Return the aware UTC instant of milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=ms)


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
    """A collar, its deployments and the limits of the species that wears it."""

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


class StoredFix(msgspec.Struct, frozen=True):
    """What became of one fix: its row, id, outcome and, for a new one, where and when."""

    pk: int
    id: bytes
    outcome: Literal["new", "enriched", "duplicate"]
    collar_id: str
    animal_pk: int | None
    recorded_ms: int
    lon_e7: int | None
    lat_e7: int | None
    flags: int
    received_ms: int
    battery_mv: int | None
    link: str | None
    #: by deployment; None where the sender named the animal or nobody did
    animal_id: str | None


class FixWriter:
    """Owns the writes to ``fixes``; lives in the writer thread with its connection."""

    def __init__(self, connection: Connection, *, stretch: int = _STRETCH) -> None:
        self._connection = connection
        self._stretch = stretch
        self._collars: dict[str, CollarFacts] = {}
        self._neighbourhoods: dict[int, Neighbourhood] = {}

    def forget(self) -> None:
        """Drop what is cached; called after a roll-back and after collars or deployments changed."""
        self._collars.clear()
        self._neighbourhoods.clear()

    def add(self, fixes: Sequence[NewFix], now_ms: int) -> list[StoredFix]:
        """Store ``fixes`` inside the caller's transaction and say of each, in order, what became of it."""
        if not fixes:
            return []
        batch: dict[bytes, dict[str, Any]] = {}
        order: list[bytes] = []
        for fix in fixes:
            row = self._row(fix, now_ms)
            identity: bytes = row["id"]
            order.append(identity)
            if (twin := batch.get(identity)) is None:
                batch[identity] = row
            elif _merge(twin, row):
                collar = twin["collar"]
                twin["recorded_ms"] = self._corrected_ms(collar, twin["raw_ms"], twin["sure_received_ms"])
                twin["animal_pk"] = collar.animal_pk(twin["recorded_ms"], twin["said_animal_pk"])
        stored = self._find(batch)
        fresh = [row for identity, row in batch.items() if identity not in stored]
        changed = self._insert(fresh)
        altered: set[int] = set()
        outcomes: dict[bytes, StoredFix] = {}
        for row in fresh:
            outcomes[row["id"]] = _stored(row, "new")
        for identity, old in stored.items():
            new = batch[identity]
            rich_before = filled(old, _OPTIONAL)
            judged_before = judged_columns(old)
            is_judged_anew = False
            if _merge(old, new):
                self._connection.execute(_UPDATE, [*(old[name] for name in _MERGED), old["pk"]])
                self._retime(new["collar"], old)
                is_judged_anew = judged_columns(old) != judged_before
                if is_judged_anew:  # another copy's link or signal alters no judgement
                    altered.add(new["collar"].pk)
                    self._neighbourhoods.pop(new["collar"].pk, None)
                    times_ms = changed.setdefault(new["collar"].pk, (new["collar"], []))[1]
                    times_ms += [judged_before.time_ms, old["recorded_ms"]]
            is_richer = filled(old, _OPTIONAL) > rich_before
            outcomes[identity] = _stored({**old, "collar": new["collar"]}, "enriched" if is_richer else "duplicate")
            if is_richer or is_judged_anew:
                self._post("fix", old["pk"], old["pk"], "update")
        if fresh:
            self._post("fix", fresh[0]["pk"], fresh[-1]["pk"], "insert")
            self._connection.execute("UPDATE counters SET value = value + ? WHERE name = 'fixes'", (len(fresh),))
        rejudged: dict[bytes, int] = {}
        for collar, times_ms in changed.values():
            for stretch in _stretches(times_ms):
                rejudged.update(self._rejudge(collar, stretch, is_insert=collar.pk not in altered))
        answers = []
        is_answered: set[bytes] = set()
        for identity in order:
            answer = outcomes[identity]
            if identity in rejudged:
                answer = msgspec.structs.replace(answer, flags=rejudged[identity])
            if identity in is_answered and answer.outcome == "new":
                answer = msgspec.structs.replace(answer, outcome="duplicate")
            is_answered.add(identity)
            answers.append(answer)
        return answers

    def collar(self, device: str, now_ms: int) -> CollarFacts:
        """Return the collar that ``device`` (a radio id or a collar id) stands for, created if it is unknown."""
        facts = self._collars.get(device)
        if facts is None:
            facts = self._collars[device] = self._load_collar(device, now_ms)
        return facts

    def readopt(self, collar: CollarFacts) -> None:
        """Give every fix of ``collar`` to whoever wore it, correct its time anew and judge all of them again."""
        corrections = []
        for pk, raw_ms, recorded_ms, sure_ms in self._connection.execute(
            "SELECT pk, raw_ms, recorded_ms, sure_received_ms FROM fixes WHERE collar_pk = ?", (collar.pk,)
        ):
            corrected = self._corrected_ms(collar, raw_ms, sure_ms)
            if corrected != recorded_ms:
                corrections.append((corrected, pk))
        self._connection.executemany("UPDATE fixes SET recorded_ms = ? WHERE pk = ?", corrections)
        self._connection.execute(
            f"UPDATE fixes SET animal_pk = {_WEARER} WHERE collar_pk = ?2 AND animal_pk IS NOT {_WEARER}",
            (collar.stands_for_animal_pk, collar.pk),
        )
        self._judge_all(collar)

    def _judge_all(self, collar: CollarFacts) -> None:
        """Judge every fix of ``collar`` anew, a stretch of time after the other: a collar may have a million."""
        self._neighbourhoods.pop(collar.pk, None)
        neighbourhood = Neighbourhood(self._connection, collar.pk)
        after_ms = -(2**62)
        while True:
            first_ms, last_ms = self._connection.execute(
                "SELECT min(recorded_ms), max(recorded_ms) FROM (SELECT recorded_ms FROM fixes WHERE collar_pk = ?"
                " AND recorded_ms > ? ORDER BY recorded_ms LIMIT ?)",
                (collar.pk, after_ms, self._stretch),
            ).fetchone()
            if first_ms is None:
                return
            self._write_flags(neighbourhood, rejudge(neighbourhood, (first_ms, last_ms), collar.limits).items())
            after_ms = last_ms

    def rekey(self, old_pk: int, into: CollarFacts, now_ms: int) -> None:
        """Move the fixes of collar row ``old_pk`` under ``into``: new ids, twins merged."""
        names = [name for name in COLUMNS if name != "geom"]
        select = f"SELECT {', '.join(names)} FROM fixes WHERE collar_pk = ? LIMIT {_CHUNK}"
        while rows := self._connection.execute(select, (old_pk,)).fetchall():
            moving: dict[bytes, dict[str, Any]] = {}
            for values in rows:
                row = dict(zip(names, values, strict=True))
                row["id"] = fix_id(into.id, row["raw_ms"], row["lon_e7"], row["lat_e7"])
                row["collar"] = into
                moving[row["id"]] = row
            for identity, twin in self._find(moving).items():
                row = moving.pop(identity)
                if _merge(twin, row):
                    self._connection.execute(_UPDATE, [*(twin[name] for name in _MERGED), twin["pk"]])
                self._connection.execute("DELETE FROM fixes WHERE pk = ?", (row["pk"],))
                by_hand = (twin["flags"] | row["flags"]) & _BY_HAND
                if by_hand & FixFlag.EXCLUDED_BY_HAND:  # of two decisions the more cautious
                    by_hand = int(FixFlag.EXCLUDED_BY_HAND)
                self._connection.execute(
                    "UPDATE fixes SET flags = ? WHERE pk = ?", (twin["flags"] & ~_BY_HAND | by_hand, twin["pk"])
                )
                self._connection.execute("UPDATE counters SET value = value - 1 WHERE name = 'fixes'")
                self._post("fix", twin["pk"], twin["pk"], "update")
            self._connection.executemany(
                "UPDATE fixes SET id = ?, collar_pk = ? WHERE pk = ?",
                [(row["id"], into.pk, row["pk"]) for row in moving.values()],
            )
            for row in moving.values():
                self._post("fix", row["pk"], row["pk"], "update")
        self.forget()
        self.readopt(self.collar(into.id, now_ms))

    def set_by_hand(self, pk: int, *, is_excluded: bool) -> None:
        """Mark a fix as taken out, or as reinstated, by a person; the rules never undo either."""
        collar_pk, flags = self._connection.execute("SELECT collar_pk, flags FROM fixes WHERE pk = ?", (pk,)).fetchone()
        self._neighbourhoods.pop(collar_pk, None)
        flags &= ~_BY_HAND
        if is_excluded:
            flags |= FixFlag.EXCLUDED_BY_HAND
        elif flags & EXCLUDING:
            flags |= FixFlag.REINSTATED
        self._connection.execute("UPDATE fixes SET flags = ? WHERE pk = ?", (int(flags), pk))
        self._post("fix", pk, pk, "flag")

    def _row(self, fix: NewFix, now_ms: int) -> dict[str, Any]:
        collar = self.collar(fix.device, now_ms)
        raw_ms = to_ms(fix.recorded_at)
        received_ms = to_ms(fix.received_at)
        lon_e7 = None if fix.lon_deg is None else round(fix.lon_deg * 1e7)
        lat_e7 = None if fix.lat_deg is None else round(fix.lat_deg * 1e7)
        sure_ms = received_ms if fix.is_clock_sure else None
        recorded_ms = self._corrected_ms(collar, raw_ms, sure_ms)
        said = None if fix.animal_id is None else self._animal_pk(fix.animal_id)
        return {
            "id": fix_id(collar.id, raw_ms, lon_e7, lat_e7),
            "collar": collar,
            "collar_pk": collar.pk,
            "animal_pk": collar.animal_pk(recorded_ms, said),
            "recorded_ms": recorded_ms,
            "raw_ms": raw_ms,
            "received_ms": received_ms,
            "sure_received_ms": sure_ms,
            "network_ms": None if fix.network_time is None else to_ms(fix.network_time),
            "lon_e7": lon_e7,
            "lat_e7": lat_e7,
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
            "said_animal_pk": said,
        }

    def _retime(self, collar: CollarFacts, row: dict[str, Any]) -> None:
        """Correct time and wearer of a stored row anew: a copy may tell what the first one could not."""
        recorded_ms = self._corrected_ms(collar, row["raw_ms"], row["sure_received_ms"])
        animal_pk = collar.animal_pk(recorded_ms, row["said_animal_pk"])
        if (recorded_ms, animal_pk) != (row["recorded_ms"], row["animal_pk"]):
            row["recorded_ms"], row["animal_pk"] = recorded_ms, animal_pk
            self._connection.execute(
                "UPDATE fixes SET recorded_ms = ?, animal_pk = ? WHERE pk = ?",
                (recorded_ms, animal_pk, row["pk"]),
            )

    def _insert(self, fresh: list[dict[str, Any]]) -> dict[int, tuple[CollarFacts, list[int]]]:
        changed: dict[int, tuple[CollarFacts, list[int]]] = {}
        if not fresh:
            return changed
        (last_pk,) = self._connection.execute("SELECT coalesce(max(pk), 0) FROM fixes").fetchone()
        for pk, row in enumerate(fresh, last_pk + 1):
            collar: CollarFacts = row["collar"]
            row["pk"] = pk
            judged = judged_columns(row)
            row["flags"] = flags = intrinsic_flags(judged, collar.limits)
            if (neighbourhood := self._neighbourhoods.get(collar.pk)) is not None:
                neighbourhood.add(judged, flags)
            lon_e7, lat_e7 = row["lon_e7"], row["lat_e7"]
            is_placed = lon_e7 is not None and lat_e7 is not None and not flags & FixFlag.OUT_OF_RANGE
            row["geom"] = point_blob(lon_e7, lat_e7) if is_placed else None
            if not stands_alone(flags):
                changed.setdefault(collar.pk, (collar, []))[1].append(row["recorded_ms"])
        filled_columns = [name for name in COLUMNS if any(row[name] is not None for row in fresh)]
        insert_rows(
            self._connection,
            f"INSERT INTO fixes ({', '.join(filled_columns)})",
            "",
            [[row[name] for name in filled_columns] for row in fresh],
        )
        return changed

    def _find(self, batch: dict[bytes, dict[str, Any]]) -> dict[bytes, dict[str, Any]]:
        names = ("pk", "id", "collar_pk", "animal_pk", "recorded_ms", "raw_ms", "lon_e7", "lat_e7", "flags", *_MERGED)
        found: dict[bytes, dict[str, Any]] = {}
        identities = list(batch)
        for start in range(0, len(identities), _CHUNK):
            chunk = identities[start : start + _CHUNK]
            chunk += [b""] * (_size_class(len(chunk)) - len(chunk))  # few shapes of statement, so they stay prepared
            marks = ", ".join("?" * len(chunk))
            for values in self._connection.execute(
                f"SELECT {', '.join(names)} FROM fixes WHERE id IN ({marks})", chunk
            ):
                found[values[1]] = dict(zip(names, values, strict=True))
        return found

    def _rejudge(self, collar: CollarFacts, times_ms: list[int], *, is_insert: bool) -> dict[bytes, int]:
        neighbourhood = self._neighbourhoods.get(collar.pk)
        if neighbourhood is None:
            neighbourhood = self._neighbourhoods[collar.pk] = Neighbourhood(self._connection, collar.pk)
        first_ms, last_ms = times_ms[0], times_ms[-1]
        is_append = is_insert and neighbourhood.count_from(first_ms) == len(times_ms)
        flags = rejudge(neighbourhood, (first_ms, last_ms), collar.limits, is_append=is_append)
        return self._write_flags(neighbourhood, flags.items())

    def _write_flags(self, neighbourhood: Neighbourhood, judgements: Iterable[tuple[bytes, int]]) -> dict[bytes, int]:
        changed = {}
        for identity, judged in judgements:
            was = neighbourhood.was[identity]
            flags = judged | was & _BY_HAND
            if flags != was:
                changed[identity] = neighbourhood.was[identity] = flags
        if changed:
            self._connection.executemany(
                "UPDATE fixes SET flags = ? WHERE id = ?", [(flags, identity) for identity, flags in changed.items()]
            )
        neighbourhood.forget_older()
        return changed

    def _corrected_ms(self, collar: CollarFacts, raw_ms: int, sure_ms: int | None) -> int:
        if collar.wearings:
            lo_ms = min(wearing.started_ms for wearing in collar.wearings)
            ends = [wearing.ended_ms for wearing in collar.wearings]
            hi_ms = None if None in ends else max(end for end in ends if end is not None)
            if hi_ms is None:
                hi_ms = sure_ms + _DAY_MS if sure_ms is not None else None
        elif sure_ms is not None:
            lo_ms, hi_ms = sure_ms - _PLAUSIBLE_AGE_MS, sure_ms + _DAY_MS
        else:
            return raw_ms
        if hi_ms is None or raw_ms >= lo_ms:
            return raw_ms
        return corrected_ms(raw_ms, lo_ms, hi_ms)[0]

    def _load_collar(self, device: str, now_ms: int) -> CollarFacts:
        name = device.removeprefix("collar:")
        row = self._connection.execute(
            "SELECT c.pk, c.id, c.stands_for_animal_pk, c.deleted_ms FROM collars c WHERE c.id = ?1"
            " UNION ALL SELECT c.pk, c.id, c.stands_for_animal_pk, c.deleted_ms FROM collar_aliases a"
            " JOIN collars c ON c.pk = a.collar_pk WHERE a.alias = ?1 LIMIT 1",
            (name,),
        ).fetchone()
        if row is None:
            stands_for = self._animal_pk(name.removeprefix("animal:")) if name.startswith("animal:") else None
            cursor = self._connection.execute(
                "INSERT INTO collars (id, stands_for_animal_pk, created_ms, updated_ms) VALUES (?, ?, ?, ?)",
                (name, stands_for, now_ms, now_ms),
            )
            row = (cursor.lastrowid, name, stands_for, None)
            if stands_for is None:
                self._post("collar", row[0], row[0], "insert")
        pk, identity, stands_for, deleted_ms = row
        if deleted_ms is not None:  # it was taken off the list and is heard again
            self._connection.execute(
                "UPDATE collars SET deleted_ms = NULL, updated_ms = ?, rev = rev + 1 WHERE pk = ?", (now_ms, pk)
            )
            self._post("collar", pk, pk, "update")
        worn = self._connection.execute(
            "SELECT d.started_ms, d.ended_ms, d.animal_pk, a.id, a.species FROM deployments d JOIN animals a"
            " ON a.pk = d.animal_pk WHERE d.collar_pk = ? AND d.deleted_ms IS NULL ORDER BY d.started_ms",
            (pk,),
        ).fetchall()
        species = worn[-1][4] if worn else None
        if stands_for is not None:
            (species,) = self._connection.execute("SELECT species FROM animals WHERE pk = ?", (stands_for,)).fetchone()
        return CollarFacts(pk, identity, stands_for, [Wearing(*values[:4]) for values in worn], limits_for(species))

    def _animal_pk(self, animal_id: str) -> int | None:
        row = self._connection.execute("SELECT pk FROM animals WHERE id = ?", (animal_id,)).fetchone()
        return None if row is None else int(row[0])

    def _post(self, entity: str, first_pk: int, last_pk: int, operation: str) -> None:
        self._connection.execute(
            "INSERT INTO outbox (entity, first_pk, last_pk, operation) VALUES (?, ?, ?, ?)",
            (entity, first_pk, last_pk, operation),
        )


def _merge(into: dict[str, Any], other: dict[str, Any]) -> bool:
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


def _stored(row: dict[str, Any], outcome: Literal["new", "enriched", "duplicate"]) -> StoredFix:
    wearings: list[Wearing] = row["collar"].wearings
    animal_id = next((wearing.animal_id for wearing in wearings if wearing.animal_pk == row["animal_pk"]), None)
    return StoredFix(
        row["pk"], row["id"], outcome, row["collar"].id, row["animal_pk"], row["recorded_ms"], row["lon_e7"],
        row["lat_e7"], row["flags"], row["received_ms"], row["battery_mv"], row["link"], animal_id,
    )  # fmt: skip


def _stretches(times_ms: list[int]) -> list[list[int]]:
    """Split instants where they lie far apart: a batch with one fix of today and one of last year loads no year."""
    times_ms.sort()
    cuts = [index for index in range(1, len(times_ms)) if times_ms[index] - times_ms[index - 1] > 2 * _DAY_MS]
    starts, ends = [0, *cuts], [*cuts, len(times_ms)]
    return [times_ms[start:end] for start, end in zip(starts, ends, strict=True)]


def _size_class(n: int) -> int:
    return next(size for size in (1, 8, 32, 100, _CHUNK) if size >= n)
