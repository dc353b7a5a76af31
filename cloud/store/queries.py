"""Reads: rows to domain values, lists with filters, order, paging and bounding box. Runs in one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from cloud.store.database import Connection
from cloud.store.partitions import lowest_id
from cloud.store.records import one, record_of, selecting
from shared.domain import Alert, Animal, Collar, Corridor, Deployment, Fix, Observation, Patrol, Zone
from shared.errors import NotFound
from shared.ids import id_text
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
from shared.sync.operations import STANDS_FOR
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
    to_ms,
    zone_of,
)

T = TypeVar("T")

_ANIMAL: Final = selecting(ANIMAL, COLLAR_OF, "r.pk")
_COLLAR: Final = selecting(COLLAR, "r.last_heard_ms, r.battery_mv, r.battery_pct, r.firmware")

# text in the order of its code points, as at the station, whatever the database's collation is
_ANIMAL_ORDER: Final = {
    "created_at": "r.created_ms", "updated_at": "r.updated_ms", "name": 'r.name COLLATE "C"',
    "species": 'r.species COLLATE "C"', "status": 'r.status COLLATE "C"',
}  # fmt: skip
_FIX_ORDER: Final = {"timestamp": "f.recorded_ms", "received_at": "f.received_ms", "created_at": "f.received_ms"}
_OBSERVATION_ORDER: Final = {"timestamp": "r.recorded_ms", "created_at": "r.created_ms"}
_ZONE_ORDER: Final = {"created_at": "r.created_ms", "name": 'r.name COLLATE "C"'}
_CORRIDOR_ORDER: Final = _ZONE_ORDER
_ALERT_ORDER: Final = {"detected_at": "r.detected_ms", "created_at": "r.created_ms"}
_PATROL_ORDER: Final = {"started_at": "r.started_ms", "created_at": "r.created_ms"}


def _where(*conditions: str) -> Where:
    return Where("%s", *conditions)


async def list_animals(db: Connection, query: AnimalQuery, view: View | None = None) -> Page[Animal]:
    """Return a page of animals."""
    where = _where("r.deleted_ms IS NULL")
    where.add_equal({
        "r.species": query.species, "r.status": query.status, "r.health_status": query.health_status,
        "r.gender": query.gender, COLLAR_OF: query.collar_id,
    })  # fmt: skip
    if query.search:
        where.add(f"(r.name ILIKE %s OR r.species ILIKE %s OR {COLLAR_OF} ILIKE %s)", *[like_pattern(query.search)] * 3)
    return await _page(db, _ANIMAL, where, order_by(query.ordering, _ANIMAL_ORDER, "r.pk"), query, _animal, view)


async def list_collars(
    db: Connection, search: str | None, offset: int, limit: int, view: View | None = None
) -> Page[Collar]:
    """Return a page of collars, by id."""
    where = _where("r.deleted_ms IS NULL")
    where.add("NOT starts_with(r.id, %s)", STANDS_FOR)
    if search and not _is_exact(view):
        where.add("r.id ILIKE %s", like_pattern(search))
    elif search:
        where.add(
            "(r.id ILIKE %s OR EXISTS (SELECT 1 FROM collar_aliases l WHERE l.collar_pk = r.pk AND l.alias ILIKE %s))",
            like_pattern(search), like_pattern(search),
        )  # fmt: skip
    query = FixQuery(offset=offset, limit=limit)
    return await _page(db, _COLLAR, where, 'r.id COLLATE "C"', query, _collar, view)


async def list_deployments(
    db: Connection, animal_id: str | None, collar_id: str | None, offset: int, limit: int, view: View | None = None
) -> Page[Deployment]:
    """Return a page of deployments, newest first."""
    where = _where("r.deleted_ms IS NULL")
    if animal_id is not None:
        where.add("r.animal_pk = (SELECT pk FROM animals WHERE id = %s)", animal_id)
    if collar_id is not None:
        where.add("r.collar_pk = (SELECT pk FROM collars WHERE id = %s)", collar_id)
    query = FixQuery(offset=offset, limit=limit)
    return await _page(db, selecting(DEPLOYMENT), where, "r.started_ms DESC, r.pk", query, _deployment, view)


async def list_observations(db: Connection, query: ObservationQuery, view: View | None = None) -> Page[Observation]:
    """Return a page of observations."""
    where = _where("r.deleted_ms IS NULL")
    where.add_equal({"r.animal_id": query.animal_id, "r.observation_type": query.observation_type})
    where.add_span("r.recorded_ms", query.since, query.until)
    if query.search:
        where.add(
            "(r.description ILIKE %s OR r.animal_id IN"
            " (SELECT id FROM animals WHERE deleted_ms IS NULL AND name ILIKE %s))",
            *[like_pattern(query.search)] * 2,
        )
    order = order_by(query.ordering, _OBSERVATION_ORDER, "r.pk")
    return await _page(
        db, selecting(OBSERVATION), where, order, query, _observation, view, await _source(db, "observation", view)
    )


async def list_zones(db: Connection, query: ZoneQuery, view: View | None = None) -> Page[Zone]:
    """Return a page of zones."""
    where = _where("r.deleted_ms IS NULL")
    where.add_equal({
        "r.zone_type": query.zone_type, "r.risk_level": query.risk_level, "r.is_active": query.is_active,
    })  # fmt: skip
    return await _page(db, selecting(ZONE), where, order_by(query.ordering, _ZONE_ORDER, "r.pk"), query, _zone, view)


async def list_corridors(db: Connection, query: CorridorQuery, view: View | None = None) -> Page[Corridor]:
    """Return a page of corridors."""
    where = _where("r.deleted_ms IS NULL")
    where.add_equal({"r.species": query.species, "r.status": query.status})
    if query.search and (view is None or reducing.shows_areas(view)):
        where.add("(r.name ILIKE %s OR r.description ILIKE %s)", *[like_pattern(query.search)] * 2)
    elif query.search:
        where.add("r.name ILIKE %s", like_pattern(query.search))
    order = order_by(query.ordering, _CORRIDOR_ORDER, "r.pk")
    return await _page(db, selecting(CORRIDOR), where, order, query, _corridor, view)


async def list_patrols(db: Connection, query: PatrolQuery, view: View | None = None) -> Page[Patrol]:
    """Return a page of patrols."""
    where = _where("r.deleted_ms IS NULL")
    where.add_equal({"r.created_by": query.created_by})
    if view is not None:
        where.add(reducing.patrol_condition(view))
    where.add_span("r.started_ms", query.since, query.until)
    order = order_by(query.ordering, _PATROL_ORDER, "r.pk")
    return await _page(db, selecting(PATROL), where, order, query, _patrol, view)


async def list_alerts(db: Connection, query: AlertQuery, view: View | None = None) -> Page[Alert]:
    """Return a page of alerts."""
    where = _alerts_wanted(query)
    order = order_by(query.ordering, _ALERT_ORDER, "r.pk")
    return await _page(db, selecting(ALERT), where, order, query, _alert, view, await _source(db, "alert", view))


async def count_alerts(db: Connection, query: AlertQuery, view: View | None = None) -> list[AlertCount]:
    """Return how many alerts there are of each type, severity and status."""
    where, source = _alerts_wanted(query), await _source(db, "alert", view)
    counting = source.of("SELECT r.alert_type, r.severity, r.status, count(*) FROM alerts r")
    found = await db.execute(
        f"{source.sql}{counting}{where.sql()} GROUP BY 1, 2, 3".encode(), [*source.values, *where.values]
    )
    return [AlertCount(*row) for row in await found.fetchall()]


def _alerts_wanted(query: AlertQuery) -> Where:
    where = _where("r.deleted_ms IS NULL")
    where.add_equal({
        "r.animal_id": query.animal_id, "r.alert_type": query.alert_type, "r.severity": query.severity,
        "r.status": query.status,
    })  # fmt: skip
    where.add_span("r.detected_ms", query.since, query.until)
    return where


async def get(db: Connection, entity: EntityName, identity: str, view: View | None = None) -> object:
    """Return one living record, as ``view`` may see it; raises NotFound."""
    statement, make = _ONE[entity]
    if "\0" not in identity:  # PostgreSQL keeps no such text
        source = await _source(db, entity, view)
        asked = f"{source.sql}{source.of(statement)} WHERE r.id = %s AND r.deleted_ms IS NULL{_also(entity, view)}"
        found = await db.execute(asked.encode(), [*source.values, identity])
        if (row := await found.fetchone()) is not None:
            made = make(opened_rows(ENTITIES[entity], [row], db.fields)[0])
            return made if view is None else reducing.reduced(view, made)
    raise NotFound(f"there is no {entity} {identity}")


def _also(entity: EntityName, view: View | None) -> str:
    return f" AND {reducing.patrol_condition(view)}" if entity == "patrol" and view is not None else ""


async def _source(db: Connection, entity: EntityName, view: View | None) -> reducing.Source:
    if view is None or view.is_exact or entity not in ("observation", "alert"):
        return reducing.Source()
    if entity == "observation":
        return reducing.Source(reducing.observations(view, await _species(db), mark="%s"), "observations")
    return reducing.Source(reducing.alerts(view, await _species(db), mark="%s"), "alerts")


async def fixes_seen(db: Connection, view: View | None) -> reducing.Source:
    """Return where statements about fixes select from, for ``view``."""
    if view is None or view.is_exact:
        return reducing.Source()
    found = reducing.fixes(view, await _species(db), mark="%s", scope=_BROUGHT_BY, has_pk=False)
    return reducing.Source(found, "fixes")


async def _species(db: Connection) -> list[str]:
    found = await db.execute(reducing.SPECIES.encode())
    return [name for (name,) in await found.fetchall()]


def _is_exact(view: View | None) -> bool:
    return view is None or view.is_exact


def _fix_statement(view: View | None) -> str:
    return FIX if _is_exact(view) else REDUCED_FIX


#: That one of these stations has brought fixes of the collar of ``v``.
_BROUGHT_BY: Final = "(v.collar_pk IN (SELECT collar_pk FROM station_collars WHERE station_id = ANY(%s)))"


async def live_animals(db: Connection, view: View | None = None) -> list[LiveAnimal]:
    """Return every active animal that has a usable position, with that fix and the one before it."""
    found = await db.execute(
        f"{_ANIMAL} WHERE r.deleted_ms IS NULL AND r.status = 'active' ORDER BY r.name COLLATE \"C\", r.pk".encode()
    )
    animals = await found.fetchall()
    source = await fixes_seen(db, view)
    found = await db.execute(
        f"{source.sql}SELECT w.pk, f.* FROM unnest(%s::bigint[]) w (pk) CROSS JOIN LATERAL"
        f" ({source.of(_fix_statement(view))} WHERE f.animal_pk = w.pk AND {USABLE}"
        " ORDER BY f.recorded_ms DESC, f.id DESC LIMIT 2) f".encode(),
        [*source.values, [row[-1] for row in animals]],
    )
    fixes: dict[int, list[Fix]] = {}
    for pk, *row in await found.fetchall():
        fixes.setdefault(pk, []).append(_fix(row, view))
    live = []
    for each in animals:
        if newest := fixes.get(each[-1]):
            # how it moves between two cells says more than either
            previous = newest[1] if len(newest) > 1 and _is_exact(view) else None
            animal = _animal(each) if view is None else reducing.reduced(view, _animal(each))
            live.append(LiveAnimal(animal=animal, fix=newest[0], previous=previous))
    return live


async def list_fixes(db: Connection, query: FixQuery, view: View | None = None) -> Page[Fix]:
    """Return a page of fixes; an unknown animal or collar has none."""
    where = _where()
    if query.animal_id is not None:
        where.add("f.animal_pk = (SELECT pk FROM animals WHERE id = %s AND deleted_ms IS NULL)", query.animal_id)
    if query.collar_id is not None:
        where.add("f.collar_pk = (SELECT pk FROM collars WHERE id = %s)", query.collar_id)
    where.add_equal({"f.source": query.source, "f.activity_type": query.activity_type})
    if query.search:
        where.add(
            "(f.animal_pk IN (SELECT pk FROM animals WHERE deleted_ms IS NULL AND (name ILIKE %s OR species ILIKE %s))"
            " OR f.collar_pk IN (SELECT pk FROM collars WHERE NOT starts_with(id, %s) AND id ILIKE %s))",
            *[like_pattern(query.search)] * 2,
            STANDS_FOR,
            like_pattern(query.search),
        )
    where.add_span("f.recorded_ms", query.since, query.until)
    if query.bbox is not None:
        _add_box(where, query.bbox, has_index=_is_exact(view))
    if query.is_usable is not None:
        where.add(USABLE if query.is_usable else f"NOT {USABLE}")
    order = order_by(query.ordering, _FIX_ORDER, "f.id")
    source = await fixes_seen(db, view)
    if not _is_exact(view):
        return await _reduced_fixes(db, query, view, where, source, order)
    if where:
        (count,) = await one(db, f"SELECT count(*) FROM fixes f{where.sql()}", where.values)
    else:
        (count,) = await one(db, "SELECT value FROM counters WHERE name = 'fixes'")
    # page the keys first: joining every row before the offset would cost more than the page
    is_of_all = query.animal_id is None and query.collar_id is None and query.ordering.endswith("timestamp")
    keys, values = _in_order_of_ids(where, order, query) if is_of_all else _inorder_by(where, order, query)
    found = await db.execute(keys.encode(), values)
    ids = [identity for (identity,) in await found.fetchall()]
    found = await db.execute(f"{FIX} WHERE f.id = ANY(%s) ORDER BY {order}".encode(), (ids,))
    return Page(int(count), [_fix(row) for row in await found.fetchall()])


async def _reduced_fixes(
    db: Connection, query: FixQuery, view: View | None, where: Where, source: reducing.Source, order: str
) -> Page[Fix]:
    values = [*source.values, *where.values]
    counting = source.of("SELECT count(*) FROM fixes f")
    (count,) = await one(db, f"{source.sql}{counting}{where.sql()}", values)
    statement = f"{source.sql}{source.of(_fix_statement(view))}{where.sql()} ORDER BY {order} LIMIT %s OFFSET %s"
    found = await db.execute(statement.encode(), [*values, query.limit, query.offset])
    return Page(int(count), [_fix(row, view) for row in await found.fetchall()])


def _inorder_by(where: Where, order: str, query: FixQuery) -> tuple[str, list[Any]]:
    keys = f"SELECT f.id FROM fixes f{where.sql()} ORDER BY {order} LIMIT %s OFFSET %s"
    return keys, [*where.values, query.limit, query.offset]


def _in_order_of_ids(where: Where, order: str, query: FixQuery) -> tuple[str, list[Any]]:
    """Return the keys of a page by time, and the values bound to it, without sorting the whole table.

    Where the corrected time is the raw one, the order of ids is the order of times: the key's index and the months'
    bounds give the page. The few others have an index of their own, and both pages are merged.
    """
    direction = " DESC" if query.ordering.startswith("-") else ""
    plain, others = where.copy(), where.copy()
    plain.add("f.is_in_order")
    others.add("NOT f.is_in_order")
    if query.since is not None:
        plain.add("f.id >= %s::uuid", lowest_id(to_ms(query.since)))
    if query.until is not None:
        plain.add("f.id < %s::uuid", lowest_id(to_ms(query.until)))
    so_far = query.offset + query.limit
    keys = (
        f"SELECT f.id FROM ((SELECT f.id, f.recorded_ms FROM fixes f{plain.sql()} ORDER BY f.id{direction} LIMIT %s)"
        f" UNION ALL (SELECT f.id, f.recorded_ms FROM fixes f{others.sql()} ORDER BY {order} LIMIT %s)) f"
        f" ORDER BY {order} LIMIT %s OFFSET %s"
    )
    return keys, [*plain.values, so_far, *others.values, so_far, query.limit, query.offset]


async def get_fix(db: Connection, fix_id: str, view: View | None = None) -> Fix:
    """Return one fix; raises NotFound."""
    try:
        identity = UUID(fix_id)
    except ValueError:
        raise NotFound(f"there is no fix {fix_id}") from None
    source = await fixes_seen(db, view)
    asked = f"{source.sql}{source.of(_fix_statement(view))} WHERE f.id = %s"
    found = await db.execute(asked.encode(), [*source.values, identity])
    row = await found.fetchone()
    if row is not None and (view is None or view.is_exact or not row[-1]):
        return _fix(row, view)
    if view is not None and not view.is_exact and view.veil is not None:
        found = await db.execute(asked.encode(), [*source.values, UUID(bytes=view.veil.unveiled(identity.bytes))])
        row = await found.fetchone()
        if row is not None and row[-1]:
            return _fix(row, view)
    raise NotFound(f"there is no fix {fix_id}")


def _add_box(where: Where, box: BoundingBox, *, has_index: bool) -> None:
    spans = [(box.west, box.east)] if box.west <= box.east else [(box.west, 180.0), (-180.0, box.east)]
    if not has_index:  # the index is of the places themselves, and this is of their cells
        cells = " OR ".join("f.lon_e7 BETWEEN %s AND %s" for _ in spans)
        edges = [round(edge * 1e7) for edge in (box.south, box.north)]
        where.add(
            f"f.lat_e7 BETWEEN %s AND %s AND ({cells})",
            *edges, *(round(edge * 1e7) for span in spans for edge in span),
        )  # fmt: skip
        return
    # the index finds candidates, the integers decide: the same answer as at the station, to the last digit
    near = " OR ".join("f.geom && ST_MakeEnvelope(%s, %s, %s, %s, 4326)" for _ in spans)
    exact = " OR ".join("f.lon_e7 BETWEEN %s AND %s" for _ in spans)
    where.add(
        f"({near}) AND f.lat_e7 BETWEEN %s AND %s AND ({exact})",
        *(
            value
            for west, east in spans
            for value in (west - _SLACK, box.south - _SLACK, east + _SLACK, box.north + _SLACK)
        ),
        round(box.south * 1e7),
        round(box.north * 1e7),
        *(round(edge * 1e7) for span in spans for edge in span),
    )


#: A box is widened by the width of a digit before the index is asked.
_SLACK: Final = 1e-6


async def _page(
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
    (count,) = await one(db, f"{given.sql}SELECT count(*){table}{where.sql()}", values)
    found = await db.execute(
        f"{given.sql}{whole}{where.sql()} ORDER BY {order} LIMIT %s OFFSET %s".encode(),
        [*values, query.limit, query.offset],
    )
    rows = [make(row) for row in await found.fetchall()]
    return Page(int(count), rows if view is None else [reducing.reduced(view, row) for row in rows])


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
    identity = row[0]
    if view is not None and not view.is_exact and view.veil is not None and row[-1]:
        return fix_of(id_text(view.veil.veiled(identity.bytes)), row)
    return fix_of(str(identity), row)
