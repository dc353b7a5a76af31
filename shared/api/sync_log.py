"""/api/v1/sync/logs and /api/v1/sync/queue: what synchronisation did, what waits, what failed and can be tried again.

Rangers see what is their own; managers and administrators also what stations brought and what this home itself sends.
"""

from __future__ import annotations

from typing import Annotated, Final, Protocol, TypeAlias

from litestar import Controller, get, post
from litestar.di import Dependency
from litestar.params import FromPath, SkipValidationMarker

from shared.api.access import AccountsGiven, CallerGiven
from shared.api.errors import documented
from shared.api.paging import PAGING, Paged, PagingGiven
from shared.errors import Conflict, RequestError
from shared.store import Page
from shared.sync import log
from shared.sync.log import Item, Whose
from shared.wire.public.sync_log import QueueItemOut, RetriedOut, SyncLogOut, SyncStatsOut

_RECENT: Final = 10
#: So many are tried again by one request; the rest by the next.
_MAX_RETRIED: Final = 500


class Queue(Protocol):
    """What a home sends on by itself, and how it tries an item again."""

    async def pending(self, whose: Whose, offset: int, limit: int) -> Page[Item]:
        """Return what waits for the other home, what is on its way first."""
        ...

    async def retry(self, item: Item) -> Item:
        """Try an item again and return it as it stands then; raises Conflict where it cannot be tried here."""
        ...


class NothingWaits:
    """The queue of a home that has no other home to send to."""

    async def pending(self, whose: Whose, offset: int, limit: int) -> Page[Item]:
        """Return nothing."""
        return Page(0, [])

    async def retry(self, item: Item) -> Item:
        """Refuse: there is nobody to try it with."""
        raise Conflict(f"item {item.id}: its device has to send it again")


QueueGiven: TypeAlias = Annotated[Queue, Dependency(kind="named"), SkipValidationMarker()]


class SyncLogs(Controller):
    """Sessions."""

    path = "/sync/logs"
    tags = ("sync",)
    dependencies = PAGING
    return_dto = None

    @get("/", summary="List sync sessions", responses=documented(404))
    async def list_sessions(
        self, accounts: AccountsGiven, caller: CallerGiven, paging: PagingGiven
    ) -> Paged[SyncLogOut]:
        """List sessions, newest first."""
        whose = Whose.of(caller.principal)
        count, found = await accounts.tables.read(log.sessions(whose, paging.offset, paging.limit))
        return paging.of(Page(count, found), SyncLogOut.of)

    @get("/recent", summary="The last sync sessions", responses=documented())
    async def recent(self, accounts: AccountsGiven, caller: CallerGiven) -> list[SyncLogOut]:
        """Return the last ten sessions."""
        _, found = await accounts.tables.read(log.sessions(Whose.of(caller.principal), 0, _RECENT))
        return [SyncLogOut.of(session) for session in found]

    @get("/stats", summary="Sums over sync sessions", responses=documented())
    async def stats(self, accounts: AccountsGiven, caller: CallerGiven) -> SyncStatsOut:
        """Count sessions and items, and say how many of them went well."""
        return SyncStatsOut.of(await accounts.tables.read(log.totals(Whose.of(caller.principal))))


class SyncQueue(Controller):
    """Items that wait or failed."""

    path = "/sync/queue"
    tags = ("sync",)
    dependencies = PAGING
    return_dto = None

    @get("/pending", summary="What waits", responses=documented(404))
    async def pending(self, queue: QueueGiven, caller: CallerGiven, paging: PagingGiven) -> Paged[QueueItemOut]:
        """List what this home has not got through to the other one, what is on its way first."""
        found = await queue.pending(Whose.of(caller.principal), paging.offset, paging.limit)
        return paging.of(found, QueueItemOut.of)

    @get("/failed", summary="What failed", responses=documented(404))
    async def failed(self, accounts: AccountsGiven, caller: CallerGiven, paging: PagingGiven) -> Paged[QueueItemOut]:
        """List what could not be taken and is kept with the reason, newest first."""
        whose = Whose.of(caller.principal)
        count, found = await accounts.tables.read(log.items(whose, "failed", paging.offset, paging.limit))
        return paging.of(Page(count, found), QueueItemOut.of)

    @post("/retry_failed", summary="Try again what failed", status_code=200, responses=documented())
    async def retry_failed(self, accounts: AccountsGiven, queue: QueueGiven, caller: CallerGiven) -> RetriedOut:
        """Try every failed item again that can be tried here; what fails again stays in the list."""
        whose = Whose.of(caller.principal)
        _, found = await accounts.tables.read(log.items(whose, "failed", 0, _MAX_RETRIED))
        n_retried = n_refused = 0
        for item in found:
            try:
                await queue.retry(item)
            except RequestError:
                n_refused += 1
            else:
                n_retried += 1
        rest = f"; {n_refused} only their device can send again" if n_refused else ""
        return RetriedOut(message=f"{n_retried} items were tried again{rest}", retry_count=n_retried)

    @post("/{item_id:str}/retry_item", summary="Try one item again", status_code=200, responses=documented(404, 409))
    async def retry_item(
        self, accounts: AccountsGiven, queue: QueueGiven, caller: CallerGiven, item_id: FromPath[str]
    ) -> QueueItemOut:
        """Try a failed item again and return it as it stands then; 400 unless it had failed."""
        item = await accounts.tables.read(log.item(item_id, Whose.of(caller.principal)))
        log.check_failed(item)
        return QueueItemOut.of(await queue.retry(item))
