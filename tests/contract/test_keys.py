"""What is personal is sealed under a named key, keys are changed while people use them, and nothing is lost by it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
import pytest
from msgspec.structs import replace

from shared.accounts import rotation, sealing
from shared.accounts.fields import FieldKeys
from shared.accounts.moments import sure_ms
from shared.accounts.service import Accounts
from shared.accounts.users import Job, User
from shared.errors import Invalid, StoreError
from shared.privacy import OPERATOR
from shared.store import Store
from shared.sync import clashes
from shared.sync.clashes import Clash
from shared.sync.sweeping import sweep
from tests.access import SECRET, accounts_over, logged_in
from tests.contract.logins import PASSWORD, enter, log_in
from tests.fakes import FakeClock

pytestmark = [pytest.mark.api, pytest.mark.auth, pytest.mark.usefixtures("only_homes")]

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
NUMBER = "+254700123456"
CLASH = Clash(
    id="c1", kind="same_column", entity="ranger", row_id="r1", ours=f'{{"phone":"{NUMBER}"}}',
    theirs='{"phone":"+254711000000"}', author="r1", origin="post-1", made_ms=0, noted_ms=0, needs_person=False,
)  # fmt: skip


@pytest.fixture
def clock() -> FakeClock:
    """Give a clock of a time after this program was written."""
    return FakeClock(NOW)


def rows(table: str, *columns: str) -> Job[list[tuple[Any, ...]]]:
    return (yield f"SELECT {', '.join(columns)} FROM {table} ORDER BY id", ())


async def kept(accounts: Accounts) -> list[str]:
    """Return every personal text as the database has it."""
    found = await accounts.tables.read(rows("users", "phone", "totp_sealed", "totp_pending"))
    found += await accounts.tables.read(rows("rangers", "phone", "emergency_contact"))
    return [text for row in found for text in row if text is not None]


async def user_with_phone(accounts: Accounts, n: int = 0) -> User:
    made, _, _ = await accounts.add_user(
        OPERATOR, email=f"u{n}@example.org", name="U", role="ranger", password=PASSWORD, stations=("*",), phone=NUMBER
    )
    return made


async def test_no_telephone_number_and_no_seed_is_in_the_clear(accounts: Accounts, client: httpx.AsyncClient) -> None:
    made = await user_with_phone(accounts)
    answer = await client.post(
        "/api/v1/rangers/rangers/",
        json={"name": "Asha", "badge_number": "7", "phone": NUMBER, "emergency_contact": f"Bo, {NUMBER}"},
    )
    assert (answer.status_code, answer.json()["phone"]) == (201, NUMBER)
    texts = await kept(accounts)
    assert len(texts) == 4
    assert all(text.startswith("s1.0.") for text in texts), texts
    assert (await accounts.user(made.id)).phone == NUMBER
    listed = (await client.get("/api/v1/rangers/rangers/")).json()["results"]
    assert [(each["phone"], each["emergency_contact"]) for each in listed] == [(NUMBER, f"Bo, {NUMBER}")]
    one = (await client.get(f"/api/v1/rangers/rangers/{answer.json()['id']}/")).json()
    assert one["emergency_contact"] == f"Bo, {NUMBER}"
    changed = await client.patch(f"/api/v1/rangers/rangers/{answer.json()['id']}/", json={"name": "Asha N."})
    assert changed.json()["phone"] == NUMBER, "an edit of another column leaves it"


async def test_a_conflict_over_a_number_keeps_it_sealed_and_tells_it(
    accounts: Accounts, client: httpx.AsyncClient
) -> None:
    of_animal = replace(CLASH, id="c2", entity="animal", ours='{"notes":"x"}', theirs='{"notes":"y"}')
    await accounts.tables.write(clashes.note([CLASH, of_animal]))
    of_numbers, of_notes = await accounts.tables.read(rows("conflicts", "ours", "theirs"))
    assert all(text.startswith("s1.0.") for text in of_numbers)
    assert tuple(of_notes) == ('{"notes":"x"}', '{"notes":"y"}')
    found = {each["id"]: each for each in (await client.get("/api/v1/conflicts/")).json()["results"]}
    assert found["c1"]["server"] == {"phone": NUMBER}
    assert found["c2"]["client"] == {"notes": "y"}
    name = await accounts.rotate_field_key(OPERATOR)
    assert await accounts.reseal(OPERATOR) == 2
    assert (await accounts.key_status()).sealed == {name: 2}
    (one,) = (await client.get("/api/v1/conflicts/?entity=ranger")).json()["results"]
    assert one["client"] == {"phone": "+254711000000"}


async def test_a_sealed_value_opens_in_its_own_place_alone(accounts: Accounts) -> None:
    one, other = await user_with_phone(accounts), await user_with_phone(accounts, 1)
    ((sealed, _), *_) = await accounts.tables.read(rows("users", "phone", "id"))

    def moved() -> Job[None]:
        yield "UPDATE users SET phone = ? WHERE id IN (?, ?)", (sealed, one.id, other.id)

    await accounts.tables.write(moved())
    with pytest.raises(Invalid, match="does not open"):
        await accounts.users()


async def test_another_key_seals_and_the_former_opens_until_all_is_sealed_anew(accounts: Accounts) -> None:
    for n in range(3):
        await user_with_phone(accounts, n)
    name = await accounts.rotate_field_key(OPERATOR)
    await user_with_phone(accounts, 3)
    before = await accounts.key_status()
    assert (before.field_key, before.sealed) == (name, dict(sorted({"0": 6, name: 2}.items())))
    assert {user.phone for user in await accounts.users()} == {NUMBER}
    assert await accounts.reseal(OPERATOR) == 6
    after = await accounts.key_status()
    assert after.sealed == {name: 8}
    assert {user.phone for user in await accounts.users()} == {NUMBER}
    assert await accounts.reseal(OPERATOR) == 0
    _, lines, broken_at = await accounts.audit_page(0, 10)
    assert broken_at is None
    assert {"key.fields", "key.resealed"} <= {line.action for line in lines}
    assert {line.actor for line in lines if line.action.startswith("key.")} == {OPERATOR.user_id}


async def test_whoever_is_killed_between_two_turns_loses_nothing(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "TURN", 2)
    for n in range(4):
        await user_with_phone(accounts, n)
    name = await accounts.rotate_field_key(OPERATOR)

    class Killed(Exception):
        pass

    def killed(done: int) -> None:
        if done >= 4:
            raise Killed

    with pytest.raises(Killed):
        await accounts.reseal(OPERATOR, killed)
    assert (await accounts.key_status()).sealed == dict(sorted({"0": 4, name: 4}.items()))
    assert [user.phone for user in await accounts.users()] == [NUMBER] * 4
    assert await accounts.reseal(OPERATOR) == 4
    assert (await accounts.key_status()).sealed == {name: 8}


async def test_what_was_kept_before_keys_had_names_is_sealed_by_the_next_sweep(
    accounts: Accounts, clock: FakeClock
) -> None:
    made = await user_with_phone(accounts)
    seed = accounts.unsealed_totp(await accounts.user(made.id))
    assert seed is not None
    old = sealing.seal(sealing.derived(SECRET, "seeds"), seed, f"totp {made.id}")

    def as_it_was() -> Job[None]:
        yield "UPDATE users SET phone = ?, totp_sealed = ? WHERE id = ?", (NUMBER, old, made.id)

    await accounts.tables.write(as_it_was())
    assert (await accounts.key_status()).sealed == {"before": 2}
    known = await accounts.user(made.id)
    assert (known.phone, accounts.unsealed_totp(known)) == (NUMBER, seed)
    assert (await sweep(accounts, None)).resealed == 2
    known = await accounts.user(made.id)
    assert (known.phone, accounts.unsealed_totp(known)) == (NUMBER, seed)
    assert (await accounts.key_status()).sealed == {"0": 2}


async def test_an_app_s_code_is_good_after_every_change_of_keys(
    accounts: Accounts, nobody: httpx.AsyncClient, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    await accounts.rotate_field_key(OPERATOR)
    clock.tick(60)
    assert (await log_in(nobody, asha)).status_code == 200
    await accounts.reseal(OPERATOR)
    clock.tick(60)
    assert (await log_in(nobody, asha)).status_code == 200


async def test_a_token_of_a_former_key_is_good_until_it_ends_and_the_next_is_of_the_new_one(
    accounts: Accounts, nobody: httpx.AsyncClient, clock: FakeClock, store: Store
) -> None:
    asha = await enter(accounts, clock)
    access, refresh = await logged_in(accounts, asha.user)
    # another process of this home changes the key
    elsewhere = accounts_over(store, clock)
    name = await elsewhere.rotate_token_key(OPERATOR)
    me = "/api/v1/auth/me/"
    assert (await nobody.get(me, headers={"Authorization": f"Bearer {access}"})).status_code == 200
    answer = await nobody.post("/api/v1/auth/refresh/", json={"refresh": refresh})
    assert answer.status_code == 200, answer.text
    fresh = answer.json()["access"]
    assert jwt.get_unverified_header(fresh)["kid"] == name
    assert (await nobody.get(me, headers={"Authorization": f"Bearer {fresh}"})).status_code == 200
    assert (await accounts.key_status()).token_keys_ending == ("0",)
    clock.tick(17 * 60)
    assert (await accounts.key_status()).token_keys_ending == ()


async def test_a_former_key_signs_for_nobody_once_its_tokens_have_ended(
    accounts: Accounts, nobody: httpx.AsyncClient, clock: FakeClock
) -> None:
    stolen = accounts.signer.current
    await accounts.rotate_token_key(OPERATOR)
    clock.tick(17 * 60)
    accounts.signer.current = stolen
    forged = accounts.machine_token()
    answer = await nobody.get("/api/v1/users/", headers={"Authorization": f"Bearer {forged}"})
    assert answer.status_code == 401
    assert "a key that has ended" in answer.text


async def test_a_leaked_signing_key_is_ended_at_once_and_people_go_on_with_their_refresh_tokens(
    accounts: Accounts, nobody: httpx.AsyncClient, clock: FakeClock
) -> None:
    asha = await enter(accounts, clock)
    access, refresh = await logged_in(accounts, asha.user)
    await accounts.rotate_token_key(OPERATOR, is_at_once=True)
    me = "/api/v1/auth/me/"
    assert (await nobody.get(me, headers={"Authorization": f"Bearer {access}"})).status_code == 401
    answer = await nobody.post("/api/v1/auth/refresh/", json={"refresh": refresh})
    assert answer.status_code == 200
    assert (await nobody.get(me, headers={"Authorization": f"Bearer {answer.json()['access']}"})).status_code == 200


async def test_a_home_that_starts_again_goes_on_with_the_keys_in_use(
    accounts: Accounts, store: Store, clock: FakeClock
) -> None:
    made = await user_with_phone(accounts)
    names = await accounts.rotate_field_key(OPERATOR), await accounts.rotate_token_key(OPERATOR)
    again = accounts_over(store, clock)
    await again.use_keys()
    assert (again.fields.current, again.signer.current) == names
    assert (await again.user(made.id)).phone == NUMBER


def test_who_has_no_secret_keeps_and_reads_nothing_personal() -> None:
    sealed = FieldKeys(bytes(32)).sealed("users.phone/1", NUMBER)
    with pytest.raises(StoreError, match="not given the home's secret"):
        FieldKeys(None).opened("users.phone/1", sealed)
    with pytest.raises(StoreError, match="not given the home's secret"):
        FieldKeys(None).sealed("users.phone/1", NUMBER)


async def test_numbers_of_who_left_long_ago_are_forgotten_and_of_nobody_else(
    accounts: Accounts, client: httpx.AsyncClient, clock: FakeClock
) -> None:
    gone, stays = await user_with_phone(accounts), await user_with_phone(accounts, 1)
    made = []
    for badge in ("1", "2"):
        body = {"name": "R" + badge, "badge_number": badge, "phone": NUMBER, "emergency_contact": NUMBER}
        made.append((await client.post("/api/v1/rangers/rangers/", json=body)).json()["id"])
    said = [replace(CLASH, id=f"of {ranger_id}", row_id=ranger_id) for ranger_id in made]
    await accounts.tables.write(clashes.note(said))
    assert (await client.delete(f"/api/v1/rangers/rangers/{made[0]}/")).status_code == 204
    await accounts.revoke(OPERATOR, gone.id)
    clock.tick(89 * 86_400)
    assert (await sweep(accounts, sure_ms(clock))).numbers == 0
    clock.tick(2 * 86_400)
    assert (await sweep(accounts, None)).numbers == 0, "nothing by date while the clock is not sure"
    assert (await sweep(accounts, sure_ms(clock))).numbers == 2
    found = await accounts.tables.read(rows("rangers", "id", "phone", "emergency_contact"))
    assert {row[0] for row in found if row[1] is None and row[2] is None} == {made[0]}
    assert (await accounts.user(gone.id)).phone is None
    assert (await accounts.user(stays.id)).phone == NUMBER
    assert await accounts.tables.read(rows("conflicts", "row_id")) == [(made[1],)]
