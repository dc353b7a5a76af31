"""/api/v1/sync: how a phone that runs WatermelonDB pulls what it may see and pushes what its user entered."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter

from shared.accounts.service import Caller
from shared.api.access import AccountsGiven, CallerGiven
from shared.api.errors import documented
from shared.api.inject import ClockGiven, StoreGiven, ViewGiven
from shared.errors import FactorRequired, Invalid, PullFirst
from shared.ids import random_id
from shared.privacy import View
from shared.sync.phone.cursor import Cursor
from shared.sync.phone.jobs import TABLES
from shared.sync.phone.pull import DAY_MS, REPORTS_MS, Message, PullAsk, PullPage
from shared.sync.phone.push import Clash, PushAsk
from shared.sync.phone.upload import KINDS, Kept, UploadAsk, Uploaded
from shared.sync.records import (
    Record,
    alert_of,
    animal_of,
    corridor_of,
    observation_of,
    patrol_of,
    to_ms,
    zone_of,
)
from shared.sync.reduced import reduced
from shared.wire.phone.incoming import read_push
from shared.wire.phone.outgoing import (
    TableChanges,
    TrackingRow,
    alert_row,
    animal_row,
    corridor_row,
    observation_row,
    patrol_row,
    zone_row,
)
from shared.wire.phone.uploads import Counts, Summary, UploadOut, read_upload

#: Rows of a page, unless the phone asks for fewer, and at most.
PAGE_ROWS: Final = 5_000
MAX_PAGE_ROWS: Final = 50_000
#: Positions of so many days are kept on phones unless they ask for others.
FIX_DAYS: Final = 30
_MAX_DAYS: Final = 3_660
_LARGEST: Final = 2**53 - 1
_MOST_OF_A_KEY: Final = 200

_Text = str | None


class PullOut(msgspec.Struct, frozen=True, kw_only=True):
    """What WatermelonDB takes, and besides: whether there is more, where it begins, and what the user should read."""

    changes: dict[str, TableChanges]
    timestamp: int
    has_more: bool
    next: str | None
    messages: list[Message]
    server_time: int


class PushOut(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of a push; rows under ``experimentalRejectedIds`` stay on the phone and are pushed again."""

    conflicts: list[Clash]
    messages: list[Message]
    fixes: dict[str, str]
    experimentalRejectedIds: dict[str, list[str]] = {}  # noqa: N815  # the client's word


class _Added(msgspec.Struct):
    table: str
    columns: list[str] = []


class Migration(msgspec.Struct):
    """Tables and columns that an app has come to have since its last pull."""

    from_: int = msgspec.field(name="from", default=1)
    tables: list[str] = []
    columns: list[_Added] = []


