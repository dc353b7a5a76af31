"""Where the links' frames go: the ledger or, while the station is locked, the spool. It changes without a frame lost.

A link asks the intake for each commit, so the one that is under way ends where it began and the next goes elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from edge.ingest.group_commit import LedgerWriter
from edge.store import spool
from edge.store.ledger import Entry
from edge.store.snapshot import sync
from shared.errors import StoreError

log = structlog.get_logger()

DAMAGED: Final = ".damaged"


class Intake:
    """What ``receive`` appends to; ``woken`` hears of each commit."""

    def __init__(self, writer: LedgerWriter, woken: Callable[[], None] = lambda: None) -> None:
        self._writer = writer
        self._woken = woken

    async def append(self, entries: Sequence[Entry]) -> int:
        """Return once ``entries`` are on disk; raises StoreFull or StoreError."""
        return await self._writer.append(entries)

    async def proof(self) -> None:
        """Come back once the thread that commits has done so: it does not hang."""
        await self._writer.proof()

    def committed(self) -> None:
        """Say that something was appended."""
        self._woken()

    def lead_to(self, writer: LedgerWriter, woken: Callable[[], None]) -> None:
        """Append elsewhere from the next commit on."""
        self._writer, self._woken = writer, woken


async def replay(folder: Path, key: bytes | None, ledger: LedgerWriter, *, is_open: bool = False) -> int:
    """Carry what a locked station heard into the ledger, file by file; return how many frames.

    A file goes once all of it is on the ledger's disk; killed meanwhile it is carried again. One with records that do
    not open is kept under another name. With ``is_open`` the newest is
    still being written, and is left.
    """
    frames = 0
    files = [] if key is None else spool.files_of(folder)
    for path in files[:-1] if is_open else files:
        assert key is not None
        damaged: list[str] = []
        for entries in spool.read(path, key, damaged):
            if entries:
                await ledger.append(entries)
                frames += len(entries)
        for words in damaged:
            log.error("spool.damaged", detail=words)
        try:
            path.rename(path.with_name(path.name + DAMAGED)) if damaged else path.unlink()
            sync(folder)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
    if frames:
        log.warning("spool.replayed", frames=frames)
    return frames
