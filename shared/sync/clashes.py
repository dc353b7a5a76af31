"""What two people said of the same thing and a home could not both take: kept for a person, with both values.

A *clash* is written in the transaction of the operation that lost, by the home that decided it::

    kind                  what lost                                    what stands
    same_column           columns that someone else had changed        theirs
    edit_after_delete     an edit of what was deleted                  the tombstone
    delete_after_edit     a deletion of what was edited meanwhile      the record
    collar_renamed        what was said of a collar that became another  the other collar
    duplicate_collar      a collar on a second animal at one time      the first deployment; the second was not taken
    duplicate_observation nothing: both are kept                       both
    position_disagreement nothing: both fixes of an instant are kept   both

``needs_person`` where it matters for an animal's life: its collar, status, species, an area, a deletion. The cloud's
clashes go down to the stations that they concern; a resolution is made of ordinary operations, which go down like any
other edit. Two instants alike in a column mean nothing here: no clock says who was right, a person does.

The jobs (``shared.accounts``) are the same in both homes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from shared.accounts.fields import OPEN, SEAL
from shared.accounts.users import Job
from shared.errors import Conflict, NotFound
from shared.ids import derived_id
from shared.sync.log import Whose
from shared.sync.operations import Effects, Operation
from shared.sync.personal import PERSONAL, SAID
from shared.sync.records import SCOPED, EntityName

ClashKind = Literal[
    "same_column",
    "edit_after_delete",
    "delete_after_edit",
    "collar_renamed",
    "duplicate_collar",
    "duplicate_observation",
    "position_disagreement",
]
Resolution = Literal["keep_server", "keep_client", "merge", "keep_both"]
ClashStatus = Literal["open", "resolved"]

#: Columns about which a person has to decide; the others are kept for reading.
_GRAVE: Final = frozenset(
    {"status", "species", "geometry", "collar_id", "animal_id", "started_ms", "ended_ms", "aliases", "limits"}
)
#: Observations by one person of one animal so near in time and place are probably one.
TWIN_MS: Final = 120_000
TWIN_E7: Final = 10_000


class Clash(msgspec.Struct, frozen=True, kw_only=True):
    """One conflict. ``ours`` and ``theirs`` are JSON objects of columns: what stands, and what lost.

    ``origin`` brought what lost, ``author`` said it. ``seq`` counts in the home that decided; ``is_from_above`` tells a
    station that this was the cloud.
    """

    id: str
    seq: int = 0
    kind: ClashKind
    entity: EntityName
    row_id: str
    other_id: str | None = None
    ours: str
    theirs: str
    author: str | None
    origin: str
    made_ms: int
    noted_ms: int
    needs_person: bool
    status: ClashStatus = "open"
    resolution: Resolution | None = None
    merged: str | None = None
    note: str | None = None
    resolved_by: str | None = None
    resolved_ms: int | None = None
    is_from_above: bool = False


_NAMES: Final = tuple(field.name for field in msgspec.structs.fields(Clash))
_FLAGS: Final = ("needs_person", "is_from_above")
_SELECT: Final = f"SELECT {', '.join(_NAMES)} FROM conflicts"
_ROW: Final = f"({', '.join('?' * len(_NAMES))})"
_INSERT: Final = f"INSERT INTO conflicts ({', '.join(_NAMES)}) VALUES"
#: So many rows of values stand in a statement.
_ROWS: Final = 25
#: So many observations are probably the same as a new one, at most; the oldest are told.
_MOST_TWINS: Final = 5
#: Observations in some stretches of time that do not overlap, and by some observers.
_NEAR: Final = (
    "WITH w (first_ms, last_ms) AS (VALUES {stretches}) SELECT o.observation_type, coalesce(o.observer, ''),"
    " coalesce(o.animal_id, ''), o.id, o.description, o.recorded_ms, o.lon_e7, o.lat_e7 FROM w JOIN observations o"
    " ON o.recorded_ms BETWEEN w.first_ms AND w.last_ms AND o.deleted_ms IS NULL"
    " AND coalesce(o.observer, '') IN ({observers}) ORDER BY o.created_ms, o.id"
)
_RESOLVE: Final = (
    "UPDATE conflicts SET seq = ?, status = 'resolved', resolution = ?, merged = ?, note = ?, resolved_by = ?,"
    " resolved_ms = ? WHERE id = ? AND status = 'open' RETURNING id"
)
_OVER: Final = (
    f"{_INSERT} {_ROW} ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _NAMES[1:])}"
)
#: The cloud's alone: of records that are in a station's scope or are not, those that it has.
_IN_SCOPE: Final = (
    f"(entity NOT IN ({', '.join('?' * len(SCOPED))}) OR EXISTS (SELECT 1 FROM station_rows w WHERE w.station_id = ?"
    " AND w.entity = conflicts.entity AND w.row_id IN (conflicts.row_id, conflicts.other_id)))"
)


# --- what becomes a clash


def of_loss(operation: Operation, effects: Effects, now_ms: int) -> Clash | None:
    """Return the clash that an operation leaves of which something was lost; None where nothing was."""
    lost = effects.lost
    if not lost:
        return None
    kind: ClashKind = "same_column"
    if "deleted_ms" in lost:
        kind = "delete_after_edit"
    elif effects.outcome == "alias":
        kind = "collar_renamed"
    elif effects.outcome == "superseded" and effects.is_buried:
        kind = "edit_after_delete"
    return Clash(
        id=derived_id(operation.id, f"clash {operation.entity} {operation.row_id}"), kind=kind,
        entity=operation.entity, row_id=operation.row_id, ours=_json(effects.kept), theirs=_json(lost),
        author=operation.author, origin=operation.origin, made_ms=operation.made_ms, noted_ms=now_ms,
        needs_person=kind != "same_column" or bool(_GRAVE & lost.keys()),
    )  # fmt: skip


def of_collar(operation: Operation, other_id: str, ours: Mapping[str, Any], now_ms: int) -> Clash:
    """Return the clash of a deployment whose collar or animal is taken then, by deployment ``other_id``."""
    return Clash(
        id=derived_id(operation.id, f"clash {operation.row_id} {other_id}"), kind="duplicate_collar",
        entity="deployment", row_id=operation.row_id, other_id=other_id, ours=_json(ours),
        theirs=_json(operation.columns), author=operation.author, origin=operation.origin,
        made_ms=operation.made_ms, noted_ms=now_ms, needs_person=True,
    )  # fmt: skip


def of_places(
    collar_id: str, recorded_ms: int, one: tuple[int | None, int | None], other: tuple[int | None, int | None],
    origin: str, now_ms: int,
) -> Clash:  # fmt: skip
    """Return the clash of a collar that was at two places at one instant, as fixes brought by ``origin`` say.

    ``one`` and ``other`` are longitude and latitude. The same instant makes the same clash, however often it comes.
    """
    ours, theirs = ({"recorded_ms": recorded_ms, "lon_e7": lon_e7, "lat_e7": lat_e7} for lon_e7, lat_e7 in (one, other))
    return Clash(
        id=derived_id(collar_id, f"places {recorded_ms}"), kind="position_disagreement", entity="collar",
        row_id=collar_id, ours=_json(ours), theirs=_json(theirs), author=None, origin=origin, made_ms=recorded_ms,
        noted_ms=now_ms, needs_person=False,
    )  # fmt: skip


def note_twins(made: Sequence[tuple[Operation, Mapping[str, Any]]], now_ms: int | None = None) -> Job[list[Clash]]:
    """Return clashes of new observations, each with its columns, with those that are probably the same; both stay.

    ``now_ms`` is when the clashes are noted, if that is not when the observations were made.
    """
    there = yield from _near(made)
    found: list[Clash] = []
    for operation, columns in made:
        twins = (
            other
            for other in there.get(_told_of(columns), ())
            if other[0] != operation.row_id
            and abs(other[2] - columns["recorded_ms"]) <= TWIN_MS
            and _is_near(columns["lon_e7"], other[3])
            and _is_near(columns["lat_e7"], other[4])
        )
        noted_ms = operation.made_ms if now_ms is None else now_ms
        found += [_of_twin(operation, columns, other, noted_ms) for other in islice(twins, _MOST_TWINS)]
    return found


def _told_of(columns: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return what two observations have in common that are probably the same."""
    return columns["observation_type"], columns["observer"] or "", columns["animal_id"] or ""


