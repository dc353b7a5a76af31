"""What a station's batch holds, into the database: all of it set-wise, or all but what cannot be taken.

A batch is written in one statement a kind. Where the database refuses it, its halves are tried, each in a savepoint,
until the one item at fault is alone: it goes to the quarantine with its bytes, its neighbours are stored.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
import psycopg
from psycopg import errors

from cloud.store.accounts import run
from cloud.store.database import Connection
from cloud.store.effects import apply
from cloud.store.fixes import FixWriter
from cloud.store.records import Noted, load, lock_for_edits, lock_for_fixes
from cloud.store.texts import cleaned
from shared.errors import Invalid, NotFound, RequestError
from shared.ids import derived_id, id_text
from shared.sync import clashes, log
from shared.sync.clashes import Clash
from shared.sync.decide import decide
from shared.sync.decisions import Decision
from shared.sync.operations import CollarTaken, Effects, Operation, Outcome, wanted
from shared.sync.records import check_text, to_ms
from shared.sync.streams import Exceptional
from shared.wire.batch import FixColumns

Item = TypeVar("Item")

#: What the database says of a value that it does not take, or that no index of it holds; anything else is no fault of
#: the batch.
_REFUSALS: Final = (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError, errors.ProgramLimitExceeded)
#: Instants that can be told; a day is left at the end, because a corrected time may lie so far behind its reception.
_FIRST_MS: Final = to_ms(datetime(1, 1, 1, tzinfo=UTC))
_LAST_MS: Final = to_ms(datetime(9999, 12, 30, tzinfo=UTC))
#: The instants of a fix, and whether it may be without one.
_INSTANTS: Final = (("raw_ms", False), ("received_ms", False), ("sure_received_ms", True), ("network_ms", True))
_MAX_ID_CHARACTERS: Final = 200
_MAX_ROW_ID_BYTES: Final = 2_000


class Taken(msgspec.Struct):
    """What became of a batch: for its receipt, for the change log, for the quarantine."""

    counts: Counter[Outcome]
    exceptions: list[Exceptional]
    lines: list[Noted]
    new_fixes: int = 0
    #: (code, detail, bytes) of each item that was not taken
    refused: list[tuple[str, str, bytes]] = []
    #: collars that the station brought fixes of for the first time
    met: list[str] = []


def unreadable(error: Invalid, payload: bytes) -> Taken:
    """Return what becomes of a batch that came as it was sent and yet cannot be read: kept, and in nobody's way."""
    exception = Exceptional(place=0, outcome="quarantined", code=error.code, detail=error.detail)
    counts: Counter[Outcome] = Counter({"quarantined": 1})
    return Taken(counts, [exception], [], refused=[(error.code, error.detail, payload)])


async def take_fixes(connection: Connection, columns: FixColumns, station_id: str, origin: str, now_ms: int) -> Taken:
    """Store the fixes of a batch; each is new, a richer copy, or a duplicate."""
    await lock_for_fixes(connection)
    taken = Taken(Counter(), [], [])
    collar_pks: set[int] = set()

    async def take(places: Sequence[int]) -> None:
        some = columns if len(places) == len(columns["raw_ms"]) else picked(columns, places)
        writer = FixWriter(connection, now_ms, origin)
        added = await writer.add_columns(some)
        collar_pks.update(writer.collar_pks)
        taken.counts["applied"] += len(added.outcomes) - added.outcomes.count("duplicate")
        taken.counts["duplicate"] += added.outcomes.count("duplicate")
        taken.lines += added.lines
        taken.new_fixes += added.new
        await run(connection, clashes.note(await _places(connection, writer.disagreeing, station_id, now_ms)))

    def refuse(place: int, code: str, detail: str) -> None:
        body = msgspec.msgpack.encode({name: values[place] for name, values in columns.items()})
        taken.refused.append((code, detail, body))
        taken.exceptions.append(Exceptional(place=place, outcome="quarantined", code=code, detail=detail))

    unfit = _unfit(columns)
    for place, detail in unfit.items():
        refuse(place, Invalid.code, detail)
    await halving(connection, [place for place in range(len(columns["raw_ms"])) if place not in unfit], take, refuse)
    taken.counts["quarantined"] += len(taken.refused)
    found = await connection.execute(
        "WITH met AS (INSERT INTO station_collars (station_id, collar_pk) SELECT %s, unnest(%s::bigint[])"
        " ON CONFLICT (station_id, collar_pk) DO UPDATE SET is_brought = true WHERE NOT station_collars.is_brought"
        " RETURNING collar_pk) SELECT c.id FROM collars c WHERE c.pk IN (SELECT collar_pk FROM met)",
        (station_id, sorted(collar_pks)),
    )
    taken.met = [identity for (identity,) in await found.fetchall()]
    return taken


