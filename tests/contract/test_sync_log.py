"""What synchronisation did and what failed, in the original's shapes, on both homes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from litestar import Litestar

from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.sync import log
from shared.sync.log import Item, Session
from shared.sync.records import to_ms
from tests.access import TokenAuth, logged_in
from tests.contract.conftest import client_of
from tests.fakes import START

pytestmark = [pytest.mark.api, pytest.mark.sync]

NOW_MS = to_ms(START)


def session(identity: str, user_id: str | None, *, at: int = 0, failed: int = 0) -> Session:
    return Session(
        id=identity, user_id=user_id, device_id="phone-1", path="upload", total=10, synced=9 - failed, conflicts=1,
        failed=failed, started_ms=NOW_MS + at * 1000, completed_ms=NOW_MS + at * 1000 + 2_500,
    )  # fmt: skip


def item(identity: str, user_id: str | None, **more: Any) -> Item:
    told = {"data": '{"name": "Alpha"}', "error_message": "species: is required", **more}
    return Item(
        id=identity, sync_id="s1", user_id=user_id, device_id="phone-1", data_type="animal", local_id="l1",
        created_ms=NOW_MS, **told,
    )  # fmt: skip


async def answer(app: Litestar, accounts: Accounts, user: User, path: str, *, post: bool = False) -> httpx.Response:
    access, _ = await logged_in(accounts, user)
    async with client_of(app, TokenAuth(lambda: access)) as client:
        return await client.request("POST" if post else "GET", f"/api/v1/sync/{path}/")


async def test_sessions_come_newest_first_with_their_sums(client: httpx.AsyncClient, accounts: Accounts) -> None:
    for number in range(12):
        await accounts.tables.write(log.note(session(f"s{number}", None, at=number, failed=int(number == 3))))
    await accounts.tables.write(log.note(session("s3", None, failed=9)))  # a replay is the same session
    recent = (await client.get("/api/v1/sync/logs/recent/")).json()
    assert [each["id"] for each in recent] == [f"s{number}" for number in range(11, 1, -1)]
    assert recent[0] == {
        "id": "s11", "device_id": "phone-1", "total_items": 10, "synced_items": 9, "conflict_items": 1,
        "failed_items": 0, "started_at": "2026-07-01T12:00:11Z", "completed_at": "2026-07-01T12:00:13.500000Z",
        "duration_seconds": 2.5,
    } | {name: recent[0][name] for name in ("started_at", "completed_at")}  # fmt: skip
    listed = (await client.get("/api/v1/sync/logs/", params={"page_size": 5})).json()
    assert (listed["count"], len(listed["results"])) == (12, 5)
    assert (await client.get("/api/v1/sync/logs/stats/")).json() == {
        "total_syncs": 12, "successful_syncs": 11, "failed_syncs": 1, "success_rate": 91.7, "total_items": 120,
        "synced_items": 107, "conflict_items": 12, "failed_items": 1, "sync_efficiency": 89.2,
    }  # fmt: skip


async def test_without_a_session_every_rate_is_nought(client: httpx.AsyncClient) -> None:
    told = (await client.get("/api/v1/sync/logs/stats/")).json()
    assert set(told.values()) == {0}


async def test_a_ranger_sees_his_own_and_a_manager_all(
    app: Litestar, accounts: Accounts, ranger_user: User, manager_user: User, viewer_user: User
) -> None:
    for whose in (ranger_user.id, manager_user.id, None):
        await accounts.tables.write(log.note(session(f"of {whose}", whose), [item(f"item {whose}", whose)]))
    for path in ("logs", "queue/failed"):
        own = (await answer(app, accounts, ranger_user, path)).json()
        assert [each["id"].split()[-1] for each in own["results"]] == [ranger_user.id]
        assert (await answer(app, accounts, manager_user, path)).json()["count"] == 3
        assert (await answer(app, accounts, viewer_user, path)).status_code == 403
    foreign = await answer(app, accounts, ranger_user, f"queue/item {manager_user.id}/retry_item", post=True)
    assert foreign.status_code == 404


async def test_a_failed_item_tells_what_it_was_and_why(client: httpx.AsyncClient, accounts: Accounts) -> None:
    await accounts.tables.write(log.keep([item("i1", None, conflict_data='{"kept": 1}', offline_since_ms=NOW_MS)]))
    (told,) = (await client.get("/api/v1/sync/queue/failed/")).json()["results"]
    instants = {name: told.pop(name) for name in ("offline_since", "created_at")}
    assert instants["created_at"] == instants["offline_since"]
    assert told == {
        "id": "i1", "device_id": "phone-1", "data_type": "animal", "local_id": "l1", "server_id": None,
        "data": {"name": "Alpha"}, "status": "failed", "conflict_data": {"kept": 1},
        "error_message": "species: is required", "attempts": 1, "synced_at": None,
    }  # fmt: skip


async def test_what_only_its_device_can_send_again_is_said_so(client: httpx.AsyncClient, accounts: Accounts) -> None:
    await accounts.tables.write(log.keep([item("i1", None), item("i2", None, status="conflict")]))
    assert (await client.post("/api/v1/sync/queue/i1/retry_item/")).status_code == 409
    not_failed = await client.post("/api/v1/sync/queue/i2/retry_item/")
    assert (not_failed.status_code, not_failed.json()["code"]) == (400, "invalid")
    assert (await client.post("/api/v1/sync/queue/none/retry_item/")).status_code == 404
    told = (await client.post("/api/v1/sync/queue/retry_failed/")).json()
    assert told == {"message": "0 items were tried again; 1 only their device can send again", "retry_count": 0}


async def test_nothing_waits_in_an_empty_home(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/v1/sync/queue/pending/")).json()["results"] == []


async def test_what_was_settled_long_ago_is_forgotten_and_what_failed_is_not(accounts: Accounts) -> None:
    await accounts.tables.write(
        log.note(session("s1", None), [item("failed", None), item("done", None, status="completed")])
    )
    await accounts.tables.write(log.forget(NOW_MS + 10_000))
    assert await accounts.tables.read(log.sessions(log.EVERYBODY, 0, 10)) == (0, [])
    counts = [
        (await accounts.tables.read(log.items(log.EVERYBODY, status, 0, 10)))[0] for status in ("failed", "completed")
    ]
    assert counts == [1, 0]
