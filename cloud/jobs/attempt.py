"""One attempt at a job: what its code is given (``kinds.Run``), and what of it reaches the database.

What the code tells is written behind its back, twice a second, by a pulse that also asks whether the attempt may go on:
telling costs nothing, and a search that tells a thousand times a second writes twice. The code's thread, if it has one,
talks to the loop only through values that are replaced whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

import msgspec
import structlog
import zstandard

from cloud.jobs.kinds import JobCancelled, JobInterrupted, JobStopped, JobSuperseded, P, Reporter
from cloud.jobs.threads import taken_in_thread
from cloud.store import jobs
from cloud.store.database import Connection, Database
from cloud.store.jobs import Begun
from shared.ending import end
from shared.errors import Invalid, StoreError
from shared.ids import derived_id
from shared.privacy import Principal
from shared.sync.records import to_ms

T = TypeVar("T")

log = structlog.get_logger(__name__)

PULSE_S: Final = 0.5
#: JSON of a best answer or of what is kept, in bytes.
MAX_JSON: Final = 1_000_000
PART_BYTES: Final = 1 << 20


class FileLimits(msgspec.Struct, frozen=True):
    """How large a file may be, and how long it can be fetched."""

    most_bytes: int
    keep_ms: int


class Attempt(Generic[P]):
    """Implements ``kinds.Run``."""

    def __init__(
        self, database: Database, job_id: str, begun: Begun, parameters: P, owner: Principal, *,
        now: Callable[[], datetime], limits: FileLimits,
    ) -> None:  # fmt: skip
        self._database = database
        self._now = now
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._stop: type[JobStopped] | None = None
        self._progress: tuple[float, str, bytes | None] | None = None
        self._lines: deque[tuple[int, str]] = deque()
        self._writing = asyncio.Lock()
        self.id = job_id
        self.parameters = parameters
        self.owner = owner
        self.attempt = begun.attempt
        self.kept = None if begun.kept is None else msgspec.json.decode(begun.kept)

    # --- what the code calls

    def identity(self, what: str) -> str:
        """Return an id for what the job makes: the same in every attempt."""
        return derived_id(self.id, what)

    def check(self) -> None:
        """Raise JobStopped when the attempt is to end."""
        if self._stop is not None:
            raise self._stop

    async def progress(self, percent: float, message: str = "", best: Any = None) -> None:
        """Say how far it is."""
        self.tell(percent, message, best)

    async def log(self, line: str) -> None:
        """Add a line to the job's log."""
        self.add_line(line)

    def tell(self, percent: float, message: str, best: Any) -> None:
        """Note how far it is; from any thread."""
        self.check()
        body = None if best is None else _json("best", best)
        before = self._progress
        if body is None and before is not None:
            body = before[2]  # not written yet, and still the best
        self._progress = (min(max(float(percent), 0.0), 100.0), message[: jobs.MAX_LINE], body)

    def add_line(self, line: str) -> None:
        """Note a line of the log; from any thread."""
        self.check()
        if len(self._lines) < jobs.MAX_LINES:  # more than a log takes in all is not written any more
            self._lines.append((to_ms(self._now()), line))

    async def keep(self, state: Any) -> None:
        """Keep what the next attempt goes on from."""
        self.check()
        body = _json("what is kept", state)
        async with self._database.transaction() as connection:
            self._still(await jobs.keep(connection, self.id, self.attempt, body))
        self.kept = msgspec.json.decode(body)

    @contextlib.asynccontextmanager
    async def committing(self) -> AsyncGenerator[Connection, None]:
        """Give a transaction that commits only while this attempt is the newest."""
        async with self._database.transaction() as connection:
            self._still(await jobs.is_mine(connection, self.id, self.attempt))
            yield connection

    async def in_thread(self, work: Callable[[Reporter], T]) -> T:
        """Run ``work`` in a thread of its own."""
        done: asyncio.Future[T] = self._loop.create_future()

        def settle(result: Callable[[], T]) -> None:
            if done.done():
                return
            try:
                done.set_result(result())
            except StopIteration as error:  # no future takes it
                done.set_exception(RuntimeError(repr(error)))
            except BaseException as error:  # noqa: BLE001 - it is raised where the thread is awaited
                done.set_exception(error)

        def body() -> None:
            try:
                found = work(_ThreadReporter(self))
            except BaseException as error:  # noqa: BLE001 - the same
                raised = error

                def result() -> T:
                    raise raised
            else:

                def result() -> T:
                    return found

            with contextlib.suppress(RuntimeError):  # the loop has ended, nobody waits any more
                self._loop.call_soon_threadsafe(settle, result)

        # a daemon: what does not look up must not keep the program from ending
        threading.Thread(target=body, name=f"job {self.id}", daemon=True).start()
        try:
            return await done
        except asyncio.CancelledError:
            self.stop(JobInterrupted)
            raise

    def each_in_thread(self, rows: AsyncIterator[T]) -> Iterator[T]:
        """Give what ``rows`` yields to a thread, a handful at a time."""
        return taken_in_thread(rows, self._loop, self.check)

    @contextlib.asynccontextmanager
    async def file(self, name: str, media_type: str, *, seen_as: str) -> AsyncGenerator[Parts, None]:
        """Give the job's file to write."""
        parts = Parts(self, self._limits.most_bytes)
        yield parts
        await parts.flush()
        file = jobs.File(
            job_id=self.id, attempt=self.attempt, name=name, media_type=media_type, size_bytes=parts.size_bytes,
            sha256=parts.digest, seen_as=seen_as, expires_ms=to_ms(self._now()) + self._limits.keep_ms,
        )  # fmt: skip
        async with self._database.transaction() as connection:
            self._still(await jobs.finish_file(connection, file))

    # --- what the worker calls

    def stop(self, why: type[JobStopped]) -> None:
        """Let the code end at its next step; the first reason stands."""
        if self._stop is None:
            self._stop = why

    @contextlib.asynccontextmanager
    async def pulsing(self) -> AsyncGenerator[None, None]:
        """Write what is told and look whether to go on while the block runs; afterwards write what is left."""
        pulse = asyncio.create_task(self._pulse(), name=f"pulse of {self.id}")
        try:
            yield
        finally:
            await end(pulse)
            await self._flush()

    async def add_part(self, n: int, body: bytes) -> None:
        """Store a part of the job's file."""
        self.check()
        async with self._database.transaction() as connection:
            self._still(await jobs.add_part(connection, self.id, self.attempt, n, body))

    async def _pulse(self) -> None:
        while True:
            await asyncio.sleep(PULSE_S)
            try:
                await self._flush()
                async with self._database.snapshot() as connection:
                    standing = await jobs.standing(connection, self.id)
            except StoreError as error:
                # the code meets it by itself where it writes; what is told waits for the next pulse
                log.warning("job.pulse_missed", job=self.id, detail=error.detail)
                continue
            attempt, is_running, is_cancelled = standing or (0, False, False)
            if attempt != self.attempt or not is_running:
                self.stop(JobSuperseded)
            elif is_cancelled:
                self.stop(JobCancelled)

    async def _flush(self) -> None:
        async with self._writing:
            if self._progress is not None:
                percent, message, best = told = self._progress
                async with self._database.transaction() as connection:
                    is_mine = await jobs.tell(
                        connection, self.id, self.attempt, percent=percent, message=message, best=best
                    )
                if self._progress is told:
                    self._progress = None
                if not is_mine:
                    self.stop(JobSuperseded)
            if not self._lines:
                return
            async with self._database.transaction() as connection:
                waiting = len(self._lines)
                for at_ms, line in list(self._lines)[:waiting]:
                    if not await jobs.add_line(connection, self.id, self.attempt, at_ms, line):
                        self.stop(JobSuperseded)
                        break
            for _ in range(waiting):
                self._lines.popleft()

    def _still(self, is_mine: bool) -> None:
        if not is_mine:
            self.stop(JobSuperseded)
            raise JobSuperseded