async def _places(connection: Connection, identities: Collection[bytes], station_id: str, now_ms: int) -> list[Clash]:
    """Return a conflict for each instant at which a collar was said to be at two places; both fixes are kept."""
    if not identities:
        return []
    found = await connection.execute(
        "SELECT DISTINCT ON (c.id, f.recorded_ms) c.id, f.recorded_ms, f.lon_e7, f.lat_e7, o.lon_e7, o.lat_e7"
        " FROM fixes f JOIN collars c ON c.pk = f.collar_pk JOIN fixes o ON o.collar_pk = f.collar_pk"
        " AND o.recorded_ms = f.recorded_ms AND o.id < f.id WHERE f.collar_pk IN (SELECT collar_pk FROM fixes"
        " WHERE id = ANY(%(ids)s::uuid[])) AND f.recorded_ms IN (SELECT recorded_ms FROM fixes"
        " WHERE id = ANY(%(ids)s::uuid[])) AND (f.id = ANY(%(ids)s::uuid[]) OR o.id = ANY(%(ids)s::uuid[]))"
        " ORDER BY c.id, f.recorded_ms, o.id, f.id",
        {"ids": [identity.hex() for identity in sorted(identities)]},
    )
    return [
        clashes.of_places(collar_id, recorded_ms, (one_lon, one_lat), (other_lon, other_lat), station_id, now_ms)
        for collar_id, recorded_ms, other_lon, other_lat, one_lon, one_lat in await found.fetchall()
    ]


def _unfit(columns: FixColumns) -> dict[int, str]:
    """Return, by place, what is wrong with fixes that no reader could tell of; the database alone would take some."""
    unfit: dict[int, str] = {}
    for name, is_optional in _INSTANTS:
        for place, ms in enumerate(columns[name]):
            if not (is_optional if ms is None else _FIRST_MS <= ms <= _LAST_MS):
                unfit.setdefault(place, f"{name}: must be an instant, in milliseconds since 1970")
    for place, name in enumerate(columns["collar_id"]):
        if name in ("", "collar:"):
            unfit.setdefault(place, "collar_id: must name a collar")
    return dict(sorted(unfit.items()))


async def take_operations(connection: Connection, operations: Sequence[Operation], now_ms: int) -> Taken:
    """Decide and apply the operations of a batch; one that was ever taken is a duplicate, over whatever stream."""
    await lock_for_edits(connection)
    taken = Taken(Counter(), [], [])
    outcomes: dict[str, Outcome] = {}

    def refuse(place: int, code: str, detail: str) -> None:
        taken.refused.append((code, detail, msgspec.msgpack.encode(operations[place])))
        taken.exceptions.append(Exceptional(place=place, outcome="quarantined", code=code, detail=detail))

    fresh: dict[str, int] = {}
    for place, operation in enumerate(operations):
        try:
            _check_id(operation.id)
        except Invalid as error:
            refuse(place, error.code, error.detail)
        else:
            fresh.setdefault(operation.id, place)
    n_nameless = len(taken.refused)
    found = await connection.execute("SELECT id FROM applied_operations WHERE id = ANY(%s)", (list(fresh),))
    for (identity,) in await found.fetchall():
        del fresh[identity]

    async def take(places: Sequence[int]) -> None:
        done = await _do(connection, operations, places, now_ms)
        # noted when all of it is written: of what the database refuses there is no trace
        taken.lines += done.lines
        taken.new_fixes += done.new_fixes
        for place, refusal in done.refused:
            set_aside(place, refusal.code, refusal.detail)
        for operation, effects in done.decided:
            outcomes[operation.id] = effects.outcome
            if effects.lost:
                taken.exceptions.append(
                    Exceptional(place=fresh[operation.id], outcome=effects.outcome, lost=tuple(sorted(effects.lost)))
                )

    def set_aside(place: int, code: str, detail: str) -> None:
        outcomes[operations[place].id] = "quarantined"
        refuse(place, code, detail)

    await halving(connection, list(fresh.values()), take, set_aside)
    taken.counts.update(outcomes.values())
    taken.counts["quarantined"] += n_nameless
    taken.counts["duplicate"] += len(operations) - n_nameless - len(fresh)
    # the cloud's word is final: where nothing changed here the station still has to hear what stands
    unchanged = ("superseded", "quarantined", "duplicate")
    taken.lines += _ruled(each for each in operations if outcomes.get(each.id, "duplicate") in unchanged)
    async with connection.cursor() as cursor:
        await cursor.executemany("INSERT INTO applied_operations (id, outcome) VALUES (%s, %s)", list(outcomes.items()))
    return taken


