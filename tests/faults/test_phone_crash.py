"""kill -9 of a home while the real WatermelonDB client pushes: what was committed is there once, the rest comes again.

A round ends the home in one of three ways: as soon as its database shows the row (between commit and answer, or just
after), at some instant of the push, and after an answer that the phone never got.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from edge.store.driver import connect
from tests.faults.cloud_process import CloudProcess
from tests.faults.station_process import StationProcess, until
from tests.phones import Phone

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.sync]

IS_NIGHTLY = os.environ.get("OUTPOST_NIGHTLY") == "1"
ROUNDS = 60 if IS_NIGHTLY else 3
WAYS = ("committed", "some time", "answer lost")
#: Rows of one push.
ROWS = 20
#: A push that has not been committed by then has failed.
WITHIN_S = 30.0

Count = Callable[[], int]


class Home(Protocol):
    """A home's program that can be killed."""

    url: str

    @property
    def auth(self) -> httpx.Auth:
        """What makes a client its operator."""

    def start(self) -> None:
        """Start the program."""

    def kill(self) -> None:
        """End it with SIGKILL."""


def _has(count: Count, wanted: int) -> bool:
    return count() >= wanted


def _token(home: Home) -> str:
    request = next(home.auth.auth_flow(httpx.Request("GET", home.url)))
    return request.headers["Authorization"].removeprefix("Bearer ")


async def _play(home: Home, wait_ready: Callable[[], object], count: Count) -> None:
    rng = random.Random(7)
    lost = made = 0
    async with Phone.running(home.url, _token(home), "one") as phone:
        await phone.sync()
        for n in range(ROUNDS):
            way = WAYS[n % len(WAYS)]
            rows = [_seen(f"{n} {k}") for k in range(ROWS)]
            await phone.do("createMany", table="observations", rows=rows)
            made += ROWS
            await phone.do("roam", url=home.url, token=_token(home))
            if way == "answer lost":
                await phone.do("faults", list=[{"path": "push", "fault": "lost"}])
            push = asyncio.create_task(phone.do("sync"))
            if way == "committed":
                await asyncio.to_thread(until, functools.partial(_has, count, made), "the commit", WITHIN_S)
            elif way == "some time":
                await asyncio.sleep(rng.uniform(0, 0.15))
            else:
                await push
            home.kill()
            told = await push
            home.start()
            await asyncio.to_thread(wait_ready)
            if "error" in told and count() == made:
                lost += 1  # committed, and the phone does not know
            await phone.do("roam", url=home.url, token=_token(home))
            await phone.sync()
            assert count() == made, (n, way)
        assert lost >= ROUNDS // len(WAYS)
        await phone.is_right()
        assert sorted(row["description"] for row in (await phone.rows("observations")).values()) == sorted(
            f"{n} {k}" for n in range(ROUNDS) for k in range(ROWS)
        )


def _seen(words: str) -> dict[str, Any]:
    return {
        "animal_id": "", "observation_type": "sighting", "description": words, "timestamp": 1_780_000_000_000,
    }  # fmt: skip


@pytest.mark.timeout(3600 if IS_NIGHTLY else 1800)
async def test_a_station_that_is_killed_while_a_phone_pushes_has_every_row_once(tmp_path: Path) -> None:
    station = StationProcess(tmp_path / "station")
    station.start()
    station.wait_ready()

    def count() -> int:
        with closing(connect(station.data_dir / "station.db", station.key, is_readonly=True)) as db:
            return int(db.execute("SELECT count(*) FROM observations").fetchone()[0])

    try:
        await _play(station, station.wait_ready, count)
    finally:
        station.close()


@pytest.mark.timeout(3600 if IS_NIGHTLY else 1800)
async def test_a_cloud_that_is_killed_while_a_phone_pushes_has_every_row_once(tmp_path: Path) -> None:
    cloud = CloudProcess(tmp_path / "cloud")
    try:
        cloud.create()
        cloud.start()
        await _play(cloud, lambda: None, lambda: int(cloud.rows("SELECT count(*) FROM observations")[0][0]))
    finally:
        cloud.close()
