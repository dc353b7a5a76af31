"""Who may log in travels before all data: the station's own people up, the cloud's roster down.

What is wrong with a roster is told and costs no fix: the session goes on, and the station with the people it has.
"""

from __future__ import annotations

import msgspec
import structlog

from edge.store.outbox import Enrolment
from edge.sync.client import Cloud, CloudClient
from shared.accounts import rosters, sealing
from shared.accounts.roster import verified
from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.errors import AccessError, RequestError

log = structlog.get_logger()


async def exchange(cloud: Cloud, here: Enrolment, accounts: Accounts) -> None:
    """Hand over people that the cloud does not know, and take the roster; raises LinkError."""
    if not isinstance(cloud, CloudClient):
        return
    try:
        await _hand_over(cloud, accounts)
        await take_roster(await cloud.roster(), here, accounts)
    except (AccessError, RequestError) as error:
        log.warning("roster.untaken", code=error.code, detail=error.detail)


async def _hand_over(cloud: CloudClient, accounts: Accounts) -> None:
    def in_clear(user: User) -> str | None:
        # the request is signed and goes over TLS; the cloud seals it for itself
        return accounts.unsealed_totp(user)

    sent = await accounts.tables.read(rosters.hand_over(in_clear))
    if sent is not None:
        await cloud.hand_over(msgspec.msgpack.encode(sent))
        now = accounts.moments()
        await accounts.tables.write(rosters.handed(sent, now.ms))
        log.info("roster.handed", people=len(sent.users))


async def take_roster(sent: bytes, here: Enrolment, accounts: Accounts) -> None:
    """Take a roster, whichever way it came; raises Forbidden for one that is not genuine, not ours or older."""
    pinned, version = await accounts.tables.read(rosters.trusted())
    roster, key = verified(sent, pinned, here.station_id, version)

    def reseal(user_id: str, sealed: str) -> str:
        return accounts.sealed(user_id, sealing.unseal_mine(here.private_key, sealed, f"totp {user_id}"))

    changed = await accounts.tables.write(rosters.take(roster, key, accounts.moments(), reseal))
    if changed:
        log.info("roster.taken", version=roster.version, people=len(roster.users))
