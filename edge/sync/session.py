"""One session with the cloud. Nothing of the station waits for it.

A session takes changes down, brings what waits up, and takes changes down again if it brought records::

    records that were sent and not confirmed  ->  changes after the cursor  ->  until nothing waits: the first batch of
    the first channel that has one, a page of fixes that the cloud took itself  ->  changes

Whoever holds sessions one after the other gives each a time: what comes down must not wait until a backlog of hours
is up, or for ever where fixes come as fast as they are sent.

Every step is a request and one transaction; a session that breaks off anywhere goes on where it stopped, because what
was asked and what was answered lies in the database and not here. What an answer means is decided in
``shared.sync.streams``; this module does the requests and the transactions, ``down`` those for what comes down.

Where the cloud has begun a new life (another epoch, a cursor that it does not know) or names a head that is not ours,
the heads of all channels are compared before anything else is taken: what it lost waits again by then, and stays on top
of what it sends down.
"""

from __future__ import annotations

import functools
import math
import secrets
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from edge.store import frames_up, outbox, queue
from edge.store.driver import Connection
from edge.store.jobs import run
from edge.store.store import SpatialiteStore
from edge.sync.client import Cloud
from edge.sync.down import Down, check_number
from edge.sync.frames import Frames
from edge.sync.meter import LinkSpent
from edge.sync.profiles import LAN, Profile
from edge.sync.synced import Synced, count
from shared.clock import Clock
from shared.errors import (
    BatchTooNew,
    BatchTooOld,
    CorruptBatch,
    Invalid,
    LinkError,
    OutpostError,
    RequestError,
    SyncError,
)
from shared.ids import random_id
from shared.sync import blobs, streams
from shared.sync import log as sync_log
from shared.sync.blobs import Blob
from shared.sync.records import to_ms
from shared.sync.streams import (
    GENESIS,
    Action,
    Answer,
    Batch,
    ResumeFrom,
    SendAgain,
    SendNext,
    StartOver,
)
from shared.wire.batch.fixes import FIX_LADDER
from shared.wire.batch.schema import LADDER
from shared.wire.link import CHANNELS, OF_OPERATIONS, SPARE, Channel
from shared.wire.raw import FRAMES

log = structlog.get_logger()

RECORDS_IN_BATCH: Final = 200
BLOB_PART_BYTES: Final = 64 << 10
#: While a backlog goes up, the newest positions are looked for again this often.
NEWEST_EVERY_S: Final = 30.0
#: The same bytes arrive damaged this often, or the streams are healed this often, and the session ends.
_MAX_DAMAGED: Final = 3
_MAX_HEALED: Final = 3 * len(CHANNELS)


def new_epoch() -> str:
    """Return the name of a new epoch of a station: 64 random bits."""
    return secrets.token_hex(8)


async def sync_once(
    store: SpatialiteStore,
    cloud: Cloud,
    clock: Clock,
    *,
    batch_fixes: int = 1_000,
    batch_records: int = RECORDS_IN_BATCH,
    profile: Profile = LAN,
    frames: Frames | None = None,
    within_s: float = math.inf,
    progress: Callable[[int], None] = lambda _: None,
    epochs: Callable[[], str] = new_epoch,
) -> Synced:
    """Hold one session and return what it did; ``progress`` hears how many items the cloud has confirmed.

    After ``within_s`` seconds it begins nothing new but what ends a session.

    ``profile`` says what goes, ``frames`` is the ledger (without it no frame goes); a cloud that is counted
    (``MeteredCloud``) ends a session early when it is enough.

    Raises LinkError where the cloud cannot be reached, AccessError where it refuses this station, NotFound where there
    is no enrolment, SyncError where the two cannot agree. What was confirmed until then stays confirmed.
    """
    n_records, n_fixes = min(batch_records, profile.batch_records), min(batch_fixes, profile.batch_fixes)
    limits = {channel: n_records if channel in OF_OPERATIONS else n_fixes for channel in CHANNELS}
    session = _Session(store, cloud, clock, limits, profile, progress, epochs)
    session.frames = frames
    session.within_s = within_s
    return await session.hold()


