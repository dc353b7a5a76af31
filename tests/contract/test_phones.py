"""The real WatermelonDB client against both homes; each test ends with the client's own diagnosis."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar

from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.domain import NewFix
from shared.privacy import View
from shared.store import AnimalQuery, FixQuery, ObservationQuery, Store
from shared.sync.records import to_ms
from tests.access import logged_in, person
from tests.fakes import START, FakeClock
from tests.phones import Phone, PhoneFailed

pytestmark = [pytest.mark.api, pytest.mark.sync, pytest.mark.usefixtures("only_homes")]

NOW_MS = to_ms(START)
ANIMAL = {
    "name": "Alpha", "species": "Elephant", "collar_id": "K1", "status": "active", "health_status": "healthy",
    "gender": "male",
}  # fmt: skip
SIGHTING = {"animal_id": "", "observation_type": "sighting", "description": "at the river", "timestamp": NOW_MS}

Phones = Callable[..., AbstractAsyncContextManager[Phone]]


@pytest.fixture
async def phones(url: str, accounts: Accounts, manager_user: User) -> Phones:
    """Give a function that makes a phone, of a manager unless told otherwise."""
    tokens = {manager_user.id: (await logged_in(accounts, manager_user))[0]}

    def make(device: str, token: str = "", **opening: Any) -> AbstractAsyncContextManager[Phone]:
        return Phone.running(url, token or tokens[manager_user.id], device, **opening)

    return make


async def test_what_is_entered_changed_and_deleted_on_a_phone_is_so_at_home(
    phones: Phones, store: Store, view: View
) -> None:
    async with phones("one") as phone:
        await phone.sync()
        animal = await phone.do("create", table="animals", row=ANIMAL)
        seen = await phone.do("create", table="observations", row={**SIGHTING, "animal_id": animal})
        walk = await phone.do("create", table="patrols", row={"started_at": NOW_MS, "note": "fence"})
        here = {"animal_id": animal, "collar_id": "", "timestamp": NOW_MS, "lat": -2.5, "lon": 37.5, "source": "gps"}
        await phone.do("create", table="tracking", row=here)
        await phone.sync()
        (stored,) = (await store.animals(view, AnimalQuery())).results
        assert (stored.id, stored.name, stored.collar_id) == (animal, "Alpha", "K1")
        assert (await store.observation(view, seen)).description == "at the river"
        assert (await store.patrol(view, walk)).note == "fence"
        (fix,) = (await store.fixes(view, FixQuery())).results
        assert (fix.animal_id, fix.lat_deg, fix.lon_deg) == (animal, -2.5, 37.5)
        await phone.sync()
        assert list(await phone.rows("tracking")) == [fix.id]

        await phone.do("update", table="animals", id=animal, changes={"name": "Beta", "collar_id": "K2"})
        await phone.do("delete", table="observations", id=seen)
        await phone.do("delete", table="tracking", id=fix.id)
        await phone.sync()
        changed = await store.animal(view, animal)
        assert (changed.name, changed.collar_id, changed.species) == ("Beta", "K2", "Elephant")
        assert (await store.observations(view, ObservationQuery())).count == 0
        assert (await store.fixes(view, FixQuery(is_usable=True))).count == 0
        assert (await store.fixes(view, FixQuery())).count == 1
        await phone.is_right()
        assert await phone.do("count", table="tracking") == 0


async def test_a_first_sync_brings_everything_page_by_page(phones: Phones, store: Store, view: View) -> None:
    animal = await store.create_animal(view, {"name": "Alpha", "species": "Elephant", "collar_id": "K1"})
    n = 50_000
    for begun in range(0, n, 5_000):
        await store.add_fixes(
            view,
            [
                NewFix(
                    device="K1", recorded_at=START + timedelta(minutes=15 * k), received_at=START,
                    lon_deg=37 + k * 1e-5, lat_deg=-2.0, is_clock_sure=False,
                )
                for k in range(begun, begun + 5_000)
            ],
        )  # fmt: skip
    async with phones("one") as phone:
        await phone.do("pages", rows=7_000)
        told = await phone.sync()
        assert told["pulled"] == n + 1
        assert told["requests"] == 8
        assert await phone.do("count", table="tracking") == n
        assert {row["animal_id"] for row in (await phone.rows("tracking")).values()} == {animal.id}
        await phone.is_right()


async def test_a_lost_acknowledgement_makes_nothing_twice(phones: Phones, store: Store, view: View) -> None:
    async with phones("one") as phone:
        await phone.sync()
        animal = await phone.do("create", table="animals", row=ANIMAL)
        here = {"animal_id": animal, "collar_id": "K1", "timestamp": NOW_MS, "lat": -2.5, "lon": 37.5, "source": "gps"}
        await phone.do("create", table="tracking", row=here)
        await phone.do("create", table="observations", row={**SIGHTING, "animal_id": animal})
        await phone.do("faults", list=[{"path": "push", "fault": "lost"}])
        assert "lost" in (await phone.do("sync"))["error"]
        await phone.do("faults", list=[{"path": "push", "fault": "cut"}, {"path": "pull", "fault": "lost"}])
        for _ in range(2):
            assert "error" in await phone.do("sync")
        await phone.sync()
        assert (await store.animals(view, AnimalQuery())).count == 1
        assert (await store.fixes(view, FixQuery())).count == 1
        assert (await store.observations(view, ObservationQuery())).count == 1
        await phone.is_right()
        assert await phone.do("count", table="tracking") == 1


async def test_edits_of_different_columns_merge_and_of_the_same_column_the_homes_stays(
    phones: Phones, store: Store, view: View
) -> None:
    animal = await store.create_animal(view, {"name": "Alpha", "species": "Elephant"})
    async with phones("one") as one, phones("two") as two:
        await one.sync()
        await two.sync()
        await one.do("update", table="animals", id=animal.id, changes={"name": "One", "notes": "limps"})
        await two.do("update", table="animals", id=animal.id, changes={"name": "Two", "age": 7})
        await one.sync()
        told = await two.sync()
        assert told["clashes"] == [{"table": "animals", "id": animal.id, "columns": ["name"]}]
        for phone in (one, two):
            await phone.is_right()
            row = (await phone.rows("animals"))[animal.id]
            assert (row["name"], row["notes"], row["age"]) == ("One", "limps", 7)


async def test_two_phones_that_enter_one_collar_end_with_one_animal(phones: Phones, store: Store, view: View) -> None:
    async with phones("one") as one, phones("two") as two:
        kept = ""
        for n, phone in enumerate((one, two)):
            await phone.sync()
            animal = await phone.do("create", table="animals", row={**ANIMAL, "name": f"Seen by {n}"})
            kept = kept or animal
            here = {"animal_id": animal, "collar_id": "K1", "lat": -2.5 + n / 1000, "lon": 37.5, "source": "gps"}
            await phone.do("create", table="tracking", row={**here, "timestamp": NOW_MS + n * 3_600_000})
            await phone.do("create", table="observations", row={**SIGHTING, "animal_id": animal})
        await one.sync()
        told = await two.sync()
        assert [message["code"] for message in told["told"]] == ["duplicate_collar"]
        for phone in (one, two):
            await phone.is_right()
            assert list(await phone.rows("animals")) == [kept]
            assert {row["animal_id"] for row in (await phone.rows("tracking")).values()} == {kept}
            assert {row["animal_id"] for row in (await phone.rows("observations")).values()} == {kept}
        assert (await store.animal(view, kept)).name == "Seen by 0"


async def test_what_is_made_synced_and_deleted_stays_deleted(phones: Phones, store: Store, view: View) -> None:
    async with phones("one") as phone:
        await phone.sync()
        seen = await phone.do("create", table="observations", row=SIGHTING)
        await phone.sync()
        await phone.do("delete", table="observations", id=seen)
        await phone.sync()
        assert (await store.observations(view, ObservationQuery())).count == 0
        await phone.is_right()


async def test_an_edit_of_someone_else_comes_before_a_deletion_that_did_not_know_it(
    phones: Phones, store: Store, view: View
) -> None:
    async with phones("one") as phone:
        await phone.sync()
        seen = await phone.do("create", table="observations", row=SIGHTING)
        await phone.sync()
        await phone.do("delete", table="observations", id=seen)
        await store.update_observation(view, seen, {"description": "with a calf"})
        told = await phone.sync()
        assert [message["code"] for message in told["told"]] == ["conflict"]
        await phone.sync()
        assert (await phone.rows("observations"))[seen]["description"] == "with a calf"
        await phone.is_right()


async def test_a_row_that_no_home_can_take_is_told_and_holds_up_nothing(
    phones: Phones, store: Store, view: View
) -> None:
    async with phones("one") as phone:
        await phone.sync()
        bad = await phone.do("create", table="observations", row={**SIGHTING, "timestamp": 0})
        good = await phone.do("create", table="observations", row=SIGHTING)
        told = await phone.sync()
        assert [(message["id"], message["code"]) for message in told["told"]] == [(bad, "invalid")]
        assert await phone.do("unsynced") is False
        await phone.sync()
        assert list(await phone.rows("observations")) == [good]
        await phone.do("update", table="observations", id=good, changes={"observation_type": "gossip"})
        await phone.sync()
        await phone.is_right()
        assert (await phone.rows("observations"))[good]["observation_type"] == "sighting"


async def test_a_photograph_comes_after_its_row_and_goes_on_where_the_connection_ended(
    phones: Phones, client: httpx.AsyncClient, store: Store, view: View
) -> None:
    content = random.Random(3).randbytes(700_000)
    name = hashlib.sha256(content).hexdigest()
    async with phones("one") as phone:
        await phone.sync()
        url = await phone.do("photograph", sha256=name, base64=base64.b64encode(content).decode())
        seen = await phone.do("create", table="observations", row={**SIGHTING, "photo_url": url})
        await phone.sync()
        assert (await store.observation(view, seen)).photo_url == url
        assert (await client.get(url)).status_code == 404
        await phone.do("faults", list=[{"path": name, "fault": "lost"}])  # the home has the first part
        assert "lost" in (await phone.do("sendPhotos"))["error"]
        assert (await client.head(url)).headers["Upload-Offset"] == str(256 << 10)
        told = await phone.do("sendPhotos")
        assert told == {"sent": 1, "wrong": [], "requests": 3}  # how far, and the two parts that were missing
        assert (await phone.do("sendPhotos"))["sent"] == 0
        assert (await client.get(url)).content == content
        await phone.is_right()


async def test_rows_of_several_users_of_one_phone_are_each_sent_in_the_name_of_who_wrote_them(
    phones: Phones, accounts: Accounts, store: Store, view: View
) -> None:
    ann, ben = await person(accounts, "ranger", name="Ann"), await person(accounts, "ranger", name="Ben")
    tokens = {user.id: (await logged_in(accounts, user))[0] for user in (ann, ben)}
    async with phones("one", token=tokens[ann.id], user=ann.id) as phone:
        await phone.sync()
        old = await phone.do("create", table="observations", row={**SIGHTING, "description": "old"})
        await phone.sync()
        await phone.sync()
        hers = await phone.do("create", table="observations", row={**SIGHTING, "description": "hers"})
        await phone.do("delete", table="observations", id=old)

        await phone.do("roam", token=tokens[ben.id], user=ben.id)
        his = await phone.do("create", table="observations", row={**SIGHTING, "description": "his"})
        with pytest.raises(PhoneFailed, match="in the name of somebody else"):
            await phone.do("update", table="observations", id=hers, changes={"description": "mine"})
        await phone.sync()
        told = {each.id: each.observer for each in (await store.observations(view, ObservationQuery())).results}
        assert told == {old: ann.id, his: ben.id}
        assert await phone.do("unsynced") is True

        # his phone still has a token of hers: it goes in her name while he is logged in
        await phone.do("roam", token=tokens[ben.id], user=ben.id, others={ann.id: tokens[ann.id]})
        await phone.sync()
        told = {each.id: each.observer for each in (await store.observations(view, ObservationQuery())).results}
        assert told == {hers: ann.id, his: ben.id}
        await phone.sync()
        assert await phone.do("unsynced") is False
        await phone.is_right()
        assert {row["author"] for row in (await phone.rows("observations")).values()} == {None}


async def test_an_edit_of_what_someone_else_has_removed_is_kept_for_a_person(
    phones: Phones, client: httpx.AsyncClient, store: Store, view: View
) -> None:
    told = {"observation_type": "sighting", "recorded_at": START, "description": "calf"}
    seen = await store.create_observation(view, told)
    async with phones("one") as phone:
        await phone.sync()
        await phone.do("update", table="observations", id=seen.id, changes={"description": "two calves"})
        await store.delete_observation(view, seen.id)
        await phone.sync()
        found = (await client.get("/api/v1/conflicts/", params={"status": "open"})).json()["results"]
        assert [(each["kind"], each["client"]["description"]) for each in found] == [
            ("edit_after_delete", "two calves")
        ]
        await phone.sync()
        assert await phone.rows("observations") == {}
        await phone.is_right()


async def test_zones_are_read_on_phones_and_drawn_elsewhere(phones: Phones, store: Store, view: View) -> None:
    area = '{"type":"Polygon","coordinates":[[[37.0,-2.0],[38.0,-2.0],[38.0,-3.0],[37.0,-2.0]]]}'
    zone = await store.create_zone(view, {"name": "Fields", "zone_type": "agriculture", "geometry": area})
    async with phones("one") as phone:
        await phone.sync()
        assert (await phone.rows("zones"))[zone.id]["geometry"] == area
        await phone.do("update", table="zones", id=zone.id, changes={"name": "Mine"}, plainly=True)
        told = await phone.sync()
        assert [message["id"] for message in told["told"]] == [zone.id]
        await phone.is_right()
        assert (await phone.rows("zones"))[zone.id]["name"] == "Fields"


async def test_an_alert_is_acknowledged_and_noted_from_a_phone(phones: Phones, store: Store, view: View) -> None:
    alert = await store.create_alert(view, {"alert_type": "low_battery", "title": "Battery", "severity": "low"})
    async with phones("one") as phone:
        await phone.sync()
        await phone.do("update", table="alerts", id=alert.id, changes={"status": "acknowledged", "note": "on my way"})
        await phone.sync()
        stored = await store.alert(view, alert.id)
        assert (stored.status, stored.note) == ("acknowledged", "on my way")
        assert stored.acknowledged_by
        assert stored.acknowledged_at
        await phone.do("update", table="alerts", id=alert.id, changes={"status": "active"})
        told = await phone.sync()
        assert [message["code"] for message in told["told"]] == ["conflict"]
        await phone.is_right()
        assert (await phone.rows("alerts"))[alert.id]["status"] == "acknowledged"


async def test_an_app_that_grows_gets_what_its_new_tables_and_columns_hold(
    client: httpx.AsyncClient, store: Store, view: View
) -> None:
    seen = await store.create_observation(
        view, {"observation_type": "sighting", "recorded_at": START, "description": "calf"}
    )
    patrol = await store.create_patrol(view, {"started_at": START, "note": "fence"})
    await store.create_animal(view, {"name": "Alpha", "species": "Elephant"})
    pulled = (await client.get("/api/v1/sync/pull")).json()["timestamp"]
    # as the real client words it
    migration = '{"from":1,"tables":["patrols"],"columns":[{"table":"observations","columns":["description"]}]}'
    asked = {"last_pulled_at": str(pulled), "schema_version": "2", "migration": migration}
    changes = (await client.get("/api/v1/sync/pull", params=asked)).json()["changes"]
    assert [row["id"] for row in changes["patrols"]["updated"]] == [patrol.id]
    assert [row["description"] for row in changes["observations"]["updated"]] == ["calf"]
    assert [row["id"] for row in changes["observations"]["updated"]] == [seen.id]
    assert changes["animals"]["updated"] == []
    nothing = (await client.get("/api/v1/sync/pull", params={**asked, "migration": "null"})).json()["changes"]
    assert all(table == {"created": [], "updated": [], "deleted": []} for table in nothing.values())


async def test_only_a_column_that_changed_between_pull_and_push_is_a_race_and_one_more_round_ends_it(
    phones: Phones, client: httpx.AsyncClient, store: Store, view: View
) -> None:
    animal = await store.create_animal(view, {"name": "Alpha", "species": "Elephant"})
    path = f"/api/v1/animals/{animal.id}/"

    def faster(**body: Any) -> list[dict[str, Any]]:
        return [{"path": "push", "fault": "race", "others": {"method": "PATCH", "path": path, "body": body}}]

    async with phones("one") as phone:
        await phone.sync()
        await phone.do("update", table="animals", id=animal.id, changes={"notes": "limps"})
        await phone.do("faults", list=faster(age=7))
        told = await phone.sync()
        assert (told["requests"], told["clashes"]) == (2, [])  # another column: no race
        changed = await store.animal(view, animal.id)
        assert (changed.notes, changed.age) == ("limps", 7)

        await phone.sync()
        await phone.do("update", table="animals", id=animal.id, changes={"notes": "fell", "weight": 3_000})
        await phone.do("faults", list=faster(notes="runs"))
        told = await phone.sync()
        assert told["requests"] == 4  # pull, push (409), pull, push
        assert told["clashes"] == [{"table": "animals", "id": animal.id, "columns": ["notes"]}]
        changed = await store.animal(view, animal.id)
        assert (changed.notes, changed.weight) == ("runs", 3_000)
        found = (await client.get("/api/v1/conflicts/", params={"status": "open"})).json()["results"]
        assert [(each["kind"], each["client"].get("notes")) for each in found] == [("same_column", "fell")]
        await phone.is_right()
        assert (await phone.rows("animals"))[animal.id]["notes"] == "runs"


async def test_a_viewer_pulls_cells_of_old_positions_and_no_word_of_rangers(
    app: Litestar, viewer_client: httpx.AsyncClient, store: Store, view: View
) -> None:
    animal = await store.create_animal(view, {"name": "Alpha", "species": "Elephant", "notes": "den by the ford"})
    await store.create_deployment(
        view, {"collar_id": "K1", "animal_id": animal.id, "started_at": START - timedelta(days=9)}
    )
    old, fresh = [
        NewFix(
            device="K1", recorded_at=at, received_at=at, lon_deg=37.123456, lat_deg=-2.654321, local_id="secret",
        )
        for at in (START - timedelta(days=5), START - timedelta(hours=1))
    ]  # fmt: skip
    added = await store.add_fixes(view, [old, fresh])
    await store.create_patrol(view, {"started_at": START, "note": "tonight"})
    answer = await viewer_client.get("/api/v1/sync/pull")
    (row,) = answer.json()["changes"]["tracking"]["updated"]
    assert (row["lat"], row["lon"]) == (-2.65, 37.15)
    assert row["id"] not in {each.id for each in added}
    assert answer.json()["changes"]["patrols"]["updated"] == []
    assert answer.json()["changes"]["animals"]["updated"][0]["notes"] is None
    for secret in ("37.1234", "2.6543", "secret", "tonight", "ford"):
        assert secret not in answer.text
    again = await viewer_client.get("/api/v1/sync/pull", params={"last_pulled_at": answer.json()["timestamp"]})
    assert again.json()["changes"]["tracking"]["updated"] == [row]
    refused = await viewer_client.post("/api/v1/sync/push", params={"last_pulled_at": "5"}, json={})
    assert refused.status_code == 403


async def test_a_number_of_another_home_is_answered_with_everything(
    phones: Phones, client: httpx.AsyncClient, store: Store, view: View, clock: FakeClock
) -> None:
    animal = await store.create_animal(view, {"name": "Alpha", "species": "Elephant"})
    gone = await store.create_animal(view, {"name": "Beta", "species": "Elephant"})
    await store.delete_animal(view, gone.id)
    for number in ("5", str(2**53 - 1), str(8191 << 40 | 12)):
        answer = (await client.get("/api/v1/sync/pull", params={"last_pulled_at": number})).json()
        assert [row["id"] for row in answer["changes"]["animals"]["updated"]] == [animal.id]
        assert answer["changes"]["animals"]["deleted"] == [gone.id]
        pushed = await client.post("/api/v1/sync/push", params={"last_pulled_at": number}, json={})
        assert (pushed.status_code, pushed.json()["code"]) == (409, "pull_first")
    for nothing in ({}, {"last_pulled_at": "null"}, {"last_pulled_at": ""}, {"last_pulled_at": "0"}):
        answer = (await client.get("/api/v1/sync/pull", params=nothing)).json()
        assert all(changes["deleted"] == [] for changes in answer["changes"].values())
        assert 1 <= answer["timestamp"] < 2**53
