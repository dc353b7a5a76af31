"""A cloud in memory: the double of ``edge.sync.client.Cloud`` over the rules of ``shared.sync``."""

from __future__ import annotations

import copy
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from shared.errors import CorruptBatch, Invalid, LinkError, RequestError, StaleCursor
from shared.ids import fix_id
from shared.sync.blobs import Blob
from shared.sync.clashes import Clash
from shared.sync.decide import decide
from shared.sync.decisions import Decision
from shared.sync.fixes import fold
from shared.sync.operations import Operation, Rows
from shared.sync.streams import (
    GENESIS,
    Apply,
    Batch,
    Corrupt,
    Exceptional,
    Fork,
    Gap,
    Head,
    Receipt,
    Replay,
    StreamAnswer,
    answer_of,
    receive,
)
from shared.wire.batch import (
    FIX_COLUMNS,
    FixColumns,
    decode_fixes,
    decode_records,
    decode_results,
    encode_fixes,
    encode_records,
)
from shared.wire.batch.results import Results
from shared.wire.link import DOWN, MAX_CHANGES, MAX_FIXES, OF_FIXES, Changes, Clashes, FixPage, Heads, HeardFixes
from shared.wire.raw import RawFrame

NAMES = [column.name for column in FIX_COLUMNS]


class Kept(msgspec.Struct):
    """What a backup of the cloud would hold."""

    heads: dict[tuple[str, str], Head] = {}
    receipts: dict[tuple[str, str, int], Receipt] = {}
    fixes: dict[bytes, dict[str, Any]] = {}
    applied: Counter[str] = msgspec.field(default_factory=Counter)
    log: list[tuple[str, str]] = []
    rows: Any = msgspec.field(default_factory=Rows)


