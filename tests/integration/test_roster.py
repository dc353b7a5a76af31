"""People between the cloud and a station: down by roster, up by handing over, and at the station with no cloud."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx
import pyotp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.accounts.secret import make_secret
from cloud.app import accounts_of, running
from cloud.config import AccountsSection, Config, DatabaseSection
from cloud.store.database import Database
from cloud.store.stations import new_code
from edge.api.app import create_app
from edge.api.events import EventHub
from edge.store import outbox
from edge.store.store import SpatialiteStore
from edge.sync.client import CloudClient, enrol
from edge.sync.people import exchange
from edge.sync.session import new_epoch
from shared.accounts import factors, rosters
from shared.accounts.devices import enrolment_text, login_text
from shared.accounts.roster import verified
from shared.accounts.service import Accounts
from shared.clock import ClockState
from shared.errors import Forbidden, LinkError
from shared.privacy import OPERATOR, Role
from shared.sync.records import to_ms
from shared.wire.signatures import new_key
from tests.access import accounts_over
from tests.fakes import FakeClock, FakeHealth

pytestmark = [pytest.mark.integration, pytest.mark.auth]

PASSWORD = "seven giraffes at dawn"
NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
AUTH = "/api/v1/auth"


class Station:
    """A station that was enrolled: its accounts, and what it says to the cloud."""

    def __init__(self, store: SpatialiteStore, accounts: Accounts, cloud: CloudClient, clock: FakeClock) -> None:
        self.store = store
        self.accounts = accounts
        self.cloud = cloud
        self.clock = clock

    async def exchange(self) -> None:
        await exchange(self.cloud, await self.store.read(outbox.enrolled), self.accounts)

    @asynccontextmanager
    async def phone(self) -> AsyncIterator[httpx.AsyncClient]:
        """Give a phone on the station's network."""
        app = create_app(self.store, health=FakeHealth(), events=EventHub(), clock=self.clock, accounts=self.accounts)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(cast("Any", app)), base_url="http://post") as client:
            yield client


class Person:
    """Somebody with a password and an app."""

    def __init__(self, email: str, seed: str, codes: list[str]) -> None:
        self.email = email
        self.codes = codes
        self._totp = pyotp.TOTP(seed)

    async def log_in(self, phone: httpx.AsyncClient, now: datetime, **shown: str) -> httpx.Response:
        opened = await phone.post(f"{AUTH}/login/", json={"email": self.email, "password": PASSWORD})
        if opened.status_code != 200:
            return opened
        return await phone.post(
            f"{AUTH}/login/verify/", json={"email": self.email, **(shown or {"otp_code": self._totp.at(now)})}
        )


async def enter(accounts: Accounts, role: Role, email: str, stations: tuple[str, ...] = ("post-1",)) -> Person:
    _, seed, codes = await accounts.add_user(
        OPERATOR, email=email, name=email, role=role, password=PASSWORD, stations=stations
    )
    assert seed is not None
    return Person(email, seed, codes)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


class Cloud:
    """A running cloud and its accounts."""

    def __init__(self, url: str, accounts: Accounts, database: Database) -> None:
        self.url = url
        self.accounts = accounts
        self.database = database


@pytest.fixture
async def cloud(database_url: str, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Cloud]:
    key_file = tmp_path / "cloud.key"
    make_secret(key_file)
    config = Config(
        database=DatabaseSection(url=database_url, pool_min=1, pool_max=4), accounts=AccountsSection(key_file=key_file)
    )
    async with running(config, clock=clock, port=0) as (url, _), Database.open(database_url, pool_max=2) as database:
        yield Cloud(url, accounts_of(config, database, clock), database)


