"""How long who has logged in stays so: refresh tokens, age, want of use, cookies of browsers."""

from __future__ import annotations

from datetime import timedelta

import httpx
import jwt
import pytest
from litestar import Litestar

from shared.accounts.service import Accounts
from shared.clock import ClockState
from shared.errors import NotAuthenticated
from shared.store import Store
from tests.access import accounts_over, logged_in
from tests.contract.logins import AUTH, enter, log_in
from tests.fakes import FakeClock

pytestmark = [
    pytest.mark.api,
    pytest.mark.auth,
    pytest.mark.usefixtures("after_release", "only_homes"),
]


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
