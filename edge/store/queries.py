"""Reads: rows to domain values, lists with filters, order, paging and bounding box. Runs on a reader connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from edge.store.driver import Connection
from edge.store.fixes import from_ms, to_ms
from shared.domain import EXCLUDING, Animal, Collar, Deployment, Fix, FixFlag, Observation
from shared.errors import Invalid, NotFound
from shared.ids import id_bytes, id_text
from shared.store import AnimalQuery, BoundingBox, FixQuery, LiveAnimal, ObservationQuery, Page

T = TypeVar("T")

_ANIMAL: Final = """
SELECT a.id, a.name, a.species, a.created_ms, a.updated_ms, a.rev,
  (SELECT c.id FROM deployments d JOIN collars c ON c.pk = d.collar_pk
   WHERE d.animal_pk = a.pk AND d.ended_ms IS NULL AND d.deleted_ms IS NULL LIMIT 1) AS collar_id,
  a.status, a.health_status, a.gender, a.age, a.weight, a.notes, a.created_by, a.pk
FROM animals a WHERE a.deleted_ms IS NULL"""
_COLLAR: Final = """
SELECT c.id, c.created_ms, c.updated_ms, c.rev, c.model, c.fix_interval_s, c.notes,
  (SELECT group_concat(alias, char(10)) FROM (SELECT alias FROM collar_aliases WHERE collar_pk = c.pk ORDER BY alias)),
  c.last_heard_ms, c.battery_mv, c.battery_pct, c.firmware
FROM collars c WHERE c.deleted_ms IS NULL AND c.stands_for_animal_pk IS NULL"""
_DEPLOYMENT: Final = """
SELECT d.id, c.id, a.id, d.started_ms, d.ended_ms, d.created_ms, d.updated_ms, d.rev, d.notes
FROM deployments d JOIN collars c ON c.pk = d.collar_pk JOIN animals a ON a.pk = d.animal_pk
WHERE d.deleted_ms IS NULL"""
_FIX: Final = """
SELECT f.id, c.id, a.id, f.recorded_ms, f.raw_ms, f.received_ms, f.network_ms, f.lon_e7, f.lat_e7, f.alt_m, f.speed_mps,
  f.heading_deg, f.hdop, f.pdop, f.sats, f.h_acc_m, f.seq, f.battery_mv, f.battery_pct, f.temperature_c, f.rssi_dbm,
  f.snr_db, f.source, f.flags, f.link, f.local_id, f.activity_type, f.notes
FROM fixes f JOIN collars c ON c.pk = f.collar_pk LEFT JOIN animals a ON a.pk = f.animal_pk AND a.deleted_ms IS NULL"""
_OBSERVATION: Final = """
SELECT o.id, o.observation_type, o.recorded_ms, o.created_ms, o.updated_ms, o.rev, a.id, o.description, o.lon_e7,
  o.lat_e7, o.photo_url, o.observer, o.local_id
