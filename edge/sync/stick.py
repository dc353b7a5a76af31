"""The station's side of a USB stick: everything that waits goes onto it, what the cloud answered comes from it.

Nothing is a second way of doing it. Batches are frozen behind those that wait, in the same chain and with the same
bytes as the link sends them; until a receipt comes, by stick or link, they wait, and a link sends them one by one.
What comes back is held as a cloud (``CarriedCloud``) that answers what it was asked; the session's own steps take it.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from edge.store import outbox
from edge.store.jobs import run
from edge.store.outbox import Enrolment
from edge.store.store import CLASH_CURSOR, SpatialiteStore
from edge.sync.people import take_roster
from edge.sync.session import RECORDS_IN_BATCH, take_reply
from edge.sync.shelf import MODELS_TAKEN, take_carried
from edge.sync.synced import Synced
from shared import stick
from shared.accounts import rosters
from shared.accounts.facts import fact, set_fact
from shared.accounts.service import Accounts
from shared.accounts.users import Job
from shared.clock import Clock
from shared.errors import Conflict, Forbidden, Invalid, LinkError, OutpostError, StaleCursor
from shared.stick import Bundle
from shared.sync import blobs
from shared.sync.blobs import Blob
from shared.sync.records import to_ms
from shared.sync.streams import Batch, Receipt, StreamAnswer
from shared.wire.batch import encode_records
from shared.wire.batch.fixes import FIX_LADDER
from shared.wire.batch.schema import LADDER
from shared.wire.link import (
    CHANNELS,
    MAX_CHANGES,
    MAX_FIXES,
    OF_OPERATIONS,
    SPARE,
    Changes,
    Channel,
    Clashes,
    FixPage,
    Heads,
    HeardFixes,
)
from shared.wire.stick import (
    Carried,
    ChangesPage,
    ClashesPage,
    FileAt,
    FilePart,
    HeardPage,
    Message,
    ModelList,
    Receipted,
    Refused,
    Reply,
    Request,
)

log = structlog.get_logger()

#: The fact that counts this station's sticks.
_NUMBER: Final = "stick.number"
#: The fact that says how much of a file the cloud had when it answered a stick.
_FILE_AT: Final = "stick.file"
_NO_RECORDS: Final = encode_records([])
_CARRIED: Final = tuple(channel for channel in CHANNELS if channel not in SPARE)


class Exported(msgspec.Struct, kw_only=True):
    """What lies on a stick now."""

    bundle: str = ""
    number: int = 0
    batches: int = 0
    items: int = 0
    #: files of which some lies on the stick, and files of which more waits than it took
    files: int = 0
    files_left: int = 0
    bytes: int = 0


class Imported(msgspec.Struct, kw_only=True):
    """What was taken from a stick; ``refused`` says what was not, and why."""

    bundles: int = 0
    synced: Synced = msgspec.field(default_factory=Synced)
    #: models that are news here
    models: int = 0
    refused: list[str] = []


async def export(
    store: SpatialiteStore, accounts: Accounts, medium: Path, clock: Clock, *, batch_fixes: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Exported:  # fmt: skip
    """Write everything that waits onto a stick; it goes on waiting until a receipt comes.

    Raises NotFound where there is no enrolment, Conflict where the cloud's key is not known, StoreFull and StoreError.
    """
    here = await store.read(outbox.enrolled)
    key = await _cloud_key(accounts)
    done = Exported(number=await accounts.tables.write(_next_number()))
    bundle = await stick.write(
        medium, "up", here.station_id, done.number,
        _going_up(store, accounts, medium, here, clock, batch_fixes, done, progress),
        private_key=here.private_key, public_key=key,
    )  # fmt: skip
    done.bundle, done.bytes = bundle.path.name, sum(part.size for part in bundle.manifest.parts)
    log.info("stick.exported", number=done.number, batches=done.batches, items=done.items)
    return done


async def take(store: SpatialiteStore, accounts: Accounts, medium: Path, clock: Clock) -> Imported:
    """Take everything on a stick that is for this station, oldest first; what cannot be taken is told.

    Raises Invalid where nothing on it is for this station, NotFound and Conflict as ``export``.
    """
    here = await store.read(outbox.enrolled)
    key = await _cloud_key(accounts)
    found, refused = stick.bundles(medium, "down")
    mine = sorted((each for each in found if each.manifest.station == here.station_id), key=lambda it: it.path.name)
    if not mine and not refused:
        others = ", ".join(sorted({each.manifest.station for each in found}))
        raise Invalid(
            f"nothing on this stick is for {here.station_id}: it has answers for {others}"
            if others
            else "nothing on this stick came from a cloud: `outpost-cloud sync --export` writes there"
        )
    done = Imported(refused=refused)
    for bundle in mine:
        try:
            done.models += await _take_bundle(store, accounts, bundle, here, key, clock, done.synced)
        except OutpostError as error:
            done.refused.append(f"{bundle.path.name}: {error.detail}")
        else:
            done.bundles += 1
    return done


async def _take_bundle(
    store: SpatialiteStore, accounts: Accounts, bundle: Bundle, here: Enrolment, key: bytes, clock: Clock, sum_: Synced
) -> int:
    cloud = CarriedCloud(list(stick.read(bundle, private_key=here.private_key, public_key=key)))
    if cloud.reply.asked.station_id != here.station_id:
        raise Forbidden("it answers another station: nothing of it was taken")
    life = (await store.read(outbox.enrolled)).cloud_epoch
    if life is not None and life not in (cloud.reply.cloud_epoch, cloud.reply.asked.cloud_epoch):
        raise Conflict("it is of an earlier life of the cloud than the one that is known here: nothing of it was taken")
    if cloud.reply.roster is not None:  # who may enter goes before all data
        try:
            await take_roster(cloud.reply.roster, here, accounts)
        except OutpostError as error:  # one that came over a link since is newer, and counts
            log.info("stick.roster_untaken", detail=error.detail)
    is_same_life = life == cloud.reply.cloud_epoch
    sum_.add(await take_reply(store, cloud, clock, cloud.has_answer, is_same_life=is_same_life))
    sum_.blobs += await accounts.tables.write(_files_at(cloud.files, to_ms(clock.now())))
    return await take_carried(cloud, here, accounts, None)


def _files_at(told: list[FileAt], now_ms: int) -> Job[int]:
    """Note how far files have come in the cloud; return how many are whole there."""
    whole = 0
    for each in told:
        blob = yield from blobs.find(each.sha256)
        if blob is None:
            continue
        yield from set_fact(f"{_FILE_AT} {each.sha256}", str(each.received))
        if each.received == blob.size:
            whole += 1
            yield from blobs.sent(each.sha256, now_ms)
            yield "DELETE FROM facts WHERE name = ?", (f"{_FILE_AT} {each.sha256}",)
    return whole


async def _cloud_key(accounts: Accounts) -> bytes:
    """Return the key that the cloud signs with, as the first roster told it."""
    key, _ = await accounts.tables.read(rosters.trusted())
    if key is None:
        raise Conflict(
            "the cloud's key is not known here yet: hold one session over a link first, `outpost-station sync --once`"
        )
    return key


def _next_number() -> Job[int]:
    number = int((yield from fact(_NUMBER)) or 0) + 1
    yield from set_fact(_NUMBER, str(number))
    return number


async def _going_up(
    store: SpatialiteStore, accounts: Accounts, medium: Path, here: Enrolment, clock: Clock, batch_fixes: int,
    done: Exported, progress: Callable[[int], None],
) -> AsyncIterator[Message]:  # fmt: skip
    acked: dict[Channel, int] = {}
    for channel in _CARRIED:
        acked[channel] = (await store.read(functools.partial(outbox.sender, channel=channel))).acked.n
    clashes = await store.read(functools.partial(run, job=fact(CLASH_CURSOR)))
    files = await accounts.tables.read(blobs.waiting())
    yield Request(
        station_id=here.station_id, number=done.number, epoch=here.epoch, cloud_epoch=here.cloud_epoch,
        cursor=here.cursor, heard_cursor=here.heard_cursor, heard_after=here.heard_after, clashes=clashes, acked=acked,
        schema=LADDER.newest, fixes_schema=FIX_LADDER.newest,
        files=[blob.sha256 for blob in files], models=await accounts.tables.read(fact(MODELS_TAKEN)),
        has=await accounts.tables.read(blobs.of_models()),
    )  # fmt: skip
    for channel in _CARRIED:
        n = 0
        while True:
            batch = await store.read(functools.partial(outbox.waiting_batch, channel=channel, after_n=n))
            if batch is None and channel != "newest":  # on a stick all go: none is urgent
                limit = RECORDS_IN_BATCH if channel in OF_OPERATIONS else batch_fixes
                freeze = functools.partial(outbox.freeze_ahead, channel=channel, limit=limit, now_ms=to_ms(clock.now()))
                batch = await store.write(freeze)
            if batch is None:
                break
            n = batch.n
            done.batches += 1
            items = functools.partial(outbox.items_of, channel=channel, n=n)
            done.items += await store.read(items)
            progress(done.items)
            yield Carried(
                epoch=batch.epoch, channel=channel, n=n, prev_hash=batch.prev_hash, hash=batch.hash,
                payload=batch.payload,
            )  # fmt: skip
    async for part in _file_parts(accounts, medium, here.station_id, files, done):
        yield part


async def _file_parts(
    accounts: Accounts, medium: Path, station_id: str, files: list[Blob], done: Exported
) -> AsyncIterator[Message]:
    """Give files from where the cloud has them, the oldest first, as far as the stick has room behind all else."""
    if not files:
        return
    room = stick.room_for_files(medium, "up", station_id, sum(blob.size for blob in files))
    for blob in files:
        offset = int(await accounts.tables.read(fact(f"{_FILE_AT} {blob.sha256}")) or 0)
        done.files += room > 0
        while offset < blob.size and room > 0:
            end = min(offset + stick.FILE_PART_BYTES, blob.size)
            yield FilePart(
                sha256=blob.sha256, size=blob.size, offset=offset, media_type=blob.media_type, owner=blob.owner,
                part=await accounts.tables.read(blobs.read(blob.sha256, offset, end)),
            )  # fmt: skip
            room -= end - offset
            offset = end
        done.files_left += offset < blob.size


class CarriedCloud:
    """Implements ``Cloud`` over what a stick brought: it answers what it was asked, and nothing else."""

    def __init__(self, messages: list[Message]) -> None:
        first = messages[0] if messages else None
        if not isinstance(first, Reply):
            raise Invalid("the stick does not begin with a reply: nothing of it was taken")
        self.reply = first
        self._said: dict[tuple[str, str, int], Receipt | Refused] = {}
        self._changes: list[ChangesPage] = []
        self._heard: list[HeardPage] = []
        self._clashes: list[ClashesPage] = []
        self._models: ModelList | None = None
        self._parts: dict[str, list[FilePart]] = {}
        #: how far files have come in the cloud
        self.files: list[FileAt] = []
        for message in messages[1:]:
            match message:
                case Receipted(epoch=epoch, channel=channel, n=n, receipt=receipt):
                    self._said[epoch, channel, n] = msgspec.msgpack.decode(receipt, type=Receipt)
                case Refused(epoch=epoch, channel=channel, n=n):
                    self._said.setdefault((epoch, channel, n), message)
                case ChangesPage():
                    self._changes.append(message)
                case HeardPage():
                    self._heard.append(message)
                case ClashesPage():
                    self._clashes.append(message)
                case FileAt():
                    self.files.append(message)
                case ModelList():
                    self._models = message
                case FilePart(sha256=sha256):
                    self._parts.setdefault(sha256, []).append(message)
                case _:
                    raise Invalid("the stick holds what no cloud says: nothing of it was taken")
        self.bytes_up = 0
        self.bytes_down = 0

    def has_answer(self, batch: Batch) -> bool:
        """Say whether the stick tells what became of these very bytes."""
        said = self._said.get((batch.epoch, batch.channel, batch.n))
        return said is not None and said.hash == batch.hash

    async def put_batch(self, batch: Batch) -> Receipt | StreamAnswer:
        """Return what became of a batch."""
        said = self._said.pop((batch.epoch, batch.channel, batch.n))
        return said.said if isinstance(said, Refused) else said

    async def heads(self, epoch: str) -> Heads:
        """Return the heads of the streams of the epoch that was asked about."""
        return Heads(self.reply.heads if epoch == self.reply.asked.epoch else {})

    async def changes(self, epoch: str | None, since: int, limit: int = MAX_CHANGES) -> Changes:
        """Return the page that goes on after ``since``, or an empty one where all of it is known."""
        self._check(epoch, since)
        for each in self._changes:
            if each.since <= since < each.page.next or (since == each.since and not each.page.is_more):
                return each.page
        return Changes(self.reply.cloud_epoch, self._known(since, self._changes), False, _NO_RECORDS)

    async def heard(
        self, epoch: str | None, since: int, after: str | None, limit: int = MAX_FIXES
    ) -> HeardFixes | None:
        """Return the page that goes on after a cursor; None where all of it is known."""
        self._check(epoch, since)
        for each in self._heard:
            if (each.since, each.after or "") <= (since, after or "") < (each.page.next, each.page.after or ""):
                return each.page
        return None

    async def newest(self, epoch: str | None, since: int, limit: int = MAX_FIXES) -> HeardFixes | None:
        """Return None: on a stick all come at once."""
        return None

    async def clashes(self, epoch: str | None, since: int) -> Clashes | None:
        """Return the page that goes on after ``since``; None where all of it is known."""
        begin = since if epoch == self.reply.cloud_epoch else 0
        for each in self._clashes:
            if each.since <= begin < each.page.next:
                return each.page
        return None

    async def fixes(self, collar_id: str, after: str | None, limit: int = MAX_FIXES) -> FixPage:
        """Raise LinkError: a stick compares nothing."""
        raise LinkError("a stick does not carry the cloud's fixes of a collar")

    async def models(self, epoch: str | None, issue: int) -> bytes | None:
        """Return the list of models that the stick brought; None for none."""
        return None if self._models is None else self._models.shelf

    async def model_part(self, sha256: str, first: int, limit: int) -> bytes:
        """Return what the stick brought of a model's file from ``first`` on; raises LinkError for no more."""
        for each in self._parts.get(sha256, []):
            if each.offset <= first < each.offset + len(each.part):
                return each.part[first - each.offset :][:limit]
        raise LinkError("the rest of a model's file lies on another stick: export once more, both ways")

    async def blob_offset(self, sha256: str) -> int:
        """Raise LinkError: what came on a stick asks for no file."""
        raise LinkError("a stick that came back takes no files")

    async def put_blob(self, blob: Blob, offset: int, part: bytes) -> int:
        """Raise LinkError: what came on a stick takes no file."""
        raise LinkError("a stick that came back takes no files")

    async def close(self) -> None:
        """Do nothing: there is no connection."""

    def _check(self, epoch: str | None, since: int) -> None:
        if since and epoch != self.reply.cloud_epoch:
            raise StaleCursor("this cursor is of another life of the cloud: begin at 0")

    def _known(self, since: int, pages: list[ChangesPage]) -> int:
        if pages and since < pages[0].since:
            raise Conflict("what changed before this stick was not taken yet: take an earlier one, or export anew")
        return since
