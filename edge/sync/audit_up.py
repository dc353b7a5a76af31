"""The station's audit log goes up: who has the box can cut its end off, and the cloud has it by then.

After a session, in lines that each carry the hash of the one before. The cloud keeps all that it was ever given, so a
line that was altered or taken back afterwards stands there twice, or with nothing before it.
"""

from __future__ import annotations

from typing import Final

import msgspec
import structlog

from edge.store.outbox import Enrolment
from edge.sync.client import Cloud, CloudClient
from edge.sync.meter import OVERHEAD_BYTES, LinkSpent, Meter
from shared.accounts import audit
from shared.accounts.facts import fact, set_fact
from shared.accounts.service import Accounts
from shared.errors import AccessError, RequestError
from shared.wire.link import MAX_AUDIT_LINES

log = structlog.get_logger()

#: How far the cloud has the log: the life of the cloud and a number.
_TOLD: Final = "audit.told"
#: So many requests after one session: a log of months goes up in a day and holds up nothing.
_MOST_REQUESTS: Final = 5


async def tell_audit(cloud: Cloud, here: Enrolment, accounts: Accounts, meter: Meter) -> int:
    """Bring the lines that the cloud does not have, as far as the link lets it; return how many. Raises LinkError."""
    if not isinstance(cloud, CloudClient) or not meter.profile.sends_files:
        return 0
    told = 0
    try:
        for _ in range(_MOST_REQUESTS):
            lines = await accounts.tables.read(audit.after(await _told(accounts, here), MAX_AUDIT_LINES))
            if not lines:
                break
            body = msgspec.msgpack.encode(lines)
            await meter.allow(len(body) + OVERHEAD_BYTES)
            if not await cloud.tell_audit(body):
                break  # a cloud of before
            await accounts.tables.write(set_fact(_TOLD, f"{here.cloud_epoch} {lines[-1].seq}"))
            told += len(lines)
    except LinkSpent as spent:
        log.info("audit.waits", detail=spent.detail)
    except (AccessError, RequestError) as error:
        log.warning("audit.untold", code=error.code, detail=error.detail)
    return told


async def _told(accounts: Accounts, here: Enrolment) -> int:
    epoch, _, seq = (await accounts.tables.read(fact(_TOLD)) or "").partition(" ")
    return int(seq) if epoch == here.cloud_epoch and seq else 0  # another life of the cloud has lost what it had
