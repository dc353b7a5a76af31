"""Which keys of a home are in use: the one that seals personal fields, the one that signs tokens, and former ones.

Two words in the database name them, so every process of a home turns to another key together. Nothing waits for it:

- a value that a former key sealed opens for ever; ``reseal`` brings it under the one in use, a few at a time, each only
  where it is still what was read. A kill in between costs the rest of one turn, and the next turn finds what is left;
- a token that a former key signed is good until it would have ended anyway, 15 minutes at most, unless the key is
  known by somebody else and is ended at once. Beyond that the former key signs for nobody, whatever its token says.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

import msgspec

from shared.accounts import audit
from shared.accounts.facts import fact, set_fact
from shared.accounts.fields import FIRST, MARK, FieldKeys, is_sealed, key_of
from shared.accounts.moments import Moment, is_within, packed, unpacked
from shared.accounts.roles import Home
from shared.accounts.tokens import ACCESS_S
from shared.accounts.users import Job
from shared.errors import NotAuthenticated
from shared.sync.personal import PERSONAL, SAID

_FIELDS: Final = "keys.fields"
_TOKENS: Final = "keys.tokens"
#: A process that has not heard of the change signs with the former key until its next request.
_SLACK_S: Final = 60
#: So many values are sealed anew in one transaction: nobody else waits long.
TURN: Final = 200


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """A column of a table that is sealed; ``among`` are the rows in which it is."""

    table: str
    column: str
    among: str = "1 = 1"


#: Where what is sealed lies. Only the cloud has secrets of other systems.
SEALED: Final = (
    Sealed("users", "phone"), Sealed("users", "totp_sealed"), Sealed("users", "totp_pending"),
    Sealed("rangers", "phone"), Sealed("rangers", "emergency_contact"),
    *(Sealed("conflicts", column, f"entity IN ({', '.join(repr(each) for each in PERSONAL)})") for column in SAID),
)  # fmt: skip
SEALED_AT: Final[dict[Home, tuple[Sealed, ...]]] = {
    "station": SEALED, "cloud": (*SEALED, Sealed("destinations", "token"))
}  # fmt: skip
_SEEDS: Final = ("totp_sealed", "totp_pending")
#: How what was kept before keys had names is counted.
_UNMARKED: Final = "before"


class FieldsInUse(msgspec.Struct, frozen=True, kw_only=True):
    """Which key seals, since when, and which did before it."""

    current: str = FIRST
    made_ms: int | None = None
    former: tuple[str, ...] = ()


class TokensInUse(msgspec.Struct, frozen=True, kw_only=True):
    """Which key signs, since when, and which still count, each with the moment at which it was taken out of use."""

    current: str = FIRST
    made_ms: int | None = None
    former: dict[str, str] = {}


class KeyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a home; ``sealed`` counts values by the key that they need (``before``: by none that has a name)."""

    field_key: str
    field_key_made_ms: int | None
    sealed: dict[str, int]
    token_key: str
    token_key_made_ms: int | None
    token_keys_ending: tuple[str, ...]


def fields_in_use() -> Job[FieldsInUse]:
    """Return which key seals."""
    kept = yield from fact(_FIELDS)
    return FieldsInUse() if kept is None else msgspec.json.decode(kept, type=FieldsInUse)


def tokens_in_use() -> Job[TokensInUse]:
    """Return which key signs."""
    kept = yield from fact(_TOKENS)
    return TokensInUse() if kept is None else msgspec.json.decode(kept, type=TokensInUse)


def check_token_key(name: str, now: Moment) -> Job[str]:
    """Raise NotAuthenticated unless tokens under this key count; return the key that signs."""
    use = yield from tokens_in_use()
    if name != use.current:
        retired = use.former.get(name)
        if retired is None or not is_within(unpacked(retired), now, ACCESS_S + _SLACK_S):
            raise NotAuthenticated("this token was signed with a key that has ended: fetch another")
    return use.current


