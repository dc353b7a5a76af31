"""Stations: their one-time codes, their keys, the heads and receipts of their streams."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec

from cloud.store import scope
from cloud.store.database import Connection
from cloud.store.records import Noted, lock_for_edits, note, number, one
from cloud.store.scope import Scope
from shared.errors import Conflict, Forbidden, NotFound
from shared.sync.records import from_ms
from shared.sync.streams import GENESIS, Head
from shared.wire.link import CODE_ALPHABET, CODE_LENGTH, plain_code


class Station(msgspec.Struct, frozen=True, kw_only=True):
    """A station as the cloud knows it; ``cursor`` is how far it said to have come in the changes.

    ``follows`` are the collars whose fixes it reads of those that the cloud took itself; None: all. ``has_scope`` says
    that it has not every record but those in its scope (``cloud.store.scope``).
    """

    id: str
    name: str
    enrolled_at: datetime
    last_seen_at: datetime | None
    is_retired: bool
    cursor: int
    follows: list[str] | None = None
    has_scope: bool = False
    #: when it was last seen to run twice: two cards write under its name by turns
    doubled_at: datetime | None = None


async def new_code(connection: Connection, station_id: str, name: str, now_ms: int, valid_ms: int) -> str:
    """Return a one-time code by which a station may enrol as ``station_id``; shown once, kept as a hash only."""
    code = "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))
    await connection.execute(
        "DELETE FROM enrolment_codes WHERE (station_id = %s AND used_ms IS NULL) OR expires_ms < %s",
        (station_id, now_ms),
    )
    await connection.execute(
        "INSERT INTO enrolment_codes (hash, station_id, name, made_ms, expires_ms) VALUES (%s, %s, %s, %s, %s)",
        (_hashed(code), station_id, name, now_ms, now_ms + valid_ms),
    )
    return "-".join(code[start : start + 4] for start in range(0, CODE_LENGTH, 4))


async def is_code_used(connection: Connection, code: str) -> bool:
    """Say whether a station has enrolled with ``code``."""
    found = await connection.execute(
        "SELECT used_ms IS NOT NULL FROM enrolment_codes WHERE hash = %s", (_hashed(plain_code(code)),)
    )
    row = await found.fetchone()
    return row is not None and bool(row[0])


async def enrol(connection: Connection, code: str, public_key: bytes, now_ms: int) -> tuple[str, str]:
    """Use a code: return id and name of the station that may sign with ``public_key`` now. Raises Forbidden.

    An unknown, a used and an expired code are answered alike. The same station may come again with the same code and
    the same key: the answer to its first request may have been lost.
    """
    found = await connection.execute(
        "SELECT station_id, name, expires_ms, used_ms FROM enrolment_codes WHERE hash = %s FOR UPDATE",
        (_hashed(plain_code(code)),),
    )
    row = await found.fetchone()
    if row is None or row[2] < now_ms:
        raise Forbidden("this code is not known, or no longer valid: ask for a new one where the cloud is run")
    station_id, name, _, used_ms = row
    if used_ms is not None:
        if await public_key_of(connection, station_id) == public_key:
            return station_id, name
        raise Forbidden("this code is not known, or no longer valid: ask for a new one where the cloud is run")
    await connection.execute(
        "UPDATE enrolment_codes SET used_ms = %s WHERE hash = %s", (now_ms, _hashed(plain_code(code)))
    )
    await connection.execute(
        "INSERT INTO stations (id, name, public_key, enrolled_ms) VALUES (%s, %s, %s, %s) ON CONFLICT (id) DO UPDATE"
        " SET name = excluded.name, public_key = excluded.public_key, enrolled_ms = excluded.enrolled_ms,"
        " retired_ms = NULL, last_epoch = NULL, doubled_ms = NULL",
        (station_id, name, public_key, now_ms),
    )
    return station_id, name


async def retire(connection: Connection, station_id: str, now_ms: int) -> None:
    """Take a station's key away: its requests are refused from now on. Raises NotFound or Conflict."""
    found = await connection.execute("SELECT retired_ms FROM stations WHERE id = %s", (station_id,))
    row = await found.fetchone()
    if row is None:
        raise NotFound(f"there is no station {station_id}")
    if row[0] is not None:
        raise Conflict(f"station {station_id} is retired")
    await connection.execute("UPDATE stations SET retired_ms = %s WHERE id = %s", (now_ms, station_id))


