"""What a pull reads: everything in scope, or what changed since the phone's cursor, page after page.

- Rows come as they stand now, living ones to be upserted, others as ids to be deleted; no id comes twice on a page.
- The first page fixes the cursor (``until``): what changes while later pages are read has a higher number and comes
  again with the next pull, so pages need not be of one snapshot. The cursor is good once the last page is there.
- A cursor that is not of this life of this home, or older than what the change log still knows: everything in scope,
  and every tombstone.
- What a reduced view may see of fixes, observations, alerts and patrols changes as they grow old, without a change of
  theirs: of those it gets everything in scope each time.
- A fix that models and maps may not use is not shown; one that was shown before is deleted from the phone.
- A phone's own id for a position is a tombstone from the moment at which the fix that it became is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from shared.errors import Invalid
from shared.ids import fix_id
from shared.privacy import View
from shared.sync import reduced as reducing
from shared.sync.listing import COLLAR_OF, USABLE
from shared.sync.phone.cursor import Cursor
from shared.sync.phone.jobs import ENTITY_OF, TABLES, TRACKING, Dialect, Job, Records
from shared.sync.records import Record

DAY_MS: Final = 86_400_000
#: So far back reach what people report and what should be looked at.
REPORTS_MS: Final = 400 * DAY_MS
#: So many stretches of fixes are looked up one by one; beyond, everything in scope costs less.
_MOST_SPANS: Final = 500
#: A stretch that is longer is looked up by its collar, a shorter one by its time.
_WIDE_MS: Final = 7 * DAY_MS
_MAX_48: Final = 2**48 - 1

#: Grows with every change of what an animal wears, which its own revision does not.
WORN_REV: Final = "(SELECT coalesce(sum(d.rev), 0) FROM deployments d WHERE d.animal_pk = r.pk)"
_DATED: Final = {"observations": "r.recorded_ms", "alerts": "r.detected_ms", "patrols": "r.started_ms"}
#: LEFT JOIN says in which order to look: fixes first, by the key.
_FIX: Final = (
    "SELECT f.id, a.id, c.id, f.recorded_ms, f.lat_e7, f.lon_e7, f.alt_m, f.speed_mps, f.heading_deg, f.battery_pct,"
    f" f.source, f.received_ms, f.local_id, f.raw_ms, CASE WHEN {USABLE} THEN 1 ELSE 0 END FROM fixes f"
    " LEFT JOIN collars c ON c.pk = f.collar_pk LEFT JOIN animals a ON a.pk = f.animal_pk AND a.deleted_ms IS NULL"
)
_REDUCED_FIX: Final = (
    _FIX.replace("FROM fixes f", "FROM reduced f").replace(f"CASE WHEN {USABLE} THEN 1 ELSE 0 END", "1, f.is_reduced")
)  # fmt: skip
_PLACED: Final = "f.lon_e7 IS NOT NULL AND f.lat_e7 IS NOT NULL"


class PullAsk(msgspec.Struct, frozen=True, kw_only=True):
    """What a phone asks. ``since`` None: it has nothing. ``whole`` are tables that its app has only now come to have.

    ``until`` and ``after`` go on where a page ended. ``fixes_from_ms`` is None where no clock says what is old.
    """

    since: Cursor | None
    until: Cursor | None = None
    after: str | None = None
    limit: int = 5_000
    whole: frozenset[str] = frozenset()
    tables: frozenset[str] = frozenset(TABLES)
    fixes_from_ms: int | None = None
    reports_from_ms: int | None = None
    origin: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What a phone's user should read of a row of his."""

    table: str
    id: str
    code: str
    detail: str


class PullPage(msgspec.Struct, kw_only=True):
    """One page: rows by table, ids to delete, rows whose deletion was refused, and where the next page begins."""

    until: Cursor
    records: dict[str, list[tuple[Record, tuple[Any, ...]]]]
    fixes: list[Sequence[Any]]
    deleted: dict[str, list[str]]
    revived: frozenset[tuple[str, str]] = frozenset()
    messages: list[Message]
    after: str | None = None


class _Span(msgspec.Struct):
    """Fixes of a collar between two raw times; ``gone_as`` is the name under which they were known before."""

    collar_id: str
    first_ms: int
    last_ms: int
    gone_as: str | None = None


def pull(ask: PullAsk, view: View, epoch: int, dialect: Dialect) -> Job[PullPage]:
    """Return one page of what ``view`` may see; ``epoch`` is the number of this life of this home."""
    reader = _Reader(ask, view, dialect)
    yield from reader.begin(epoch)
    return (yield from reader.page())


