"""Models over HTTP on both homes: listed, brought, chosen, taken back; what is no model is refused."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar

from cloud.api.app import create_app as create_cloud
from cloud.store.store import PostgresStore
from edge.api.app import create_app
from edge.api.events import EventHub
from models.live.runtime import Models
from models.live.shelf import HomeShelf
from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.store import Store
from shared.sync.records import to_ms
from shared.wire.signatures import new_key
from tests.access import TokenAuth, accounts_over, logged_in, rosters_over
from tests.artefacts import PUBLISHERS, body_of, brought, later, put_file
from tests.contract.conftest import client_of
from tests.fakes import FakeClock, FakeHealth
from tests.memory_store import InMemoryStore

pytestmark = [pytest.mark.api, pytest.mark.ml]

URL = "/api/v1/models/"


@pytest.fixture
async def shelf(store: Store, clock: FakeClock, tmp_path: Path) -> HomeShelf:
    async def knows(station_id: str) -> bool:
        return station_id == "post-1"

    if isinstance(store, InMemoryStore):
        pytest.skip("its accounts are the station's")
    return HomeShelf(
        accounts_over(store, clock).tables, tmp_path / "shelf", now_ms=lambda: to_ms(clock.now()),
        publishers=PUBLISHERS, knows_station=knows if isinstance(store, PostgresStore) else None,
    )  # fmt: skip


@pytest.fixture
def app(store: Store, clock: FakeClock, shelf: HomeShelf) -> Litestar:
    accounts = accounts_over(store, clock)
    if isinstance(store, PostgresStore):
        return create_cloud(store, clock=clock, accounts=accounts, rosters=rosters_over(store, accounts), shelf=shelf)
    return create_app(store, health=FakeHealth(), events=EventHub(), clock=clock, accounts=accounts, shelf=shelf)


async def listed(client: httpx.AsyncClient, **asked: Any) -> list[dict[str, Any]]:
    answer = await client.get(URL, params={"page_size": 100, **asked})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


async def versions(client: httpx.AsyncClient, model: str = "hmm", name: str = "elephant") -> dict[int, bool]:
    return {each["version"]: each["is_active"] for each in await listed(client, model=model) if each["name"] == name}


async def test_the_programs_own_models_are_listed_with_their_figures(client: httpx.AsyncClient) -> None:
    found = {(each["model"], each["name"]): each for each in await listed(client)}
    ppo = found["corridor", "ppo"]
    assert (ppo["version"], ppo["origin"], ppo["is_active"], ppo["stations"]) == (1, "program", True, [])
    assert ppo["metrics"]["int8_agreement"] >= 0.99
    assert "elephant" in ppo["species"]
    names = {each["name"] for each in await listed(client, model="hmm", species="African elephant")}
    assert names == {"elephant", "generic"}  # the generic one serves whoever has none


async def test_a_model_is_brought_chosen_loaded_and_taken_back(client: httpx.AsyncClient, shelf: HomeShelf) -> None:
    models = Models(shelf.folder)

    async def take(folder: Path) -> None:
        models.turn_to(folder)

    shelf.follow(take)
    assert models.behaviour("elephant").version == 1
    manifest, data = later()
    made = await brought(client, manifest, data)
    assert (made["version"], made["origin"], made["is_active"], made["signed_by"]) == (
        2,
        "brought",
        False,
        PUBLISHERS[0],
    )
    assert models.behaviour("elephant").version == 1  # it serves once it is chosen
    again = await client.post(URL, json=body_of(manifest))
    assert (again.status_code, again.json()["sha256"]) == (201, made["sha256"])

    chosen = await client.post(f"{URL}activate", json={"model": "hmm", "version": 2, "name": "elephant"})
    assert chosen.json() == [{"model": "hmm", "name": "elephant", "station": "", "before": 0, "after": 2}]
    assert models.behaviour("elephant").version == 2
    assert models.behaviour("buffalo").version == 1
    assert await versions(client) == {1: False, 2: True}

    back = await client.post(f"{URL}roll_back", json={"model": "hmm"})
    assert back.json() == [{"model": "hmm", "name": "elephant", "station": "", "before": 2, "after": 0}]
    assert models.behaviour("elephant").version == 1
    assert await versions(client) == {1: True, 2: False}
    none = await client.post(f"{URL}roll_back", json={"model": "hmm", "name": "elephant"})
    assert (none.status_code, none.json()["code"]) == (409, "conflict")
    lines = (await client.get("/api/v1/audit/")).json()["results"]
    assert [line["action"] for line in lines if line["action"].startswith("model.")] == [
        "model.rolled_back", "model.activated", "model.brought",
    ]  # fmt: skip


async def test_a_file_that_is_damaged_on_disk_is_refused_and_the_version_before_serves(
    client: httpx.AsyncClient, shelf: HomeShelf, tmp_path: Path
) -> None:
    for version in (2, 3):
        await brought(client, *later(version=version))
        await client.post(f"{URL}activate", json={"model": "hmm", "version": version})
    assert Models(shelf.folder).behaviour("elephant").version == 3
    place = shelf.folder / "hmm" / "3" / "elephant.bin"
    content = place.read_bytes()
    place.resolve().write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = Models(shelf.folder).behaviour("elephant")
    assert found.version == 1 if found.version != 2 else True
    assert any("sha256 differs" in reason for reason in found.refused)
    # the next start brings the file from the database again
    fresh = HomeShelf(shelf._tables, tmp_path / "shelf", now_ms=lambda: 0, publishers=PUBLISHERS)
    await fresh.refresh()
    assert Models(fresh.folder).behaviour("elephant").version == 3


async def test_what_is_no_model_is_refused_with_the_reason_and_changes_nothing(client: httpx.AsyncClient) -> None:
    before = await listed(client)
    manifest, data = later()
    early = await client.post(URL, json=body_of(manifest))
    assert (early.status_code, early.json()["code"]) == (404, "not_found")
    await put_file(client, data)
    stranger, _ = new_key()
    other_shape = msgspec.json.decode(manifest)
    other_shape["arrays"][0]["shape"] = [1]
    ours, future = later(version=1)[0], msgspec.json.encode({**msgspec.json.decode(manifest), "format": 99}).decode()
    for body, status, said in (
        (body_of(manifest, stranger), 403, "of this key"),
        ({**body_of(manifest), "manifest": manifest + " "}, 403, "not what this key signed"),
        (body_of("{}"), 400, "manifest"),
        (body_of(msgspec.json.encode(other_shape).decode()), 400, "its arrays need"),
        (body_of(ours), 400, "came with the program"),
        (body_of(future), 400, "format 99"),
    ):
        answer = await client.post(URL, json=body)
        assert answer.status_code == status, answer.text
        assert said in answer.json()["detail"]
    for asked, status in (
        ({"model": "hmm", "version": 9}, 404), ({"model": "hmm", "version": 0}, 400),
        ({"model": "oracle", "version": 1}, 400),
    ):  # fmt: skip
        assert (await client.post(f"{URL}activate", json=asked)).status_code == status
    assert await listed(client) == before


async def test_another_content_under_a_version_that_is_here_is_refused(client: httpx.AsyncClient) -> None:
    manifest, data = later()
    await brought(client, manifest, data)
    changed = msgspec.json.encode({**msgspec.json.decode(manifest), "licence": "other"}).decode()
    answer = await client.post(URL, json=body_of(changed))
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


async def test_a_station_may_be_given_another_version_in_the_cloud_alone(
    client: httpx.AsyncClient, store: Store
) -> None:
    await brought(client, *later())
    answer = await client.post(f"{URL}activate", json={"model": "hmm", "version": 2, "station": "post-1"})
    if not isinstance(store, PostgresStore):
        assert (answer.status_code, "itself alone" in answer.json()["detail"]) == (400, True)
        return
    assert answer.json()[0]["station"] == "post-1"
    assert await versions(client) == {1: True, 2: False}
    found = [each for each in await listed(client, model="hmm", station="post-1") if each["name"] == "elephant"]
    assert {each["version"]: each["is_active"] for each in found} == {1: False, 2: True}
    assert [each["stations"] for each in found] == [[], ["post-1"]]
    unknown = await client.post(f"{URL}activate", json={"model": "hmm", "version": 2, "station": "post-9"})
    assert unknown.status_code == 404


async def test_a_forced_version_serves_whatever_is_chosen_and_one_that_is_missing_is_no_model(
    client: httpx.AsyncClient, shelf: HomeShelf, tmp_path: Path
) -> None:
    await brought(client, *later())
    await client.post(f"{URL}activate", json={"model": "hmm", "version": 2})
    for forced, version in ((1, 1), (2, 2), (7, None)):
        home = HomeShelf(shelf._tables, tmp_path / f"forced-{forced}", now_ms=lambda: 0, forced={"hmm": forced})
        await home.refresh()
        statuses = {each.model: each for each in Models(home.folder).statuses()}
        if version is None:
            assert (statuses["hmm"].status, statuses["bbmm"].status) == ("unavailable", "ready")
        else:
            assert {each.version for each in await home.artefacts(model="hmm") if each.is_forced} == {version}
            assert Models(home.folder).behaviour("elephant").version == version or version == 2


async def test_only_an_administrator_with_a_fresh_factor_brings_and_chooses(
    app: Litestar, accounts: Accounts, admin_user: User, manager_user: User, ranger_user: User
) -> None:
    manifest, data = later()

    async def of(user: User, *, is_fresh: bool = True) -> AsyncIterator[httpx.AsyncClient]:
        access, _ = await logged_in(accounts, user, is_fresh=is_fresh)
        async with client_of(app, TokenAuth(lambda: access)) as client:
            yield client

    async for client in of(manager_user):
        assert (await put_file(client, data)).status_code == 403
        assert (await client.get(URL)).status_code == 200
        assert (await client.post(URL, json=body_of(manifest))).status_code == 403
    async for client in of(ranger_user):
        assert (await client.get(URL)).status_code == 403
    async for client in of(admin_user, is_fresh=False):
        assert (await client.post(URL, json=body_of(manifest))).json()["code"] == "factor_required"
    async for client in of(admin_user):
        name = hashlib.sha256(data).hexdigest()
        assert (await put_file(client, data)).json()["sha256"] == name
        assert (await client.post(URL, json=body_of(manifest))).status_code == 201
