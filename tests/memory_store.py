"""A third home beside the two: the whole Store protocol over dictionaries, as a double and as a measure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

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
    is_usable,
)
from shared.errors import Invalid, NotFound
from shared.ids import id_text, random_id
from shared.movement.areas import Nearby, Place, nearby_corridor, nearby_zone
from shared.movement.quality import judge, limits_of
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
from shared.sync.decide import decide
from shared.sync.edits import RecordEdits
from shared.sync.fixes import (
    BY_HAND,
    OPTIONAL,
    CollarFacts,
    FixOutcome,
    Row,
    Wearing,
    by_hand_of_both,
    filled,
    flags_by_hand,
    fold,
    fold_batch,
    judged_columns,
    place,
    retime,
    row_of,
    said_again,
)
from shared.sync.operations import STANDS_FOR, Effects, Operation, Outcome, Rows
from shared.sync.patrols import AHEAD_MS, ORDERS, Asked, PatrolReads, Sight
from shared.sync.phone.pull import PullAsk, PullPage
from shared.sync.phone.push import PushAsk, PushResult
from shared.sync.phone.upload import Kept, UploadAsk, Uploaded
from shared.sync.records import (
    EntityName,
    Record,
    alert_of,
    animal_of,
    collar_of,
    corridor_of,
    degrees,
    deployment_of,
    from_ms,
    observation_of,
    patrol_log_of,
    patrol_of,
    patrol_route_of,
    ranger_of,
    ranger_position_of,
    team_of,
    to_ms,
    zone_of,
)
from tests.geometry import distance_m, is_area
from tests.selecting import is_found, is_inside, is_within, matches, ordered, page_of


class InMemoryStore(RecordEdits, PatrolReads):
    """The whole Store protocol over dictionaries; it judges every collar anew after every change."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._rows = Rows()
        self._fixes: dict[bytes, Row] = {}
        #: Animals that fixes speak of, by number, as rows of fixes name them.
        self._numbers: dict[str, int] = {}
        self._predictions: dict[str, Prediction] = {}

    def now(self) -> datetime:
        """Return the time by which edits are dated."""
        return self._now()

    async def edit(self, operation: Operation) -> object:
        """Decide and apply ``operation``; return its record afterwards, None if it is deleted."""
        self._do(operation)
        record = self._rows.get(operation.entity, operation.row_id)
        return None if record is None or record.is_deleted else self._value(record)

    # --- phones

    async def pull_phone(self, view: View, ask: PullAsk) -> PullPage:
        """Phones are for real homes."""
        raise NotFound("phones are for real homes")

    async def phone_timestamp(self, view: View) -> int:
        """Phones are for real homes."""
        return 1

    async def push_phone(self, view: View, ask: PushAsk) -> PushResult:
        """Phones are for real homes."""
        raise NotFound("phones are for real homes")

    async def upload_phone(
        self, view: View, ask: UploadAsk, *, sync_id: str, kept: Kept | None, answer: Callable[[Uploaded], bytes]
    ) -> bytes:
        """Phones are for real homes."""
        raise NotFound("phones are for real homes")

    # --- animals

    async def animals(self, view: View, query: AnimalQuery) -> Page[Animal]:
        """List animals."""
        wanted = {
            "species": query.species, "status": query.status, "health_status": query.health_status,
            "gender": query.gender, "collar_id": query.collar_id,
        }  # fmt: skip
        rows = [
            animal
            for animal in self._all_animals()
            if matches(animal, wanted) and is_found(query.search, animal.name, animal.species, animal.collar_id)
        ]
        return page_of(ordered(rows, query.ordering, "animal"), query.offset, query.limit)

    async def animal(self, view: View, animal_id: str) -> Animal:
        """Return one animal; raises NotFound."""
        return self._animal(self._rows.living("animal", animal_id))

    async def live_animals(self, view: View) -> list[LiveAnimal]:
        """Return every active animal that has a usable position."""
        live = []
        for animal in sorted(self._all_animals(), key=lambda animal: (animal.name, animal.id)):
            usable = sorted(
                (fix for fix in self._all_fixes() if fix.animal_id == animal.id and is_usable(fix.flags)),
                key=lambda fix: (fix.recorded_at, fix.id),
            )
            if animal.status == "active" and usable:
                previous = usable[-2] if len(usable) > 1 else None
                live.append(LiveAnimal(animal=animal, fix=usable[-1], previous=previous))
        return live

    # --- collars and deployments

    async def collars(self, view: View, *, search: str | None, offset: int, limit: int) -> Page[Collar]:
        """List collars, by id."""
        rows = [
            collar for collar in map(_collar, self._living("collar")) if is_found(search, collar.id, *collar.aliases)
        ]
        return page_of(sorted(rows, key=lambda row: row.id), offset, limit)

    async def collar(self, view: View, collar_id: str) -> Collar:
        """Return one collar; raises NotFound."""
        return _collar(self._rows.living("collar", collar_id))

    async def deployments(
        self, view: View, *, animal_id: str | None, collar_id: str | None, offset: int, limit: int
    ) -> Page[Deployment]:
        """List deployments, newest first."""
        wanted = {"animal_id": animal_id, "collar_id": collar_id}
        rows = [row for row in map(deployment_of, self._living("deployment")) if matches(row, wanted)]
        return page_of(sorted(rows, key=lambda row: row.started_at, reverse=True), offset, limit)

    async def deployment(self, view: View, deployment_id: str) -> Deployment:
        """Return one deployment; raises NotFound."""
        return deployment_of(self._rows.living("deployment", deployment_id))

    # --- fixes

    async def fixes(self, view: View, query: FixQuery) -> Page[Fix]:
        """List fixes."""
        wanted = {
            "animal_id": query.animal_id, "collar_id": query.collar_id, "source": query.source,
            "activity_type": query.activity_type,
        }  # fmt: skip
        rows = [self._fix(row) for row in self._fixes.values() if query.bbox is None or is_inside(row, query.bbox)]
        rows = [fix for fix in rows if matches(fix, wanted) and self._is_asked_for(fix, query)]
        return page_of(ordered(rows, query.ordering, "fix"), query.offset, query.limit)

    async def fix(self, view: View, fix_id: str) -> Fix:
        """Return one fix; raises NotFound."""
        return self._fix(self._fix_row(fix_id))

    async def add_fixes(self, view: View, fixes: Sequence[NewFix]) -> list[AddedFix]:
        """Store fixes, once each for ever."""
        batch, order = fold_batch([self._row_of(fix) for fix in fixes])
        outcomes = {identity: self._put(row) for identity, row in batch.items()}
        self._settle()
        said = said_again([outcomes[identity] for identity in order], order)
        return [AddedFix(id=id_text(identity), outcome=outcome) for identity, outcome in zip(order, said, strict=True)]

    async def flag_fix(self, view: View, fix_id: str, *, is_excluded: bool) -> Fix:
        """Take a fix out by hand or reinstate it."""
        row = self._fix_row(fix_id)
        row["flags"] = flags_by_hand(row["flags"], is_excluded=is_excluded)
        return self._fix(row)

    # --- observations, zones, corridors, alerts

    async def observations(self, view: View, query: ObservationQuery) -> Page[Observation]:
        """List observations."""
        wanted = {"animal_id": query.animal_id, "observation_type": query.observation_type}
        rows = [
            row
            for row in map(observation_of, self._living("observation"))
            if matches(row, wanted)
            and is_within(row.recorded_at, query.since, query.until)
            and is_found(query.search, row.description, self._column(row.animal_id, "name"))
        ]
        return page_of(ordered(rows, query.ordering, "observation"), query.offset, query.limit)

    async def observation(self, view: View, observation_id: str) -> Observation:
        """Return one observation; raises NotFound."""
        return observation_of(self._rows.living("observation", observation_id))

    async def zones(self, view: View, query: ZoneQuery) -> Page[Zone]:
        """List zones."""
        wanted = {"zone_type": query.zone_type, "risk_level": query.risk_level, "is_active": query.is_active}
        rows = [row for row in map(zone_of, self._living("zone")) if matches(row, wanted)]
        return page_of(ordered(rows, query.ordering, "zone"), query.offset, query.limit)

    async def zone(self, view: View, zone_id: str) -> Zone:
        """Return one zone; raises NotFound."""
        return zone_of(self._rows.living("zone", zone_id))

    async def corridors(self, view: View, query: CorridorQuery) -> Page[Corridor]:
        """List corridors."""
        wanted = {"species": query.species, "status": query.status}
        rows = [
            row
            for row in map(corridor_of, self._living("corridor"))
            if matches(row, wanted) and is_found(query.search, row.name, row.description)
        ]
        return page_of(ordered(rows, query.ordering, "corridor"), query.offset, query.limit)

    async def corridor(self, view: View, corridor_id: str) -> Corridor:
        """Return one corridor; raises NotFound."""
        return corridor_of(self._rows.living("corridor", corridor_id))

    async def areas_near(self, view: View, places: Sequence[Place], reach_m: float) -> list[list[Nearby]]:
        """Return of each place what lies near it, by measuring everything."""
        return [self._near(place, reach_m) for place in places]

    def _near(self, at: Place, reach_m: float) -> list[Nearby]:
        near = [
            nearby_zone((z.id, distance_m(z.geometry, at), z.name, z.zone_type, z.risk_level, z.buffer_m))
            for z in map(zone_of, self._living("zone"))
            if z.is_active
        ]
        near += [
            nearby_corridor(
                (c.id, distance_m(c.geometry, at), c.name, c.species, c.status, 0 if is_area(c.geometry) else c.width_m)
            )
            for c in map(corridor_of, self._living("corridor"))
            if c.geometry is not None
        ]
        near = [each for each in near if each.distance_m <= max(reach_m, each.buffer_m)]
        return sorted(near, key=lambda each: (each.distance_m, each.kind, each.id))

    async def alerts(self, view: View, query: AlertQuery) -> Page[Alert]:
        """List alerts."""
        return page_of(ordered(self._alerts_wanted(query), query.ordering, "alert"), query.offset, query.limit)

    async def alert_counts(self, view: View, query: AlertQuery) -> list[AlertCount]:
        """Count alerts by type, severity and status."""
        counted = Counter((row.alert_type, row.severity, row.status) for row in self._alerts_wanted(query))
        return [AlertCount(*kind, count) for kind, count in counted.items()]

    def _alerts_wanted(self, query: AlertQuery) -> list[Alert]:
        wanted = {
            "animal_id": query.animal_id, "alert_type": query.alert_type, "severity": query.severity,
            "status": query.status,
        }  # fmt: skip
        return [
            row
            for row in map(alert_of, self._living("alert"))
            if matches(row, wanted) and is_within(row.detected_at, query.since, query.until)
        ]

    async def alert(self, view: View, alert_id: str) -> Alert:
        """Return one alert; raises NotFound."""
        return alert_of(self._rows.living("alert", alert_id))

    async def patrols(self, view: View, query: PatrolQuery) -> Page[Patrol]:
        """List patrols."""
        rows = [
            row
            for row in map(patrol_of, self._living("patrol"))
            if matches(row, {"created_by": query.created_by}) and is_within(row.started_at, query.since, query.until)
        ]
        return page_of(ordered(rows, query.ordering, "patrol"), query.offset, query.limit)

    async def patrol(self, view: View, patrol_id: str) -> Patrol:
        """Return one patrol; raises NotFound."""
        return patrol_of(self._rows.living("patrol", patrol_id))

    # --- rangers and their patrols

    async def asked(self, asked: Asked) -> Page[Record]:
        """Return a page of records."""
        rows = [
            record
            for record in self._living(asked.entity)
            if all(value is None or _said(record, name) == value for name, value in asked.equal.items())
            and is_found(asked.search, *(record.columns[name] for name in asked.search_in))
            and (asked.since_ms is None or record.columns["recorded_ms"] >= asked.since_ms)
            and (asked.until_ms is None or record.columns["recorded_ms"] < asked.until_ms)
            and self._is_seen(record, asked.sight)
        ]
        if asked.is_newest:
            newest: dict[str, Record] = {}
            for record in sorted(rows, key=_plausible_last):
                newest[record.columns["ranger_id"]] = record
            known = {ranger.id for ranger in self._living("ranger")}
            rows = [record for record in newest.values() if record.columns["ranger_id"] in known]
        column = ORDERS[asked.entity].get(asked.ordering.removeprefix("-"))
        if column is None:
            raise Invalid(f"ordering: must be one of {', '.join(ORDERS[asked.entity])}, with - for descending")
        ordered = sorted(enumerate(rows), key=lambda row: (_or_last(_said(row[1], column)), row[0]))
        found = [row for _, row in (reversed(ordered) if asked.ordering.startswith("-") else ordered)]
        return page_of(found, asked.offset, asked.limit)

    def _is_seen(self, record: Record, sight: Sight) -> bool:
        if sight.kind != "team":
            return sight.kind == "all"
        mine = [each for each in self._living("ranger") if each.columns["user_id"] == sight.user_id]
        teams = {each.columns["team_id"] for each in mine} - {None}
        mates = {each.id for each in mine} | {
            each.id for each in self._living("ranger") if each.columns["team_id"] in teams
        }
        columns = record.columns
        match record.entity:
            case "team":
                return record.id in teams
            case "ranger":
                return record.id in mates
            case "patrol_route":
                return columns["team_id"] in teams or any(each.id in columns["assigned_rangers"] for each in mine)
            case "patrol_log":
                return columns["reported_by"] == sight.user_id or columns["ranger_id"] in mates
            case _:
                return columns["ranger_id"] in mates

    async def forget_ranger_positions(self, before: datetime) -> int:
        """Remove positions of rangers that were recorded before then."""
        old = [each for each in self._living("ranger_position") if each.columns["recorded_ms"] < to_ms(before)]
        for record in old:
            self._rows.forget(record)
        return len(old)

    # --- predictions

    async def predictions(self, view: View, query: PredictionQuery) -> Page[Prediction]:
        """List what models said."""
        wanted = {
            "animal_id": query.animal_id, "prediction_type": query.prediction_type, "created_by": query.created_by,
        }  # fmt: skip
        rows = [
            row
            for row in self._predictions.values()
            if matches(row, wanted)
            and is_found(query.search, self._column(row.animal_id, "name"), self._column(row.animal_id, "species"))
        ]
        return page_of(ordered(rows, query.ordering, "prediction"), query.offset, query.limit)

    async def prediction(self, view: View, prediction_id: str) -> Prediction:
        """Return one prediction; raises NotFound."""
        for row in self._predictions.values():
            if row.id == prediction_id:
                return row
        raise NotFound(f"there is no prediction {prediction_id}")

    async def keep_prediction(self, view: View, prediction: Prediction, key: str) -> tuple[Prediction, bool]:
        """Keep a prediction, of each key the first."""
        is_new = key not in self._predictions
        return self._predictions.setdefault(key, prediction), is_new

    async def delete_prediction(self, view: View, prediction_id: str) -> None:
        """Delete a prediction; raises NotFound."""
        gone = await self.prediction(view, prediction_id)
        self._predictions = {key: row for key, row in self._predictions.items() if row is not gone}

    # --- records

    async def edit_all(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Decide and apply ``operations``, all or none; return what each did."""
        rows, decided = Rows(self._rows.values()), list[Effects]()
        for operation in operations:
            decided.append(decide(operation, rows))
            rows.take(decided[-1])
        for effects in decided:
            self._rows.take(effects)
        self._settle()
        return [effects.outcome for effects in decided]

    def _do(self, operation: Operation) -> None:
        self._rows.with_fixes = {row["collar"].id for row in self._fixes.values()}
        self._rows.take(decide(operation, self._rows))
        self._settle()

    def _living(self, entity: EntityName) -> list[Record]:
        return [record for record in self._rows.values() if record.entity == entity and not record.is_deleted]

    def _value(self, record: Record) -> object:
        match record.entity:
            case "animal":
                return self._animal(record)
            case "collar":
                return _collar(record)
            case "deployment":
                return deployment_of(record)
            case "observation":
                return observation_of(record)
            case "zone":
                return zone_of(record)
            case "corridor":
                return corridor_of(record)
            case "alert":
                return alert_of(record)
            case "patrol":
                return patrol_of(record)
            case "team":
                return team_of(record)
            case "ranger":
                return ranger_of(record)
            case "ranger_position":
                return ranger_position_of(record)
            case "patrol_log":
                return patrol_log_of(record)
            case "patrol_route":
                return patrol_route_of(record)

    def _all_animals(self) -> list[Animal]:
        return [self._animal(record) for record in self._living("animal")]

    def _animal(self, record: Record) -> Animal:
        worn = (row.columns for row in self._rows.worn("animal_id", record.id))
        return animal_of(record, next((row["collar_id"] for row in worn if row["ended_ms"] is None), None))

    def _column(self, animal_id: str | None, name: str) -> str | None:
        record = None if animal_id is None else self._rows.get("animal", animal_id)
        return None if record is None or record.is_deleted else record.columns[name]

    # --- fixes

    def _row_of(self, fix: NewFix) -> Row:
        collar_id = self._rows.canonical(fix.device.removeprefix("collar:"))
        collar = self._rows.get("collar", collar_id)
        if not collar_id.startswith(STANDS_FOR) and (collar is None or collar.is_deleted):
            self._do(
                Operation(id=random_id(), entity="collar", row_id=collar_id, kind="insert", made_ms=to_ms(self.now()))
            )
        said = None if fix.animal_id is None else self._rows.get("animal", fix.animal_id)
        return row_of(fix, self._facts(collar_id), None if said is None else self._number(said.id))

    def _put(self, row: Row) -> FixOutcome:
        twin = self._fixes.get(row["id"])
        if twin is None:
            self._fixes[row["id"]] = {**row, "flags": 0}
            return "new"
        before = filled(twin, OPTIONAL)
        fold(twin, row)
        return "enriched" if filled(twin, OPTIONAL) > before else "duplicate"

    def _settle(self) -> None:
        """Give each fix to its collar and wearer as they are now, fold those that became one, judge every set anew."""
        facts: dict[str, CollarFacts] = {}
        fixes: dict[bytes, Row] = {}
        for row in self._fixes.values():
            collar_id = self._rows.canonical(row["collar"].id)
            collar = facts.get(collar_id) or facts.setdefault(collar_id, self._facts(collar_id))
            place(row, collar, row["raw_ms"], row["lon_e7"], row["lat_e7"], row["said_animal_pk"])
            twin = fixes.setdefault(row["id"], row)
            if twin is not row:
                fold(twin, row)
                retime(twin)
                twin["flags"] = by_hand_of_both(twin["flags"], row["flags"])
        self._fixes = fixes
        for collar in facts.values():
            rows = [row for row in fixes.values() if row["collar"] is collar]
            for row, flags in zip(rows, judge([judged_columns(row) for row in rows], collar.limits), strict=True):
                row["flags"] = flags | row["flags"] & BY_HAND

    def _facts(self, collar_id: str) -> CollarFacts:
        worn = [row.columns for row in self._rows.worn("collar_id", collar_id)]
        wearer = worn[-1]["animal_id"] if worn else None
        stands_for = None
        if collar_id.startswith(STANDS_FOR):
            wearer = collar_id.removeprefix(STANDS_FOR)
            stands_for = self._number(wearer)
        animal = None if wearer is None else self._rows.get("animal", wearer)
        collar = self._rows.get("collar", collar_id)
        return CollarFacts(
            pk=0,
            id=collar_id,
            stands_for_animal_pk=stands_for,
            wearings=[
                Wearing(row["started_ms"], row["ended_ms"], self._number(row["animal_id"]), row["animal_id"])
                for row in worn
            ],
            limits=limits_of(
                None if animal is None else animal.columns["species"],
                None if collar is None else collar.columns["limits"],
            ),
        )

    def _number(self, animal_id: str) -> int:
        return self._numbers.setdefault(animal_id, len(self._numbers))

    def _all_fixes(self) -> list[Fix]:
        return [self._fix(row) for row in self._fixes.values()]

    def _fix_row(self, fix_id: str) -> Row:
        for identity, row in self._fixes.items():
            if id_text(identity) == fix_id:
                return row
        raise NotFound(f"there is no fix {fix_id}")

    def _fix(self, row: Row) -> Fix:
        animal_id = next((each for each, number in self._numbers.items() if number == row["animal_pk"]), None)
        return Fix(
            id=id_text(row["id"]),
            collar_id=row["collar"].id,
            animal_id=None if self._column(animal_id, "name") is None else animal_id,
            recorded_at=from_ms(row["recorded_ms"]),
            raw_recorded_at=from_ms(row["raw_ms"]),
            received_at=from_ms(row["received_ms"]),
            network_time=None if row["network_ms"] is None else from_ms(row["network_ms"]),
            lon_deg=degrees(row["lon_e7"]),
            lat_deg=degrees(row["lat_e7"]),
            **{name: row[name] for name in (*OPTIONAL, "source", "flags")},
        )

    def _is_asked_for(self, fix: Fix, query: FixQuery) -> bool:
        collar_id = None if fix.collar_id.startswith(STANDS_FOR) else fix.collar_id
        return (
            is_within(fix.recorded_at, query.since, query.until)
            and (query.is_usable is None or is_usable(fix.flags) == query.is_usable)
            and is_found(
                query.search, self._column(fix.animal_id, "name"), self._column(fix.animal_id, "species"), collar_id
            )
        )


def _collar(record: Record) -> Collar:
    return collar_of(record, last_heard_ms=None, battery_mv=None, battery_pct=None, firmware=None)


def _said(record: Record, name: str) -> Any:
    return record.columns[name] if name in record.columns else getattr(record, name)


def _or_last(value: Any) -> Any:
    return 2**62 if value is None else value


def _plausible_last(record: Record) -> tuple[bool, int]:
    """Order so that of each ranger the last is the newest that no wrong clock has dated."""
    recorded_ms = record.columns["recorded_ms"]
    return recorded_ms <= record.created_ms + AHEAD_MS, recorded_ms
