"""The engine at the station: watches out of the store and back, acts onto alerts, what rings onto the event stream.

::

    store.write:  mutes, watch, what people did -> engine -> alerts with their outbox rows, watch     (one transaction)
    afterwards:   event "alert" for each alert that was raised, changed or cleared

A kill before the commit leaves neither alert nor watch, so the same fixes are judged again; one after it leaves both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from edge.alerts.engine import Engine, heed
from edge.alerts.seen import Moment, Mute, Seen, Subject
from edge.alerts.watch import Act, Watch, packed, unpacked
from edge.store import watches
from edge.store.driver import Connection
from edge.store.fixes import FixWriter
from edge.store.records import RecordWriter
from edge.store.store import SpatialiteStore
from shared.clock import Clock
from shared.errors import NotFound, StoreFull
from shared.ids import random_id
from shared.sync.operations import Operation
from shared.sync.records import Record, to_ms
from shared.wire.events import Told

log = structlog.get_logger()

TICK_S: Final = 60.0
_DEAF_KEPT_MS: Final = 60 * 86_400_000
_OPEN: Final = frozenset({"active", "acknowledged"})
#: Animals that one transaction of a tick judges: fixes that arrive meanwhile do not wait for all.
_TICK_ANIMALS: Final = 50


class Keeper:
    """Judges animals over one store and publishes what was told."""

    def __init__(self, store: SpatialiteStore, engine: Engine, clock: Clock, publish: Callable[[Told], None]) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock
        self._publish = publish
        self._has_listened = False

    @property
    def engine(self) -> Engine:
        """The engine and its book of rules."""
        return self._engine

    # --- inside a transaction of the caller's: the pipeline writes its own results in the same one

    def judge_within(self, db: Connection, subject: Subject, seen: Sequence[Seen]) -> list[Told]:
        """Judge new fixes inside the caller's transaction; give the result to ``announce`` once it is committed."""
        body, watch = _watch(db, subject.animal_id)
        after, acts = self._engine.judge(watch, subject, seen, _mutes(db))
        return self._keep(db, body, after, acts)

    def judge_late_within(self, db: Connection, subject: Subject, stretch: Sequence[Seen]) -> list[Told]:
        """Judge a stretch in which fixes were found later, inside the caller's transaction."""
        body, watch = _watch(db, subject.animal_id)
        after, acts = self._engine.judge_late(watch, subject, stretch)
        return self._keep(db, body, after, acts)

    def tick_within(self, db: Connection, animal: watches.WatchedAnimal) -> list[Told]:
        """Judge what time alone brings for one animal, inside the caller's transaction.

        On an unsure clock a fix has no age: what it shows rings here.
        """
        moment = Moment(now_ms=to_ms(self._clock.now()), is_clock_sure=False)
        return self._tick_within(db, [animal], moment)

    @property
    def is_clock_sure(self) -> bool:
        """Say whether fixes have an age."""
        return self._clock.state.is_sure

    def announce(self, told: Iterable[Told]) -> None:
        """Publish what a committed transaction told."""
        for each in told:
            self._publish(each)

    # --- on its own

    async def tick(self) -> list[Told]:
        """Judge what time alone brings, for every animal that is watched."""
        now_ms, is_sure = to_ms(self._clock.now()), self._clock.state.is_sure
        moment = Moment(now_ms=now_ms, is_clock_sure=is_sure)
        if is_sure:
            is_first = not self._has_listened
            deaf = await self._store.write(lambda db: _listened(db, now_ms, is_first=is_first))
            self._has_listened = True
            moment = Moment(now_ms=now_ms, is_clock_sure=True, deaf=tuple(deaf))
        animals = await self._store.read(watches.watched_animals)
        told: list[Told] = []
        for first in range(0, len(animals), _TICK_ANIMALS):
            some = animals[first : first + _TICK_ANIMALS]
            these = await self._store.write(lambda db, some=some: self._tick_within(db, some, moment))  # type: ignore[misc] # of this turn
            self.announce(these)
            told += these
        return told

    def _tick_within(self, db: Connection, animals: Sequence[watches.WatchedAnimal], moment: Moment) -> list[Told]:
        told: list[Told] = []
        mutes = _mutes(db)
        for animal in animals:
            body, watch = _watch(db, animal.animal_id)
            after, acts = self._engine.tick(watch, subject_of(animal), moment, mutes)
            told += self._keep(db, body, after, acts)
        return told

    async def run(self) -> None:
        """Tick once a minute until cancelled; a full disk is waited out."""
        while True:
            try:
                await self.tick()
            except StoreFull:
                log.warning("alerts.disk_full")
            await asyncio.sleep(TICK_S)

    # --- mutes

    async def mutes(self) -> list[Mute]:
        """Return every mute that was not taken back."""
        return await self._store.read(_mutes)

    async def mute(self, mute: Mute) -> None:
        """Silence a rule; raises NotFound for an animal that is not there."""

        def job(db: Connection) -> None:
            if mute.animal_id is not None and not watches.watched_animals(db, mute.animal_id):
                raise NotFound(f"there is no animal {mute.animal_id}")
            watches.put_mute(
                db,
                watches.KeptMute(
                    rule=mute.rule, animal_id=mute.animal_id, until_ms=mute.until_ms, made_ms=mute.made_ms,
                    author=mute.author,
                ),
            )  # fmt: skip

        await self._store.write(job)

    async def unmute(self, rule: str, animal_id: str | None) -> None:
        """Take a mute back; raises NotFound where there is none."""
        if not await self._store.write(lambda db: watches.delete_mute(db, rule, animal_id)):
            raise NotFound(f"{rule} is not muted" + (f" for {animal_id}" if animal_id else ""))

    # --- inside

    def _keep(self, db: Connection, body: bytes | None, after: Watch, acts: Sequence[Act]) -> list[Told]:
        """Write what the engine decided, and the watch where it is not the one that was kept."""
        told = self._act(db, acts)
        fresh = packed(after)
        if fresh != body:
            watches.put_watch(db, after.animal_id, after.judged_ms, fresh)
        return told

    def _act(self, db: Connection, acts: Sequence[Act]) -> list[Told]:
        """Write what the engine decided, and return what became of each alert."""
        if not acts:
            return []
        made_ms = to_ms(self._clock.now())
        ids = {act.alert_id for act in acts}
        taken = watches.existing_alerts(db, ids)
        open_ones = {each for each, status in watches.alert_statuses(db, ids).items() if status in _OPEN}
        told: list[Told] = []
        writer = RecordWriter(db, FixWriter(db))
        for act in acts:
            # told before: by a database that was restored, or by another station that heard the same; or closed since
            if act.alert_id in taken if act.kind == "raise" else act.alert_id not in open_ones:
                continue
            operation = Operation(
                id=random_id(), entity="alert", row_id=act.alert_id,
                kind="insert" if act.kind == "raise" else "update", made_ms=made_ms, columns=dict(act.columns),
            )  # fmt: skip
            for effects in writer.run([operation]):
                told += [_told(change.record, rings=act.rings) for change in effects.changes]
            (open_ones.add if act.columns.get("status", "active") in _OPEN else open_ones.discard)(act.alert_id)
        return told


