"""Does the cloud hold every fix of this station's collars, as this station has it?

A cloud that joins several stations may know more of a fix than each: it folded their copies. So its copy is right where
folding ours into it changes nothing (``shared.sync.fixes.fold``), and a fix that only it has is another station's.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from edge.store import unsent
from edge.store.driver import Connection
from edge.store.store import SpatialiteStore
from edge.store.unsent import Run
from shared.ids import fix_id, id_text
from shared.sync.fixes import fold
from shared.wire.batch import FIX_COLUMNS, decode_fixes
from shared.wire.link import MAX_FIXES, FixPage

SHOWN: Final = 10
_NAMES: Final = tuple(column.name for column in FIX_COLUMNS)


class FixPages(Protocol):
    """Where the cloud's copy is read."""

    async def fixes(self, collar_id: str, after: str | None, limit: int = MAX_FIXES) -> FixPage:
        """Return the cloud's fixes of a collar after the id ``after`` (hex digits)."""
        ...


class CloudVerified(msgspec.Struct, kw_only=True):
    """Counts of a comparison. ``waiting`` are fixes that the cloud has not confirmed: they may be missing or older."""

    collars: int = 0
    fixes: int = 0
    matching: int = 0
    waiting: int = 0
    missing: int = 0
    differing: int = 0
    doubled: int = 0
    only_in_cloud: int = 0
    examples: list[str] = []

    @property
    def differences(self) -> int:
        """How many things are not as this station has them."""
        return self.missing + self.differing + self.doubled


async def verify_cloud(
    store: SpatialiteStore, cloud: FixPages, progress: Callable[[int], None] = lambda _: None
) -> CloudVerified:
    """Compare every fix of every collar with the cloud's copy; raises what ``cloud`` raises."""
    found = CloudVerified()
    waiting = _Ranges(await store.read(unsent.waiting_fixes))
    for collar_pk, collar_id in await store.read(_collars):
        found.collars += 1
        await _compare(store, cloud, found, waiting, collar_pk, collar_id, progress)
    return found


async def _compare(
    store: SpatialiteStore,
    cloud: FixPages,
    found: CloudVerified,
    waiting: _Ranges,
    collar_pk: int,
    collar_id: str,
    progress: Callable[[int], None],
) -> None:
    ours: dict[bytes, int] = await store.read(
        lambda db: dict(db.execute("SELECT id, pk FROM fixes WHERE collar_pk = ?", (collar_pk,)).fetchall())
    )
    seen: set[bytes] = set()
    after: str | None = None
    while True:
        page = await cloud.fixes(collar_id, after)
        theirs = dict(_rows(page))
        for identity, copies in theirs.items():
            found.doubled += len(copies) - 1 + (identity in seen)
            if len(copies) > 1 or identity in seen:
                _example(found, "doubled in the cloud", collar_id, identity)
        found.only_in_cloud += sum(identity not in ours for identity in theirs.keys() - seen)
        both = [identity for identity in theirs.keys() & ours.keys() if identity not in seen]
        seen.update(theirs)
        pks = {ours[identity]: identity for identity in both}
        rows = await store.read(functools.partial(unsent.fixes_of, pks=list(pks)))
        for pk, values in rows.items():
            identity = pks[pk]
            if unlike := _unlike(theirs[identity][0], _foldable(values)):
                _judge(found, waiting, "differing", pk, collar_id, identity, ", ".join(unlike))
            else:
                found.matching += 1
        found.fixes += len(rows)
        progress(found.fixes)
        if page.last is None or page.last == after:
            break
        after = page.last
    for identity in sorted(ours.keys() - seen):
        found.fixes += 1
        _judge(found, waiting, "missing", ours[identity], collar_id, identity)


def _unlike(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Return the columns in which the cloud's copy lacks something of ours.

    Whom its sender named is only compared where the cloud knows nobody: of two, homes may choose differently.
    """
    folded = dict(theirs)
    said = ours["said_animal_pk"] if theirs["said_animal_pk"] is None else None
    fold(folded, {**ours, "said_animal_pk": said})
    return [name for name in folded if folded[name] != theirs[name]]


def _rows(page: FixPage) -> Iterator[tuple[bytes, list[dict[str, Any]]]]:
    """Return each fix of a page by its id; a list of more than one is a fix that the cloud has more than once."""
    columns = decode_fixes(page.batch)
    found: dict[bytes, list[dict[str, Any]]] = {}
    for values in zip(*(columns[name] for name in _NAMES), strict=True):
        row = _foldable(values)
        found.setdefault(fix_id(row["collar_id"], row["raw_ms"], row["lon_e7"], row["lat_e7"]), []).append(row)
    yield from found.items()


def _foldable(values: Sequence[Any]) -> dict[str, Any]:
    """Return a fix in the columns that folding knows: whom its sender named is told by id here, by row there."""
    row = dict(zip(_NAMES, values, strict=True))
    row["said_animal_pk"] = row.pop("said_animal_id")
    return row


def _collars(db: Connection) -> list[tuple[int, str]]:
    return [(pk, identity) for pk, identity in db.execute("SELECT pk, id FROM collars ORDER BY id")]


def _judge(
    found: CloudVerified, waiting: _Ranges, what: str, pk: int, collar_id: str, identity: bytes, where: str = ""
) -> None:
    if pk in waiting:
        found.waiting += 1
        return
    if what == "missing":
        found.missing += 1
    else:
        found.differing += 1
    _example(found, what, collar_id, identity, where)


def _example(found: CloudVerified, what: str, collar_id: str, identity: bytes, where: str = "") -> None:
    if len(found.examples) < SHOWN:
        found.examples.append(f"{what}: {collar_id} {id_text(identity)}{f' in {where}' if where else ''}")


class _Ranges:
    """Which rows lie in any of the runs."""

    def __init__(self, runs: list[Run]) -> None:
        self._first: list[int] = []
        self._last: list[int] = []
        for run in sorted(runs, key=lambda run: run.first_pk):
            if self._last and run.first_pk <= self._last[-1] + 1:
                self._last[-1] = max(self._last[-1], run.last_pk)
            else:
                self._first.append(run.first_pk)
                self._last.append(run.last_pk)

    def __contains__(self, pk: int) -> bool:
        place = bisect.bisect_right(self._first, pk) - 1
        return place >= 0 and pk <= self._last[place]