def rotate_fields(now: Moment, actor: str) -> Job[str]:
    """Seal with a new key from now on; return its name."""
    use = yield from fields_in_use()
    made = FieldsInUse(current=_new_name(), made_ms=now.ms, former=(*use.former, use.current))
    yield from set_fact(_FIELDS, msgspec.json.encode(made).decode())
    yield from audit.write([audit.Entry(now.ms, actor, "key.fields", f"{use.current} to {made.current}")])
    return made.current


def rotate_tokens(now: Moment, actor: str, *, is_at_once: bool = False) -> Job[str]:
    """Sign with a new key from now on; return its name. ``is_at_once`` ends every token that there is."""
    use = yield from tokens_in_use()
    former = {
        name: retired for name, retired in {**use.former, use.current: packed(now)}.items()
        if not is_at_once and is_within(unpacked(retired), now, ACCESS_S + _SLACK_S)
    }  # fmt: skip
    made = TokensInUse(current=_new_name(), made_ms=now.ms, former=former)
    yield from set_fact(_TOKENS, msgspec.json.encode(made).decode())
    words = f"{use.current} to {made.current}{', at once' if is_at_once else ''}"
    yield from audit.write([audit.Entry(now.ms, actor, "key.tokens", words)])
    return made.current


def status(now: Moment, home: Home) -> Job[KeyStatus]:
    """Return the keys and how many values need which."""
    fields, tokens = (yield from fields_in_use()), (yield from tokens_in_use())
    counts: dict[str, int] = {}
    for each in SEALED_AT[home]:
        column = each.column
        rows = yield (
            f"SELECT {column} FROM {each.table} WHERE {each.among} AND {column} IS NOT NULL AND {column} <> ''",
            (),
        )
        for (kept,) in rows:
            name = key_of(kept) or _UNMARKED
            counts[name] = counts.get(name, 0) + 1
    ending = [name for name, at in tokens.former.items() if is_within(unpacked(at), now, ACCESS_S + _SLACK_S)]
    return KeyStatus(
        field_key=fields.current, field_key_made_ms=fields.made_ms, sealed=dict(sorted(counts.items())),
        token_key=tokens.current, token_key_made_ms=tokens.made_ms, token_keys_ending=tuple(ending),
    )  # fmt: skip


def reseal(keys: FieldKeys, unmarked: Callable[[str, str], str], now: Moment, actor: str, home: Home) -> Job[int]:
    """Bring at most ``TURN`` values under the key in use; return how many: fewer than that means that all are.

    ``unmarked`` opens a user's TOTP seed that was sealed before keys had names. Raises Invalid, nothing of this turn
    changed, for a value that does not open.
    """
    use = yield from fields_in_use()
    keys.current = use.current
    done = 0
    for each in SEALED_AT[home]:
        table, column = each.table, each.column
        rows = yield (
            (
                f"SELECT id, {column} FROM {table} WHERE {each.among} AND {column} IS NOT NULL AND {column} <> ''"
                f" AND {column} NOT LIKE ? ORDER BY id LIMIT ?"
            ),
            (f"{MARK}{use.current}.%", TURN - done),
        )
        for row_id, kept in rows:
            place = seed_place(row_id) if column in _SEEDS else f"{table}.{column}/{row_id}"
            is_unmarked = column in _SEEDS and not is_sealed(kept)
            text = unmarked(row_id, kept) if is_unmarked else keys.opened(place, kept)
            yield (
                f"UPDATE {table} SET {column} = ? WHERE id = ? AND {column} = ?",
                (keys.sealed(place, text), row_id, kept),
            )
        done += len(rows)
    if done < TURN and use.former:
        left = FieldsInUse(current=use.current, made_ms=use.made_ms)
        yield from set_fact(_FIELDS, msgspec.json.encode(left).decode())
        words = f"all under {use.current}; {', '.join(use.former)} no longer needed"
        yield from audit.write([audit.Entry(now.ms, actor, "key.resealed", words)])
    return done


def seed_place(user_id: str) -> str:
    """Return the place of a TOTP seed: one that waits for its first code moves from one column to the other."""
    return f"users.totp/{user_id}"


def _new_name() -> str:
    return secrets.token_hex(4)
