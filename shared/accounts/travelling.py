"""Phones that are known at both homes: a station's go up with its people, those of its people come down by the roster.

What travels is the public key of a phone and whether it is lost; the number of its last login by key stays at each
home, because what a phone signs names the home. What a station has sent or heard of a phone is a fact ``phone ID``, so
that only news goes up.

A station may be stolen: it makes phones known in the cloud only for people who see that station alone and whom a key
lets in, so that it wins nothing that it has not. To say of a phone that it is lost may every station whose person it is
of.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from shared.accounts import audit, sessions, users
from shared.accounts.devices import BY_KEY, Phone, every_phone, find_phone, insert_phone
from shared.accounts.facts import fact, set_fact
from shared.accounts.moments import Moment
from shared.accounts.users import ALL_STATIONS, Job, User
from shared.errors import Invalid, NotFound

#: So many phones a station may tell of at once.
MOST: Final = 10_000


class KnownPhone(msgspec.Struct, frozen=True, kw_only=True):
    """A phone as it travels."""

    id: str
    user_id: str
    name: str
    public_key: str
    enrolled_ms: int
    revoked_ms: int | None = None


def of_people(user_ids: Collection[str]) -> Job[list[KnownPhone]]:
    """Return the phones of some people, lost ones too."""
    phones = yield from every_phone()
    return [_known(phone) for phone in phones if phone.user_id in user_ids]


def news() -> Job[list[KnownPhone]]:
    """Return the phones of which the other home has not heard, or not that they are lost or whose they are now."""
    found: list[KnownPhone] = []
    for phone in map(_known, (yield from every_phone())):
        heard = yield from fact(_fact(phone.id))
        found += [phone] if heard != _state(phone) else []
    return found


def told(phones: Iterable[KnownPhone]) -> Job[None]:
    """Note that the other home has heard of phones."""
    for phone in phones:
        yield from set_fact(_fact(phone.id), _state(phone))


def take_down(phones: Iterable[KnownPhone], now: Moment) -> Job[int]:
    """Take phones of a roster at a station; return how many are new or newly lost."""
    changed = 0
    for phone in phones:
        if (yield from users.find(phone.user_id)) is None:
            continue
        changed += yield from _take(phone, now)
        # what is lost here and not there goes up
        yield from told([phone])
    return changed


def take_up(station_id: str, phones: Collection[KnownPhone], now: Moment) -> Job[int]:
    """Take phones of a station in the cloud and return how many are new or newly lost; it may not say all of it."""
    if len(phones) > MOST:
        raise Invalid(f"phones: more than {MOST} at a time")
    changed = 0
    for phone in phones:
        user = yield from users.find(phone.user_id)
        if user is None or not (station_id in user.stations or ALL_STATIONS in user.stations):
            continue
        known = yield from _find(phone.id)
        if known is None and not _may_bring(user, station_id):
            continue
        if known is not None and known.user_id != phone.user_id:
            continue
        changed += yield from _take(phone, now)
    if changed:
        who = f"station:{station_id}"
        yield from audit.write([audit.Entry(now.ms, who, "phones.handed", f"{changed} phones new or lost")])
    return changed


def follow(before_id: str, user_id: str) -> Job[None]:
    """Give the phones of an account to the one that takes its place."""
    yield "UPDATE phones SET user_id = ? WHERE user_id = ?", (user_id, before_id)


def _may_bring(user: User, station_id: str) -> bool:
    return user.role in BY_KEY and tuple(user.stations) == (station_id,)


def _take(phone: KnownPhone, now: Moment) -> Job[int]:
    known = yield from _find(phone.id)
    if known is None:
        yield from insert_phone(
            Phone(
                id=phone.id, user_id=phone.user_id, name=phone.name, public_key=phone.public_key, counter=0,
                enrolled_ms=phone.enrolled_ms, used_ms=phone.enrolled_ms, revoked_ms=phone.revoked_ms,
            )
        )  # fmt: skip
        return 1
    if known.revoked_ms is not None or phone.revoked_ms is None:
        return 0
    yield "UPDATE phones SET revoked_ms = ? WHERE id = ?", (phone.revoked_ms, phone.id)
    yield from sessions.revoke_all(known.user_id, now.ms, device_id=phone.id)
    return 1


def _find(phone_id: str) -> Job[Phone | None]:
    try:
        return (yield from find_phone(phone_id))
    except NotFound:
        return None


def _known(phone: Phone) -> KnownPhone:
    return KnownPhone(
        id=phone.id, user_id=phone.user_id, name=phone.name, public_key=phone.public_key,
        enrolled_ms=phone.enrolled_ms, revoked_ms=phone.revoked_ms,
    )  # fmt: skip


def _fact(phone_id: str) -> str:
    return f"phone {phone_id}"


def _state(phone: KnownPhone) -> str:
    return f"{phone.user_id} {'known' if phone.revoked_ms is None else 'lost'}"
