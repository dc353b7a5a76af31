"""Passwords: Argon2id, never below OWASP's floor (19 MiB, two passes, one lane), and not one that everybody uses.

Rules follow ASVS 5.0, chapter 6: at least 8 characters, up to 256, no rules of composition, no forced change, and none
of the common ones, which are looked up offline in the list that zxcvbn brings along.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from shared.errors import Invalid

MEMORY_KIB: Final = 19_456
TIME_COST: Final = 2
SHORTEST: Final = 8
LONGEST: Final = 256
#: A login may take this long on the machine that it is calibrated for, in seconds.
TARGET_S: Final = 0.25
_HIGHEST_TIME_COST: Final = 6


class Hasher:
    """Hashes and checks; a stored hash of lower cost is to be made anew at the next login."""

    def __init__(self, time_cost: int = TIME_COST) -> None:
        self.time_cost = max(time_cost, TIME_COST)
        self._argon2 = PasswordHasher(time_cost=self.time_cost, memory_cost=MEMORY_KIB, parallelism=1)
        self._nobody = ""

    def hash(self, password: str) -> str:
        """Return the hash of a password."""
        return self._argon2.hash(_plain(password))

    def is_right(self, kept: str | None, password: str) -> bool:
        """Say whether ``password`` is the one of ``kept``; for None it takes as long, and is not."""
        if kept is None:
            self._nobody = self._nobody or self._argon2.hash("nobody has this password")
        try:
            self._argon2.verify(self._nobody if kept is None else kept, _plain(password))
        except (VerifyMismatchError, VerificationError, InvalidHashError):
            return False
        return kept is not None

    def needs_rehash(self, kept: str) -> bool:
        """Say whether ``kept`` was made with other cost than ours."""
        return self._argon2.check_needs_rehash(kept)


def calibrated(monotonic: Callable[[], float]) -> int:
    """Return the number of passes that takes a quarter of a second here, never below the floor."""
    hasher = Hasher()
    began_s = monotonic()
    hasher.hash("calibration")
    took_s = max(monotonic() - began_s, 1e-3)
    return min(max(int(TIME_COST * TARGET_S / took_s), TIME_COST), _HIGHEST_TIME_COST)


def check_new(field: str, password: str, *about: str) -> str:
    """Return a password that may be set; raises Invalid. ``about`` is what is known of its owner: name, mail."""
    plain = _plain(password)
    if not SHORTEST <= len(plain) <= LONGEST:
        raise Invalid(f"{field}: must have {SHORTEST} to {LONGEST} characters; a few words are easy to remember")
    lowered = plain.lower()
    if lowered in _common():
        raise Invalid(f"{field}: is one of the passwords that are tried first; take another")
    if lowered in {part.lower() for word in about for part in (word, *word.split("@"), *word.split())}:
        raise Invalid(f"{field}: must not be your name or address")
    if len(set(lowered)) < 4:
        raise Invalid(f"{field}: repeats too few characters")
    return password


def _plain(password: str) -> str:
    # two keyboards may spell one letter differently
    return unicodedata.normalize("NFKC", password)


@cache
def _common() -> frozenset[str]:
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(word.lower() for word in FREQUENCY_LISTS["passwords"])
