"""One's own account, other people's, API keys, and the log of who did what."""

from __future__ import annotations

from typing import Any

import httpx
import pyotp
import pytest
from litestar import Litestar

from shared.accounts import audit
from shared.accounts.service import Accounts
from shared.accounts.users import Job, User
from shared.clock import ClockState
from shared.errors import Conflict
from shared.privacy import OPERATOR
from tests.access import TokenAuth, logged_in, person
from tests.contract.conftest import client_of
from tests.contract.logins import AUTH, PASSWORD, Ranger, bearer, enter, log_in
from tests.fakes import FakeClock

pytestmark = [
    pytest.mark.api,
    pytest.mark.auth,
    pytest.mark.usefixtures("after_release", "only_homes"),
]


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
