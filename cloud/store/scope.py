"""Which records each station has: those that lie in its scope, and what entered or left it.

A station without a scope has every record. To one with a scope (an area, animals, or both) belong

========== ============================================================================================================
animals    that were assigned; that it entered itself; that wear a collar it brought fixes of; that were in its area
           within the last thirty days before their newest fix
deployment of an animal in scope
collars    of those; that it entered or brought fixes of; of nobody, if they were in the area in the same way
zones      and corridors that touch the area; all of them where there is no area; those that it drew
routes     of patrols with a place in the area, or with no place at all; those that it brought
sightings  and what else people observed: of animals in scope, in the area, or entered at the station
========== ============================================================================================================

No clock is asked: thirty days are counted back from an animal's own newest fix, so what is in scope follows from what
is stored, whatever order it came in. ``station_rows`` holds the outcome. Every transaction settles what its lines of
the change log touch (``follow``) before it takes its numbers, so a page of the feed, one snapshot, finds it right.
What enters and leaves is numbered with the changes, in ``scope_changes``, which nobody but the station's feed reads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, cast

import msgspec

from cloud.store.arrays import numbers_array, texts_array
from cloud.store.database import Connection
from shared.errors import NotFound
from shared.sync.listing import USABLE
from shared.sync.operations import STANDS_FOR
from shared.sync.records import SCOPED, EntityName
from shared.wire.geojson import check_area, wkb_of

if TYPE_CHECKING:
    from cloud.store.records import Noted

#: An animal that was in the area so long before its newest fix belongs to it.
RECENT_MS: Final = 30 * 86_400_000

_HAS_SCOPE: Final = "(s.scope_geom IS NOT NULL OR s.scope_animals IS NOT NULL)"
_SCOPED_STATIONS: Final = f"SELECT s.id FROM stations s WHERE {_HAS_SCOPE} ORDER BY s.id"

#: A station entered the record: by a line of the change log, or by one that this transaction is about to write.
_MADE: Final = (
    "(EXISTS (SELECT FROM changes m WHERE m.row_id = r.id AND m.entity = '{entity}' AND m.entity <> 'fix'"
    " AND m.kind = 'insert' AND m.origin = s.id)"
    " OR EXISTS (SELECT FROM unnest(%(makers)s::text[], %(made)s::text[]) m (station_id, row_id)"
    " WHERE m.station_id = s.id AND m.row_id = r.id))"
)
_NEWEST: Final = f"SELECT max(n.recorded_ms) FROM fixes n WHERE {{0}} AND {USABLE.replace('f.', 'n.')}"
#: One of the fixes of the last days lies in the area; ``{0}`` says of ``n``, ``{1}`` of ``f`` whose fixes they are.
_BEEN_THERE: Final = (
    f"(s.scope_geom IS NOT NULL AND EXISTS (SELECT FROM fixes f WHERE {{1}} AND {USABLE}"
    f" AND f.recorded_ms >= ({_NEWEST}) - {RECENT_MS} AND ST_Intersects(f.geom, s.scope_geom)))"
)
_TOUCHES: Final = "(s.scope_geom IS NULL OR ST_DWithin({0}::geography, s.scope_geom::geography, {1}))"
_ENDS: Final = (
    "ST_SetSRID(ST_MakeLine(ST_MakePoint(r.start_lon_e7 / 1e7, r.start_lat_e7 / 1e7),"
    " ST_MakePoint(r.end_lon_e7 / 1e7, r.end_lat_e7 / 1e7)), 4326)"
)

#: By kind, the table and what makes a record ``r`` of it one of station ``s``.
_BELONGS: Final[Mapping[EntityName, tuple[str, str]]] = {
    "animal": (
        "animals",
        ("r.id = ANY(s.scope_animals)"
        " OR EXISTS (SELECT FROM deployments d JOIN station_collars k ON k.collar_pk = d.collar_pk"
        " WHERE k.station_id = s.id AND k.is_brought AND d.animal_pk = r.pk AND d.deleted_ms IS NULL)"
        " OR EXISTS (SELECT FROM collars c JOIN station_collars k ON k.collar_pk = c.pk"
        " WHERE k.station_id = s.id AND k.is_brought AND c.stands_for_animal_pk = r.pk)"
        f" OR {_BEEN_THERE.format('n.animal_pk = r.pk', 'f.animal_pk = r.pk')}"),
    ),
    "deployment": (
        "deployments",
        ("EXISTS (SELECT FROM animals a JOIN station_rows w ON w.row_id = a.id"
        " WHERE a.pk = r.animal_pk AND w.station_id = s.id AND w.entity = 'animal')"),
    ),
    "collar": (
        "collars",
        ("EXISTS (SELECT FROM station_collars k WHERE k.station_id = s.id AND k.collar_pk = r.pk AND k.is_brought)"
        " OR EXISTS (SELECT FROM deployments d JOIN animals a ON a.pk = d.animal_pk JOIN station_rows w"
        " ON w.row_id = a.id WHERE d.collar_pk = r.pk AND w.station_id = s.id AND w.entity = 'animal')"
        " OR EXISTS (SELECT FROM animals a JOIN station_rows w ON w.row_id = a.id"
        " WHERE a.pk = r.stands_for_animal_pk AND w.station_id = s.id AND w.entity = 'animal')"
        f" OR {_BEEN_THERE.format('n.collar_pk = r.pk', 'f.collar_pk = r.pk AND f.animal_pk IS NULL')}"),
    ),
    "zone": ("zones", _TOUCHES.format("r.geom", "r.buffer_m")),
    "corridor": ("corridors", _TOUCHES.format(f"coalesce(r.geom, {_ENDS})", "r.width_m / 2")),
    "patrol_route": (
        "patrol_routes",
        ("s.scope_geom IS NULL OR r.station_id = s.id OR jsonb_array_length(r.waypoints::jsonb) = 0"
        " OR EXISTS (SELECT FROM jsonb_to_recordset(r.waypoints::jsonb) p (lat float8, lon float8)"
        " WHERE ST_Intersects(ST_SetSRID(ST_MakePoint(p.lon, p.lat), 4326), s.scope_geom))"),
    ),
    "observation": (
        "observations",
        ("EXISTS (SELECT FROM station_rows w WHERE w.station_id = s.id AND w.entity = 'animal'"
        " AND w.row_id = r.animal_id)"
        " OR ST_Intersects(ST_SetSRID(ST_MakePoint(r.lon_e7 / 1e7, r.lat_e7 / 1e7), 4326), s.scope_geom)"),
    ),
}  # fmt: skip


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What a station is to know of: an area (GeoJSON text) and animals (ids); None for both: everything."""

    area: str | None = None
    animals: list[str] | None = None

    @property
    def is_everything(self) -> bool:
        """Say whether nothing limits it."""
        return self.area is None and self.animals is None


