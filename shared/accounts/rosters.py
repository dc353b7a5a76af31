"""Making a roster in the cloud, taking it at a station, and handing people of a station up.

Sealed seeds are opened and sealed anew between the two: callers pass in how. What a station knows better stays: its own
revocations, the last step of a code that it took, and recovery codes that were used there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from shared.accounts import audit, sessions, travelling, users
from shared.accounts.facts import fact, set_fact
from shared.accounts.moments import Moment
from shared.accounts.roster import LIFE_MS, Entry, HandOver, Roster
from shared.accounts.service import ROSTER_TAKEN
from shared.accounts.users import ALL_STATIONS, Job, User
from shared.errors import Invalid

KEY: Final = "roster.key"
VERSION: Final = "roster.version"
_DIGEST: Final = "roster.digest"
#: A roster that says nothing new is noted as taken once an hour, not at every session: the card wears out.
_NOTE_EVERY_MS: Final = 3_600_000

#: Takes a user's id and a seed as it is kept or in the clear, and returns it otherwise.
Reseal = Callable[[str, str], str]


def _entry(user: User, seal: Callable[[User], str | None]) -> Entry:
    return Entry(
        id=user.id, email=user.email, name=user.name, role=user.role, phone=user.phone,
        organization=user.organization, stations=user.stations, is_active=user.may_enter,
        password_hash=user.password_hash, totp=seal(user), totp_step=user.totp_step, recovery=user.recovery,
        updated_ms=user.updated_ms,
    )  # fmt: skip


def roster_for(station_id: str, now: Moment, seal: Callable[[User], str | None]) -> Job[Roster]:
    """Return the next roster of a station: who has a password and may see it."""
    everybody = yield from users.listed()
    entries = [
        _entry(user, seal)
        for user in everybody
        if user.password_hash is not None and (ALL_STATIONS in user.stations or station_id in user.stations)
    ]
    phones = yield from travelling.of_people({entry.id for entry in entries})
    version = int((yield from fact(VERSION)) or 0) + 1
    yield from set_fact(VERSION, str(version))
    return Roster(
        station_id=station_id, version=version, issued_ms=now.ms, not_after_ms=now.ms + LIFE_MS, users=entries,
        phones=phones,
    )  # fmt: skip


def trusted() -> Job[tuple[bytes | None, int]]:
    """Return the key that a station's rosters are signed with, None before the first, and the last version."""
    key = yield from fact(KEY)
    return (None if key is None else bytes.fromhex(key)), int((yield from fact(VERSION)) or 0)


def forget_trust() -> Job[None]:
    """Trust another cloud's first roster: the station was enrolled anew."""
    yield "DELETE FROM facts WHERE name IN (?, ?, ?, ?)", (KEY, VERSION, _DIGEST, ROSTER_TAKEN)


def take(roster: Roster, key: bytes, now: Moment, reseal: Reseal) -> Job[int]:
    """Take a genuine roster at a station; return how many accounts changed. Sessions of who is out of it end."""
    digest = _digest(roster)
    taken = yield from fact(ROSTER_TAKEN)
    last = yield from fact(_DIGEST)
    if digest == last and taken is not None and 0 <= now.ms - int(taken) < _NOTE_EVERY_MS:
        return 0
    yield from set_fact(KEY, key.hex())
    yield from set_fact(VERSION, str(roster.version))
    # the age counts from when a sure clock saw it; on another, the cloud's own date is the better guess
    yield from set_fact(ROSTER_TAKEN, str(now.ms if now.is_sure else roster.issued_ms))
    if digest == last:
        return 0
    yield from set_fact(_DIGEST, digest)
    changed = 0
    for entry in roster.users:
        changed += yield from _take_entry(entry, now, reseal)
    named = {entry.id for entry in roster.users}
    for user in (yield from users.listed()):
        if user.origin == "cloud" and user.id not in named and user.is_active:
            yield from users.change(user, now.ms, {"is_active": False})
            yield from sessions.revoke_all(user.id, now.ms)
            changed += 1
    changed += yield from travelling.take_down(roster.phones, now)
    if changed:
        yield from audit.write([audit.Entry(now.ms, "cloud", "roster", f"version {roster.version}, {changed} changed")])
    return changed


