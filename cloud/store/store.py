"""The cloud's Store over PostgreSQL: every call is one transaction, every read one snapshot."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast

from cloud.store import patrols, phones, predictions, queries
from cloud.store.accounts import run
from cloud.store.areas import areas_near_each
from cloud.store.database import Database
from cloud.store.effects import apply
from cloud.store.fixes import FixWriter
from cloud.store.news import News, between
from cloud.store.partitions import Partitions
from cloud.store.records import Noted, load, lock_for_edits, lock_for_fixes, note, one
from cloud.store.uploads import UploadGroups
from shared.domain import (
    AddedFix,
    Alert,
    Animal,
    Collar,
    Corridor,
    Deployment,
    Fix,
    NewFix,
    Observation,
    Patrol,
    Prediction,
    Zone,
)
from shared.errors import Invalid, NotFound, RequestError
from shared.ids import id_text
from shared.movement.areas import Nearby, Place
from shared.privacy import View
from shared.store import (
    AlertCount,
    AlertQuery,
    AnimalQuery,
    CorridorQuery,
    FixQuery,
    LiveAnimal,
    ObservationQuery,
    Page,
    PatrolQuery,
    PredictionQuery,
    ZoneQuery,
)
from shared.sync import clashes
from shared.sync.clashes import Clash, Resolution
from shared.sync.decide import decide
from shared.sync.edits import RecordEdits
from shared.sync.operations import Effects, Operation, Outcome, wanted
from shared.sync.patrols import Asked, PatrolReads
from shared.sync.phone.cursor import Cursor
from shared.sync.phone.pull import PullAsk, PullPage, pull
from shared.sync.phone.push import PushAsk, PushResult, push
from shared.sync.phone.upload import Brought, Kept, UploadAsk, Uploaded, upload_all, upload_one
from shared.sync.records import Record, to_ms
from shared.sync.rulings import ruling
from shared.wire.public import TrackingIn
from shared.wire.reading import EARLIEST, LATEST, instant

_EARLIEST_MS: Final = to_ms(EARLIEST)
_LATEST_MS: Final = to_ms(LATEST)


class PostgresStore(RecordEdits, PatrolReads):
    """Implements ``shared.store.Store`` over one database; ``now`` dates what people make."""

    def __init__(self, database: Database, *, now: Callable[[], datetime]) -> None:
        self.database = database
        self.partitions = Partitions(database)
        self._uploads = UploadGroups(self._take_uploads)
        self._now = now

    def now(self) -> datetime:
        """Return the time by which edits are dated."""
        return self._now()

    # --- records

    async def edit(self, operation: Operation) -> object:
        """Decide and apply ``operation`` in one transaction; return its record afterwards, None if it is deleted."""
        async with self.database.transaction() as connection:
            await lock_for_edits(connection)
            rows = await load(connection, wanted([operation]))
            effects = decide(operation, rows)
            lines, n = await apply(connection, [(operation, effects)], to_ms(self._now()))
            try:
                found = await queries.get(connection, operation.entity, operation.row_id)
            except NotFound:
                found = None
            if lines:
                await note(connection, lines, new_fixes=n)
            return found

    async def edit_all(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Decide and apply ``operations`` in one transaction, all or none; return what each did."""
        async with self.database.transaction() as connection:
            await lock_for_edits(connection)
            rows = await load(connection, wanted(operations))
            decided: list[tuple[Operation, Effects]] = []
            for operation in operations:
                effects = decide(operation, rows)
                rows.take(effects)
                decided.append((operation, effects))
            lines, n = await apply(connection, decided, to_ms(self._now()))
            if lines:
                await note(connection, lines, new_fixes=n)
            return [effects.outcome for _, effects in decided]

    async def forget_ranger_positions(self, before: datetime) -> int:
        """Remove positions of rangers that were recorded before then."""
        async with self.database.transaction() as connection:
            return await patrols.forget_positions(connection, to_ms(before))

    async def resolve(
        self, clash: Clash, resolution: Resolution, columns: Mapping[str, Any], note_text: str | None, by: str
    ) -> Clash:
        """Make a resolution so, in one transaction; it goes down as the edits that it is made of."""
        now_ms = to_ms(self._now())
        async with self.database.transaction() as connection:
            await lock_for_edits(connection)
            lines: list[Noted] = []
            n = 0
            for operation in await run(connection, ruling(clash, resolution, columns, by, now_ms)):
                effects = decide(operation, await load(connection, wanted([operation])))
                more, more_fixes = await apply(connection, [(operation, effects)], now_ms)
                lines, n = lines + more, n + more_fixes
            done = await run(connection, clashes.resolved(clash, resolution, columns, note_text, by, now_ms))
            await note(connection, lines, new_fixes=n)
            return done

    # --- phones

    async def pull_phone(self, view: View, ask: PullAsk) -> PullPage:
        """Return one page of what a phone may see, in one snapshot."""
        life = await phones.epoch(self.database)
        async with self.database.snapshot() as connection:
            return await phones.Run(connection).of(pull(ask, view, life, phones.DIALECT))

    async def phone_timestamp(self, view: View) -> int:
        """Return the timestamp that a pull of this moment would have."""
        life = await phones.epoch(self.database)
        async with self.database.snapshot() as connection:
            (seq,) = await one(connection, phones.DIALECT.head)
        return Cursor(life, int(seq)).packed()

    async def news(self, after: int, until: int) -> News | None:
        """Return what somebody may want to hear of between two numbers of the change log; None for too much."""
        async with self.database.snapshot() as connection:
            return await between(connection, after, until)

    async def push_phone(self, view: View, ask: PushAsk) -> PushResult:
        """Take what a phone pushed, in one transaction."""
        life = await phones.epoch(self.database)
        now_ms = to_ms(self._now())
        await self.partitions.ensure(_times_ms(row.fix for row in ask.rows if row.fix is not None))
        async with self.database.transaction() as connection:
            await lock_for_edits(connection)
            return await phones.Run(connection, now_ms).of(push(ask, life, phones.DIALECT))

    async def upload_phone(
        self, view: View, ask: UploadAsk, *, sync_id: str, kept: Kept | None, answer: Callable[[Uploaded], bytes]
    ) -> bytes:
        """Take an upload and return its answer; uploads of positions alone share a transaction."""
        brought = Brought(view=view, ask=ask, kept=kept, answer=answer, sync_id=sync_id)
        if not brought.has_records:
            return await self._uploads.answer(brought)
        await self.partitions.ensure(brought.times_ms())
        async with self.database.transaction() as connection:
            await lock_for_edits(connection)
            return await phones.Run(connection, to_ms(self._now())).of(upload_one(brought, phones.DIALECT))

    async def _take_uploads(self, brought: Sequence[Brought], *, is_careful: bool) -> list[bytes | RequestError]:
        await self.partitions.ensure(ms for each in brought for ms in each.times_ms())
        async with self.database.transaction() as connection:
            await lock_for_fixes(connection)
            run_of = phones.Run(connection, to_ms(self._now()), is_careful=is_careful)
            return await run_of.of(upload_all(brought, phones.DIALECT))

    # --- reads

    async def asked(self, asked: Asked) -> Page[Record]:
        """Return a page of records of rangers and their patrols."""
        async with self.database.snapshot() as connection:
            return await patrols.answer(connection, asked)

    async def animals(self, view: View, query: AnimalQuery) -> Page[Animal]:
        """List animals."""
        async with self.database.snapshot() as connection:
            return await queries.list_animals(connection, query, view)

    async def animal(self, view: View, animal_id: str) -> Animal:
        """Return one animal; raises NotFound."""
        async with self.database.snapshot() as connection:
            return cast("Animal", await queries.get(connection, "animal", animal_id, view))

    async def live_animals(self, view: View) -> list[LiveAnimal]:
        """Return every active animal that has a usable position."""
        async with self.database.snapshot() as connection:
            return await queries.live_animals(connection, view)

    async def collars(self, view: View, *, search: str | None, offset: int, limit: int) -> Page[Collar]:
        """List collars, by id."""
        async with self.database.snapshot() as connection:
            return await queries.list_collars(connection, search, offset, limit, view)

    async def collar(self, view: View, collar_id: str) -> Collar:
        """Return one collar; raises NotFound."""
        async with self.database.snapshot() as connection:
            return cast("Collar", await queries.get(connection, "collar", collar_id, view))

    async def deployments(
        self, view: View, *, animal_id: str | None, collar_id: str | None, offset: int, limit: int
    ) -> Page[Deployment]:
        """List deployments, newest first."""
        async with self.database.snapshot() as connection:
            return await queries.list_deployments(connection, animal_id, collar_id, offset, limit, view)

    async def deployment(self, view: View, deployment_id: str) -> Deployment:
        """Return one deployment; raises NotFound."""
        async with self.database.snapshot() as connection:
            return cast("Deployment", await queries.get(connection, "deployment", deployment_id, view))

    async def observations(self, view: View, query: ObservationQuery) -> Page[Observation]:
        """List observations."""
        async with self.database.snapshot() as connection:
            return await queries.list_observations(connection, query, view)

    async def observation(self, view: View, observation_id: str) -> Observation:
        """Return one observation; raises NotFound."""
        async with self.database.snapshot() as connection:
            return cast("Observation", await queries.get(connection, "observation", observation_id, view))

    async def zones(self, view: View, query: ZoneQuery) -> Page[Zone]:
        """List zones."""
        async with self.database.snapshot() as connection:
            return await queries.list_zones(connection, query, view)

    async def zone(self, view: View, zone_id: str) -> Zone:
        """Return one zone; raises NotFound."""
        async with self.database.snapshot() as connection:
            return cast("Zone", await queries.get(connection, "zone", zone_id, view))

    async def patrols(self, view: View, query: PatrolQuery) -> Page[Patrol]:
        """List patrols."""
        async with self.database.snapshot() as connection:
            return await queries.list_patrols(connection, query, view)

    async def patrol(self, view: View, patrol_id: str) -> Patrol:
        """Return one patrol; raises NotFound."""
        async with self.database.snapshot() as connection:
            return cast("Patrol", await queries.get(connection, "patrol", patrol_id, view))

    async def areas_near(self, view: View, places: Sequence[Place], reach_m: float) -> list[list[Nearby]]:
        """Return of each place the zones and corridors near it, the nearest first."""
        async with self.database.snapshot() as connection:
            return await areas_near_each(connection, places, reach_m)

    async def corridors(self, view: View, query: CorridorQuery) -> Page[Corridor]:
        """List corridors."""
        async with self.database.snapshot() as connection:
            return await queries.list_corridors(connection, query, view)

    async def corridor(self, view: View, corridor_id: str) -> Corridor:
        """Return one corridor; raises NotFound."""
        async with self.database.snapshot() as connection:
            return cast("Corridor", await queries.get(connection, "corridor", corridor_id, view))

    async def alerts(self, view: View, query: AlertQuery) -> Page[Alert]:
        """List alerts."""
        async with self.database.snapshot() as connection:
            return await queries.list_alerts(connection, query, view)

    async def alert_counts(self, view: View, query: AlertQuery) -> list[AlertCount]:
        """Count alerts by type, severity and status."""
        async with self.database.snapshot() as connection:
            return await queries.count_alerts(connection, query, view)

    async def alert(self, view: View, alert_id: str) -> Alert:
        """Return one alert; raises NotFound."""
        async with self.database.snapshot() as connection:
            return cast("Alert", await queries.get(connection, "alert", alert_id, view))

    async def fixes(self, view: View, query: FixQuery) -> Page[Fix]:
        """List fixes."""
        async with self.database.snapshot() as connection:
            return await queries.list_fixes(connection, query, view)

    async def fix(self, view: View, fix_id: str) -> Fix:
        """Return one fix; raises NotFound."""
        async with self.database.snapshot() as connection:
            return await queries.get_fix(connection, fix_id, view)

    # --- predictions

    async def predictions(self, view: View, query: PredictionQuery) -> Page[Prediction]:
        """List what models said to those who asked."""
        async with self.database.snapshot() as connection:
            return await predictions.find(connection, view, query)

    async def prediction(self, view: View, prediction_id: str) -> Prediction:
        """Return one prediction; raises NotFound."""
        async with self.database.snapshot() as connection:
            return await predictions.get(connection, view, "id", prediction_id)

    async def keep_prediction(self, view: View, prediction: Prediction, key: str) -> tuple[Prediction, bool]:
        """Keep a prediction, of each key the first."""
        async with self.database.transaction() as connection:
            return await predictions.keep(connection, view, prediction, key)

    async def delete_prediction(self, view: View, prediction_id: str) -> None:
        """Delete a prediction; raises NotFound."""
        async with self.database.transaction() as connection:
            await predictions.delete(connection, view, prediction_id)

    # --- fixes

    async def add_fixes(self, view: View, fixes: Sequence[NewFix]) -> list[AddedFix]:
        """Store fixes, once each for ever."""
        if not fixes:
            return []
        await self.partitions.ensure(to_ms(fix.recorded_at) for fix in fixes)
        async with self.database.transaction() as connection:
            await lock_for_fixes(connection)
            added = await FixWriter(connection, to_ms(self._now())).add(fixes)
            await note(connection, added.lines, new_fixes=added.new)
        return [
            AddedFix(id=id_text(identity), outcome=outcome)
            for identity, outcome in zip(added.ids, added.outcomes, strict=True)
        ]

    async def flag_fix(self, view: View, fix_id: str, *, is_excluded: bool) -> Fix:
        """Take a fix out by hand or reinstate it."""
        async with self.database.transaction() as connection:
            await lock_for_fixes(connection)
            await queries.get_fix(connection, fix_id)
            lines = await FixWriter(connection, to_ms(self._now())).set_by_hand(fix_id, is_excluded=is_excluded)
            if lines is None:
                raise NotFound(f"there is no fix {fix_id}")
            fix = await queries.get_fix(connection, fix_id)
            await note(connection, lines)
            return fix


def _times_ms(fixes: Iterable[TrackingIn]) -> list[int]:
    """Return when positions were recorded; one that says nothing sensible is refused later, alone."""
    times = []
    for fix in fixes:
        if isinstance(fix.timestamp, int):  # as phones say it
            if _EARLIEST_MS <= fix.timestamp < _LATEST_MS:
                times.append(fix.timestamp)
            continue
        with contextlib.suppress(Invalid):
            times.append(to_ms(instant("timestamp", fix.timestamp)))
    return times
