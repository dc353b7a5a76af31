# ruff: noqa: ASYNC240 - a small file is written before the test begins
"""The station's store over a real encrypted file, as the tests of this folder open it and speak to it."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from edge.store import outbox as edge_outbox
from edge.store.database import READERS
from edge.store.driver import Connection
from edge.store.store import SpatialiteStore
from shared.domain import AddedFix, Fix, NewFix
from shared.privacy import OPERATOR, view_for
from shared.store import FixQuery
from shared.sync.records import to_ms
from tests.fakes import START, FakeClock

KEY = bytes(range(32))
VIEW = view_for(OPERATOR)
HOUR = timedelta(hours=1)
EUI = "eui:0101010101010101"


@cache
def _new_database() -> bytes:
    """Return the file of an empty store: its spatial reference systems take longer to write than to copy."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "station.db"
        SpatialiteStore(path, KEY, now=FakeClock().now).close_now()
        return path.read_bytes()


def enrol(db: Connection, epoch: str, *, cloud_epoch: str = "cloud-1", is_again: bool = False) -> None:
    """Make the station known at a cloud that nobody speaks to."""
    edge_outbox.enrol(
        db, url="https://cloud.example", station_id="post-1", private_key=bytes(32), cloud_epoch=cloud_epoch,
        epoch=epoch, now_ms=to_ms(START), is_again=is_again,
    )  # fmt: skip


@asynccontextmanager
async def opened(path: Path, clock: FakeClock, *, readers: int = READERS) -> AsyncIterator[SpatialiteStore]:
    """Give an empty store; when the test is over its database must be sound."""
    path.write_bytes(_new_database())
    store = SpatialiteStore(path, KEY, now=clock.now, synchronous="NORMAL", readers=readers)
    try:
        yield store
        await assert_sound(store)
    finally:
        await store.close()


def fix_of(
    device: str = EUI, at: datetime = START, *, lon: float | None = 37.5, lat: float | None = -2.5, **fields: Any
) -> NewFix:
    """Return a fix that was received as it was recorded, unless ``fields`` say otherwise."""
    said: dict[str, Any] = {"device": device, "recorded_at": at, "received_at": at, "lon_deg": lon, "lat_deg": lat}
    return NewFix(**{**said, **fields})


async def ask(store: SpatialiteStore, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    return await store.read(lambda db: [tuple(row) for row in db.execute(sql, values).fetchall()])


async def assert_sound(store: SpatialiteStore) -> None:
    """Check what must hold whatever happened: the spatial index, the counters, the geometries, the pages."""
    checks = ", ".join(f"CheckSpatialIndex('{table}', 'geom')" for table in ("fixes", "zones", "corridors"))
    sound = await store.write(lambda db: db.execute(f"SELECT {checks}").fetchone())
    assert tuple(sound) == (1, 1, 1)
    counted, rows = (
        await ask(store, "SELECT (SELECT value FROM counters WHERE name = 'fixes'), (SELECT count(*) FROM fixes)")
    )[0]
    assert counted == rows
    assert (await store.facts()).fixes == rows
    for x, y, srid, kind, lon_e7, lat_e7 in await ask(
        store, "SELECT ST_X(geom), ST_Y(geom), ST_SRID(geom), ST_GeometryType(geom), lon_e7, lat_e7 FROM fixes"
        " WHERE geom IS NOT NULL",
    ):  # fmt: skip
        assert (round(x * 1e7), round(y * 1e7), srid, kind) == (lon_e7, lat_e7, 4326, "POINT")
    assert await ask(store, "PRAGMA foreign_key_check") == []
    assert await ask(store, "PRAGMA quick_check('fixes')") == [("ok",)]


async def add(store: SpatialiteStore, *fixes: NewFix) -> list[AddedFix]:
    return await store.add_fixes(VIEW, fixes)


async def fixes(store: SpatialiteStore, **query: Any) -> list[Fix]:
    return (await store.fixes(VIEW, FixQuery(ordering="timestamp", limit=1000, **query))).results


async def elephant(store: SpatialiteStore, name: str = "Alpha", **columns: Any) -> str:
    return (await store.create_animal(VIEW, {"name": name, "species": "elephant", **columns})).id


async def deploy(
    store: SpatialiteStore, animal_id: str, collar_id: str = EUI, start: datetime = START, end: datetime | None = None
) -> str:
    columns = {"animal_id": animal_id, "collar_id": collar_id, "started_at": start, "ended_at": end}
    return (await store.create_deployment(VIEW, columns)).id


async def outbox(store: SpatialiteStore) -> list[tuple[str, str]]:
    return [(entity, operation) for entity, operation in await ask(store, "SELECT entity, operation FROM outbox")]


def outcomes(added: list[AddedFix]) -> list[str]:
    return [each.outcome for each in added]