def _near(
    made: Sequence[tuple[Operation, Mapping[str, Any]]],
) -> Job[dict[tuple[str, str, str], list[Sequence[Any]]]]:
    """Return the observations around new ones, by what they tell of."""
    stretches: list[list[int]] = []
    for ms in sorted({columns["recorded_ms"] for _, columns in made}):
        if stretches and ms - TWIN_MS <= stretches[-1][1]:
            stretches[-1][1] = ms + TWIN_MS
        else:
            stretches.append([ms - TWIN_MS, ms + TWIN_MS])
    observers = sorted({_told_of(columns)[1] for _, columns in made})
    there: dict[tuple[str, str, str], list[Sequence[Any]]] = {}
    for begun in range(0, len(stretches), _ROWS):
        some = stretches[begun : begun + _ROWS]
        statement = _NEAR.format(
            stretches=", ".join(["(CAST(? AS BIGINT), CAST(? AS BIGINT))"] * len(some)),
            observers=", ".join("?" * len(observers)),
        )
        for row in (yield statement, [*chain.from_iterable(some), *observers]):
            there.setdefault(tuple(row[:3]), []).append(row[3:])
    return there


def _of_twin(operation: Operation, columns: Mapping[str, Any], other: Sequence[Any], now_ms: int) -> Clash:
    other_id, description, recorded_ms, lon_e7, lat_e7 = other
    ours = {"description": description, "recorded_ms": recorded_ms, "lon_e7": lon_e7, "lat_e7": lat_e7}
    return Clash(
        id=derived_id(operation.id, f"twin {other_id}"), kind="duplicate_observation", entity="observation",
        row_id=operation.row_id, other_id=other_id, ours=_json(ours),
        theirs=_json({name: columns[name] for name in ours}), author=operation.author,
        origin=operation.origin, made_ms=operation.made_ms, noted_ms=now_ms, needs_person=True,
    )  # fmt: skip


