"""How a job of this package speaks to the database of the home that runs it.

A job is a generator: it yields what it wants and is sent the answer, all inside one transaction of the home (of a
pull, one snapshot). So both homes do the same, the station's thread and the cloud's coroutine each in its own way.
What is wanted is a statement with its values, as in ``shared.accounts`` (rows come back), or one of the structs below.
Statements are written once: ``?`` marks a value, and what the two databases say differently is in ``Dialect``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from shared.sync.operations import Operation
from shared.sync.records import EntityName
from shared.sync.reduced import Reduced

T = TypeVar("T")


#: A device, a table of ``phone_ids``, and an id that the device gave.
LocalId: TypeAlias = tuple[str, str, str]


class Put(msgspec.Struct, frozen=True):
    """Insert rows of text, set-wise; one whose ``key`` is there already stays."""

    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def statement(self, source: str) -> str:
        """Return the statement that inserts what ``source`` gives."""
        columns, key = ", ".join(self.columns), ", ".join(self.key)
        return f"INSERT INTO {self.table} ({columns}) {source} ON CONFLICT ({key}) DO NOTHING"


class Records(msgspec.Struct, frozen=True):
    """Read records ``r`` by a condition: a list of (record, columns of ``more``)."""

    entity: EntityName
    condition: str
    values: Sequence[Any] = ()
    more: tuple[str, ...] = ()
    tail: str = ""
    source: Reduced | None = None


class Edit(msgspec.Struct, frozen=True):
    """Decide and apply operations in their order: an ``Effects`` or the ``RequestError`` of each."""

    operations: Sequence[Operation]


class AddFixes(msgspec.Struct, frozen=True):
    """Store a batch of fixes (``shared.wire.batch.FIX_COLUMNS``): of each an ``AddedFix`` or the ``RequestError``."""

    columns: Mapping[str, Sequence[Any]]


class Mapped(msgspec.Struct, frozen=True):
    """Look up local ids: what each of those that are known became, and the hash of what was said, or its beginning."""

    keys: Sequence[LocalId]


class Map(msgspec.Struct, frozen=True):
    """Remember what local ids became and the hash of what was said; one that is known becomes the newer."""

    became: Mapping[LocalId, tuple[str, str]]


class Exclude(msgspec.Struct, frozen=True):
    """Take a fix out by hand: whether there is such a fix."""

    fix_id: str


class Note(msgspec.Struct, frozen=True):
    """Have lines of the change log numbered: (entity, row, kind, origin)."""

    lines: Sequence[tuple[str, str, str, str]]


class Numbered(msgspec.Struct, frozen=True):
    """Number all lines so far, as the last step but one: the number of the last change."""


class Lose(msgspec.Struct, frozen=True):
    """Keep what was not even tried of an operation where a person can read it; what it lost, ``Edit`` keeps."""

    operation: Operation
    lost: Mapping[str, Any]
    kept: Mapping[str, Any]


Statement: TypeAlias = tuple[str, Sequence[Any]]
Wish: TypeAlias = Statement | Put | Records | Edit | AddFixes | Mapped | Map | Exclude | Note | Numbered | Lose
Job: TypeAlias = Generator[Wish, Any, T]


class Dialect(msgspec.Struct, frozen=True):
    """What the two databases say differently."""

    #: a condition that a column is one of a list, and that list as one value
    among: Callable[[str], str]
    listed: Callable[[Iterable[str]], Any]
    #: the id of a fix as a value, from its 16 bytes, and back
    fix_value: Callable[[bytes], Any]
    fix_bytes: Callable[[Any], bytes]
    #: fixes ``f`` whose corrected time is not their raw one
    is_corrected: str
    #: the number of the last change
    head: str
    #: the collars ``v`` of stations, for reduced views; None where the home has no such thing
    scope: str | None


#: Tables of the phone by the kind of record that they show, parents first. ``tracking`` is fixes, no records.
ENTITY_OF: Final[Mapping[str, EntityName]] = {
    "animals": "animal", "zones": "zone", "corridors": "corridor", "patrols": "patrol", "observations": "observation",
    "alerts": "alert",
}  # fmt: skip
TRACKING: Final = "tracking"
#: What makes two rows of ``phone_ids`` one.
PHONE_KEY: Final = ("device", "tbl", "local_id")
TABLES: Final = (*ENTITY_OF, TRACKING)