class Crossing(msgspec.Struct, frozen=True):
    """A record, or the fixes of a collar between two raw times, that entered a station's scope or left it."""

    station_id: str
    entity: str
    row_id: str
    kind: Literal["enter", "leave"]
    first_ms: int | None = None
    last_ms: int | None = None


async def is_limited(connection: Connection, station_id: str) -> bool:
    """Say whether a station has a scope."""
    found = await connection.execute(f"SELECT {_HAS_SCOPE} FROM stations s WHERE s.id = %s".encode(), (station_id,))
    row = await found.fetchone()
    return row is not None and bool(row[0])


async def follow(connection: Connection, lines: Sequence[Noted], met: Collection[str] = ()) -> list[Crossing]:
    """Settle whose scope the rows that ``lines`` are about lie in, and return what entered and left.

    Called in the transaction that wrote those rows, before the lines are numbered; ``met`` are collars that a station
    brought fixes of for the first time. What a station says of a record that is not in its scope is answered with its
    leaving: it may have had it until then.
    """
    if not lines and not met:
        return []
    found = await connection.execute(_SCOPED_STATIONS.encode())
    stations = [identity for (identity,) in await found.fetchall()]
    if not stations:
        return []
    touched: dict[EntityName, set[str]] = {name: set() for name in SCOPED}
    touched["collar"].update(met)
    makers: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        if (of := touched.get(cast("EntityName", line.entity))) is not None:
            of.add(line.row_id)
            if line.kind == "insert" and line.origin in stations:
                makers.setdefault(line.entity, []).append((line.origin, line.row_id))
    await _touch_around(connection, stations, touched, [line for line in lines if line.entity == "fix"])
    crossings: list[Crossing] = []
    for entity in SCOPED:
        if entity == "observation":
            touched[entity] |= await _observed(
                connection, {each.row_id for each in crossings if each.entity == "animal"}
            )
        if touched[entity]:
            crossings += await _settle(connection, entity, stations, touched[entity], makers.get(entity, []))
    entered = [each for each in crossings if each.kind == "enter"]
    crossings += await _left_behind(connection, stations, lines)
    return [*crossings, *await _backfills(connection, entered)]


