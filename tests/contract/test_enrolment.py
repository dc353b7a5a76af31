"""Phones that enrol by a QR code with a key of their own, on both homes."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from litestar import Litestar

from shared.accounts.devices import CODE_S, enrolment_text, login_text
from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.privacy import Role
from tests.access import TokenAuth, logged_in, person
from tests.contract.conftest import client_of
from tests.fakes import FakeClock

pytestmark = [pytest.mark.api, pytest.mark.auth, pytest.mark.sync]

PATH = "/api/v1/phones"


class Phone:
    """A phone with a key of its own."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._key = Ed25519PrivateKey.generate()
        self.public_key = self._key.public_key().public_bytes_raw().hex()
        self.counter = 0

    async def enrol(self, code: str, home: str, **said: Any) -> httpx.Response:
        """Give the code and the key."""
        signature = self._key.sign(enrolment_text(home, code, self.public_key)).hex()
        body = {"code": code, "public_key": self.public_key, "signature": signature, "name": "Samsung", **said}
        return await self._client.post(f"{PATH}/enrol", json=body)

    async def login(self, phone_id: str, home: str, counter: int | None = None) -> httpx.Response:
        """Log in by the key."""
        self.counter = self.counter + 1 if counter is None else counter
        signature = self._key.sign(login_text(home, phone_id, self.counter)).hex()
        body = {"counter": self.counter, "signature": signature}
        return await self._client.post(f"{PATH}/{phone_id}/login", json=body)


async def code_for(client: httpx.AsyncClient, user: User | None = None, **said: Any) -> dict[str, Any]:
    """Make a code; it must be given."""
    answer = await client.post(f"{PATH}/codes", json={**({"user_id": user.id} if user else {}), **said})
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_a_phone_enrols_by_what_the_qr_code_says_and_its_person_is_in(
    app: Litestar, client: httpx.AsyncClient, accounts: Accounts, ranger_user: User
) -> None:
    told = await code_for(client, ranger_user, url="https://192.168.4.1:8000/")
    assert ET.fromstring(told["qr"]).tag.endswith("svg")
    asked = {name: value for name, (value,) in parse_qs(urlsplit(told["link"]).query).items()}
    assert (asked["url"], asked["code"], asked["home"]) == (
        "https://192.168.4.1:8000", told["code"], accounts.home_name,
    )  # fmt: skip
    async with client_of(app) as nobody:
        phone = Phone(nobody)
        answer = await phone.enrol(asked["code"], asked["home"])
        assert answer.status_code == 201, answer.text
        found = answer.json()
        assert (found["user"]["id"], found["phone"]["name"]) == (ranger_user.id, "Samsung")
        async with client_of(app, TokenAuth(lambda: found["tokens"]["access"])) as in_it:
            assert (await in_it.get("/api/v1/auth/me/")).json()["id"] == ranger_user.id
            assert [each["id"] for each in (await in_it.get(PATH)).json()["results"]] == [found["phone"]["id"]]
            fresh = await in_it.post(f"{PATH}/codes", json={})
            assert (fresh.status_code, fresh.json()["code"]) == (403, "factor_required")  # no second factor was shown
        # the answer was lost: the same phone asks again; another one does not get in by the same code
        again = await phone.enrol(asked["code"], asked["home"])
        assert again.json()["phone"]["id"] == found["phone"]["id"]
        assert (await Phone(nobody).enrol(asked["code"], asked["home"])).status_code == 401
    lines = (await client.get("/api/v1/audit/")).json()["results"]
    acts = [line["action"] for line in lines if line["action"].startswith("phone.")]
    assert sorted(acts) == ["phone.code", "phone.enrol"]


async def test_a_code_ends_by_time_by_another_one_and_with_a_wrong_signature_nothing_happens(
    app: Litestar, client: httpx.AsyncClient, accounts: Accounts, ranger_user: User, clock: FakeClock
) -> None:
    home = accounts.home_name
    first, second = [(await code_for(client, ranger_user))["code"] for _ in range(2)]
    async with client_of(app) as nobody:
        phone = Phone(nobody)
        assert (await phone.enrol(first, home)).status_code == 401
        assert (await phone.enrol(second, "outpost-cloud:elsewhere")).status_code == 401
        assert (await phone.enrol(second, home, public_key=Phone(nobody).public_key)).status_code == 401
        assert (await phone.enrol("0000-0000-0000-0000", home)).status_code == 401
        assert (await phone.enrol(second.lower().replace("-", " "), home)).status_code == 201
        third = (await code_for(client, ranger_user))["code"]
        clock.tick(CODE_S + 1)
        assert (await Phone(nobody).enrol(third, home)).status_code == 401


async def test_a_key_lets_a_ranger_in_again_once_for_each_number_and_a_lost_phone_never(
    app: Litestar, client: httpx.AsyncClient, accounts: Accounts, ranger_user: User
) -> None:
    home = accounts.home_name
    async with client_of(app) as nobody:
        phone = Phone(nobody)
        found = (await phone.enrol((await code_for(client, ranger_user))["code"], home)).json()
        phone_id = found["phone"]["id"]
        again = await phone.login(phone_id, home)
        assert again.status_code == 200, again.text
        replayed = await phone.login(phone_id, home, counter=1)
        assert (replayed.status_code, replayed.json()["code"]) == (409, "conflict")
        assert (await phone.login(phone_id, "outpost-cloud:elsewhere", counter=2)).status_code == 401
        assert (await Phone(nobody).login(phone_id, home, counter=9)).status_code == 401
        # the former session of this phone is over, the next one is not
        async with client_of(app, TokenAuth(lambda: found["tokens"]["access"])) as former:
            assert (await former.get("/api/v1/auth/me/")).status_code == 401
        tokens = (await phone.login(phone_id, home, counter=3)).json()["tokens"]
        async with client_of(app, TokenAuth(lambda: tokens["access"])) as in_it:
            assert (await in_it.get("/api/v1/auth/me/")).status_code == 200
            assert (await client.post(f"{PATH}/{phone_id}/revoke")).json()["revoked_at"] is not None
            assert (await in_it.get("/api/v1/auth/me/")).status_code == 401
        assert (await phone.login(phone_id, home)).status_code == 401


@pytest.mark.parametrize(
    ("actor", "of", "status"),
    [
        ("conservation_manager", "ranger", 201),
        ("conservation_manager", "admin", 403),
        ("conservation_manager", "conservation_manager", 403),
        ("ranger", "ranger", 403),
        ("viewer", "ranger", 403),
    ],
)
async def test_codes_are_made_for_oneself_and_for_those_whose_role_one_may_give(
    app: Litestar, accounts: Accounts, actor: Role, of: Role, status: int
) -> None:
    somebody, other = await person(accounts, actor, name="One"), await person(accounts, of, name="Other")
    access, _ = await logged_in(accounts, somebody)
    async with client_of(app, TokenAuth(lambda: access)) as client:
        assert (await client.post(f"{PATH}/codes", json={})).status_code == 201
        assert (await client.post(f"{PATH}/codes", json={"user_id": other.id})).status_code == status


async def test_who_may_do_more_than_a_ranger_is_not_let_in_by_a_key_alone(
    app: Litestar, client: httpx.AsyncClient, accounts: Accounts, manager_user: User
) -> None:
    home = accounts.home_name
    async with client_of(app) as nobody:
        phone = Phone(nobody)
        found = await phone.enrol((await code_for(client, manager_user))["code"], home)
        assert found.status_code == 201
        refused = await phone.login(found.json()["phone"]["id"], home)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
