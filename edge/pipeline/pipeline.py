"""The consumer: animals that are behind, a few at a time, from their fixes to states, widths and events.

::

    decoder, API, imports --> fixes --(trigger, same transaction)--> to_compute
                                                                        |
    event "state" <-- after the commit -- one transaction: steps, <-- compute, in a thread of its own
                                          alerts, turn off the list

A fix that comes late, one that is flagged, a deployment that is entered in the past: each puts its animal on the list
from its own instant on, and what depends on it is computed anew from there. A process that is killed finds the list as
it was. Ingestion comes first: while frames wait to be decoded, turns are taken at intervals.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec
import structlog

from edge.pipeline.lookout import Lookout
from edge.pipeline.occurrence import OccurrenceKeeper
from edge.pipeline.outcome import TURN, Outcome, outcomes_of
from edge.store import computing, results
from edge.store.driver import Connection
from edge.store.store import SpatialiteStore
from models.live import runtime as live
from shared.domain import EventName
from shared.errors import ModelUnavailable, StoreError
from shared.ids import id_text
from shared.sync.records import from_ms

log = structlog.get_logger()

#: Animals computed in one turn: few enough that an alarm does not wait for their neighbours.
ANIMALS: Final = 32
#: So many of them are written in one transaction: whoever stores a fix waits for it.
WRITTEN_AT_ONCE: Final = 4
#: The list is looked at this often without being told: another process (an import) may have written.
LOOK_S: Final = 2.0
RETRY_S: Final = 1.0
#: How long a turn waits at most while ingestion is behind.
GIVE_WAY_S: Final = 2.0

#: What happened: the name of an event and what goes with it.
Publish = Callable[[EventName, Any], None]
T = TypeVar("T")


class Judge(Protocol[T]):
    """What looks at outcomes for reasons to alarm, inside the transaction that writes them."""

    def look(self, db: Connection, outcomes: Sequence[Outcome]) -> None:
        """Read beforehand what ``judge`` will ask and what takes long: a transaction holds up whoever stores a fix."""
        ...

    def judge(self, db: Connection, outcomes: Sequence[Outcome]) -> list[T]:
        """Write alerts and return what ``announce`` is given once all of it is committed."""
        ...

    def announce(self, told: Sequence[T]) -> None:
        """Tell of what was committed."""
        ...


class _Silent:
    """Judges nothing."""

    def look(self, db: Connection, outcomes: Sequence[Outcome]) -> None:
        pass

    def judge(self, db: Connection, outcomes: Sequence[Outcome]) -> list[Any]:
        return []

    def announce(self, told: Sequence[Any]) -> None:
        pass


class Pipeline:
    """Runs the models over what changed. ``publish`` hears of events in the loop's thread, after the commit."""

    def __init__(
        self,
        store: SpatialiteStore,
        models: live.Models,
        publish: Publish,
        *,
        judge: Judge[Any] | None = None,
        lookout: Lookout | None = None,
        is_behind: Callable[[], bool] = lambda: False,
        turn_fixes: int = TURN,
    ) -> None:
        self._store = store
        self._models = models
        self._publish = publish
        self._lookout = lookout
        self._judge: Judge[Any] = judge or _Silent()
        self._is_behind = is_behind
        self._turn_fixes = turn_fixes
        self._news = asyncio.Event()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "pipeline")
        self.occurrence = OccurrenceKeeper(store, models)
        #: why models were refused at start, by model
        self.refused: dict[str, str] = {}
        #: turns taken, for the status page
        self.turns = 0

    def wake(self) -> None:
        """Say that fixes have come; from the event loop's thread."""
        self._news.set()

    async def run(self) -> None:
        """Compute what is owed, for ever. A store that cannot write (a full disk) is tried again."""
        await self.start()
        has_failed = False
        while True:
            self._news.clear()
            try:
                is_busy = await self.turn() or await self.occurrence.advance_next()
            except StoreError as error:
                if not has_failed:
                    log.error("pipeline.refused", reason=error.detail)
                has_failed = True
                await asyncio.sleep(RETRY_S)
                continue
            if has_failed:
                log.info("pipeline.recovered")
                has_failed = False
            if not is_busy:
                await self._wait()
            else:
                await self._give_way()

    async def start(self) -> None:
        """Load the models; animals that were computed by others than serve them now are owed anew."""
        self.refused = await asyncio.get_running_loop().run_in_executor(self._thread, self._models.load)
        for model, reason in self.refused.items():
            log.warning("model.refused", model=model, reason=reason)
        try:
            await self._store.write(lambda db: computing.owe_to_others(db, self._version_of))
        except StoreError as error:
            log.error("pipeline.refused", reason=error.detail)

    async def take(self, folder: Path) -> None:
        """Load models from another folder; what other versions computed is owed anew."""
        self._models.turn_to(folder)
        await self.start()
        self.wake()

    async def turn(self) -> bool:
        """Compute some of the animals that are behind; say whether there was one."""
        windows = await self._store.read(self._windows)
        if not windows:
            return False
        loop = asyncio.get_running_loop()
        present = [window for _, window in windows if window is not None]
        outcomes = await loop.run_in_executor(self._thread, outcomes_of, present, self._models)
        if self._lookout is not None:
            ahead = await self._lookout.ahead(self._store, outcomes, self._thread)
            foretold = self._lookout.foretold
            outcomes = [
                msgspec.structs.replace(each, ahead=ahead.get(pk), predicted=foretold.get(pk, ()))
                for each in outcomes
                for pk in [each.window.subject.pk]
            ]
        gone = [due for due, window in windows if window is None]
        await self._store.read(lambda db: self._judge.look(db, outcomes))
        if gone:
            await self._store.write(lambda db: computing.forget(db, gone))
        for start in range(0, len(outcomes), WRITTEN_AT_ONCE):
            await self._keep(outcomes[start : start + WRITTEN_AT_ONCE])
        self.turns += 1
        return True

    async def _keep(self, outcomes: Sequence[Outcome]) -> None:
        """Write what was found of some animals, with their alarms, and tell of it."""
        told = await self._store.write(lambda db: self._write(db, outcomes))
        for outcome in outcomes:
            if outcome.window.fixes.fixes:
                self._publish("state", _event(outcome))
        self._judge.announce(told)

    async def drain(self) -> None:
        """Compute all that is owed now."""
        while await self.turn():
            pass

    def close(self) -> None:
        """Stop the thread, after ``run`` was cancelled."""
        self._thread.shutdown()
        self.occurrence.close()

    def _windows(self, db: Connection) -> list[tuple[computing.Due, computing.Window | None]]:
        return [
            (due, computing.window(db, due, burn_in=live.BURN_IN, limit=self._turn_fixes))
            for due in computing.due(db, ANIMALS)
        ]

    def _write(self, db: Connection, outcomes: Sequence[Outcome]) -> list[Any]:
        """Write what was found, and return what the judge told."""
        for outcome in outcomes:
            animal_pk = outcome.window.subject.pk
            computing.write_steps(db, animal_pk, outcome.since_ms, outcome.through_ms, outcome.steps)
            computing.write_computed(db, animal_pk, outcome.computed)
            if outcome.predicted and outcome.computed.through_ms is not None:
                results.write_forecast(db, animal_pk, outcome.computed.through_ms, outcome.predicted)
            computing.spoil_utilisation(db, animal_pk, outcome.window.due.since_ms)
            computing.settle(db, outcome.window.due, outcome.again_ms)
        return self._judge.judge(db, outcomes)

    def _version_of(self, species: str) -> tuple[str, int] | None:
        try:
            model = self._models.behaviour(species)
        except ModelUnavailable:
            return None
        return model.name, model.version

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _give_way(self) -> None:
        waited_s = 0.0
        while self._is_behind() and waited_s < GIVE_WAY_S:
            await asyncio.sleep(0.05)
            waited_s += 0.05


def _event(outcome: Outcome) -> dict[str, Any]:
    newest, shown, path = outcome.window.fixes.fixes[-1], outcome.shown, outcome.said.path
    return {
        "animal": outcome.window.subject.id,
        "fix": id_text(newest.id),
        "recorded_at": from_ms(newest.recorded_ms),
        "received_at": from_ms(newest.received_ms),
        "state": None if shown is None else shown.state,
        "state_ended_at": None if shown is None else from_ms(shown.ended_ms),
        "confidence": None if shown is None else round(shown.confidence, 3),
        "is_settled": None if shown is None else shown.is_settled,
        "path_sd_m": None if path is None or path.sd_m is None else round(path.sd_m, 1),
        "missing": outcome.said.missing,
    }
