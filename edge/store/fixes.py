"""Fixes into the database: once each for ever, judged as a set, set-wise.

One call is part of one transaction of the writer thread. Steps, for a batch of any size:

1. devices to collars (aliases resolved, unknown ones created), fixes to ids;
2. copies inside the batch merged, ids that are stored already found with one statement;
3. new rows inserted, richer copies fill the empty columns of old rows;
4. each touched collar's neighbourhood judged again (``shared.movement.quality``), changed flags written;
5. one outbox row for the run of new primary keys, one for each enriched row.

What a fix is, how copies of one become one and whose it is are the same in both homes: ``shared.sync.fixes``.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from edge.store import changes
from edge.store.driver import Connection, insert_rows
from edge.store.neighbourhood import Neighbourhood
from shared.domain import NewFix
from shared.errors import NotFound
from shared.ids import fix_time_ms, id_text
from shared.movement.quality import intrinsic_flags, limits_of, rejudge, stands_alone
from shared.sync.decisions import Decision
from shared.sync.fixes import (
    BY_HAND,
    MERGED,
    OPTIONAL,
    CollarFacts,
    Row,
    Wearing,
    by_hand_of_both,
    filled,
    flags_by_hand,
    fold,
    fold_batch,
    is_placed,
    judged_columns,
    place,
    retime,
    row_of,
    said_again,
    stretches,
)
from shared.sync.fixes import COLUMNS as COLUMNS_OF_BOTH
from shared.sync.operations import STANDS_FOR

Outcome = Literal["new", "enriched", "duplicate"]

_CHUNK: Final = 400
#: How many fixes of a collar are judged at a time when all of them are.
_STRETCH: Final = 5_000
#: How many are given to another animal by one statement, which holds every page that it changes in memory, to undo it
#: alone: beside fixes of many other collars each lies on a page of its own, 4 KiB a fix.
_GIVEN: Final = 500

COLUMNS: Final = (*COLUMNS_OF_BOTH, "geom")
INSERT: Final = f"INSERT INTO fixes ({', '.join(COLUMNS)})"
_FOUND: Final = ("pk", "id", "collar_pk", "animal_pk", "recorded_ms", "raw_ms", "lon_e7", "lat_e7", "flags", *MERGED)
_UPDATE: Final = f"UPDATE fixes SET {', '.join(f'{name} = ?' for name in MERGED)} WHERE pk = ?"
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


class StoredFix(msgspec.Struct, frozen=True):
    """What became of one fix: its row, id, outcome and, for a new one, where and when."""

    pk: int
    id: bytes
    outcome: Outcome
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
        return self._add([self._row(fix, now_ms) for fix in fixes], now_ms, is_news_above=True)

    def add_columns(self, columns: Mapping[str, Sequence[Any]], now_ms: int) -> list[StoredFix]:
        """Store fixes that came as a batch (``shared.wire.batch``), as ``add`` does."""
        return self._add(self._rows(columns, now_ms), now_ms, is_news_above=True)

    def take(self, columns: Mapping[str, Sequence[Any]], now_ms: int) -> list[StoredFix]:
        """Store fixes that the cloud sent down (``shared.wire.batch``), as ``add`` does, but leave no outbox row.

        The cloud has them; should it lose them, ``heard_above`` tells which they are. What a copy here knew besides, it
        has too or waits for it in a row of its own.
        """
        return self._add(self._rows(columns, now_ms), now_ms, is_news_above=False)

    def _add(self, rows: Sequence[Row], now_ms: int, *, is_news_above: bool) -> list[StoredFix]:
        if not rows:
            return []
        batch, order = fold_batch(rows)
        stored = self._find(batch)
        fresh = [row for identity, row in batch.items() if identity not in stored]
        changed = self._insert(fresh)
        news: list[Row] = list(fresh)
        altered: set[int] = set()
        outcomes: dict[bytes, StoredFix] = {}
        for row in fresh:
            outcomes[row["id"]] = _stored(row, "new")
        for identity, old in stored.items():
            collar: CollarFacts = batch[identity]["collar"]
            old["collar"] = collar
            rich_before = filled(old, OPTIONAL)
            judged_before = judged_columns(old)
            is_changed = fold(old, batch[identity])
            if is_changed:
                news.append(old)
                self._update(old)
                is_judged_anew = judged_columns(old) != judged_before
                if is_judged_anew:  # another copy's link or signal alters no judgement
                    altered.add(collar.pk)
                    self._neighbourhoods.pop(collar.pk, None)
                    times_ms = changed.setdefault(collar.pk, (collar, []))[1]
                    times_ms += [judged_before.time_ms, old["recorded_ms"]]
            is_richer = filled(old, OPTIONAL) > rich_before
            outcomes[identity] = _stored(old, "enriched" if is_richer else "duplicate")
            if is_changed and is_news_above:  # by whatever: both homes must end with the same row
                self._post("fix", old["pk"], old["pk"], "update")
        if fresh:
            if is_news_above:
                self._post("fix", fresh[0]["pk"], fresh[-1]["pk"], "insert")
            else:
                self._connection.execute(
                    "INSERT INTO heard_above (first_pk, last_pk, taken_ms) VALUES (?, ?, ?)",
                    (fresh[0]["pk"], fresh[-1]["pk"], now_ms),
                )
            self._connection.execute("UPDATE counters SET value = value + ? WHERE name = 'fixes'", (len(fresh),))
        changes.note(self._connection, changes.of_rows(news))
        rejudged: dict[bytes, int] = {}
        for collar, times_ms in changed.values():
            for stretch in stretches(times_ms):
                rejudged.update(self._rejudge(collar, stretch, is_insert=collar.pk not in altered))
        answers = []
        for identity, outcome in zip(order, said_again([outcomes[each].outcome for each in order], order), strict=True):
            answer = outcomes[identity]
            if identity in rejudged or outcome != answer.outcome:
                flags = rejudged.get(identity, answer.flags)
                answer = msgspec.structs.replace(answer, flags=flags, outcome=outcome)
            answers.append(answer)
        return answers

    def collar(self, device: str, now_ms: int) -> CollarFacts:
        """Return the collar that ``device`` (a radio id or a collar id) stands for, created if it is unknown."""
        facts = self._collars.get(device)
        if facts is None:
            facts = self._collars[device] = self._load_collar(device, now_ms)
        return facts

    def readopt(self, name: str) -> None:
        """Give every fix of a collar to whoever wore it, correct its time anew and judge all of them again.

        A collar that is not here has none.
        """
        found = self._resolve(name)
        if found is None:
            return
        collar = self._facts(*found[:3])
        corrections = []
        for pk, raw_ms, recorded_ms, sure_ms in self._connection.execute(
            "SELECT pk, raw_ms, recorded_ms, sure_received_ms FROM fixes WHERE collar_pk = ?", (collar.pk,)
        ):
            corrected = collar.corrected_ms(raw_ms, sure_ms)
            if corrected != recorded_ms:
                corrections.append((corrected, pk))
        self._connection.executemany("UPDATE fixes SET recorded_ms = ? WHERE pk = ?", corrections)
        for span_ms in self._spans(collar.pk, min(_GIVEN, self._stretch)):
            self._connection.execute(
                f"UPDATE fixes SET animal_pk = {_WEARER} WHERE collar_pk = ?2 AND recorded_ms BETWEEN ?3 AND ?4"
                f" AND animal_pk IS NOT {_WEARER}",
                (collar.stands_for_animal_pk, collar.pk, *span_ms),
            )
        self._judge_all(collar)
        self._note_all(collar.pk, collar.id, "move")

    def _note_all(self, pk: int, collar_id: str, kind: str) -> None:
        """Have every fix of a collar count as changed."""
        found = self._connection.execute("SELECT min(raw_ms), max(raw_ms) FROM fixes WHERE collar_pk = ?", (pk,))
        changes.note(
            self._connection, changes.of_fixes(collar_id, (ms for ms in found.fetchone() if ms is not None), kind)
        )

    def _judge_all(self, collar: CollarFacts) -> None:
        """Judge every fix of ``collar`` anew, a stretch of time after the other: a collar may have a million."""
        self._neighbourhoods.pop(collar.pk, None)
        neighbourhood = Neighbourhood(self._connection, collar.pk)
        for span_ms in self._spans(collar.pk, self._stretch):
            self._write_flags(neighbourhood, rejudge(neighbourhood, span_ms, collar.limits).items(), collar.id)

    def _spans(self, collar_pk: int, size: int) -> Iterator[tuple[int, int]]:
        """Yield first and last instant of ``size`` of a collar's fixes after the other."""
        after_ms = -(2**62)
        while True:
            first_ms, last_ms = self._connection.execute(
                "SELECT min(recorded_ms), max(recorded_ms) FROM (SELECT recorded_ms FROM fixes WHERE collar_pk = ?"
                " AND recorded_ms > ? ORDER BY recorded_ms LIMIT ?)",
                (collar_pk, after_ms, size),
            ).fetchone()
            if first_ms is None:
                return
            yield first_ms, last_ms
            after_ms = last_ms

    def stand_for(self, animal_ids: Iterable[str]) -> list[str]:
        """Give stand-ins that came before their animals to these; return which, for ``readopt``."""
        came_first = []
        for animal_id in animal_ids:
            cursor = self._connection.execute(
                "UPDATE collars SET stands_for_animal_pk = (SELECT pk FROM animals WHERE id = ?)"
                " WHERE id = ? AND stands_for_animal_pk IS NULL",
                (animal_id, f"{STANDS_FOR}{animal_id}"),
            )
            if cursor.rowcount:
                came_first.append(f"{STANDS_FOR}{animal_id}")
        if came_first:
            self.forget()
        return came_first

    def rekey(self, heard_id: str, into_id: str) -> None:
        """Move the fixes of a collar under another that it was all along: new ids, twins folded, nothing judged.

        The cloud does the same when it hears of the alias; it is told again only of rows that another's fix enriched.
        """
        pks = dict(self._connection.execute("SELECT id, pk FROM collars WHERE id IN (?, ?)", (heard_id, into_id)))
        found = self._resolve(into_id)
        if heard_id not in pks or found is None or found[0] == pks[heard_id]:
            return
        self.forget()
        collar = self._facts(*found[:3])
        self._note_all(pks[heard_id], heard_id, "gone")
        names = [name for name in COLUMNS_OF_BOTH if name not in ("animal_pk", "recorded_ms")]
        select = f"SELECT {', '.join(names)} FROM fixes WHERE collar_pk = ? LIMIT {_CHUNK}"
        while rows := self._connection.execute(select, (pks[heard_id],)).fetchall():
            moving: dict[bytes, Row] = {}
            for values in rows:
                row = dict(zip(names, values, strict=True))
                place(row, collar, row["raw_ms"], row["lon_e7"], row["lat_e7"], row["said_animal_pk"])
                moving[row["id"]] = row
            for identity, twin in self._find(moving).items():
                self._fold_twin(twin, moving.pop(identity))
            self._connection.executemany(
                "UPDATE fixes SET id = ?, collar_pk = ? WHERE pk = ?",
                [(row["id"], collar.pk, row["pk"]) for row in moving.values()],
            )
        self._keep_last_words(pks[heard_id], collar.pk)
        self._note_all(collar.pk, collar.id, "move")

    def set_by_hand(self, fix_id: bytes, *, is_excluded: bool) -> None:
        """Mark a fix as taken out, or as reinstated, by a person; the rules never undo either. Raises NotFound."""
        found = self._connection.execute(
            "SELECT f.pk, f.collar_pk, f.flags, c.id, f.raw_ms FROM fixes f JOIN collars c ON c.pk = f.collar_pk"
            " WHERE f.id = ?",
            (fix_id,),
        ).fetchone()
        if found is None:
            raise NotFound(f"there is no fix {id_text(fix_id)}")
        pk, collar_pk, flags, collar_id, raw_ms = found
        changes.note(self._connection, changes.of_fixes(collar_id, [raw_ms], "flag"))
        self._neighbourhoods.pop(collar_pk, None)
        flags = flags_by_hand(flags, is_excluded=is_excluded)
        self._connection.execute("UPDATE fixes SET flags = ? WHERE pk = ?", (flags, pk))
        self._post("fix", pk, pk, "flag")

    def told_by_hand(self, decision: Decision, waiting: Container[int]) -> bool:
        """Take what a person decided of a fix elsewhere, and say whether it is news; the cloud knows it.

        A decision of somebody here that waits for the cloud (``waiting``, by row) comes after it and stays. Of a fix
        that is not here nothing is known.
        """
        resolved = self._resolve(decision.collar_id)
        if resolved is None:
            return False
        found = self._connection.execute(
            "SELECT pk, collar_pk, flags FROM fixes WHERE id = ?", (decision.fix_id(resolved[1]),)
        ).fetchone()
        if found is None or found[0] in waiting:
            return False
        pk, collar_pk, flags = found
        wanted = flags_by_hand(flags, is_excluded=decision.is_excluded)
        if wanted == flags:
            return False
        changes.note(self._connection, changes.of_fixes(resolved[1], [decision.raw_ms], "flag"))
        self._neighbourhoods.pop(collar_pk, None)
        self._connection.execute("UPDATE fixes SET flags = ? WHERE pk = ?", (wanted, pk))
        return True

    def _row(self, fix: NewFix, now_ms: int) -> Row:
        said_animal_pk = None if fix.animal_id is None else self._animal_pk(fix.animal_id)
        return row_of(fix, self.collar(fix.device, now_ms), said_animal_pk)

    def _rows(self, columns: Mapping[str, Sequence[Any]], now_ms: int) -> list[Row]:
        names = list(columns)
        rows = []
        for values in zip(*columns.values(), strict=True):
            row = dict(zip(names, values, strict=True))
            collar = self.collar(row.pop("collar_id"), now_ms)
            said = row.pop("said_animal_id")
            said_pk = None if said is None else self._animal_pk(said)
            rows.append(place(row, collar, row["raw_ms"], row["lon_e7"], row["lat_e7"], said_pk))
        return rows

    def _update(self, row: Row) -> None:
        """Write a stored row that a copy was folded into, with time and wearer as they follow now."""
        self._connection.execute(_UPDATE, [*(row[name] for name in MERGED), row["pk"]])
        if retime(row):
            self._connection.execute(
                "UPDATE fixes SET recorded_ms = ?, animal_pk = ? WHERE pk = ?",
                (row["recorded_ms"], row["animal_pk"], row["pk"]),
            )

    def _fold_twin(self, twin: Row, row: Row) -> None:
        """Fold ``row``, the same fix from before its collar had this name, into ``twin``."""
        if fold(twin, row):
            self._connection.execute(_UPDATE, [*(twin[name] for name in MERGED), twin["pk"]])
        self._connection.execute("DELETE FROM fixes WHERE pk = ?", (row["pk"],))
        flags = twin["flags"] & ~BY_HAND | by_hand_of_both(twin["flags"], row["flags"])
        self._connection.execute("UPDATE fixes SET flags = ? WHERE pk = ?", (flags, twin["pk"]))
        self._connection.execute("UPDATE counters SET value = value - 1 WHERE name = 'fixes'")
        self._post("fix", twin["pk"], twin["pk"], "update")

    def _keep_last_words(self, heard_pk: int, pk: int) -> None:
        """Keep what an absorbed collar last said of itself, where it is newer or all that is known."""
        for name in ("battery_mv", "battery_pct", "firmware"):
            self._connection.execute(
                f"UPDATE collars SET {name} = coalesce(h.{name}, collars.{name}) FROM collars h WHERE collars.pk = ?"
                f" AND h.pk = ? AND (collars.{name} IS NULL OR h.last_heard_ms > collars.last_heard_ms)",
                (pk, heard_pk),
            )
        self._connection.execute(
            "UPDATE collars SET last_heard_ms = nullif(max(coalesce(last_heard_ms, 0),"
            " (SELECT coalesce(last_heard_ms, 0) FROM collars WHERE pk = ?)), 0) WHERE pk = ?",
            (heard_pk, pk),
        )

    def _insert(self, fresh: list[Row]) -> dict[int, tuple[CollarFacts, list[int]]]:
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
            row["geom"] = point_blob(row["lon_e7"], row["lat_e7"]) if is_placed(row) else None
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

    def _find(self, batch: Mapping[bytes, Row]) -> dict[bytes, Row]:
        found: dict[bytes, Row] = {}
        identities = list(batch)
        for start in range(0, len(identities), _CHUNK):
            chunk = identities[start : start + _CHUNK]
            chunk += [b""] * (_size_class(len(chunk)) - len(chunk))  # few shapes of statement, so they stay prepared
            marks = ", ".join("?" * len(chunk))
            for values in self._connection.execute(
                f"SELECT {', '.join(_FOUND)} FROM fixes WHERE id IN ({marks})", chunk
            ):
                found[values[1]] = dict(zip(_FOUND, values, strict=True))
        return found

    def _rejudge(self, collar: CollarFacts, times_ms: list[int], *, is_insert: bool) -> dict[bytes, int]:
        neighbourhood = self._neighbourhoods.get(collar.pk)
        if neighbourhood is None:
            neighbourhood = self._neighbourhoods[collar.pk] = Neighbourhood(self._connection, collar.pk)
        first_ms, last_ms = times_ms[0], times_ms[-1]
        is_append = is_insert and neighbourhood.count_from(first_ms) == len(times_ms)
        flags = rejudge(neighbourhood, (first_ms, last_ms), collar.limits, is_append=is_append)
        return self._write_flags(neighbourhood, flags.items(), collar.id)

    def _write_flags(
        self, neighbourhood: Neighbourhood, judgements: Iterable[tuple[bytes, int]], collar_id: str
    ) -> dict[bytes, int]:
        changed = {}
        for identity, judged in judgements:
            was = neighbourhood.was[identity]
            flags = judged | was & BY_HAND
            if flags != was:
                changed[identity] = neighbourhood.was[identity] = flags
        if changed:
            self._connection.executemany(
                "UPDATE fixes SET flags = ? WHERE id = ?", [(flags, identity) for identity, flags in changed.items()]
            )
            changes.note(self._connection, changes.of_fixes(collar_id, map(fix_time_ms, changed), "flag"))
        neighbourhood.forget_older()
        return changed

    def _load_collar(self, device: str, now_ms: int) -> CollarFacts:
        name = device.removeprefix("collar:")
        found = self._resolve(name)
        if found is None:
            is_stand_in = name.startswith(STANDS_FOR)
            stands_for = self._animal_pk(name.removeprefix(STANDS_FOR)) if is_stand_in else None
            cursor = self._connection.execute(
                "INSERT INTO collars (id, stands_for_animal_pk, created_ms, updated_ms) VALUES (?, ?, ?, ?)",
                (name, stands_for, now_ms, now_ms),
            )
            found = (int(cursor.lastrowid), name, stands_for, None)
            if not is_stand_in:
                self._post("collar", found[0], found[0], "insert")
        pk, identity, stands_for, deleted_ms = found
        if deleted_ms is not None:  # it was taken off the list and is heard again
            self._connection.execute(
                "UPDATE collars SET deleted_ms = NULL, updated_ms = ?, rev = rev + 1 WHERE pk = ?", (now_ms, pk)
            )
            self._post("collar", pk, pk, "insert")
        return self._facts(pk, identity, stands_for)

    def _resolve(self, name: str) -> tuple[int, str, int | None, int | None] | None:
        """Return key, id, whom it stands for and deletion of the collar of ``name``: an alias before an own id."""
        found = self._connection.execute(
            "SELECT pk, id, stands_for_animal_pk, deleted_ms FROM collars WHERE pk = coalesce("
            "(SELECT collar_pk FROM collar_aliases WHERE alias = ?1), (SELECT pk FROM collars WHERE id = ?1))",
            (name,),
        ).fetchone()
        return None if found is None else (found[0], found[1], found[2], found[3])

    def _facts(self, pk: int, identity: str, stands_for: int | None) -> CollarFacts:
        worn = self._connection.execute(
            "SELECT d.started_ms, d.ended_ms, d.animal_pk, a.id, a.species FROM deployments d JOIN animals a"
            " ON a.pk = d.animal_pk WHERE d.collar_pk = ? AND d.deleted_ms IS NULL ORDER BY d.started_ms",
            (pk,),
        ).fetchall()
        species = worn[-1][4] if worn else None
        if stands_for is not None:
            (species,) = self._connection.execute("SELECT species FROM animals WHERE pk = ?", (stands_for,)).fetchone()
        (own,) = self._connection.execute("SELECT limits FROM collars WHERE pk = ?", (pk,)).fetchone()
        return CollarFacts(pk, identity, stands_for, [Wearing(*values[:4]) for values in worn], limits_of(species, own))

    def _animal_pk(self, animal_id: str) -> int | None:
        row = self._connection.execute("SELECT pk FROM animals WHERE id = ?", (animal_id,)).fetchone()
        return None if row is None else int(row[0])

    def _post(self, entity: str, first_pk: int, last_pk: int, operation: str) -> None:
        self._connection.execute(
            "INSERT INTO outbox (entity, first_pk, last_pk, operation) VALUES (?, ?, ?, ?)",
            (entity, first_pk, last_pk, operation),
        )


def _stored(row: Row, outcome: Outcome) -> StoredFix:
    wearings: list[Wearing] = row["collar"].wearings
    animal_id = next((wearing.animal_id for wearing in wearings if wearing.animal_pk == row["animal_pk"]), None)
    return StoredFix(
        row["pk"], row["id"], outcome, row["collar"].id, row["animal_pk"], row["recorded_ms"], row["lon_e7"],
        row["lat_e7"], row["flags"], row["received_ms"], row["battery_mv"], row["link"], animal_id,
    )  # fmt: skip


def _size_class(n: int) -> int:
    return next(size for size in (1, 8, 32, 100, _CHUNK) if size >= n)
