"""Operations of the Store's contract a second, on both homes: the same calls, one after the other, each durable."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from cloud.demo.cluster import PrivateCluster
from cloud.store.database import Database
from cloud.store.migrate import migrate
from cloud.store.store import PostgresStore
from edge.store.store import SpatialiteStore
from shared.domain import NewFix
from shared.privacy import OPERATOR, view_for
from shared.store import AnimalQuery, FixQuery, Store
from tests.benchmarks import herd

VIEW: Final = view_for(OPERATOR)
KEY: Final = bytes(range(32))


class Rate(msgspec.Struct, frozen=True):
    """Calls of one operation a second, at the station and in the cloud."""

    operation: str
    station_per_s: float
    cloud_per_s: float


def rates(seconds: float, stored: int) -> list[Rate]:
    """Measure every operation for ``seconds`` on each home, with so many fixes stored."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        station = asyncio.run(_measure(lambda: _station(Path(folder)), seconds, stored))
        with PrivateCluster(Path(folder) / "postgres") as cluster:
            cluster.create_database("cloud")
            migrate(cluster.url("cloud"))
            cloud = asyncio.run(_measure(lambda: _cloud(cluster.url("cloud")), seconds, stored))
    return [Rate(name, station[name], cloud[name]) for name in station]


@asynccontextmanager
async def _station(folder: Path) -> AsyncIterator[Store]:
    store = SpatialiteStore(folder / "station.db", KEY, now=lambda: datetime.now(UTC))
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def _cloud(url: str) -> AsyncIterator[Store]:
    async with Database.open(url) as database:
        yield PostgresStore(database, now=lambda: datetime.now(UTC))


async def _measure(
    open_store: Callable[[], AbstractAsyncContextManager[Store]], seconds: float, stored: int
) -> dict[str, float]:
    async with open_store() as store:
        animals = [
            await store.create_animal(VIEW, {"name": f"Animal {n}", "species": herd.SPECIES})
            for n in range(herd.COLLARS)
        ]
        for n, animal in enumerate(animals):
            await store.create_deployment(
                VIEW,
                {"animal_id": animal.id, "collar_id": herd.device_of(n), "started_at": herd.START - timedelta(days=1)},
            )
        for first in range(0, stored, 1_000):
            await store.add_fixes(VIEW, [_fix(number) for number in range(first, first + 1_000)])
        numbers = iter(range(stored, 10_000_000))
        ages = iter(range(10_000_000))
        animal_id = animals[0].id
        fix_id = (await store.fixes(VIEW, FixQuery(limit=1))).results[0].id
        operations: dict[str, Callable[[], Awaitable[object]]] = {
            "create_animal": lambda: store.create_animal(VIEW, {"name": "New", "species": herd.SPECIES}),
            "update_animal": lambda: store.update_animal(VIEW, animal_id, {"age": float(next(ages))}),
            "create_observation": lambda: store.create_observation(VIEW, {"description": "seen at the river"}),
            "add_fixes, 1": lambda: store.add_fixes(VIEW, [_fix(next(numbers))]),
            "add_fixes, 100": lambda: store.add_fixes(VIEW, [_fix(next(numbers)) for _ in range(100)]),
            "animal": lambda: store.animal(VIEW, animal_id),
            "animals, a page of 20": lambda: store.animals(VIEW, AnimalQuery()),
            "fix": lambda: store.fix(VIEW, fix_id),
            "fixes of an animal, a page of 20": lambda: store.fixes(VIEW, FixQuery(animal_id=animal_id)),
            "fixes of all, a page of 20": lambda: store.fixes(VIEW, FixQuery()),
            "live_animals, 200": lambda: store.live_animals(VIEW),
        }
        return {name: await _per_s(call, seconds) for name, call in operations.items()}


async def _per_s(call: Callable[[], Awaitable[object]], seconds: float) -> float:
    await call()
    n = 0
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds or n == 0:
        await call()
        n += 1
    return n / passed


def _fix(number: int) -> NewFix:
    lon_e7, lat_e7 = herd.position_e7(number)
    at = herd.recorded_at(number)
    return NewFix(
        device=herd.device_of(number % herd.COLLARS), recorded_at=at, received_at=at, lon_deg=lon_e7 / 1e7,
        lat_deg=lat_e7 / 1e7, h_acc_m=5.0,
    )  # fmt: skip
