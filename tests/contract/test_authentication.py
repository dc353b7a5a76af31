"""Registration, login, second factor, sessions, users, keys and the audit log: one suite over both homes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pyotp
import pytest
from litestar import Litestar

from shared.accounts import audit, factors
from shared.accounts.service import Accounts
from shared.accounts.users import Job, User
from shared.clock import ClockState
from shared.errors import Conflict, NotAuthenticated
from shared.privacy import OPERATOR, Role
from shared.store import Store
from tests.access import TokenAuth, accounts_over, logged_in, person
from tests.contract.conftest import client_of
from tests.fakes import FakeClock, FakeMessenger
from tests.memory_store import InMemoryStore

pytestmark = [pytest.mark.api, pytest.mark.auth]

PASSWORD = "seven giraffes at dawn"
#: After the program was written, as the codes of a wrong clock are looked for from there on.
NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
AUTH = "/api/v1/auth"


@pytest.fixture
def clock() -> FakeClock:
    """Give a clock of a time after this program was written."""
    return FakeClock(NOW)


@pytest.fixture(autouse=True)
def _only_homes(request: pytest.FixtureRequest) -> None:
    """The double has the accounts of the station: what holds there is seen over the real file."""
    if "store" in request.fixturenames and isinstance(request.getfixturevalue("store"), InMemoryStore):
        pytest.skip("the same as the station's")


class Ranger:
    """A person with a password and an app, whose phone keeps the true time."""

    def __init__(self, email: str, user: User, seed: str, codes: list[str], clock: FakeClock) -> None:
        self.email = email
        self.user = user
        self.recovery_codes = codes
        self._totp = pyotp.TOTP(seed)
        self._clock = clock
        #: how far the home's clock is off
        self.home_is_off = timedelta()

    def code(self, after_s: float = 0) -> str:
        """Return what the app shows, or will show."""
        return self._totp.at(self._clock.at - self.home_is_off + timedelta(seconds=after_s))


async def enter(accounts: Accounts, clock: FakeClock, role: Role = "ranger", email: str = "asha@example.org") -> Ranger:
    user, seed, codes = await accounts.add_user(
        OPERATOR, email=email, name="Asha", role=role, password=PASSWORD, stations=("*",)
    )
    assert seed is not None
    return Ranger(email, user, seed, codes, clock)


async def log_in(nobody: httpx.AsyncClient, ranger: Ranger, **shown: str) -> httpx.Response:
    opened = await nobody.post(f"{AUTH}/login/", json={"email": ranger.email, "password": PASSWORD})
    if opened.status_code != 200:
        return opened
    body = {"email": ranger.email, **(shown or {"otp_code": ranger.code()})}
    return await nobody.post(f"{AUTH}/login/verify/", json=body)


def bearer(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['tokens']['access']}"}


@pytest.fixture
def is_cloud(accounts: Accounts) -> bool:
    return accounts.home == "cloud"


# --- login with password and app ------------------------------------------------------------------------------------
async def test_a_password_and_the_apps_code_let_in(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    opened = await nobody.post(f"{AUTH}/login/", json={"email": " ASHA@example.org ", "password": PASSWORD})
    assert opened.json()["factor"] == "totp"
    assert opened.json()["expires_in"] == 300
    answer = await nobody.post(
        f"{AUTH}/login/verify/",
        json={"email": asha.email, "otp_code": asha.code(), "device_id": "d1", "device_info": {"os": "x"}},
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"message", "user", "tokens"}
    assert (body["user"]["role"], body["user"]["email"]) == ("ranger", "asha@example.org")
    assert "hash" not in answer.text
    assert (await nobody.get(f"{AUTH}/me/", headers=bearer(answer))).json()["id"] == asha.user.id
    assert (await nobody.get("/api/v1/animals/", headers=bearer(answer))).status_code == 200


async def test_one_word_of_three_that_is_wrong_lets_nobody_in(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    wrong = await nobody.post(f"{AUTH}/login/", json={"email": asha.email, "password": "another long one"})
    unknown = await nobody.post(f"{AUTH}/login/", json={"email": "who@example.org", "password": PASSWORD})
    assert (wrong.status_code, wrong.json()) == (unknown.status_code, unknown.json())
    assert wrong.status_code == 401
    assert (await log_in(nobody, asha, otp_code="000000")).status_code == 401
    # without the first step the code alone is nothing
    assert (
        await nobody.post(f"{AUTH}/login/verify/", json={"email": "who@example.org", "otp_code": asha.code()})
    ).status_code == 401


async def test_a_code_counts_once_and_a_challenge_three_tries_and_five_minutes(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    code = asha.code()
    assert (await log_in(nobody, asha, otp_code=code)).status_code == 200
    assert (await log_in(nobody, asha, otp_code=code)).status_code == 401
    clock.tick(3_600)
    assert (await log_in(nobody, asha, otp_code="111111")).status_code == 401
    for wrong in ("222222", "333333"):
        body = {"email": asha.email, "otp_code": wrong}
        assert (await nobody.post(f"{AUTH}/login/verify/", json=body)).status_code == 401
    body = {"email": asha.email, "otp_code": asha.code()}
    assert (await nobody.post(f"{AUTH}/login/verify/", json=body)).status_code == 401, "a fourth try"
    clock.tick(3_600)
    await nobody.post(f"{AUTH}/login/", json={"email": asha.email, "password": PASSWORD})
    clock.tick(301)
    body = {"email": asha.email, "otp_code": asha.code()}
    assert (await nobody.post(f"{AUTH}/login/verify/", json=body)).status_code == 401, "too late"


async def test_a_recovery_code_is_good_once(nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock) -> None:
    asha = await enter(accounts, clock)
    code = asha.recovery_codes[3]
    assert (await log_in(nobody, asha, recovery_code=code.lower().replace("-", " "))).status_code == 200
    assert (await log_in(nobody, asha, recovery_code=code)).status_code == 401
    assert (await accounts.user(asha.email)).recovery == tuple(
        factors.recovery_hash(each) for each in asha.recovery_codes if each != code
    )


async def test_the_second_step_is_bound_to_who_took_the_first(
    app: Litestar, nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    opened = await nobody.post(f"{AUTH}/login/", json={"email": asha.email, "password": PASSWORD})
    transport = httpx.ASGITransport(app, client=("10.9.8.7", 1))  # type: ignore[arg-type]  # as the framework types it
    async with httpx.AsyncClient(transport=transport, base_url="http://station") as elsewhere:
        body = {"email": asha.email, "otp_code": asha.code()}
        assert (await elsewhere.post(f"{AUTH}/login/verify/", json=body)).status_code == 401
        body["otp_id"] = opened.json()["otp_id"]
        assert (await elsewhere.post(f"{AUTH}/login/verify/", json=body)).status_code == 200


async def test_a_hash_of_lower_cost_is_made_anew_at_login(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    before = asha.user.password_hash
    accounts.hasher = type(accounts.hasher)(3)
    assert (await log_in(nobody, asha)).status_code == 200
    after = (await accounts.user(asha.email)).password_hash
    assert before is not None
    assert after is not None
    assert ("t=2" in before, "t=3" in after) == (True, True)


@pytest.mark.parametrize("password", ["short", "password1", "iloveyou", "asha@example.org", "aaaaaaaaaaaa"])
async def test_a_password_that_everybody_tries_is_refused(accounts: Accounts, clock: FakeClock, password: str) -> None:
    with pytest.raises(Exception, match="password: "):
        await accounts.add_user(
            OPERATOR, email="asha@example.org", name="Asha", role="ranger", password=password, stations=("*",)
        )


# --- clocks ---------------------------------------------------------------------------------------------------------
OFF = [
    pytest.param(timedelta(days=-20_864), ClockState.UNSET, id="1970"),
    pytest.param(timedelta(days=-365), ClockState.HELD, id="a year back"),
    pytest.param(timedelta(days=1), ClockState.HELD, id="a day ahead"),
    pytest.param(timedelta(days=1), ClockState.ADMIN, id="a day ahead and sure of it"),
    pytest.param(timedelta(days=-1), ClockState.NTP, id="a day back and sure of it"),
]


@pytest.mark.parametrize(("off", "state"), OFF)
async def test_a_wrong_clock_holds_a_login_up_for_one_code(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock, off: timedelta, state: ClockState
) -> None:
    asha = await enter(accounts, clock)
    clock.at += off
    clock.set_state(state)
    asha.home_is_off = off
    first = asha.code()
    refused = await log_in(nobody, asha, otp_code=first)
    assert refused.status_code == 401
    assert "otp_code_next" in refused.json()["detail"]
    clock.tick(30)  # as long as it takes until the app shows the next one
    body = {"email": asha.email, "otp_code": first, "otp_code_next": asha.code()}
    answer = await nobody.post(f"{AUTH}/login/verify/", json=body)
    assert answer.status_code == 200, answer.text
    assert (await nobody.get(f"{AUTH}/me/", headers=bearer(answer))).status_code == 200
    # and neither code counts again, however the clock is turned
    for turned in (timedelta(), timedelta(days=-365), timedelta(days=400)):
        clock.seconds += 3_600
        clock.at = NOW + turned
        assert (await log_in(nobody, asha, otp_code=body["otp_code_next"])).status_code == 401


@pytest.mark.parametrize(("off", "state"), OFF)
async def test_a_step_of_the_clock_lifts_no_limit_and_ends_no_session(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock, off: timedelta, state: ClockState
) -> None:
    asha = await enter(accounts, clock)
    access, refresh = await logged_in(accounts, asha.user)
    for _ in range(5):
        wrong = await nobody.post(f"{AUTH}/login/", json={"email": asha.email, "password": "another long one"})
        assert wrong.status_code == 401
    clock.at += off
    clock.set_state(state)
    limited = await nobody.post(f"{AUTH}/login/", json={"email": asha.email, "password": PASSWORD})
    assert (limited.status_code, limited.json()["code"]) == (429, "rate_limited")
    assert 0 < int(limited.headers["Retry-After"]) <= 60
    # what is fifteen minutes by no wall clock is valid, and what is more is not
    assert (await nobody.get(f"{AUTH}/me/", headers={"Authorization": f"Bearer {access}"})).status_code == 200
    assert await accounts.sweep() == 0, "nothing is purged by a clock that stepped"
    clock.tick(901)
    assert (await nobody.get(f"{AUTH}/me/", headers={"Authorization": f"Bearer {access}"})).status_code == 401
    assert (await nobody.post(f"{AUTH}/refresh/", json={"refresh": refresh})).status_code == 200


async def test_five_attempts_a_minute_twenty_an_hour_and_never_more_than_a_quarter_of_an_hour_to_wait(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    body = {"email": asha.email, "password": "another long one"}
    statuses = []
    for _ in range(40):
        statuses.append((await nobody.post(f"{AUTH}/login/", json=body)).status_code)
        clock.tick(10)
    assert statuses.count(401) == 20
    limited = await nobody.post(f"{AUTH}/login/", json=body)
    assert limited.status_code == 429
    wait_s = int(limited.headers["Retry-After"])
    assert 60 < wait_s <= 900
    clock.tick(wait_s)
    assert (await log_in(nobody, asha)).status_code == 200


async def test_counters_outlive_the_program_and_the_boot(
    app: Litestar, nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    for _ in range(5):
        await nobody.post(f"{AUTH}/login/", json={"email": asha.email, "password": "another long one"})
    before = accounts.moments

    def after_a_boot() -> Any:
        return type(before())(before().ms, 5, "another boot", is_sure=False)

    accounts.moments = after_a_boot
    limited = await nobody.post(f"{AUTH}/login/", json={"email": asha.email, "password": PASSWORD})
    assert limited.status_code == 429


# --- sessions -------------------------------------------------------------------------------------------------------
async def test_a_refresh_token_that_comes_twice_ends_its_session(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    access, first = await logged_in(accounts, asha.user)
    other_access, _ = await logged_in(accounts, asha.user)
    answer = await nobody.post(f"{AUTH}/refresh/", json={"refresh": first})
    second = answer.json()
    assert set(second) == {"access", "refresh"}
    assert (await nobody.get(f"{AUTH}/me/", headers={"Authorization": f"Bearer {second['access']}"})).is_success
    stolen = await nobody.post(f"{AUTH}/refresh/", json={"refresh": first})
    assert (stolen.status_code, "used before" in stolen.json()["detail"]) == (401, True)
    for token in (access, second["access"]):
        answer = await nobody.get(f"{AUTH}/me/", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
    assert (await nobody.post(f"{AUTH}/refresh/", json={"refresh": second["refresh"]})).status_code == 401
    assert (await nobody.get(f"{AUTH}/me/", headers={"Authorization": f"Bearer {other_access}"})).is_success


async def test_a_session_ends_after_ninety_days_and_on_an_unsure_clock_by_no_age(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    _, refresh = await logged_in(accounts, asha.user, device_id="phone")
    for _ in range(3):
        clock.tick(29 * 86_400)
        answer = await nobody.post(f"{AUTH}/refresh/", json={"refresh": refresh})
        assert answer.status_code == 200
        refresh = answer.json()["refresh"]
    clock.tick(4 * 86_400)
    clock.set_state(ClockState.HELD)
    answer = await nobody.post(f"{AUTH}/refresh/", json={"refresh": refresh})
    assert answer.status_code == 200
    clock.set_state(ClockState.NTP)
    answer = await nobody.post(f"{AUTH}/refresh/", json={"refresh": answer.json()["refresh"]})
    assert answer.status_code == 401


@pytest.mark.parametrize(("device_id", "idle_s"), [(None, 12 * 3_600), ("phone", 30 * 86_400)])
async def test_a_session_that_nobody_uses_ends_and_a_clock_that_steps_ends_none(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock, device_id: str | None, idle_s: int
) -> None:
    asha = await enter(accounts, clock)
    _, refresh = await logged_in(accounts, asha.user, device_id=device_id)

    async def refreshed() -> int:
        nonlocal refresh
        answer = await nobody.post(f"{AUTH}/refresh/", json={"refresh": refresh})
        refresh = answer.json().get("refresh", refresh)
        return answer.status_code

    clock.tick(idle_s - 60)
    assert await refreshed() == 200
    clock.at += timedelta(days=40)  # a step, not time that passed
    assert await refreshed() == 200
    clock.at -= timedelta(days=40)
    assert await refreshed() == 200
    clock.tick(idle_s + 60)
    assert await refreshed() == 401


async def test_across_boots_want_of_use_is_known_on_sure_clocks_alone(store: Store, clock: FakeClock) -> None:
    boot = "one"
    accounts = accounts_over(store, clock, boot=lambda: boot)
    asha = await enter(accounts, clock)
    _, refresh = await logged_in(accounts, asha.user)
    clock.tick(13 * 3_600)
    boot = "two"
    clock.set_state(ClockState.HELD)
    refresh = (await accounts.refresh(refresh)).refresh
    clock.tick(13 * 3_600)
    boot = "three"
    clock.set_state(ClockState.NTP)
    refresh = (await accounts.refresh(refresh)).refresh
    clock.tick(13 * 3_600)
    boot = "four"
    with pytest.raises(NotAuthenticated):
        await accounts.refresh(refresh)


async def test_logging_out_ends_the_session_and_a_devices_sessions(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    access, refresh = await logged_in(accounts, asha.user)
    header = {"Authorization": f"Bearer {access}"}
    assert (await nobody.post(f"{AUTH}/logout/", headers=header)).json() == {"message": "Logged out."}
    assert (await nobody.get(f"{AUTH}/me/", headers=header)).status_code == 401
    assert (await nobody.post(f"{AUTH}/refresh/", json={"refresh": refresh})).status_code == 401


async def test_a_browser_is_logged_in_by_cookies_that_no_script_reads(
    app: Litestar, nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    answer = await log_in(nobody, asha)
    cookies = answer.headers.get_list("set-cookie")
    secret = [each for each in cookies if not each.startswith("outpost_csrf=")]
    assert (len(cookies), len(secret)) == (3, 2)
    assert all("SameSite=strict" in each for each in cookies)
    assert all("HttpOnly" in each for each in secret)
    assert (await nobody.get(f"{AUTH}/me/")).json()["email"] == asha.email  # the client kept them, as a browser does
    assert (await nobody.get("/api/docs/")).status_code == 200
    assert (await nobody.post(f"{AUTH}/refresh/")).status_code == 200
    foreign = await nobody.post("/api/v1/tracking/observations/", headers={"Origin": "http://evil.example"}, json={})
    assert foreign.status_code == 403
    await nobody.post(f"{AUTH}/logout/", headers={"X-CSRF-Token": nobody.cookies["outpost_csrf"]})
    assert (await nobody.get(f"{AUTH}/me/")).status_code == 401


async def test_what_a_browser_writes_carries_the_token_of_its_own_page(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    await log_in(nobody, asha)
    body = {"name": "Asha the second"}
    for shown in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "0" * 32}):
        refused = await nobody.patch(f"{AUTH}/me/", json=body, headers=shown)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), shown
    mine = {"X-CSRF-Token": nobody.cookies["outpost_csrf"]}
    assert (await nobody.patch(f"{AUTH}/me/", json=body, headers=mine)).status_code == 200
    await nobody.post(f"{AUTH}/refresh/")
    assert (await nobody.patch(f"{AUTH}/me/", json=body, headers=mine)).status_code == 403  # of the former token


async def test_a_token_of_another_home_or_of_nobody_is_refused(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    access, _ = await logged_in(accounts, asha.user)
    head, body, signature = access.split(".")
    forged = jwt.encode({"sub": asha.user.id}, "k" * 40, algorithm="HS256", headers={"typ": "at+jwt"})
    unsigned = jwt.encode({"sub": asha.user.id}, "", algorithm="none")
    for token in ("x", forged, unsigned, f"{head}.{body}.{signature[:-4]}AAAA", "wc_1_2", "a" * 10_000):
        answer = await nobody.get(f"{AUTH}/me/", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), token


# --- one's own account ----------------------------------------------------------------------------------------------
async def test_a_person_changes_their_own_name_and_not_their_role(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    access, _ = await logged_in(accounts, asha.user)
    header = {"Authorization": f"Bearer {access}"}
    changed = await nobody.patch(
        f"{AUTH}/me/", headers=header, json={"name": "Asha N.", "role": "admin", "phone": "+254 700 000 000"}
    )
    assert changed.status_code == 200, changed.text
    assert [changed.json()[name] for name in ("name", "role", "phone")] == ["Asha N.", "ranger", "+254700000000"]
    put = await nobody.put(f"{AUTH}/me/", headers=header, json={"organization": "Mara"})
    assert (put.json()["name"], put.json()["organization"]) == ("Asha N.", "Mara")


async def test_another_password_ends_the_other_sessions(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    access, _ = await logged_in(accounts, asha.user)
    other, _ = await logged_in(accounts, asha.user)
    header = {"Authorization": f"Bearer {access}"}
    new = "nine rhinos behind the hill"
    wanted = {"current_password": PASSWORD, "new_password": new, "new_password_confirm": new}
    wrong = await nobody.post(
        f"{AUTH}/change-password/", headers=header, json={**wanted, "current_password": "not the one"}
    )
    assert (wrong.status_code, "current_password" in wrong.json()["detail"]) == (400, True)
    assert (await nobody.post(f"{AUTH}/change-password/", headers=header, json=wanted)).status_code == 200
    assert (await nobody.get(f"{AUTH}/me/", headers=header)).status_code == 200
    assert (await nobody.get(f"{AUTH}/me/", headers={"Authorization": f"Bearer {other}"})).status_code == 401
    assert (await log_in(nobody, asha)).status_code == 401
    opened = await nobody.post(f"{AUTH}/login/", json={"email": asha.email, "password": new})
    assert opened.status_code == 200


async def test_a_factor_is_fresh_for_five_minutes_and_can_be_shown_again(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    admin = await enter(accounts, clock, "admin", "boss@example.org")
    access, refresh = await logged_in(accounts, admin.user)
    clock.tick(301)
    header = {"Authorization": f"Bearer {access}"}
    key = {"name": "gateway", "scopes": ["tracking:write"]}
    refused = await nobody.post("/api/v1/api-keys/", headers=header, json=key)
    assert (refused.status_code, refused.json()["code"]) == (403, "factor_required")
    wrong = await nobody.post(f"{AUTH}/factor/", headers=header, json={"otp_code": "000000"})
    assert wrong.status_code == 401
    assert (await nobody.post(f"{AUTH}/factor/", headers=header, json={"otp_code": admin.code()})).status_code == 200
    assert (await nobody.post("/api/v1/api-keys/", headers=header, json=key)).status_code == 201
    # the next access token is of the same session, and no fresher
    clock.tick(301)
    access = (await nobody.post(f"{AUTH}/refresh/", json={"refresh": refresh})).json()["access"]
    header = {"Authorization": f"Bearer {access}"}
    assert (await nobody.post("/api/v1/api-keys/", headers=header, json=key)).status_code == 403


async def test_another_app_counts_from_its_first_code_on(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    access, _ = await logged_in(accounts, asha.user)
    header = {"Authorization": f"Bearer {access}"}
    made = (await nobody.post(f"{AUTH}/totp/", headers=header)).json()
    assert made["uri"].startswith("otpauth://totp/")
    totp = pyotp.TOTP(made["secret"])
    assert (await nobody.post(f"{AUTH}/totp/confirm/", headers=header, json={"otp_code": "0"})).status_code == 401
    answer = await nobody.post(f"{AUTH}/totp/confirm/", headers=header, json={"otp_code": totp.at(clock.at)})
    assert len(answer.json()["recovery_codes"]) == 10
    assert (await log_in(nobody, asha, otp_code=asha.code())).status_code == 401
    clock.tick(60)
    assert (await log_in(nobody, asha, otp_code=totp.at(clock.at))).status_code == 200


# --- registration and codes that are sent ---------------------------------------------------------------------------
REGISTRATION = {"email": "vera@example.org", "name": "Vera", "phone": "+254 700 000001", "role": "admin"}


async def test_a_station_registers_nobody_and_sends_no_codes(nobody: httpx.AsyncClient, is_cloud: bool) -> None:
    if is_cloud:
        pytest.skip("the cloud does")
    for path, body in (("register/", REGISTRATION), ("send-otp/", {"email": "vera@example.org"})):
        assert (await nobody.post(f"{AUTH}/{path}", json=body)).status_code == 403
    answer = await nobody.post(f"{AUTH}/login/", json={"email": "vera@example.org"})
    assert (answer.status_code, "password" in answer.json()["detail"]) == (401, True)


@pytest.fixture
def only_cloud(is_cloud: bool) -> None:
    if not is_cloud:
        pytest.skip("codes are sent in the cloud alone")


@pytest.mark.usefixtures("only_cloud")
async def test_who_registers_begins_as_a_viewer_whatever_they_wish(
    nobody: httpx.AsyncClient, accounts: Accounts, outbox: FakeMessenger
) -> None:
    opened = await nobody.post(f"{AUTH}/register/", json=REGISTRATION)
    assert set(opened.json()) == {"message", "otp_id", "expires_in", "factor"}
    await accounts.drain()
    ((channel, to, code),) = outbox.sent
    assert (channel, to, len(code)) == ("mail", "vera@example.org", 6)
    wrong = await nobody.post(f"{AUTH}/verify-otp/", json={**REGISTRATION, "otp_code": "000000"})
    assert wrong.status_code == 401
    body = {"email": "vera@example.org", "otp_code": code, "purpose": "registration", "name": "Vera", "role": "admin"}
    answer = await nobody.post(f"{AUTH}/verify-otp/", json=body)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["user"]["role"], answer.json()["user"]["is_email_verified"]) == ("viewer", True)
    assert (await nobody.get("/api/v1/animals/", headers=bearer(answer))).status_code == 200
    assert (await nobody.get("/api/v1/users/", headers=bearer(answer))).status_code == 403
    assert (await nobody.post(f"{AUTH}/verify-otp/", json=body)).status_code == 401, "a code counts once"


@pytest.mark.usefixtures("only_cloud")
async def test_an_account_without_a_password_logs_in_by_code(
    nobody: httpx.AsyncClient, accounts: Accounts, outbox: FakeMessenger, clock: FakeClock
) -> None:
    viewer = await person(accounts, "viewer", name="vera")
    known = await nobody.post(f"{AUTH}/login/", json={"email": viewer.email})
    unknown = await nobody.post(f"{AUTH}/login/", json={"email": "who@example.org"})
    assert (known.status_code, known.json()["message"]) == (unknown.status_code, unknown.json()["message"])
    await accounts.drain()
    assert [to for _, to, _ in outbox.sent] == [viewer.email]
    first = outbox.sent[-1][2]
    await nobody.post(f"{AUTH}/send-otp/", json={"email": viewer.email})
    await accounts.drain()
    second = outbox.sent[-1][2]
    if first != second:
        body = {"email": viewer.email, "otp_code": first}
        assert (await nobody.post(f"{AUTH}/login/verify/", json=body)).status_code == 401, "the former is void"
    answer = await nobody.post(
        f"{AUTH}/verify-otp/", json={"email": viewer.email, "otp_code": second, "purpose": "login"}
    )
    assert answer.status_code == 200, answer.text
    # the same account has a factor to show again: another code
    clock.tick(400)
    await nobody.post(f"{AUTH}/send-otp/", json={"email": viewer.email, "purpose": "factor"})
    await accounts.drain()
    shown = await nobody.post(f"{AUTH}/factor/", headers=bearer(answer), json={"otp_code": outbox.sent[-1][2]})
    assert shown.status_code == 200, shown.text


@pytest.mark.usefixtures("only_cloud")
async def test_who_knows_an_address_alone_voids_no_login_that_was_begun(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    await nobody.post(f"{AUTH}/login/", json={"email": asha.email, "password": PASSWORD})
    assert (await nobody.post(f"{AUTH}/login/", json={"email": asha.email})).status_code == 200
    body = {"email": asha.email, "otp_code": asha.code()}
    assert (await nobody.post(f"{AUTH}/login/verify/", json=body)).status_code == 200


@pytest.mark.usefixtures("only_cloud")
async def test_a_code_by_mail_does_not_stand_for_a_password(
    nobody: httpx.AsyncClient, accounts: Accounts, outbox: FakeMessenger, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    for path, body in (
        ("login/", {"email": asha.email}),
        ("send-otp/", {"email": asha.email}),
        ("register/", {"email": asha.email, "name": "Asha", "password": "a password of mine"}),
    ):
        assert (await nobody.post(f"{AUTH}/{path}", json=body)).status_code == 200
    await accounts.drain()
    assert outbox.sent == []
    assert (await accounts.user(asha.email)).password_hash == asha.user.password_hash


# --- other people's accounts ----------------------------------------------------------------------------------------
async def test_an_administrator_makes_changes_and_shuts_out(
    nobody: httpx.AsyncClient, accounts: Accounts, admin_client: httpx.AsyncClient, clock: FakeClock
) -> None:
    body = {"email": "juma@example.org", "name": "Juma", "role": "ranger", "password": PASSWORD, "stations": ["*"]}
    made = await admin_client.post("/api/v1/users/", json=body)
    assert made.status_code == 201, made.text
    user = made.json()["user"]
    assert len(made.json()["recovery_codes"]) == 10
    assert (await admin_client.post("/api/v1/users/", json=body)).status_code == 409
    juma = Ranger(user["email"], await accounts.user(user["id"]), made.json()["totp_secret"], [], clock)
    header = bearer(await log_in(nobody, juma))
    changed = await admin_client.patch(f"/api/v1/users/{user['id']}/", json={"role": "viewer"})
    assert changed.json()["role"] == "viewer"
    assert (await nobody.get(f"{AUTH}/me/", headers=header)).json()["role"] == "viewer", "at once, in the same session"
    shut = await admin_client.post(f"/api/v1/users/{user['id']}/revoke/")
    assert shut.json()["is_active"] is False
    assert (await nobody.get(f"{AUTH}/me/", headers=header)).status_code == 401
    clock.tick(60)
    assert (await log_in(nobody, juma)).status_code == 401
    assert (await admin_client.post(f"/api/v1/users/{user['id']}/restore/")).json()["is_active"] is True
    assert (await log_in(nobody, juma)).status_code == 200
    listed = (await admin_client.get("/api/v1/users/?search=juma")).json()
    assert [each["email"] for each in listed["results"]] == ["juma@example.org"]


async def test_a_manager_invites_rangers_and_viewers_and_the_last_administrator_stays(
    app: Litestar, accounts: Accounts, manager_user: User, admin_user: User, admin_client: httpx.AsyncClient
) -> None:
    access, _ = await logged_in(accounts, manager_user)
    async with client_of(app, TokenAuth(lambda: access)) as manager:
        body = {"email": "juma@example.org", "name": "Juma", "password": PASSWORD, "stations": []}
        assert (await manager.post("/api/v1/users/", json={**body, "role": "admin"})).status_code == 403
        assert (await manager.post("/api/v1/users/", json={**body, "role": "ranger"})).status_code == 201
    for change in ({"role": "viewer"}, {"is_active": False}):
        answer = await admin_client.patch(f"/api/v1/users/{admin_user.id}/", json=change)
        assert (answer.status_code, "last administrator" in answer.json()["detail"]) == (409, True)
    assert (await admin_client.post(f"/api/v1/users/{admin_user.id}/revoke/")).status_code == 409


# --- API keys and the audit log -------------------------------------------------------------------------------------
async def test_a_key_is_rotated_without_a_gap_and_ends(
    nobody: httpx.AsyncClient, accounts: Accounts, admin_client: httpx.AsyncClient, clock: FakeClock
) -> None:
    body = {"name": "gateway", "scopes": ["tracking:write", "tracking:read"], "role": "ranger", "stations": ["*"]}
    made = (await admin_client.post("/api/v1/api-keys/", json=body)).json()
    first = made["key"]
    assert first.startswith(f"wc_{made['id']}_")
    assert (await admin_client.get("/api/v1/api-keys/")).json()["results"][0]["key"] is None

    async def works(key: str) -> bool:
        return (await nobody.get("/api/v1/tracking/", headers={"X-API-Key": key})).status_code == 200

    second = (await admin_client.post(f"/api/v1/api-keys/{made['id']}/rotate/")).json()["key"]
    assert [await works(first), await works(second)] == [True, True]
    clock.tick(7 * 86_400 + 1)
    assert [await works(first), await works(second)] == [False, True]
    clock.set_state(ClockState.HELD)
    assert await works(first), "on an unsure clock no gateway falls silent"
    clock.set_state(ClockState.NTP)
    clock.tick(90 * 86_400)
    assert not await works(second)
    text = (await accounts.make_key(OPERATOR, name="x", role="viewer", scopes=["tracking:read"], stations=()))[1]
    assert await works(text)
    access, _ = await logged_in(accounts, await person(accounts, "admin"))
    removed = await nobody.delete(
        f"/api/v1/api-keys/{text.split('_')[1]}/", headers={"Authorization": f"Bearer {access}"}
    )
    assert removed.status_code == 204
    assert not await works(text)
    bad = await nobody.post(
        "/api/v1/api-keys/", headers={"Authorization": f"Bearer {access}"}, json={**body, "scopes": ["everything"]}
    )
    assert bad.status_code == 400


async def test_exact_reads_are_in_a_chain_that_shows_what_was_altered(
    accounts: Accounts, authenticated_client: httpx.AsyncClient, viewer_client: httpx.AsyncClient,
    client: httpx.AsyncClient, ranger_user: User,
) -> None:  # fmt: skip
    for _ in range(3):
        await authenticated_client.get("/api/v1/tracking/?bbox=1,2,3,4")
    await viewer_client.get("/api/v1/tracking/")
    log = (await client.get("/api/v1/audit/?page_size=100")).json()
    reads = [(line["actor"], line["detail"]) for line in log["results"] if line["action"] == "read"]
    assert reads == [(ranger_user.id, "/api/v1/tracking?bbox=1,2,3,4")] or reads == [
        (ranger_user.id, "/api/v1/tracking/?bbox=1,2,3,4")
    ]
    assert log["broken_at"] is None

    def alter() -> Job[None]:
        yield "UPDATE audit SET detail = 'nothing' WHERE seq = 1", ()

    await accounts.tables.write(alter())
    assert (await client.get("/api/v1/audit/")).json()["broken_at"] == 1


async def test_old_lines_leave_the_audit_log_and_what_is_left_is_a_chain_that_says_so(
    accounts: Accounts, client: httpx.AsyncClient, clock: FakeClock
) -> None:
    async def told() -> tuple[int, Any, list[tuple[str, str]]]:
        log = (await client.get("/api/v1/audit/?page_size=100")).json()
        return log["count"], log["broken_at"], [(line["action"], line["detail"]) for line in log["results"]]

    first = accounts.moments().ms
    await accounts.note([audit.Entry(first, "a", "read", str(n)) for n in range(5)])
    await accounts.note([audit.Entry(first + 900 * 86_400_000, "a", "read", "of a clock that ran ahead")])
    clock.tick(100 * 86_400)
    await accounts.note([audit.Entry(accounts.moments().ms, "a", "read", "new")])
    clock.set_state(ClockState.HELD)
    assert await accounts.prune_audit(30) == 0
    clock.set_state(ClockState.NTP)
    assert await accounts.prune_audit(30) == 6
    count, broken_at, lines = await told()
    assert (count, broken_at) == (2, None)
    assert [action for action, _ in lines] == ["audit.prune", "read"]
    assert lines[0][1].startswith("6 ")
    assert await accounts.prune_audit(30) == 0
    await accounts.note([audit.Entry(accounts.moments().ms, "a", "read", "after")])
    clock.tick(31 * 86_400)
    assert await accounts.prune_audit(30) == 3  # also the line that told of the first time
    assert (await told())[:2] == (1, None)

    def cut() -> Job[None]:
        before = "(SELECT prev_hash FROM audit LIMIT 1)"
        yield f"UPDATE facts SET value = '7 ' || {before} WHERE name = 'audit_checkpoint'", ()

    await accounts.tables.write(cut())
    assert (await told())[1] is not None
    with pytest.raises(Conflict, match="broken"):
        await accounts.prune_audit(30)


async def test_a_log_that_somebody_cut_is_no_chain(accounts: Accounts, client: httpx.AsyncClient) -> None:
    await accounts.note([audit.Entry(accounts.moments().ms, "a", "read", str(n)) for n in range(5)])

    def cut() -> Job[None]:
        rows = yield "SELECT seq, hash FROM audit WHERE seq = 3", ()
        yield "DELETE FROM audit WHERE seq <= 3", ()
        yield "INSERT INTO facts (name, value) VALUES ('audit_checkpoint', ?)", (f"{rows[0][0]} {rows[0][1]}",)

    await accounts.tables.write(cut())
    assert (await client.get("/api/v1/audit/")).json()["broken_at"] == 3


async def test_nothing_that_is_kept_is_a_secret_in_the_clear(
    nobody: httpx.AsyncClient, accounts: Accounts, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    _, refresh = await logged_in(accounts, asha.user)
    kept: list[str] = []

    def everything() -> Job[None]:
        for table in ("users", "sessions", "refresh_tokens", "challenges", "attempts", "api_keys", "audit"):
            rows = yield f"SELECT * FROM {table}", ()
            kept.append(str(rows))

    await accounts.tables.read(everything())
    whole = "".join(kept)
    assert asha.email in whole
    for secret in (PASSWORD, refresh, asha.recovery_codes[0], asha._totp.secret):
        assert secret not in whole