class PhoneSync(Controller):
    """Pull and push, in the shapes of WatermelonDB's own protocol."""

    path = "/sync"
    tags = ("sync",)
    return_dto = None

    @get(
        "/pull",
        summary="Pull changes",
        responses={**documented(), 200: ResponseSpec(PullOut, generate_examples=False, description="A page.")},
    )
    async def pull(
        self,
        store: StoreGiven,
        view: ViewGiven,
        clock: ClockGiven,
        caller: CallerGiven,
        last_pulled_at: Annotated[
            _Text, QueryParameter(description="The timestamp of the last pull; null, 0 or nothing for a new phone.")
        ] = None,
        schema_version: Annotated[_Text, QueryParameter(description="Of the app's schema.")] = None,
        migration: Annotated[_Text, QueryParameter(description="As WatermelonDB gives it, in JSON; null.")] = None,
        limit: Annotated[_Text, QueryParameter(description="Rows of a page, 1 to 50,000; 5,000 if left out.")] = None,
        until: Annotated[_Text, QueryParameter(description="The timestamp of the first page, for later ones.")] = None,
        after: Annotated[_Text, QueryParameter(description="`next` of the page before.")] = None,
        days: Annotated[_Text, QueryParameter(description="Positions of so many days; 30 if left out.")] = None,
        tables: Annotated[_Text, QueryParameter(description="Only these tables, with commas; all if left out.")] = None,
        device_id: Annotated[_Text, QueryParameter(description="A UUID that the app keeps.")] = None,
    ) -> Response[bytes]:
        """Return what changed since the last pull, as far as the caller may see it.

        Everything is in `updated`; `created` has only rows whose deletion was refused. While `has_more` is true, ask
        again with the same `last_pulled_at` and with `until` and `after`; the timestamp is the first page's.
        """
        span = _whole("days", days, 1, _MAX_DAYS) or FIX_DAYS
        now_ms = to_ms(clock.now()) if clock.state.is_sure else None
        ask = PullAsk(
            since=_cursor("last_pulled_at", last_pulled_at),
            until=_cursor("until", until),
            after=after or None,
            limit=_whole("limit", limit, 1, MAX_PAGE_ROWS) or PAGE_ROWS,
            whole=_migrated(migration),
            tables=_tables(tables),
            fixes_from_ms=None if now_ms is None else now_ms - span * DAY_MS,
            reports_from_ms=None if now_ms is None else now_ms - REPORTS_MS,
            origin=_origin(caller, device_id),
        )
        page = await store.pull_phone(view, ask)
        out = PullOut(
            changes=_changes(page, view, ask.tables),
            timestamp=page.until.packed(),
            has_more=page.after is not None,
            next=page.after,
            messages=page.messages,
            server_time=to_ms(clock.now()),
        )
        return Response(msgspec.json.encode(out), media_type="application/json")

    @post(
        "/push",
        summary="Push changes",
        status_code=200,
        responses={
            **documented(409, 413, 507),
            200: ResponseSpec(PushOut, generate_examples=False, description="Taken, all of it."),
        },
    )
    async def push(
        self,
        request: Request[Any, Any, Any],
        store: StoreGiven,
        view: ViewGiven,
        clock: ClockGiven,
        accounts: AccountsGiven,
        caller: CallerGiven,
        last_pulled_at: Annotated[_Text, QueryParameter(description="The timestamp of the pull just done.")] = None,
        previous_pulled_at: Annotated[
            _Text, QueryParameter(description="That of the pull before it: what a user knew who deleted something.")
        ] = None,
        device_id: Annotated[_Text, QueryParameter(description="A UUID that the app keeps.")] = None,
    ) -> PushOut:
        """Take what WatermelonDB pushes, in one transaction; sent twice it is taken once.

        The body is `{table: {created, updated, deleted}}` or `{"changes": {...}}`. A row that cannot be taken is kept
        for a person and told in `messages`; it fails nobody else. 409: pull first, someone changed the same.
        """
        since = _cursor("last_pulled_at", last_pulled_at)
        if since is None:
            raise PullFirst("last_pulled_at: pull first")
        ask = PushAsk(
            rows=read_push(await request.body()),
            since=since,
            before=_cursor("previous_pulled_at", previous_pulled_at),
            origin=_origin(caller, device_id),
            author=view.principal.user_id,
            role=view.principal.role,
            home=accounts.home,
            now=clock.now(),
            is_clock_sure=clock.state.is_sure,
            may_delete_animals=_has_factor(lambda: accounts.require_factor(caller)),
        )
        result = await store.push_phone(view, ask)
        return PushOut(
            conflicts=result.clashes,
            messages=result.messages,
            fixes=result.fixes,
            experimentalRejectedIds=result.later,
        )


class Uploads(Controller):
    """The original platform's bulk upload."""

    path = "/sync"
    tags = ("sync",)
    return_dto = None

    @post(
        "/upload",
        summary="Upload what was collected offline",
        status_code=200,
        responses={
            **documented(413, 422, 507),
            200: ResponseSpec(UploadOut, generate_examples=False, description="What became of each item."),
        },
    )
    async def upload(
        self,
        request: Request[Any, Any, Any],
        store: StoreGiven,
        view: ViewGiven,
        clock: ClockGiven,
        accounts: AccountsGiven,
    ) -> Response[bytes]:
        """Take up to 1,000 animals, positions and observations of a device, and say of each what became of it.

        The body is `{device_id, animals, tracking, observations}`, each item with a `local_id`; items name animals by
        their id or local id. The same item may be sent again. With `Idempotency-Key`, or `batch_id` in the body, a
        repeat of the whole is answered with the same answer.
        """
        begun_s = clock.monotonic()
        body = await request.body()
        found = read_upload(body, request.headers.get("idempotency-key"))
        if found.key and len(found.key) > _MOST_OF_A_KEY:
            raise Invalid(f"Idempotency-Key: has at most {_MOST_OF_A_KEY} characters")
        ask = UploadAsk(
            device_id=found.device_id,
            items={"animals": found.animals, "tracking": found.tracking, "observations": found.observations},
            author=view.principal.user_id,
            role=view.principal.role,
            home=accounts.home,
            now=clock.now(),
            is_clock_sure=clock.state.is_sure,
        )
        sync_id = random_id()

        def answer(uploaded: Uploaded) -> bytes:
            return msgspec.json.encode(_uploaded(sync_id, ask, uploaded, clock.monotonic() - begun_s))

        kept = Kept(found.key, hashlib.sha256(body).hexdigest()) if found.key else None
        told = await store.upload_phone(view, ask, sync_id=sync_id, kept=kept, answer=answer)
        return Response(told, media_type="application/json")