class InMemoryCloud:
    """Takes batches as the cloud does. ``faults`` say what happens to the next requests, one each, then nothing:

    ``lost`` (the request does not arrive), ``unanswered`` (it is done, its answer is lost), ``damaged``, ``ok``.
    """

    def __init__(self, station_id: str = "post-1", epoch: str = "cloud-1") -> None:
        self.station_id = station_id
        self.epoch = epoch
        self.kept = Kept()
        self.faults: deque[str] = deque()
        self.requests: list[tuple[str, ...]] = []
        self.payloads: list[Batch] = []
        #: fixes and operations that are quarantined: ids of rows, collars
        self.poison: set[str] = set()
        self.page = MAX_CHANGES
        #: fixes that it took itself
        self.own: list[dict[str, Any]] | None = None
        self.decided: dict[bytes, bool] = {}
        self.conflicts: list[Clash] = []
        #: files, as far as they have come
        self.blobs: dict[str, bytes] = {}
        #: what models said, batch by batch
        self.results: list[Results] = []
        self.bytes_up = 0
        self.bytes_down = 0
        self.is_closed = False

    def backup(self) -> Kept:
        """Return a copy of all that is kept."""
        return copy.deepcopy(self.kept)

    def restore(self, kept: Kept, epoch: str | None = None) -> None:
        """Put a backup back; whoever does it gives the cloud a new epoch."""
        self.kept = copy.deepcopy(kept)
        self.epoch = epoch or self.epoch

    async def close(self) -> None:
        """End the connection."""
        self.is_closed = True

    async def put_batch(self, batch: Batch) -> Receipt | StreamAnswer:
        """Bring a batch."""
        fault = self._arrive("put", batch.channel, str(batch.n))
        self.payloads.append(batch)
        self.bytes_up += len(batch.payload)
        if fault == "damaged":
            raise CorruptBatch("damaged")
        answer = self._take(batch)
        self._leave(fault)
        return answer

    async def heads(self, epoch: str) -> Heads:
        """Return the heads of the streams of an epoch."""
        self._leave(self._arrive("heads", epoch))
        found: dict[Any, Head] = {channel: head for (of, channel), head in self.kept.heads.items() if of == epoch}
        return Heads(found)

    async def changes(self, epoch: str | None, since: int, limit: int = MAX_CHANGES) -> Changes:
        """Return what changed after ``since``."""
        self._leave(self._arrive("changes", str(since)))
        log = self.kept.log
        if since and (epoch != self.epoch or since > len(log)):
            raise StaleCursor("begin at 0")
        until = min(since + min(limit, self.page), len(log))
        wanted = sorted(dict.fromkeys(log[since:until]), key=lambda item: [*DOWN, item[0]].index(item[0]))
        records = [record for item in wanted if item[0] in DOWN and (record := self.kept.rows.get(*item)) is not None]
        return Changes(self.epoch, until, until < len(log), encode_records(records))

    async def heard(
        self, epoch: str | None, since: int, after: str | None, limit: int = MAX_FIXES
    ) -> HeardFixes | None:
        """Return the fixes of ``own``, one a page at most; like a cloud from before there were any while it is None."""
        if self.own is None:
            return None
        self._leave(self._arrive("heard", str(since)))
        if since and (epoch != self.epoch or since > len(self.own)):
            raise StaleCursor("begin at 0")
        some = self.own[since : since + 1]
        columns = columns_of(some)
        reached = since + len(some)
        return HeardFixes(self.epoch, reached, None, reached < len(self.own), encode_fixes(columns))

    async def newest(self, epoch: str | None, since: int, limit: int = MAX_FIXES) -> HeardFixes | None:
        """Return None, as a cloud does that tells of no newest ones."""
        return None

    async def fixes(self, collar_id: str, after: str | None, limit: int = MAX_FIXES) -> FixPage:
        """Return fixes of a collar, by id."""
        self._leave(self._arrive("fixes", collar_id))
        rows = sorted((identity, row) for identity, row in self.kept.fixes.items() if row["collar_id"] == collar_id)
        rows = [(identity, row) for identity, row in rows if after is None or identity.hex() > after][:limit]
        columns = {name: [_said(row, name) for _, row in rows] for name in NAMES}
        return FixPage(rows[-1][0].hex() if len(rows) == limit else None, encode_fixes(columns))

    async def clashes(self, epoch: str | None, since: int) -> Clashes | None:
        """Return what ``conflicts`` holds."""
        found = self.conflicts[since:] if epoch == self.epoch else self.conflicts
        return Clashes(self.epoch, len(self.conflicts), False, found)

    async def blob_offset(self, sha256: str) -> int:
        """Return how many bytes of a file have come."""
        self._leave(self._arrive("offset", sha256))
        return len(self.blobs.get(sha256, b""))

    async def put_blob(self, blob: Blob, offset: int, part: bytes) -> int:
        """Take a part of a file."""
        fault = self._arrive("part", blob.sha256, str(offset))
        had = self.blobs.get(blob.sha256, b"")
        assert offset <= len(had)
        if fault == "damaged":
            self.blobs[blob.sha256] = b""
            raise CorruptBatch("damaged")
        self.blobs[blob.sha256] = had[:offset] + part
        self._leave(fault)
        return len(self.blobs[blob.sha256])

    def _arrive(self, *request: str) -> str:
        self.requests.append(request)
        fault = self.faults.popleft() if self.faults else "ok"
        if fault == "lost":
            raise LinkError("no way to the cloud")
        return fault

    def _leave(self, fault: str) -> None:
        if fault == "unanswered":
            raise LinkError("the answer is lost")

    def _take(self, batch: Batch) -> Receipt | StreamAnswer:
        stream = (batch.epoch, batch.channel)
        stored = self.kept.receipts.get((*stream, batch.n))
        match receive(self.kept.heads.get(stream, GENESIS), stored.hash if stored else None, batch, batch.hash):
            case Apply(head=head):
                take = self._take_records
                if batch.channel in OF_FIXES:
                    take = self._take_fixes
                elif batch.channel == "flags":
                    take = self._take_decisions
                elif batch.channel == "results":
                    take = self._take_results
                elif batch.channel == "frames":
                    take = self._take_frames
                counts, exceptions = take(batch)
                receipt = Receipt(n=head.n, hash=head.hash, counts=dict(counts), exceptions=tuple(exceptions))
                self.kept.heads[stream] = head
                self.kept.receipts[*stream, head.n] = receipt
                return receipt
            case Replay():
                assert stored is not None
                return stored
            case Gap() | Fork() as refused:
                return answer_of(refused)
            case Corrupt():
                raise CorruptBatch("damaged")

    def _take_fixes(self, batch: Batch) -> tuple[Counter[Any], list[Exceptional]]:
        columns = decode_fixes(batch.payload)
        counts: Counter[Any] = Counter()
        exceptions = []
        for place, values in enumerate(zip(*(columns[name] for name in NAMES), strict=True)):
            row = dict(zip(NAMES, values, strict=True))
            row["said_animal_pk"] = row.pop("said_animal_id")
            if row["collar_id"] in self.poison:
                counts["quarantined"] += 1
                exceptions.append(Exceptional(place=place, outcome="quarantined", code="invalid", detail="poison"))
                continue
            row["collar_id"] = self.kept.rows.canonical(row["collar_id"])
            identity = fix_id(row["collar_id"], row["raw_ms"], row["lon_e7"], row["lat_e7"])
            if identity not in self.kept.fixes:
                self.kept.fixes[identity] = row
                counts["applied"] += 1
            else:
                counts["applied" if fold(self.kept.fixes[identity], row) else "duplicate"] += 1
        return counts, exceptions

    def _take_decisions(self, batch: Batch) -> tuple[Counter[Any], list[Exceptional]]:
        decisions: list[Decision] = decode_records(batch.payload, Decision)
        for decision in decisions:
            identity = decision.fix_id(self.kept.rows.canonical(decision.collar_id))
            assert identity in self.kept.fixes  # a decision never comes before its fix
            self.decided[identity] = decision.is_excluded
        return Counter({"applied": len(decisions)}), []

    def _take_results(self, batch: Batch) -> tuple[Counter[Any], list[Exceptional]]:
        self.results.append(decode_results(batch.payload))
        return Counter({"applied": len(self.results[-1].rest.said)}), []

    def _take_frames(self, batch: Batch) -> tuple[Counter[Any], list[Exceptional]]:
        return Counter({"applied": len(decode_records(batch.payload, RawFrame))}), []

    def _take_records(self, batch: Batch) -> tuple[Counter[Any], list[Exceptional]]:
        counts: Counter[Any] = Counter()
        exceptions = []
        operations: list[Operation] = decode_records(batch.payload, Operation)
        for place, operation in enumerate(operations):
            if operation.id in self.kept.applied:
                counts["duplicate"] += 1
                self.kept.log.append(
                    (operation.entity, operation.row_id)
                )  # its station may have passed over the ruling
                continue
            self.kept.applied[operation.id] += 1
            try:
                if operation.row_id in self.poison:
                    raise Invalid("poison")
                effects = decide(replace(operation, origin=f"{self.station_id}:{batch.epoch}"), self.kept.rows)
            except RequestError as error:
                counts["quarantined"] += 1
                exceptions.append(Exceptional(place=place, outcome="quarantined", code=error.code, detail=error.detail))
                self.kept.log.append((operation.entity, operation.row_id))
                continue
            counts[effects.outcome] += 1
            self.kept.rows.take(effects)
            self.kept.log += [(change.record.entity, change.record.id) for change in effects.changes]
            if effects.lost:
                exceptions.append(Exceptional(place=place, outcome=effects.outcome, lost=tuple(sorted(effects.lost))))
                self.kept.log.append((operation.entity, operation.row_id))
            for heard_id, into_id in effects.rekeyed:
                self._rekey(heard_id, into_id)
        return counts, exceptions

    def edit(self, operation: Operation) -> None:
        """Do an operation of a person at the cloud."""
        effects = decide(operation, self.kept.rows)
        self.kept.rows.take(effects)
        self.kept.log += [(change.record.entity, change.record.id) for change in effects.changes]
        for heard_id, into_id in effects.rekeyed:
            self._rekey(heard_id, into_id)

    def _rekey(self, heard_id: str, into_id: str) -> None:
        for identity, row in list(self.kept.fixes.items()):
            if row["collar_id"] == heard_id:
                del self.kept.fixes[identity]
                moved = {**row, "collar_id": into_id}
                new = fix_id(into_id, row["raw_ms"], row["lon_e7"], row["lat_e7"])
                fold(self.kept.fixes.setdefault(new, moved), moved)


def columns_of(rows: Sequence[dict[str, Any]]) -> FixColumns:
    """Return rows as columns; what a row does not say has its default."""
    return {column.name: [row.get(column.name, column.default) for row in rows] for column in FIX_COLUMNS}


def _said(row: dict[str, Any], name: str) -> Any:
    return row["said_animal_pk" if name == "said_animal_id" else name]
