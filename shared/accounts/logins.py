"""What lies between naming an account and being let in: challenges, their codes, and attempts that are counted.

A challenge is good for five minutes and three tries. Its code was sent (``otp``), or is of an app or of paper
(``totp``), or it leads nowhere (``none``): an unknown address is answered like a known one.
"""

from __future__ import annotations

import hmac
from typing import Any, Final, Literal

import msgspec

from shared.accounts.moments import Moment, elapsed_s, is_within, packed, unpacked
from shared.accounts.users import Job
from shared.ids import random_id

OTP_S: Final = 300
OTP_TRIES: Final = 3
#: A session's factor counts as fresh this long, in seconds.
FRESH_S: Final = 300

Purpose = Literal["registration", "login", "factor"]
Kind = Literal["otp", "totp", "none"]
#: Forgotten after this long on the clock that made them, in seconds; a day more than anybody needs.
_KEPT_S: Final = 86_400


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """A code that is waited for. ``body`` is what a registration brought."""

    id: str
    email: str
    purpose: Purpose
    kind: Kind
    code_hash: str | None
    tries: int
    made: Moment
    address: str
    body: dict[str, Any]

    def is_open(self, now: Moment) -> bool:
        """Say whether a code may still be tried."""
        return self.tries < OTP_TRIES and is_within(self.made, now, OTP_S)


def open_challenge(challenge: Challenge) -> Job[None]:
    """Keep a challenge; earlier ones of the same account and purpose are void."""
    yield "DELETE FROM challenges WHERE email = ? AND purpose = ?", (challenge.email, challenge.purpose)
    yield (
        (
            "INSERT INTO challenges (id, email, purpose, kind, code_hash, tries, made, address, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        ),
        (
            challenge.id, challenge.email, challenge.purpose, challenge.kind, challenge.code_hash, challenge.tries,
            packed(challenge.made), challenge.address, msgspec.json.encode(challenge.body).decode(),
        ),
    )  # fmt: skip


def new_challenge(email: str, purpose: Purpose, kind: Kind, now: Moment, address: str) -> Challenge:
    """Return a challenge to open."""
    return Challenge(
        id=random_id(), email=email, purpose=purpose, kind=kind, code_hash=None, tries=0, made=now, address=address,
        body={},
    )  # fmt: skip


def newest(email: str, purpose: Purpose) -> Job[Challenge | None]:
    """Return the challenge of an account; None where there is none."""
    rows = yield (
        (
            "SELECT id, email, purpose, kind, code_hash, tries, made, address, body FROM challenges"
            " WHERE email = ? AND purpose = ?"
        ),
        (email, purpose),
    )
    if not rows:
        return None
    names = ("id", "email", "purpose", "kind", "code_hash", "tries", "made", "address", "body")
    columns = dict(zip(names, rows[0], strict=True))
    columns["made"], columns["body"] = unpacked(columns["made"]), msgspec.json.decode(columns["body"])
    return Challenge(**columns)


def count_try(challenge_id: str) -> Job[None]:
    """Count a try, before it is looked at: two at once are two."""
    yield "UPDATE challenges SET tries = tries + 1 WHERE id = ?", (challenge_id,)


def close(challenge_id: str) -> Job[None]:
    """Forget a challenge: its code was used."""
    yield "DELETE FROM challenges WHERE id = ?", (challenge_id,)


def is_sent_code(challenge: Challenge, code_hash: str) -> bool:
    """Say whether this is the code that was sent."""
    return challenge.code_hash is not None and hmac.compare_digest(challenge.code_hash, code_hash)


# --- attempts ---------------------------------------------------------------------------------------------------------
def attempts(key: str) -> Job[list[Moment]]:
    """Return when ``key`` was tried."""
    rows = yield "SELECT at FROM attempts WHERE what = ? ORDER BY n", (key,)
    return [unpacked(row[0]) for row in rows]


def count_attempt(key: str, now: Moment, memory_s: float) -> Job[None]:
    """Note an attempt, and forget those of ``key`` that are known to be older than ``memory_s``."""
    rows = yield "SELECT n, at FROM attempts WHERE what = ?", (key,)
    for n, at in rows:
        age_s = elapsed_s(unpacked(at), now)
        if age_s is not None and age_s > memory_s:
            yield "DELETE FROM attempts WHERE n = ?", (n,)
    ((last,),) = yield "SELECT coalesce(max(n), 0) FROM attempts", ()
    yield "INSERT INTO attempts (n, what, at) VALUES (?, ?, ?)", (int(last) + 1, key, packed(now))


def forgive(key: str) -> Job[None]:
    """Forget the attempts of an account: the right person came."""
    yield "DELETE FROM attempts WHERE what = ?", (key,)


def take_back(key: str) -> Job[None]:
    """Forget the last attempt from an address: it was right. Others' wrong ones stay, whoever comes from there."""
    yield "DELETE FROM attempts WHERE n = (SELECT max(n) FROM attempts WHERE what = ?)", (key,)


def sweep(now: Moment) -> Job[int]:
    """Forget challenges and attempts that are known to be a day old. Return how many."""
    gone = 0
    for table, key in (("challenges", "id"), ("attempts", "n")):
        rows = yield f"SELECT {key}, {'made' if table == 'challenges' else 'at'} FROM {table}", ()
        for identity, at in rows:
            age_s = elapsed_s(unpacked(at), now)
            if age_s is not None and age_s > _KEPT_S:
                yield f"DELETE FROM {table} WHERE {key} = ?", (identity,)
                gone += 1
    return gone
