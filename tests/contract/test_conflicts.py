"""Who sees which conflict, at both homes, and what a station resolves itself; two acts at one instant."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from litestar import Litestar
from msgspec.structs import replace

from cloud.store.store import PostgresStore
from edge.store.store import SpatialiteStore
from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.privacy import View
from shared.store import Store
from shared.sync import clashes
from shared.sync.clashes import Clash
from shared.sync.operations import Operation, RecordMoved
from shared.sync.records import to_ms
from tests.access import TokenAuth, logged_in
from tests.contract.conftest import client_of
from tests.fakes import START

pytestmark = [pytest.mark.api, pytest.mark.sync]

NOW_MS = to_ms(START)


def clash(identity: str, **more: Any) -> Clash:
    told = {"author": "r1", "origin": "post-1", **more}
    return Clash(
        id=identity, kind="same_column", entity="animal", row_id="a1", ours='{"notes": "x"}', theirs='{"notes": "y"}',
        made_ms=NOW_MS, noted_ms=NOW_MS, needs_person=False, **told,
    )  # fmt: skip


async def ids_for(app: Litestar, accounts: Accounts, user: User) -> list[str] | int:
    access, _ = await logged_in(accounts, user)
    async with client_of(app, TokenAuth(lambda: access)) as client:
        answer = await client.get("/api/v1/conflicts/")
    return sorted(each["id"] for each in answer.json()["results"]) if answer.status_code == 200 else answer.status_code


async def test_a_ranger_sees_his_own_conflicts_a_manager_all_and_a_viewer_none(
    app: Litestar, accounts: Accounts, ranger_user: User, manager_user: User, viewer_user: User
) -> None:
    await accounts.tables.write(clashes.note([clash("his", author=ranger_user.id), clash("other", author="r2")]))
    assert await ids_for(app, accounts, ranger_user) == ["his"]
    assert await ids_for(app, accounts, manager_user) == ["his", "other"]
    assert await ids_for(app, accounts, viewer_user) == 403


async def test_what_the_cloud_found_is_shown_and_not_resolved_below(
    client: httpx.AsyncClient, accounts: Accounts
) -> None:
    await accounts.tables.write(clashes.take([clash("c1")]))
    (found,) = (await client.get("/api/v1/conflicts/")).json()["results"]
    assert found["can_resolve"] is False
    answer = await client.post("/api/v1/conflicts/c1/resolve/", json={"resolution": "keep_client"})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    done = replace(clash("c1"), status="resolved", resolution="keep_server", resolved_by="m1", resolved_ms=NOW_MS)
    await accounts.tables.write(clashes.take([done]))
    (found,) = (await client.get("/api/v1/conflicts/", params={"status": "resolved"})).json()["results"]
    assert (found["resolution"], found["resolved_by"]) == ("keep_server", "m1")


async def test_an_edit_that_a_phone_lost_at_this_home_is_kept_and_resolved_here(
    client: httpx.AsyncClient, store: Store, view: View
) -> None:
    if not isinstance(store, SpatialiteStore | PostgresStore):
        pytest.skip("the double keeps no losers")
    animal = await store.create_animal(view, {"name": "Alpha", "species": "elephant"})
    await store.update_animal(view, animal.id, {"notes": "manager's"})
    await store.edit(
        Operation(
            id="late", entity="animal", row_id=animal.id, kind="update", columns={"notes": "phone's"}, origin="phone-1",
            base_rev=1, made_ms=NOW_MS, author="r1",
        )
    )  # fmt: skip
    (found,) = (await client.get("/api/v1/conflicts/")).json()["results"]
    assert (found["server"], found["client"]) == ({"notes": "manager's"}, {"notes": "phone's"})
    answer = await client.post(f"/api/v1/conflicts/{found['id']}/resolve/", json={"resolution": "keep_client"})
    assert answer.status_code == 200, answer.text
    assert (await store.animal(view, animal.id)).notes == "phone's"


async def test_two_acts_on_an_alert_at_one_instant_both_count(
    client: httpx.AsyncClient, store: Store, view: View
) -> None:
    told = {"alert_type": "high_risk_zone", "title": "near a field"}
    alert = await store.create_alert(view, told)
    path = f"/api/v1/alerts/{alert.id}"
    answers = await asyncio.gather(
        *(client.post(f"{path}/acknowledge/", json={"notes": f"note {number}"}) for number in range(5)),
        client.post(f"{path}/resolve/", json={"resolution_notes": "gone"}),
    )
    assert {each.status_code for each in answers} <= {200, 409}
    after = await store.alert(view, alert.id)
    said = (after.note or "").splitlines()
    taken = [number for number, each in enumerate(answers[:-1]) if each.status_code == 200]
    assert {f"note {number}" for number in taken} <= {line.strip() for line in said}
    assert (answers[-1].status_code, after.status, "gone" in (after.note or "")) == (200, "resolved", True)
    with pytest.raises(RecordMoved):
        await store.update_alert(view, alert.id, {"note": "late"}, if_rev=1)
