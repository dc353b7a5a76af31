"""The second factor that needs no internet: TOTP (RFC 6238, 30 s, six digits), and recovery codes on paper.

A code counts once: the step that it was of is kept, and no earlier one counts again. A phone's clock may be a step off.

Where this home's clock is wrong, the code of a right phone is of another step. Then **two codes in a row** are asked
for, which takes a person at most a minute: they are looked for from the last step that is known to have been (the
build of this program, the last code) up to a year ahead. Twelve digits in a million places are found by chance once
in a million tries, and tries are limited. A wrong clock therefore holds nobody up
for longer, and an old code is worth nothing whatever the clock says.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

import pyotp

from shared.wire.link import CODE_ALPHABET

STEP_S: Final = 30
DIGITS: Final = 6
RECOVERY_CODES: Final = 10
#: 24 letters of 5 bits: 120 bits, so that a fast hash is enough.
_RECOVERY_LETTERS: Final = 24
_STEPS_AHEAD: Final = 366 * 86_400 // STEP_S
_STEPS_NEAR: Final = 3 * 86_400 // STEP_S
#: No step lies before this program was written (2026-11-01).
EARLIEST_STEP: Final = 1_793_491_200 // STEP_S


def new_seed() -> str:
    """Return a new secret (160 bits, base 32)."""
    return pyotp.random_base32()


def enrolment_uri(seed: str, account: str, home: str) -> str:
    """Return what an authenticator app reads from a QR code."""
    return pyotp.TOTP(seed).provisioning_uri(name=account, issuer_name=home)


def matched_step(seed: str, code: str, now_ms: int, last_step: int) -> int | None:
    """Return the step that ``code`` is of, a step around now and after ``last_step``; None where there is none."""
    if not _is_code(code):
        return None
    totp = pyotp.TOTP(seed)
    here = now_ms // 1000 // STEP_S
    for step in (here, here - 1, here + 1):
        if step > last_step and step >= 0 and hmac.compare_digest(totp.generate_otp(step), code):
            return step
    return None


def matched_pair(seed: str, first: str, second: str, now_ms: int, last_step: int) -> int | None:
    """Return the step of the second of two codes in a row, wherever the clock stands; None where there is none.

    May take seconds: not on an event loop.
    """
    if not (_is_code(first) and _is_code(second)):
        return None
    key = pyotp.TOTP(seed).byte_secret()
    here = now_ms // 1000 // STEP_S
    lowest = max(EARLIEST_STEP, last_step + 1)
    highest = max(lowest, here) + _STEPS_AHEAD
    # a clock is mostly off by hours or days, so what is near is looked at first
    near = range(max(lowest, here - _STEPS_NEAR), max(lowest, here + _STEPS_NEAR))
    wanted = int(first), int(second)
    found = _pair_in(key, wanted, near)
    return _pair_in(key, wanted, range(lowest, highest)) if found is None else found


def _pair_in(key: bytes, wanted: tuple[int, int], steps: range) -> int | None:
    before = -1
    for step in steps:
        code = _hotp(key, step)
        if before == wanted[0] and code == wanted[1]:
            return step
        before = code
    return None


def _hotp(key: bytes, counter: int) -> int:
    digest = hmac.digest(key, counter.to_bytes(8, "big"), "sha1")
    at = digest[-1] & 0x0F
    return (int.from_bytes(digest[at : at + 4], "big") & 0x7FFF_FFFF) % 1_000_000


def _is_code(code: str) -> bool:
    return len(code) == DIGITS and code.isascii() and code.isdigit()


def new_recovery_codes() -> list[str]:
    """Return ten codes to write down, each good once."""
    return ["-".join(_letters(4) for _ in range(_RECOVERY_LETTERS // 4)) for _ in range(RECOVERY_CODES)]


def recovery_hash(code: str) -> str:
    """Return what is kept of a recovery code, however it was typed."""
    plain = "".join(code.split()).replace("-", "").upper().replace("O", "0").replace("I", "1").replace("L", "1")
    return hashlib.sha256(plain.encode()).hexdigest()


def new_otp() -> str:
    """Return a code of six digits to send."""
    return f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"


def otp_hash(challenge_id: str, code: str, pepper: bytes) -> str:
    """Return what is kept of a code that was sent; without the home's ``pepper`` it would be found in no time."""
    return hmac.new(pepper, f"{challenge_id}\0{code}".encode(), hashlib.sha256).hexdigest()


def _letters(count: int) -> str:
    return "".join(secrets.choice(CODE_ALPHABET) for _ in range(count))