class _Done(msgspec.Struct):
    """What some operations of a batch did, and which were refused, by place."""

    decided: list[tuple[Operation, Effects]] = []
    refused: list[tuple[int, RequestError]] = []
    lines: list[Noted] = []
    new_fixes: int = 0


async def _do(connection: Connection, operations: Sequence[Operation], places: Sequence[int], now_ms: int) -> _Done:
    """Decide the operations at ``places`` one after the other and write what they do, a run of them at a time."""
    done = _Done()
    noted: list[Clash] = []
    for stretch in _runs(operations, places):
        rows = await load(connection, wanted(operations[place] for place in stretch))
        begun = len(done.decided)
        for place in stretch:
            try:
                effects = decide(operations[place], rows)
            except RequestError as error:
                done.refused.append((place, error))
                if isinstance(error, CollarTaken):
                    other = error.other
                    noted.append(clashes.of_collar(operations[place], other.id, other.columns, now_ms))
            else:
                rows.take(effects)
                done.decided.append((operations[place], effects))
        lines, new_fixes = await apply(connection, done.decided[begun:], now_ms)
        done.lines += lines
        done.new_fixes += new_fixes
    await run(connection, clashes.note(noted))
    return done


def ruled_again(operations: Sequence[Operation], origin: str) -> list[Noted]:
    """Return the lines that send the records of ``operations`` down once more, to whoever brings these again."""
    return _ruled(msgspec.structs.replace(each, origin=origin) for each in operations)


def _ruled(operations: Iterable[Operation]) -> list[Noted]:
    origins = {(each.entity, each.row_id): each.origin for each in operations if _is_nameable(each.row_id)}
    return [Noted(entity, row_id, "update", origin) for (entity, row_id), origin in origins.items()]


async def take_decisions(connection: Connection, decisions: Sequence[Decision], station_id: str, now_ms: int) -> Taken:
    """Do what people decided of fixes; one that was ever taken is a duplicate, one on a fix that is not here waits.

    A station decides on fixes of collars that it has brought fixes of.
    """
    await lock_for_fixes(connection)
    taken = Taken(Counter(), [], [], refused=[])
    for place, decision in enumerate(decisions):
        try:
            _check_id(decision.id)
            check_text("collar_id", decision.collar_id)
            outcome = await _decide(connection, decision, station_id, now_ms, taken)
        except RequestError as error:
            taken.refused.append((error.code, error.detail, msgspec.msgpack.encode(decision)))
            taken.exceptions.append(
                Exceptional(place=place, outcome="quarantined", code=error.code, detail=error.detail)
            )
            outcome = "quarantined"
        taken.counts[outcome] += 1
    return taken


async def _decide(connection: Connection, decision: Decision, station_id: str, now_ms: int, taken: Taken) -> Outcome:
    fresh = await connection.execute(
        "INSERT INTO applied_operations (id, outcome) VALUES (%s, 'applied') ON CONFLICT DO NOTHING RETURNING id",
        (decision.id,),
    )
    if await fresh.fetchone() is None:
        return "duplicate"
    found = await connection.execute(
        "SELECT c.id FROM collars c JOIN station_collars s ON s.collar_pk = c.pk AND s.station_id = %s WHERE c.pk ="
        " coalesce((SELECT collar_pk FROM collar_aliases WHERE alias = %s), (SELECT pk FROM collars WHERE id = %s))",
        (station_id, decision.collar_id, decision.collar_id),
    )
    row = await found.fetchone()
    if row is None:
        raise NotFound("the fix is of a collar that this station has brought no fix of")
    writer = FixWriter(connection, now_ms, station_id)
    fix = id_text(decision.fix_id(row[0]))
    lines = await writer.set_by_hand(fix, is_excluded=decision.is_excluded)
    if lines is None:
        raise NotFound(f"there is no fix {fix}")
    taken.lines += lines
    return "applied"


def _is_nameable(row_id: str) -> bool:
    """Say whether the change log and its index can hold an id; of another nothing stands that could be told."""
    return "\0" not in row_id and len(row_id.encode(errors="replace")) <= _MAX_ROW_ID_BYTES


