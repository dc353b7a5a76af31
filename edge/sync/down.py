"""What comes down in a session: changes of records, conflicts, fixes that the cloud took another way.

Each page is taken in one transaction with the cursor behind it, so whatever breaks off goes on at the page it was at.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

import msgspec

from edge.store import outbox
from edge.store.jobs import run
from edge.store.store import CLASH_CURSOR, SpatialiteStore
from edge.sync.client import Cloud
from edge.sync.synced import Synced
from shared.accounts.facts import fact
from shared.errors import LinkError, NotFound, StaleCursor
from shared.sync.records import EntityName, Record
from shared.wire.batch import decode_fixes, decode_records
from shared.wire.link import HeardFixes


class Down:
    """Takes what the cloud has for this station. ``compare_heads`` is called where the cloud begins a new life."""

    def __init__(
        self, store: SpatialiteStore, cloud: Cloud, done: Synced, compare_heads: Callable[[], Awaitable[None]]
    ) -> None:
        self._store = store
        self._cloud = cloud
        self._done = done
        self._compare_heads = compare_heads
        #: the newest of the fixes that wait in the cloud are here
        self._has_newest = False

    async def changes(self) -> None:
        """Take what changed in the cloud, page by page, each with its cursor."""
        here = await self._store.read(outbox.enrolled)
        epoch, since = here.cloud_epoch, here.cursor
        waiting: list[Record] = []  # a deployment may come a page before a collar that changed after it
        left: list[tuple[EntityName, str]] = []
        while True:
            try:
                page = await self._cloud.changes(epoch, since)
            except StaleCursor:
                if not since:
                    raise
                await self._store.write(outbox.forget_cursor)
                here = await self._store.read(outbox.enrolled)
                epoch, since, waiting, left = None, 0, [], []
                continue
            if page.epoch != here.cloud_epoch:
                await self._compare_heads()
                here = msgspec.structs.replace(here, cloud_epoch=page.epoch)
            check_number(page.next)
            if page.is_more and page.next <= since:
                raise LinkError("the cloud's changes do not go on: an answer of another request?")
            waiting += decode_records(page.batch, Record)
            left += page.left
            try:
                self._done.changes += await self._store.take_changes(page.epoch, page.next, waiting, left)
                waiting, left = [], []
            except NotFound:
                if not page.is_more:
                    raise
            if not page.is_more:
                return
            epoch, since = page.epoch, page.next

    async def clashes(self) -> None:
        """Take conflicts that concern this station, and how they were resolved."""
        while True:
            known = await self._store.read(functools.partial(run, job=fact(CLASH_CURSOR)))
            epoch, _, since = (known or "").partition(" ")
            page = await self._cloud.clashes(epoch or None, int(since or 0))
            if page is None:
                return
            check_number(page.next)
            if page.clashes or f"{page.epoch} {page.next}" != known:
                await self._store.take_clashes(page.clashes, f"{page.epoch} {page.next}")
            self._done.conflicts += len(page.clashes)
            if not page.is_more:
                return

    async def heard(self) -> bool:
        """Take the next fixes that came to the cloud another way, with their cursor; say whether more wait.

        Where they fill more than a page, the newest of each collar come first.
        """
        here = await self._store.read(outbox.enrolled)
        if here.cloud_epoch is None:
            return False  # its changes could not be taken, and with them the collars that these are of
        try:
            page = await self._cloud.heard(here.cloud_epoch, here.heard_cursor, here.heard_after)
        except StaleCursor:
            # the next session finds out about the cloud's new life where changes are taken
            return False
        if page is None or page.epoch != here.cloud_epoch:
            return False
        check_number(page.next)
        if page.is_more and (page.next, page.after) == (here.heard_cursor, here.heard_after):
            raise LinkError("the cloud's fixes do not go on: an answer of another request?")
        if page.is_more and not self._has_newest:
            self._has_newest = True
            newest = await self._cloud.newest(here.cloud_epoch, here.heard_cursor)
            if newest is not None and newest.epoch == page.epoch:
                await self._take_heard(newest, here.heard_cursor, here.heard_after)
        self._done.heard += await self._take_heard(page, page.next, page.after)
        return page.is_more

    async def _take_heard(self, page: HeardFixes, cursor: int, after: str | None) -> int:
        columns = decode_fixes(page.batch)
        new_fixes, told = await self._store.take_heard(page.epoch, cursor, after, columns, page.decisions)
        self._done.new_fixes += new_fixes
        self._done.told += told
        return len(columns["raw_ms"])


def check_number(n: int) -> None:
    """Raise LinkError for what no cloud counts to, and the database could not hold."""
    if not 0 <= n < 2**63:
        raise LinkError("what answers is not the cloud: it counts to what nobody counts to")
