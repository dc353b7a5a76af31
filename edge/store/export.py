"""The store as a file in another system's format, streaming: fix by fix, animal after animal, in one snapshot."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO, cast

import msgspec
import sqlite_utils

from edge.store.driver import Connection
from edge.store.store import SpatialiteStore
from shared.domain import is_usable
from shared.errors import Forbidden, Invalid, NotFound
from shared.exchange import geoparquet, movebank
from shared.exchange.formats import WRITTEN
from shared.exchange.movebank import DeploymentRow
from shared.exchange.rows import EXTRAS, TrackFix
from shared.privacy import View
from shared.sync.records import from_ms, to_ms

FORMATS: Final = (*WRITTEN, "movebank-reference", "geoparquet")
_EVERY: Final = 1_000
_ANIMALS: Final = (
    "SELECT pk, id AS animal_id, name AS individual, species FROM animals"
    " WHERE deleted_ms IS NULL AND (:animal IS NULL OR name = :animal) ORDER BY name, id"
)
#: Answered by the index of an animal's fixes in their order: nothing is sorted, so nothing is held.
_FIXES: Final = (
    "SELECT c.id AS collar_id, f.recorded_ms, f.lon_e7, f.lat_e7, f.flags, "
    + ", ".join(f"f.{name}" for name in EXTRAS)
    + " FROM fixes f JOIN collars c ON c.pk = f.collar_pk WHERE f.animal_pk = :pk"
    " AND f.recorded_ms >= :since_ms AND f.recorded_ms < :until_ms ORDER BY f.recorded_ms, f.pk"
)
_COUNT: Final = (
    "SELECT count(*) FROM fixes WHERE animal_pk = :pk AND recorded_ms >= :since_ms AND recorded_ms < :until_ms"
)
_DEPLOYMENTS: Final = """
SELECT d.id, d.started_ms, d.ended_ms, d.notes, c.id AS collar_id, c.model, a.name, a.species, a.gender
FROM deployments d JOIN collars c ON c.pk = d.collar_pk JOIN animals a ON a.pk = d.animal_pk
WHERE d.deleted_ms IS NULL AND a.deleted_ms IS NULL AND (:animal IS NULL OR a.name = :animal)
  AND d.started_ms < :until_ms AND (d.ended_ms IS NULL OR d.ended_ms > :since_ms)
ORDER BY a.name, d.started_ms, d.id"""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which fixes leave: ``since`` is inclusive, ``until`` exclusive; None is no bound."""

    animal: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    is_usable_only: bool = False

    def values(self) -> dict[str, Any]:
        """Return the bounds as the statements take them."""
        return {
            "animal": self.animal,
            "since_ms": -(2**62) if self.since is None else to_ms(self.since),
            "until_ms": 2**62 if self.until is None else to_ms(self.until),
        }


def check_export(view: View) -> None:
    """Raise Forbidden unless whoever asks may carry exact positions out of the system."""
    if view.principal.role not in ("admin", "conservation_manager"):
        raise Forbidden(f"a {view.principal.role} may not export positions")


async def export_tracks(
    store: SpatialiteStore,
    view: View,
    path: Path,
    selection: Selection,
    *,
    form: str = "tidy",
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> int:
    """Write what ``selection`` names to ``path`` (``-``: standard output) in ``form``; return how many rows.

    ``progress`` hears of rows written and rows in all, from another thread. A file appears whole or not at all.
    Raises Invalid for a format that there is not, NotFound for an animal of that name.
    """
    check_export(view)
    if form not in FORMATS:
        raise Invalid(f"{form!r} is no format; there are {', '.join(FORMATS)}")

    def job(db: Connection) -> int:
        rows = sqlite_utils.Database(db)
        animals = list(rows.query(_ANIMALS, selection.values()))
        if selection.animal is not None and not animals:
            raise NotFound(f"there is no animal called {selection.animal}")
        if form == "movebank-reference":
            return _into(path, lambda file: movebank.write_reference(_deployments(rows, selection), file))
        total = sum(_one(rows.query(_COUNT, {**selection.values(), **animal})) for animal in animals)
        fixes = _counted(_fixes(rows, animals, selection), lambda n: progress(n, total))
        if form == "geoparquet":
            return _into_bytes(path, lambda file: geoparquet.write(fixes, file))
        return _into(path, lambda file: WRITTEN[form](fixes, file))

    return await store.read(job)


def _fixes(rows: Any, animals: Iterable[dict[str, Any]], selection: Selection) -> Iterator[TrackFix]:
    for animal in animals:
        whose = {name: animal[name] for name in ("animal_id", "individual", "species")}
        for row in rows.query(_FIXES, {**selection.values(), "pk": animal["pk"]}):
            if not selection.is_usable_only or is_usable(row["flags"]):
                yield TrackFix(**whose, **row)


def _deployments(rows: Any, selection: Selection) -> Iterator[DeploymentRow]:
    for row in rows.query(_DEPLOYMENTS, selection.values()):
        yield DeploymentRow(
            collar_id=row["collar_id"], individual=row["name"], species=row["species"], gender=row["gender"],
            started_at=from_ms(row["started_ms"]), notes=row["notes"], identity=row["id"], model=row["model"],
            ended_at=None if row["ended_ms"] is None else from_ms(row["ended_ms"]),
        )  # fmt: skip


def _one(rows: Iterable[dict[str, Any]]) -> int:
    return int(next(iter(next(iter(rows)).values())))


def _counted(fixes: Iterable[TrackFix], progress: Callable[[int], None]) -> Iterator[TrackFix]:
    for n, fix in enumerate(fixes, 1):
        yield fix
        if n % _EVERY == 0:
            progress(n)


def _into(path: Path, write: Callable[[TextIO], int]) -> int:
    if str(path) == "-":
        return write(sys.stdout)
    if path.exists() and not path.is_file():  # a pipe, a device
        with path.open("w", encoding="utf-8", newline="") as file:
            return write(file)
    part = _part(path)
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            n = write(file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return n


def _into_bytes(path: Path, write: Callable[[BinaryIO], int]) -> int:
    if str(path) == "-":
        return write(cast("BinaryIO", sys.stdout.buffer))
    part = _part(path)
    try:
        with part.open("wb") as file:
            n = write(file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return n


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")
