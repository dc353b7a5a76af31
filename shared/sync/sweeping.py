"""What a home forgets from time to time, the same at both: sessions, files that nobody finished, where rangers were.

On a clock that is not sure nothing is forgotten by date.
"""

from __future__ import annotations

import msgspec
import structlog

from shared.accounts.service import Accounts
from shared.accounts.users import Job
from shared.errors import Invalid
from shared.privacy import OPERATOR
from shared.sync import blobs, log

log_ = structlog.get_logger()

#: A running home sweeps this often.
EVERY_S = 3_600.0
#: Where a ranger was is nobody's business after this time; what a station has not sent yet still goes to its cloud.
RANGER_POSITIONS_MS = 90 * 86_400_000
#: Whoever was taken off the list or shut out has no telephone number here after this time, and no next of kin.
NUMBERS_MS = 90 * 86_400_000


class Swept(msgspec.Struct, kw_only=True):
    """How much was forgotten of what."""

    #: spent codes, attempts, sessions of people
    removed: int = 0
    #: sessions of synchronisation and items that were settled
    sync_log: int = 0
    #: files of which only a part ever came
    files: int = 0
    #: acknowledged batches older than they are retained, at a station
    batches: int = 0
    #: places where rangers were
    ranger_positions: int = 0
    #: people who left long ago and whose numbers were kept
    numbers: int = 0
    #: personal fields that were brought under the key in use
    resealed: int = 0


async def sweep(accounts: Accounts, sure_now_ms: int | None) -> Swept:
    """Forget what is of no use any more and return how much; ``sure_now_ms`` is None where the clock is not sure."""
    done = Swept(removed=await accounts.sweep())
    await accounts.use_keys()
    try:
        done.resealed = await accounts.reseal(OPERATOR)
    except Invalid as error:  # it is kept as it is, and everything else that a sweep does is done
        log_.error("keys.unopened", detail=error.detail)
    if sure_now_ms is not None:
        done.sync_log, done.files, done.ranger_positions = await accounts.tables.write(_old(sure_now_ms))
        done.numbers = await accounts.tables.write(_numbers(sure_now_ms - NUMBERS_MS))
    return done


def _old(now_ms: int) -> Job[tuple[int, int, int]]:
    sessions = yield from log.forget(now_ms - log.RETAINED_MS)
    files = yield from blobs.forget_unfinished(now_ms)
    before_ms = now_ms - RANGER_POSITIONS_MS
    places = yield "DELETE FROM ranger_positions WHERE recorded_ms < ? RETURNING 1", (before_ms,)
    return sessions, files, len(places)


def _numbers(before_ms: int) -> Job[int]:
    """Forget the numbers of people who left before then; their names stay with what they did."""
    rangers = yield (
        (
            "UPDATE rangers SET phone = NULL, emergency_contact = NULL WHERE deleted_ms < ?"
            " AND (phone IS NOT NULL OR emergency_contact IS NOT NULL) RETURNING 1"
        ),
        (before_ms,),
    )
    # what two people said of them at once repeats it
    yield (
        (
            "DELETE FROM conflicts WHERE entity = 'ranger' AND row_id IN (SELECT id FROM rangers WHERE deleted_ms < ?)"
            " RETURNING 1"
        ),
        (before_ms,),
    )
    people = yield (
        (
            "UPDATE users SET phone = NULL WHERE phone IS NOT NULL AND updated_ms < ?"
            " AND (is_active = 0 OR revoked_ms < ?) RETURNING 1"
        ),
        (before_ms, before_ms),
    )
    return len(rangers) + len(people)
