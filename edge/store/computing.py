"""What the models owe to each animal, the fixes they need for it, and what they said: SQL and values.

``to_compute`` is written by triggers in the transaction that changes fixes, whoever writes; a row goes when what it
asked for is written and nothing came in between (``turn``). Killed anywhere, the same is computed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from edge.store.driver import Connection, insert_rows
from shared.errors import NotFound
from shared.movement.areas import Nearby
from shared.movement.geodesy import step_lengths_m
from shared.sync.listing import USABLE

FloatArray = npt.NDArray[np.float64]

_COLUMNS: Final = (
    "f.pk, f.id, f.recorded_ms, f.received_ms, f.sure_received_ms, f.lon_e7, f.lat_e7, f.h_acc_m, f.hdop, f.speed_mps,"
    " f.battery_mv, f.battery_pct, f.rssi_dbm"
)
_STEP: Final = "ended_ms, started_ms, step_m, angle_rad, state, confidence, lag, is_settled, log_likelihood"


#: Fixes that are read back for each step of a burn-in, at most: a fast collar's are thinned.
FIXES_A_STEP: Final = 16


#: Another animal was near if it was so within so long.
_AROUND_MS: Final = 3_600_000


class Due(msgspec.Struct, frozen=True):
    """An animal whose models are behind: from when on, and the turn at which that was read."""

    animal_pk: int
    since_ms: int
    turn: int


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The animal that fixes are of; ``fix_interval_s`` is what somebody entered for its collar."""

    pk: int
    id: str
    name: str
    species: str
    status: str
    collar_id: str | None
    fix_interval_s: int | None


class Computed(msgspec.Struct, frozen=True, kw_only=True):
    """By which models an animal was last computed, through when, and what was missing then."""

    model: str | None = None
    version: int | None = None
    interval_s: float | None = None
    through_ms: int | None = None
    missing: dict[str, str] = {}
    path_model: str | None = None
    path_sd_m: float | None = None
    variance_m2_per_s: float | None = None
    variance_ms: int | None = None


class Step(msgspec.Struct, frozen=True):
    """What the behaviour model said of a step, as it is kept."""

    ended_ms: int
    started_ms: int
    step_m: float
    angle_rad: float | None
    state: str
    confidence: float
    lag: int
    is_settled: bool
    log_likelihood: float


class Fix(msgspec.Struct, frozen=True):
    """A usable, placed fix as it is stored; positions in 1e-7 degree."""

    pk: int
    id: bytes
    recorded_ms: int
    received_ms: int
    sure_received_ms: int | None
    lon_e7: int
    lat_e7: int
    h_acc_m: float | None
    hdop: float | None
    speed_mps: float | None
    battery_mv: int | None
    battery_pct: float | None
    rssi_dbm: float | None


class Unplaced(msgspec.Struct, frozen=True):
    """The newest fix of an animal of which nobody has said yet how suitable its place is."""

    animal_pk: int
    species: str
    recorded_ms: int
    lon_e7: int
    lat_e7: int


class Unadvised(msgspec.Struct, frozen=True):
    """The newest fix of an animal on which nobody has advised yet, and how suitable its place is."""

    animal_pk: int
    species: str
    recorded_ms: int
    lon_e7: int
    lat_e7: int
    suitability: float | None


class Attempt(msgspec.Struct, frozen=True):
    """Something the collar sent at an instant, usable or not."""

    recorded_ms: int
    flags: int
    is_usable: bool


class Fixes(msgspec.Struct, frozen=True, eq=False):
    """Usable, placed fixes of an animal by time, one at each instant."""

    fixes: list[Fix]

    def __len__(self) -> int:
        return len(self.fixes)

    def column(self, name: str, scale: float = 1.0) -> FloatArray:
        """Return a column as float64, (n,); NaN where it is empty."""
        values = [getattr(fix, name) for fix in self.fixes]
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64) * scale

    @property
    def recorded_ms(self) -> list[int]:
        """The instants."""
        return [fix.recorded_ms for fix in self.fixes]