@asynccontextmanager
async def enrolled(cloud: Cloud, clock: FakeClock, folder: Path, name: str = "post-1") -> AsyncIterator[Station]:
    store = SpatialiteStore(folder / f"{name}.db", None, now=clock.now, readers=1)
    async with cloud.database.transaction() as connection:
        code = await new_code(connection, name, name, to_ms(clock.now()), 600_000)
    private_key, public_key = new_key()
    made = await enrol(cloud.url, code, public_key)
    await store.write(
        lambda db: outbox.enrol(
            db, url=cloud.url, station_id=made.station_id, private_key=private_key, cloud_epoch=made.cloud_epoch,
            epoch=new_epoch(), now_ms=to_ms(clock.now()),
        )
    )  # fmt: skip
    client = CloudClient(cloud.url, made.station_id, private_key, now=clock.now)
    station = Station(store, accounts_over(store, clock), client, clock)
    try:
        yield station
    finally:
        await station.cloud.close()
        await store.close()


@pytest.fixture
async def station(cloud: Cloud, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Station]:
    async with enrolled(cloud, clock, tmp_path) as station:
        yield station


def bearer(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['tokens']['access']}"}


async def unreachable(station: Station) -> None:
    """Take the cloud away: nothing that follows can reach it."""
    await station.cloud.close()
    here = await station.store.read(outbox.enrolled)
    station.cloud = CloudClient("http://127.0.0.1:1", here.station_id, here.private_key)
    with pytest.raises(LinkError):
        await station.exchange()


async def test_who_is_on_the_roster_logs_in_with_no_cloud_until_the_next_roster_says_no(
    cloud: Cloud, station: Station, clock: FakeClock
) -> None:
    asha = await enter(cloud.accounts, "ranger", "asha@example.org")
    await enter(cloud.accounts, "ranger", "elsewhere@example.org", ("post-2",))
    await station.exchange()
    assert [user.email for user in await station.accounts.users()] == ["asha@example.org"]
    here = await station.store.read(outbox.enrolled)
    await unreachable(station)
    async with station.phone() as phone:
        clock.tick(40 * 86_400)
        header = bearer(await asha.log_in(phone, clock.at))
        body = {"observation_type": "sighting", "timestamp": clock.at.isoformat(), "description": "three"}
        assert (await phone.get("/api/v1/animals/", headers=header)).status_code == 200
        made = await phone.post("/api/v1/tracking/observations/", headers=header, json=body)
        assert made.status_code == 201
        assert (await phone.patch(f"{AUTH}/me/", headers=header, json={"name": "X"})).status_code == 409
        # the cloud is back, and has shut her out
        station.cloud = CloudClient(cloud.url, here.station_id, here.private_key)
        user = await cloud.accounts.user(asha.email)
        await cloud.accounts.revoke(OPERATOR, user.id)
        await station.exchange()
        assert (await phone.get("/api/v1/animals/", headers=header)).status_code == 401
        clock.tick(120)
        assert (await asha.log_in(phone, clock.at)).status_code == 401


async def test_a_local_administrator_shuts_out_at_once_and_no_roster_brings_back(
    cloud: Cloud, station: Station, clock: FakeClock
) -> None:
    asha = await enter(cloud.accounts, "ranger", "asha@example.org")
    await enter(cloud.accounts, "admin", "boss@example.org")
    await station.exchange()
    async with station.phone() as phone:
        header = bearer(await asha.log_in(phone, clock.at))
        user = await station.accounts.user(asha.email)
        await station.accounts.revoke(OPERATOR, user.id)
        assert (await phone.get("/api/v1/animals/", headers=header)).status_code == 401
        clock.tick(7_200)
        await cloud.accounts.change_user(OPERATOR, user.id, {"name": "Asha N."})
        await station.exchange()
        assert (await station.accounts.user(asha.email)).name == "Asha N."
        assert (await asha.log_in(phone, clock.at)).status_code == 401