async def follow(connection: Connection, station_id: str, collar_ids: Sequence[str] | None) -> None:
    """Have a station read the cloud's own fixes of these collars alone, or of all. Raises NotFound.

    What it passed over until now goes into the change log anew; others that follow the same read it again as copies.
    """
    found = await connection.execute(
        "UPDATE stations SET follows = %s WHERE id = %s RETURNING id",
        (None if collar_ids is None else list(collar_ids), station_id),
    )
    if await found.fetchone() is None:
        raise NotFound(f"there is no station {station_id}")
    found = await connection.execute(
        "SELECT row_id, min(first_ms), max(last_ms) FROM changes WHERE entity = 'fix' AND origin = ''"
        " AND kind = 'insert' AND (%(ids)s::text[] IS NULL OR row_id = ANY(%(ids)s) OR row_id IN"
        " (SELECT alias FROM collar_aliases a JOIN collars c ON c.pk = a.collar_pk WHERE c.id = ANY(%(ids)s)))"
        " GROUP BY row_id ORDER BY row_id",
        {"ids": None if collar_ids is None else list(collar_ids)},
    )
    lines = [Noted("fix", identity, "insert", "", first, last) for identity, first, last in await found.fetchall()]
    await note(connection, lines)


async def set_scope(connection: Connection, station_id: str, wanted: Scope) -> None:
    """Limit what a station is told of, or open it again; what enters goes down to it, what leaves goes from it.

    Raises NotFound for a station or an animal that is not there, Invalid for an area that is none.
    """
    await lock_for_edits(connection)
    await number(connection, [], await scope.assign(connection, station_id, wanted))


async def may_read(connection: Connection, station_id: str, collar_ids: Collection[str]) -> None:
    """Let a station read the fixes of collars again, as if it had brought some."""
    await connection.execute(
        "INSERT INTO station_collars (station_id, collar_pk, is_brought) SELECT %s, pk, false FROM collars"
        " WHERE id = ANY(%s) ON CONFLICT DO NOTHING",
        (station_id, sorted(collar_ids)),
    )


async def public_key_of(connection: Connection, station_id: str) -> bytes | None:
    """Return the key that a station signs with; None for one that is unknown or retired."""
    found = await connection.execute(
        "SELECT public_key FROM stations WHERE id = %s AND retired_ms IS NULL", (station_id,)
    )
    row = await found.fetchone()
    return None if row is None else bytes(row[0])


async def stations(connection: Connection) -> list[Station]:
    """Return every station, by id."""
    found = await connection.execute(
        "SELECT id, name, enrolled_ms, last_seen_ms, retired_ms, cursor, follows, scope_geom IS NOT NULL"
        ' OR scope_animals IS NOT NULL, doubled_ms FROM stations ORDER BY id COLLATE "C"'
    )
    return [
        Station(
            id=identity, name=name, enrolled_at=from_ms(enrolled_ms),
            last_seen_at=None if seen_ms is None else from_ms(seen_ms), is_retired=retired_ms is not None,
            cursor=cursor, follows=follows, has_scope=has_scope,
            doubled_at=None if doubled_ms is None else from_ms(doubled_ms),
        )
        for (
            identity, name, enrolled_ms, seen_ms, retired_ms, cursor, follows, has_scope, doubled_ms
        ) in await found.fetchall()
    ]  # fmt: skip


async def newest_change(connection: Connection) -> int:
    """Return the newest number of the change log."""
    (value,) = await one(connection, "SELECT value FROM counters WHERE name = 'change'", ())
    return int(value)


