"""Uploads of positions that come at the same time share a transaction: one commit, and each is answered after it.

While one group is being written the next gathers. Nothing of one upload bears on another of its group, because no two
of a group are of one device or have one key. What a group as a whole could not do is tried upload by upload, so that
what is wrong with one is told to its sender alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from shared.errors import OutpostError, RequestError
from shared.sync.phone.upload import Brought

Answers: TypeAlias = list[bytes | RequestError]
#: Takes uploads in one transaction; ``is_careful``: an item that the database refuses shall cost no other.
Take: TypeAlias = Callable[..., Awaitable[Answers]]

#: So many items of a group: a long transaction would hold up who only brings a few.
MOST_ITEMS: Final = 2_000


class _Group:
    """Uploads that will be written together."""

    def __init__(self) -> None:
        self.members: list[Brought] = []
        self.task: asyncio.Task[Answers] | None = None
        self._n_items = 0
        self._names: set[tuple[str, ...]] = set()

    def join(self, brought: Brought) -> int | None:
        """Take an upload in and return its place; None where it has to wait for the next group."""
        ask = brought.ask
        names = {("device", ask.device_id)} | ({("key", ask.author, brought.kept.key)} if brought.kept else set())
        n_items = len(ask.items["tracking"])
        if self.members and (names & self._names or self._n_items + n_items > MOST_ITEMS):
            return None
        self._names |= names
        self._n_items += n_items
        self.members.append(brought)
        return len(self.members) - 1


class UploadGroups:
    """Gathers uploads for ``take``."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._gathering: _Group | None = None
        self._last: asyncio.Task[Answers] | None = None

    async def answer(self, brought: Brought) -> bytes:
        """Return the answer to an upload once it is committed; raises KeyReused, StoreError."""
        group, place = self._join(brought)
        assert group.task is not None
        try:
            # who gives up waiting takes no other's upload with him
            answers = await asyncio.shield(group.task)
        except OutpostError:
            (found,) = await self._take([brought], is_careful=True)
        else:
            found = answers[place]
        if isinstance(found, RequestError):
            raise found
        return found

    def _join(self, brought: Brought) -> tuple[_Group, int]:
        if self._gathering is not None and (place := self._gathering.join(brought)) is not None:
            return self._gathering, place
        group = self._gathering = _Group()
        place = group.join(brought)
        assert place is not None
        group.task = self._last = asyncio.create_task(self._write(group, self._last))
        return group, place

    async def _write(self, group: _Group, before: asyncio.Task[Answers] | None) -> Answers:
        if before is not None and not before.done():
            await asyncio.wait([before])
        if self._gathering is group:
            self._gathering = None
        members: Sequence[Brought] = group.members
        return await self._take(members, is_careful=False)