def _check_id(identity: str) -> None:
    """Raise Invalid for an operation's id that cannot be kept, so that it would be recognised never again."""
    check_text("id", identity)
    if len(identity) > _MAX_ID_CHARACTERS:
        raise Invalid(f"id: has at most {_MAX_ID_CHARACTERS} characters")


def _runs(operations: Sequence[Operation], places: Sequence[int]) -> Iterator[list[int]]:
    """Split before each deletion of a collar: what was done before it must be written when it is decided.

    Whether the collar has fixes is known from the database alone, and judging its fixes anew would bring it back.
    """
    run: list[int] = []
    for place in places:
        if run and operations[place].entity == "collar" and operations[place].kind == "delete":
            yield run
            run = []
        run.append(place)
    yield run


async def quarantine(
    connection: Connection, station_id: str, epoch: str, channel: str, n: int,
    refused: Sequence[tuple[str, str, bytes]], now_ms: int,
) -> None:  # fmt: skip
    """Keep what was not taken, with its bytes, for a person to look at, and in the queue to be tried again."""
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO quarantine (station_id, epoch, channel, n, code, detail, body, received_ms)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [(station_id, epoch, channel, n, code, cleaned(detail), body, now_ms) for code, detail, body in refused],
        )
    await run(
        connection,
        log.keep(
            _queued(station_id, f"{epoch} {channel} {n}", place, detail, body, now_ms)
            for place, (_, detail, body) in enumerate(refused)
        ),
    )


def _queued(station_id: str, batch: str, place: int, detail: str, body: bytes, now_ms: int) -> log.Item:
    """Return an item of the queue; bytes that are neither an operation nor a fix cannot be tried again."""
    form: log.Form = "none"
    told: dict[str, Any] = {}
    operation: Operation | None = None
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        operation = msgspec.msgpack.decode(body, type=Operation)
        form, told = "operation", operation.columns
    if operation is None:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            fix = msgspec.msgpack.decode(body, type=dict[str, Any])
            form, told = "fix", {name: fix.get(name) for name in ("collar_id", "raw_ms", "lon_e7", "lat_e7")}
    return log.Item(
        id=derived_id(f"{station_id} {batch}", f"item {place}"), sync_id=None,
        user_id=None if operation is None or operation.author is None else cleaned(operation.author),
        device_id=station_id, data_type=operation.entity if operation else "tracking" if form == "fix" else "batch",
        local_id=None if operation is None else cleaned(operation.row_id), data=cleaned(_json(told)),
        error_message=cleaned(detail), created_ms=now_ms, form=form, body=body,
    )  # fmt: skip


def _json(told: Mapping[str, Any]) -> str:
    try:
        return msgspec.json.encode(told).decode()
    except UnicodeEncodeError:  # half a surrogate pair: the bytes have it, this is for people
        return "{}"


async def halving(
    connection: Connection,
    places: Sequence[int],
    take: Callable[[Sequence[int]], Awaitable[None]],
    refuse: Callable[[int, str, str], None],
) -> None:
    """Have ``take`` write the items at ``places``; what the database refuses goes to ``refuse``, one by one.

    Of a ``take`` that was refused nothing remains in the database; what it counted elsewhere it must count at its end.
    """
    if not places:
        return
    try:
        async with connection.transaction():
            await take(places)
    except _REFUSALS as error:
        if len(places) == 1:
            refuse(places[0], "unstorable", f"the database does not take it ({error.sqlstate or type(error).__name__})")
            return
        middle = len(places) // 2
        await halving(connection, places[:middle], take, refuse)
        await halving(connection, places[middle:], take, refuse)


async def halving_fit(
    connection: Connection,
    n: int,
    check: Callable[[int], None],
    take: Callable[[Sequence[int]], Awaitable[None]],
    refuse: Callable[[int, str, str], None],
) -> None:
    """Have ``take`` write those of ``n`` items that ``check`` lets pass; it raises Invalid of one that it does not."""
    fit: list[int] = []
    for place in range(n):
        try:
            check(place)
        except Invalid as error:
            refuse(place, error.code, error.detail)
        else:
            fit.append(place)
    await halving(connection, fit, take, refuse)


def picked(columns: Mapping[str, Sequence[Any]], places: Sequence[int]) -> FixColumns:
    """Return the rows at ``places`` of a batch."""
    return {name: [values[place] for place in places] for name, values in columns.items()}