class Window(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What one animal's turn needs. ``is_whole``: the fixes reach to the newest one."""

    due: Due
    subject: Subject
    computed: Computed
    fixes: Fixes
    is_whole: bool


def due(db: Connection, limit: int) -> list[Due]:
    """Return animals that are behind, those with the newest fixes first: what is old has waited already."""
    found = db.execute("SELECT animal_pk, since_ms, turn FROM to_compute ORDER BY since_ms DESC LIMIT ?", (limit,))
    return [Due(*row) for row in found.fetchall()]


def count_due(db: Connection) -> int:
    """Return how many animals are behind."""
    (count,) = db.execute("SELECT count(*) FROM to_compute").fetchone()
    return int(count)


def subject(db: Connection, animal_pk: int) -> Subject | None:
    """Return a living animal with the collar that it wears."""
    row = db.execute(
        "SELECT a.pk, a.id, a.name, a.species, a.status, c.id, c.fix_interval_s FROM animals a"
        " LEFT JOIN deployments d ON d.animal_pk = a.pk AND d.ended_ms IS NULL AND d.deleted_ms IS NULL"
        " LEFT JOIN collars c ON c.pk = d.collar_pk WHERE a.pk = ? AND a.deleted_ms IS NULL LIMIT 1",
        (animal_pk,),
    ).fetchone()
    if row is None:
        return None
    pk, identity, name, species, status, collar_id, interval_s = row
    return Subject(
        pk=pk, id=identity, name=name, species=species, status=status, collar_id=collar_id, fix_interval_s=interval_s
    )


def computed(db: Connection, animal_pk: int) -> Computed:
    """Return how far an animal has been computed; empty before the first time."""
    row = db.execute(
        "SELECT model, version, interval_s, through_ms, missing, path_model, path_sd_m, variance_m2_per_s, variance_ms"
        " FROM computed WHERE animal_pk = ?",
        (animal_pk,),
    ).fetchone()
    if row is None:
        return Computed()
    model, version, interval_s, through_ms, missing, path_model, path_sd_m, variance, variance_ms = row
    return Computed(
        model=model,
        version=version,
        interval_s=interval_s,
        through_ms=through_ms,
        missing=msgspec.json.decode(missing, type=dict[str, str]),
        path_model=path_model,
        path_sd_m=path_sd_m,
        variance_m2_per_s=variance,
        variance_ms=variance_ms,
    )


def window(db: Connection, due: Due, *, burn_in: int, limit: int) -> Window | None:
    """Return the fixes that an animal's turn needs; None for an animal that is gone.

    They begin with a fix that a step was kept for, ``burn_in`` steps before the change; ``limit`` bounds them.
    """
    found = subject(db, due.animal_pk)
    if found is None:
        return None
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM fixes f WHERE f.animal_pk = ? AND f.recorded_ms >= ? AND f.lon_e7 IS NOT NULL"
        f" AND {USABLE} ORDER BY f.recorded_ms, f.id LIMIT ?",
        (due.animal_pk, _first_ms(db, due, burn_in), limit + 1),
    ).fetchall()
    return Window(
        due=due,
        subject=found,
        computed=computed(db, due.animal_pk),
        fixes=Fixes(_one_an_instant([Fix(*row) for row in rows[:limit]])),
        is_whole=len(rows) <= limit,
    )


def _first_ms(db: Connection, due: Due, burn_in: int) -> int:
    """Return where a window begins: a step's beginning, for a chain from any other fix could choose other fixes.

    Where steps are rare (gaps, no model for these intervals) the number of fixes is the bound.
    """
    by_steps = db.execute(
        "SELECT started_ms FROM steps WHERE animal_pk = ? AND ended_ms < ? ORDER BY ended_ms DESC LIMIT 1 OFFSET ?",
        (due.animal_pk, due.since_ms, burn_in - 1),
    ).fetchone()
    first_ms = -(2**62) if by_steps is None else int(by_steps[0])
    by_fixes = db.execute(
        f"SELECT f.recorded_ms FROM fixes f WHERE f.animal_pk = ? AND f.recorded_ms >= ? AND f.recorded_ms < ?"
        f" AND f.lon_e7 IS NOT NULL AND {USABLE} ORDER BY f.recorded_ms DESC LIMIT 1 OFFSET ?",
        (due.animal_pk, first_ms, due.since_ms, FIXES_A_STEP * burn_in - 1),
    ).fetchone()
    return first_ms if by_fixes is None else max(first_ms, _kept_before(db, due.animal_pk, by_fixes[0]))


def _kept_before(db: Connection, animal_pk: int, ms: int) -> int:
    """Return the newest fix at or before ``ms`` that a step over ``ms`` begins with; ``ms`` itself where none does."""
    (found,) = db.execute(
        "SELECT max(started_ms) FROM steps WHERE animal_pk = ? AND ended_ms > ? AND started_ms <= ?",
        (animal_pk, ms, ms),
    ).fetchone()
    return ms if found is None else int(found)


def _one_an_instant(fixes: Sequence[Fix]) -> list[Fix]:
    kept: list[Fix] = []
    for fix in fixes:
        if not kept or fix.recorded_ms != kept[-1].recorded_ms:
            kept.append(fix)
    return kept


