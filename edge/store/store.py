"""The station's Store: what the protocol asks for, over the two doors of its database (``edge.store.database``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import msgspec

from edge.store import changes, outbox, patrols, phones, predictions, queries, undecoded_frames, unsent
from edge.store.areas import areas_near_each
from edge.store.database import READERS, Database
from edge.store.decisions import waiting_flags
from edge.store.driver import Connection, Synchronous, quick_check
from edge.store.fixes import FixWriter, StoredFix
from edge.store.jobs import run
from edge.store.records import RecordWriter
from edge.store.undecoded_frames import Undecoded
from shared.accounts.facts import set_fact
from shared.domain import (
    AddedFix,
    Alert,
    Animal,
    Collar,
    Corridor,
    Deployment,
    Fix,
    HeardDevice,
    NewFix,
    Observation,
    Patrol,
    Prediction,
    Zone,
)
from shared.errors import NotFound
from shared.ids import id_bytes, id_text
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
from shared.sync.decisions import Decision
from shared.sync.edits import RecordEdits
from shared.sync.operations import Operation, Outcome
from shared.sync.patrols import Asked, PatrolReads
from shared.sync.phone.cursor import Cursor
from shared.sync.phone.pull import PullAsk, PullPage, pull
from shared.sync.phone.push import PushAsk, PushResult, push
from shared.sync.phone.upload import Brought, Kept, UploadAsk, Uploaded, upload_one
from shared.sync.records import EntityName, Record, to_ms
from shared.sync.rulings import ruling
from shared.wire.batch import FixColumns

T = TypeVar("T")

#: The fact that says how far the conflicts of the cloud are taken: its epoch and a number.
CLASH_CURSOR: Final = "conflicts.cursor"


class StoreFacts(msgspec.Struct, frozen=True):
    """What the status page shows."""

    fixes: int
    animals: int
    collars: int
    undecoded: int
    outbox: int
    size_bytes: int
    schema: int


class Writers:
    """What writes over one connection, and what that keeps from one transaction to the next."""

    def __init__(self, connection: Connection) -> None:
        self.fixes = FixWriter(connection)
        self.records = RecordWriter(connection, self.fixes)

    def forget(self) -> None:
        """Drop what is cached."""
        self.fixes.forget()


class SpatialiteStore(RecordEdits, PatrolReads):
    """Implements ``shared.store.Store`` over one file.

    ``now`` dates the records that people make; ``stored`` hears, in the loop's thread, of fixes that came by
    ``add_fixes`` or from the cloud.
    """

    def __init__(
        self,
        path: Path,
        key: bytes | None,
        *,
        now: Callable[[], datetime],
        synchronous: Synchronous = "FULL",
        readers: int = READERS,
        stored: Callable[[Sequence[StoredFix]], None] = lambda _: None,
    ) -> None:
        self._now = now
        self._stored = stored
        self._database = Database(path, key, Writers, synchronous=synchronous, readers=readers)
        self.schema = self._database.schema
        #: what seals and opens personal fields
        self.fields = self._database.fields

    @property
    def _fixes(self) -> FixWriter:
        return self._database.made.fixes

    @property
    def _records(self) -> RecordWriter:
        return self._database.made.records

    async def close(self) -> None:
        """Finish what is queued and close every connection."""
        await asyncio.to_thread(self.close_now)

    def close_now(self) -> None:
        """Finish what is queued and close every connection, from a thread that may wait."""
        self._database.close()

    async def write(self, job: Callable[[Connection], T]) -> T:
        """Run ``job`` in one transaction of the writer thread; its error comes back to the caller."""
        return await self._database.write(job)

    async def read(self, job: Callable[[Connection], T]) -> T:
        """Run ``job`` on one of the readers, in one snapshot."""
        return await self._database.read(job)

    # --- what the decoder writes

    async def cursor(self, consumer: str) -> int:
        """Return how far ``consumer`` has come in the ledger; 0 before its first step."""

        def job(db: Connection) -> int:
            row = db.execute("SELECT position FROM cursors WHERE consumer = ?", (consumer,)).fetchone()
            return 0 if row is None else int(row[0])

        return await self.read(job)

    async def take_decoded(
        self,
        consumer: str,
        position: int,
        fixes: Sequence[NewFix],
        heard: Sequence[HeardDevice],
        undecoded: Sequence[Undecoded],
        decoded_seqs: Sequence[int] = (),
    ) -> list[StoredFix]:
        """Store what a stretch of the ledger decoded to and move the cursor to ``position``, in one transaction.

        ``decoded_seqs`` are frames that can be read now and leave the list of undecoded ones.
        """

        def job(db: Connection) -> list[StoredFix]:
            now_ms = to_ms(self._now())
            stored = self._fixes.add(fixes, now_ms)
            newest: dict[str, HeardDevice] = {}
            for device in heard:
                newest[device.device] = device.folded(newest.get(device.device))
            for device in newest.values():
                status = {
                    "battery_mv": device.battery_mv, "battery_pct": device.battery_pct, "firmware": device.firmware,
                }  # fmt: skip
                self._records.heard(device.device, status, device.heard_ms, now_ms)
            undecoded_frames.note(db, undecoded, decoded_seqs)
            db.execute(
                "INSERT INTO cursors (consumer, position) VALUES (?1, ?2)"
                " ON CONFLICT (consumer) DO UPDATE SET position = max(position, excluded.position)",
                (consumer, position),
            )
            return stored

        return await self.write(job)

    async def undecoded(self, limit: int = 100) -> list[Undecoded]:
        """Return the newest frames that no codec can read."""
        return await self.read(lambda db: undecoded_frames.newest(db, limit))

    async def facts(self) -> StoreFacts:
        """Count and size what is kept."""

        def job(db: Connection) -> StoreFacts:
            fixes, animals, collars, undecoded, outbox = db.execute(
                "SELECT (SELECT value FROM counters WHERE name = 'fixes'),"
                " (SELECT count(*) FROM animals WHERE deleted_ms IS NULL),"
                " (SELECT count(*) FROM collars WHERE deleted_ms IS NULL AND id NOT GLOB 'animal:*'),"
                " (SELECT count(*) FROM undecoded), (SELECT coalesce(sum(last_pk - first_pk + 1), 0) FROM outbox)"
            ).fetchone()
            return StoreFacts(fixes, animals, collars, undecoded, outbox, self._database.size_bytes(), self.schema)

        return await self.read(job)

    async def take_changes(
        self, cloud_epoch: str, cursor: int, records: Sequence[Record], left: Sequence[tuple[EntityName, str]] = ()
    ) -> int:
        """Take records that the cloud sent down and how far its changes are taken then; return how many were news.

        ``left`` are records that left this station's scope, before the others came: they go from here. All of it in
        one transaction, and what waits for the cloud stays on top. Raises NotFound, and nothing is taken, for a
        deployment whose collar or animal is neither here nor among them.
        """

        def job(db: Connection) -> int:
            outbox.set_cursor(db, cloud_epoch, cursor)
            outbox.withdraw(db, records)
            pending, now_ms = unsent.pending_columns(db), to_ms(self._now())
            n = 0
            if left:
                waiting = unsent.waiting_collars(db, [identity for entity, identity in left if entity == "collar"])
                n = self._records.leave(left, pending, waiting, now_ms)
            return n + self._records.take(records, pending, now_ms)

        return await self.write(job)

    async def take_clashes(self, found: Sequence[Clash], cursor: str) -> None:
        """Take conflicts that the cloud sent down, and how far they are taken then."""

        def job(db: Connection) -> None:
            run(db, clashes.take(found))
            run(db, set_fact(CLASH_CURSOR, cursor))

        await self.write(job)

    async def take_heard(
        self, cloud_epoch: str, cursor: int, after: str | None, columns: FixColumns, decisions: Sequence[Decision] = ()
    ) -> tuple[int, int]:
        """Store fixes that came to the cloud another way and what people decided of fixes there, with the cursor.

        Returns how many fixes and how many decisions were news. They do not wait for the cloud, which has them.
        Nothing is taken where the cloud's life is another one by now.
        """

        def job(db: Connection) -> tuple[list[StoredFix], int]:
            if not outbox.set_heard(db, cloud_epoch, cursor, after):
                return [], 0
            now_ms = to_ms(self._now())
            stored = self._fixes.take(columns, now_ms)
            for collar_id, heard_ms, battery_mv in _last_heard(columns):
                self._records.heard(collar_id, {"battery_mv": battery_mv}, heard_ms, now_ms)
            waiting = waiting_flags(db) if decisions else set()
            return stored, sum(self._fixes.told_by_hand(decision, waiting) for decision in decisions)

        stored, n_told = await self.write(job)
        self._stored(stored)
        return sum(fix.outcome != "duplicate" for fix in stored), n_told

    async def check(self) -> None:
        """Run SQLite's quick check on a reader, beside the work; raises DatabaseCorrupt."""
        await self.read(lambda db: quick_check(db, self._database.path))

    # --- shared.store.Store: records

    def now(self) -> datetime:
        """Return the time by which edits are dated."""
        return self._now()

    async def edit(self, operation: Operation) -> object:
        """Decide and apply ``operation`` in one transaction; return its record afterwards, None if it is deleted."""

        def job(db: Connection) -> object:
            self._records.run([operation])
            try:
                return queries.get(db, operation.entity, operation.row_id)
            except NotFound:
                return None

        return await self.write(job)

    async def edit_all(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Decide and apply ``operations`` in one transaction, all or none; return what each did."""
        return await self.write(lambda _: [effects.outcome for effects in self._records.run(operations)])

    async def asked(self, asked: Asked) -> Page[Record]:
        """Return a page of records of rangers and their patrols."""
        return await self.read(lambda db: patrols.answer(db, asked))

    async def forget_ranger_positions(self, before: datetime) -> int:
        """Remove positions of rangers that were recorded before then."""
        return await self.write(lambda db: patrols.forget_positions(db, to_ms(before)))

    async def resolve(
        self, clash: Clash, resolution: Resolution, columns: Mapping[str, Any], note_text: str | None, by: str
    ) -> Clash:
        """Make a resolution of a conflict that this station found so, in one transaction."""
        now_ms = to_ms(self._now())

        def job(db: Connection) -> Clash:
            for operation in run(db, ruling(clash, resolution, columns, by, now_ms)):
                self._records.run([operation])
            return run(db, clashes.resolved(clash, resolution, columns, note_text, by, now_ms))

        return await self.write(job)

    async def pull_phone(self, view: View, ask: PullAsk) -> PullPage:
        """Return one page of what a phone may see, in one snapshot."""
        return await self.read(lambda db: phones.Run(db).of(pull(ask, view, phones.epoch(db), phones.DIALECT)))

    async def phone_timestamp(self, view: View) -> int:
        """Return the timestamp that a pull of this moment would have."""
        return await self.read(lambda db: Cursor(phones.epoch(db), changes.head(db)).packed())

    async def push_phone(self, view: View, ask: PushAsk) -> PushResult:
        """Take what a phone pushed, in one transaction."""

        def job(db: Connection) -> tuple[PushResult, list[StoredFix]]:
            run = phones.Run(db, (self._records, self._fixes), to_ms(self._now()))
            return run.of(push(ask, phones.epoch(db), phones.DIALECT)), run.stored

        result, stored = await self.write(job)
        self._stored(stored)
        return result

    async def upload_phone(
        self, view: View, ask: UploadAsk, *, sync_id: str, kept: Kept | None, answer: Callable[[Uploaded], bytes]
    ) -> bytes:
        """Take an upload in one transaction and return its answer."""
        brought = Brought(view=view, ask=ask, kept=kept, answer=answer, sync_id=sync_id)

        def job(db: Connection) -> tuple[bytes, list[StoredFix]]:
            run = phones.Run(db, (self._records, self._fixes), to_ms(self._now()))
            return run.of(upload_one(brought, phones.DIALECT)), run.stored

        told, stored = await self.write(job)
        self._stored(stored)
        return told

    async def animals(self, view: View, query: AnimalQuery) -> Page[Animal]:
        """List animals."""
        return await self.read(lambda db: queries.list_animals(db, query, view))

    async def animal(self, view: View, animal_id: str) -> Animal:
        """Return one animal; raises NotFound."""
        return cast("Animal", await self.read(lambda db: queries.get(db, "animal", animal_id, view)))

    async def live_animals(self, view: View) -> list[LiveAnimal]:
        """Return every active animal that has a usable position."""
        return await self.read(lambda db: queries.live_animals(db, view))

    async def collars(self, view: View, *, search: str | None, offset: int, limit: int) -> Page[Collar]:
        """List collars, by id."""
        return await self.read(lambda db: queries.list_collars(db, search, offset, limit, view))

    async def collar(self, view: View, collar_id: str) -> Collar:
        """Return one collar; raises NotFound."""
        return cast("Collar", await self.read(lambda db: queries.get(db, "collar", collar_id, view)))

    async def deployments(
        self, view: View, *, animal_id: str | None, collar_id: str | None, offset: int, limit: int
    ) -> Page[Deployment]:
        """List deployments, newest first."""
        return await self.read(lambda db: queries.list_deployments(db, animal_id, collar_id, offset, limit, view))

    async def deployment(self, view: View, deployment_id: str) -> Deployment:
        """Return one deployment; raises NotFound."""
        return cast("Deployment", await self.read(lambda db: queries.get(db, "deployment", deployment_id, view)))

    async def observations(self, view: View, query: ObservationQuery) -> Page[Observation]:
        """List observations."""
        return await self.read(lambda db: queries.list_observations(db, query, view))

    async def observation(self, view: View, observation_id: str) -> Observation:
        """Return one observation; raises NotFound."""
        return cast("Observation", await self.read(lambda db: queries.get(db, "observation", observation_id, view)))

    async def zones(self, view: View, query: ZoneQuery) -> Page[Zone]:
        """List zones."""
        return await self.read(lambda db: queries.list_zones(db, query, view))

    async def zone(self, view: View, zone_id: str) -> Zone:
        """Return one zone; raises NotFound."""
        return cast("Zone", await self.read(lambda db: queries.get(db, "zone", zone_id, view)))

    async def corridors(self, view: View, query: CorridorQuery) -> Page[Corridor]:
        """List corridors."""
        return await self.read(lambda db: queries.list_corridors(db, query, view))

    async def corridor(self, view: View, corridor_id: str) -> Corridor:
        """Return one corridor; raises NotFound."""
        return cast("Corridor", await self.read(lambda db: queries.get(db, "corridor", corridor_id, view)))

    async def alerts(self, view: View, query: AlertQuery) -> Page[Alert]:
        """List alerts."""
        return await self.read(lambda db: queries.list_alerts(db, query, view))

    async def alert_counts(self, view: View, query: AlertQuery) -> list[AlertCount]:
        """Count alerts by type, severity and status."""
        return await self.read(lambda db: queries.count_alerts(db, query, view))

    async def alert(self, view: View, alert_id: str) -> Alert:
        """Return one alert; raises NotFound."""
        return cast("Alert", await self.read(lambda db: queries.get(db, "alert", alert_id, view)))

    async def patrols(self, view: View, query: PatrolQuery) -> Page[Patrol]:
        """List patrols."""
        return await self.read(lambda db: queries.list_patrols(db, query, view))

    async def patrol(self, view: View, patrol_id: str) -> Patrol:
        """Return one patrol; raises NotFound."""
        return cast("Patrol", await self.read(lambda db: queries.get(db, "patrol", patrol_id, view)))

    async def areas_near(self, view: View, places: Sequence[Place], reach_m: float) -> list[list[Nearby]]:
        """Return of each place the zones and corridors near it, the nearest first, all in one read."""
        return await self.read(lambda db: areas_near_each(db, places, reach_m=reach_m))

    async def predictions(self, view: View, query: PredictionQuery) -> Page[Prediction]:
        """List what models said to those who asked."""
        return await self.read(lambda db: predictions.find(db, view, query))

    async def prediction(self, view: View, prediction_id: str) -> Prediction:
        """Return one prediction; raises NotFound."""
        return await self.read(lambda db: predictions.get(db, view, "id", prediction_id))

    async def keep_prediction(self, view: View, prediction: Prediction, key: str) -> tuple[Prediction, bool]:
        """Keep a prediction, of each key the first."""
        return await self.write(lambda db: predictions.keep(db, view, prediction, key))

    async def delete_prediction(self, view: View, prediction_id: str) -> None:
        """Delete a prediction; raises NotFound."""
        await self.write(lambda db: predictions.delete(db, view, prediction_id))

    # --- shared.store.Store: fixes

    async def fixes(self, view: View, query: FixQuery) -> Page[Fix]:
        """List fixes."""
        return await self.read(lambda db: queries.list_fixes(db, query, view))

    async def fix(self, view: View, fix_id: str) -> Fix:
        """Return one fix; raises NotFound."""
        return await self.read(lambda db: queries.get_fix(db, fix_id, view))

    async def add_fixes(self, view: View, fixes: Sequence[NewFix]) -> list[AddedFix]:
        """Store fixes, once each for ever."""

        def job(_: Connection) -> tuple[list[StoredFix], list[AddedFix]]:
            stored = self._fixes.add(fixes, to_ms(self._now()))
            return stored, [AddedFix(id=id_text(fix.id), outcome=fix.outcome) for fix in stored]

        stored, added = await self.write(job)
        self._stored(stored)
        return added

    async def flag_fix(self, view: View, fix_id: str, *, is_excluded: bool) -> Fix:
        """Take a fix out by hand or reinstate it."""
        try:
            raw = id_bytes(fix_id)
        except ValueError:
            raise NotFound(f"there is no fix {fix_id}") from None

        def job(db: Connection) -> Fix:
            self._fixes.set_by_hand(raw, is_excluded=is_excluded)
            return queries.get_fix(db, fix_id)

        return await self.write(job)

    async def flag_fixes(self, view: View, fix_ids: Sequence[str], *, is_excluded: bool) -> None:
        """Take fixes out by hand or reinstate them, all in one transaction; raises NotFound and changes none."""

        def job(_: Connection) -> None:
            for fix_id in fix_ids:
                self._fixes.set_by_hand(id_bytes(fix_id), is_excluded=is_excluded)

        await self.write(job)


def _last_heard(columns: FixColumns) -> list[tuple[str, int, int | None]]:
    """Return of each collar when it was last heard and the voltage that it said then."""
    newest: dict[str, tuple[str, int, int | None]] = {}
    for said in zip(columns["collar_id"], columns["received_ms"], columns["battery_mv"], strict=True):
        if said[1] is not None and (said[0] not in newest or newest[said[0]][1] < said[1]):
            newest[said[0]] = said
    return list(newest.values())