async def test_a_recovery_code_of_the_station_comes_back_with_no_roster_and_is_spent_in_the_cloud(
    cloud: Cloud, station: Station, clock: FakeClock
) -> None:
    asha = await enter(cloud.accounts, "ranger", "asha@example.org")
    await station.exchange()
    async with station.phone() as phone:
        assert (await asha.log_in(phone, clock.at, recovery_code=asha.codes[0])).status_code == 200
        clock.tick(7_200)
        await station.exchange()
        spent = factors.recovery_hash(asha.codes[0])
        assert spent not in (await cloud.accounts.user(asha.email)).recovery
        assert spent not in (await station.accounts.user(asha.email)).recovery
        assert (await asha.log_in(phone, clock.at, recovery_code=asha.codes[0])).status_code == 401


async def test_an_old_roster_asks_administrators_for_a_recovery_code_and_rangers_for_nothing(
    cloud: Cloud, station: Station, clock: FakeClock
) -> None:
    boss = await enter(cloud.accounts, "admin", "boss@example.org")
    asha = await enter(cloud.accounts, "ranger", "asha@example.org")
    await station.exchange()
    async with station.phone() as phone:
        clock.tick(91 * 86_400)
        assert (await asha.log_in(phone, clock.at)).status_code == 200
        refused = await boss.log_in(phone, clock.at)
        assert (refused.status_code, "recovery code" in refused.json()["detail"]) == (401, True)
        clock.tick(120)
        assert (await boss.log_in(phone, clock.at, recovery_code=boss.codes[0])).status_code == 200


async def test_people_that_a_station_made_are_handed_to_the_cloud_for_that_station_alone(
    cloud: Cloud, station: Station, clock: FakeClock
) -> None:
    local = await enter(station.accounts, "admin", "local@example.org", ("*",))
    known = await enter(cloud.accounts, "viewer", "known@example.org", ())
    await enter(station.accounts, "admin", known.email, ("*",))
    await station.exchange()
    handed = await cloud.accounts.user("local@example.org")
    assert (handed.role, handed.stations) == ("admin", ("post-1",))
    assert (await cloud.accounts.user(known.email)).role == "viewer", "what the cloud has stands"
    # in the cloud an administrator of one station is no administrator
    caller = await cloud.accounts.caller(cloud.accounts.machine_token(handed.id))
    assert (caller.principal.role, caller.principal.stations) == ("conservation_manager", ("post-1",))
    async with station.phone() as phone:
        header = bearer(await local.log_in(phone, clock.at))
        assert (await phone.get("/api/v1/users/", headers=header)).status_code == 200
    await station.exchange()
    assert (await station.accounts.user("local@example.org")).origin == "cloud"


async def test_a_roster_of_another_key_or_station_or_of_before_is_not_taken(
    cloud: Cloud, station: Station, clock: FakeClock, tmp_path: Path
) -> None:
    await enter(cloud.accounts, "ranger", "asha@example.org")
    sent = await station.cloud.roster()
    roster, key = verified(sent, None, "post-1", 0)
    assert "seven giraffes" not in str(roster)
    for changed, pinned, name, last in (
        (sent, bytes(32), "post-1", 0),
        (sent, key, "post-2", 0),
        (sent, key, "post-1", roster.version),
        (sent[:-3] + b"abc", key, "post-1", 0),
        (sent.replace(b"ranger", b"adminn"), key, "post-1", 0),
        (b"nonsense", None, "post-1", 0),
    ):
        with pytest.raises(Forbidden):
            verified(changed, pinned, name, last)
    await station.exchange()
    assert (await station.accounts.tables.read(rosters.trusted()))[0] == key
    async with enrolled(cloud, clock, tmp_path, "post-2") as other:
        assert verified(await other.cloud.roster(), key, "post-2", 0)[0].users == []


async def test_a_clock_that_is_not_sure_ages_no_roster(cloud: Cloud, station: Station, clock: FakeClock) -> None:
    boss = await enter(cloud.accounts, "admin", "boss@example.org")
    await station.exchange()
    async with station.phone() as phone:
        clock.tick(91 * 86_400)
        clock.set_state(ClockState.HELD)
        assert (await boss.log_in(phone, clock.at)).status_code == 200


