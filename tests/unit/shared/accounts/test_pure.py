"""What accounts are made of, one by one: moments, tokens, codes, limits, sealed secrets."""

from __future__ import annotations

import base64
import json
import time

import jwt
import pyotp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from shared.accounts import factors, limits, sealing
from shared.accounts.moments import Moment, elapsed_s, packed, unpacked
from shared.accounts.passwords import MEMORY_KIB, Hasher, calibrated, check_new
from shared.accounts.tokens import ACCESS_S, Signer
from shared.errors import Invalid, NotAuthenticated
from shared.wire.signatures import new_key

pytestmark = [pytest.mark.unit, pytest.mark.auth]

SEED = bytes(range(32))
NOW = Moment(1_800_000_000_000, 5_000_000, "b", is_sure=True)


def later(seconds: float, *, wall_s: float | None = None, boot: str = "b", is_sure: bool = True) -> Moment:
    wall = seconds if wall_s is None else wall_s
    return Moment(NOW.ms + round(wall * 1000), NOW.mono_ms + round(seconds * 1000), boot, is_sure)


# --- moments
@given(step_s=st.floats(-1e10, 1e10), passed_s=st.floats(0, 1e6), is_sure=st.booleans())
def test_within_a_boot_no_step_of_the_wall_clock_counts(step_s: float, passed_s: float, is_sure: bool) -> None:
    found = elapsed_s(NOW, later(passed_s, wall_s=step_s, is_sure=is_sure))
    assert found == pytest.approx(passed_s, abs=2e-3)


def test_across_boots_only_sure_clocks_that_ran_on_count() -> None:
    assert elapsed_s(NOW, later(100, boot="c")) == 100
    assert elapsed_s(NOW, later(100, boot="c", is_sure=False)) is None
    assert elapsed_s(NOW, later(-3_600, boot="c")) is None
    assert elapsed_s(NOW, later(-30, boot="c")) == 0
    assert elapsed_s(NOW, later(-1)) is None
    nameless = Moment(NOW.ms, NOW.mono_ms, "", is_sure=False)
    assert elapsed_s(nameless, nameless) is None
    assert unpacked(packed(NOW)) == NOW


# --- tokens
def test_a_token_is_read_by_its_home_for_fifteen_minutes() -> None:
    signer = Signer(SEED, "outpost-station:post-1")
    token = signer.access_token("asha", "s1", NOW)
    found = signer.read(token, later(ACCESS_S))
    assert (found.user_id, found.session_id, found.made) == ("asha", "s1", NOW)
    header = jwt.get_unverified_header(token)
    assert (header["alg"], header["typ"], header["kid"]) == ("EdDSA", "at+jwt", signer.kid)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == ACCESS_S
    for moment in (later(ACCESS_S + 1), later(10, boot="c", is_sure=False), later(-5)):
        with pytest.raises(NotAuthenticated, match="expired"):
            signer.read(token, moment)
    assert signer.read(token, later(10, wall_s=-1e9, is_sure=False)).user_id == "asha"


def test_a_token_of_another_key_home_kind_or_algorithm_is_none() -> None:
    signer = Signer(SEED, "outpost-station:post-1")
    token = signer.access_token("asha", "s1", NOW)
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    public = sealing.derived(SEED, "x")
    forged = [
        Signer(bytes(32), "outpost-station:post-1").access_token("asha", "s1", NOW),
        Signer(SEED, "outpost-station:post-2").access_token("asha", "s1", NOW),
        Signer(SEED, "outpost-cloud:post-1").access_token("asha", "s1", NOW),
        jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": signer.kid, "typ": "JWT"}),
        jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": "other", "typ": "at+jwt"}),
        jwt.encode(claims, public, algorithm="HS256", headers={"kid": signer.kid, "typ": "at+jwt"}),
        jwt.encode(claims, "", algorithm="none", headers={"kid": signer.kid, "typ": "at+jwt"}),
        jwt.encode(
            {name: claims[name] for name in claims if name != "boot"}, key, algorithm="EdDSA",
            headers={"kid": signer.kid, "typ": "at+jwt"},
        ),
        f"{head}.{body}.{signature[::-1]}", "", "a.b.c", "x" * 5_000,
    ]  # fmt: skip
    for each in forged:
        with pytest.raises(NotAuthenticated):
            signer.read(each, NOW)


# --- codes
def test_a_code_is_of_its_step_or_the_one_beside_it_and_never_of_an_earlier_one_again() -> None:
    seed = factors.new_seed()
    totp = pyotp.TOTP(seed)
    step = NOW.ms // 30_000
    for off in (-1, 0, 1):
        assert factors.matched_step(seed, totp.generate_otp(step + off), NOW.ms, 0) == step + off
    assert factors.matched_step(seed, totp.generate_otp(step), NOW.ms, step) is None
    assert factors.matched_step(seed, totp.generate_otp(step + 5), NOW.ms, 0) is None
    for bad in ("", "12345", "1234567", "abcdef", "\u0661\u0662\u0663\u0664\u0665\u0666"):
        assert factors.matched_step(seed, bad, NOW.ms, 0) is None