def write_steps(db: Connection, animal_pk: int, since_ms: int, through_ms: int | None, steps: Sequence[Step]) -> None:
    """Put ``steps`` in the place of those that end from ``since_ms`` on, up to and including ``through_ms``."""
    until_ms = 2**62 if through_ms is None else through_ms
    kept = {
        row[0]: row
        for row in db.execute(
            f"SELECT {_STEP} FROM steps WHERE animal_pk = ? AND ended_ms BETWEEN ? AND ?",
            (animal_pk, since_ms, until_ms),
        ).fetchall()
    }
    rows = {step.ended_ms: msgspec.structs.astuple(step) for step in steps}
    gone = kept.keys() - rows.keys()
    db.executemany("DELETE FROM steps WHERE animal_pk = ? AND ended_ms = ?", [(animal_pk, ms) for ms in gone])
    news = [(animal_pk, *row) for ms, row in rows.items() if kept.get(ms) != row]
    insert_rows(db, f"INSERT OR REPLACE INTO steps (animal_pk, {_STEP})", "", news)


def write_computed(db: Connection, animal_pk: int, found: Computed) -> None:
    """Note by which models an animal was computed."""
    db.execute(
        "INSERT OR REPLACE INTO computed (animal_pk, model, version, interval_s, through_ms, missing, path_model,"
        " path_sd_m, variance_m2_per_s, variance_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            animal_pk, found.model, found.version, found.interval_s, found.through_ms,
            msgspec.json.encode(found.missing).decode(), found.path_model, found.path_sd_m, found.variance_m2_per_s,
            found.variance_ms,
        ),
    )  # fmt: skip


def settle(db: Connection, due: Due, again_ms: int | None) -> None:
    """Take an animal's turn off the list, or put it at ``again_ms`` where more is to come; not if it changed since."""
    if again_ms is None:
        db.execute("DELETE FROM to_compute WHERE animal_pk = ? AND turn = ?", (due.animal_pk, due.turn))
    else:
        db.execute(
            "UPDATE to_compute SET since_ms = ? WHERE animal_pk = ? AND turn = ?",
            (again_ms, due.animal_pk, due.turn),
        )


def without_standing(db: Connection, limit: int) -> list[Unplaced]:
    """Return animals of whose newest computed fix nobody has said how suitable its place is."""
    found = db.execute(
        f"SELECT c.animal_pk, a.species, c.through_ms, f.lon_e7, f.lat_e7 FROM computed c"
        " JOIN animals a ON a.pk = c.animal_pk AND a.deleted_ms IS NULL"
        " JOIN fixes f ON f.animal_pk = c.animal_pk AND f.recorded_ms = c.through_ms"
        f" WHERE c.habitat_ms IS NULL AND f.lon_e7 IS NOT NULL AND {USABLE} GROUP BY c.animal_pk LIMIT ?",
        (limit,),
    )
    return [Unplaced(*row) for row in found.fetchall()]


def write_standings(db: Connection, rows: Sequence[tuple[int, int, float | None, str | None, str | None]]) -> None:
    """Write how suitable places are: animal, instant of the fix, suitability, model, why there is none."""
    db.executemany(
        "UPDATE computed SET habitat_ms = ?2, suitability = ?3, habitat_model = ?4, habitat_missing = ?5"
        " WHERE animal_pk = ?1 AND through_ms = ?2",
        rows,
    )


def standing_of(db: Connection, animal_pk: int) -> tuple[float | None, str | None, str | None]:
    """Return how suitable the place of an animal's newest fix is, by which model, and why nobody can tell."""
    row = db.execute(
        "SELECT suitability, habitat_model, habitat_missing FROM computed WHERE animal_pk = ?", (animal_pk,)
    ).fetchone()
    return (None, None, None) if row is None else (row[0], row[1], row[2])


def areas_stamp(db: Connection) -> str:
    """Return a word that changes with every zone and corridor."""
    found = db.execute(
        "SELECT count(*), total(rev), max(updated_ms), count(deleted_ms) FROM zones UNION ALL"
        " SELECT count(*), total(rev), max(updated_ms), count(deleted_ms) FROM corridors"
    )
    return " ".join(str(value) for row in found.fetchall() for value in row)


