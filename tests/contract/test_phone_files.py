"""The real WatermelonDB client over SQLite: what an app keeps when it grows, and what an older one destroys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.privacy import View
from shared.store import AnimalQuery, ObservationQuery, Store
from shared.sync.records import to_ms
from tests.access import logged_in
from tests.fakes import START
from tests.phones import Phone, has_sqlite

pytestmark = [pytest.mark.api, pytest.mark.sync, pytest.mark.usefixtures("only_homes")]

ANIMAL = {
    "name": "Alpha", "species": "Elephant", "collar_id": "K1", "status": "active", "health_status": "healthy",
    "gender": "male",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _where_there_is_sqlite() -> None:
    has_sqlite()


@pytest.fixture
async def token(accounts: Accounts, manager_user: User) -> str:
    """Give a manager's token."""
    return (await logged_in(accounts, manager_user))[0]


async def test_an_app_that_grows_keeps_what_it_has_and_is_given_what_it_lacked(
    url: str, token: str, store: Store, view: View, tmp_path: Path
) -> None:
    calf = {"observation_type": "sighting", "recorded_at": START, "description": "calf"}
    seen = await store.create_observation(view, calf)
    patrol = await store.create_patrol(view, {"started_at": START, "note": "fence"})
    file: Any = str(tmp_path / "app.db")
    async with Phone.running(url, token, "one", version=1, file=file) as phone:
        await phone.sync(enabledAt=1)
        assert list(await phone.rows("observations")) == [seen.id]
        assert "description" not in (await phone.rows("observations"))[seen.id]
        unsent = await phone.do("create", table="animals", row=ANIMAL)

    async with Phone.running(url, token, "one", version=2, file=file) as phone:
        assert list(await phone.rows("animals")) == [unsent]
        assert await phone.do("unsynced") is True
        assert (await phone.rows("observations"))[seen.id]["description"] == ""
        await phone.sync(enabledAt=1)
        assert (await phone.rows("observations"))[seen.id]["description"] == "calf"
        assert (await phone.rows("patrols"))[patrol.id]["note"] == "fence"
        assert [animal.id for animal in (await store.animals(view, AnimalQuery())).results] == [unsent]
        await phone.is_right()
    async with Phone.running(url, token, "one", version=2, file=file) as phone:
        told = await phone.sync(enabledAt=1)
        assert told["pulled"] == 0  # the migration is asked for once


async def test_an_older_app_empties_the_file_and_gets_back_all_that_a_home_had_acknowledged(
    url: str, token: str, store: Store, view: View, tmp_path: Path
) -> None:
    file: Any = str(tmp_path / "app.db")
    async with Phone.running(url, token, "one", version=2, file=file) as phone:
        await phone.sync(enabledAt=1)
        sent = await phone.do("create", table="animals", row=ANIMAL)
        await phone.sync(enabledAt=1)
        await phone.do("create", table="animals", row={**ANIMAL, "name": "Unsent", "collar_id": "K2"})

    async with Phone.running(url, token, "one", version=1, file=file) as phone:
        assert await phone.rows("animals") == {}  # what no home had is gone: the client's own doing, trap 9
        await phone.sync(enabledAt=1)
        assert list(await phone.rows("animals")) == [sent]
        await phone.is_right()
    assert [animal.name for animal in (await store.animals(view, AnimalQuery())).results] == ["Alpha"]


async def test_a_phone_that_is_switched_off_in_the_middle_goes_on_where_its_file_ends(
    url: str, token: str, store: Store, view: View, tmp_path: Path
) -> None:
    file: Any = str(tmp_path / "app.db")
    async with Phone.running(url, token, "one", file=file) as phone:
        await phone.sync()
        seen = await phone.do(
            "create", table="observations",
            row={"animal_id": "", "observation_type": "sighting", "description": "calf", "timestamp": to_ms(START)},
        )  # fmt: skip
        await phone.do("faults", list=[{"path": "push", "fault": "lost"}])
        assert "lost" in (await phone.do("sync"))["error"]
    async with Phone.running(url, token, "one", file=file) as phone:
        assert await phone.do("unsynced") is True
        await phone.sync()
        assert list(await phone.rows("observations")) == [seen]
        assert (await store.observations(view, ObservationQuery())).count == 1
        await phone.is_right()