@pytest.mark.parametrize("off_days", [-20_000, -365, -2, 0, 1, 2])
def test_two_codes_in_a_row_are_found_wherever_the_clock_stands(off_days: int) -> None:
    seed = factors.new_seed()
    totp = pyotp.TOTP(seed)
    true = factors.EARLIEST_STEP + 20_000
    first, second = totp.generate_otp(true), totp.generate_otp(true + 1)
    home_ms = max(true * 30_000 + off_days * 86_400_000, 0)
    assert factors.matched_pair(seed, first, second, home_ms, 0) == true + 1
    assert factors.matched_pair(seed, "x", second, home_ms, 0) is None


def test_a_recovery_code_is_read_however_it_is_typed() -> None:
    codes = factors.new_recovery_codes()
    assert len(set(codes)) == 10
    code = codes[0]
    typed = code.lower().replace("0", "o").replace("1", "l").replace("-", "  ")
    assert factors.recovery_hash(typed) == factors.recovery_hash(code)
    assert len({factors.recovery_hash(each) for each in codes}) == 10


def test_a_code_that_is_sent_is_kept_as_nobody_else_can_find_it() -> None:
    assert factors.otp_hash("c", "123456", b"p") != factors.otp_hash("c", "123456", b"q")
    assert factors.otp_hash("c", "123456", b"p") != factors.otp_hash("d", "123456", b"p")
    assert all(len(factors.new_otp()) == 6 for _ in range(100))


# --- limits
def test_the_sixth_attempt_of_a_minute_waits_for_the_first_to_be_a_minute_old() -> None:
    attempts = [later(second) for second in range(0, 50, 10)]
    assert limits.wait_s(attempts[:4], later(50)) == 0
    assert limits.wait_s(attempts, later(50)) == pytest.approx(10, abs=0.01)
    assert limits.wait_s(attempts, later(60)) == 0


@given(st.lists(st.floats(0, 7_200), max_size=60), st.floats(0, 7_200))
def test_nobody_waits_longer_than_a_quarter_of_an_hour(times: list[float], at: float) -> None:
    attempts = [later(each) for each in sorted(times) if each <= at]
    waits = limits.wait_s(attempts, later(at))
    assert 0 <= waits <= limits.LONGEST_WAIT_S
    assert limits.wait_s(attempts, later(at + waits)) == 0


def test_attempts_of_unknown_age_count_as_just_made() -> None:
    attempts = [later(0, is_sure=False)] * 5
    assert limits.wait_s(attempts, later(5_000, boot="c")) == pytest.approx(60, abs=0.01)


# --- secrets
def test_what_is_sealed_opens_with_its_key_at_its_place_alone() -> None:
    key = sealing.derived(SEED, "seeds")
    sealed = sealing.seal(key, "JBSWY3DP", "totp 1")
    assert "JBSWY3DP" not in sealed
    assert sealing.unseal(key, sealed, "totp 1") == "JBSWY3DP"
    for other, text, place in (
        (sealing.derived(SEED, "other"), sealed, "totp 1"), (key, sealed, "totp 2"), (key, sealed[:-8], "totp 1"),
        (key, "?", "totp 1"),
    ):  # fmt: skip
        with pytest.raises(Invalid, match="does not open"):
            sealing.unseal(other, text, place)


def test_what_is_sealed_for_a_station_is_read_by_that_station_alone() -> None:
    private, public = new_key()
    sealed = sealing.seal_for(public, "JBSWY3DP", "totp 1")
    assert sealing.unseal_mine(private, sealed, "totp 1") == "JBSWY3DP"
    assert sealing.seal_for(public, "JBSWY3DP", "totp 1") != sealed
    for key, place in ((new_key()[0], "totp 1"), (private, "totp 2")):
        with pytest.raises(Invalid):
            sealing.unseal_mine(key, sealed, place)
    with pytest.raises(Invalid):
        sealing.unseal_mine(private, "nonsense", "totp 1")


@given(st.binary(min_size=16, max_size=16))
def test_an_id_has_one_other_face_and_comes_back(raw: bytes) -> None:
    veil = sealing.IdVeil(SEED)
    assert veil.unveiled(veil.veiled(raw)) == raw
    assert veil.veiled(raw) != raw


# --- passwords
def test_a_password_is_hashed_above_the_floor_whatever_is_asked_for() -> None:
    hasher = Hasher(1)
    kept = hasher.hash("seven giraffes at dawn")
    assert f"m={MEMORY_KIB},t=2,p=1" in kept
    assert kept.startswith("$argon2id$")
    assert hasher.is_right(kept, "seven giraffes at dawn")
    assert not hasher.is_right(kept, "seven giraffes at dusk")
    assert not hasher.is_right(None, "seven giraffes at dawn")
    assert not hasher.is_right("nonsense", "seven giraffes at dawn")
    assert Hasher(3).needs_rehash(kept)
    assert not hasher.needs_rehash(kept)
    assert hasher.is_right(Hasher(2).hash("caf\u00e9 au lait"), "cafe\u0301 au lait"), "two keyboards, one password"
    assert 2 <= calibrated(time.monotonic) <= 6


@pytest.mark.parametrize(
    "password", ["short", "Password1", "12345678", "x" * 257, "aaaabbbb", "Asha Njeri", "asha@e.org"]
)
def test_a_password_that_is_guessed_first_is_refused(password: str) -> None:
    with pytest.raises(Invalid, match="password: "):
        check_new("password", password, "asha@e.org", "Asha Njeri")
    assert check_new("password", "three wet rhinos", "asha@e.org") == "three wet rhinos"
