"""Fixes into PostgreSQL: once each for ever, judged as a set, set-wise.

One call is part of one transaction. Steps, for a batch of any size:

1. devices to collars, which are locked (``cloud.store.collars``);
   what only comes after all that its collar has is judged together and written at once (``cloud.store.appending``);
   for the rest:
2. rows placed and folded (``shared.sync.fixes``); what is stored already found with one statement;
3. the surroundings of every change read, the new set judged (``shared.movement.quality``);
4. new rows written by COPY with their flags, richer copies and changed flags by updates;
5. a line for each collar goes to the change log, whose numbers the caller takes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from psycopg import sql

from cloud.store.appending import Columns, Lane, columns_of, copy_text, lane_of, packed_end
from cloud.store.collars import Collars
from cloud.store.database import Connection
from cloud.store.neighbourhood import FIRST_HELPING, Bounds, NotEnough, Stretch, read
from cloud.store.partitions import highest_id, lowest_id
from cloud.store.records import Noted
from cloud.store.texts import cleaned
from shared.domain import FixFlag, HeardDevice, NewFix
from shared.ids import fix_time_ms
from shared.movement.quality import Judged, intrinsic_flags, rejudge, stands_alone
from shared.sync.fixes import (
    BY_HAND,
    COLUMNS,
    MERGED,
    OPTIONAL,
    CollarFacts,
    FixOutcome,
    Row,
    by_hand_of_both,
    filled,
    flags_by_hand,
    fold,
    fold_batch,
    judged_columns,
    place,
    retime,
    said_again,
    stretches,
)
from shared.sync.operations import STANDS_FOR

#: What is written of a new row; the geometry follows from it in the database.
_WRITTEN: Final = tuple(name for name in COLUMNS if name != "pk")
_FOUND: Final = ("id", "collar_pk", "animal_pk", "recorded_ms", "raw_ms", "lon_e7", "lat_e7", "flags", *MERGED)
_UPDATED: Final = (*MERGED, "recorded_ms", "animal_pk")
_UPDATE: Final = sql.SQL("UPDATE fixes SET {} WHERE id = %s").format(
    sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in _UPDATED)
)
_TEXT: Final = ("source", "link", "local_id", "activity_type", "notes")
_ELSEWHERE: Final = int(FixFlag.POSITION_DISAGREEMENT)
#: So many fixes of a collar are moved or judged at a time when all of them are.
_STRETCH: Final = 5_000
_WEARER: Final = (
    "coalesce(%(stands_for)s::bigint, (SELECT d.animal_pk FROM deployments d WHERE d.collar_pk = fixes.collar_pk"
    " AND d.deleted_ms IS NULL AND d.started_ms <= fixes.recorded_ms"
    " AND (d.ended_ms IS NULL OR fixes.recorded_ms < d.ended_ms) ORDER BY d.started_ms LIMIT 1), said_animal_pk)"
)


class Added(msgspec.Struct, frozen=True):
    """What became of the fixes of one call, in their order, and the lines for the change log."""

    ids: list[bytes]
    outcomes: list[FixOutcome]
    lines: list[Noted]
    #: rows that there are now and were not before; negative where twins became one
    new: int


class FixWriter:
    """Writes fixes inside one transaction; ``now_ms`` dates collars that are heard for the first time."""

    def __init__(self, connection: Connection, now_ms: int, origin: str = "") -> None:
        self._connection = connection
        self._origin = origin
        self._lines: list[Noted] = []
        self._collars = Collars(connection, now_ms, origin, self._lines)
        #: fixes that were found to be at another place than one of the same instant
        self.disagreeing: set[bytes] = set()

    async def add(self, fixes: Sequence[NewFix]) -> Added:
        """Store ``fixes`` and say of each, in order, what became of it."""
        return await self._take(columns_of(fixes), is_heard=False)

    async def add_columns(self, columns: Columns, *, is_heard: bool = True) -> Added:
        """Store a batch (``shared.wire.batch``); ``is_heard``: it is a station's, its collars are noted as heard."""
        return await self._take(columns, is_heard=is_heard)

    async def _take(self, columns: Columns, *, is_heard: bool) -> Added:
        columns = {**columns, **{name: _cleaned(columns[name]) for name in _TEXT}}
        names = columns["collar_id"]
        await self._collars.know(set(names))
        said = await self._collars.animal_pks(set(columns["said_animal_id"]))
        if is_heard:
            self._collars.note_heard(columns)
        lane = lane_of(columns, self._collars.facts, self._collars.bounds, said)
        if len(lane.places) == len(names):
            lines = await self._append(lane)
            return Added(lane.ids, ["new"] * len(names), lines, len(names))
        others = sorted(set(range(len(names))) - set(lane.places))
        added = await self._store(self._rows(columns, others, said))
        lines = added.lines + (await self._append(lane) if lane.places else [])
        ids: list[bytes] = [b""] * len(names)
        outcomes: list[FixOutcome] = ["new"] * len(names)
        for at, identity in zip(lane.places, lane.ids, strict=True):
            ids[at] = identity
        for at, identity, outcome in zip(others, added.ids, added.outcomes, strict=True):
            ids[at], outcomes[at] = identity, outcome
        return Added(ids, outcomes, lines, added.new + len(lane.places))

    def _rows(self, columns: Columns, places: Sequence[int], said: Mapping[str | None, int]) -> list[Row]:
        """Return the fixes at ``places`` of a batch as rows."""
        rows = []
        for at in places:
            row = {name: values[at] for name, values in columns.items()}
            collar = self._collars.facts[row.pop("collar_id")]
            place(row, collar, row["raw_ms"], row["lon_e7"], row["lat_e7"], said.get(row.pop("said_animal_id")))
            rows.append(row)
        return rows

    async def _append(self, lane: Lane) -> list[Noted]:
        """Write what is an append, with the collars' bounds; return the lines for the change log."""
        names = sql.SQL(", ").join(map(sql.Identifier, lane.names))
        cursor = self._connection.cursor()
        async with cursor.copy(sql.SQL("COPY fixes ({}) FROM STDIN").format(names)) as copy:
            for text in lane.copy_texts():
                await copy.write(text)
            # while the server is at it
            spans = lane.spans()
            widened: dict[int, Bounds] = {}
            for pk, (first_ms, last_ms) in spans.items():
                bounds, collar = self._collars.bounds[pk], lane.collars[pk]
                widened[pk] = Bounds(
                    first_ms if bounds.first_ms is None else bounds.first_ms, last_ms, bounds.has_rolled,
                    packed_end(lane.ends[pk], collar.limits),
                )  # fmt: skip
            self._lines += [
                Noted("fix", lane.collars[pk].id, "insert", self._origin, *spans[pk])
                for pk in sorted(spans, key=lambda pk: lane.collars[pk].id)
            ]
        await self._collars.keep_bounds(widened)
        return self._take_lines()

    async def hear(self, heard: Sequence[HeardDevice]) -> None:
        """Note when devices were heard and what they said of themselves, unless something newer is known.

        Their lines for the change log come with those of the next fixes.
        """
        await self._collars.hear(heard)

    @property
    def collar_pks(self) -> list[int]:
        """The collars that this writer has dealt with."""
        return self._collars.pks

    async def readopt(self, collar_ids: Iterable[str]) -> list[Noted]:
        """Give every fix of these collars to whoever wore them, correct its time anew and judge all of them again."""
        names = await self._collars.existing(collar_ids)
        await self._collars.know(names)
        for name in sorted(names):
            await self._readopt(self._collars.facts[name])
        return self._take_lines()

    async def stand_for(self, animal_ids: Sequence[str]) -> list[str]:
        """Give stand-ins that came before their animals to these; return which, for ``readopt``."""
        found = await self._connection.execute(
            "UPDATE collars c SET stands_for_animal_pk = a.pk FROM animals a WHERE a.id = ANY(%s)"
            " AND c.id = ANY(%s) AND c.id = %s || a.id AND c.stands_for_animal_pk IS NULL RETURNING c.id",
            (list(animal_ids), [STANDS_FOR + each for each in animal_ids], STANDS_FOR),
        )
        return [identity for (identity,) in await found.fetchall()]

    async def rekey(self, heard_id: str, into_id: str) -> tuple[list[Noted], int]:
        """Move the fixes of a collar under another that it was all along: new ids, twins folded.

        Returns the lines for the change log and by how many rows the fixes became fewer, as a negative number.
        """
        await self._collars.know({into_id})
        collar = self._collars.facts[into_id]
        absorbed = await self._collars.absorbed(heard_id)
        if absorbed is None or absorbed.pk == collar.pk:
            return [], 0
        n = 0
        times_ms: list[int] = []
        while rows := await self._taken_from(absorbed.pk, collar):
            times_ms += (row["raw_ms"] for row in rows)
            added = await self._store(rows)
            # not new to anybody: who hears of the alias does the same
            self._lines += [msgspec.structs.replace(line, kind="move") for line in added.lines]
            n += added.new - len(rows)
        if times_ms:
            self._lines.append(Noted("fix", heard_id, "gone", self._origin, min(times_ms), max(times_ms)))
        await self._collars.absorb(absorbed, collar.pk)
        return self._take_lines(), n

    async def _taken_from(self, absorbed_pk: int, collar: CollarFacts) -> list[Row]:
        """Take a stretch of fixes away from a collar; return them as rows of ``collar``, with ids of its own."""
        names = [name for name in _WRITTEN if name not in ("animal_pk", "recorded_ms")]
        cursor = await self._connection.execute(
            f"DELETE FROM fixes WHERE id IN (SELECT id FROM fixes WHERE collar_pk = %s LIMIT {_STRETCH})"
            f" RETURNING {', '.join(names)}".encode(),
            (absorbed_pk,),
        )
        rows = []
        for values in await cursor.fetchall():
            row = dict(zip(names, values, strict=True))
            row["by_hand"] = row.pop("flags") & BY_HAND
            place(row, collar, row["raw_ms"], row["lon_e7"], row["lat_e7"], row["said_animal_pk"])
            rows.append(row)
        return rows

    async def set_by_hand(self, fix_id: str, *, is_excluded: bool) -> list[Noted] | None:
        """Mark a fix as taken out, or as reinstated, by a person; None where there is no such fix."""
        # a batch about this collar writes flags that it read before: it comes to its end first, or waits for us
        await self._connection.execute(
            "SELECT FROM collars WHERE pk = (SELECT collar_pk FROM fixes WHERE id = %s) FOR NO KEY UPDATE", (fix_id,)
        )
        found = await self._connection.execute(
            "SELECT f.flags, c.id, f.raw_ms FROM fixes f JOIN collars c ON c.pk = f.collar_pk WHERE f.id = %s",
            (fix_id,),
        )
        row = await found.fetchone()
        if row is None:
            return None
        flags = flags_by_hand(row[0], is_excluded=is_excluded)
        await self._connection.execute("UPDATE fixes SET flags = %s WHERE id = %s", (flags, fix_id))
        return [Noted("fix", row[1], "hand", self._origin, row[2], row[2])]

    # --- a batch

    async def _store(self, rows: Sequence[Row]) -> Added:
        batch, order = fold_batch(rows)
        if not batch:
            return Added([], [], self._take_lines(), 0)
        stored = await self._find({identity: row for identity, row in batch.items() if self._collars.may_have(row)})
        changes = _Changes()
        outcomes: dict[bytes, FixOutcome] = {}
        fresh = [row for identity, row in batch.items() if identity not in stored]
        for row in fresh:
            outcomes[row["id"]] = "new"
            judged = judged_columns(row)
            row["flags"] = intrinsic_flags(judged, row["collar"].limits)
            changes.note(row, judged)
        was = {identity: row["flags"] for identity, row in stored.items()}
        updated = []
        for identity, old in stored.items():
            new = batch[identity]
            old["collar"] = new["collar"]
            n_filled = filled(old, OPTIONAL)
            before = judged_columns(old)
            if fold(old, new):
                retime(old)
                updated.append(old)
                after = judged_columns(old)
                if after != before:  # another copy's link or signal alters no judgement
                    changes.note(old, after, before.time_ms)
            old["flags"] = old["flags"] & ~BY_HAND | by_hand_of_both(old["flags"], new.get("by_hand", 0))
            outcomes[identity] = "enriched" if filled(old, OPTIONAL) > n_filled else "duplicate"
        flags = await self._judge(changes)
        for row in (*fresh, *stored.values()):
            if (judgement := flags.pop(row["id"], None)) is not None:
                row["flags"] = judgement | row["flags"] & BY_HAND
            row["flags"] |= row.get("by_hand", 0)
        flags |= {identity: row["flags"] for identity, row in stored.items() if row["flags"] != was[identity]}
        await self._write(fresh, updated, flags)
        await self._collars.widen((*fresh, *updated))
        self._note((*fresh, *updated))
        answers = said_again([outcomes[identity] for identity in order], order)
        return Added(order, answers, self._take_lines(), len(fresh))

    async def _find(self, batch: Mapping[bytes, Row]) -> dict[bytes, Row]:
        if not batch:
            return {}
        times_ms = [row["raw_ms"] for row in batch.values()]
        cursor = self._connection.cursor(binary=True)
        await cursor.execute(
            f"SELECT {', '.join(_FOUND)} FROM fixes WHERE id = ANY(%s::uuid[])"
            " AND id BETWEEN %s::uuid AND %s::uuid".encode(),
            ([identity.hex() for identity in batch], lowest_id(min(times_ms)), highest_id(max(times_ms))),
        )
        found = {}
        for values in await cursor.fetchall():
            row = dict(zip(_FOUND, values, strict=True))
            row["id"] = row["id"].bytes
            found[row["id"]] = row
        return found

    async def _judge(self, changes: _Changes) -> dict[bytes, int]:
        """Return the flags of every fix whose judgement may have changed."""
        waiting = [
            (Stretch(collar.pk, first_ms, last_ms, self._collars.bounds[collar.pk]), collar)
            for collar, first_ms, last_ms in changes.spans()
        ]
        flags: dict[bytes, int] = {}
        told: dict[int, dict[bytes, int]] = {}
        last: dict[int, tuple[Stretch, CollarFacts]] = {}
        helping = FIRST_HELPING
        while waiting:
            await read(self._connection, [stretch for stretch, _ in waiting], helping)
            unsettled = []
            for stretch, collar in waiting:
                changed = changes.judged.get(collar.pk, {})
                try:
                    found = rejudge(stretch.surroundings(changed), (stretch.first_ms, stretch.last_ms), collar.limits)
                except NotEnough:
                    unsettled.append((stretch, collar))
                    continue
                told.setdefault(collar.pk, {}).update(found)
                if collar.pk not in last or last[collar.pk][0].last_ms < stretch.last_ms:
                    last[collar.pk] = (stretch, collar)
                others: list[int] = []
                for identity, judged in found.items():
                    was = changes.was[identity] if identity in changed else stretch.was[identity]
                    if judged & _ELSEWHERE and (identity in changed or not was & _ELSEWHERE):
                        self.disagreeing.add(identity)
                    if identity in changed or was & ~BY_HAND != judged:
                        flags[identity] = judged | was & BY_HAND
                        if identity not in changed:
                            others.append(fix_time_ms(identity))
                if others:
                    self._lines.append(Noted("fix", collar.id, "flag", self._origin, min(others), max(others)))
            waiting = unsettled
            helping *= 8
        for pk, (stretch, collar) in last.items():
            end = stretch.calm_end(changes.judged.get(pk, {}), told[pk], collar.limits)
            self._collars.ends_calmly(pk, packed_end(end, collar.limits))
        return flags

    async def _write(self, fresh: Sequence[Row], updated: Sequence[Row], flags: Mapping[bytes, int]) -> None:
        async with self._connection.cursor() as cursor:
            if fresh:
                columns = {name: [row[name] for row in fresh] for name in _WRITTEN if name != "id"}
                columns = {name: values for name, values in columns.items() if values.count(None) < len(values)}
                names = sql.SQL(", ").join(map(sql.Identifier, ("id", *columns)))
                async with cursor.copy(sql.SQL("COPY fixes ({}) FROM STDIN").format(names)) as copy:
                    await copy.write(copy_text([row["id"] for row in fresh], columns))
            if updated:
                rows = [[*(row[name] for name in _UPDATED), row["id"].hex()] for row in updated]
                await cursor.executemany(_UPDATE, rows)
            if flags:
                await cursor.executemany(
                    "UPDATE fixes SET flags = %s WHERE id = %s",
                    [(each, identity.hex()) for identity, each in flags.items()],
                )

    def _note(self, rows: Iterable[Row]) -> None:
        spans: dict[str, list[int]] = {}
        for row in rows:
            spans.setdefault(row["collar"].id, []).append(row["raw_ms"])
        self._lines += [
            Noted("fix", collar_id, "insert", self._origin, min(times_ms), max(times_ms))
            for collar_id, times_ms in sorted(spans.items())
        ]

    def _take_lines(self) -> list[Noted]:
        lines = self._lines.copy()
        self._lines.clear()  # in place: the collars write into it too
        return lines

    # --- all fixes of a collar

    async def _readopt(self, collar: CollarFacts) -> None:
        await self._correct(collar)
        await self._connection.execute(
            f"UPDATE fixes SET animal_pk = {_WEARER} WHERE collar_pk = %(pk)s"
            f" AND animal_pk IS DISTINCT FROM {_WEARER}".encode(),
            {"stands_for": collar.stands_for_animal_pk, "pk": collar.pk},
        )
        after_ms = -(2**62)
        while True:
            found = await self._connection.execute(
                "SELECT min(recorded_ms), max(recorded_ms) FROM (SELECT recorded_ms FROM fixes WHERE collar_pk = %s"
                " AND recorded_ms > %s ORDER BY recorded_ms LIMIT %s) f",
                (collar.pk, after_ms, _STRETCH),
            )
            row = await found.fetchone()
            if row is None or row[0] is None:
                break
            changes = _Changes()
            changes.touch(collar, row[0], row[1])
            await self._write([], [], await self._judge(changes))
            after_ms = row[1]
        await self._collars.widen([])
        found = await self._connection.execute(
            "SELECT min(raw_ms), max(raw_ms) FROM fixes WHERE collar_pk = %s", (collar.pk,)
        )
        row = await found.fetchone()
        if row is not None and row[0] is not None:
            self._lines.append(Noted("fix", collar.id, "move", self._origin, row[0], row[1]))

    async def _correct(self, collar: CollarFacts) -> None:
        """Undo or redo week rollovers: only a fix before every deployment, or one corrected before, can change."""
        lowest_ms = min((wearing.started_ms for wearing in collar.wearings), default=None)
        found = await self._connection.execute(
            "SELECT id, collar_pk, raw_ms, recorded_ms, sure_received_ms FROM fixes WHERE collar_pk = %(pk)s AND"
            " (recorded_ms <> raw_ms OR %(lowest)s::bigint IS NULL OR raw_ms < %(lowest)s)",
            {"pk": collar.pk, "lowest": lowest_ms},
        )
        moved = []
        for identity, collar_pk, raw_ms, recorded_ms, sure_ms in await found.fetchall():
            corrected = collar.corrected_ms(raw_ms, sure_ms)
            if corrected != recorded_ms:
                moved.append({"id": identity, "collar_pk": collar_pk, "raw_ms": raw_ms, "recorded_ms": corrected})
        async with self._connection.cursor() as cursor:
            await cursor.executemany(
                "UPDATE fixes SET recorded_ms = %s WHERE id = %s", [(row["recorded_ms"], row["id"]) for row in moved]
            )
        await self._collars.widen(moved)