FROM observations o LEFT JOIN animals a ON a.pk = o.animal_pk WHERE o.deleted_ms IS NULL"""

#: ``shared.domain.is_usable`` in SQL.
_USABLE: Final = (
    f"(f.flags & {int(FixFlag.EXCLUDED_BY_HAND)} = 0 AND"
    f" (f.flags & {int(FixFlag.REINSTATED)} <> 0 OR f.flags & {int(EXCLUDING)} = 0))"
)
_ANIMAL_ORDER: Final = {
    "created_at": "a.created_ms", "updated_at": "a.updated_ms", "name": "a.name", "species": "a.species",
    "status": "a.status",
}  # fmt: skip
_FIX_ORDER: Final = {"timestamp": "f.recorded_ms", "received_at": "f.received_ms", "created_at": "f.pk"}
_OBSERVATION_ORDER: Final = {"timestamp": "o.recorded_ms", "created_at": "o.created_ms"}


class _Where:
    """Conditions and the values bound to them."""

    def __init__(self) -> None:
        self._conditions: list[str] = []
        self.values: list[Any] = []

    def add(self, condition: str, *values: Any) -> None:
        self._conditions.append(condition)
        self.values += values

    def add_equal(self, columns: Mapping[str, str | None]) -> None:
        for column, value in columns.items():
            if value is not None:
                self.add(f"{column} = ?", value)

    def sql(self, first: str) -> str:
        return "".join(
            f" {first if index == 0 else 'AND'} {condition}" for index, condition in enumerate(self._conditions)
        )

    def __bool__(self) -> bool:
        return bool(self._conditions)


def list_animals(db: Connection, query: AnimalQuery) -> Page[Animal]:
    """Return a page of animals."""
    where = _Where()
    where.add_equal({
        "a.species": query.species, "a.status": query.status, "a.health_status": query.health_status,
        "a.gender": query.gender,
    })  # fmt: skip
    if query.collar_id is not None:
        where.add("collar_id = ?", query.collar_id)
    if query.search:
        like = _like(query.search)
        where.add(
            r"(a.name LIKE ? ESCAPE '\' OR a.species LIKE ? ESCAPE '\' OR collar_id LIKE ? ESCAPE '\')",
            like,
            like,
            like,
        )
    sql = f"{_ANIMAL}{where.sql('AND')}"
    return _page(db, sql, where.values, _order(query.ordering, _ANIMAL_ORDER, "a.pk"), query, _animal)


def get_animal(db: Connection, animal_id: str) -> Animal:
    """Return one animal; raises NotFound."""
    return _one(db, f"{_ANIMAL} AND a.id = ?", animal_id, f"animal {animal_id}", _animal)


def live_animals(db: Connection) -> list[LiveAnimal]:
    """Return every active animal that has a usable position, with that fix and the one before it."""
    live = []
    for row in db.execute(f"{_ANIMAL} AND a.status = 'active' ORDER BY a.name, a.pk").fetchall():
        usable = [
            _fix(values)
            for values in db.execute(
                f"{_FIX} WHERE f.animal_pk = ? AND {_USABLE} ORDER BY f.recorded_ms DESC, f.pk DESC LIMIT 2", (row[-1],)
            ).fetchall()
        ]
        if usable:
            live.append(LiveAnimal(animal=_animal(row), fix=usable[0], previous=usable[1] if len(usable) > 1 else None))
    return live


def list_collars(db: Connection, search: str | None, offset: int, limit: int) -> Page[Collar]:
    """Return a page of collars, by id."""
    where = _Where()
    if search:
        where.add(
            r"(c.id LIKE ? ESCAPE '\' OR EXISTS (SELECT 1 FROM collar_aliases l WHERE l.collar_pk = c.pk"
            r" AND l.alias LIKE ? ESCAPE '\'))",
            _like(search), _like(search),
        )  # fmt: skip
    return _page(
        db, f"{_COLLAR}{where.sql('AND')}", where.values, "c.id", FixQuery(offset=offset, limit=limit), _collar
    )


def get_collar(db: Connection, collar_id: str) -> Collar:
    """Return one collar; raises NotFound."""
    return _one(db, f"{_COLLAR} AND c.id = ?", collar_id, f"collar {collar_id}", _collar)


def list_deployments(
    db: Connection, animal_id: str | None, collar_id: str | None, offset: int, limit: int
) -> Page[Deployment]:
    """Return a page of deployments, newest first."""
    where = _Where()
    where.add_equal({"a.id": animal_id, "c.id": collar_id})
    sql = f"{_DEPLOYMENT}{where.sql('AND')}"
    return _page(db, sql, where.values, "d.started_ms DESC, d.pk", FixQuery(offset=offset, limit=limit), _deployment)


def get_deployment(db: Connection, deployment_id: str) -> Deployment:
    """Return one deployment; raises NotFound."""
    return _one(db, f"{_DEPLOYMENT} AND d.id = ?", deployment_id, f"deployment {deployment_id}", _deployment)


def list_fixes(db: Connection, query: FixQuery) -> Page[Fix]:
    """Return a page of fixes; an unknown animal or collar has none."""
    where = _Where()
    if query.animal_id is not None:
        where.add("f.animal_pk = (SELECT pk FROM animals WHERE id = ? AND deleted_ms IS NULL)", query.animal_id)
    if query.collar_id is not None:
        where.add("f.collar_pk = (SELECT pk FROM collars WHERE id = ?)", query.collar_id)
    where.add_equal({"f.source": query.source, "f.activity_type": query.activity_type})
    if query.search:
        like = _like(query.search)
        where.add(
            r"(f.animal_pk IN (SELECT pk FROM animals WHERE deleted_ms IS NULL AND"
            r" (name LIKE ? ESCAPE '\' OR species LIKE ? ESCAPE '\'))"
            r" OR f.collar_pk IN (SELECT pk FROM collars WHERE stands_for_animal_pk IS NULL AND id LIKE ? ESCAPE '\'))",
            like, like, like,
        )  # fmt: skip
    if query.since is not None:
        where.add("f.recorded_ms >= ?", to_ms(query.since))
    if query.until is not None:
        where.add("f.recorded_ms < ?", to_ms(query.until))
    if query.bbox is not None:
        _add_box(where, query.bbox)
    if query.is_usable is not None:
        where.add(_USABLE if query.is_usable else f"NOT {_USABLE}")
    order = _order(query.ordering, _FIX_ORDER, "f.pk")
    if where:
        (count,) = db.execute(f"SELECT count(*) FROM fixes f{where.sql('WHERE')}", where.values).fetchone()
    else:
        (count,) = db.execute("SELECT value FROM counters WHERE name = 'fixes'").fetchone()
    # page the primary keys first: joining every row before the offset would cost more than the page
    keys = f"SELECT f.pk FROM fixes f{where.sql('WHERE')} ORDER BY {order} LIMIT ? OFFSET ?"
    rows = db.execute(
        f"{_FIX} WHERE f.pk IN ({keys}) ORDER BY {order}", [*where.values, query.limit, query.offset]
    ).fetchall()
    return Page(int(count), [_fix(row) for row in rows])


def get_fix(db: Connection, fix_id: str) -> Fix:
    """Return one fix; raises NotFound."""
    try:
        raw = id_bytes(fix_id)
    except ValueError:
        raise NotFound(f"there is no fix {fix_id}") from None
    return _one(db, f"{_FIX} WHERE f.id = ?", raw, f"fix {fix_id}", _fix)


def list_observations(db: Connection, query: ObservationQuery) -> Page[Observation]:
    """Return a page of observations."""
    where = _Where()
    where.add_equal({"a.id": query.animal_id, "o.observation_type": query.observation_type})
    if query.since is not None:
        where.add("o.recorded_ms >= ?", to_ms(query.since))
    if query.until is not None:
        where.add("o.recorded_ms < ?", to_ms(query.until))
    if query.search:
        where.add(r"(o.description LIKE ? ESCAPE '\' OR a.name LIKE ? ESCAPE '\')", *[_like(query.search)] * 2)
    order = _order(query.ordering, _OBSERVATION_ORDER, "o.pk")
    return _page(db, f"{_OBSERVATION}{where.sql('AND')}", where.values, order, query, _observation)


def get_observation(db: Connection, observation_id: str) -> Observation:
    """Return one observation; raises NotFound."""
    return _one(db, f"{_OBSERVATION} AND o.id = ?", observation_id, f"observation {observation_id}", _observation)


def _add_box(where: _Where, box: BoundingBox) -> None:
    spans = [(box.west, box.east)] if box.west <= box.east else [(box.west, 180.0), (-180.0, box.east)]
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
    db: Connection, sql: str, values: Sequence[Any], order: str, query: Any, make: Callable[[Sequence[Any]], T]
) -> Page[T]:
    (count,) = db.execute(f"SELECT count(*) FROM ({sql})", values).fetchone()
    rows = db.execute(f"{sql} ORDER BY {order} LIMIT ? OFFSET ?", [*values, query.limit, query.offset]).fetchall()
    return Page(int(count), [make(row) for row in rows])


def _one(db: Connection, sql: str, value: Any, what: str, make: Callable[[Sequence[Any]], T]) -> T:
    row = db.execute(sql, (value,)).fetchone()
    if row is None:
        raise NotFound(f"there is no {what}")
    return make(row)


def _order(ordering: str, columns: Mapping[str, str], tie: str) -> str:
    name = ordering.removeprefix("-")
    if name not in columns:
        raise Invalid(f"ordering: must be one of {', '.join(columns)}, with - for descending")
    direction = " DESC" if ordering.startswith("-") else ""
    return f"{columns[name]}{direction}, {tie}{direction}"


def _like(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _animal(row: Sequence[Any]) -> Animal:
    return Animal(
        id=row[0], name=row[1], species=row[2], created_at=from_ms(row[3]), updated_at=from_ms(row[4]), rev=row[5],
        collar_id=row[6], status=row[7], health_status=row[8], gender=row[9], age=row[10], weight=row[11],
        notes=row[12], created_by=row[13],
    )  # fmt: skip


def _collar(row: Sequence[Any]) -> Collar:
    return Collar(
        id=row[0], created_at=from_ms(row[1]), updated_at=from_ms(row[2]), rev=row[3], model=row[4],
        fix_interval_s=row[5], notes=row[6], aliases=tuple(row[7].split("\n")) if row[7] else (),
        last_heard_at=None if row[8] is None else from_ms(row[8]), battery_mv=row[9], battery_pct=row[10],
        firmware=row[11],
    )  # fmt: skip


def _deployment(row: Sequence[Any]) -> Deployment:
    return Deployment(
        id=row[0], collar_id=row[1], animal_id=row[2], started_at=from_ms(row[3]),
        ended_at=None if row[4] is None else from_ms(row[4]), created_at=from_ms(row[5]), updated_at=from_ms(row[6]),
        rev=row[7], notes=row[8],
    )  # fmt: skip


def _fix(row: Sequence[Any]) -> Fix:
    return Fix(
        id=id_text(row[0]), collar_id=row[1], animal_id=row[2], recorded_at=from_ms(row[3]),
        raw_recorded_at=from_ms(row[4]), received_at=from_ms(row[5]),
        network_time=None if row[6] is None else from_ms(row[6]), lon_deg=_degrees(row[7]), lat_deg=_degrees(row[8]),
        alt_m=row[9], speed_mps=row[10], heading_deg=row[11], hdop=row[12], pdop=row[13], sats=row[14],
        h_acc_m=row[15], seq=row[16], battery_mv=row[17], battery_pct=row[18], temperature_c=row[19],
        rssi_dbm=row[20], snr_db=row[21], source=row[22], flags=row[23], link=row[24], local_id=row[25],
        activity_type=row[26], notes=row[27],
    )  # fmt: skip


def _observation(row: Sequence[Any]) -> Observation:
    return Observation(
        id=row[0], observation_type=row[1], recorded_at=from_ms(row[2]), created_at=from_ms(row[3]),
        updated_at=from_ms(row[4]), rev=row[5], animal_id=row[6], description=row[7], lon_deg=_degrees(row[8]),
        lat_deg=_degrees(row[9]), photo_url=row[10], observer=row[11], local_id=row[12],
    )  # fmt: skip


def _degrees(e7: int | None) -> float | None:
    return None if e7 is None else e7 / 1e7