def _is_near(one: int | None, other: int | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= TWIN_E7


def note(clashes: Sequence[Clash]) -> Job[None]:
    """Write clashes with their numbers; the counter's row is held to the end, so numbers come in order of commits."""
    if not clashes:
        return
    ((last,),) = yield "UPDATE counters SET value = value + ? WHERE name = 'conflict' RETURNING value", (len(clashes),)
    numbered = [replace(clash, seq=seq) for seq, clash in enumerate(clashes, int(last) - len(clashes) + 1)]
    numbered = yield from _turned(SEAL, numbered)
    for begun in range(0, len(numbered), _ROWS):
        some = numbered[begun : begun + _ROWS]
        rows = ", ".join([_ROW] * len(some))
        yield f"{_INSERT} {rows} ON CONFLICT (id) DO NOTHING", [value for clash in some for value in _values(clash)]


def take(clashes: Iterable[Clash]) -> Job[None]:
    """Write clashes that the cloud sent down, as they stand there."""
    for clash in (yield from _turned(SEAL, list(clashes))):
        yield _OVER, _values(replace(clash, is_from_above=True))


# --- reading


def page(
    whose: Whose, *, status: str | None, kind: str | None, entity: str | None, needs_person: bool | None, offset: int,
    limit: int,
) -> Job[tuple[int, list[Clash]]]:  # fmt: skip
    """Return how many clashes there are and some of them, newest first."""
    said, values = ["1 = 1"], []
    for name, value in (("status", status), ("kind", kind), ("entity", entity)):
        if value is not None:
            said.append(f"{name} = ?")
            values.append(value)
    if needs_person is not None:
        said.append(f"needs_person = {int(needs_person)}")
    more, of_whom = _of(whose)
    where = " AND ".join([*said, *more])
    ((count,),) = yield f"SELECT count(*) FROM conflicts WHERE {where}", (*values, *of_whom)
    rows = yield (
        f"{_SELECT} WHERE {where} ORDER BY noted_ms DESC, id LIMIT ? OFFSET ?",
        (*values, *of_whom, limit, offset),
    )
    return int(count), (yield from _turned(OPEN, [_clash(row) for row in rows]))


def find(clash_id: str, whose: Whose) -> Job[Clash]:
    """Return one clash; raises NotFound, also where it is not for this person."""
    more, values = _of(whose)
    rows = yield f"{_SELECT} WHERE {' AND '.join(['id = ?', *more])}", (clash_id, *values)
    if not rows:
        raise NotFound(f"there is no conflict {clash_id}")
    (found,) = yield from _turned(OPEN, [_clash(rows[0])])
    return found


def history(clash: Clash, whose: Whose) -> Job[list[Clash]]:
    """Return every clash about the same record, in the order in which they came."""
    more, values = _of(whose)
    rows = yield (
        f"{_SELECT} WHERE {' AND '.join(['entity = ?', 'row_id = ?', *more])} ORDER BY noted_ms, seq, id",
        (clash.entity, clash.row_id, *values),
    )
    return (yield from _turned(OPEN, [_clash(row) for row in rows]))


def since(
    seq: int, station_id: str, kinds: Sequence[str], limit: int, *, is_limited: bool = False
) -> Job[tuple[list[Clash], int]]:
    """Return clashes after ``seq`` that concern a station, and the number after which to go on.

    These are what it brought itself, and, but for places, those about the kinds of records that it has anyway; where
    its scope is limited, about the records that it has.
    """
    ((last,),) = yield "SELECT value FROM counters WHERE name = 'conflict'", ()
    # where a collar is, whoever has brought it is told
    concerns = f"kind <> 'position_disagreement' AND entity IN ({', '.join('?' * len(kinds))})"
    values: tuple[Any, ...] = tuple(kinds)
    if is_limited:
        concerns += f" AND {_IN_SCOPE}"
        values += (*SCOPED, station_id)
    rows = yield (
        f"{_SELECT} WHERE seq > ? AND (origin = ? OR {concerns}) ORDER BY seq LIMIT ?",
        (seq, station_id, *values, limit),
    )
    found = yield from _turned(OPEN, [_clash(row) for row in rows])
    return found, found[-1].seq if len(found) == limit else int(last)


def _of(whose: Whose) -> tuple[list[str], tuple[Any, ...]]:
    if whose.devices is None:
        return [], ()
    marks = ", ".join("?" * len(whose.devices))
    condition = f"(author = ? OR origin IN ({marks}))" if marks else "author = ?"
    return [condition], (whose.user_id, *whose.devices)


def resolved(
    clash: Clash, resolution: Resolution, columns: Mapping[str, Any], note_text: str | None, by: str, now_ms: int
) -> Job[Clash]:
    """Note a resolution, under a new number so that it goes down; raises Conflict where somebody was faster."""
    ((seq,),) = yield "UPDATE counters SET value = value + 1 WHERE name = 'conflict' RETURNING value", ()
    merged = _json(columns) if columns else None
    (kept,) = yield from _turned(SEAL, [replace(clash, merged=merged)])
    rows = yield _RESOLVE, (seq, resolution, kept.merged, note_text, by, now_ms, clash.id)
    if not rows:
        raise Conflict("this conflict is resolved already")
    return (yield from find(clash.id, Whose()))


def _turned(how: str, clashes: list[Clash]) -> Job[list[Clash]]:
    """Return clashes with what they say of personal records sealed, as it is kept, or opened, as it is told."""
    told = [
        (clash.id, name, said) for clash in clashes if clash.entity in PERSONAL for name in SAID
        if (said := getattr(clash, name)) is not None
    ]  # fmt: skip
    if not told:
        return clashes
    rows = yield how, [word for each, name, said in told for word in (f"conflicts.{name}/{each}", said)]
    turned: dict[str, dict[str, str]] = {}
    for (each, name, _), (text,) in zip(told, rows, strict=True):
        turned.setdefault(each, {})[name] = text
    return [replace(clash, **turned.get(clash.id, {})) for clash in clashes]


def _json(columns: Mapping[str, Any]) -> str:
    return msgspec.json.encode(dict(columns)).decode()


def _values(clash: Clash) -> list[Any]:
    return [int(value) if name in _FLAGS else value for name in _NAMES for value in [getattr(clash, name)]]


def _clash(row: Sequence[Any]) -> Clash:
    columns = dict(zip(_NAMES, row, strict=True))
    return msgspec.convert({**columns, **{name: bool(columns[name]) for name in _FLAGS}}, Clash)
