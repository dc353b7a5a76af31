"""A worker that is killed while it sends: whatever the receiver has got by then, in the end it has each fix once."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from cloud.jobs.sending import Destinations
from cloud.store.database import Database
from cloud.store.store import PostgresStore
from shared.domain import NewFix
from shared.exchange.sites import MOST
from shared.privacy import OPERATOR, view_for
from tests.access import accounts_over
from tests.clouds import ask
from tests.fakes import START, FakeClock
from tests.faults.sending_process import start
from tests.faults.station_process import until
from tests.receivers import TOKEN, receivers
from tests.workers import now

pytestmark = [pytest.mark.faults, pytest.mark.slow]

N = 5 * MOST + 7


@pytest.mark.parametrize("is_stored", [True, False], ids=["after the receiver stored", "before"])
async def test_a_worker_killed_between_a_batch_and_its_answer_costs_nothing_and_doubles_nothing(
    database_url: str, tmp_path: Path, is_stored: bool
) -> None:
    reached, leave = threading.Event(), threading.Event()

    def script(n: int) -> str:
        if n == 2:  # the third batch is held until the worker is dead
            reached.set()
            leave.wait(30)
            return "ok" if is_stored else "cut"
        return "ok"

    async with Database.open(database_url) as database:
        store = PostgresStore(database, now=now)
        view = view_for(OPERATOR)
        animal = await store.create_animal(view, {"name": "Ayo", "species": "Loxodonta africana"})
        began = START - timedelta(days=1)
        await store.create_deployment(
            view, {"animal_id": animal.id, "collar_id": "K1", "started_at": began, "ended_at": None}
        )
        times = [START + timedelta(minutes=6 * k) for k in range(N)]
        await store.add_fixes(
            view,
            [
                NewFix(device="collar:K1", recorded_at=at, received_at=at, lon_deg=37.5 + k * 1e-5, lat_deg=-2.5)
                for k, at in enumerate(times)
            ],
        )
        with receivers() as serve:
            double = serve("gundi", script=script)
            known = Destinations(database, accounts_over(store, FakeClock()), now=now)
            made = await known.add(
                {
                    "name": "Gundi", "kind": "gundi", "url": double.url, "token": TOKEN, "provider": "",
                    "species": None, "animals": None, "precision": "exact", "is_enabled": True, "interval_s": 60,
                },
                "operator",
            )  # fmt: skip
            log = tmp_path / "worker.log"
            first = start(database_url, log)
            second = None
            try:
                assert await asyncio.to_thread(reached.wait, 30), log.read_text()
                first.kill()
                first.wait(10)
                leave.set()
                second = start(database_url, log)
                await asyncio.to_thread(
                    until, lambda: ask(database_url, "SELECT state FROM jobs") == [("succeeded",)], "its end", 30
                )
            finally:
                leave.set()
                for process in (first, second):
                    if process is not None:
                        process.kill()
                        process.wait(10)
            there = await known.get(made.id)
            bodies = Counter(double.bodies)
    assert len(double.kept) == N  # Gundi knows a repeat by its bytes alone
    assert sorted(bodies.values()) == [1, 1, 1, 1, 1, 2]
    assert (there.sent, there.waiting, there.held, there.refused) == (N, 0, 0, 0)
