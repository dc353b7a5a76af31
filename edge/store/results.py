"""What the pipeline's models said, as it waits for the cloud and goes there: the channel ``results``.

Nothing of it is an event: a batch says what stands when it is cut, and what changes meanwhile waits again. So a batch
that is put back makes no more wait than the rows that it was cut from (``Cut``).

Steps and what else is said of an animal go before maps. A map goes once its record has grown by ``MAP_EVERY_MS`` since
the cloud had it: each fix changes tiles, and each tile is as large as a hundred fixes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import structlog

from edge.store import computing
from edge.store.driver import Connection
from shared import insight
from shared.errors import Invalid
from shared.movement.geodesy import step_lengths_m
from shared.wire.batch.columns import Columns
from shared.wire.batch.results import (
    NO_STEPS,
    STEP_COLUMNS,
    MapHead,
    MapPart,
    Rest,
    Results,
    Said,
    Stretch,
    encode_results,
    rounded,
)

log = structlog.get_logger()

#: Beyond every step: of an animal no step waits.
NO_STEP_MS: Final = 2**62
MAP_EVERY_MS: Final = 86_400_000
_DAY_MS: Final = 86_400_000
#: A tile counts as so many steps where a batch is filled.
_STEPS_A_TILE: Final = 16
_NAMES: Final = tuple(column.name for column in STEP_COLUMNS)
_STEP: Final = ", ".join(_NAMES[1:])
_WAITING: Final = "SELECT animal_pk, since_ms FROM unsent_results ORDER BY since_ms DESC, animal_pk LIMIT ?"
#: An animal's map is due: it waits, and is whole, and has grown.
_DUE_MAPS: Final = (
    "SELECT u.animal_pk FROM utilisations u LEFT JOIN sent_maps m ON m.animal_pk = u.animal_pk"
    " WHERE u.stale_ms IS NULL AND EXISTS (SELECT 1 FROM unsent_tiles t WHERE t.animal_pk = u.animal_pk)"
    f" AND (m.through_ms IS NULL OR u.through_ms >= m.through_ms + {MAP_EVERY_MS} OR u.through_ms < m.through_ms)"
)
#: The map is no more: what the cloud has of it has to go.
_GONE_MAPS: Final = (
    "SELECT DISTINCT t.animal_pk FROM unsent_tiles t WHERE NOT EXISTS"
    " (SELECT 1 FROM utilisations u WHERE u.animal_pk = t.animal_pk)"
)


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that a batch was cut from: of animals the first step, and tiles of maps with those that were whole."""

    animals: list[tuple[int, int]] = []
    tiles: list[tuple[int, int, int]] = []
    #: maps of which the head went
    maps: list[int] = []

    @property
    def items(self) -> int:
        """How many there are of what people are told that waits."""
        return len(self.animals) + len(self.tiles)