def _take_entry(entry: Entry, now: Moment, reseal: Reseal) -> Job[int]:
    spent = set(((yield from fact(f"spent {entry.id}")) or "").split())
    known = yield from users.find(entry.id)
    same_address = yield from users.find_by_email(entry.email)
    if same_address is not None and same_address.id != entry.id:
        # the cloud's account of this person takes the place of the one that was made here
        yield "DELETE FROM users WHERE id = ?", (same_address.id,)
        yield from sessions.revoke_all(same_address.id, now.ms)
        yield from travelling.follow(same_address.id, entry.id)
    columns: dict[str, Any] = {
        "email": entry.email, "name": entry.name, "role": entry.role, "phone": entry.phone,
        "organization": entry.organization, "stations": entry.stations, "is_active": entry.is_active,
        "password_hash": entry.password_hash,
        "totp_sealed": None if entry.totp is None else reseal(entry.id, entry.totp),
        "recovery": tuple(code for code in entry.recovery if code not in spent),
        "origin": "cloud", "is_handed": True,
    }  # fmt: skip
    if known is None:
        made = User(id=entry.id, created_ms=now.ms, updated_ms=now.ms, totp_step=entry.totp_step, **columns)
        yield from users.insert(made)
        return 1
    columns["totp_step"] = max(known.totp_step, entry.totp_step)
    changed = yield from users.change(known, now.ms, columns)
    if not changed.is_active or known.password_hash != changed.password_hash or known.role != changed.role:
        yield from sessions.revoke_all(known.id, now.ms)
    return 1


def hand_over(seal: Callable[[User], str | None]) -> Job[HandOver | None]:
    """Return what a station tells the cloud of its people; None where there is nothing to tell."""
    everybody = yield from users.listed()
    made = [_entry(user, seal) for user in everybody if user.origin == "here" and not user.is_handed]
    spent: dict[str, list[str]] = {}
    for user in everybody:
        codes = ((yield from fact(f"spent {user.id}")) or "").split()
        told = ((yield from fact(f"told {user.id}")) or "").split()
        if news := [code for code in codes if code not in told]:
            spent[user.id] = news
    phones = yield from travelling.news()
    return HandOver(users=made, spent=spent, phones=phones) if made or spent or phones else None


def handed(sent: HandOver, now_ms: int) -> Job[None]:
    """Note at the station that the cloud has taken what was handed over."""
    for entry in sent.users:
        user = yield from users.find(entry.id)
        if user is not None:
            yield from users.change(user, now_ms, {"is_handed": True})
    for user_id, codes in sent.spent.items():
        told = (yield from fact(f"told {user_id}")) or ""
        yield from set_fact(f"told {user_id}", " ".join([told, *codes]).strip())
    yield from travelling.told(sent.phones)


def take_hand_over(station_id: str, sent: HandOver, now: Moment, reseal: Reseal) -> Job[int]:
    """Take a station's people in the cloud, each for that station alone; return how many are new.

    A station may be stolen: what it says of itself it may say, and nothing of others. So an account that the cloud has
    already stands as it is, and a new one sees nothing beyond the station that it came from.
    """
    if len(sent.users) > 1_000:
        raise Invalid("users: more than 1000 at a time")
    new = 0
    for entry in sent.users:
        email = users.plain_email(entry.email)
        if (yield from users.find(entry.id)) or (yield from users.find_by_email(email)):
            continue
        made = User(
            id=entry.id, email=email, name=entry.name, role=users.check_role(entry.role), phone=entry.phone,
            organization=entry.organization, stations=(station_id,), is_active=entry.is_active,
            password_hash=entry.password_hash,
            totp_sealed=None if entry.totp is None else reseal(entry.id, entry.totp), totp_step=entry.totp_step,
            recovery=entry.recovery, created_ms=now.ms, updated_ms=now.ms,
        )  # fmt: skip
        yield from users.insert(made)
        new += 1
    for user_id, codes in sent.spent.items():
        user = yield from users.find(user_id)
        if user is not None and (station_id in user.stations or ALL_STATIONS in user.stations):
            left = tuple(code for code in user.recovery if code not in set(codes))
            if left != user.recovery:
                yield from users.change(user, now.ms, {"recovery": left})
    yield from travelling.take_up(station_id, sent.phones, now)
    if new:
        yield from audit.write([audit.Entry(now.ms, f"station:{station_id}", "users.handed", f"{new} accounts")])
    return new


def _digest(roster: Roster) -> str:
    # a seed is sealed afresh in each roster: its own bytes say nothing of whether it changed
    plain = [msgspec.structs.replace(entry, totp=None if entry.totp is None else "sealed") for entry in roster.users]
    return hashlib.sha256(msgspec.msgpack.encode([plain, roster.phones])).hexdigest()
