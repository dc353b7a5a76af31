"""The cloud's side of a USB stick: batches from it go through the same door as those of a link (``Uplink``).

What a station asked for is kept (``cloud.store.sticks``), so the answer may go back on the same stick or on another,
at once or weeks later; what it holds is read when it is written.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import structlog

from cloud.store import feed, stations, sticks
from cloud.store.accounts import run
from cloud.store.sticks import Asked
from cloud.store.store import PostgresStore
from cloud.sync.uplink import Uplink
from shared import stick
from shared.errors import BatchTooNew, BatchTooOld, Conflict, Forbidden, Invalid, NotFound, OutpostError, RequestError
from shared.ids import derived_id
from shared.stick import Bundle
from shared.sync import blobs
from shared.sync import log as sync_log
from shared.sync.records import to_ms
from shared.sync.streams import Batch, Receipt, StreamAnswer
from shared.wire.batch import MAX_BATCH_BYTES
from shared.wire.link import CHANNELS, MAX_CHANGES, MAX_FIXES
from shared.wire.manifests import files_of
from shared.wire.stick import (
    Carried,
    ChangesPage,
    ClashesPage,
    FileAt,
    FilePart,
    HeardPage,
    Message,
    ModelList,
    Refused,
    Reply,
    Request,
)

log = structlog.get_logger()

_EPOCH_DIGITS = 16


class Imported(msgspec.Struct, kw_only=True):
    """What was taken from a stick. ``outcomes`` are of everything on it, also of what had come before."""

    bundles: int = 0
    stations: list[str] = []
    batches: int = 0
    #: files that are whole here by it
    files: int = 0
    outcomes: dict[str, int] = {}
    #: what was not taken, and why
    refused: list[str] = []


class Exported(msgspec.Struct, kw_only=True):
    """What lies on a stick now."""

    stations: list[str] = []
    receipts: int = 0
    pages: int = 0
    #: parts of models' files, and files of which more is wanted than the stick took
    parts: int = 0
    files_left: int = 0
    bytes: int = 0


class Sticks:
    """Reads what stations sent on sticks, and answers; ``seed`` is of the key that signs rosters: stations pin it."""

    def __init__(
        self, store: PostgresStore, uplink: Uplink, *, seed: bytes, roster_of: Callable[[str], Awaitable[bytes]],
        now: Callable[[], datetime], shelf_of: Callable[[str, str | None, int], Awaitable[bytes | None]] | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._uplink = uplink
        self._seed = seed
        self._roster_of = roster_of
        self._now = now
        self._shelf_of = shelf_of

    async def take(self, medium: Path, progress: Callable[[int], None] = lambda _: None) -> Imported:
        """Apply every batch on a stick that was not applied yet; what cannot be taken is told and stops nothing.

        Raises Invalid where no station wrote on it, StoreError where it cannot be read.
        """
        found, refused = stick.bundles(medium, "up")
        if not found and not refused:
            raise Invalid("no station wrote on this stick: `outpost-station sync --export` does")
        done = Imported(refused=refused)
        for bundle in found:
            try:
                await self._take_bundle(bundle, done, progress)
            except OutpostError as error:
                done.refused.append(f"{bundle.path.name}: {error.detail}")
            else:
                done.bundles += 1
                if bundle.manifest.station not in done.stations:
                    done.stations.append(bundle.manifest.station)
        return done

    async def _take_bundle(self, bundle: Bundle, done: Imported, progress: Callable[[int], None]) -> None:
        station_id, began_ms = bundle.manifest.station, to_ms(self._now())
        messages = stick.read(bundle, private_key=self._seed, public_key=await self._key(station_id))
        request = next(messages, None)
        if not isinstance(request, Request) or request.station_id != station_id:
            raise Forbidden("it does not begin with what its station asks for: nothing of it was taken")
        refused: dict[str, Refused] = {}
        held: set[str] = set()
        counts: dict[str, int] = {}
        for message in messages:
            if isinstance(message, FilePart):
                await self._take_part(station_id, bundle, message, done)
                continue
            if not isinstance(message, Carried):
                raise Invalid("it holds what no station says: what came before it was taken")
            if message.channel in refused:  # what follows stands on what was refused
                continue
            if message.channel in held:
                continue
            batch = _batch(message)
            try:
                said = await self._uplink.take(station_id, batch, message.hash)
            except (BatchTooNew, BatchTooOld) as error:  # other channels go on; the next stick brings it again
                held.add(message.channel)
                done.refused.append(f"{bundle.path.name}: {message.channel} {batch.n}: {error.detail}")
                continue
            if isinstance(said, StreamAnswer):
                refused[message.channel] = Refused(
                    epoch=batch.epoch, channel=message.channel, n=batch.n, hash=message.hash, said=said
                )
                done.refused.append(
                    f"{bundle.path.name}: {message.channel} {batch.n}: {said.code}, its answer heals it"
                )
                continue
            done.batches += 1
            for outcome, count in msgspec.msgpack.decode(said, type=Receipt).counts.items():
                counts[outcome] = counts.get(outcome, 0) + count
                done.outcomes[outcome] = done.outcomes.get(outcome, 0) + count
            progress(sum(done.outcomes.values()))
        async with self._store.database.transaction() as connection:
            await sticks.keep(connection, request, list(refused.values()), to_ms(self._now()))
            await run(connection, sync_log.note(_session(bundle, counts, began_ms, to_ms(self._now()))))
        log.info("stick.imported", station=station_id, number=request.number, refused=len(refused))

    async def _take_part(self, station_id: str, bundle: Bundle, message: FilePart, done: Imported) -> None:
        """Keep a part of a file; what is behind a part that is missing waits for the next stick."""
        put = blobs.put(
            message.sha256, size=message.size, offset=message.offset, part=message.part, media_type=message.media_type,
            owner=message.owner, origin=station_id, now_ms=to_ms(self._now()),
        )  # fmt: skip
        try:
            async with self._store.database.transaction() as connection:
                before = await run(connection, blobs.find(message.sha256))
                kept = await run(connection, put)
        except RequestError as error:
            told = f"{bundle.path.name}: file {message.sha256[:12]}: {error.detail}"
            if told not in done.refused:
                done.refused.append(told)
            return
        done.files += kept.is_whole and not (before is not None and before.is_whole)
        if not kept.received:
            done.refused.append(f"{bundle.path.name}: file {message.sha256[:12]} is not what its name says")

    async def write(
        self, medium: Path, station_ids: Sequence[str] = (), progress: Callable[[int], None] = lambda _: None
    ) -> Exported:
        """Write receipts and what goes down for each station that has sent a stick, or for those named.

        Raises NotFound for one that never sent a stick: the cloud does not know where it stands.
        """
        async with self._store.database.snapshot() as connection:
            wanted = list(station_ids) or await sticks.askers(connection)
        if not wanted:
            raise NotFound("no station has sent a stick yet: `outpost-cloud sync --import` reads one")
        done = Exported()
        for station_id in wanted:
            async with self._store.database.snapshot() as connection:
                known = await sticks.asked(connection, station_id)
            if known is None:
                raise NotFound(f"{station_id} has never sent a stick: what it has is not known, so nothing is written")
            bundle = await stick.write(
                medium, "down", station_id, known.request.number, self._going_down(known, medium, done, progress),
                private_key=self._seed, public_key=await self._key(station_id),
            )  # fmt: skip
            done.stations.append(station_id)
            done.bytes += sum(part.size for part in bundle.manifest.parts)
            log.info("stick.exported", station=station_id, number=known.request.number)
        return done

    async def _going_down(
        self, known: Asked, medium: Path, done: Exported, progress: Callable[[int], None]
    ) -> AsyncIterator[Message]:
        asked = known.request
        station_id, epoch = asked.station_id, asked.epoch
        async with self._store.database.snapshot() as connection:
            ours = await feed.epoch(connection)
            heads = await stations.heads(connection, station_id, epoch)
        roster = await self._roster_of(station_id)
        yield Reply(
            asked=asked, cloud_epoch=ours, roster=roster,
            heads={channel: heads[channel] for channel in CHANNELS if channel in heads},
        )  # fmt: skip
        for channel in CHANNELS:
            # where the cloud was put back, what was confirmed in its former life is asked for by its head
            after_n = min(asked.acked.get(channel, 0), heads[channel].n if channel in heads else 0)
            async for receipt in sticks.receipts(self._store.database, station_id, epoch, channel, after_n):
                done.receipts += 1
                progress(done.receipts + done.pages)
                yield receipt
        for refused in known.refused:
            yield refused
        async for page in self._pages(asked, ours):
            done.pages += 1
            progress(done.receipts + done.pages)
            yield page
        for sha256 in asked.files:
            async with self._store.database.snapshot() as connection:
                blob = await run(connection, blobs.find(sha256))
            if blob is not None:
                yield FileAt(sha256, blob.received)
        async for model in self._models(asked, medium, done):
            yield model

    async def _models(self, asked: Request, medium: Path, done: Exported) -> AsyncIterator[Message]:
        """Give the list of models, and of their files what the station lacks and there is room for behind all else."""
        epoch, _, issue = (asked.models or "").rpartition(" ")
        if self._shelf_of is None:
            return
        shelf = await self._shelf_of(asked.station_id, epoch or None, int(issue or 0))
        if shelf is None:
            return
        yield ModelList(shelf)
        async with self._store.database.snapshot() as connection:
            found = [await run(connection, blobs.find(sha256)) for sha256 in files_of(shelf)]
        wanted = [blob for blob in found if blob is not None and blob.is_whole]
        lacking = sum(max(0, blob.size - asked.has.get(blob.sha256, 0)) for blob in wanted)
        room = stick.room_for_files(medium, "down", asked.station_id, lacking)
        for blob in wanted:
            sha256, offset = blob.sha256, asked.has.get(blob.sha256, 0)
            while offset < blob.size and room > 0:
                end = min(offset + stick.FILE_PART_BYTES, blob.size)
                async with self._store.database.snapshot() as connection:
                    part = await run(connection, blobs.read(sha256, offset, end))
                yield FilePart(
                    sha256=sha256, size=blob.size, offset=offset, media_type=blob.media_type, owner=None, part=part
                )
                done.parts += 1
                room -= end - offset
                offset = end
            done.files_left += offset < blob.size

    async def _pages(self, asked: Request, ours: str) -> AsyncIterator[Message]:
        is_known = asked.cloud_epoch == ours
        since = asked.cursor if is_known else 0
        while True:
            changes = await self._uplink.changes(asked.station_id, ours, since, MAX_CHANGES, asked.schema)
            yield ChangesPage(since, changes)
            since = changes.next
            if not changes.is_more:
                break
        clash_epoch, _, clash_since = (asked.clashes or "").partition(" ")
        since = int(clash_since or 0) if clash_epoch == ours else 0
        while True:
            clashes = await self._uplink.clashes(asked.station_id, ours, since)
            if clashes.next > since:
                yield ClashesPage(since, clashes)
            since = clashes.next
            if not clashes.is_more:
                break
        since, after = (asked.heard_cursor, asked.heard_after) if is_known else (0, None)
        while True:
            heard = await self._uplink.heard(asked.station_id, ours, since, after, MAX_FIXES, asked.fixes_schema)
            yield HeardPage(since, after, heard)
            since, after = heard.next, heard.after
            if not heard.is_more:
                break

    async def _key(self, station_id: str) -> bytes:
        async with self._store.database.snapshot() as connection:
            key = await stations.public_key_of(connection, station_id)
        if key is None:
            raise Forbidden(f"{station_id} is not known here, or retired: nothing is taken of it")
        return key


def _batch(carried: Carried) -> Batch:
    """Return a batch of a stick; raises Invalid for what is none, Conflict for what a link would not take either."""
    is_epoch = len(carried.epoch) == _EPOCH_DIGITS and all(digit in "0123456789abcdef" for digit in carried.epoch)
    if not is_epoch or carried.n < 1:
        raise Invalid("it names no stream of a station")
    if len(carried.payload) > MAX_BATCH_BYTES:
        raise Conflict(f"a batch has at most {MAX_BATCH_BYTES} bytes")
    return Batch(carried.epoch, carried.channel, carried.n, carried.prev_hash, carried.payload)


def _session(bundle: Bundle, counts: dict[str, int], began_ms: int, now_ms: int) -> sync_log.Session:
    total, failed = sum(counts.values()), counts.get("quarantined", 0)
    return sync_log.Session(
        id=derived_id(bundle.manifest.station, f"stick {bundle.manifest.id}"), user_id=None,
        device_id=bundle.manifest.station, path="usb", total=total, synced=total - failed, conflicts=0, failed=failed,
        started_ms=began_ms, completed_ms=now_ms,
    )  # fmt: skip
