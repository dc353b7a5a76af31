"""Fixes on their way out of the cloud: animal after animal, in the order of time, of one state of the database.

Rows go through the view like those of every other read: what is reduced is reduced in the statement itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from cloud.store.database import Connection, Database
from cloud.store.queries import fixes_seen
from shared.domain import is_usable
from shared.errors import NotFound
from shared.exchange.rows import EXTRAS, TrackFix
from shared.privacy import View
from shared.sync.records import to_ms

_ANIMALS: Final = (
    "SELECT pk, id, name, species FROM animals WHERE deleted_ms IS NULL"
    " AND (%(animals)s::text[] IS NULL OR id = ANY(%(animals)s) OR name = ANY(%(animals)s))"
    ' AND (%(species)s::text IS NULL OR species = %(species)s) ORDER BY name COLLATE "C", id'
)
_COLUMNS: Final = ("recorded_ms", "lon_e7", "lat_e7", "flags", *EXTRAS)
_SELECT: Final = (
    f"SELECT c.id, {', '.join(f'f.{name}' for name in _COLUMNS)} FROM fixes f JOIN collars c ON c.pk = f.collar_pk"
)
_WHERE: Final = " WHERE f.animal_pk = %s AND f.recorded_ms >= %s AND f.recorded_ms < %s"
_ROWS: Final = 2_000


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which fixes leave. ``animals`` are ids or names, None is all; ``since`` is inclusive, ``until`` exclusive."""

    animals: tuple[str, ...] | None = None
    species: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    is_usable_only: bool = False

    @property
    def span_ms(self) -> tuple[int, int]:
        """The bounds in milliseconds."""
        return (
            -(2**62) if self.since is None else to_ms(self.since), 2**62 if self.until is None else to_ms(self.until)
        )  # fmt: skip


class _Animal(msgspec.Struct, frozen=True):
    pk: int
    id: str
    name: str
    species: str


class Leaving:
    """Fixes that ``view`` may take along. ``count`` is how many there are; ``fixes`` gives them once."""

    def __init__(self, db: Connection, view: View, selection: Selection, animals: Sequence[_Animal]) -> None:
        self._db = db
        self._view = view
        self._selection = selection
        self._animals = animals

    async def count(self) -> int:
        """Return how many rows the selection has, those that are not usable among them."""
        source = await fixes_seen(self._db, self._view)
        statement = f"{source.sql}{source.of(f'SELECT count(*) FROM fixes f {_WHERE}')}".encode()
        n = 0
        for animal in self._animals:
            found = await self._db.execute(statement, [*source.values, animal.pk, *self._selection.span_ms])
            row = await found.fetchone()
            n += 0 if row is None else int(row[0])
        return n

    async def fixes(self) -> AsyncGenerator[TrackFix, None]:
        """Give the fixes of each animal, by time; no more than a few thousand are held."""
        source = await fixes_seen(self._db, self._view)
        # a reduced row has no id of its own to decide between two of one instant, and must not show that it has
        tie = ", f.id" if self._view.is_exact else ""
        select = _SELECT if self._view.is_exact else _SELECT.replace(" FROM", ", f.area FROM", 1)
        statement = f"{source.sql}{source.of(select)}{_WHERE} ORDER BY f.recorded_ms{tie}".encode()
        for animal in self._animals:
            async with self._db.cursor(name="leaving") as cursor:
                cursor.itersize = _ROWS
                await cursor.execute(statement, [*source.values, animal.pk, *self._selection.span_ms])
                async for row in cursor:
                    fix = _track_fix(animal, row)
                    if not self._selection.is_usable_only or is_usable(fix.flags):
                        yield fix


@contextlib.asynccontextmanager
async def leaving(database: Database, view: View, selection: Selection) -> AsyncGenerator[Leaving, None]:
    """Give what leaves, of one state of the database; raises NotFound for an animal that there is not."""
    async with database.snapshot() as db:
        wanted = None if selection.animals is None else [name.replace("\0", "") for name in selection.animals]
        found = await db.execute(_ANIMALS.encode(), {"animals": wanted, "species": selection.species})
        animals = [_Animal(*row) for row in await found.fetchall()]
        known = {word for animal in animals for word in (animal.id, animal.name)}
        for name in selection.animals or ():
            if name not in known:
                raise NotFound(f"there is no animal {name}" + (" of that species" if selection.species else ""))
        yield Leaving(db, view, selection, animals)


def _track_fix(animal: _Animal, row: Sequence[Any]) -> TrackFix:
    return TrackFix(
        animal_id=animal.id, individual=animal.name, species=animal.species, collar_id=row[0],
        **dict(zip((*_COLUMNS, "area"), row[1:], strict=False)),
    )  # fmt: skip
