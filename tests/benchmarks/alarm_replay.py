"""A track through the engine of the alarms, as a station would hear it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from edge.alerts.engine import Engine
from edge.alerts.seen import Moment, Seen, Subject
from edge.alerts.watch import Act, Watch

HOUR_MS: Final = 3_600_000
MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
METRES_A_DEGREE: Final = 111_195.0
_BATCH: Final = 24


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """A real animal as the engine sees it."""

    subject: Subject
    seen: tuple[Seen, ...]

    @property
    def months(self) -> float:
        """How long it was followed, gaps and all."""
        return (self.seen[-1].recorded_ms - self.seen[0].recorded_ms) / DAY_MS / 30


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the engine did, and when on the station's clock."""

    at_ms: int
    act: Act


def replay(
    engine: Engine,
    subject: Subject,
    seen: Sequence[Seen],
    *,
    tick_until_ms: int | None = None,
    stop_at: frozenset[str] = frozenset(),
) -> list[Rung]:
    """Return what the engine does with ``seen`` in batches, with ticks where nothing is heard for long.

    With ``tick_until_ms`` it is given no more fixes, and ticks until one of the rules ``stop_at`` rings.
    """
    watch = Watch(animal_id=subject.animal_id)
    done: list[Rung] = []
    batch: list[Seen] = []

    def flush() -> None:
        nonlocal watch
        watch, acts = engine.judge(watch, subject, batch)
        done.extend(Rung(at_ms=batch[-1].received_ms if batch else 0, act=act) for act in acts)
        batch.clear()

    def tick(begin_ms: int, end_ms: int) -> None:
        nonlocal watch
        for now_ms in range(begin_ms + 10 * MINUTE_MS, end_ms, 10 * MINUTE_MS):
            watch, acts = engine.tick(watch, subject, Moment(now_ms=now_ms, is_clock_sure=True))
            done.extend(Rung(at_ms=now_ms, act=act) for act in acts)
            if now_ms - begin_ms > 15 * DAY_MS or stop_at.intersection(act.rule for act in acts):
                return

    previous: Seen | None = None
    for fix in seen:
        if previous is not None and fix.received_ms - previous.received_ms > 2 * HOUR_MS:
            flush()
            tick(previous.received_ms, fix.received_ms)
        batch.append(fix)
        if len(batch) == _BATCH:
            flush()
        previous = fix
    flush()
    if tick_until_ms is not None and previous is not None:
        tick(previous.received_ms, tick_until_ms)
    return done