async def take_reply(
    store: SpatialiteStore, cloud: Cloud, clock: Clock, has_answer: Callable[[Batch], bool], *, is_same_life: bool
) -> Synced:
    """Take what a stick brought, held as a cloud that answers a little: nothing is frozen and nothing is sent.

    ``has_answer`` says whether ``cloud`` holds what became of a batch. In the life of the cloud that the station knows
    its heads are not compared: what a stick says of them may be older than what a link has said since.
    """
    limits: dict[Channel, int] = dict.fromkeys(CHANNELS, 1)
    session = _Session(store, cloud, clock, limits, LAN, lambda _: None, new_epoch)
    session.path = "usb"
    session.is_comparing = not is_same_life
    return await session.take(has_answer)


class _Session:
    #: what the log calls it
    path: sync_log.Path = "session"
    #: whether the heads of the cloud say where it stands now
    is_comparing = True
    #: where frames are read that go up
    frames: Frames | None = None
    #: the time in which it begins something new
    within_s = math.inf

    def __init__(
        self,
        store: SpatialiteStore,
        cloud: Cloud,
        clock: Clock,
        limits: Mapping[Channel, int],
        profile: Profile,
        progress: Callable[[int], None],
        epochs: Callable[[], str],
    ) -> None:
        self._store = store
        self._cloud = cloud
        self._clock = clock
        self._limits = limits
        self._profile = profile
        self._progress = progress
        self._epochs = epochs
        self._id = random_id()
        self._began_ms = to_ms(clock.now())
        self._began_s = clock.monotonic()
        self._before = cloud.bytes_up, cloud.bytes_down
        self._done = Synced()
        self._damaged = 0
        self._newest_s: float | None = None
        #: channels that have had their share of the link today
        self._resting: set[Channel] = set()
        self._down = Down(store, cloud, self._done, self._compare_heads)

    async def hold(self) -> Synced:
        try:
            return await self._hold()
        except LinkSpent as spent:
            log.info("sync.spent", detail=spent.detail)
            self._done.is_spent = True
            return self._done
        finally:
            if self._done.batches or self._done.changes or self._done.heard:
                await self._note()

    async def _note_held(self) -> None:
        """Write down which channels were held: an operator has to see it, also after the session."""
        if await self._store.read(outbox.held) != self._done.held:
            await self._store.write(functools.partial(outbox.set_held, channels=self._done.held))

    async def take(self, has_answer: Callable[[Batch], bool]) -> Synced:
        """Take answers to batches that wait, in their order, then what came down."""
        try:
            for channel in CHANNELS:
                waiting = functools.partial(outbox.sender, channel=channel)
                while (batch := (await self._store.read(waiting)).unacked) is not None and has_answer(batch):
                    await self._send(channel, batch)
            await self._down.changes()
            await self._down.clashes()
            while await self._down.heard():
                pass
            return self._done
        finally:
            if self._done.batches or self._done.changes or self._done.heard:
                await self._note()

    @property
    def _carried(self) -> tuple[int, int]:
        """The bytes of bodies that this session took up and down until now."""
        return self._cloud.bytes_up - self._before[0], self._cloud.bytes_down - self._before[1]

    async def _note(self) -> None:
        """Write the session into the log, also one that broke off."""
        done, now_ms = self._done, to_ms(self._clock.now())
        total = done.records + done.fixes + done.results + done.frames + done.changes + done.heard
        session = sync_log.Session(
            id=self._id, user_id=None, device_id=(await self._store.read(outbox.enrolled)).station_id, path=self.path,
            total=total, synced=total - done.quarantined - done.lost_edits, conflicts=done.lost_edits,
            failed=done.quarantined, started_ms=self._began_ms, completed_ms=now_ms, bytes_up=self._carried[0],
            bytes_down=self._carried[1],
        )  # fmt: skip
        await self._store.write(lambda db: run(db, sync_log.note(session)))

    async def _hold(self) -> Synced:
        untaken: OutpostError | None = None
        if await self._store.read(outbox.schema) < LADDER.newest:
            await self._store.write(functools.partial(outbox.begin_schema, ladder=LADDER))
        if await self._store.read(outbox.fixes_schema) < FIX_LADDER.newest:
            await self._store.write(functools.partial(outbox.begin_fixes_schema, ladder=FIX_LADDER))
        await self._finish()
        while await self._send_first("alerts"):  # whatever else there is, in whichever direction
            pass
        try:
            await self._down.changes()
        except (SyncError, RequestError) as error:  # what cannot be taken must not keep fixes from being sent
            untaken = error
        is_more = self._profile.takes_fixes
        while not self._is_over() and (await self._send_next() or is_more):  # by turns: neither way holds up the other
            try:
                is_more = is_more and await self._down.heard()
            except (SyncError, RequestError) as error:
                untaken, is_more = untaken or error, False
        await self._note_held()
        if untaken is not None:
            raise untaken
        if self._done.records:
            await self._down.changes()
        await self._down.clashes()
        if self._profile.sends_files:
            await self._send_blobs()
        if self._clock.state.is_sure:
            before_ms = to_ms(self._clock.now()) - outbox.RETAINED_MS
            await self._store.write(lambda db: outbox.forget_acknowledged(db, before_ms))
        self._done.bytes_up, self._done.bytes_down = self._carried
        self._done.duration_s = round(self._clock.monotonic() - self._began_s, 3)
        return self._done

    def _is_over(self) -> bool:
        """Say whether its time is over: what waits still is the next session's."""
        self._done.has_more = self._clock.monotonic() - self._began_s >= self.within_s
        return self._done.has_more

    async def _compare_heads(self) -> None:
        """Ask where the cloud stands in every channel, and make what it does not have wait again."""
        if not self.is_comparing:
            return
        epoch = (await self._store.read(outbox.enrolled)).epoch
        heads = (await self._cloud.heads(epoch)).heads
        for channel in CHANNELS:
            head = heads.get(channel, GENESIS)
            check_number(head.n)

            def job(db: Connection, channel: Channel = channel, head: streams.Head = head) -> Action:
                state = outbox.sender(db, channel, head.n)
                if state.epoch != epoch:
                    return streams.Ignore()
                _, action = streams.compared(state, head)
                self._apply(db, channel, action)
                return action

            self._heal(await self._store.write(job), channel)

    async def _finish(self) -> None:
        """Have records confirmed that the cloud may have taken already.

        Before its changes: the ruling on these is sent down once, and would be passed over while they count as unsent.
        """
        for channel in [each for each in CHANNELS if each in OF_OPERATIONS]:
            waiting = functools.partial(outbox.sender, channel=channel)
            while channel not in self._done.held and (batch := (await self._store.read(waiting)).unacked) is not None:
                await self._send(channel, batch)

    async def _send_next(self) -> bool:
        """Send the batch that comes next; False where nothing waits. A backlog of fixes never delays a record."""
        for channel in self._profile.channels_at(self._clock.now(), is_sure=self._clock.state.is_sure):
            if channel == "newest" and not self._is_time_for_newest():
                continue
            if await self._send_first(channel):
                return True
        return False

    async def _send_first(self, channel: Channel) -> bool:
        """Send the next batch of a channel; False where nothing waits in it."""
        if channel in self._done.held or channel in self._resting:
            return False
        now_ms, limit = to_ms(self._clock.now()), self._limits[channel]
        if channel == FRAMES:
            batch = await self._freeze_frames(limit, now_ms)
        else:
            freeze = functools.partial(outbox.freeze, channel=channel, limit=limit, now_ms=now_ms)
            batch = await self._store.write(freeze)
        if batch is None:
            return False
        try:
            await self._send(channel, batch)
        except LinkSpent:
            if channel not in SPARE:
                raise
            self._resting.add(channel)  # the rest of the day's bytes is for others
            return False
        return channel not in self._done.held

    async def _freeze_frames(self, limit: int, now_ms: int) -> Batch | None:
        """Return the next batch of frames; what lies in the ledger beyond the decoder waits for it."""
        if self.frames is None:
            return None
        there = await self._store.write(frames_up.position)
        rows = []
        if there.last_seq > there.after_seq:
            rows = [row for row in await self.frames.read(there.after_seq, limit) if row.seq <= there.last_seq]
            if not rows:  # they were removed, or damage took them
                await self._store.write(functools.partial(frames_up.move, last_seq=there.last_seq))
        return await self._store.write(lambda db: outbox.freeze_frames(db, rows, now_ms))

    def _is_time_for_newest(self) -> bool:
        """Say whether a look for newer positions is due: it walks through all that waits."""
        now_s = self._clock.monotonic()
        if self._newest_s is not None and now_s < self._newest_s + NEWEST_EVERY_S:
            return False
        self._newest_s = now_s
        return True

    async def _send_blobs(self) -> None:
        """Bring files, the oldest first, each from where the cloud has it; what else comes up meanwhile goes before."""
        unsent = functools.partial(run, job=blobs.unsent())
        while not self._is_over() and (blob := await self._store.read(unsent)) is not None:
            if not await self._send_blob(blob):
                return
            sent = blobs.sent(blob.sha256, to_ms(self._clock.now()))
            await self._store.write(functools.partial(run, job=sent))
            self._done.blobs += 1

    async def _send_blob(self, blob: Blob) -> bool:
        """Bring a file; False where the session's time is over before, and the next one goes on."""
        offset, n_damaged = await self._cloud.blob_offset(blob.sha256), 0
        while offset < blob.size:
            first, end = offset, min(offset + BLOB_PART_BYTES, blob.size)
            part = await self._store.read(functools.partial(run, job=blobs.read(blob.sha256, first, end)))
            try:
                offset = await self._cloud.put_blob(blob, first, part)
            except CorruptBatch:
                offset = 0
            n_damaged += offset <= first
            if n_damaged >= _MAX_DAMAGED:
                raise LinkError("a file does not arrive at the cloud as it is sent: something alters it on the way")
            while not self._is_over() and await self._send_next():
                pass
            if self._done.has_more:
                return offset >= blob.size
        return True

    async def _send(self, channel: Channel, batch: Batch) -> None:
        try:
            said = await self._cloud.put_batch(batch)
        except (BatchTooNew, BatchTooOld) as error:  # the same bytes are right once both read the same
            log.warning("sync.held", channel=channel, n=batch.n, detail=error.detail)
            self._done.held.append(channel)
            return
        except Invalid as error:
            if channel not in SPARE:
                raise
            log.warning("sync.held", channel=channel, n=batch.n, detail=error.detail)  # a cloud of before it was
            self._done.held.append(channel)
            return
        except CorruptBatch:
            said = None
        answer = Answer(batch.epoch, batch.n, batch.hash, said)
        about_n = said.last if isinstance(said, streams.StreamAnswer) else None
        if about_n is not None:
            check_number(about_n)

        def job(db: Connection) -> Action:
            _, action = streams.answered(outbox.sender(db, channel, about_n), answer)
            self._apply(db, channel, action)
            if isinstance(action, SendNext):
                queue.note_receipt(db, batch, action.receipt, self._id, to_ms(self._clock.now()))
            return action

        action = await self._store.write(job)
        match action:
            case SendNext(receipt=receipt):
                self._damaged = 0
                count(self._done, channel, batch, receipt)
                self._progress(self._done.confirmed)
            case SendAgain():
                self._damaged += 1
                if self._damaged >= _MAX_DAMAGED:
                    raise LinkError(
                        "a batch does not arrive at the cloud as it is sent: something alters it on the way"
                    )
            case ResumeFrom() | StartOver():
                self._heal(action, channel)
                await self._compare_heads()
            case _:
                pass

    def _apply(self, db: Connection, channel: Channel, action: Action) -> None:
        outbox.apply_answer(db, channel, action, now_ms=to_ms(self._clock.now()), new_epoch=self._epochs())

    def _heal(self, action: Action, channel: Channel) -> None:
        if not isinstance(action, ResumeFrom | StartOver):
            return
        self._done.healed += 1
        log.warning("sync.healed", channel=channel, how="resumed" if isinstance(action, ResumeFrom) else "started over")
        if self._done.healed > _MAX_HEALED:
            raise SyncError(
                "station and cloud do not come to agree on what was sent: does a copy of this station's card run"
                " elsewhere under the same name?"
            )