def without_advice(db: Connection, areas: str, since_ms: int, limit: int, *, has_maps: bool = False) -> list[Unadvised]:
    """Return animals on whose newest computed fix nobody has advised, given these zones and corridors.

    A fix older than ``since_ms`` is passed over; where there are maps one waits until they have spoken.
    """
    found = db.execute(
        "SELECT c.animal_pk, a.species, c.through_ms, f.lon_e7, f.lat_e7, c.suitability FROM computed c"
        " JOIN animals a ON a.pk = c.animal_pk AND a.deleted_ms IS NULL"
        " JOIN fixes f ON f.animal_pk = c.animal_pk AND f.recorded_ms = c.through_ms"
        " LEFT JOIN advice d ON d.animal_pk = c.animal_pk"
        f" WHERE c.through_ms >= ? AND f.lon_e7 IS NOT NULL AND {USABLE}"
        " AND (d.animal_pk IS NULL OR d.recorded_ms <> c.through_ms OR d.areas <> ?)"
        " AND (? = 0 OR c.habitat_ms IS NOT NULL) GROUP BY c.animal_pk ORDER BY c.through_ms DESC LIMIT ?",
        (since_ms, areas, int(has_maps), limit),
    )
    return [Unadvised(*row) for row in found.fetchall()]


def write_advice(db: Connection, areas: str, rows: Sequence[tuple[int, int, str | None, str | None]]) -> None:
    """Write what was advised: animal, instant of the fix, advice, why there is none."""
    db.executemany(
        "INSERT INTO advice (animal_pk, recorded_ms, areas, said, missing) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (animal_pk) DO UPDATE SET recorded_ms = excluded.recorded_ms, areas = excluded.areas,"
        " said = excluded.said, missing = excluded.missing",
        [(pk, recorded_ms, areas, said, missing) for pk, recorded_ms, said, missing in rows],
    )


def advice_of(db: Connection, animal_pk: int, newest_ms: int) -> tuple[str | None, str | None]:
    """Return what was advised on an animal's newest fix, and why nothing was."""
    row = db.execute(
        "SELECT said, missing FROM advice WHERE animal_pk = ? AND recorded_ms = ?", (animal_pk, newest_ms)
    ).fetchone()
    return (None, None) if row is None else (row[0], row[1])


def forget_advice(db: Connection) -> None:
    """Forget all that was advised: another policy is to be asked."""
    db.execute("DELETE FROM advice")


def spoil_utilisation(db: Connection, animal_pk: int, since_ms: int) -> None:
    """Note from when on an animal's occurrence is no longer what its fixes say."""
    db.execute(
        "UPDATE utilisations SET stale_ms = min(coalesce(stale_ms, ?1), ?1) WHERE animal_pk = ?2 AND through_ms >= ?1",
        (since_ms, animal_pk),
    )


def owe_to_others(db: Connection, model_of: Callable[[str], tuple[str, int] | None]) -> int:
    """Put animals on the list that another model serves now than the one they were computed by; return how many."""
    others = [
        animal_pk
        for animal_pk, species, model, version in db.execute(
            "SELECT a.pk, a.species, c.model, c.version FROM computed c JOIN animals a ON a.pk = c.animal_pk"
            " WHERE a.deleted_ms IS NULL AND c.through_ms IS NOT NULL"
        ).fetchall()
        if (serving := model_of(species)) is not None and serving != (model, version)
    ]
    for animal_pk in others:
        db.execute(
            "INSERT INTO to_compute SELECT animal_pk, min(recorded_ms), 1 FROM fixes WHERE animal_pk = ?"
            " HAVING count(*) > 0"
            " ON CONFLICT (animal_pk) DO UPDATE SET since_ms = min(since_ms, excluded.since_ms), turn = turn + 1",
            (animal_pk,),
        )
    return len(others)


def forget(db: Connection, gone: Iterable[Due]) -> None:
    """Drop what was said of animals that are gone, and their turns."""
    for due in gone:
        for table in ("steps", "computed", "utilisations", "utilisation_tiles", "forecasts"):
            db.execute(f"DELETE FROM {table} WHERE animal_pk = ?", (due.animal_pk,))
        settle(db, due, None)


def steps_between(db: Connection, animal_pk: int, since_ms: int, until_ms: int, limit: int) -> list[Step]:
    """Return the newest ``limit`` steps that ended in a span, by time."""
    rows = db.execute(
        f"SELECT {_STEP} FROM steps WHERE animal_pk = ? AND ended_ms >= ? AND ended_ms < ?"
        " ORDER BY ended_ms DESC LIMIT ?",
        (animal_pk, since_ms, until_ms, limit),
    ).fetchall()
    return [_step(row) for row in reversed(rows)]


def states_between(db: Connection, since_ms: int, until_ms: int) -> list[tuple[str, int, int, str]]:
    """Return animal, start, end and state of the steps of all animals that ended in a span, by animal and time."""
    rows: list[tuple[str, int, int, str]] = db.execute(
        "SELECT a.id, s.started_ms, s.ended_ms, s.state FROM steps s JOIN animals a ON a.pk = s.animal_pk"
        " WHERE a.deleted_ms IS NULL AND s.ended_ms >= ? AND s.ended_ms < ? ORDER BY s.animal_pk, s.ended_ms",
        (since_ms, until_ms),
    ).fetchall()
    return rows


