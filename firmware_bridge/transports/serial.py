"""A serial line: a base station, a GNSS receiver or a tag on a cable.

The port is opened with pyserial and read without a thread: the event loop watches its file descriptor::

    closed --open--> open --readable--> decoder --> inbox --read()--> the ledger
      ^               |  \\--silent for silence_s--> decoder.flush()
      |               |   \\--inbox full--> the descriptor is not watched until there is room: the kernel's buffer and
      |               |                    then the sender wait
      +--back-off-----+--end of file, EIO, termios.error, the path gone or another device--> closed first, then retried

An open descriptor of a USB adapter that was pulled keeps its name taken, and the adapter would come back as ttyUSB1: so
the port is closed before anything else happens. Paths under /dev/serial/by-id survive that anyway and should be used.
What the kernel buffered before the port was opened is kept: it may be the end of a dump. A few devices have to be
spoken to before they speak (``framing.talk``); what cannot be written at once is said again at the next turn.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import termios
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import serial
import structlog

from firmware_bridge.frames import Frame, FrameDecoder, Heard, LinkStatus
from firmware_bridge.framing.registry import decoder_for
from firmware_bridge.framing.talk import TALKS
from firmware_bridge.transports.backoff import Backoff
from firmware_bridge.transports.capture import Tap
from firmware_bridge.transports.inbox import Inbox
from shared.ending import end

_READ_BYTES = 64 * 1024
#: How often an open port is compared with what stands at its path.
_PATH_CHECK_S = 1.0

log = structlog.get_logger()


class _Port(serial.Serial):
    """pyserial's port without its habit of discarding what arrived before it was opened."""

    def _reset_input_buffer(self) -> None:
        """Keep the kernel's buffer."""


