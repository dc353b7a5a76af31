"""API keys of gateways and programs: ``wc_<id>_<secret>``.

The secret has 256 bits and is kept as its SHA-256. A key has scopes such as ``tracking:write``, ends after 90 days, and
is rotated without a gap: the former secret is good for seven days more. Ages are judged on a sure clock only; a key is
ended at once by taking it off the list.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from shared.accounts.moments import Moment
from shared.accounts.tokens import hashed
from shared.accounts.users import Job
from shared.errors import NotAuthenticated, NotFound
from shared.privacy import Role

PREFIX: Final = "wc_"
LIFE_MS: Final = 90 * 86_400_000
OVERLAP_MS: Final = 7 * 86_400_000
_REFUSED: Final = "this API key is not known, has ended, or was taken away"
_COLUMNS: Final = (
    "id", "name", "role", "scopes", "stations", "made_by", "created_ms", "expires_ms", "revoked_ms", "hash",
    "former_hash", "former_until_ms",
)  # fmt: skip
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM api_keys"


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret."""

    id: str
    name: str
    role: Role
    scopes: tuple[str, ...]
    stations: tuple[str, ...]
    made_by: str
    created_ms: int
    expires_ms: int
    revoked_ms: int | None
    hash: str
    former_hash: str | None
    former_until_ms: int | None


def make(
    name: str, role: Role, scopes: Sequence[str], stations: Sequence[str], made_by: str, now: Moment
) -> Job[tuple[ApiKey, str]]:
    """Make a key and return it with its text, which is shown once."""
    key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    key = ApiKey(
        id=key_id, name=name, role=role, scopes=tuple(scopes), stations=tuple(stations), made_by=made_by,
        created_ms=now.ms, expires_ms=now.ms + LIFE_MS, revoked_ms=None, hash=hashed(secret), former_hash=None,
        former_until_ms=None,
    )  # fmt: skip
    kept = [msgspec.json.encode(value).decode() if isinstance(value, tuple) else value for value in _values(key)]
    yield f"INSERT INTO api_keys ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})", kept
    return key, f"{PREFIX}{key_id}_{secret}"


def rotate(key_id: str, now: Moment) -> Job[tuple[ApiKey, str]]:
    """Give a key another secret; the former one is good for seven days more."""
    key = yield from get(key_id)
    if key.revoked_ms is not None:
        raise NotFound(f"there is no API key {key_id} in force")
    secret = secrets.token_hex(32)
    changed = msgspec.structs.replace(
        key, hash=hashed(secret), former_hash=key.hash, former_until_ms=now.ms + OVERLAP_MS,
        expires_ms=now.ms + LIFE_MS,
    )  # fmt: skip
    yield (
        "UPDATE api_keys SET hash = ?, former_hash = ?, former_until_ms = ?, expires_ms = ? WHERE id = ?",
        (changed.hash, changed.former_hash, changed.former_until_ms, changed.expires_ms, key_id),
    )
    return changed, f"{PREFIX}{key_id}_{secret}"


def revoke(key_id: str, now_ms: int) -> Job[None]:
    """Take a key away."""
    yield from get(key_id)
    yield "UPDATE api_keys SET revoked_ms = ? WHERE id = ? AND revoked_ms IS NULL", (now_ms, key_id)


def get(key_id: str) -> Job[ApiKey]:
    """Return a key; raises NotFound."""
    rows = yield f"{_SELECT} WHERE id = ?", (key_id,)
    if not rows:
        raise NotFound(f"there is no API key {key_id}")
    return _key(rows[0])


def listed() -> Job[list[ApiKey]]:
    """Return every key, newest first."""
    rows = yield f"{_SELECT} ORDER BY created_ms DESC, id", ()
    return [_key(row) for row in rows]


def checked(text: str, now: Moment) -> Job[ApiKey]:
    """Return the key that ``text`` is; raises NotAuthenticated, always with the same words."""
    key_id, _, secret = text.removeprefix(PREFIX).partition("_")
    rows = yield f"{_SELECT} WHERE id = ?", (key_id,)
    key = _key(rows[0]) if rows else None
    said = hashed(secret)
    if key is None or key.revoked_ms is not None:
        raise NotAuthenticated(_REFUSED)
    if now.is_sure and now.ms > key.expires_ms:
        raise NotAuthenticated(_REFUSED)
    if hmac.compare_digest(said, key.hash):
        return key
    is_former = key.former_hash is not None and hmac.compare_digest(said, key.former_hash)
    # on an unsure clock the overlap is not known to be over: a gateway in the field must not fall silent
    if is_former and not (now.is_sure and now.ms > (key.former_until_ms or 0)):
        return key
    raise NotAuthenticated(_REFUSED)


def _values(key: ApiKey) -> list[Any]:
    return [getattr(key, column) for column in _COLUMNS]


def _key(row: Sequence[Any]) -> ApiKey:
    columns = dict(zip(_COLUMNS, row, strict=True))
    for column in ("scopes", "stations"):
        columns[column] = msgspec.json.decode(columns[column])
    return msgspec.convert(columns, ApiKey)
