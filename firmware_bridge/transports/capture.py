"""What a link heard, kept byte for byte in a file, and a link that says it again.

A field problem is only understood with the bytes that caused it. Every link takes a ``tap``, a function that is given
each chunk of a serial line and each message of a broker before anything is decoded; ``CaptureWriter.tap`` writes them::

    header   8 bytes   "OUTCAP" and the version as u16
    record   u32       length of the body
             u32       CRC-32 of the body
             body      u64   monotonic clock, ns
                       u64   wall clock, ms since 1970
                       u8    kind: 1 chunk of a byte stream, 2 message of a broker, 3 the stream fell silent
                       u16   length of the topic, then the topic in UTF-8; empty but for a message
                       bytes of the chunk or message up to the end of the body

All integers are big-endian. The pace of a replay follows the monotonic clock; the wall clock is for people. A power cut
may leave a torn record at the end: a reader stops before it and says how many bytes it left, a writer that goes on with
the file cuts it off. A record in the middle whose checksum is wrong is counted and stepped over.

``CaptureLink`` feeds the chunks to the same decoder that the live line had, and flushes it where the live line flushed
its own: a replay gives the frames that the line gave.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from firmware_bridge.frames import Frame, FrameDecoder, Heard, Link, LinkStatus
from firmware_bridge.framing.registry import decoder_for
from shared.errors import ConfigError, LinkClosed

RecordKind = Literal["chunk", "message", "silence"]
#: Given everything that a link hears before it is decoded: kind, topic (empty but for a message), bytes.
Tap = Callable[[RecordKind, str, bytes], None]

VERSION = 1
_HEADER = struct.Struct(">6sH")
_MAGIC = b"OUTCAP"
_PREFIX = struct.Struct(">II")
_BODY = struct.Struct(">QQBH")
_KINDS: dict[int, RecordKind] = {1: "chunk", 2: "message", 3: "silence"}
_KIND_CODES: dict[RecordKind, int] = {kind: code for code, kind in _KINDS.items()}
#: No chunk or message is larger; a greater length is damage.
MAX_BODY_BYTES = 32 * 1024 * 1024

log = structlog.get_logger()


class CaptureRecord(msgspec.Struct, frozen=True):
    """One thing that a link heard, and when."""

    monotonic_ns: int
    wall_ms: int
    kind: RecordKind
    topic: str
    data: bytes


class CaptureReader:
    """Read a capture record by record; raises ConfigError where the file is not one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: records stepped over because their checksum was wrong
        self.damaged = 0
        #: bytes after the last whole record, known when the end was reached
        self.torn_bytes = 0
        #: where the last whole record ends
        self.end_offset = _HEADER.size
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise ConfigError(f"cannot open the capture {path}: {error.strerror}") from error
        header = self._file.read(_HEADER.size)
        if len(header) < _HEADER.size or header[:6] != _MAGIC:
            self._file.close()
            raise ConfigError(f"{path} is not a capture: it does not begin with {_MAGIC.decode()}")
        version = _HEADER.unpack(header)[1]
        if version != VERSION:
            self._file.close()
            raise ConfigError(f"{path} is a capture of version {version}, this program reads version {VERSION}")

    def __iter__(self) -> Iterator[CaptureRecord]:
        size = os.fstat(self._file.fileno()).st_size
        while True:
            prefix = self._file.read(_PREFIX.size)
            length, crc = _PREFIX.unpack(prefix) if len(prefix) == _PREFIX.size else (0, 0)
            if not _BODY.size <= length <= MAX_BODY_BYTES:
                break
            body = self._file.read(length)
            if len(body) < length:
                break
            self.end_offset = self._file.tell()
            monotonic_ns, wall_ms, code, topic_length = _BODY.unpack_from(body)
            kind = _KINDS.get(code)
            if zlib.crc32(body) != crc or kind is None:
                self.damaged += 1
                continue
            data_at = _BODY.size + topic_length
            topic = body[_BODY.size : data_at].decode(errors="replace")
            yield CaptureRecord(monotonic_ns, wall_ms, kind, topic, body[data_at:])
        self.torn_bytes = size - self.end_offset

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class CaptureWriter:
    """Append what a link hears to a capture; each record reaches the operating system before ``tap`` returns.

    Raises ConfigError where the file exists and is not a capture. A disk that refuses a record ends the recording
    (``failure`` says why) and not the link: hearing collars matters more than the record of it.
    """

    def __init__(
        self,
        path: Path,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.failure = ""
        self._monotonic_ns = monotonic_ns
        self._wall = wall
        self._file = self._open()

    def _open(self) -> FileIO:
        if self.path.exists() and self.path.stat().st_size >= _HEADER.size:
            reader = CaptureReader(self.path)
            try:
                for _ in reader:
                    pass
            finally:
                reader.close()
            kept = self.path.open("r+b", buffering=0)
            kept.truncate(reader.end_offset)
            kept.seek(reader.end_offset)
            return kept
        try:
            file = self.path.open("wb", buffering=0)
        except OSError as error:
            raise ConfigError(f"cannot write the capture {self.path}: {error.strerror}") from error
        try:
            file.write(_HEADER.pack(_MAGIC, VERSION))
        except OSError as error:
            file.close()
            raise ConfigError(f"cannot write the capture {self.path}: {error.strerror}") from error
        return file

    def tap(self, kind: RecordKind, topic: str, data: bytes) -> None:
        """Write one record."""
        if self.failure:
            return
        topic_bytes = topic.encode()
        wall_ms = max(0, int(self._wall() * 1000))
        head = _BODY.pack(self._monotonic_ns(), wall_ms, _KIND_CODES[kind], len(topic_bytes))
        body = b"".join((head, topic_bytes, data))
        record = _PREFIX.pack(len(body), zlib.crc32(body)) + body
        try:
            written = self._file.write(record)
        except OSError as error:
            self._fail(error.strerror or str(error))
        else:
            if written != len(record):
                self._fail("the disk is full")

    def _fail(self, reason: str) -> None:
        self.failure = f"the recording to {self.path} ended: {reason}"
        log.warning("capture.failed", path=str(self.path), error=reason)

    def close(self) -> None:
        """Close the file; a further tap is a programming error."""
        self._file.close()


class RecordedLink:
    """A link whose tap writes a capture: the link with the file closed behind it."""

    def __init__(self, link: Link, writer: CaptureWriter) -> None:
        self._link = link
        self._writer = writer
        self.name = link.name
        self.device = link.device

    @property
    def status(self) -> LinkStatus:
        """Counters and state of the link, and why its recording ended if it did."""
        status = self._link.status
        if self._writer.failure and not status.last_error:
            status.last_error = self._writer.failure
        return status

    async def read(self) -> list[Heard]:
        """Wait for frames of the link."""
        return await self._link.read()

    async def acknowledge(self, heard: Sequence[Heard]) -> None:
        """Hand the receipts to the link."""
        await self._link.acknowledge(heard)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Hand a receipt to the link."""
        await self._link.publish(topic, payload)

    async def close(self) -> None:
        """End the link, then the capture."""
        await self._link.close()
        self._writer.close()


class CaptureLink:
    """Replay a capture as if its link were here.

    ``speed`` None reads as fast as frames are taken; a number multiplies the recorded pace. Nothing is acknowledged.
    """

    def __init__(
        self,
        name: str,
        path: str | Path,
        *,
        now: Callable[[], datetime],
        framing: str = "cobs",
        speed: float | None = None,
        device: str = "",
        decoder: FrameDecoder | None = None,
        max_batch: int = 500,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.device = device
        self._path = Path(path)
        self._now = now
        self._speed = speed
        self._decoder = decoder if decoder is not None else decoder_for(framing)
        self._max_batch = max_batch
        self._monotonic = monotonic
        self._status = LinkStatus(name=name, kind="capture", address=str(path))
        self._reader: CaptureReader | None = None
        self._records: Iterator[CaptureRecord] | None = None
        self._upcoming: CaptureRecord | None = None
        self._waiting: list[Heard] = []
        self._first_ns = 0
        self._began_s = 0.0
        self._closed = asyncio.Event()

    @property
    def status(self) -> LinkStatus:
        """Counters and state; a torn end of the file counts as skipped bytes, a damaged record as a damaged frame."""
        status = msgspec.structs.replace(self._status)
        status.skipped_bytes = self._decoder.skipped
        status.damaged_frames += self._decoder.damaged
        if self._reader is not None:
            status.skipped_bytes += self._reader.torn_bytes
            status.damaged_frames += self._reader.damaged
        return status

    async def read(self) -> list[Heard]:
        """Return the next frames; raises LinkClosed at the end of the capture and after ``close``."""
        while True:
            if self._closed.is_set():
                raise LinkClosed(f"{self.name}: closed")
            if len(self._waiting) < self._max_batch and await self._advance():
                continue
            if self._waiting:
                batch, self._waiting = self._waiting[: self._max_batch], self._waiting[self._max_batch :]
                return batch
            if self._upcoming is None:
                self._status.is_up = False
                raise LinkClosed(f"{self.name}: the capture {self._path} ended")

    async def acknowledge(self, heard: Sequence[Heard]) -> None:
        """Do nothing: a file needs no receipt."""

    async def publish(self, topic: str, payload: bytes) -> None:
        """Do nothing: nobody listens."""

    async def close(self) -> None:
        """End the replay; what was not taken stays in the file."""
        self._closed.set()
        self._status.is_up = False
        if self._reader is not None:
            self._reader.close()

    async def _advance(self) -> bool:
        """Play one record if it is due; wait for it only if no frame waits. False where there is nothing to do now."""
        if self._records is None:
            self._start()
        record = self._upcoming
        if record is None:
            return False
        if self._speed is not None:
            due_s = self._began_s + (record.monotonic_ns - self._first_ns) / 1e9 / self._speed
            delay_s = due_s - self._monotonic()
            if delay_s > 0:
                if self._waiting:
                    return False
                await self._sleep(delay_s)
                return True
        self._play(record)
        assert self._records is not None
        self._upcoming = next(self._records, None)
        if self._upcoming is None:
            self._hear(self._decoder.flush())
        return True

    def _start(self) -> None:
        self._reader = CaptureReader(self._path)
        self._records = iter(self._reader)
        self._upcoming = next(self._records, None)
        self._first_ns = self._upcoming.monotonic_ns if self._upcoming is not None else 0
        self._began_s = self._monotonic()
        self._status.is_up = True

    async def _sleep(self, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self._closed.wait()
        except TimeoutError:
            pass

    def _play(self, record: CaptureRecord) -> None:
        self._status.bytes_read += len(record.data)
        if record.kind == "message":
            self._hear([Frame("mqtt", record.data, record.topic)])
        elif record.kind == "chunk":
            self._hear(self._decoder.feed(record.data))
        else:
            self._hear(self._decoder.flush())

    def _hear(self, frames: list[Frame]) -> None:
        if frames:
            self._waiting.extend(Heard(frame) for frame in frames)
            self._status.frames += len(frames)
            self._status.last_frame_at = self._now()
