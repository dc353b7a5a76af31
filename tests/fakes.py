"""Doubles of our own protocols: small classes, no mocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from edge.api.health import ClockHealth, DiskHealth, HealthDetail, LedgerHealth, Status, StoreHealth
from shared.clock import ClockState
from shared.domain import (
    EXCLUDING,
    AddedFix,
    Animal,
    Collar,
    Deployment,
    Fix,
    FixFlag,
    NewFix,
    Observation,
    is_usable,
)
from shared.errors import Conflict, Invalid, NotFound
from shared.ids import fix_id, id_text, random_id
from shared.movement.quality import Judged, judge, limits_for
from shared.privacy import View
from shared.store import AnimalQuery, BoundingBox, FixQuery, LiveAnimal, ObservationQuery, Page

T = TypeVar("T")
Record = TypeVar("Record", Animal, Collar, Deployment, Observation)

START = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_BY_HAND = FixFlag.EXCLUDED_BY_HAND | FixFlag.REINSTATED
_RICH = (
    "alt_m", "speed_mps", "heading_deg", "hdop", "pdop", "sats", "h_acc_m", "seq", "battery_mv", "battery_pct",
    "temperature_c",
)  # fmt: skip
_FILLED = (*_RICH, "rssi_dbm", "snr_db", "network_time", "local_id", "activity_type", "notes", "link")
_ANIMAL_ORDERS = {name: name for name in ("name", "species", "status", "created_at", "updated_at")}
_FIX_ORDERS = {"timestamp": "recorded_at", "received_at": "received_at", "created_at": "id"}
_OBSERVATION_ORDERS = {"timestamp": "recorded_at", "created_at": "created_at"}


class FakeClock:
    """A clock that a test sets."""

    def __init__(self, now: datetime = START, state: ClockState = ClockState.NTP) -> None:
        self.at = now
        self.seconds = 0.0
        self._state = state

    def now(self) -> datetime:
        """Return the time that was set."""
        return self.at

    def monotonic(self) -> float:
        """Return seconds that never step."""
        return self.seconds

    @property
    def state(self) -> ClockState:
        """Return how far ``now`` can be trusted."""
        return self._state

    def set_state(self, state: ClockState) -> None:
        """Change how far ``now`` can be trusted."""
        self._state = state

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)
        self.seconds += seconds


class FakeHealth:
    """A station that is as well as a test says."""

    def __init__(self) -> None:
        self.is_up = True
        self.word: Status = "ok"

    def is_ready(self) -> bool:
        """Say what the test said."""
        return self.is_up

    def status(self) -> Status:
        """Say what the test said."""
        return self.word

    async def detail(self) -> HealthDetail:
        """Return a detail with that word."""
        return HealthDetail(
            status=self.word,
            reasons=[],
            version="0",
            uptime_s=1.0,
            clock=ClockHealth(now=START, state=ClockState.NTP, is_sure=True, uncertainty_s=1.0),
            disk=DiskHealth(path="/var/lib/outpost", free_bytes=1, total_bytes=2),
            ledger=LedgerHealth(frames=0, pending=0, undecoded=0),
            store=StoreHealth(schema=1, fixes=0, animals=0, size_bytes=0, is_encrypted=True, check=None),
            links=[],
        )


class InMemoryStore:
    """The whole Store protocol over dictionaries; it judges every collar anew after every change."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._animals: dict[str, Animal] = {}
        self._collars: dict[str, Collar] = {}
        self._aliases: dict[str, str] = {}
        self._deployments: dict[str, Deployment] = {}
        self._observations: dict[str, Observation] = {}
        self._fixes: dict[str, Fix] = {}
        #: What was handed in under each fix's id; judged from this, so that adoption can be done over.
        self._handed_in: dict[str, NewFix] = {}

    # --- animals

    async def animals(self, view: View, query: AnimalQuery) -> Page[Animal]:
        """List animals."""
        wanted = {
            "species": query.species, "status": query.status, "health_status": query.health_status,
            "gender": query.gender, "collar_id": query.collar_id,
        }  # fmt: skip
        rows = [
            animal
            for animal in map(self._with_collar, self._animals.values())
            if _matches(animal, wanted) and _found(query.search, animal.name, animal.species, animal.collar_id)
        ]
        return _page(_ordered(rows, query.ordering, _ANIMAL_ORDERS), query.offset, query.limit)

    async def animal(self, view: View, animal_id: str) -> Animal:
        """Return one animal; raises NotFound."""
        return self._with_collar(_one(self._animals, animal_id, "animal"))

    async def create_animal(self, view: View, columns: dict[str, Any]) -> Animal:
        """Store a new animal."""
        given = {name: value for name, value in columns.items() if value is not None}
        collar_id = given.pop("collar_id", None)
        given = {"created_by": view.principal.user_id, "id": random_id(), **given, **self._made()}
        animal = Animal(**given)
        if animal.id in self._animals:
            raise Conflict(f"animal {animal.id} exists")
        if collar_id is not None:
            self._check_interval(self._collar_id(collar_id), animal.id, self._now(), None)
        self._animals[animal.id] = animal
        self._wear(animal.id, collar_id)
        return self._with_collar(animal)

    async def update_animal(self, view: View, animal_id: str, columns: dict[str, Any]) -> Animal:
        """Change the given columns."""
        animal = _one(self._animals, animal_id, "animal")
        changed = dict(columns)
        has_collar = "collar_id" in changed
        collar_id = changed.pop("collar_id", None)
        if has_collar:
            self._wear(animal_id, collar_id)
        self._animals[animal_id] = self._changed(animal, changed)
        self._judge_all()
        return self._with_collar(self._animals[animal_id])

    async def delete_animal(self, view: View, animal_id: str) -> None:
        """Forget the animal and its deployments."""
        _one(self._animals, animal_id, "animal")
        del self._animals[animal_id]
        for deployment in [row for row in self._deployments.values() if row.animal_id == animal_id]:
            del self._deployments[deployment.id]
        self._judge_all()

    async def live_animals(self, view: View) -> list[LiveAnimal]:
        """Return every active animal that has a usable position."""
        live = []
        for animal in sorted(self._animals.values(), key=lambda animal: (animal.name, animal.id)):
            usable = sorted(
                (fix for fix in self._fixes.values() if fix.animal_id == animal.id and is_usable(fix.flags)),
                key=lambda fix: (fix.recorded_at, fix.id),
            )
            if animal.status == "active" and usable:
                previous = usable[-2] if len(usable) > 1 else None
                live.append(LiveAnimal(animal=self._with_collar(animal), fix=usable[-1], previous=previous))
        return live

    # --- collars

    async def collars(self, view: View, *, search: str | None, offset: int, limit: int) -> Page[Collar]:
        """List collars, by id."""
        rows = [row for row in self._collars.values() if _found(search, row.id, *row.aliases)]
        return _page(sorted(rows, key=lambda row: row.id), offset, limit)

    async def collar(self, view: View, collar_id: str) -> Collar:
        """Return one collar; raises NotFound."""
        return _one(self._collars, collar_id, "collar")

    async def put_collar(self, view: View, collar_id: str, columns: dict[str, Any]) -> Collar:
        """Create or change a collar."""
        if collar_id in self._aliases:
            raise Conflict(f"{collar_id} is an alias of collar {self._aliases[collar_id]}")
        for alias in columns.get("aliases", ()):
            if self._aliases.get(alias, collar_id) != collar_id:
                raise Conflict(f"aliases: {alias} belongs to collar {self._aliases[alias]}")
        known = self._collars.get(collar_id) or Collar(id=collar_id, **self._made())
        self._collars[collar_id] = self._changed(known, columns)
        if "aliases" in columns:
            self._set_aliases(collar_id, tuple(columns["aliases"]))
        return self._collars[collar_id]

    async def delete_collar(self, view: View, collar_id: str) -> None:
        """Forget a collar; Conflict while it has fixes or deployments."""
        _one(self._collars, collar_id, "collar")
        if any(fix.collar_id == collar_id for fix in self._fixes.values()):
            raise Conflict(f"collar {collar_id} has fixes")
        if any(row.collar_id == collar_id for row in self._deployments.values()):
            raise Conflict(f"collar {collar_id} has deployments")
        self._set_aliases(collar_id, ())
        del self._collars[collar_id]

    # --- deployments

    async def deployments(
        self, view: View, *, animal_id: str | None, collar_id: str | None, offset: int, limit: int
    ) -> Page[Deployment]:
        """List deployments, newest first."""
        wanted = {"animal_id": animal_id, "collar_id": collar_id}
        rows = [row for row in self._deployments.values() if _matches(row, wanted)]
        return _page(sorted(rows, key=lambda row: row.started_at, reverse=True), offset, limit)

    async def deployment(self, view: View, deployment_id: str) -> Deployment:
        """Return one deployment; raises NotFound."""
        return _one(self._deployments, deployment_id, "deployment")

    async def create_deployment(self, view: View, columns: dict[str, Any]) -> Deployment:
        """Store a deployment; its fixes are adopted."""
        given = {"ended_at": None, "id": random_id(), **columns, **self._made()}
        given["collar_id"] = self._collar_id(given["collar_id"])
        deployment = Deployment(**given)
        _one(self._animals, deployment.animal_id, "animal")
        self._check(deployment)
        self._know(deployment.collar_id)
        self._deployments[deployment.id] = deployment
        self._judge_all()
        return deployment

    async def update_deployment(self, view: View, deployment_id: str, columns: dict[str, Any]) -> Deployment:
        """Change a deployment."""
        changed = self._changed(_one(self._deployments, deployment_id, "deployment"), columns)
        _one(self._animals, changed.animal_id, "animal")
        self._check(changed)
        self._know(changed.collar_id)
        self._deployments[deployment_id] = changed
        self._judge_all()
        return changed

    async def delete_deployment(self, view: View, deployment_id: str) -> None:
        """Forget a deployment; its fixes go back to the collar alone."""
        _one(self._deployments, deployment_id, "deployment")
        del self._deployments[deployment_id]
        self._judge_all()

    # --- fixes

    async def fixes(self, view: View, query: FixQuery) -> Page[Fix]:
        """List fixes."""
        wanted = {
            "animal_id": query.animal_id, "collar_id": query.collar_id, "source": query.source,
            "activity_type": query.activity_type,
        }  # fmt: skip
        rows = [fix for fix in self._fixes.values() if _matches(fix, wanted) and self._is_asked_for(fix, query)]
        return _page(_ordered(rows, query.ordering, _FIX_ORDERS), query.offset, query.limit)

    async def fix(self, view: View, fix_id: str) -> Fix:
        """Return one fix; raises NotFound."""
        return _one(self._fixes, fix_id, "fix")

    async def add_fixes(self, view: View, fixes: Sequence[NewFix]) -> list[AddedFix]:
        """Store fixes, once each for ever."""
        answers = [self._add(replace(fix, device=self._collar_id(fix.device))) for fix in fixes]
        self._judge_all()
        return answers

    async def flag_fix(self, view: View, fix_id: str, *, is_excluded: bool) -> Fix:
        """Take a fix out by hand or reinstate it."""
        fix = _one(self._fixes, fix_id, "fix")
        by_rules = fix.flags & ~_BY_HAND
        if is_excluded:
            by_hand = FixFlag.EXCLUDED_BY_HAND
        else:
            by_hand = FixFlag.REINSTATED if by_rules & EXCLUDING else FixFlag(0)
        self._fixes[fix_id] = replace(fix, flags=int(by_rules | by_hand))
        return self._fixes[fix_id]

    # --- observations

    async def observations(self, view: View, query: ObservationQuery) -> Page[Observation]:
        """List observations."""
        wanted = {"animal_id": query.animal_id, "observation_type": query.observation_type}
        rows = [
            row
            for row in self._observations.values()
            if _matches(row, wanted)
            and _is_within(row.recorded_at, query.since, query.until)
            and _found(query.search, row.description, self._name(row.animal_id))
        ]
        return _page(_ordered(rows, query.ordering, _OBSERVATION_ORDERS), query.offset, query.limit)

    async def observation(self, view: View, observation_id: str) -> Observation:
        """Return one observation; raises NotFound."""
        return _one(self._observations, observation_id, "observation")

    async def create_observation(self, view: View, columns: dict[str, Any]) -> Observation:
        """Store an observation."""
        given = {"id": random_id(), "observer": view.principal.user_id, **columns, **self._made()}
        observation = Observation(**given)
        self._observations[observation.id] = observation
        return observation

    async def update_observation(self, view: View, observation_id: str, columns: dict[str, Any]) -> Observation:
        """Change the given columns."""
        changed = self._changed(_one(self._observations, observation_id, "observation"), columns)
        self._observations[observation_id] = changed
        return changed

    async def delete_observation(self, view: View, observation_id: str) -> None:
        """Forget an observation."""
        _one(self._observations, observation_id, "observation")
        del self._observations[observation_id]

    # --- what they share

    def _made(self) -> dict[str, Any]:
        return {"created_at": self._now(), "updated_at": self._now()}

    def _changed(self, row: Record, columns: dict[str, Any]) -> Record:
        return replace(row, **{**columns, "rev": row.rev + 1, "updated_at": self._now()})

    def _with_collar(self, animal: Animal) -> Animal:
        worn = self._open_deployment(animal.id)
        return replace(animal, collar_id=worn.collar_id if worn else None)

    def _open_deployment(self, animal_id: str) -> Deployment | None:
        rows = (row for row in self._deployments.values() if row.animal_id == animal_id and row.ended_at is None)
        return next(rows, None)

    def _wear(self, animal_id: str, collar_id: str | None) -> None:
        """End the animal's open deployment unless it is of this collar already, and open one from now."""
        wanted = None if collar_id is None else self._collar_id(collar_id)
        worn = self._open_deployment(animal_id)
        if worn and worn.collar_id == wanted:
            return
        if wanted is not None:
            self._check_interval(wanted, animal_id, self._now(), None, but=worn)
            self._know(wanted)
        if worn:
            self._deployments[worn.id] = self._changed(worn, {"ended_at": self._now()})
        if wanted is not None:
            opened = Deployment(
                id=random_id(), collar_id=wanted, animal_id=animal_id, started_at=self._now(), ended_at=None,
                **self._made(),
            )  # fmt: skip
            self._deployments[opened.id] = opened
        self._judge_all()

    def _check(self, deployment: Deployment) -> None:
        if deployment.ended_at is not None and deployment.ended_at <= deployment.started_at:
            raise Invalid("ended_at: must be later than started_at")
        self._check_interval(
            deployment.collar_id, deployment.animal_id, deployment.started_at, deployment.ended_at, but=deployment
        )

    def _check_interval(
        self,
        collar_id: str,
        animal_id: str,
        started_at: datetime,
        ended_at: datetime | None,
        *,
        but: Deployment | None = None,
    ) -> None:
        for row in self._deployments.values():
            if but is not None and row.id == but.id:
                continue
            shares = row.collar_id == collar_id or row.animal_id == animal_id
            if (
                shares
                and (ended_at is None or row.started_at < ended_at)
                and (row.ended_at is None or started_at < row.ended_at)
            ):
                raise Conflict(f"the collar or the animal is taken then: deployment {row.id}")

    def _collar_id(self, device: str) -> str:
        name = device.removeprefix("collar:")
        return self._aliases.get(name, name)

    def _know(self, collar_id: str) -> None:
        if not collar_id.startswith("animal:"):
            self._collars.setdefault(collar_id, Collar(id=collar_id, **self._made()))

    def _set_aliases(self, collar_id: str, aliases: tuple[str, ...]) -> None:
        self._aliases = {alias: owner for alias, owner in self._aliases.items() if owner != collar_id}
        self._aliases |= dict.fromkeys(aliases, collar_id)
        moved = [self._handed_in.pop(key) for key, fix in list(self._fixes.items()) if fix.collar_id in aliases]
        self._fixes = {key: fix for key, fix in self._fixes.items() if fix.collar_id not in aliases}
        for alias in aliases:
            self._collars.pop(alias, None)
            for row in [row for row in self._deployments.values() if row.collar_id == alias]:
                self._deployments[row.id] = replace(row, collar_id=collar_id)
        for fix in moved:
            self._add(replace(fix, device=collar_id))
        self._judge_all()

    def _add(self, fix: NewFix) -> AddedFix:
        raw_ms = (fix.recorded_at - _EPOCH) // _MS
        fix = replace(fix, recorded_at=_EPOCH + raw_ms * _MS)
        identity = id_text(fix_id(fix.device, raw_ms, _e7(fix.lon_deg), _e7(fix.lat_deg)))
        known = self._handed_in.get(identity)
        if known is None:
            self._know(fix.device)
            self._handed_in[identity] = fix
            self._fixes[identity] = _as_stored(identity, fix)
            return AddedFix(id=identity, outcome="new")
        news = {
            name: value
            for name in _FILLED
            if getattr(known, name) is None and (value := getattr(fix, name)) is not None
        }
        merged = replace(known, **news, received_at=min(known.received_at, fix.received_at))
        self._handed_in[identity] = merged
        self._fixes[identity] = replace(_as_stored(identity, merged), flags=self._fixes[identity].flags)
        return AddedFix(id=identity, outcome="enriched" if news.keys() - {"network_time"} else "duplicate")

    def _judge_all(self) -> None:
        """Give every fix to whoever wore its collar then and judge every collar's fixes as a set."""
        by_collar: dict[str, list[Fix]] = {}
        for key, fix in self._fixes.items():
            owned = replace(fix, animal_id=self._owner(fix, self._handed_in[key].animal_id))
            self._fixes[key] = owned
            by_collar.setdefault(fix.collar_id, []).append(owned)
        for fixes in by_collar.values():
            animal_id = next((fix.animal_id for fix in reversed(fixes) if fix.animal_id), None)
            limits = limits_for(self._animals[animal_id].species if animal_id else None)
            for fix, flags in zip(fixes, judge([self._judged(fix) for fix in fixes], limits), strict=True):
                self._fixes[fix.id] = replace(fix, flags=flags | fix.flags & int(_BY_HAND))

    def _owner(self, fix: Fix, said: str | None) -> str | None:
        for row in self._deployments.values():
            covers = row.started_at <= fix.recorded_at and (row.ended_at is None or fix.recorded_at < row.ended_at)
            if row.collar_id == fix.collar_id and covers:
                return row.animal_id
        return said if said in self._animals else None

    def _judged(self, fix: Fix) -> Judged:
        handed_in = self._handed_in[fix.id]
        time_ms = (fix.recorded_at - _EPOCH) // _MS
        return Judged(
            id=fix.id.encode(), time_ms=time_ms, raw_ms=time_ms, lon_e7=_e7(fix.lon_deg), lat_e7=_e7(fix.lat_deg),
            hdop=fix.hdop, pdop=fix.pdop, sats=fix.sats, h_acc_m=fix.h_acc_m, seq=fix.seq,
            received_ms=(fix.received_at - _EPOCH) // _MS if handed_in.is_clock_sure else None,
            is_clock_unset=handed_in.is_clock_unset,
            richness=sum(getattr(fix, name) is not None for name in _RICH),
        )  # fmt: skip

    def _is_asked_for(self, fix: Fix, query: FixQuery) -> bool:
        species = self._animals[fix.animal_id].species if fix.animal_id else None
        return (
            _is_within(fix.recorded_at, query.since, query.until)
            and (query.is_usable is None or is_usable(fix.flags) == query.is_usable)
            and (query.bbox is None or _is_inside(fix, query.bbox))
            and _found(query.search, self._name(fix.animal_id), species, fix.collar_id)
        )

    def _name(self, animal_id: str | None) -> str | None:
        return self._animals[animal_id].name if animal_id in self._animals else None