async def assign(connection: Connection, station_id: str, scope: Scope) -> list[Crossing]:
    """Give a station another scope and return what enters and leaves by it; the caller holds the lock of edits.

    Raises NotFound for a station or an animal that is not there, Invalid for an area that is none.
    """
    if scope.area is not None:
        check_area(scope.area)
    found = await connection.execute(
        "SELECT n.id FROM unnest(%s::text[]) n (id) WHERE NOT EXISTS (SELECT FROM animals a WHERE a.id = n.id)",
        (texts_array(scope.animals or []),),
    )
    if missing := [identity for (identity,) in await found.fetchall()]:
        raise NotFound(f"there is no animal {missing[0]}")
    was_limited = await is_limited(connection, station_id)
    found = await connection.execute(
        "UPDATE stations SET scope_area = %s, scope_animals = %s,"
        " scope_geom = ST_Multi(ST_CollectionExtract(ST_MakeValid(ST_GeomFromWKB(%s, 4326)), 3)) WHERE id = %s"
        " RETURNING id",
        (scope.area, scope.animals, wkb_of(scope.area), station_id),
    )
    if await found.fetchone() is None:
        raise NotFound(f"there is no station {station_id}")
    if scope.is_everything:
        return await _open_up(connection, station_id)
    if not was_limited:  # it has had everything
        for entity in SCOPED:
            table, _ = _BELONGS[entity]
            await connection.execute(
                f"INSERT INTO station_rows (station_id, entity, row_id) SELECT %s, %s, id FROM {table}".encode(),
                (station_id, entity),
            )
    crossings: list[Crossing] = []
    for entity in SCOPED:
        crossings += await _settle(connection, entity, [station_id], None, [])
    # the fixes of others it has not had, whatever records it knew
    found = await connection.execute(
        "SELECT row_id FROM station_rows WHERE station_id = %s AND entity = 'collar' ORDER BY row_id", (station_id,)
    )
    collars = [Crossing(station_id, "collar", identity, "enter") for (identity,) in await found.fetchall()]
    entered = [each for each in crossings if each.kind == "enter"]
    return [*crossings, *await _backfills(connection, entered if was_limited else collars)]


async def scope_of(connection: Connection, station_id: str) -> Scope:
    """Return the scope of a station; raises NotFound."""
    found = await connection.execute("SELECT scope_area, scope_animals FROM stations WHERE id = %s", (station_id,))
    row = await found.fetchone()
    if row is None:
        raise NotFound(f"there is no station {station_id}")
    return Scope(area=row[0], animals=row[1])


async def write(connection: Connection, crossings: Sequence[Crossing], first_seq: int) -> None:
    """Write crossings under the numbers from ``first_seq`` on."""
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO scope_changes (seq, station_id, entity, row_id, kind, first_ms, last_ms)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [(seq, *msgspec.structs.astuple(each)) for seq, each in enumerate(crossings, first_seq)],
        )