def _watch(db: Connection, animal_id: str) -> tuple[bytes | None, Watch]:
    """Return what is kept of an animal, and the same with what people did to its alerts since."""
    body = watches.watch_body(db, animal_id)
    watch = Watch(animal_id=animal_id)
    if body is not None:
        try:
            watch = unpacked(body)
        except msgspec.MsgspecError as error:  # of a later version, say: better to learn anew than to judge nothing
            log.error("alerts.watch_unreadable", animal=animal_id, reason=str(error))
    open_alerts = watch.open_alerts()
    return body, heed(watch, watches.alert_statuses(db, open_alerts)) if open_alerts else watch


def subject_of(animal: watches.WatchedAnimal) -> Subject:
    """Return an animal of the store as the engine asks for it."""
    return msgspec.convert(animal, Subject, from_attributes=True)


def _told(record: Record, *, rings: bool) -> Told:
    columns: Mapping[str, Any] = record.columns
    return Told(
        id=record.id, animal=columns["animal_id"], alert_type=columns["alert_type"], severity=columns["severity"],
        title=columns["title"], status=columns["status"], is_late=columns["is_late"], rings=rings,
    )  # fmt: skip


def _mutes(db: Connection) -> list[Mute]:
    return [msgspec.convert(mute, Mute, from_attributes=True) for mute in watches.mutes(db)]


def _listened(db: Connection, now_ms: int, *, is_first: bool) -> list[tuple[int, int]]:
    """Note a tick; before the first of a run lies a span in which the station did not. Return all of them."""
    ticked_ms, deaf = watches.listening(db)
    if is_first and ticked_ms is not None and now_ms > ticked_ms:
        deaf.append((ticked_ms, now_ms))
    deaf = [span for span in deaf if span[1] >= now_ms - _DEAF_KEPT_MS]
    watches.put_listening(db, now_ms, deaf)
    return deaf