class _Reader:
    def __init__(self, ask: PullAsk, view: View, dialect: Dialect) -> None:
        self._ask = ask
        self._view = view
        self._dialect = dialect
        self._room = ask.limit
        self._changed: dict[str, set[str]] = {}
        self._spans: list[_Span] = []

    def begin(self, epoch: int) -> Job[None]:
        """Find out how much has to be read, and up to which change."""
        ask = self._ask
        ((head,),) = yield self._dialect.head, ()
        ((first,),) = yield "SELECT coalesce(min(seq), 1) FROM changes", ()
        is_ours = ask.since is not None and ask.since.epoch == epoch and first - 1 <= ask.since.seq <= head
        self._is_first = ask.since is None
        self._since = ask.since.seq if is_ours and ask.since is not None else None
        until = ask.until if ask.until is not None and ask.until.epoch == epoch else None
        if ask.until is not None and (until is None or until.seq > head):
            raise Invalid("until: is not of this home; begin the pull anew without it")
        self._until = until or Cursor(epoch, head)
        self._page = PullPage(until=self._until, records={}, fixes=[], deleted={}, messages=[])
        if self._since is not None:
            yield from self._find_changed()

    def _find_changed(self) -> Job[None]:
        lines = yield (
            "SELECT DISTINCT entity, row_id FROM changes WHERE seq > ? AND seq <= ? AND entity <> 'fix'",
            (self._since, self._until.seq),
        )
        for entity, row_id in lines:
            self._changed.setdefault(entity, set()).add(row_id)
        if worn := self._changed.get("deployment"):
            found = yield (
                "SELECT DISTINCT a.id FROM deployments d JOIN animals a ON a.pk = d.animal_pk WHERE "
                + self._dialect.among("d.id"),
                (self._dialect.listed(sorted(worn)),),
            )
            self._changed.setdefault("animal", set()).update(identity for (identity,) in found)
        lines = yield (
            (
                "SELECT row_id, kind, min(first_ms), max(last_ms) FROM changes WHERE seq > ? AND seq <= ?"
                " AND entity = 'fix' GROUP BY row_id, kind, first_ms / 86400000 ORDER BY row_id, kind, min(first_ms)"
            ),
            (self._since, self._until.seq),
        )
        for name, kind, first_ms, last_ms in lines:
            gone_as = name if kind == "gone" else None
            before = self._spans[-1] if self._spans else None
            is_next = before is not None and (before.collar_id, before.gone_as) == (name, gone_as)
            if before is not None and is_next and first_ms - before.last_ms <= DAY_MS:
                before.last_ms = max(before.last_ms, last_ms)
            else:
                self._spans.append(_Span(name, first_ms, last_ms, gone_as))

    # --- a page

    def page(self) -> Job[PullPage]:
        """Read a page from where the last one ended."""
        begun, _, key = (self._ask.after or f"{TABLES[0]}:").partition(":")
        if begun not in TABLES:
            raise Invalid("after: is no page of this pull")
        if self._ask.after is None:
            yield from self._told()
            if self._since is None and not self._is_first:
                yield from self._tombstones()
        for table in TABLES[TABLES.index(begun) :]:
            if table in self._ask.tables:
                reading = self._fixes(key) if table == TRACKING else self._records(table, key)
                key = yield from reading
                if key:
                    self._page.after = f"{table}:{key}"
                    break
            key = ""
        self._collapse()
        return self._page

    def _collapse(self) -> None:
        """See that no id is both to be kept and to be deleted."""
        page = self._page
        shown = {table: {record.id for record, _ in rows} for table, rows in page.records.items()}
        page.deleted = {
            table: sorted(set(ids) - shown.get(table, set())) for table, ids in page.deleted.items() if ids
        }  # fmt: skip

    def _delete(self, table: str, *ids: str) -> None:
        if not self._is_first and table in self._ask.tables:
            self._page.deleted.setdefault(table, []).extend(ids)

    # --- records

    def _records(self, table: str, key: str) -> Job[str]:
        """Add rows of a table; returns where to go on, nothing at its end."""
        if self._room <= 0:
            return key or "0"
        after = _number(key)
        entity = ENTITY_OF[table]
        source = yield from self._source(table)
        is_all = self._since is None or table in self._ask.whole or self._is_aging(table)
        more: tuple[str, ...] = (WORN_REV, COLLAR_OF, "r.pk") if table == "animals" else ("r.pk",)
        if table == "observations" and source is not None:
            more = ("r.area", *more)
        tail = f"ORDER BY r.pk LIMIT {self._room}"
        if not is_all:
            ids = self._changed.get(entity, set()) | {row for kept, row in self._page.revived if kept == table}
            if not ids:
                return ""
            condition = f"r.pk > ? AND {self._dialect.among('r.id')}"
            values: list[Any] = [after, self._dialect.listed(sorted(ids))]
        else:
            condition, values = "r.pk > ? AND r.deleted_ms IS NULL", [after]
            if self._ask.reports_from_ms is not None and table in _DATED:
                condition += f" AND {_DATED[table]} >= ?"
                values.append(self._ask.reports_from_ms)
            if table == "patrols":
                condition += f" AND {reducing.patrol_condition(self._view)}"
            if self._since is not None:
                yield from self._deleted_since(table)
        rows = yield Records(entity, condition, values, more, tail, source)
        self._room -= len(rows)
        for record, extra in rows:
            if record.is_deleted:
                self._delete(table, record.id)
            else:
                self._page.records.setdefault(table, []).append((record, extra[:-1]))
        return str(rows[-1][1][-1]) if self._room <= 0 else ""

    def _source(self, table: str) -> Job[reducing.Reduced | None]:
        if self._view.is_exact or table not in ("observations", "alerts"):
            return None
        species = yield from self._species()
        make = reducing.observations if table == "observations" else reducing.alerts
        return make(self._view, species, mark="?")

    def _species(self) -> Job[list[str]]:
        found = yield reducing.SPECIES, ()
        return [name for (name,) in found]

    def _is_aging(self, table: str) -> bool:
        return not self._view.is_exact and (table in _DATED or table == TRACKING)

    def _deleted_since(self, table: str) -> Job[None]:
        ids = self._changed.get(ENTITY_OF[table], set())
        if ids and self._ask.after is None:
            found = yield (
                f"SELECT id FROM {table} WHERE deleted_ms IS NOT NULL AND {self._dialect.among('id')}",
                (self._dialect.listed(sorted(ids)),),
            )
            self._delete(table, *(identity for (identity,) in found))

    # --- tombstones, and what this phone is told alone

    def _told(self) -> Job[None]:
        """Add what was ruled of rows of this phone, and ids that stand for others by now."""
        since, until = self._since or 0, self._until.seq
        ruled = yield (
            (
                "SELECT tbl, row_id, kind, code, detail FROM phone_rulings WHERE origin = ? AND seq > ? AND seq <= ?"
                " ORDER BY seq"
            ),
            (self._ask.origin, since, until),
        )
        revived = set()
        for table, row_id, kind, code, detail in ruled:
            if code:
                self._page.messages.append(Message(table=table, id=row_id, code=code, detail=detail))
            if kind == "deleted":
                self._delete(table, row_id)
            elif kind == "revived" and not self._is_first:
                revived.add((table, row_id))
        self._page.revived = frozenset(revived)
        aliases = yield (
            "SELECT local_id FROM phone_ids WHERE device = '' AND tbl = 'animals' AND seq > ? AND seq <= ?",
            (since, until),
        )
        self._delete("animals", *(local_id for (local_id,) in aliases))

    def _tombstones(self) -> Job[None]:
        """Add all tombstones: nobody knows what the phone has."""
        for table in ENTITY_OF:
            found = yield f"SELECT id FROM {table} WHERE deleted_ms IS NOT NULL", ()
            self._delete(table, *(identity for (identity,) in found))
        if self._view.is_exact:
            lines = yield (
                (
                    "SELECT row_id, min(first_ms), max(last_ms) FROM changes WHERE entity = 'fix' AND kind = 'gone'"
                    " GROUP BY row_id ORDER BY row_id"
                ),
                (),
            )
            for name, first_ms, last_ms in lines:
                yield from self._span(_Span(name, first_ms, last_ms, name), None)

    # --- fixes

    def _fixes(self, key: str) -> Job[str]:
        if self._room <= 0:
            return key or "0"
        if self._is_aging(TRACKING):
            return (yield from self._reduced_fixes(_number(key)))
        is_all = self._since is None or TRACKING in self._ask.whole
        if is_all or len(self._spans) > _MOST_SPANS:
            return (yield from self._all_fixes(key))
        number, _, last = key.partition(".")
        for n in range(_number(number), len(self._spans)):
            rows = yield from self._span(self._spans[n], last or None)
            if self._room <= 0:
                return f"{n}.{self._dialect.fix_bytes(rows[-1][0]).hex()}"
            last = ""
        return ""

    def _span(self, span: _Span, last: str | None) -> Job[list[Sequence[Any]]]:
        """Add the fixes of one collar in one stretch of time, by id; of those that are gone the ids that they had."""
        found = yield (
            (
                "SELECT coalesce((SELECT collar_pk FROM collar_aliases WHERE alias = ?),"
                " (SELECT pk FROM collars WHERE id = ?))"
            ),
            (span.collar_id, span.collar_id),
        )
        pk = found[0][0]
        if pk is None:
            return []
        is_wide = span.last_ms - span.first_ms > _WIDE_MS
        window_ms = self._ask.fixes_from_ms
        values: list[Any] = [pk]
        if is_wide:  # by the collar's index
            condition = "f.collar_pk = ? AND f.raw_ms BETWEEN ? AND ?"
            values += [span.first_ms, span.last_ms]
        else:  # by the key: ids begin with their time
            condition = "+f.collar_pk = ? AND f.id BETWEEN ? AND ?"
            values += [self._bound(span.first_ms, b"\x00"), self._bound(span.last_ms, b"\xff")]
        if last is not None:
            condition += " AND f.id > ?"
            values.append(self._dialect.fix_value(_identity(last)))
        if window_ms is not None:
            condition += " AND f.recorded_ms >= ?"
            values.append(window_ms)
        limit = self._room if span.gone_as is None else 1_000_000
        rows = yield f"{_FIX} WHERE {condition} AND {_PLACED} ORDER BY f.id LIMIT {limit}", values
        if span.gone_as is None:
            yield from self._show(rows)
        else:
            self._delete(TRACKING, *(_uuid(fix_id(span.gone_as, row[13], row[5], row[4])) for row in rows))
        return list(rows)

    def _all_fixes(self, key: str) -> Job[str]:
        """Add all fixes of the window, the newest first; those whose raw time lies before it come after the others."""
        window_ms = self._ask.fixes_from_ms
        part, _, last = key.partition(".")
        hides = f" AND {USABLE}" if self._is_first else ""
        if part in ("", "0", "a"):
            condition, values = _PLACED + hides, []
            if window_ms is not None:
                condition += " AND f.id >= ? AND f.recorded_ms >= ?"
                values += [self._bound(window_ms, b"\x00"), window_ms]
            rows = yield from self._newest(condition, values, last)
            if self._room <= 0:
                return f"a.{self._dialect.fix_bytes(rows[-1][0]).hex()}"
            last = ""
        if window_ms is None:
            return ""
        condition = f"{_PLACED}{hides} AND {self._dialect.is_corrected} AND f.id < ? AND f.recorded_ms >= ?"
        rows = yield from self._newest(condition, [self._bound(window_ms, b"\x00"), window_ms], last)
        return f"b.{self._dialect.fix_bytes(rows[-1][0]).hex()}" if self._room <= 0 else ""

    def _newest(self, condition: str, values: list[Any], last: str) -> Job[list[Sequence[Any]]]:
        if last:
            condition += " AND f.id < ?"
            values = [*values, self._dialect.fix_value(_identity(last))]
        rows = yield f"{_FIX} WHERE {condition} ORDER BY f.id DESC LIMIT {self._room}", values
        yield from self._show(rows)
        return list(rows)

    def _show(self, rows: Sequence[Sequence[Any]]) -> Job[None]:
        """Add rows of ``_FIX``, and take the phones' own ids for them away."""
        self._room -= len(rows)
        ids = [_uuid(self._dialect.fix_bytes(row[0])) for row in rows]
        for identity, row in zip(ids, rows, strict=True):
            if row[14]:
                self._page.fixes.append((identity, *row[1:12]))
            else:
                self._delete(TRACKING, identity)
            if row[12]:
                self._delete(TRACKING, row[12])
        if ids and not self._is_first:
            found = yield (
                "SELECT local_id FROM phone_ids WHERE device = '' AND tbl = 'tracking' AND "
                + self._dialect.among("server_id"),
                (self._dialect.listed(ids),),
            )
            self._delete(TRACKING, *(local_id for (local_id,) in found))

    def _reduced_fixes(self, offset: int) -> Job[str]:
        """Add what a reduced view has of fixes; by place in the list, because ids would tell what it hides."""
        species = yield from self._species()
        source = reducing.fixes(self._view, species, mark="?", scope=self._dialect.scope, has_pk=False)
        condition, values = _PLACED, list(source.values)
        if self._ask.fixes_from_ms is not None:
            condition += " AND f.recorded_ms >= ?"
            values.append(self._ask.fixes_from_ms)
        rows = yield (
            (
                f"{source.sql}{_REDUCED_FIX} WHERE {condition} ORDER BY f.recorded_ms DESC, f.id DESC"
                f" LIMIT {self._room} OFFSET {offset}"
            ),
            values,
        )
        self._room -= len(rows)
        assert self._view.veil is not None
        for row in rows:
            raw = self._dialect.fix_bytes(row[0])
            identity = _uuid(self._view.veil.veiled(raw) if row[15] else raw)
            self._page.fixes.append((identity, *row[1:12]))
        return str(offset + len(rows)) if self._room <= 0 else ""

    def _bound(self, ms: int, rest: bytes) -> Any:
        return self._dialect.fix_value(min(max(ms, 0), _MAX_48).to_bytes(6, "big") + rest * 10)


def _number(key: str) -> int:
    if not key:
        return 0
    if not key.isascii() or not key.isdigit() or len(key) > 18:
        raise Invalid("after: is no page of this pull")
    return int(key)


def _identity(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise Invalid("after: is no page of this pull")
    return raw


def _uuid(raw: bytes) -> str:
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