def _cleaned(texts: Sequence[str | None]) -> Sequence[str | None]:
    return [cleaned(text) for text in texts] if "\0" in "".join(filter(None, texts)) else texts


class _Changes:
    """What a batch changes of the sets that are judged: new and altered fixes by collar, and when."""

    def __init__(self) -> None:
        self._times_ms: dict[int, tuple[CollarFacts, list[int]]] = {}
        self._touched: list[tuple[CollarFacts, int, int]] = []
        self.judged: dict[int, dict[bytes, Judged]] = {}
        #: flags as they are stored
        self.was: dict[bytes, int] = {}

    def note(self, row: Row, judged: Judged, *more_ms: int) -> None:
        """Take note of a new row, or of one that is judged otherwise than before."""
        collar: CollarFacts = row["collar"]
        self.judged.setdefault(collar.pk, {})[judged.id] = judged
        self.was[judged.id] = row["flags"]
        if more_ms or not stands_alone(row["flags"]):
            self._times_ms.setdefault(collar.pk, (collar, []))[1].extend((judged.time_ms, *more_ms))

    def touch(self, collar: CollarFacts, first_ms: int, last_ms: int) -> None:
        """Have every fix of ``collar`` in a span judged anew."""
        self._touched.append((collar, first_ms, last_ms))

    def spans(self) -> list[tuple[CollarFacts, int, int]]:
        """Return the spans of corrected time in which something changed, by collar."""
        changed = [
            (collar, span[0], span[-1]) for collar, times_ms in self._times_ms.values() for span in stretches(times_ms)
        ]
        return [*changed, *self._touched]