def cut(db: Connection, limit: int, now_ms: int) -> tuple[bytes, Cut] | None:
    """Take what goes next off what waits, at most about ``limit`` steps; None for nothing.

    What no batch can hold, and no model says so much, is told of and passed over.
    """
    return _cut_said(db, limit, now_ms) or _cut_maps(db, max(1, limit // _STEPS_A_TILE))


def put_back(db: Connection, held: Cut) -> None:
    """Make what a batch held wait again."""
    for animal_pk, since_ms in held.animals:
        _wait(db, animal_pk, since_ms)
    db.executemany("INSERT OR IGNORE INTO unsent_tiles VALUES (?, ?, ?)", held.tiles)
    db.executemany("DELETE FROM sent_maps WHERE animal_pk = ?", [(animal_pk,) for animal_pk in held.maps])


def wait_whole(db: Connection) -> None:
    """Make everything wait that models say, as for a cloud that has nothing of it."""
    db.execute(
        "INSERT INTO unsent_results SELECT c.animal_pk, coalesce((SELECT min(s.ended_ms) FROM steps s"
        f" WHERE s.animal_pk = c.animal_pk), {NO_STEP_MS}) FROM computed c WHERE true"
        " ON CONFLICT (animal_pk) DO UPDATE SET since_ms = min(since_ms, excluded.since_ms)"
    )
    db.execute('INSERT OR IGNORE INTO unsent_tiles SELECT animal_pk, row, "column" FROM utilisation_tiles')
    db.execute("DELETE FROM sent_maps")


def waiting(db: Connection) -> int:
    """Count animals of which something waits, and tiles of the maps that are due."""
    (animals, tiles) = db.execute(
        "SELECT (SELECT count(*) FROM unsent_results),"
        f" (SELECT count(*) FROM unsent_tiles WHERE animal_pk IN ({_DUE_MAPS} UNION {_GONE_MAPS}))"
    ).fetchone()
    return int(animals + tiles)


def write_forecast(db: Connection, animal_pk: int, recorded_ms: int, said: Sequence[insight.Predicted]) -> None:
    """Keep where an animal may be, as it was foretold from its fix of ``recorded_ms``."""
    db.execute(
        "INSERT OR REPLACE INTO forecasts (animal_pk, recorded_ms, said) VALUES (?, ?, ?)",
        (animal_pk, recorded_ms, msgspec.json.encode(list(said)).decode()),
    )


# --- steps and what else is said


def _cut_said(db: Connection, limit: int, now_ms: int) -> tuple[bytes, Cut] | None:
    """Return a batch of animals, those with the newest first: what is old has waited already."""
    while asked := db.execute(_WAITING, (limit,)).fetchall():
        columns: Columns = {name: [] for name in _NAMES}
        stretches: list[Stretch] = []
        said: list[Said] = []
        held: list[tuple[int, int]] = []
        rest: list[tuple[int, int]] = []  # where an animal goes on that did not fit
        for animal_pk, since_ms in asked:
            room = limit - len(columns["animal_id"])
            if room < 1:
                break
            animal_id = _animal_id(db, animal_pk)
            held.append((animal_pk, since_ms))
            if animal_id is None:
                continue
            steps = db.execute(
                f"SELECT {_STEP} FROM steps WHERE animal_pk = ? AND ended_ms >= ? ORDER BY ended_ms LIMIT ?",
                (animal_pk, since_ms, room + 1),
            ).fetchall()
            is_whole = len(steps) <= room
            for step in steps[:room]:
                columns["animal_id"].append(animal_id)
                for name, value in zip(_NAMES[1:], step, strict=True):
                    columns[name].append(rounded(name, value))
            if since_ms < NO_STEP_MS:
                stretches.append(Stretch(animal_id, since_ms, None if is_whole else int(steps[room - 1][0])))
            if is_whole:
                said.append(_said_of(db, animal_pk, animal_id, now_ms))
            else:
                rest.append((animal_pk, int(steps[room - 1][0]) + 1))  # what lies before the next may be no more
        payload = b""
        try:
            payload = encode_results(Results(columns, Rest(stretches, said)))
        except Invalid as error:
            if limit > 1:
                limit //= 2
                continue
            log.warning("sync.unsendable", entity="result", pk=held[0][0], reason=error.detail)
            stretches, said, rest = [], [], []
        db.executemany("DELETE FROM unsent_results WHERE animal_pk = ?", [(pk,) for pk, _ in held])
        for animal_pk, since_ms in rest:
            _wait(db, animal_pk, since_ms)
        if stretches or said:
            return payload, Cut(animals=held)
    return None


def _said_of(db: Connection, animal_pk: int, animal_id: str, now_ms: int) -> Said:
    row = db.execute(
        "SELECT model, version, interval_s, through_ms, missing, path_model, path_sd_m, suitability, habitat_model,"
        " habitat_missing FROM computed WHERE animal_pk = ?",
        (animal_pk,),
    ).fetchone()
    if row is None or row[3] is None:
        return Said(animal_id=animal_id, told_ms=now_ms)
    model, version, interval_s, through_ms, missing, path_model, path_sd_m, suitability, habitat_model, no_habitat = row
    models = {} if model is None else {"behaviour": f"{model} {version}"}
    models |= {} if path_model is None else {"path": path_model}
    models |= {} if habitat_model is None or suitability is None else {"habitat": habitat_model}
    lacks: dict[str, str] = msgspec.json.decode(missing, type=dict[str, str])
    lacks |= {} if no_habitat is None else {"habitat": no_habitat}
    advised = db.execute(
        "SELECT said, missing FROM advice WHERE animal_pk = ? AND recorded_ms = ?", (animal_pk, through_ms)
    ).fetchone()
    advice = None if advised is None or advised[0] is None else msgspec.json.decode(advised[0], type=insight.Advice)
    lacks |= {"corridor": advised[1]} if advised is not None and advised[1] is not None else {}
    foretold = db.execute(
        "SELECT said FROM forecasts WHERE animal_pk = ? AND recorded_ms = ?", (animal_pk, through_ms)
    ).fetchone()
    predicted = () if foretold is None else msgspec.json.decode(foretold[0], type=tuple[insight.Predicted, ...])
    day = computing.track_between(db, animal_pk, through_ms - _DAY_MS + 1, through_ms)
    _, lon, lat = np.array(day, dtype=np.float64).reshape(-1, 3).T * 1e-7
    return Said(
        distance_24h_m=round(float(step_lengths_m(lon, lat).sum()), 1) if len(day) > 1 else None,
        animal_id=animal_id, through_ms=through_ms, told_ms=now_ms, interval_s=interval_s, path_sd_m=path_sd_m,
        suitability=suitability, models=models, missing=lacks, advice=advice, predicted=predicted,
    )  # fmt: skip


def _animal_id(db: Connection, animal_pk: int) -> str | None:
    row = db.execute("SELECT id FROM animals WHERE pk = ?", (animal_pk,)).fetchone()
    return None if row is None else str(row[0])


def _wait(db: Connection, animal_pk: int, since_ms: int) -> None:
    db.execute(
        "INSERT INTO unsent_results VALUES (?, ?) ON CONFLICT (animal_pk) DO UPDATE SET"
        " since_ms = min(since_ms, excluded.since_ms)",
        (animal_pk, since_ms),
    )


# --- maps


def _cut_maps(db: Connection, limit: int) -> tuple[bytes, Cut] | None:
    """Return a batch with tiles of one map that is due, and its head with the last of them."""
    row = db.execute(f"{_DUE_MAPS} UNION {_GONE_MAPS} LIMIT 1").fetchone()
    if row is None:
        return None
    (animal_pk,) = row
    animal_id = _animal_id(db, animal_pk)
    if animal_id is None:
        db.execute("DELETE FROM unsent_tiles WHERE animal_pk = ?", (animal_pk,))
        return _cut_maps(db, limit)
    places = db.execute(
        'SELECT row, "column" FROM unsent_tiles WHERE animal_pk = ? ORDER BY row, "column"', (animal_pk,)
    ).fetchall()
    while True:
        some = places[:limit]
        is_last = len(some) == len(places)
        head = _head_of(db, animal_pk) if is_last else None
        part = MapPart(animal_id=animal_id, tiles=[_tile(db, animal_pk, *place) for place in some], head=head)
        payload: bytes | None
        try:
            payload = encode_results(Results(NO_STEPS, Rest(maps=[part])))
        except Invalid as error:
            if len(some) > 1:
                limit = len(some) // 2
                continue
            log.warning("sync.unsendable", entity="map", pk=animal_pk, reason=error.detail)
            payload = None
        break
    db.executemany(
        'DELETE FROM unsent_tiles WHERE animal_pk = ? AND row = ? AND "column" = ?',
        [(animal_pk, *place) for place in some],
    )
    if payload is None:
        return _cut_maps(db, limit)
    if is_last:
        db.execute("DELETE FROM sent_maps WHERE animal_pk = ?", (animal_pk,))
        if head is not None:
            db.execute("INSERT INTO sent_maps VALUES (?, ?)", (animal_pk, head.through_ms))
    return payload, Cut(tiles=[(animal_pk, *place) for place in some], maps=[animal_pk] if is_last else [])


def _tile(db: Connection, animal_pk: int, row: int, column: int) -> tuple[int, int, bytes]:
    found = db.execute(
        'SELECT cells FROM utilisation_tiles WHERE animal_pk = ? AND row = ? AND "column" = ?', (animal_pk, row, column)
    ).fetchone()
    return row, column, b"" if found is None else bytes(found[0])


def _head_of(db: Connection, animal_pk: int) -> MapHead | None:
    row: Sequence[Any] | None = db.execute(
        "SELECT u.since_ms, u.through_ms, u.head, c.path_model FROM utilisations u LEFT JOIN computed c"
        " ON c.animal_pk = u.animal_pk WHERE u.animal_pk = ?",
        (animal_pk,),
    ).fetchone()
    if row is None:
        return None
    since_ms, through_ms, head, model = row
    return MapHead(since_ms=since_ms, through_ms=through_ms, model=model or "", head=bytes(head))
