"""What stations' models said of animals: into the database, and out of it for who sees everything.

Rows say what a station says stands (``shared.wire.batch.results``), so a batch is written by taking away what it
replaces. Of several stations that speak of an animal the one counts that knows all of it: a station hears the fixes of
others only where its scope tells it of the animal. Where none does, nobody has said anything.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from cloud.store.arrays import texts_array
from cloud.store.batches import Taken, halving_fit
from cloud.store.database import Connection
from shared.errors import Invalid
from shared.insight import StepSaid
from shared.sync.records import check_text, from_ms
from shared.wire.batch.results import MapHead, MapPart, Rest, Results, Said, Stretch

#: Instants and numbers that the tables hold.
_MOST_MS: Final = 2**62
_MOST_PLACE: Final = 2**31 - 1
_MOST_CELLS_BYTES: Final = 1 << 16
_MOST_HEAD_BYTES: Final = 1 << 16
_MAX_ID_CHARACTERS: Final = 200
#: Steps of one answer.
MOST_STEPS: Final = 50_000

#: Another station brought fixes of what the animal ``a`` wears or wore.
_ELSEWHERE: Final = (
    "EXISTS (SELECT FROM station_collars k JOIN collars c ON c.pk = k.collar_pk LEFT JOIN deployments d"
    " ON d.collar_pk = c.pk AND d.deleted_ms IS NULL WHERE k.is_brought AND k.station_id <> s.id"
    " AND (d.animal_pk = a.pk OR c.stands_for_animal_pk = a.pk))"
)
_KNOWS_ALL: Final = (
    "s.retired_ms IS NULL AND CASE WHEN s.scope_geom IS NOT NULL OR s.scope_animals IS NOT NULL THEN"
    " EXISTS (SELECT FROM station_rows w WHERE w.station_id = s.id AND w.entity = 'animal' AND w.row_id = a.id)"
    f" ELSE NOT {_ELSEWHERE} END"
)
_TOLD: Final = (
    "SELECT DISTINCT ON (a.id) a.id, s.id, r.said FROM animals a JOIN station_results r ON r.animal_id = a.id"
    f" JOIN stations s ON s.id = r.station_id WHERE {{0}} AND a.deleted_ms IS NULL AND {_KNOWS_ALL}"
    " ORDER BY a.id, r.through_ms DESC, r.received_ms DESC"
)
_STEP: Final = "t.started_ms, t.ended_ms, t.step_m, t.state, t.confidence, t.is_settled, t.log_likelihood"
#: Of the newest steps the first that is settled is shown.
_LOOKED_AT: Final = 4


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a station said of an animal; ``step`` is the one that is shown."""

    station_id: str
    said: Said
    step: StepSaid | None = None


