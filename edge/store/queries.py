"""Reads: rows to domain values, lists with filters, order, paging and bounding box. Runs on a reader connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from edge.store.driver import Connection
from edge.store.records import record_of, selecting
from shared.domain import Alert, Animal, Collar, Corridor, Deployment, Fix, Observation, Patrol, Zone
from shared.errors import NotFound
from shared.ids import id_bytes, id_text
from shared.privacy import View
from shared.store import (
    AlertCount,
    AlertQuery,
    AnimalQuery,
    BoundingBox,
    CorridorQuery,
    FixQuery,
    LiveAnimal,
    ObservationQuery,
    Page,
    PatrolQuery,
    ZoneQuery,
)
from shared.sync import reduced as reducing
from shared.sync.listing import COLLAR_OF, FIX, REDUCED_FIX, USABLE, Where, fix_of, like_pattern, order_by
from shared.sync.personal import opened_rows
from shared.sync.records import (
    ALERT,
    ANIMAL,
    COLLAR,
    CORRIDOR,
    DEPLOYMENT,
    ENTITIES,
    OBSERVATION,
    PATROL,
    PATROL_LOG,
    PATROL_ROUTE,
    PLAIN_OBSERVATION,
    RANGER,
    RANGER_POSITION,
    TEAM,
    ZONE,
    EntityName,
    alert_of,
    animal_of,
    collar_of,
    corridor_of,
    deployment_of,
    observation_of,
    patrol_log_of,
    patrol_of,
    patrol_route_of,
    ranger_of,
    ranger_position_of,
    team_of,
    zone_of,
)

T = TypeVar("T")

_ANIMAL: Final = selecting(ANIMAL, COLLAR_OF, "r.pk")
_COLLAR: Final = selecting(COLLAR, "r.last_heard_ms, r.battery_mv, r.battery_pct, r.firmware")

_ANIMAL_ORDER: Final = {
    "created_at": "r.created_ms", "updated_at": "r.updated_ms", "name": "r.name", "species": "r.species",
    "status": "r.status",
}  # fmt: skip
_FIX_ORDER: Final = {"timestamp": "f.recorded_ms", "received_at": "f.received_ms", "created_at": "f.pk"}
_OBSERVATION_ORDER: Final = {"timestamp": "r.recorded_ms", "created_at": "r.created_ms"}
_ZONE_ORDER: Final = {"created_at": "r.created_ms", "name": "r.name"}
_CORRIDOR_ORDER: Final = _ZONE_ORDER
_ALERT_ORDER: Final = {"detected_at": "r.detected_ms", "created_at": "r.created_ms"}
_PATROL_ORDER: Final = {"started_at": "r.started_ms", "created_at": "r.created_ms"}


def _where(*conditions: str) -> Where:
    return Where("?", *conditions)


def get(db: Connection, entity: EntityName, identity: str, view: View | None = None) -> object:
    """Return one living record, as ``view`` may see it; raises NotFound."""
    statement, make = _ONE[entity]
    source = _source(db, entity, view)
    found = _one(
        db,
        f"{source.sql}{source.of(statement)} WHERE r.id = ? AND r.deleted_ms IS NULL{_also(entity, view)}",
        [*source.values, identity],
        f"{entity} {identity}",
        lambda row: make(opened_rows(ENTITIES[entity], [row], db.fields)[0]),
    )
    return found if view is None else reducing.reduced(view, found)


def _also(entity: EntityName, view: View | None) -> str:
    return f" AND {reducing.patrol_condition(view)}" if entity == "patrol" and view is not None else ""


def _source(db: Connection, entity: EntityName, view: View | None) -> reducing.Source:
    if view is None or view.is_exact or entity not in ("observation", "alert"):
        return reducing.Source()
    if entity == "observation":
        return reducing.Source(reducing.observations(view, _species(db), mark="?"), "observations")
    return reducing.Source(reducing.alerts(view, _species(db), mark="?"), "alerts")


def _fixes_of(db: Connection, view: View | None) -> reducing.Source:
    if view is None or view.is_exact:
        return reducing.Source()
    return reducing.Source(reducing.fixes(view, _species(db), mark="?", scope=None, has_pk=True), "fixes")


def _species(db: Connection) -> list[str]:
    return [name for (name,) in db.execute(reducing.SPECIES)]


def list_animals(db: Connection, query: AnimalQuery, view: View | None = None) -> Page[Animal]:
    """Return a page of animals."""
    where = _where("r.deleted_ms IS NULL")
    where.add_equal({
        "r.species": query.species, "r.status": query.status, "r.health_status": query.health_status,
        "r.gender": query.gender, COLLAR_OF: query.collar_id,
    })  # fmt: skip
    if query.search:
        where.add(
            rf"(r.name LIKE ? ESCAPE '\' OR r.species LIKE ? ESCAPE '\' OR {COLLAR_OF} LIKE ? ESCAPE '\')",
            *[like_pattern(query.search)] * 3,
        )
    return _page(db, _ANIMAL, where, order_by(query.ordering, _ANIMAL_ORDER, "r.pk"), query, _animal, view)


def live_animals(db: Connection, view: View | None = None) -> list[LiveAnimal]:
    """Return every active animal that has a usable position, with that fix and the one before it."""
    live = []
    active = f"{_ANIMAL} WHERE r.deleted_ms IS NULL AND r.status = 'active' ORDER BY r.name, r.pk"
    source = _fixes_of(db, view)
    newest = (
        f"{source.sql}{source.of(_fix_statement(view))} WHERE f.animal_pk = ? AND {USABLE}"
        " ORDER BY f.recorded_ms DESC, f.pk DESC LIMIT 2"
    )
    for row in db.execute(active).fetchall():
        usable = [_fix(values, view) for values in db.execute(newest, [*source.values, row[-1]]).fetchall()]
        if usable:
            # how it moves between two cells says more than either
            previous = usable[1] if len(usable) > 1 and _is_exact(view) else None
            animal = _animal(row) if view is None else reducing.reduced(view, _animal(row))
            live.append(LiveAnimal(animal=animal, fix=usable[0], previous=previous))
    return live


def _is_exact(view: View | None) -> bool:
    return view is None or view.is_exact


def _fix_statement(view: View | None) -> str:
    return FIX if _is_exact(view) else REDUCED_FIX


def list_collars(db: Connection, search: str | None, offset: int, limit: int, view: View | None = None) -> Page[Collar]:
    """Return a page of collars, by id."""
    where = _where("r.deleted_ms IS NULL", "r.id NOT GLOB 'animal:*'")
    if search and not _is_exact(view):
        where.add(r"r.id LIKE ? ESCAPE '\'", like_pattern(search))
    elif search:
        where.add(
            r"(r.id LIKE ? ESCAPE '\' OR EXISTS (SELECT 1 FROM collar_aliases l WHERE l.collar_pk = r.pk"
            r" AND l.alias LIKE ? ESCAPE '\'))",
            *[like_pattern(search)] * 2,
        )
    return _page(db, _COLLAR, where, "r.id", FixQuery(offset=offset, limit=limit), _collar, view)


def list_deployments(
    db: Connection, animal_id: str | None, collar_id: str | None, offset: int, limit: int, view: View | None = None
) -> Page[Deployment]:
    """Return a page of deployments, newest first."""
    where = _where("r.deleted_ms IS NULL")
    if animal_id is not None:
        where.add("r.animal_pk = (SELECT pk FROM animals WHERE id = ?)", animal_id)
    if collar_id is not None:
        where.add("r.collar_pk = (SELECT pk FROM collars WHERE id = ?)", collar_id)
    query = FixQuery(offset=offset, limit=limit)
    return _page(db, selecting(DEPLOYMENT), where, "r.started_ms DESC, r.pk", query, _deployment, view)


def list_observations(db: Connection, query: ObservationQuery, view: View | None = None) -> Page[Observation]:
    """Return a page of observations."""
    where = _where("r.deleted_ms IS NULL")
    where.add_equal({"r.animal_id": query.animal_id, "r.observation_type": query.observation_type})
    where.add_span("r.recorded_ms", query.since, query.until)
    if query.search:
        where.add(
            r"(r.description LIKE ? ESCAPE '\' OR r.animal_id IN"
            r" (SELECT id FROM animals WHERE deleted_ms IS NULL AND name LIKE ? ESCAPE '\'))",
            *[like_pattern(query.search)] * 2,
        )
    order = order_by(query.ordering, _OBSERVATION_ORDER, "r.pk")
    return _page(db, selecting(OBSERVATION), where, order, query, _observation, view, _source(db, "observation", view))


def list_zones(db: Connection, query: ZoneQuery, view: View | None = None) -> Page[Zone]:
    """Return a page of zones."""
    where = _where("r.deleted_ms IS NULL")
    where.add_equal({
        "r.zone_type": query.zone_type, "r.risk_level": query.risk_level, "r.is_active": query.is_active,
    })  # fmt: skip
    return _page(db, selecting(ZONE), where, order_by(query.ordering, _ZONE_ORDER, "r.pk"), query, _zone, view)


def list_corridors(db: Connection, query: CorridorQuery, view: View | None = None) -> Page[Corridor]:
    """Return a page of corridors."""
    where = _where("r.deleted_ms IS NULL")
    where.add_equal({"r.species": query.species, "r.status": query.status})
    if query.search and (view is None or reducing.shows_areas(view)):
        where.add(r"(r.name LIKE ? ESCAPE '\' OR r.description LIKE ? ESCAPE '\')", *[like_pattern(query.search)] * 2)
    elif query.search:
        where.add(r"r.name LIKE ? ESCAPE '\'", like_pattern(query.search))
    order = order_by(query.ordering, _CORRIDOR_ORDER, "r.pk")
    return _page(db, selecting(CORRIDOR), where, order, query, _corridor, view)


def list_patrols(db: Connection, query: PatrolQuery, view: View | None = None) -> Page[Patrol]:
    """Return a page of patrols."""
    where = _where("r.deleted_ms IS NULL")
    where.add_equal({"r.created_by": query.created_by})
    if view is not None:
        where.add(reducing.patrol_condition(view))
    where.add_span("r.started_ms", query.since, query.until)
    order = order_by(query.ordering, _PATROL_ORDER, "r.pk")
    return _page(db, selecting(PATROL), where, order, query, _patrol, view)


def list_alerts(db: Connection, query: AlertQuery, view: View | None = None) -> Page[Alert]:
    """Return a page of alerts."""
    where = _alerts_wanted(query)
    order = order_by(query.ordering, _ALERT_ORDER, "r.pk")
    return _page(db, selecting(ALERT), where, order, query, _alert, view, _source(db, "alert", view))


def count_alerts(db: Connection, query: AlertQuery, view: View | None = None) -> list[AlertCount]:
    """Return how many alerts there are of each type, severity and status."""
    where, source = _alerts_wanted(query), _source(db, "alert", view)
    counting = source.of("SELECT r.alert_type, r.severity, r.status, count(*) FROM alerts r")
    found = db.execute(f"{source.sql}{counting}{where.sql()} GROUP BY 1, 2, 3", [*source.values, *where.values])
    return [AlertCount(*row) for row in found.fetchall()]


def _alerts_wanted(query: AlertQuery) -> Where:
    where = _where("r.deleted_ms IS NULL")
    where.add_equal({
        "r.animal_id": query.animal_id, "r.alert_type": query.alert_type, "r.severity": query.severity,
        "r.status": query.status,
    })  # fmt: skip
    where.add_span("r.detected_ms", query.since, query.until)
    return where


def list_fixes(db: Connection, query: FixQuery, view: View | None = None) -> Page[Fix]:
    """Return a page of fixes; an unknown animal or collar has none."""
    where = _where()
    if query.animal_id is not None:
        where.add("f.animal_pk = (SELECT pk FROM animals WHERE id = ? AND deleted_ms IS NULL)", query.animal_id)
    if query.collar_id is not None:
        where.add("f.collar_pk = (SELECT pk FROM collars WHERE id = ?)", query.collar_id)
    where.add_equal({"f.source": query.source, "f.activity_type": query.activity_type})
    if query.search:
        like = like_pattern(query.search)
        where.add(
            r"(f.animal_pk IN (SELECT pk FROM animals WHERE deleted_ms IS NULL AND"
            r" (name LIKE ? ESCAPE '\' OR species LIKE ? ESCAPE '\'))"
            r" OR f.collar_pk IN (SELECT pk FROM collars WHERE id NOT GLOB 'animal:*' AND id LIKE ? ESCAPE '\'))",
            like, like, like,
        )  # fmt: skip
    where.add_span("f.recorded_ms", query.since, query.until)
    if query.bbox is not None:
        _add_box(where, query.bbox, has_tree=_is_exact(view))
    if query.is_usable is not None:
        where.add(USABLE if query.is_usable else f"NOT {USABLE}")
    order = order_by(query.ordering, _FIX_ORDER, "f.pk")
    source = _fixes_of(db, view)
    if where or not _is_exact(view):
        counting = source.of("SELECT count(*) FROM fixes f")
        (count,) = db.execute(f"{source.sql}{counting}{where.sql()}", [*source.values, *where.values]).fetchone()
    else:
        (count,) = db.execute("SELECT value FROM counters WHERE name = 'fixes'").fetchone()
    # page the primary keys first: joining every row before the offset would cost more than the page
    keys = source.of("SELECT f.pk FROM fixes f") + f"{where.sql()} ORDER BY {order} LIMIT ? OFFSET ?"
    rows = db.execute(
        f"{source.sql}{source.of(_fix_statement(view))} WHERE f.pk IN ({keys}) ORDER BY {order}",
        [*source.values, *where.values, query.limit, query.offset],
    ).fetchall()
    return Page(int(count), [_fix(row, view) for row in rows])


def get_fix(db: Connection, fix_id: str, view: View | None = None) -> Fix:
    """Return one fix; raises NotFound."""
    try:
        raw = id_bytes(fix_id)
    except ValueError:
        raise NotFound(f"there is no fix {fix_id}") from None
    source = _fixes_of(db, view)
    if view is not None and not view.is_exact and view.veil is not None:
        raw = view.veil.unveiled(raw)
    return _one(
        db, f"{source.sql}{source.of(_fix_statement(view))} WHERE f.id = ?", [*source.values, raw], f"fix {fix_id}",
        lambda row: _fix(row, view),
    )  # fmt: skip


def _add_box(where: Where, box: BoundingBox, *, has_tree: bool) -> None:
    spans = [(box.west, box.east)] if box.west <= box.east else [(box.west, 180.0), (-180.0, box.east)]
    if not has_tree:  # the tree is of the places themselves, and this is of their cells
        cells = " OR ".join("f.lon_e7 BETWEEN ? AND ?" for _ in spans)
        edges = [round(edge * 1e7) for edge in (box.south, box.north)]
        where.add(
            f"f.lat_e7 BETWEEN ? AND ? AND ({cells})",
            *edges, *(round(edge * 1e7) for span in spans for edge in span),
        )  # fmt: skip
        return
    # the R*Tree rounds to 32-bit floats, outward: its answer is a superset, the integers decide
    tree = " OR ".join("(xmax >= ? AND xmin <= ? AND ymax >= ? AND ymin <= ?)" for _ in spans)
    exact = " OR ".join("f.lon_e7 BETWEEN ? AND ?" for _ in spans)
    where.add(
        f"f.pk IN (SELECT pkid FROM idx_fixes_geom WHERE {tree}) AND f.lat_e7 BETWEEN ? AND ? AND ({exact})",
        *(value for west, east in spans for value in (west, east, box.south, box.north)),
        round(box.south * 1e7),
        round(box.north * 1e7),
        *(round(edge * 1e7) for span in spans for edge in span),
    )


def _page(
    db: Connection,
    statement: str,
    where: Where,
    order: str,
    query: Any,
    make: Callable[[Sequence[Any]], T],
    view: View | None = None,
    source: reducing.Source | None = None,
) -> Page[T]:
    given = source or reducing.Source()
    whole = given.of(statement)
    table = whole[whole.rindex(" FROM ") :]
    values = [*given.values, *where.values]
    (count,) = db.execute(f"{given.sql}SELECT count(*){table}{where.sql()}", values).fetchone()
    rows = db.execute(
        f"{given.sql}{whole}{where.sql()} ORDER BY {order} LIMIT ? OFFSET ?", [*values, query.limit, query.offset]
    ).fetchall()
    found = [make(row) for row in rows]
    return Page(int(count), found if view is None else [reducing.reduced(view, row) for row in found])


def _one(db: Connection, sql: str, values: Sequence[Any], what: str, make: Callable[[Sequence[Any]], T]) -> T:
    row = db.execute(sql, values).fetchone()
    if row is None:
        raise NotFound(f"there is no {what}")
    return make(row)


def _animal(row: Sequence[Any]) -> Animal:
    return animal_of(record_of(ANIMAL, row), row[-2])


def _collar(row: Sequence[Any]) -> Collar:
    heard_ms, battery_mv, battery_pct, firmware = row[-4:]
    return collar_of(
        record_of(COLLAR, row), last_heard_ms=heard_ms, battery_mv=battery_mv, battery_pct=battery_pct,
        firmware=firmware,
    )  # fmt: skip


def _deployment(row: Sequence[Any]) -> Deployment:
    return deployment_of(record_of(DEPLOYMENT, row))


def _observation(row: Sequence[Any]) -> Observation:
    return observation_of(record_of(OBSERVATION, row), *row[PLAIN_OBSERVATION:])


def _zone(row: Sequence[Any]) -> Zone:
    return zone_of(record_of(ZONE, row))


def _corridor(row: Sequence[Any]) -> Corridor:
    return corridor_of(record_of(CORRIDOR, row))


def _patrol(row: Sequence[Any]) -> Patrol:
    return patrol_of(record_of(PATROL, row))


def _alert(row: Sequence[Any]) -> Alert:
    return alert_of(record_of(ALERT, row))


_ONE: Final[Mapping[EntityName, tuple[str, Callable[[Sequence[Any]], object]]]] = {
    "animal": (_ANIMAL, _animal),
    "collar": (_COLLAR, _collar),
    "deployment": (selecting(DEPLOYMENT), _deployment),
    "observation": (selecting(OBSERVATION), _observation),
    "zone": (selecting(ZONE), _zone),
    "corridor": (selecting(CORRIDOR), _corridor),
    "alert": (selecting(ALERT), _alert),
    "team": (selecting(TEAM), lambda row: team_of(record_of(TEAM, row))),
    "ranger": (selecting(RANGER), lambda row: ranger_of(record_of(RANGER, row))),
    "ranger_position": (
        selecting(RANGER_POSITION), lambda row: ranger_position_of(record_of(RANGER_POSITION, row)),
    ),
    "patrol_log": (selecting(PATROL_LOG), lambda row: patrol_log_of(record_of(PATROL_LOG, row))),
    "patrol_route": (selecting(PATROL_ROUTE), lambda row: patrol_route_of(record_of(PATROL_ROUTE, row))),
    "patrol": (selecting(PATROL), _patrol),
}  # fmt: skip


def _fix(row: Sequence[Any], view: View | None = None) -> Fix:
    raw = row[0]
    if view is not None and not view.is_exact and view.veil is not None:
        raw = view.veil.veiled(raw)
    return fix_of(id_text(raw), row)
