"""What the cloud's database forgets from time to time beside what both homes do (``shared.sync.sweeping``).

In steps, each a transaction of its own, so that nobody waits for long; a process that is ended goes on the next time.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cloud.store import folding, station_frames
from cloud.store.database import Database

#: Steps of one round at most: what is left waits for the next.
_MOST_STEPS: Final = 500


class Tidied(msgspec.Struct, kw_only=True):
    """How much was forgotten of what."""

    #: frames as stations heard them, older than they are kept
    frames: int = 0
    #: lines of the change log that a later one says as well
    lines: int = 0
    #: how long the change log is then, and the number through which it is folded
    log_lines: int = 0
    log_folded: int = 0


async def tidy(database: Database, sure_now_ms: int | None) -> Tidied:
    """Forget what is of no use any more; ``sure_now_ms`` is None where the clock is not sure: nothing goes by date."""
    done = Tidied()
    if sure_now_ms is not None:
        for _ in range(_MOST_STEPS):
            async with database.transaction() as connection:
                gone = await station_frames.forget(connection, sure_now_ms - station_frames.KEPT_MS)
            done.frames += gone
            if gone < station_frames.PRUNED_AT_ONCE:
                break
    async with database.snapshot() as connection:
        up_to = await folding.floor(connection, sure_now_ms)
    for _ in range(_MOST_STEPS):
        async with database.transaction() as connection:
            step = await folding.fold(connection, up_to)
        done.lines += step.gone
        if not step.is_more:
            break
    async with database.snapshot() as connection:
        log = await folding.size(connection)
    done.log_lines, done.log_folded = log.lines, log.folded
    return done
