"""Links that a test feeds, a ledger and a store that it watches, and frames that collars send."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from edge.ingest.group_commit import LedgerWriter
from edge.store.ledger import Entry, Ledger
from firmware_bridge.codecs.opencollar import PORT_SHORT, encode_short
from firmware_bridge.codecs.outpost_json import encode_fix
from firmware_bridge.codecs.station_frame import pack_station_frame
from firmware_bridge.frames import Frame, Framing, Heard, LinkStatus
from shared.errors import LinkClosed, LinkError, StoreFull
from shared.privacy import OPERATOR, view_for
from tests.fakes import START
from tests.waiting import DEADLINE_S

KEY = bytes(range(32))
VIEW = view_for(OPERATOR)
EUI = "0101010101010101"
HOUR = timedelta(hours=1)


class FakeLink:
    """A wire that a test feeds; ``told`` hears of everything that is done to it."""

    def __init__(self, name: str = "base", told: list[str] | None = None, *, device: str = "") -> None:
        self.name = name
        self.device = device
        self.told: list[str] = [] if told is None else told
        self.acknowledged: list[Heard] = []
        self.published: list[tuple[str, bytes]] = []
        self.is_deaf = False
        self.reads = 0
        self._queue: asyncio.Queue[list[Heard] | None] = asyncio.Queue()

    @property
    def status(self) -> LinkStatus:
        return LinkStatus(name=self.name, kind="fake", address="")

    def hear(self, *payloads: bytes, framing: Framing = "cobs", topic: str = "") -> list[Heard]:
        heard = [Heard(Frame(framing, payload, topic), index) for index, payload in enumerate(payloads)]
        self._queue.put_nowait(heard)
        return heard

    async def read(self) -> list[Heard]:
        self.reads += 1
        heard = await self._queue.get()
        if heard is None:
            raise LinkClosed("closed")
        return heard

    async def acknowledge(self, heard: Sequence[Heard]) -> None:
        if self.is_deaf:
            raise LinkError("the peer is gone")
        self.told.append(f"acknowledged {len(heard)}")
        self.acknowledged += heard

    async def publish(self, topic: str, payload: bytes) -> None:
        self.told.append(f"published {topic}")
        self.published.append((topic, payload))

    async def close(self) -> None:
        self._queue.put_nowait(None)


class WatchedLedger(Ledger):
    """A ledger that tells of its commits, waits where a test says so, and is full as long as a test says so."""

    def __init__(self, folder: Path, told: list[str] | None = None) -> None:
        super().__init__(folder, KEY, boot="b", synchronous="NORMAL")
        self.told: list[str] = [] if told is None else told
        self.gate = threading.Event()
        self.gate.set()
        self.is_full = False
        self.commits: list[int] = []
        self.attempts = 0

    def append(self, entries: Sequence[Entry]) -> int:
        self.attempts += 1
        assert self.gate.wait(DEADLINE_S)
        if self.is_full:
            raise StoreFull("no room")
        seq = super().append(entries)
        self.commits.append(len(entries))
        self.told.append(f"committed {len(entries)}")
        return seq


def station_frame(hours: int = 0, *, eui: str = EUI, lon: float = 37.5) -> bytes:
    message = encode_short(recorded_at=START + hours * HOUR, lat_deg=-2.5, lon_deg=lon, h_acc_m=5.0)
    return pack_station_frame(eui, PORT_SHORT, -90, 7.5, message)


def json_fix(hours: int = 0, collar_id: str = "K1", **fields: float | None) -> bytes:
    return encode_fix(collar_id=collar_id, recorded_at=START + hours * HOUR, lon_deg=37.5, lat_deg=-2.5, **fields)


@asynccontextmanager
async def writing(folder: Path, told: list[str] | None = None) -> AsyncIterator[tuple[LedgerWriter, WatchedLedger]]:
    ledger = WatchedLedger(folder, told)
    writer = LedgerWriter(ledger)
    try:
        yield writer, ledger
    finally:
        ledger.gate.set()
        await writer.close()


@asynccontextmanager
async def task(work: Any) -> AsyncIterator[asyncio.Task[None]]:
    running = asyncio.create_task(work)
    try:
        yield running
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def nothing() -> None:
    pass
