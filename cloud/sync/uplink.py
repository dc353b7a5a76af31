"""What the cloud does with a station's batch: rows, receipt, results and the stream's head in one transaction."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeAlias

import msgspec
import structlog
from msgspec.structs import replace

from cloud.store import batches, feed, scope, stations
from cloud.store.accounts import run
from cloud.store.batches import Taken
from cloud.store.database import Connection
from cloud.store.records import note
from cloud.store.results import take_results
from cloud.store.station_frames import take_frames
from cloud.store.store import PostgresStore
from shared.errors import CorruptBatch, Invalid, StaleCursor
from shared.ids import derived_id
from shared.sync import clashes
from shared.sync import log as sync_log
from shared.sync.decisions import Decision
from shared.sync.log import Session
from shared.sync.operations import Operation
from shared.sync.records import to_ms
from shared.sync.streams import (
    Apply,
    Batch,
    Corrupt,
    Fork,
    Gap,
    Receipt,
    Replay,
    StreamAnswer,
    answer_of,
    receive,
)
from shared.wire.batch import (
    FixColumns,
    decode_fixes,
    decode_records,
    decode_results,
    encode_fixes,
    encode_records,
)
from shared.wire.batch.fixes import FIX_LADDER
from shared.wire.batch.results import Results
from shared.wire.batch.schema import LADDER, ColumnLadder, Ladder
from shared.wire.link import DOWN, MAX_CLASHES, OF_FIXES, OWN, Changes, Clashes, FixPage, HeardFixes
from shared.wire.raw import FRAMES, RawFrame

log = structlog.get_logger()

_ENCODER: Final = msgspec.msgpack.Encoder()
_NO_FIXES: Final[FixColumns] = {"collar_id": [], "raw_ms": []}
_DAMAGED: Final = "the batch is not what its hash says: it was damaged on the way"


class Decisions(msgspec.Struct, frozen=True):
    """What a batch of the channel ``flags`` holds."""

    decisions: list[Decision]


class RawFrames(msgspec.Struct, frozen=True):
    """What a batch of the channel ``frames`` holds."""

    frames: list[RawFrame]


#: What a batch holds, or why it cannot be read.
Held: TypeAlias = FixColumns | Decisions | Results | RawFrames | list[Operation] | Invalid


class Uplink:
    """The stations' side of the cloud over its store; the ladders have the versions that stations speak."""

    def __init__(
        self,
        store: PostgresStore,
        *,
        now: Callable[[], datetime],
        ladder: Ladder = LADDER,
        fix_ladder: ColumnLadder = FIX_LADDER,
    ) -> None:
        self._store = store
        self._now = now
        self._ladder = ladder
        self._fix_ladder = fix_ladder

    async def take(self, station_id: str, batch: Batch, claimed_hash: bytes) -> bytes | StreamAnswer:
        """Apply ``batch``, or repeat its receipt: return the receipt's very bytes, or why nothing was applied.

        Raises CorruptBatch where what arrived is not what was sent.
        """
        if batch.hash != claimed_hash:  # before anything is made of it
            raise CorruptBatch(_DAMAGED)
        held = _opened(batch, self._ladder, self._fix_ladder)
        if isinstance(held, dict):
            await self._store.partitions.ensure(held["raw_ms"])
        now_ms = to_ms(self._now())
        key = (station_id, batch.epoch, batch.channel)
        async with self._store.database.transaction() as connection:
            head = await stations.lock_head(connection, *key)
            kept = await stations.receipt(connection, *key, batch.n)
            match receive(head, None if kept is None else kept[0], batch, claimed_hash):
                case Corrupt():
                    raise CorruptBatch(_DAMAGED)
                case Gap() | Fork() as refused:
                    answer = answer_of(refused)
                    log.warning("uplink.refused", station=station_id, channel=batch.channel, n=batch.n, why=answer.code)
                    return answer
                case Replay():
                    assert kept is not None
                    if isinstance(held, list):
                        # a station that was put back may have heard of the ruling while its edit still stood on top
                        await note(connection, batches.ruled_again(held, station_id))
                    return kept[1]
                case Apply(head=reached):
                    taken = await self._apply(connection, station_id, batch, held, now_ms)
                    receipt = _ENCODER.encode(
                        Receipt(
                            n=reached.n, hash=reached.hash,
                            counts={outcome: count for outcome, count in taken.counts.items() if count},
                            exceptions=tuple(taken.exceptions),
                        )
                    )  # fmt: skip
                    if await stations.note_epoch(connection, station_id, batch.epoch, now_ms):
                        log.warning("uplink.two_cards", station=station_id, channel=batch.channel, n=batch.n)
                    await stations.keep_receipt(connection, *key, reached, receipt, now_ms)
                    await stations.see(connection, station_id, now_ms)
                    await run(connection, sync_log.note(_session(station_id, batch, taken, now_ms, to_ms(self._now()))))
                    await note(connection, taken.lines, new_fixes=taken.new_fixes, met=taken.met)
                    return receipt

    async def _apply(
        self, connection: Connection, station_id: str, batch: Batch, held: Held, now_ms: int,
    ) -> Taken:  # fmt: skip
        origin = station_id  # not its epoch: a station that starts over would clash with its own edits
        if isinstance(held, Invalid):
            taken = batches.unreadable(held, batch.payload)
        elif isinstance(held, dict):
            taken = await batches.take_fixes(connection, held, station_id, origin, now_ms)
        elif isinstance(held, Decisions):
            taken = await batches.take_decisions(connection, held.decisions, station_id, now_ms)
        elif isinstance(held, Results):
            taken = await take_results(connection, held, station_id, now_ms)
        elif isinstance(held, RawFrames):
            taken = await take_frames(connection, held.frames, station_id, now_ms)
        else:
            operations = [replace(operation, origin=origin) for operation in held]
            taken = await batches.take_operations(connection, operations, now_ms)
        if taken.refused:
            log.warning("uplink.quarantined", station=station_id, channel=batch.channel, items=len(taken.refused))
            await batches.quarantine(connection, station_id, batch.epoch, batch.channel, batch.n, taken.refused, now_ms)
        return taken

    async def changes(
        self, station_id: str, epoch: str | None, since: int, limit: int, schema: int | None = None
    ) -> Changes:
        """Return what changed after a station's cursor, in the version of records that it reads.

        Raises StaleCursor for a cursor of another life of the cloud, BatchTooOld for a version that is left behind.
        """
        schema = self._ladder.newest if schema is None else schema
        self._ladder.check(schema)
        async with self._store.database.snapshot() as connection:
            ours = await _life(connection, epoch, since)
            page = await self._packed(connection, ours, station_id, since, limit, schema)
        async with self._store.database.transaction() as connection:
            await stations.see(connection, station_id, to_ms(self._now()), since)
        return page

    async def _packed(
        self, connection: Connection, epoch: str, station_id: str, since: int, limit: int, schema: int
    ) -> Changes:
        """Return a page of changes; of fewer where large areas would burst it, without one that alone would."""
        while True:
            page = await feed.changed_records(connection, station_id, since, limit)
            records = page.records
            try:
                packed = encode_records(records, schema, self._ladder)
            except Invalid as error:
                if len(records) > 1 or limit > 1:
                    limit = max(1, min(limit, len(records)) // 2)
                    continue
                log.error("feed.unsendable", entity=records[0].entity, id=records[0].id, why=error.detail)
                packed = encode_records([], schema, self._ladder)
            return Changes(epoch, page.next, page.is_more, packed, page.left)

    async def clashes(self, station_id: str, epoch: str | None, since: int) -> Clashes:
        """Return conflicts that concern a station after its cursor; one of another life begins at 0."""
        async with self._store.database.snapshot() as connection:
            ours = await feed.epoch(connection)
            begin = since if epoch == ours else 0
            is_limited = await scope.is_limited(connection, station_id)
            shared_kinds = [kind for kind in DOWN if kind not in OWN]
            asked = clashes.since(begin, station_id, shared_kinds, MAX_CLASHES, is_limited=is_limited)
            found, after = await run(connection, asked)
        return Clashes(ours, after, len(found) == MAX_CLASHES, found)

    async def heard(
        self, station_id: str, epoch: str | None, since: int, after: str | None, limit: int, schema: int | None = None
    ) -> HeardFixes:
        """Return fixes that the cloud took itself after a station's cursor; raises as for changes."""
        self._fix_ladder.check(self._fix_ladder.newest if schema is None else schema)
        async with self._store.database.snapshot() as connection:
            ours = await _life(connection, epoch, since)
            page, collar_ids = await _heard(
                connection, ours, station_id, since, after, limit, functools.partial(self._packed_fixes, schema=schema)
            )
        async with self._store.database.transaction() as connection:
            await stations.hear(connection, station_id, to_ms(self._now()), since)
            await stations.may_read(connection, station_id, collar_ids)
        return page

    async def newest(
        self, station_id: str, epoch: str | None, since: int, limit: int, schema: int | None = None
    ) -> HeardFixes:
        """Return the newest fix of each collar of which some wait after a station's cursor, which stays where it is."""
        self._fix_ladder.check(self._fix_ladder.newest if schema is None else schema)
        async with self._store.database.snapshot() as connection:
            ours = await _life(connection, epoch, since)
            columns = await feed.newest_fixes(connection, station_id, since, limit)
        await self._let_compare(station_id, set(columns["collar_id"]))
        return HeardFixes(ours, since, None, False, self._packed_fixes(columns, schema))

    async def _let_compare(self, station_id: str, collar_ids: set[str]) -> None:
        """Let a station that will hold fixes of these collars compare them with ours."""
        if collar_ids:
            async with self._store.database.transaction() as connection:
                await stations.may_read(connection, station_id, collar_ids)

    async def fixes(
        self, station_id: str, collar_id: str, after: str | None, limit: int, schema: int | None = None
    ) -> FixPage:
        """Return a page of the fixes of a collar that the station has brought fixes of."""
        async with self._store.database.snapshot() as connection:
            columns, last = await feed.fixes_of(connection, station_id, collar_id, after, limit)
        return FixPage(last, self._packed_fixes(columns, schema))

    def _packed_fixes(self, columns: FixColumns, schema: int | None) -> bytes:
        return encode_fixes(columns, schema, self._fix_ladder)


def _session(station_id: str, batch: Batch, taken: Taken, began_ms: int, now_ms: int) -> Session:
    counts = taken.counts
    conflicts = sum(bool(each.lost) for each in taken.exceptions)
    total, failed = sum(counts.values()), counts["quarantined"]
    return Session(
        id=derived_id(station_id, f"{batch.epoch} {batch.channel} {batch.n} {batch.hash.hex()}"), user_id=None,
        device_id=station_id, path="batch", total=total, synced=total - failed - conflicts, conflicts=conflicts,
        failed=failed, started_ms=began_ms, completed_ms=now_ms, bytes_up=len(batch.payload),
    )  # fmt: skip


async def _life(connection: Connection, epoch: str | None, since: int) -> str:
    """Return which life of the cloud this is; raises StaleCursor where a cursor is of another one."""
    ours = await feed.epoch(connection)
    if since and epoch != ours:
        raise StaleCursor("this cursor is of another life of the cloud: begin at 0")
    return ours


async def _heard(
    connection: Connection,
    epoch: str,
    station_id: str,
    since: int,
    after: str | None,
    limit: int,
    pack: Callable[[FixColumns], bytes],
) -> tuple[HeardFixes, set[str]]:
    """Return a page of the cloud's own fixes and the collars in it; fewer where long notes would burst it."""
    while True:
        page = await feed.own_fixes(connection, station_id, since, after, limit)
        columns = page.columns
        count = len(columns["raw_ms"])
        try:
            packed, collar_ids = pack(columns), set(columns["collar_id"])
        except Invalid as error:
            if count > 1:  # not one of several, so that nothing else is passed over with it
                limit = max(1, min(limit, count) // 2)
                continue
            log.error("feed.unsendable", entity="fix", collar=columns["collar_id"][0], why=error.detail)
            packed, collar_ids = pack(_NO_FIXES), set()
        return HeardFixes(epoch, page.next, page.after, page.is_more, packed, page.decisions), collar_ids


def _opened(batch: Batch, ladder: Ladder, fix_ladder: ColumnLadder) -> Held:
    """Return what a batch holds, or why it cannot be read."""
    try:
        if batch.channel in OF_FIXES:
            return decode_fixes(batch.payload, fix_ladder)
        if batch.channel == FRAMES:
            return RawFrames(decode_records(batch.payload, RawFrame, ladder))
        if batch.channel == "results":
            return decode_results(batch.payload)
        if batch.channel == "flags":
            return Decisions(decode_records(batch.payload, Decision, ladder))
        return decode_records(batch.payload, Operation, ladder)
    except Invalid as error:
        return error
