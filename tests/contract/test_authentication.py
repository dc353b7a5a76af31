"""Registration, login, second factor, sessions, users, keys and the audit log: one suite over both homes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar

from shared.accounts import factors
from shared.accounts.service import Accounts
from shared.clock import ClockState
from shared.privacy import OPERATOR
from tests.access import logged_in, person
from tests.contract.logins import AUTH, NOW, PASSWORD, bearer, enter, log_in
from tests.fakes import FakeClock, FakeMessenger

pytestmark = [
    pytest.mark.api,
    pytest.mark.auth,
    pytest.mark.usefixtures("after_release", "only_homes"),
]


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


# --- registration and codes that are sent ---------------------------------------------------------------------------
REGISTRATION = {"email": "vera@example.org", "name": "Vera", "phone": "+254 700 000001", "role": "admin"}


async def test_a_station_registers_nobody_and_sends_no_codes(nobody: httpx.AsyncClient, is_cloud: bool) -> None:
    if is_cloud:
        pytest.skip("the cloud does")
    for path, body in (("register/", REGISTRATION), ("send-otp/", {"email": "vera@example.org"})):
        assert (await nobody.post(f"{AUTH}/{path}", json=body)).status_code == 403
    answer = await nobody.post(f"{AUTH}/login/", json={"email": "vera@example.org"})
    assert (answer.status_code, "password" in answer.json()["detail"]) == (401, True)


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