class SerialLink:
    """Frames of a serial port; it survives the cable being pulled."""

    def __init__(
        self,
        name: str,
        path: str,
        *,
        now: Callable[[], datetime],
        baud: int = 115200,
        framing: str = "cobs",
        device: str = "",
        decoder: FrameDecoder | None = None,
        silence_s: float = 0.2,
        max_waiting: int = 2000,
        max_batch: int = 500,
        tap: Tap | None = None,
        rng: random.Random | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.device = device
        self._path = path
        self._baud = baud
        self._now = now
        self._monotonic = monotonic
        self._decoder = decoder if decoder is not None else decoder_for(framing)
        self._talk = TALKS.get(framing)
        self._silence_s = silence_s
        self._max_batch = max_batch
        self._tap = tap
        self._inbox = Inbox(max_frames=max_waiting, max_bytes=8 * 1024 * 1024)
        self._backoff = Backoff(rng)
        self._status = LinkStatus(name=name, kind="serial", address=path)
        self._port: _Port | None = None
        self._is_watched = False
        self._last_byte_s = 0.0
        self._silence: asyncio.TimerHandle | None = None
        self._turn: asyncio.TimerHandle | None = None
        self._lost = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._is_closed = False
        self._has_been_up = False

    @property
    def status(self) -> LinkStatus:
        """Counters and state."""
        return msgspec.structs.replace(
            self._status, skipped_bytes=self._decoder.skipped, damaged_frames=self._decoder.damaged
        )

    def start(self) -> None:
        """Begin to listen, if the first read has not begun it already."""
        if self._supervisor is None and not self._is_closed:
            self._supervisor = asyncio.create_task(self._supervise(), name=f"link {self.name}")

    async def read(self) -> list[Heard]:
        """Wait for frames; after ``close`` returns what had been heard, then raises LinkClosed."""
        self.start()
        batch = await self._inbox.take(self._max_batch)
        if self._port is not None and not self._is_watched and self._inbox.has_room:
            self._watch()
        return batch

    async def acknowledge(self, heard: Sequence[Heard]) -> None:
        """Do nothing: a serial station sends without waiting for a receipt."""

    async def publish(self, topic: str, payload: bytes) -> None:
        """Do nothing: nobody listens on this wire."""

    async def close(self) -> None:
        """End the link; ``read`` returns what had been heard and then raises LinkClosed."""
        self._is_closed = True
        if self._supervisor is not None:
            await end(self._supervisor)
        self._shut()
        self._inbox.close(f"{self.name}: closed")

    async def _supervise(self) -> None:
        """Open the port, stay until it is lost, wait, and again."""
        while True:
            try:
                self._open()
            except (OSError, termios.error, ValueError) as error:
                self._report(f"cannot open {self._path}: {_reason(error)}")
            else:
                await self._until_lost()
                self._shut()
                self._report(self._status.last_error)
            await asyncio.sleep(self._backoff.next_s())

    def _open(self) -> None:
        self._lost.clear()
        # inter_byte_timeout 0 is pyserial's way to VMIN 1: then a read of nothing means that the line is gone.
        self._port = _Port(self._path, self._baud, timeout=0, inter_byte_timeout=0, exclusive=True)
        if self._has_been_up:
            self._status.reconnects += 1
        self._has_been_up = True
        self._status.is_up = True
        self._status.last_error = ""
        log.info("link.up", link=self.name, address=self._path)
        self._watch()
        if self._talk is not None:
            self._say(self._talk.opening)
            self._await_turn()

    async def _until_lost(self) -> None:
        while not self._lost.is_set():
            try:
                async with asyncio.timeout(_PATH_CHECK_S):
                    await self._lost.wait()
            except TimeoutError:
                if not self._is_same_device():
                    self._lose(f"{self._path} is gone or another device now")

    def _is_same_device(self) -> bool:
        assert self._port is not None
        try:
            return Path(self._path).stat().st_rdev == os.fstat(self._port.fileno()).st_rdev
        except OSError:
            return False

    def _watch(self) -> None:
        assert self._port is not None
        asyncio.get_running_loop().add_reader(self._port.fileno(), self._on_readable)
        self._is_watched = True
        self._last_byte_s = self._monotonic()
        self._await_silence(self._silence_s)

    def _unwatch(self) -> None:
        if self._port is not None and self._is_watched:
            asyncio.get_running_loop().remove_reader(self._port.fileno())
        self._is_watched = False
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _shut(self) -> None:
        """Close the port, then say what the decoder still holds: the line is silent for good."""
        port = self._port
        self._unwatch()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._port = None
        self._status.is_up = False
        if port is not None:
            try:
                port.close()
            except (OSError, termios.error) as error:
                log.info("link.close_failed", link=self.name, error=str(error))
            self._fall_silent()

    def _lose(self, why: str) -> None:
        self._unwatch()
        self._status.last_error = why
        self._lost.set()

    def _report(self, error: str) -> None:
        if error != self._status.last_error or self._backoff.failures == 0:
            log.warning("link.down", link=self.name, address=self._path, error=error)
        self._status.last_error = error

    def _on_readable(self) -> None:
        assert self._port is not None
        try:
            data = os.read(self._port.fileno(), _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, termios.error) as error:
            self._lose(f"{self._path} was lost: {_reason(error)}")
            return
        if not data:
            self._lose(f"{self._path} was lost: end of file")
            return
        self._backoff.reset()
        self._last_byte_s = self._monotonic()
        self._status.bytes_read += len(data)
        if self._tap is not None:
            self._tap("chunk", "", data)
        self._hear(self._decoder.feed(data))
        if self._inbox.is_full:
            self._unwatch()
        elif self._silence is None:
            self._await_silence(self._silence_s)

    def _await_silence(self, delay_s: float) -> None:
        if self._silence is None:
            self._silence = asyncio.get_running_loop().call_later(delay_s, self._on_silence)

    def _on_silence(self) -> None:
        self._silence = None
        quiet_s = self._monotonic() - self._last_byte_s
        if quiet_s < self._silence_s:
            self._await_silence(self._silence_s - quiet_s)
        else:
            self._fall_silent()

    def _fall_silent(self) -> None:
        if self._tap is not None:
            self._tap("silence", "", b"")
        self._hear(self._decoder.flush())

    def _await_turn(self) -> None:
        assert self._talk is not None
        self._turn = asyncio.get_running_loop().call_later(self._talk.again_s, self._on_turn)

    def _on_turn(self) -> None:
        assert self._talk is not None
        self._say(self._talk.again)
        self._await_turn()

    def _say(self, words: bytes) -> None:
        assert self._port is not None
        try:
            os.write(self._port.fileno(), words)
        except OSError as error:
            # A port that is gone is noticed by whoever reads it; a full one is spoken to again.
            log.info("link.unsaid", link=self.name, error=_reason(error))

    def _hear(self, frames: list[Frame]) -> None:
        if frames:
            if self._port is not None and self._talk is not None and self._talk.after_frame:
                self._say(self._talk.after_frame)
            self._status.frames += len(frames)
            self._status.last_frame_at = self._now()
            self._inbox.put(Heard(frame) for frame in frames)


def _reason(error: Exception) -> str:
    """Return the system's word for an error: pyserial wraps it in sentences that repeat the path."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EAGAIN:  # of the exclusive lock, which is all that can be busy here
        return "another program has the port open"
    return os.strerror(number) if number else str(error)
