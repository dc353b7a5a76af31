"""What station and cloud both do with their database, as one protocol.

Reads take a ``View``. Writes are one transaction each, durable when the call returns, and raise what went wrong
(``NotFound``, ``Conflict``, ``Invalid``, ``StoreFull``). Lists are paged; ``count`` is the size of the whole answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import msgspec

from shared.domain import (
    AddedFix,
    Alert,
    AlertStatus,
    AlertType,
    Animal,
    Collar,
    Corridor,
    Deployment,
    DutyStatus,
    Fix,
    NewFix,
    Observation,
    Patrol,
    PatrolLog,
    PatrolRoute,
    Prediction,
    Ranger,
    RangerPosition,
    Severity,
    Team,
    Zone,
)
from shared.movement.areas import Nearby, Place
from shared.privacy import View

if TYPE_CHECKING:  # what phones push is read as the API's own bodies are, and those know the lists of this module
    from shared.sync.phone.pull import PullAsk, PullPage
    from shared.sync.phone.push import PushAsk, PushResult
    from shared.sync.phone.upload import Kept, UploadAsk, Uploaded

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list and the number of rows in all."""

    count: int
    results: list[T]


class BoundingBox(msgspec.Struct, frozen=True, kw_only=True):
    """Degrees, WGS 84; ``west`` may exceed ``east`` where the box crosses the antimeridian."""

    west: float
    south: float
    east: float
    north: float


class AnimalQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filters and order of a list of animals; ``search`` looks in name, species and collar id."""

    species: str | None = None
    status: str | None = None
    health_status: str | None = None
    gender: str | None = None
    collar_id: str | None = None
    search: str | None = None
    ordering: str = "-created_at"
    offset: int = 0
    limit: int = 20


class FixQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filters and order of a list of fixes; ``since`` is inclusive, ``until`` exclusive."""

    animal_id: str | None = None
    collar_id: str | None = None
    source: str | None = None
    activity_type: str | None = None
    search: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    bbox: BoundingBox | None = None
    is_usable: bool | None = None
    ordering: str = "-timestamp"
    offset: int = 0
    limit: int = 20


class ObservationQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filters of a list of observations, newest first."""

    animal_id: str | None = None
    observation_type: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    search: str | None = None
    ordering: str = "-timestamp"
    offset: int = 0
    limit: int = 20


class ZoneQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filters of a list of zones."""

    zone_type: str | None = None
    risk_level: str | None = None
    is_active: bool | None = None
    ordering: str = "-created_at"
    offset: int = 0
    limit: int = 20


class CorridorQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filters of a list of corridors; ``search`` looks in the name, and in the description for who is shown it."""

    species: str | None = None
    status: str | None = None
    search: str | None = None
    ordering: str = "-created_at"
    offset: int = 0
    limit: int = 20


class AlertQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filters of a list of alerts, newest first; ``since`` is inclusive, ``until`` exclusive, of their detection."""

    animal_id: str | None = None
    alert_type: str | None = None
    severity: str | None = None
    status: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ordering: str = "-detected_at"
    offset: int = 0
    limit: int = 20


class PatrolQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filters of a list of patrols, newest first; ``since`` is inclusive, ``until`` exclusive, of their beginning."""

    created_by: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ordering: str = "-started_at"
    offset: int = 0
    limit: int = 20


class PredictionQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filters of a list of predictions; ``search`` looks in name and species of the animal."""

    animal_id: str | None = None
    prediction_type: str | None = None
    created_by: str | None = None
    search: str | None = None
    ordering: str = "-created_at"
    offset: int = 0
    limit: int = 20


class AlertCount(msgspec.Struct, frozen=True):
    """How many alerts are of one type, severity and status; at least one."""

    alert_type: AlertType
    severity: Severity
    status: AlertStatus
    count: int


class LiveAnimal(msgspec.Struct, frozen=True, kw_only=True):
    """An active animal and its newest usable fix, with the one before it for speed and heading."""

    animal: Animal
    fix: Fix
    previous: Fix | None


class TeamQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filters and order of a list of teams; ``search`` looks in name and description."""

    is_active: bool | None = None
    search: str | None = None
    ordering: str = "name"
    offset: int = 0
    limit: int = 20


class RangerQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filters and order of a list of rangers; ``search`` looks in name and badge."""

    current_status: str | None = None
    team_id: str | None = None
    user_id: str | None = None
    search: str | None = None
    ordering: str = "name"
    offset: int = 0
    limit: int = 20


class RangerPositionQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filters of a list of rangers' positions, newest first."""

    ranger_id: str | None = None
    activity_type: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ordering: str = "-timestamp"
    offset: int = 0
    limit: int = 20


class PatrolLogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filters of a list of lines of patrol logs, newest first; ``search`` looks in title and description."""

    log_type: str | None = None
    priority: str | None = None
    is_resolved: bool | None = None
    ranger_id: str | None = None
    team_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    search: str | None = None
    ordering: str = "-timestamp"
    offset: int = 0
    limit: int = 20


class PatrolRouteQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filters of a list of planned patrols, the latest first; ``search`` looks in name and description."""

    status: str | None = None
    team_id: str | None = None
    search: str | None = None
    ordering: str = "-scheduled_start"
    offset: int = 0
    limit: int = 20


class LiveRanger(msgspec.Struct, frozen=True, kw_only=True):
    """A ranger with the newest position and the emergencies that nobody has resolved."""

    ranger: Ranger
    team: Team | None
    position: RangerPosition | None
    emergencies: tuple[PatrolLog, ...] = ()


class RecordEdit(msgspec.Struct, frozen=True, kw_only=True):
    """One of several edits that are done together: ``row_id`` None enters a record, columns without it change one."""

    entity: str
    columns: dict[str, Any]
    row_id: str | None = None
    is_new: bool = False