def shown_step(db: Connection, animal_pk: int) -> Step | None:
    """Return the newest step that is settled; where none is, the newest there is."""
    rows = db.execute(
        f"SELECT {_STEP} FROM steps WHERE animal_pk = ? ORDER BY ended_ms DESC LIMIT 4", (animal_pk,)
    ).fetchall()
    steps = [_step(row) for row in rows]
    return next((step for step in steps if step.is_settled), steps[0] if steps else None)


def track_between(db: Connection, animal_pk: int, first_ms: int, last_ms: int) -> list[tuple[int, int, int]]:
    """Return instant, longitude and latitude in 1e-7 degree of the usable fixes of a span, both ends too, by time."""
    found = db.execute(
        f"SELECT f.recorded_ms, f.lon_e7, f.lat_e7 FROM fixes f WHERE f.animal_pk = ? AND f.recorded_ms BETWEEN ? AND ?"
        f" AND f.lon_e7 IS NOT NULL AND {USABLE} ORDER BY f.recorded_ms, f.id",
        (animal_pk, first_ms, last_ms),
    )
    return [(ms, lon, lat) for ms, lon, lat in found.fetchall()]


def attempts_between(db: Connection, animal_pk: int, after_ms: int, last_ms: int) -> list[Attempt]:
    """Return what an animal's collar sent after an instant, through another, that no model may use."""
    found = db.execute(
        f"SELECT f.recorded_ms, f.flags, 0 FROM fixes f WHERE f.animal_pk = ? AND f.recorded_ms > ?"
        f" AND f.recorded_ms <= ? AND NOT {USABLE} ORDER BY f.recorded_ms",
        (animal_pk, after_ms, last_ms),
    )
    return [Attempt(recorded_ms, flags, bool(usable)) for recorded_ms, flags, usable in found.fetchall()]


def battery_of(db: Connection, animal_pk: int) -> tuple[int | None, float | None] | None:
    """Return millivolts and percent that the collar on an animal last said of itself; None where it wears none."""
    row = db.execute(
        "SELECT c.battery_mv, c.battery_pct FROM deployments d JOIN collars c ON c.pk = d.collar_pk"
        " WHERE d.animal_pk = ? AND d.ended_ms IS NULL AND d.deleted_ms IS NULL LIMIT 1",
        (animal_pk,),
    ).fetchone()
    return None if row is None else (row[0], row[1])


def company_of(db: Connection, animal_pk: int, fix: Fix, reach_m: float) -> list[Nearby]:
    """Return other animals whose newest usable fix of the hour around ``fix`` lies within ``reach_m`` of it."""
    newest: dict[str, tuple[str, str, int, int]] = {}
    for identity, name, species, lon_e7, lat_e7 in db.execute(
        f"SELECT a.id, a.name, a.species, f.lon_e7, f.lat_e7 FROM fixes f JOIN animals a ON a.pk = f.animal_pk"
        f" WHERE f.recorded_ms BETWEEN ? AND ? AND f.animal_pk <> ? AND f.lon_e7 IS NOT NULL AND {USABLE}"
        " AND a.deleted_ms IS NULL AND a.status = 'active' ORDER BY f.recorded_ms, f.id",
        (fix.recorded_ms - _AROUND_MS, fix.recorded_ms + _AROUND_MS, animal_pk),
    ).fetchall():
        newest[identity] = name, species, lon_e7, lat_e7
    near = []
    for identity, (name, species, lon_e7, lat_e7) in newest.items():
        lon, lat = np.array([fix.lon_e7, lon_e7]) * 1e-7, np.array([fix.lat_e7, lat_e7]) * 1e-7
        distance_m = float(step_lengths_m(lon, lat)[0])
        if distance_m <= reach_m:
            near.append(Nearby(kind="animal", id=identity, name=name, distance_m=distance_m, species=species))
    return near


def pk_of(db: Connection, animal_id: str) -> int:
    """Return the row of a living animal; raises NotFound."""
    row = db.execute("SELECT pk FROM animals WHERE id = ? AND deleted_ms IS NULL", (animal_id,)).fetchone()
    if row is None:
        raise NotFound(f"there is no animal {animal_id}")
    return int(row[0])


def _step(row: Sequence[Any]) -> Step:
    values = list(row)
    values[7] = bool(values[7])
    return Step(*values)