async def _touch_around(
    connection: Connection, stations: Sequence[str], touched: dict[EntityName, set[str]], fixes: Sequence[Noted]
) -> None:
    """Add what hangs on the touched rows: whose fixes changed, whose deployment did, and collars that go with them."""
    is_of_records = any(touched[name] for name in ("animal", "deployment", "collar"))
    if not fixes and not is_of_records:
        return
    touched["collar"].update(line.row_id for line in fixes)
    found = await connection.execute(
        "SELECT a.id FROM animals a WHERE a.pk IN ("
        " SELECT d.animal_pk FROM deployments d WHERE d.id = ANY(%(deployments)s)"
        " UNION SELECT d.animal_pk FROM deployments d JOIN collars c ON c.pk = d.collar_pk"
        "  WHERE c.id = ANY(%(collars)s)"
        " UNION SELECT c.stands_for_animal_pk FROM collars c WHERE c.id = ANY(%(collars)s)"
        " UNION SELECT f.animal_pk FROM unnest(%(names)s::text[], %(firsts)s::bigint[], %(lasts)s::bigint[])"
        "  n (id, first_ms, last_ms) JOIN collars c ON c.id = n.id"
        "  JOIN fixes f ON f.collar_pk = c.pk AND f.recorded_ms BETWEEN n.first_ms AND n.last_ms)",
        {
            "deployments": list(touched["deployment"]), "collars": list(touched["collar"]),
            "names": texts_array([line.row_id for line in fixes]),
            "firsts": numbers_array([line.first_ms for line in fixes]),
            "lasts": numbers_array([line.last_ms for line in fixes]),
        },
    )  # fmt: skip
    touched["animal"].update(identity for (identity,) in await found.fetchall())
    found = await connection.execute(
        "SELECT d.id, c.id FROM deployments d JOIN collars c ON c.pk = d.collar_pk JOIN animals a ON a.pk = d.animal_pk"
        " WHERE a.id = ANY(%s)",
        (list(touched["animal"]),),
    )
    for deployment_id, collar_id in await found.fetchall():
        touched["deployment"].add(deployment_id)
        touched["collar"].add(collar_id)
    touched["collar"].update(f"{STANDS_FOR}{animal_id}" for animal_id in touched["animal"])
    if is_of_records:  # a deployment that names another collar now tells nothing of the former one
        found = await connection.execute(
            "SELECT DISTINCT row_id FROM station_rows WHERE entity = 'collar' AND station_id = ANY(%s)",
            (list(stations),),
        )
        touched["collar"].update(identity for (identity,) in await found.fetchall())


async def _observed(connection: Connection, animals: Collection[str]) -> set[str]:
    """Return the observations of animals that entered a scope or left it."""
    found = await connection.execute("SELECT id FROM observations WHERE animal_id = ANY(%s)", (sorted(animals),))
    return {identity for (identity,) in await found.fetchall()}


async def _settle(
    connection: Connection,
    entity: EntityName,
    stations: Sequence[str],
    rows: Collection[str] | None,
    made: Sequence[tuple[str, str]],
) -> list[Crossing]:
    """Make ``station_rows`` right for records of one kind (all of them for None), and return what changed."""
    table, belongs = _BELONGS[entity]
    if entity != "deployment":
        belongs = f"{_MADE.format(entity=entity)} OR {belongs}"
    these = "true" if rows is None else "r.id = ANY(%(rows)s)"
    asked = {
        "entity": entity, "stations": list(stations), "rows": None if rows is None else sorted(rows),
        "makers": texts_array([station_id for station_id, _ in made]),
        "made": texts_array([row_id for _, row_id in made]),
    }  # fmt: skip
    found = await connection.execute(
        f"INSERT INTO station_rows (station_id, entity, row_id) SELECT s.id, %(entity)s, r.id FROM stations s"
        f" CROSS JOIN {table} r WHERE s.id = ANY(%(stations)s) AND {these} AND ({belongs}) ORDER BY s.id, r.id"
        " ON CONFLICT DO NOTHING RETURNING station_id, row_id".encode(),
        asked,
    )
    entered = sorted(await found.fetchall())
    found = await connection.execute(
        f"DELETE FROM station_rows w USING stations s, {table} r WHERE w.station_id = s.id AND w.row_id = r.id"
        f" AND w.entity = %(entity)s AND s.id = ANY(%(stations)s) AND {these} AND NOT coalesce({belongs}, false)"
        " RETURNING w.station_id, w.row_id".encode(),
        asked,
    )
    left = sorted(await found.fetchall())
    return [
        *(Crossing(station_id, entity, row_id, "enter") for station_id, row_id in entered),
        *(Crossing(station_id, entity, row_id, "leave") for station_id, row_id in left),
    ]


