"""What a reduced view selects from: SQL that both homes run, made of ``shared.privacy`` and of nothing else.

Each function gives a ``WITH reduced AS (...)`` to stand before a statement; its rows have the columns of the table and
take its place: conditions, order, counts and pages of the statement then act on the reduced rows. What a reduced row
does not show is empty in it, so a filter on it finds nothing. ``is_reduced`` tells such rows from exact ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from shared.domain import Alert, Animal, Collar, Corridor, Deployment, Observation, Patrol, Ranger, Zone
from shared.privacy import NAMED_DEG2, TIERS, UNKNOWN_WEARER, View
from shared.sync.listing import USABLE
from shared.sync.records import ALERT, OBSERVATION, Entity

__all__ = [
    "SPECIES", "Reduced", "Source", "after_edit", "alerts", "category_of_rows", "fixes", "is_old", "observations",
    "patrol_condition", "personal", "reduced", "shows_areas",
]  # fmt: skip

#: Asked before, in the same snapshot: the species that there are.
SPECIES: Final = "SELECT DISTINCT species FROM animals"

_DAY_MS: Final = 86_400_000
#: Of a fix: shown as it is, in the place of what is not shown, and the rest, which is empty.
_FIX_SHOWN: Final = ("id", "collar_pk", "animal_pk", "recorded_ms", "received_ms", "source")
_FIX_EMPTY: Final = (
    "network_ms", "alt_m", "speed_mps", "heading_deg", "hdop", "pdop", "sats", "h_acc_m", "seq", "battery_mv",
    "battery_pct", "temperature_c", "rssi_dbm", "snr_db", "link", "local_id", "activity_type", "notes",
)  # fmt: skip
_FIX_EXACT: Final = (*_FIX_SHOWN, "raw_ms", "lon_e7", "lat_e7", "flags", *_FIX_EMPTY)
#: Of a row ``v`` that is shown in no cell: what the largest protected area around its place is called.
_AREA: Final = (
    f"CASE WHEN v.category IN ({', '.join(str(each) for each, tier in TIERS.items() if tier.cell_e7 is None)}) THEN"
    " (SELECT z.name FROM zones z WHERE z.zone_type = 'protected_area' AND z.is_active AND z.deleted_ms IS NULL"
    f" AND ST_Area(z.geom) >= {NAMED_DEG2:.6f} AND ST_Contains(z.geom, {{place}})"
    " ORDER BY ST_Area(z.geom) DESC, z.id LIMIT 1) END"
)
#: The place of an observation, which has no column of its own for it; both homes read this.
_OBSERVED_AT: Final = (
    "ST_GeomFromText('POINT(' || (v.lon_e7 / 10000000.0) || ' ' || (v.lat_e7 / 10000000.0) || ')', 4326)"
)
_KEPT: Final = ("rev", "cloud_rev", "marks", "author", "created_ms", "updated_ms", "deleted_ms")
_HALF_TURN_E7: Final = {"lon_e7": 1_800_000_000, "lat_e7": 900_000_000}


class Reduced(msgspec.Struct, frozen=True):
    """A ``WITH`` clause and the values that it binds, before those of the statement."""

    sql: str
    values: list[Any]


class Source:
    """Where a statement selects from: a table, or what a view leaves of it."""

    def __init__(self, found: Reduced | None = None, table: str = "") -> None:
        self.sql = "" if found is None else found.sql
        self.values: list[Any] = [] if found is None else found.values
        self._table = table

    def of(self, statement: str) -> str:
        """Return ``statement`` over what the view leaves."""
        if self._table == "observations":  # with the area that stands for a place, as their last column
            return statement.replace(" FROM observations ", ", r.area FROM reduced ", 1)
        return statement.replace(f"FROM {self._table} ", "FROM reduced ") if self._table else statement


def fixes(view: View, species: Sequence[str], *, mark: str, scope: str | None, has_pk: bool) -> Reduced:
    """Return the fixes that ``view`` may see.

    ``species`` are those of SPECIES; ``mark`` is what stands for a value. ``scope`` is a condition on fixes ``v`` that
    holds for those of the view's stations, with one mark for their ids; None where the home has no such thing.
    """
    pk = ("pk",) if has_pk else ()
    category, values = category_of_rows(view, species, "v.animal_pk", mark)
    shown = ", ".join(
        [
            *(f"v.{name} AS {name}" for name in (*pk, *_FIX_SHOWN)),
            "v.recorded_ms AS raw_ms",
            *(f"{_cell(name)} AS {name}" for name in ("lon_e7", "lat_e7")),
            "0 AS flags",
            *(f"nullif(v.{name}, v.{name}) AS {name}" for name in _FIX_EMPTY),
            f"{_AREA.format(place='v.geom')} AS area",
            "1 AS is_reduced",
        ]
    )
    sources = (
        f"(SELECT w.*, {category.replace('v.', 'w.')} AS category FROM fixes w"
        " LEFT JOIN animals s ON s.pk = w.animal_pk) v"
    )
    conditions = [USABLE.replace("f.", "v."), is_old(view, "v.recorded_ms", "v.sure_received_ms")]
    select = f"SELECT {shown} FROM {sources} WHERE {' AND '.join(conditions)}"
    if scope is None or not view.stations:
        return Reduced(f"WITH reduced AS ({select}) ", values)
    exact = ", ".join(
        [*(f"v.{name} AS {name}" for name in (*pk, *_FIX_EXACT)), "nullif('', '') AS area", "0 AS is_reduced"]
    )
    ordered = [*pk, *_FIX_SHOWN, "raw_ms", "lon_e7", "lat_e7", "flags", *_FIX_EMPTY, "area", "is_reduced"]
    names = ", ".join(ordered)
    both = (
        f"SELECT {names} FROM ({select} AND NOT {scope}) x UNION ALL"
        f" SELECT {names} FROM (SELECT {exact} FROM fixes v WHERE {scope}) y"
    )
    stations = list(view.stations)
    return Reduced(f"WITH reduced AS ({both}) ", [*values, stations, stations])


def observations(view: View, species: Sequence[str], *, mark: str) -> Reduced:
    """Return the observations that ``view`` may see, without words, names and pictures."""
    category, values = category_of_rows(view, species, "v.animal_id", mark)
    shown = {
        "description": "''", "photo_url": None, "observer": None, "local_id": None, "lon_e7": _cell("lon_e7"),
        "lat_e7": _cell("lat_e7"), "area": _AREA.format(place=_OBSERVED_AT),
    }  # fmt: skip
    return _records(view, OBSERVATION, category, values, shown, "v.recorded_ms", "v.created_ms")


def alerts(view: View, species: Sequence[str], *, mark: str) -> Reduced:
    """Return the alerts that ``view`` may see: that there was one, of what kind, on what day, and what became of it."""
    category, values = category_of_rows(view, species, "v.animal_id", mark)
    shown = {
        "animal_id": None, "zone_id": None, "title": "v.alert_type", "message": "''", "lon_e7": None, "lat_e7": None,
        "note": None, "acknowledged_ms": None, "acknowledged_by": None, "resolved_ms": None,
        **{name: f"v.{name} / {_DAY_MS} * {_DAY_MS}" for name in ("detected_ms", "created_ms", "updated_ms")},
    }  # fmt: skip
    return _records(view, ALERT, category, values, shown, "v.detected_ms", "v.created_ms")


def patrol_condition(view: View) -> str:
    """Return the condition on patrols ``r`` that ``view`` may know of: where rangers are is told to nobody."""
    if view.is_exact:
        return "1 = 1"
    if view.now_ms is None:
        return "1 = 0"
    return f"r.ended_ms <= {view.now_ms - TIERS[UNKNOWN_WEARER].delay_ms}"


def _records(
    view: View,
    entity: Entity,
    category: str,
    values: list[Any],
    shown: Mapping[str, str | None],
    happened: str,
    arrived: str,
) -> Reduced:
    columns = []
    more = [name for name in ("area",) if name in shown]
    for name in ("pk", "id", *entity.columns, *_KEPT, *more):
        given = shown.get(name, f"v.{name}")
        columns.append(f"{f'nullif(v.{name}, v.{name})' if given is None else given} AS {name}")
    sources = (
        f"(SELECT w.*, {category.replace('v.', 'w.')} AS category FROM {entity.table} w"
        " LEFT JOIN animals s ON s.id = w.animal_id) v"
    )
    select = f"SELECT {', '.join(columns)} FROM {sources} WHERE {is_old(view, happened, arrived)}"
    return Reduced(f"WITH reduced AS ({select}) ", values)


def category_of_rows(view: View, species: Sequence[str], wearer: str, mark: str) -> tuple[str, list[Any]]:
    """Return the category of a row whose animal is ``s``, and the values bound in it."""
    listed = view.species
    assert listed is not None
    cases, values = [f"WHEN {wearer} IS NULL OR s.species IS NULL THEN {UNKNOWN_WEARER}"], []
    for name in sorted(species):
        cases.append(f"WHEN s.species = {mark} THEN {listed.category(name)}")
        values.append(name)
    return f"CASE {' '.join(cases)} ELSE {UNKNOWN_WEARER} END", values


def _cell(column: str) -> str:
    """Return the centre of the cell that a coordinate lies in; what is divided is positive, so it rounds down."""
    shift = _HALF_TURN_E7[column]
    cases = " ".join(
        f"WHEN {category} THEN (v.{column} + {shift}) / {tier.cell_e7} * {tier.cell_e7} - {shift} + {tier.cell_e7 // 2}"
        for category, tier in TIERS.items()
        if tier.cell_e7 is not None
    )
    return f"CASE v.category {cases} END"


def is_old(view: View, *instants: str) -> str:
    """Return the condition that every one of ``instants`` is as long ago as the category asks."""
    if view.now_ms is None:
        return "1 = 0"
    cases = " ".join(f"WHEN {category} THEN {view.now_ms - tier.delay_ms}" for category, tier in TIERS.items())
    return " AND ".join(f"{instant} <= CASE v.category {cases} END" for instant in instants)


# --- what has no place of an animal in it -----------------------------------------------------------------------------
def reduced(view: View, value: Any) -> Any:
    """Return an animal, collar, deployment, zone or corridor as ``view`` may see it; other values as they are."""
    if view.is_exact:
        return value
    match value:
        case Animal():
            return msgspec.structs.replace(value, notes=None, created_by=None)
        case Collar():
            return msgspec.structs.replace(value, notes=None, aliases=())
        case Deployment():
            return msgspec.structs.replace(value, notes=None)
        case Zone() | Corridor() if shows_areas(view):
            return value
        case Zone():
            return msgspec.structs.replace(value, geometry=_generalised(value.geometry), description="")
        case Corridor():  # it was drawn or found along where animals walk
            ends = ("start_lon_deg", "start_lat_deg", "end_lon_deg", "end_lat_deg")
            return msgspec.structs.replace(
                value,
                geometry=None if value.geometry is None else _generalised(value.geometry),
                description="",
                optimization_data=None,
                created_by=None,
                **{end: None if (degrees := getattr(value, end)) is None else round(degrees, 2) for end in ends},
            )
        case Patrol():
            return msgspec.structs.replace(value, note="", track=None, created_by=None)
        case _:
            return value


def shows_areas(view: View) -> bool:
    """Say whether ``view`` has zones and corridors whole, with their words, which may be searched then.

    Staff do: no place of an animal is in them, and what was rounded for them would be written back so.
    """
    return view.is_exact or view.principal.role != "viewer"


def personal(view: View, value: Any) -> Any:
    """Return a ranger without the numbers that are personal, unless ``view`` is a manager's or the person's own."""
    if not isinstance(value, Ranger) or view.principal.role in ("admin", "conservation_manager"):
        return value
    if value.user_id is not None and value.user_id == view.principal.user_id:
        return value
    return msgspec.structs.replace(value, phone=None, emergency_contact=None)


def after_edit(view: View, value: Any) -> Any:
    """Return a record that was just edited as ``view`` may see it: who may write on it need not see its place."""
    if view.is_exact:
        return value
    match value:
        case Observation():
            return msgspec.structs.replace(value, lon_deg=None, lat_deg=None, photo_url=None)
        case Alert():
            return msgspec.structs.replace(value, lon_deg=None, lat_deg=None, animal_id=None, zone_id=None, message="")
        case _:
            return reduced(view, value)


def _generalised(geometry: str) -> str:
    """Return an area or a line with its corners on the grid of 0.01 degree."""
    shape = msgspec.json.decode(geometry)
    shape["coordinates"] = _rounded(shape["coordinates"])
    return msgspec.json.encode({"type": shape["type"], "coordinates": shape["coordinates"]}).decode()


def _rounded(part: Any) -> Any:
    if isinstance(part, list):
        return [_rounded(each) for each in part]
    return round(part, 2)