async def see(connection: Connection, station_id: str, now_ms: int, cursor: int | None = None) -> None:
    """Note that a station was heard of, and how far it said to have come in the changes."""
    await connection.execute(
        "UPDATE stations SET last_seen_ms = %s, cursor = coalesce(%s, cursor) WHERE id = %s",
        (now_ms, cursor, station_id),
    )


async def hear(connection: Connection, station_id: str, now_ms: int, cursor: int) -> None:
    """Note how far a station said to have come in the fixes that the cloud took itself."""
    await connection.execute(
        "UPDATE stations SET heard_cursor = %s, heard_ms = %s WHERE id = %s", (cursor, now_ms, station_id)
    )


async def note_epoch(connection: Connection, station_id: str, epoch: str, now_ms: int) -> bool:
    """Note that a batch of ``epoch`` is applied, before its head moves; say whether two cards are found by it.

    A station that lost its newest data begins a new epoch and never writes in an earlier one again. Where one does that
    had written before, another card has begun the epoch in between.
    """
    found = await connection.execute(
        "UPDATE stations s SET last_epoch = %(epoch)s, doubled_ms = CASE WHEN s.last_epoch <> %(epoch)s AND EXISTS"
        " (SELECT FROM streams t WHERE t.station_id = s.id AND t.epoch = %(epoch)s AND t.n > 0) THEN %(now)s"
        " ELSE s.doubled_ms END WHERE s.id = %(station)s AND s.last_epoch IS DISTINCT FROM %(epoch)s"
        " RETURNING s.doubled_ms = %(now)s",
        {"epoch": epoch, "now": now_ms, "station": station_id},
    )
    row = await found.fetchone()
    return row is not None and bool(row[0])


async def lock_head(connection: Connection, station_id: str, epoch: str, channel: str) -> Head:
    """Return the head of a stream, held to the end of the transaction: batches of a stream come one after the other."""
    key = (station_id, epoch, channel)
    await connection.execute(
        "INSERT INTO streams (station_id, epoch, channel, n, hash) VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (*key, GENESIS.n, GENESIS.hash),
    )
    n, hashed = await one(
        connection,
        "SELECT n, hash FROM streams WHERE station_id = %s AND epoch = %s AND channel = %s FOR UPDATE",
        key,
    )
    return Head(n, bytes(hashed))


async def heads(connection: Connection, station_id: str, epoch: str) -> dict[str, Head]:
    """Return the head of each stream of a station in one epoch."""
    found = await connection.execute(
        "SELECT channel, n, hash FROM streams WHERE station_id = %s AND epoch = %s", (station_id, epoch)
    )
    return {channel: Head(n, bytes(hashed)) for channel, n, hashed in await found.fetchall()}


async def receipt(
    connection: Connection, station_id: str, epoch: str, channel: str, n: int
) -> tuple[bytes, bytes] | None:
    """Return hash and answer of a batch that was applied; None where there is none."""
    found = await connection.execute(
        "SELECT hash, answer FROM receipts WHERE station_id = %s AND epoch = %s AND channel = %s AND n = %s",
        (station_id, epoch, channel, n),
    )
    row = await found.fetchone()
    return None if row is None else (bytes(row[0]), bytes(row[1]))


async def keep_receipt(
    connection: Connection, station_id: str, epoch: str, channel: str, head: Head, answer: bytes, now_ms: int
) -> None:
    """Keep the answer to a batch and move the head of its stream, in the transaction of what the batch held."""
    await connection.execute(
        "INSERT INTO receipts (station_id, epoch, channel, n, hash, answer, received_ms)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (station_id, epoch, channel, head.n, head.hash, answer, now_ms),
    )
    await connection.execute(
        "UPDATE streams SET n = %s, hash = %s WHERE station_id = %s AND epoch = %s AND channel = %s",
        (head.n, head.hash, station_id, epoch, channel),
    )


def _hashed(code: str) -> bytes:
    # 80 random bits: nothing to guess, so a fast hash is enough
    return hashlib.sha256(code.encode()).digest()
