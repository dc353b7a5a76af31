"""People: their rows, and the jobs that read and change them.

At a station ``origin`` tells where a row is from: ``cloud`` rows follow the roster, ``here`` rows were made at the
station and are handed to the cloud. ``revoked_ms`` is a word of this home's own administrator and outlives rosters.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec

from shared.accounts.fields import OPEN, SEAL
from shared.errors import Conflict, Invalid, NotFound
from shared.ids import random_id
from shared.privacy import Role
from shared.wire.reading import text

T = TypeVar("T")
Statement: TypeAlias = tuple[str, Sequence[Any]]
Rows: TypeAlias = list[tuple[Any, ...]]
#: Yields statements, is sent their rows, returns its result; a home runs it in one transaction. Beside SQL it may ask
#: for what is personal to be sealed or opened (``shared.accounts.fields``).
Job: TypeAlias = Generator[Statement, Rows, T]
Origin = Literal["here", "cloud"]

ROLES: Final[tuple[Role, ...]] = ("admin", "conservation_manager", "ranger", "viewer")
#: Stands for every station.
ALL_STATIONS: Final = "*"
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)*")
_PHONE: Final = re.compile(r"\+?[0-9]{6,15}")


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person with an account. ``stations`` are those whose data the person may see exactly; ``*`` is all."""

    id: str
    email: str
    name: str
    role: Role = "viewer"
    phone: str | None = None
    organization: str | None = None
    stations: tuple[str, ...] = ()
    is_active: bool = True
    is_email_verified: bool = False
    is_phone_verified: bool = False
    password_hash: str | None = None
    #: sealed for this home; ``totp_pending`` waits for its first code
    totp_sealed: str | None = None
    totp_pending: str | None = None
    totp_step: int = 0
    recovery: tuple[str, ...] = ()
    origin: Origin = "here"
    is_handed: bool = False
    revoked_ms: int | None = None
    created_ms: int = 0
    updated_ms: int = 0
    last_login_ms: int | None = None

    @property
    def may_enter(self) -> bool:
        """Say whether the account is in force."""
        return self.is_active and self.revoked_ms is None


_COLUMNS: Final = tuple(field.name for field in msgspec.structs.fields(User))
_LISTS: Final = ("stations", "recovery")
_FLAGS: Final = ("is_active", "is_email_verified", "is_phone_verified", "is_handed")
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM users"


def _kept(column: str, value: Any) -> Any:
    if column in _LISTS:
        return msgspec.json.encode(value).decode()
    return int(value) if column in _FLAGS else value


def _user(row: Sequence[Any]) -> User:
    columns = dict(zip(_COLUMNS, row, strict=True))
    for column in _LISTS:
        columns[column] = msgspec.json.decode(columns[column], type=tuple[str, ...])
    for column in _FLAGS:
        columns[column] = bool(columns[column])
    return User(**columns)


def plain_email(email: str) -> str:
    """Return an address as it is compared; raises Invalid."""
    plain = text("email", email).lower()
    if len(plain) > 254 or not _EMAIL.fullmatch(plain):
        raise Invalid("email: must be an address such as asha@example.org")
    return plain


def plain_phone(phone: str | None) -> str | None:
    """Return a telephone number without spaces; raises Invalid."""
    if phone is None or not phone.strip():
        return None
    plain = re.sub(r"[\s().-]", "", phone)
    if not _PHONE.fullmatch(plain):
        raise Invalid("phone: must be a number such as +254 700 000000")
    return plain


def check_role(role: str) -> Role:
    """Return ``role`` if it is one; raises Invalid."""
    for each in ROLES:
        if each == role:
            return each
    raise Invalid(f"role: must be one of {', '.join(ROLES)}")


# --- jobs -------------------------------------------------------------------------------------------------------------
def find(user_id: str) -> Job[User | None]:
    """Return a user by id; None where there is none."""
    rows = yield f"{_SELECT} WHERE id = ?", (user_id,)
    return (yield from _opened([_user(rows[0])]))[0] if rows else None


def find_by_email(email: str) -> Job[User | None]:
    """Return a user by address; None where there is none."""
    rows = yield f"{_SELECT} WHERE email = ?", (email.strip().lower(),)
    return (yield from _opened([_user(rows[0])]))[0] if rows else None


def get(user_id: str) -> Job[User]:
    """Return a user by id; raises NotFound."""
    user = yield from find(user_id)
    if user is None:
        raise NotFound(f"there is no user {user_id}")
    return user


def named(name: str) -> Job[User]:
    """Return a user by id or address; raises NotFound."""
    user = (yield from find(name)) or (yield from find_by_email(name))
    if user is None:
        raise NotFound(f"there is no user {name}")
    return user


def listed(search: str | None = None) -> Job[list[User]]:
    """Return all users by address, or those whose name or address holds ``search``."""
    rows = yield f"{_SELECT} ORDER BY email", ()
    users = yield from _opened([_user(row) for row in rows])
    if search:
        wanted = search.lower()
        users = [user for user in users if wanted in user.email or wanted in user.name.lower()]
    return users


def insert(user: User) -> Job[User]:
    """Store a new user; raises Conflict where the address is taken."""
    if (yield from find_by_email(user.email)) is not None:
        raise Conflict("email: there is an account with this address")
    kept = [_kept(column, getattr(user, column)) for column in _COLUMNS]
    kept[_COLUMNS.index("phone")] = yield from _sealed_phone(user)
    yield f"INSERT INTO users ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})", kept
    return user


def change(user: User, now_ms: int, columns: Mapping[str, Any]) -> Job[User]:
    """Write columns of a user and return the whole."""
    changed = msgspec.structs.replace(user, updated_ms=now_ms, **columns)
    names = [*columns, "updated_ms"]
    assignments = ", ".join(f"{name} = ?" for name in names)
    kept = [_kept(name, getattr(changed, name)) for name in names]
    if "phone" in columns:
        kept[names.index("phone")] = yield from _sealed_phone(changed)
    yield f"UPDATE users SET {assignments} WHERE id = ?", [*kept, user.id]
    return changed


def _opened(users: list[User]) -> Job[list[User]]:
    """Return users as they are known, with the telephone numbers that are kept sealed."""
    asked = [word for user in users if user.phone for word in (_phone_place(user), user.phone)]
    if not asked:
        return users
    numbers = iter((yield OPEN, asked))
    return [msgspec.structs.replace(user, phone=next(numbers)[0]) if user.phone else user for user in users]


def _sealed_phone(user: User) -> Job[str | None]:
    if not user.phone:
        return user.phone
    ((sealed,),) = yield SEAL, (_phone_place(user), user.phone)
    return str(sealed)


def _phone_place(user: User) -> str:
    return f"users.phone/{user.id}"


def new_user(*, email: str, name: str, role: Role, now_ms: int, **columns: Any) -> User:
    """Return a user to insert."""
    return User(
        id=random_id(), email=plain_email(email), name=text("name", name), role=role, created_ms=now_ms,
        updated_ms=now_ms, **columns,
    )  # fmt: skip


def keep_an_admin(user: User) -> Job[None]:
    """Raise Conflict where ``user`` is the last administrator who may enter: nobody could undo it."""
    if user.role != "admin" or not user.may_enter:
        return
    rows = yield (
        "SELECT count(*) FROM users WHERE role = 'admin' AND is_active = 1 AND revoked_ms IS NULL AND id <> ?",
        (user.id,),
    )
    if not rows[0][0]:
        raise Conflict("this is the last administrator: make another one first")
