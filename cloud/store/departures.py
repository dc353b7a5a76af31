"""What leaves for a destination: fixes looked at along the change log, judged, and frozen into batches.

A destination is first walked over all fixes there are, in the order of their ids, and then follows the change log,
whose numbers appear in the order of commits: whatever makes a fix new, or makes one ready that was not (another flag, a
deployment that was entered late, an alias), has a line there that covers it. Of each fix ``destination_fixes`` says
what became of it:

=========  =======================================================  ==============================================
taken      frozen or sent, once and for ever                        nothing: a batch is tried until it is there
excluded   a quality rule or a person excludes it                   the line of its next flags
nobody's   no deployment says whose it is                           the line of the deployment
too young  a reduced destination sees the species only later        its age
unshown    a reduced destination never sees the species' place      nothing
=========  =======================================================  ==============================================

One step is one transaction: it looks at a stretch, freezes what is ready, moves the cursor. So a worker that is killed
anywhere leaves batches that are frozen and a cursor that agrees with them, and the next sends the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from cloud.store.arrays import numbers_array
from cloud.store.database import Connection
from cloud.store.destinations import Destination
from cloud.store.partitions import highest_id, lowest_id
from cloud.store.records import one
from shared.domain import is_usable
from shared.exchange.rows import EXTRAS, TrackFix
from shared.exchange.sites import MOST, Site, is_sendable
from shared.ids import fix_id
from shared.privacy import Species, leaving

_SCAN: Final = 8 * MOST
_LINES: Final = 500
_TAKEN, _EXCLUDED, _NOBODYS, _YOUNG, _UNSHOWN = range(5)

_ROW: Final = (
    "SELECT f.id, f.raw_ms, f.sure_received_ms, f.collar_pk, a.id AS animal_id, a.name AS individual, a.species,"
    " c.id AS collar_id, f.recorded_ms, f.lon_e7, f.lat_e7, f.flags, "
    + ", ".join(f"f.{name}" for name in EXTRAS)
    + " FROM"
    " fixes f JOIN collars c ON c.pk = f.collar_pk LEFT JOIN animals a ON a.pk = f.animal_pk AND a.deleted_ms IS NULL"
    " WHERE NOT EXISTS (SELECT 1 FROM destination_fixes d WHERE d.destination_pk = %s AND d.fix_id = f.id"
    " AND d.state = 0) AND "
)
_NAMES: Final = (
    "id", "raw_ms", "sure_received_ms", "collar_pk", "animal_id", "individual", "species", "collar_id", "recorded_ms",
    "lon_e7", "lat_e7", "flags", *EXTRAS,
)  # fmt: skip
_OF_FIX: Final = (
    "animal_id",
    "individual",
    "species",
    "collar_id",
    "recorded_ms",
    "lon_e7",
    "lat_e7",
    "flags",
    *EXTRAS,
)
#: The key of the collar that a name stands for by now.
_NOW_CALLED: Final = (
    "coalesce((SELECT collar_pk FROM collar_aliases WHERE alias = %s), (SELECT pk FROM collars WHERE id = %s))"
)

Row = dict[str, Any]
#: A fix that is ready, or why it is not and from when on it may be.
Verdict = TrackFix | tuple[int, int | None] | None


class Batch(msgspec.Struct, frozen=True):
    """Observations that go together, as they were frozen."""

    n: int
    observations: list[str]


async def next_batch(db: Connection, pk: int) -> Batch | None:
    """Return the batch whose turn it is, None where none is frozen; what is left of a refused one goes first."""
    found = await db.execute(
        "SELECT n, observations FROM destination_batches WHERE destination_pk = %s AND NOT is_refused"
        " ORDER BY cardinality(observations), n LIMIT 1",
        (pk,),
    )
    row = await found.fetchone()
    return None if row is None else Batch(*row)


async def arrived(db: Connection, pk: int, batch: Batch, now_ms: int) -> None:
    """Note that a batch is there."""
    gone = await db.execute("DELETE FROM destination_batches WHERE destination_pk = %s AND n = %s", (pk, batch.n))
    if gone.rowcount:
        await db.execute(
            "UPDATE destinations SET sent = sent + %s, sent_ms = %s WHERE pk = %s",
            (len(batch.observations), now_ms, pk),
        )


async def halve(db: Connection, pk: int, batch: Batch) -> None:
    """Put two halves in the place of a batch in which something was refused."""
    half = len(batch.observations) // 2
    await db.execute("DELETE FROM destination_batches WHERE destination_pk = %s AND n = %s", (pk, batch.n))
    await _freeze(db, pk, [batch.observations[:half], batch.observations[half:]])


async def set_aside(db: Connection, pk: int, batch: Batch) -> None:
    """Keep one observation that is refused for a person to decide."""
    await db.execute(
        "UPDATE destination_batches SET is_refused = true WHERE destination_pk = %s AND n = %s", (pk, batch.n)
    )


async def put_back(db: Connection, pk: int, batches: Iterable[Batch]) -> None:
    """Put refused observations back into the row: it was not they that were wrong."""
    await db.execute(
        "UPDATE destination_batches SET is_refused = false WHERE destination_pk = %s AND n = ANY(%s)",
        (pk, [batch.n for batch in batches]),
    )


async def look(db: Connection, destination: Destination, site: Site, species: Species, now_ms: int) -> bool:
    """Look at the next stretch and freeze what is ready; False where there is nothing left to look at.

    The caller holds the destination. ``species`` has the categories that a reduced destination goes by.
    """
    rows, has_moved = await _stretch(db, destination, now_ms)
    if rows:
        await _sort(db, destination, site, rows, species, now_ms)
    return has_moved


# --- which rows -------------------------------------------------------------------------------------------------------
async def _stretch(db: Connection, destination: Destination, now_ms: int) -> tuple[list[Row], bool]:
    """Return the next rows to look at and whether anything was looked at; the cursor stands behind them then."""
    pk = destination.pk
    walked, position, reached = await one(db, "SELECT walked, position, reached FROM destinations WHERE pk = %s", (pk,))
    if walked is not None:
        rows = await _rows(db, pk, "f.id > %s ORDER BY f.id LIMIT %s", (walked, _SCAN))
        last = rows[-1]["id"] if len(rows) == _SCAN else None
        await db.execute("UPDATE destinations SET walked = %s WHERE pk = %s", (last, pk))
        return rows, True
    rows, new_position, new_reached = await _changed(db, destination, position, reached)
    if (new_position, new_reached) != (position, reached):
        await db.execute(
            "UPDATE destinations SET position = %s, reached = %s WHERE pk = %s", (new_position, new_reached, pk)
        )
        return rows, True
    return await _grown_up(db, pk, now_ms)


async def _changed(
    db: Connection, destination: Destination, position: int, reached: UUID | None
) -> tuple[list[Row], int, UUID | None]:
    """Return rows that the next lines of the change log are about, and the cursor after them."""
    (last,) = await one(db, "SELECT value FROM counters WHERE name = 'change'")
    found = await db.execute(
        "SELECT seq, entity, kind, row_id, first_ms, last_ms FROM changes WHERE seq > %s"
        " AND entity IN ('fix', 'animal') ORDER BY seq LIMIT %s",
        (position, _LINES),
    )
    lines = await found.fetchall()
    rows: dict[UUID, Row] = {}
    for seq, entity, kind, row_id, first_ms, last_ms in lines:
        if kind == "gone":
            await _forget(db, destination.pk, first_ms, last_ms)
        elif (limit := _SCAN - len(rows)) <= 0:
            return list(rows.values()), seq - 1, None
        else:
            if entity == "fix":
                condition, values = await _of_span(db, row_id, first_ms, last_ms)
            elif destination.species is None:
                continue  # an animal's name or notes change nothing of what leaves
            else:
                condition, values = "f.animal_pk = (SELECT pk FROM animals WHERE id = %s)", [row_id]
            some = await _rows(
                db, destination.pk, f"{condition} AND (%s::uuid IS NULL OR f.id > %s) ORDER BY f.id LIMIT %s",
                [*values, reached, reached, limit],
            )  # fmt: skip
            rows |= {row["id"]: row for row in some}
            if len(some) == limit:
                return list(rows.values()), seq - 1, some[-1]["id"]
        reached = None
    newest = lines[-1][0] if lines else 0  # one may have been written since the counter was read
    return list(rows.values()), newest if len(lines) == _LINES else max(newest, int(last)), None


async def _of_span(db: Connection, name: str, first_ms: int, last_ms: int) -> tuple[str, list[Any]]:
    (collar_pk,) = await one(db, f"SELECT {_NOW_CALLED}", (name, name))
    return (
        "f.collar_pk = %s AND f.raw_ms BETWEEN %s AND %s AND f.id BETWEEN %s::uuid AND %s::uuid",
        [collar_pk, first_ms, last_ms, lowest_id(first_ms), highest_id(last_ms)],
    )


async def _forget(db: Connection, pk: int, first_ms: int, last_ms: int) -> None:
    """Forget what was held of fixes that have become others: their collar has another name by now."""
    await db.execute(
        "DELETE FROM destination_fixes d WHERE destination_pk = %s AND state <> 0"
        " AND fix_id BETWEEN %s::uuid AND %s::uuid AND NOT EXISTS (SELECT 1 FROM fixes f WHERE f.id = d.fix_id)",
        (pk, lowest_id(first_ms), highest_id(last_ms)),
    )


async def _grown_up(db: Connection, pk: int, now_ms: int) -> tuple[list[Row], bool]:
    """Return rows that have become old enough."""
    found = await db.execute(
        "DELETE FROM destination_fixes WHERE destination_pk = %s AND fix_id IN (SELECT fix_id FROM destination_fixes"
        " WHERE destination_pk = %s AND state <> 0 AND due_ms <= %s LIMIT %s) RETURNING fix_id",
        (pk, pk, now_ms, _SCAN),
    )
    ids = [identity for (identity,) in await found.fetchall()]
    rows = await _rows(db, pk, "f.id = ANY(%s) ORDER BY f.id", (ids,)) if ids else []
    return rows, bool(ids)


async def _rows(db: Connection, pk: int, condition: str, values: Sequence[Any]) -> list[Row]:
    found = await db.execute((_ROW + condition).encode(), [pk, *values])
    return [dict(zip(_NAMES, row, strict=True)) for row in await found.fetchall()]


# --- what becomes of them ---------------------------------------------------------------------------------------------
async def _sort(
    db: Connection, destination: Destination, site: Site, rows: Sequence[Row], species: Species, now_ms: int
) -> None:
    """Freeze what is ready of ``rows`` and note of each what became of it."""
    earlier = await _sent_under_another_name(db, destination.pk, rows)
    ready: dict[str, list[str]] = {}
    states: list[tuple[UUID, int, int | None]] = []
    outside: list[UUID] = []
    for row in rows:
        verdict = judge(destination, row, species, now_ms)
        if row["id"] in earlier:
            states.append((row["id"], _TAKEN, None))
        elif verdict is None:
            outside.append(row["id"])
        elif isinstance(verdict, TrackFix):
            ready.setdefault(site.group(verdict), []).append(site.observation(verdict))
            states.append((row["id"], _TAKEN, None))
        else:
            states.append((row["id"], *verdict))
    for observations in ready.values():
        await _freeze(db, destination.pk, [observations[at : at + MOST] for at in range(0, len(observations), MOST)])
    await _keep(db, destination.pk, states, outside)


def judge(destination: Destination, row: Row, species: Species, now_ms: int) -> Verdict:
    """Return a fix as it leaves for ``destination``, why it is held and from when on it may leave, None for neither."""
    if row["lon_e7"] is None:
        return None  # a failed fix will never have a place
    if destination.animals is not None and row["animal_id"] not in destination.animals:
        return None
    if destination.species is not None and row["species"] not in destination.species:
        return None
    if not is_usable(row["flags"]):
        return _EXCLUDED, None
    if row["animal_id"] is None:
        return _NOBODYS, None
    fix = TrackFix(**{name: row[name] for name in _OF_FIX})
    if not is_sendable(fix):
        return _EXCLUDED, None
    if destination.precision == "exact":
        return fix
    shown = leaving(species, fix.species, (row["lon_e7"], row["lat_e7"]), fix.recorded_ms, row["sure_received_ms"])
    if shown.lon_e7 is None:
        return _UNSHOWN, None
    if shown.from_ms is None or shown.from_ms > now_ms:
        return _YOUNG, shown.from_ms
    return msgspec.structs.replace(fix, lon_e7=shown.lon_e7, lat_e7=shown.lat_e7, flags=0, **dict.fromkeys(EXTRAS))


async def _sent_under_another_name(db: Connection, pk: int, rows: Sequence[Row]) -> set[UUID]:
    """Return rows that were taken when their collar was still known by another name."""
    found = await db.execute(
        "SELECT collar_pk, alias FROM collar_aliases WHERE collar_pk = ANY(%s)",
        (sorted({row["collar_pk"] for row in rows}),),
    )
    aliases: dict[int, list[str]] = {}
    for collar_pk, alias in await found.fetchall():
        aliases.setdefault(collar_pk, []).append(alias)
    was = {
        UUID(bytes=fix_id(alias, row["raw_ms"], row["lon_e7"], row["lat_e7"])): row["id"]
        for row in rows
        for alias in aliases.get(row["collar_pk"], ())
    }
    if not was:
        return set()
    found = await db.execute(
        "SELECT fix_id FROM destination_fixes WHERE destination_pk = %s AND fix_id = ANY(%s) AND state = 0",
        (pk, list(was)),
    )
    return {was[identity] for (identity,) in await found.fetchall()}


async def _freeze(db: Connection, pk: int, batches: Iterable[list[str]]) -> None:
    async with db.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO destination_batches (destination_pk, observations) VALUES (%s, %s)",
            [(pk, observations) for observations in batches],
        )


async def _keep(
    db: Connection, pk: int, states: Sequence[tuple[UUID, int, int | None]], outside: Sequence[UUID]
) -> None:
    if outside:
        await db.execute(
            "DELETE FROM destination_fixes WHERE destination_pk = %s AND fix_id = ANY(%s) AND state <> 0",
            (pk, list(outside)),
        )
    if states:
        await db.execute(
            "INSERT INTO destination_fixes (destination_pk, fix_id, state, due_ms)"
            " SELECT %s, n.* FROM unnest(%s::uuid[], %s::smallint[], %s::bigint[]) n (fix_id, state, due_ms)"
            " ON CONFLICT (destination_pk, fix_id) DO UPDATE SET state = excluded.state, due_ms = excluded.due_ms",
            (
                pk, [identity for identity, _, _ in states], numbers_array([state for _, state, _ in states]),
                numbers_array([due_ms for _, _, due_ms in states]),
            ),
        )  # fmt: skip
