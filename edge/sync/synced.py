"""What one session with the cloud did, counted as the cloud confirms it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import structlog

from shared.sync.operations import Operation
from shared.sync.streams import Batch, Exceptional, Receipt
from shared.wire.batch import decode_fixes, decode_records
from shared.wire.link import OF_FIXES, OF_OPERATIONS, Channel
from shared.wire.raw import FRAMES

log = structlog.get_logger()


class Synced(msgspec.Struct, kw_only=True):
    """What one session did. ``outcomes`` are the cloud's, of everything it confirmed."""

    records: int = 0
    fixes: int = 0
    #: what people decided of fixes
    decisions: int = 0
    #: what models said of animals, and tiles of maps
    results: int = 0
    #: frames as they were heard
    frames: int = 0
    batches: int = 0
    outcomes: dict[str, int] = {}
    quarantined: int = 0
    lost_edits: int = 0
    changes: int = 0
    #: conflicts that were news here, and their resolutions
    conflicts: int = 0
    #: fixes that came to the cloud another way, and how many of them were news here
    heard: int = 0
    new_fixes: int = 0
    #: what people decided of fixes elsewhere and was news here
    told: int = 0
    #: how often the station's streams had to go back to an older head, or begin anew
    healed: int = 0
    #: channels that wait because the programs of station and cloud are too far apart
    held: list[str] = []
    #: files that the cloud has whole
    blobs: int = 0
    #: the link has carried all that it may today
    is_spent: bool = False
    #: its time was over and more waits
    has_more: bool = False
    bytes_up: int = 0
    bytes_down: int = 0
    duration_s: float = 0.0

    @property
    def confirmed(self) -> int:
        """How many items of any kind the cloud has confirmed."""
        return self.records + self.fixes + self.decisions + self.results + self.frames

    def add(self, other: Synced) -> None:
        """Add what another session did to this one's counts."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for outcome, n in other.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + n


_COUNTS: Final = tuple(
    field.name
    for field in msgspec.structs.fields(Synced)
    if type(field.default) in (int, float)  # no bool is a count
)


def count(done: Synced, channel: Channel, batch: Batch, receipt: Receipt) -> None:
    """Add what the cloud has confirmed of a batch to ``done``, and log what of it was not simply applied."""
    items = sum(receipt.counts.values())
    done.batches += 1
    if channel in OF_FIXES:
        done.fixes += items
    elif channel == "flags":
        done.decisions += items
    elif channel == "results":
        done.results += items
    elif channel == FRAMES:
        done.frames += items
    else:
        done.records += items
    for outcome, n in receipt.counts.items():
        done.outcomes[outcome] = done.outcomes.get(outcome, 0) + n
    for each in receipt.exceptions:
        done.quarantined += each.outcome == "quarantined"
        done.lost_edits += bool(each.lost)
    _tell(channel, batch, receipt.exceptions)


def _tell(channel: Channel, batch: Batch, exceptions: Sequence[Exceptional]) -> None:
    """Log what was not simply applied: once, because a receipt is taken once."""
    if not exceptions:
        return
    columns = decode_fixes(batch.payload) if channel in OF_FIXES else {}
    operations: list[Operation] = decode_records(batch.payload, Operation) if channel in OF_OPERATIONS else []
    for each in exceptions:
        what: dict[str, Any] = {}
        if channel in OF_FIXES:
            what = {name: columns[name][each.place] for name in ("collar_id", "raw_ms")}
        elif each.place < len(operations):
            what = {"entity": operations[each.place].entity, "id": operations[each.place].row_id}
        if each.outcome == "quarantined":
            log.warning("sync.quarantined", code=each.code, detail=each.detail, **what)
        elif each.lost:
            log.warning("sync.lost_edit", outcome=each.outcome, columns=list(each.lost), **what)