class KeptMap(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A station's map of an animal's occurrence: its head, and its tiles by row and column."""

    station_id: str
    head: MapHead
    tiles: Mapping[tuple[int, int], bytes]


# --- in


async def take_results(connection: Connection, results: Results, station_id: str, now_ms: int) -> Taken:
    """Put what a batch says in the place of what its station said before; what cannot be kept goes to quarantine."""
    taken = Taken(Counter(), [], [], refused=[])
    parts = _by_animal(results)

    async def take(places: Sequence[int]) -> None:
        for place in places:
            await _write(connection, station_id, *parts[place], now_ms)
        taken.counts["applied"] += len(places)

    def refuse(place: int, code: str, detail: str) -> None:
        animal_id, part = parts[place]
        body = msgspec.msgpack.encode({"animal_id": animal_id, "steps": part.steps, "rest": part.rest})
        taken.refused.append((code, detail, body))
        taken.counts["quarantined"] += 1

    await halving_fit(connection, len(parts), lambda place: _check(*parts[place]), take, refuse)
    return taken


def _by_animal(results: Results) -> list[tuple[str, Results]]:
    """Return what is said of each animal, by id: stations that are told of one another wait in one order."""
    steps, rest = results.steps, results.rest
    places: dict[str, list[int]] = {}
    for place, animal_id in enumerate(steps["animal_id"]):
        places.setdefault(animal_id, []).append(place)
    named = {each.animal_id for each in rest.stretches} | {each.animal_id for each in rest.said}
    found = []
    for animal_id in sorted(places.keys() | named | {each.animal_id for each in rest.maps}):
        own = places.get(animal_id, [])
        columns = {name: [values[place] for place in own] for name, values in steps.items()}
        found.append((
            animal_id,
            Results(
                columns,
                Rest(
                    [each for each in rest.stretches if each.animal_id == animal_id],
                    [each for each in rest.said if each.animal_id == animal_id],
                    [each for each in rest.maps if each.animal_id == animal_id],
                ),
            ),
        ))  # fmt: skip
    return found


def _check(animal_id: str, part: Results) -> None:
    """Raise Invalid for what the tables could not hold, or no model says."""
    check_text("animal_id", animal_id)
    if not animal_id or len(animal_id) > _MAX_ID_CHARACTERS:
        raise Invalid(f"animal_id: has 1 to {_MAX_ID_CHARACTERS} characters")
    steps, rest = part.steps, part.rest
    ends = steps["ended_ms"]
    if len(set(ends)) < len(ends):
        raise Invalid("ended_ms: one step ends at an instant")
    for ms in (*ends, *steps["started_ms"], *(each.since_ms for each in rest.stretches)):
        if abs(ms) > _MOST_MS:
            raise Invalid("a step ends at an instant that nobody can tell")
    for state in set(steps["state"]):
        check_text("state", state)
    if not all(any(_holds(each, ms) for each in rest.stretches) for ms in ends):
        raise Invalid("a step lies in no stretch of its animal")
    for said in rest.said:
        if said.through_ms is not None and abs(said.through_ms) > _MOST_MS:
            raise Invalid("through_ms: must be an instant")
        numbers = (said.interval_s, said.path_sd_m, said.suitability, said.distance_24h_m)
        if not all(number is None or math.isfinite(number) for number in numbers):
            raise Invalid("what models said must be finite numbers")
        if not all(math.isfinite(each.lon_deg) and math.isfinite(each.lat_deg) for each in said.predicted):
            raise Invalid("predicted: must be places")
    for drawn in rest.maps:
        if drawn.head is not None:
            check_text("model", drawn.head.model)
            if (
                len(drawn.head.head) > _MOST_HEAD_BYTES
                or max(abs(drawn.head.since_ms), abs(drawn.head.through_ms)) > _MOST_MS
            ):
                raise Invalid("a map's head is not what it should be")
        for row, column, cells in drawn.tiles:
            if max(abs(row), abs(column)) > _MOST_PLACE or len(cells) > _MOST_CELLS_BYTES:
                raise Invalid("a map's tile is not what it should be")


def _holds(stretch: Stretch, ms: int) -> bool:
    return stretch.since_ms <= ms and (stretch.until_ms is None or ms <= stretch.until_ms)


async def _write(connection: Connection, station_id: str, animal_id: str, part: Results, now_ms: int) -> None:
    key = (station_id, animal_id)
    for stretch in part.rest.stretches:
        await connection.execute(
            "DELETE FROM station_steps WHERE station_id = %s AND animal_id = %s AND ended_ms >= %s"
            " AND (%s::bigint IS NULL OR ended_ms <= %s)",
            (*key, stretch.since_ms, stretch.until_ms, stretch.until_ms),
        )
    names = ("ended_ms", "started_ms", "state", "confidence", "is_settled", "step_m", "log_likelihood")
    columns = [part.steps[name] for name in names]
    if columns[0]:
        columns[4] = [bool(value) for value in columns[4]]
        await connection.execute(
            "INSERT INTO station_steps (station_id, animal_id, ended_ms, started_ms, state, confidence, is_settled,"
            " step_m, log_likelihood) SELECT %s, %s, * FROM unnest(%s::bigint[], %s::bigint[], %s::text[],"
            " %s::float8[], %s::boolean[], %s::float8[], %s::float8[])",
            (*key, *columns),
        )
    for said in part.rest.said:
        await _write_said(connection, key, said, now_ms)
    for drawn in part.rest.maps:
        await _write_map(connection, key, drawn, now_ms)


async def _write_said(connection: Connection, key: tuple[str, str], said: Said, now_ms: int) -> None:
    if said.through_ms is None:
        await connection.execute("DELETE FROM station_results WHERE station_id = %s AND animal_id = %s", key)
        return
    await connection.execute(
        "INSERT INTO station_results (station_id, animal_id, through_ms, said, received_ms) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (station_id, animal_id) DO UPDATE SET through_ms = excluded.through_ms, said = excluded.said,"
        " received_ms = excluded.received_ms",
        (*key, said.through_ms, msgspec.json.encode(said).decode(), now_ms),
    )


async def _write_map(connection: Connection, key: tuple[str, str], drawn: MapPart, now_ms: int) -> None:
    gone = [(row, column) for row, column, cells in drawn.tiles if not cells]
    kept = [each for each in drawn.tiles if each[2]]
    async with connection.cursor() as cursor:
        await cursor.executemany(
            'DELETE FROM station_map_tiles WHERE station_id = %s AND animal_id = %s AND "row" = %s AND "column" = %s',
            [(*key, *place) for place in gone],
        )
        await cursor.executemany(
            'INSERT INTO station_map_tiles (station_id, animal_id, "row", "column", cells) VALUES (%s, %s, %s, %s, %s)'
            ' ON CONFLICT (station_id, animal_id, "row", "column") DO UPDATE SET cells = excluded.cells',
            [(*key, *each) for each in kept],
        )
    head = drawn.head
    await connection.execute(
        "INSERT INTO station_maps (station_id, animal_id, is_whole, since_ms, through_ms, model, head, received_ms)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (station_id, animal_id) DO UPDATE SET"
        " is_whole = excluded.is_whole, since_ms = excluded.since_ms, through_ms = excluded.through_ms,"
        " model = excluded.model, head = excluded.head, received_ms = excluded.received_ms",
        (
            *key,
            head is not None,
            *((None,) * 4 if head is None else (head.since_ms, head.through_ms, head.model, head.head)),
            now_ms,
        ),
    )


# --- out


async def told(connection: Connection, animal_ids: Sequence[str]) -> dict[str, Told]:
    """Return of animals, by id, what the station says that knows all of each, with the step that is shown."""
    found = await connection.execute(_TOLD.format("a.id = ANY(%s)").encode(), (texts_array(animal_ids),))
    rows = await found.fetchall()
    found = await connection.execute(
        f"SELECT n.animal_id, {_STEP} FROM unnest(%s::text[], %s::text[]) n (animal_id, station_id)"
        " CROSS JOIN LATERAL (SELECT * FROM station_steps t WHERE t.station_id = n.station_id"
        f" AND t.animal_id = n.animal_id ORDER BY t.ended_ms DESC LIMIT {_LOOKED_AT}) t"
        " ORDER BY n.animal_id, t.ended_ms DESC".encode(),
        (texts_array([row[0] for row in rows]), texts_array([row[1] for row in rows])),
    )
    steps: dict[str, list[StepSaid]] = {}
    for animal_id, *values in await found.fetchall():
        steps.setdefault(animal_id, []).append(_step(values))
    return {
        animal_id: Told(
            station_id=station_id, said=msgspec.json.decode(said, type=Said), step=_shown(steps.get(animal_id, []))
        )
        for animal_id, station_id, said in rows
    }


async def steps_between(
    connection: Connection, station_id: str, animal_id: str, since_ms: int, until_ms: int
) -> list[StepSaid]:
    """Return the newest steps that a station says ended in a span, by time."""
    found = await connection.execute(
        f"SELECT {_STEP} FROM station_steps t WHERE t.station_id = %s AND t.animal_id = %s AND t.ended_ms >= %s"
        f" AND t.ended_ms < %s ORDER BY t.ended_ms DESC LIMIT {MOST_STEPS}".encode(),
        (station_id, animal_id, since_ms, until_ms),
    )
    return [_step(row) for row in reversed(await found.fetchall())]


async def states_between(connection: Connection, since_ms: int, until_ms: int) -> list[tuple[str, int, int, str]]:
    """Return animal, start, end and state of the steps of all animals that ended in a span, by animal and time."""
    found = await connection.execute(
        f"WITH told AS ({_TOLD.format('r.through_ms >= %s')}) SELECT n.animal_id, t.started_ms,"
        " t.ended_ms, t.state"
        " FROM told n (animal_id, station_id, said) JOIN station_steps t ON t.station_id = n.station_id"
        " AND t.animal_id = n.animal_id AND t.ended_ms >= %s AND t.ended_ms < %s"
        " ORDER BY n.animal_id, t.ended_ms".encode(),
        (since_ms, since_ms, until_ms),
    )
    return [(animal_id, int(started), int(ended), state) for animal_id, started, ended, state in await found.fetchall()]


async def map_of(connection: Connection, animal_id: str, at_least_ms: int) -> KeptMap | None:
    """Return the map of the station that knows all of an animal; None unless it is whole and reaches an instant."""
    known = await told(connection, [animal_id])
    if animal_id not in known:
        return None
    key = known[animal_id].station_id, animal_id
    found = await connection.execute(
        "SELECT since_ms, through_ms, model, head FROM station_maps WHERE station_id = %s AND animal_id = %s"
        " AND is_whole AND through_ms >= %s",
        (*key, at_least_ms),
    )
    row = await found.fetchone()
    if row is None:
        return None
    since_ms, through_ms, model, head = row
    found = await connection.execute(
        'SELECT "row", "column", cells FROM station_map_tiles WHERE station_id = %s AND animal_id = %s', key
    )
    return KeptMap(
        station_id=key[0], head=MapHead(since_ms=since_ms, through_ms=through_ms, model=model, head=bytes(head)),
        tiles={(row, column): bytes(cells) for row, column, cells in await found.fetchall()},
    )  # fmt: skip


async def all_of(connection: Connection, animal_id: str) -> list[tuple[str, Said, int, tuple[int, str] | None]]:
    """Return what every station says of an animal: station, what, when it came; end and model of its whole map."""
    found = await connection.execute(
        "SELECT r.station_id, r.said, r.received_ms, m.through_ms, m.model FROM station_results r"
        " LEFT JOIN station_maps m ON m.station_id = r.station_id AND m.animal_id = r.animal_id AND m.is_whole"
        ' WHERE r.animal_id = %s ORDER BY r.station_id COLLATE "C"',
        (animal_id,),
    )
    return [
        (
            station_id, msgspec.json.decode(said, type=Said), int(received_ms),
            None if map_ms is None else (int(map_ms), model),
        )
        for station_id, said, received_ms, map_ms, model in await found.fetchall()
    ]  # fmt: skip


def _step(row: Sequence[Any]) -> StepSaid:
    started_ms, ended_ms, step_m, state, confidence, is_settled, log_likelihood = row
    return StepSaid(
        started_at=from_ms(started_ms), ended_at=from_ms(ended_ms), step_m=step_m, state=state, confidence=confidence,
        is_settled=is_settled, log_likelihood=log_likelihood,
    )  # fmt: skip


def _shown(steps: Iterable[StepSaid]) -> StepSaid | None:
    newest = list(steps)
    return next((step for step in newest if step.is_settled), newest[0] if newest else None)