def _uploaded(sync_id: str, ask: UploadAsk, uploaded: Uploaded, took_s: float) -> UploadOut:
    counts = {
        kind: Counts(
            uploaded.synced[kind], uploaded.failed[kind], sum(each.type == kind for each in uploaded.conflicts)
        )
        for kind in KINDS
    }
    total, synced = sum(map(len, ask.items.values())), sum(uploaded.synced.values())
    return UploadOut(
        sync_id=sync_id,
        **counts,
        summary=Summary(
            total_items=total,
            synced=synced,
            conflicts=len(uploaded.conflicts),
            failed=sum(uploaded.failed.values()),
            success_rate=f"{100 * synced / total if total else 0:.1f}%",
            duration_seconds=round(took_s, 3),
        ),
        errors=uploaded.errors,
        conflicts=uploaded.conflicts,
        warnings=uploaded.warnings,
        id_map={str(kind): ids for kind, ids in uploaded.id_map.items()},
    )


def _has_factor(require: Callable[[], None]) -> bool:
    try:
        require()
    except FactorRequired:
        return False
    return True


def _origin(caller: Caller, device_id: str | None) -> str:
    """Return the name of a phone: its changes come in its own order, so they never clash with each other."""
    named = (device_id or "").strip()[:100].replace("\0", "")
    return f"phone:{named or caller.session_id or caller.principal.user_id}"


def _cursor(field: str, given: str | None) -> Cursor | None:
    """Return the cursor that a client sends; ``null``, nothing and 0 say that there is none."""
    if given is None or given.strip() in ("", "null", "undefined", "0"):
        return None
    number = _whole(field, given, 0, _LARGEST)
    return Cursor.of(number) if number else None


def _whole(field: str, given: str | None, low: int, high: int) -> int | None:
    if given is None or given.strip() in ("", "null"):
        return None
    try:
        value = float(given)
    except ValueError as error:
        raise Invalid(f"{field}: must be a whole number") from error
    if not math.isfinite(value) or not low <= value <= high:
        raise Invalid(f"{field}: must lie between {low} and {high}")
    return int(given) if given.strip().isdigit() else int(value)


def _tables(given: str | None) -> frozenset[str]:
    if not given or not given.strip():
        return frozenset(TABLES)
    return frozenset(name.strip() for name in given.split(",")) & frozenset(TABLES)


def _migrated(given: str | None) -> frozenset[str]:
    if given is None or given.strip() in ("", "null", "undefined"):
        return frozenset()
    try:
        migration = msgspec.json.decode(given, type=Migration)
    except msgspec.DecodeError as error:
        raise Invalid(f"migration: must be what WatermelonDB gives, in JSON: {error}") from error
    return frozenset([*migration.tables, *(added.table for added in migration.columns)])


_ROWS: Final[Mapping[str, Callable[[Record, tuple[Any, ...], View, int], dict[str, Any]]]] = {
    "animals": lambda row, more, view, epoch: animal_row(reduced(view, animal_of(row, more[1])), epoch, int(more[0])),
    "zones": lambda row, _, view, epoch: zone_row(reduced(view, zone_of(row)), epoch),
    "corridors": lambda row, _, view, epoch: corridor_row(reduced(view, corridor_of(row)), epoch),
    "patrols": lambda row, _, view, epoch: patrol_row(reduced(view, patrol_of(row)), epoch),
    "observations": lambda row, more, view, epoch: observation_row(reduced(view, observation_of(row, *more)), epoch),
    "alerts": lambda row, _, view, epoch: alert_row(reduced(view, alert_of(row)), epoch),
}


def _changes(page: PullPage, view: View, tables: frozenset[str]) -> dict[str, TableChanges]:
    changes = {table: TableChanges([], [], page.deleted.get(table, [])) for table in TABLES if table in tables}
    for table, rows in page.records.items():
        into = changes[table]
        for record, more in rows:
            is_revived = (table, record.id) in page.revived
            (into.created if is_revived else into.updated).append(_ROWS[table](record, more, view, page.until.epoch))
    if "tracking" in changes:
        shown = [TrackingRow.of(row) for row in page.fixes]
        ids = {row.id for row in shown}
        deleted = [identity for identity in changes["tracking"].deleted if identity not in ids]
        changes["tracking"] = TableChanges([], shown, deleted)
    return changes
