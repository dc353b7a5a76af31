"""Hints to phones that something changed, on both homes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.privacy import View
from shared.store import Store
from tests.access import logged_in
from tests.fakes import START

pytestmark = [pytest.mark.api, pytest.mark.sync, pytest.mark.usefixtures("only_homes")]

WITHIN_S = 30.0
SIGHTING = {"observation_type": "sighting", "recorded_at": START, "description": "calf"}

Next = Callable[[], Any]


@asynccontextmanager
async def listening(url: str, token: str, last_id: str = "") -> AsyncIterator[Next]:
    """Give a function that waits for the next hint: its id and its timestamp."""
    headers = {"Authorization": f"Bearer {token}", **({"Last-Event-ID": last_id} if last_id else {})}
    async with (
        httpx.AsyncClient(base_url=url, timeout=WITHIN_S) as client,
        client.stream("GET", "/api/v1/events", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        lines = answer.aiter_lines()
        while not (await anext(lines)).startswith(": listening"):
            pass

        async def hint() -> tuple[str, int]:
            fields: dict[str, str] = {}
            async with asyncio.timeout(WITHIN_S):
                async for line in lines:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                    if not line:
                        if fields.get("event") == "sync":
                            return fields["id"], int(fields["data"].removeprefix('{"timestamp":').rstrip("}"))
                        fields = {}
            raise AssertionError("the stream has ended")

        yield hint


async def _timestamp(url: str, token: str) -> int:
    async with httpx.AsyncClient(base_url=url) as client:
        answer = await client.get("/api/v1/sync/pull", headers={"Authorization": f"Bearer {token}"})
    return int(answer.json()["timestamp"])


async def test_a_phone_that_listens_is_told_of_changes_and_a_returning_one_of_what_it_missed(
    url: str, accounts: Accounts, ranger_user: User, store: Store, view: View
) -> None:
    token, _ = await logged_in(accounts, ranger_user)
    async with listening(url, token) as hint:
        for n in range(20):
            await store.create_observation(view, {**SIGHTING, "description": f"calf {n}"})
        here = await _timestamp(url, token)
        told = [await hint()]
        while told[-1][1] != here:
            told.append(await hint())
        assert len(told) <= 10  # many changes, few hints
        assert here == await store.phone_timestamp(view)
    await store.create_observation(view, {**SIGHTING, "description": "while nobody listened"})
    async with listening(url, token, last_id=told[-1][0]) as hint:
        assert (await hint())[1] == await store.phone_timestamp(view)


async def test_a_viewer_is_not_told_when_something_changes(
    url: str, accounts: Accounts, viewer_user: User, ranger_user: User, store: Store, view: View
) -> None:
    viewer, ranger = [(await logged_in(accounts, user))[0] for user in (viewer_user, ranger_user)]
    async with listening(url, viewer) as closed, listening(url, ranger) as hint:
        silent = asyncio.create_task(closed())
        await store.create_observation(view, SIGHTING)
        await hint()
        await asyncio.sleep(0)
        assert not silent.done()
        silent.cancel()