async def _left_behind(connection: Connection, stations: Sequence[str], lines: Sequence[Noted]) -> list[Crossing]:
    """Return a leaving for each record that a station spoke of and that is not in its scope."""
    said = sorted({(line.origin, line.entity, line.row_id) for line in lines if line.origin in stations})
    said = [each for each in said if each[1] in _BELONGS]
    if not said:
        return []
    found = await connection.execute(
        "SELECT n.station_id, n.entity, n.row_id FROM unnest(%s::text[], %s::text[], %s::text[])"
        " n (station_id, entity, row_id) WHERE NOT EXISTS (SELECT FROM station_rows w WHERE w.station_id = n.station_id"
        " AND w.entity = n.entity AND w.row_id = n.row_id)",
        tuple(texts_array(column) for column in zip(*said, strict=True)),
    )
    return [
        Crossing(station_id, entity, row_id, "leave") for station_id, entity, row_id in sorted(await found.fetchall())
    ]


async def _backfills(connection: Connection, entered: Sequence[Crossing]) -> list[Crossing]:
    """Return the fixes of collars that entered, with their spans, and have conflicts about what entered told again."""
    if not entered:
        return []
    await _tell_conflicts(connection, entered)
    collars = [each for each in entered if each.entity == "collar"]
    found = await connection.execute(
        "SELECT c.id, min(f.raw_ms), max(f.raw_ms) FROM collars c JOIN fixes f ON f.collar_pk = c.pk"
        " WHERE c.id = ANY(%s) GROUP BY c.id",
        ([each.row_id for each in collars],),
    )
    spans = {identity: (first_ms, last_ms) for identity, first_ms, last_ms in await found.fetchall()}
    return [
        Crossing(each.station_id, "fix", each.row_id, "enter", *spans[each.row_id])
        for each in collars
        if each.row_id in spans
    ]


async def _tell_conflicts(connection: Connection, entered: Sequence[Crossing]) -> None:
    """Number open conflicts about what entered anew: their cursor has passed them where they were out of scope."""
    found = await connection.execute(
        "SELECT c.id FROM conflicts c JOIN unnest(%s::text[], %s::text[]) n (entity, row_id) ON c.entity = n.entity"
        " AND c.row_id = n.row_id WHERE c.status = 'open' GROUP BY c.id ORDER BY c.id",
        (texts_array([each.entity for each in entered]), texts_array([each.row_id for each in entered])),
    )
    identities = [identity for (identity,) in await found.fetchall()]
    if not identities:
        return
    found = await connection.execute(
        "UPDATE counters SET value = value + %s WHERE name = 'conflict' RETURNING value", (len(identities),)
    )
    row = await found.fetchone()
    assert row is not None
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "UPDATE conflicts SET seq = %s WHERE id = %s",
            list(enumerate(identities, int(row[0]) - len(identities) + 1)),
        )


async def _open_up(connection: Connection, station_id: str) -> list[Crossing]:
    """Forget what lay in a station's scope: it has everything from now on; return what it has not had."""
    crossings: list[Crossing] = []
    for entity in SCOPED:
        table, _ = _BELONGS[entity]
        only = f" AND r.id NOT LIKE '{STANDS_FOR}%%'" if entity == "collar" else ""
        found = await connection.execute(
            f"SELECT r.id FROM {table} r WHERE NOT EXISTS (SELECT FROM station_rows w WHERE w.station_id = %s"
            f" AND w.entity = %s AND w.row_id = r.id){only} ORDER BY r.id".encode(),
            (station_id, entity),
        )
        crossings += [Crossing(station_id, entity, identity, "enter") for (identity,) in await found.fetchall()]
    await connection.execute("DELETE FROM station_rows WHERE station_id = %s", (station_id,))
    await _tell_conflicts(connection, crossings)
    return crossings