class Handset:
    """A phone with a key of its own, known at whichever home."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.id = ""

    async def enrol(self, accounts: Accounts, client: httpx.AsyncClient, user_id: str) -> None:
        """Enrol at a home by a code of a person."""
        made = await accounts.make_phone_code(OPERATOR, user_id)
        public_key = self._key.public_key().public_bytes_raw().hex()
        signature = self._key.sign(enrolment_text(accounts.home_name, made.code, public_key)).hex()
        body = {"code": made.code, "public_key": public_key, "signature": signature, "name": "Samsung"}
        answer = await client.post("/api/v1/phones/enrol", json=body)
        assert answer.status_code == 201, answer.text
        self.id = answer.json()["phone"]["id"]

    async def log_in(self, accounts: Accounts, client: httpx.AsyncClient, counter: int) -> int:
        """Log in by the key and return the status of the answer."""
        signature = self._key.sign(login_text(accounts.home_name, self.id, counter)).hex()
        body = {"counter": counter, "signature": signature}
        return (await client.post(f"/api/v1/phones/{self.id}/login", json=body)).status_code


async def test_a_phone_that_enrolled_at_the_station_is_known_in_the_cloud_and_lost_at_both(
    cloud: Cloud, station: Station, clock: FakeClock
) -> None:
    asha = await enter(cloud.accounts, "ranger", "asha@example.org")
    await station.exchange()
    user = await station.accounts.user(asha.email)
    handset = Handset()
    async with station.phone() as here, httpx.AsyncClient(base_url=cloud.url) as above:
        await handset.enrol(station.accounts, here, user.id)
        assert await handset.log_in(cloud.accounts, above, 1) == 401
        await station.exchange()
        assert await handset.log_in(cloud.accounts, above, 1) == 200
        assert await station.accounts.tables.read(rosters.hand_over(lambda _: None)) is None  # it is told once
        await station.accounts.revoke_phone(OPERATOR, handset.id)
        assert await handset.log_in(station.accounts, here, 2) == 401
        await station.exchange()
        assert await handset.log_in(cloud.accounts, above, 2) == 401


async def test_a_phone_that_enrolled_in_the_cloud_is_known_at_the_stations_of_its_person_until_it_is_lost(
    cloud: Cloud, station: Station, clock: FakeClock, tmp_path: Path
) -> None:
    asha = await enter(cloud.accounts, "ranger", "asha@example.org", ("post-1",))
    user = await cloud.accounts.user(asha.email)
    handset = Handset()
    async with (
        enrolled(cloud, clock, tmp_path, "post-2") as other, other.phone() as there, station.phone() as here,
        httpx.AsyncClient(base_url=cloud.url) as above,
    ):  # fmt: skip
        await handset.enrol(cloud.accounts, above, user.id)
        for each in (station, other):
            await each.exchange()
        assert await handset.log_in(station.accounts, here, 1) == 200
        assert await handset.log_in(other.accounts, there, 1) == 401
        await cloud.accounts.revoke_phone(OPERATOR, handset.id)
        await station.exchange()
        assert await handset.log_in(station.accounts, here, 2) == 401


async def test_a_stolen_station_makes_no_phone_known_for_who_sees_more_than_it_does(
    cloud: Cloud, station: Station, clock: FakeClock
) -> None:
    people: list[tuple[Role, str, tuple[str, ...]]] = [
        ("ranger", "two@example.org", ("post-1", "post-2")), ("conservation_manager", "boss@example.org", ("post-1",)),
        ("ranger", "all@example.org", ("*",)),
    ]  # fmt: skip
    for role, email, stations in people:
        await enter(cloud.accounts, role, email, stations)
    await station.exchange()
    async with station.phone() as here:
        for _, email, _ in people:
            await Handset().enrol(station.accounts, here, (await station.accounts.user(email)).id)
    await station.exchange()
    assert await cloud.accounts.phones(None) == []
    assert len(await station.accounts.phones(None)) == 3