class _ThreadReporter:
    """Implements ``kinds.Reporter``."""

    def __init__(self, attempt: Attempt[Any]) -> None:
        self._attempt = attempt

    def progress(self, percent: float, message: str = "", best: Any = None) -> None:
        """Say how far it is."""
        self._attempt.tell(percent, message, best)

    def log(self, line: str) -> None:
        """Add a line to the job's log."""
        self._attempt.add_line(line)

    def check(self) -> None:
        """Raise JobStopped when the work is to end."""
        self._attempt.check()


class Parts:
    """Implements ``kinds.PartWriter``: a file in parts of a megabyte, each compressed and stored as it is full."""

    def __init__(self, attempt: Attempt[Any], most_bytes: int) -> None:
        self._attempt = attempt
        self._most_bytes = most_bytes
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._hash = hashlib.sha256()
        self._n = 0
        self.size_bytes = 0

    @property
    def digest(self) -> bytes:
        """The SHA-256 of what was written."""
        return self._hash.digest()

    async def write(self, data: bytes) -> None:
        """Append bytes; raises Invalid for more than a file may hold."""
        self.size_bytes += len(data)
        if self.size_bytes > self._most_bytes:
            raise Invalid(
                f"the file would have more than {self._most_bytes // 1_000_000} MB: ask for fewer animals or less time"
            )
        self._hash.update(data)
        self._buffer += data
        while len(self._buffer) >= PART_BYTES:
            await self._store(bytes(self._buffer[:PART_BYTES]))
            del self._buffer[:PART_BYTES]

    def write_in_thread(self, data: bytes) -> None:
        """Append bytes from a thread."""
        asyncio.run_coroutine_threadsafe(self.write(data), self._loop).result()

    async def flush(self) -> None:
        """Store what is left."""
        if self._buffer:
            await self._store(bytes(self._buffer))
            self._buffer.clear()

    async def _store(self, part: bytes) -> None:
        packed = await asyncio.to_thread(lambda: zstandard.ZstdCompressor(level=3).compress(part))
        await self._attempt.add_part(self._n, packed)
        self._n += 1


def _json(what: str, value: Any) -> bytes:
    body = msgspec.json.encode(value)
    if len(body) > MAX_JSON:
        raise ValueError(f"{what} of a job has {len(body)} bytes, more than {MAX_JSON}")
    return body