class Store(Protocol):
    """The database of a home."""

    async def pull_phone(self, view: View, ask: PullAsk) -> PullPage:
        """Return one page of what a phone may see, in one snapshot; Invalid where the page is of another pull."""
        ...

    async def phone_timestamp(self, view: View) -> int:
        """Return the timestamp that a pull of this moment would have."""
        ...

    async def push_phone(self, view: View, ask: PushAsk) -> PushResult:
        """Take what a phone pushed, in one transaction; raises PullFirst."""
        ...

    async def upload_phone(
        self, view: View, ask: UploadAsk, *, sync_id: str, kept: Kept | None, answer: Callable[[Uploaded], bytes]
    ) -> bytes:
        """Take an upload in one transaction and return what ``answer`` makes of it; raises KeyReused.

        ``sync_id`` is its line in the log; ``kept`` how its sender named it, so that a repeat is told the same.
        """
        ...

    async def animals(self, view: View, query: AnimalQuery) -> Page[Animal]:
        """List animals."""
        ...

    async def animal(self, view: View, animal_id: str) -> Animal:
        """Return one animal; raises NotFound."""
        ...

    async def create_animal(self, view: View, columns: dict[str, Any]) -> Animal:
        """Store a new animal. ``collar_id`` also opens a deployment from now; Conflict if that collar is in use."""
        ...

    async def update_animal(self, view: View, animal_id: str, columns: dict[str, Any]) -> Animal:
        """Change the given columns; a new ``collar_id`` ends the old deployment and opens one, None ends it."""
        ...

    async def delete_animal(self, view: View, animal_id: str) -> None:
        """Leave a tombstone; the animal's fixes stay, under their collar."""
        ...

    async def live_animals(self, view: View) -> list[LiveAnimal]:
        """Return every active animal that has a usable position."""
        ...

    async def collars(self, view: View, *, search: str | None, offset: int, limit: int) -> Page[Collar]:
        """List collars, by id."""
        ...

    async def collar(self, view: View, collar_id: str) -> Collar:
        """Return one collar; raises NotFound."""
        ...

    async def put_collar(self, view: View, collar_id: str, columns: dict[str, Any]) -> Collar:
        """Create or change a collar. ``aliases`` replaces its radio ids; fixes heard under them are re-keyed to it."""
        ...

    async def delete_collar(self, view: View, collar_id: str) -> None:
        """Leave a tombstone; Conflict while the collar has fixes or an open deployment."""
        ...

    async def deployments(
        self, view: View, *, animal_id: str | None, collar_id: str | None, offset: int, limit: int
    ) -> Page[Deployment]:
        """List deployments, newest first."""
        ...

    async def deployment(self, view: View, deployment_id: str) -> Deployment:
        """Return one deployment; raises NotFound."""
        ...

    async def create_deployment(self, view: View, columns: dict[str, Any]) -> Deployment:
        """Store a deployment, also in the past: its fixes are adopted. Conflict if the collar is worn then."""
        ...

    async def update_deployment(self, view: View, deployment_id: str, columns: dict[str, Any]) -> Deployment:
        """Change a deployment; the fixes of its collar are given to whoever wears it now."""
        ...

    async def delete_deployment(self, view: View, deployment_id: str) -> None:
        """Leave a tombstone; its fixes go back to their collar alone."""
        ...

    async def fixes(self, view: View, query: FixQuery) -> Page[Fix]:
        """List fixes."""
        ...

    async def fix(self, view: View, fix_id: str) -> Fix:
        """Return one fix; raises NotFound."""
        ...

    async def add_fixes(self, view: View, fixes: Sequence[NewFix]) -> list[AddedFix]:
        """Store fixes, once each for ever, and say of each in order what became of it.

        ``enriched``: it was there and this copy filled at least one of its empty columns.
        """
        ...

    async def flag_fix(self, view: View, fix_id: str, *, is_excluded: bool) -> Fix:
        """Take a fix out by hand (True) or reinstate it against the rules (False)."""
        ...

    async def observations(self, view: View, query: ObservationQuery) -> Page[Observation]:
        """List observations."""
        ...

    async def observation(self, view: View, observation_id: str) -> Observation:
        """Return one observation; raises NotFound."""
        ...

    async def create_observation(self, view: View, columns: dict[str, Any]) -> Observation:
        """Store an observation."""
        ...

    async def update_observation(self, view: View, observation_id: str, columns: dict[str, Any]) -> Observation:
        """Change the given columns."""
        ...

    async def delete_observation(self, view: View, observation_id: str) -> None:
        """Leave a tombstone."""
        ...

    async def zones(self, view: View, query: ZoneQuery) -> Page[Zone]:
        """List zones."""
        ...

    async def zone(self, view: View, zone_id: str) -> Zone:
        """Return one zone; raises NotFound."""
        ...

    async def create_zone(self, view: View, columns: dict[str, Any]) -> Zone:
        """Store a zone; Invalid unless ``geometry`` is a GeoJSON Polygon or MultiPolygon."""
        ...

    async def update_zone(self, view: View, zone_id: str, columns: dict[str, Any]) -> Zone:
        """Change the given columns."""
        ...

    async def delete_zone(self, view: View, zone_id: str) -> None:
        """Leave a tombstone."""
        ...

    async def corridors(self, view: View, query: CorridorQuery) -> Page[Corridor]:
        """List corridors."""
        ...

    async def corridor(self, view: View, corridor_id: str) -> Corridor:
        """Return one corridor; raises NotFound."""
        ...

    async def create_corridor(self, view: View, columns: dict[str, Any]) -> Corridor:
        """Store a corridor; Invalid unless ``geometry`` is GeoJSON lines or areas, or start and end are given."""
        ...

    async def update_corridor(self, view: View, corridor_id: str, columns: dict[str, Any]) -> Corridor:
        """Change the given columns; Invalid where neither geometry nor both ends would be left."""
        ...

    async def delete_corridor(self, view: View, corridor_id: str) -> None:
        """Leave a tombstone."""
        ...

    async def areas_near(self, view: View, places: Sequence[Place], reach_m: float) -> list[list[Nearby]]:
        """Return of each place the active zones and the corridors near it, the nearest first.

        Near is within ``reach_m`` of the edge, or within a zone's own buffer.
        """
        ...

    async def alerts(self, view: View, query: AlertQuery) -> Page[Alert]:
        """List alerts."""
        ...

    async def alert_counts(self, view: View, query: AlertQuery) -> list[AlertCount]:
        """Count the alerts that ``query`` finds, whatever its page and order, by type, severity and status."""
        ...

    async def alert(self, view: View, alert_id: str) -> Alert:
        """Return one alert; raises NotFound."""
        ...

    async def create_alert(self, view: View, columns: dict[str, Any]) -> Alert:
        """Store an alert; its animal and zone need not be known yet."""
        ...

    async def update_alert(
        self, view: View, alert_id: str, columns: dict[str, Any], *, if_rev: int | None = None
    ) -> Alert:
        """Change the given columns: acknowledge, resolve, note. Alerts are never deleted.

        Raises RecordMoved where the alert is not at revision ``if_rev`` any more.
        """
        ...

    # --- rangers and their patrols: who sees which row is decided by ``view``

    async def teams(self, view: View, query: TeamQuery) -> Page[Team]:
        """List teams."""
        ...

    async def team(self, view: View, team_id: str) -> Team:
        """Return one team; raises NotFound."""
        ...

    async def rangers(self, view: View, query: RangerQuery) -> Page[Ranger]:
        """List rangers."""
        ...

    async def ranger(self, view: View, ranger_id: str) -> Ranger:
        """Return one ranger; raises NotFound."""
        ...

    async def ranger_positions(self, view: View, query: RangerPositionQuery) -> Page[RangerPosition]:
        """List positions of rangers."""
        ...

    async def ranger_position(self, view: View, position_id: str) -> RangerPosition:
        """Return one position; raises NotFound."""
        ...

    async def patrol_logs(self, view: View, query: PatrolLogQuery) -> Page[PatrolLog]:
        """List lines of logs."""
        ...

    async def patrol_log(self, view: View, log_id: str) -> PatrolLog:
        """Return one line; raises NotFound."""
        ...

    async def patrol_routes(self, view: View, query: PatrolRouteQuery) -> Page[PatrolRoute]:
        """List routes."""
        ...

    async def patrol_route(self, view: View, route_id: str) -> PatrolRoute:
        """Return one route; raises NotFound."""
        ...

    async def live_rangers(self, view: View) -> list[LiveRanger]:
        """Return every ranger with the newest position and the open emergencies."""
        ...

    async def ranger_counts(self, view: View) -> dict[DutyStatus, int]:
        """Return how many rangers are in each state of duty; a viewer may know it too."""
        ...

    async def edit_together(self, view: View, edits: Sequence[RecordEdit]) -> None:
        """Do several edits in one transaction; raises what the first that cannot be done raises, and does none."""
        ...

    async def delete_record(self, view: View, entity: str, row_id: str) -> None:
        """Leave a tombstone of a team, a ranger, a line of a log or a route."""
        ...

    async def add_ranger_positions(self, view: View, positions: Sequence[dict[str, Any]]) -> list[AddedFix]:
        """Store positions of rangers, once each for ever, and say of each in order what became of it."""
        ...

    async def forget_ranger_positions(self, before: datetime) -> int:
        """Remove positions of rangers that were recorded before then, without a trace; return how many."""
        ...

    async def predictions(self, view: View, query: PredictionQuery) -> Page[Prediction]:
        """List what models said to those who asked, as ``view`` may see it (``shared.sync.predictions``)."""
        ...

    async def prediction(self, view: View, prediction_id: str) -> Prediction:
        """Return one prediction; raises NotFound."""
        ...

    async def keep_prediction(self, view: View, prediction: Prediction, key: str) -> tuple[Prediction, bool]:
        """Keep a prediction made for ``view`` and say that it is new; of one ``key`` there is one, the first."""
        ...

    async def delete_prediction(self, view: View, prediction_id: str) -> None:
        """Delete a prediction; raises NotFound."""
        ...

    async def patrols(self, view: View, query: PatrolQuery) -> Page[Patrol]:
        """List patrols; a reduced view has those that ended long ago, without their tracks."""
        ...

    async def patrol(self, view: View, patrol_id: str) -> Patrol:
        """Return one patrol; raises NotFound."""
        ...

    async def create_patrol(self, view: View, columns: dict[str, Any]) -> Patrol:
        """Store a patrol; Invalid unless ``track`` is GeoJSON lines, and where it ends before it begins."""
        ...

    async def update_patrol(self, view: View, patrol_id: str, columns: dict[str, Any]) -> Patrol:
        """Change the given columns."""
        ...

    async def delete_patrol(self, view: View, patrol_id: str) -> None:
        """Leave a tombstone."""
        ...