def _as_stored(identity: str, fix: NewFix) -> Fix:
    given = msgspec.structs.asdict(fix)
    for name in ("device", "is_clock_sure", "is_clock_unset"):
        del given[name]
    lon_e7, lat_e7 = _e7(fix.lon_deg), _e7(fix.lat_deg)
    given |= {
        "lon_deg": None if lon_e7 is None else lon_e7 / 1e7,
        "lat_deg": None if lat_e7 is None else lat_e7 / 1e7,
    }
    return Fix(id=identity, collar_id=fix.device, raw_recorded_at=fix.recorded_at, flags=0, **given)


def _e7(degrees: float | None) -> int | None:
    return None if degrees is None else round(degrees * 1e7)


def _one(rows: dict[str, T], identity: str, what: str) -> T:
    if identity not in rows:
        raise NotFound(f"there is no {what} {identity}")
    return rows[identity]


def _matches(row: object, wanted: dict[str, Any]) -> bool:
    return all(value is None or getattr(row, name) == value for name, value in wanted.items())


def _found(search: str | None, *texts: str | None) -> bool:
    return not search or any(text and search.lower() in text.lower() for text in texts)


def _is_within(instant: datetime, since: datetime | None, until: datetime | None) -> bool:
    return (since is None or since <= instant) and (until is None or instant < until)


def _is_inside(fix: Fix, box: BoundingBox) -> bool:
    if fix.lon_deg is None or fix.lat_deg is None or fix.flags & FixFlag.OUT_OF_RANGE:
        return False
    if box.west <= box.east:
        is_between = box.west <= fix.lon_deg <= box.east
    else:
        is_between = fix.lon_deg >= box.west or fix.lon_deg <= box.east
    return is_between and box.south <= fix.lat_deg <= box.north


def _ordered(rows: Iterable[T], ordering: str, columns: dict[str, str]) -> list[T]:
    column = columns.get(ordering.removeprefix("-"))
    if column is None:
        raise Invalid(f"ordering: must be one of {', '.join(columns)}, with - for descending")
    # Python's sort is stable in both directions; ties go by age, like a database's row numbers.
    ordered = sorted(enumerate(rows), key=lambda row: (getattr(row[1], column), row[0]))
    return [row for _, row in (reversed(ordered) if ordering.startswith("-") else ordered)]


def _page(rows: list[T], offset: int, limit: int) -> Page[T]:
    return Page(len(rows), rows[offset : offset + limit])
