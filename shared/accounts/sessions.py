"""Sessions: who is logged in on which device, as families of refresh tokens.

A refresh token is good once. The session remembers every token that it gave, by hash: one that comes a second time was
stolen or is used by a thief, so the whole session ends. A session ends for good 90 days after it began, counted from
the first moment at which the clock was sure; on an unsure clock nothing ends by age. It also ends when it is known that
nobody has used it for so long that its owner has gone: 12 hours of a browser, which others may sit at, 30 days of a
device that named itself at login. Within one boot the monotonic clock knows that, whatever the wall clock says.
"""

from __future__ import annotations

from typing import Final

import msgspec

from shared.accounts.moments import Moment, elapsed_s, packed, unpacked
from shared.accounts.tokens import hashed, new_refresh_token
from shared.accounts.users import Job, User, get
from shared.errors import NotAuthenticated
from shared.ids import random_id

ABSOLUTE_MS: Final = 90 * 86_400_000
#: Not used for so long a session ends: of a browser, and of a device that has a name.
IDLE_BROWSER_S: Final = 12 * 3_600.0
IDLE_DEVICE_S: Final = 30 * 86_400.0
LOG_IN_AGAIN: Final = "this session has ended: log in again"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A login on a device; ``factor`` is when the person last showed a second factor, or nothing."""

    id: str
    user_id: str
    factor: Moment | None
    revoked_ms: int | None
    born_ms: int | None
    used: Moment | None
    device_id: str | None

    def is_over(self, now: Moment) -> bool:
        """Say whether it is known to have ended by age or for want of use."""
        if now.is_sure and self.born_ms is not None and now.ms - self.born_ms > ABSOLUTE_MS:
            return True
        unused_s = None if self.used is None else elapsed_s(self.used, now)
        return unused_s is not None and unused_s > (IDLE_BROWSER_S if self.device_id is None else IDLE_DEVICE_S)


class Tokens(msgspec.Struct, frozen=True):
    """A refresh token that was just made, and the session that it is of."""

    session_id: str
    refresh: str


def begin(user: User, now: Moment, *, device_id: str | None, factor: Moment | None) -> Job[Tokens]:
    """Begin a session of a user."""
    session_id, refresh = random_id(), new_refresh_token()
    yield (
        (
            "INSERT INTO sessions (id, user_id, device_id, factor, begun_ms, born_ms, used_ms, used)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        ),
        (
            session_id, user.id, device_id, None if factor is None else packed(factor), now.ms,
            now.ms if now.is_sure else None, now.ms, packed(now),
        ),
    )  # fmt: skip
    yield _KEEP, (hashed(refresh), session_id, 1)
    return Tokens(session_id, refresh)


_KEEP: Final = "INSERT INTO refresh_tokens (hash, session_id, is_current) VALUES (?, ?, ?)"


def rotate(refresh: str, now: Moment) -> Job[tuple[User, Tokens] | None]:
    """Take a refresh token and give the next one; None where the token was used before, and its session is ended now.

    None, not an error: the end of the session must be committed. Raises NotAuthenticated for an unknown or ended one.
    """
    rows = yield "SELECT session_id, is_current FROM refresh_tokens WHERE hash = ?", (hashed(refresh),)
    if not rows:
        raise NotAuthenticated("this refresh token is not of this home, or of a session long ended")
    session_id, is_current = rows[0]
    session = yield from find(session_id)
    if session is None or session.revoked_ms is not None:
        raise NotAuthenticated(LOG_IN_AGAIN)
    if not is_current:
        yield from revoke(session_id, now.ms)
        return None
    if session.is_over(now):
        raise NotAuthenticated(LOG_IN_AGAIN)
    user = yield from get(session.user_id)
    if not user.may_enter:
        raise NotAuthenticated(LOG_IN_AGAIN)
    following = new_refresh_token()
    yield "UPDATE refresh_tokens SET is_current = 0 WHERE hash = ?", (hashed(refresh),)
    yield _KEEP, (hashed(following), session_id, 1)
    born_ms = now.ms if session.born_ms is None and now.is_sure else session.born_ms
    yield (
        "UPDATE sessions SET used_ms = ?, used = ?, born_ms = ? WHERE id = ?",
        (now.ms, packed(now), born_ms, session_id),
    )
    return user, Tokens(session_id, following)


def find(session_id: str) -> Job[Session | None]:
    """Return a session; None where there is none."""
    rows = yield (
        "SELECT id, user_id, factor, revoked_ms, born_ms, used, device_id FROM sessions WHERE id = ?",
        (session_id,),
    )
    if not rows:
        return None
    identity, user_id, factor, revoked_ms, born_ms, used, device_id = rows[0]
    return Session(
        id=identity, user_id=user_id, factor=None if factor is None else unpacked(factor), revoked_ms=revoked_ms,
        born_ms=born_ms, used=None if used is None else unpacked(used), device_id=device_id,
    )  # fmt: skip


def revoke(session_id: str, now_ms: int) -> Job[None]:
    """End a session."""
    yield "UPDATE sessions SET revoked_ms = ? WHERE id = ? AND revoked_ms IS NULL", (now_ms, session_id)


def revoke_all(user_id: str, now_ms: int, *, but: str = "", device_id: str | None = None) -> Job[None]:
    """End the sessions of a user, but for one, or those of one device."""
    if device_id is None:
        yield (
            "UPDATE sessions SET revoked_ms = ? WHERE user_id = ? AND revoked_ms IS NULL AND id <> ?",
            (now_ms, user_id, but),
        )
    else:
        yield (
            "UPDATE sessions SET revoked_ms = ? WHERE user_id = ? AND revoked_ms IS NULL AND device_id = ?",
            (now_ms, user_id, device_id),
        )


def set_factor(session_id: str, now: Moment) -> Job[None]:
    """Note that the person of a session has just shown a second factor."""
    yield "UPDATE sessions SET factor = ? WHERE id = ?", (packed(now), session_id)


def sweep(now: Moment) -> Job[int]:
    """Forget sessions that ended by age or by hand over 90 days ago; nothing on an unsure clock. Return how many."""
    if not now.is_sure:
        return 0
    ended = "(born_ms < ? OR revoked_ms < ?)"
    before = (now.ms - 2 * ABSOLUTE_MS, now.ms - ABSOLUTE_MS)
    rows = yield f"SELECT count(*) FROM sessions WHERE {ended}", before
    yield f"DELETE FROM refresh_tokens WHERE session_id IN (SELECT id FROM sessions WHERE {ended})", before
    yield f"DELETE FROM sessions WHERE {ended}", before
    return int(rows[0][0])
