"""What records and columns were called in earlier versions of this program: ladders of steps, up and down.

A batch of records says in its frame which version of them it holds. The cloud takes its own version and the two before
it: what an older station brings is raised step by step to what this program means, and what the cloud sends such a
station is lowered to what that one can read. A step is two functions of one plain record or operation (a mapping as
MessagePack has it, with ``entity`` and ``columns``)::

    version   1  --up-->  2  --up-->  3 (this program)
              1 <--down-- 2 <--down-- 3

``up`` fills what an older program did not say; ``down`` leaves out what an older program does not know, and is None for
a record that an older program could not hold at all. What is no record (a decision on a fix) has no ``entity`` and
passes as it is. Steps are never changed once a version was released, only added; a version three behind is refused with
``BatchTooOld``, because nobody tests what nobody runs.

Batches in columns (fixes, results of models) have ladders of their own (``ColumnLadder``), for all rows of a batch at
once. A version has a ``Table``: the one before with columns appended, so that places on the wire keep their meaning.

A station that was brought up to date has read its records through an older version: it begins the feed anew
(``edge.store.outbox.begin_schema``), so that what was left out for it comes after all; of fixes likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from shared.errors import BatchTooOld, Invalid
from shared.wire.batch.columns import Columns, Table

#: A record or an operation as MessagePack has it.
Plain: TypeAlias = dict[str, Any]

#: So many versions before its own a program reads and writes.
KEPT_VERSIONS: Final = 2


class Step(msgspec.Struct, frozen=True):
    """The way between two versions that follow each other."""

    up: Callable[[Plain], Plain]
    down: Callable[[Plain], Plain | None]


class Ladder:
    """The versions of records from 1 on; ``steps`` lead from each to the next."""

    def __init__(self, steps: Sequence[Step] = ()) -> None:
        self._steps = tuple(steps)
        self.newest = 1 + len(self._steps)
        self.oldest = max(1, self.newest - KEPT_VERSIONS)

    def check(self, version: int) -> None:
        """Raise BatchTooOld for a version that this program has left behind."""
        _check(version, self.oldest, self.newest, "records")

    def raised(self, version: int, records: Sequence[Any]) -> list[Any]:
        """Return records of an older version as this program means them."""
        return [self._up(record, version) if _is_record(record) else record for record in records]

    def lowered(self, version: int, records: Sequence[Any]) -> list[Any]:
        """Return records as a program of an older version can read them, without those that it could not hold."""
        found = [self._down(record, version) if _is_record(record) else record for record in records]
        return [record for record in found if record is not None]

    def _up(self, record: Plain, version: int) -> Plain:
        for step in self._steps[version - 1 :]:
            record = step.up(record)
        return record

    def _down(self, record: Plain, version: int) -> Plain | None:
        lowered: Plain | None = record
        for step in reversed(self._steps[version - 1 :]):
            lowered = None if lowered is None else step.down(lowered)
        return lowered


class ColumnStep(msgspec.Struct, frozen=True):
    """The way between two versions of columns that follow each other; ``table`` is the later one's.

    ``up`` is given every column of the earlier table, ``down`` those of the later that there are.
    """

    table: Table
    up: Callable[[Columns], Columns]
    down: Callable[[Columns], Columns]


class ColumnLadder:
    """The versions of a batch in columns from 1 on: the first table, and steps from each version to the next."""

    def __init__(self, first: Table, steps: Sequence[ColumnStep] = ()) -> None:
        self._tables = (first, *(step.table for step in steps))
        self._steps = tuple(steps)
        self.newest = len(self._tables)
        self.oldest = max(1, self.newest - KEPT_VERSIONS)

    def check(self, version: int) -> None:
        """Raise BatchTooOld for a version that this program has left behind."""
        _check(version, self.oldest, self.newest, self._tables[0].rows)

    def table(self, version: int) -> Table:
        """Return what the rows of a version have."""
        return self._tables[version - 1]

    def raised(self, version: int, columns: Columns) -> Columns:
        """Return columns of an older version as this program means them; raises Invalid where a step cannot."""
        try:
            for step in self._steps[version - 1 :]:
                columns = step.up(columns)
        except (KeyError, TypeError, ValueError, IndexError) as error:  # a step was given what no program wrote
            raise Invalid(f"the columns are not what version {version} has: {error!r}") from error
        return columns

    def lowered(self, version: int, columns: Columns) -> Columns:
        """Return columns as a program of an older version can read them."""
        for step in reversed(self._steps[version - 1 :]):
            columns = step.down(columns)
        return columns


def _check(version: int, oldest: int, newest: int, what: str) -> None:
    if version < oldest:
        raise BatchTooOld(
            f"the other side speaks version {version} of {what}, this program versions {oldest} to {newest}: bring the"
            " other side up to date"
        )


def _is_record(record: object) -> bool:
    return isinstance(record, dict) and "entity" in record


#: No record has changed its shape yet: what every program so far has written is version 1.
LADDER: Final = Ladder()
