"""When something happened, by two clocks at once, so that no wrong clock blocks a person or lifts a limit.

A wall clock may stand in 1970 or run a day ahead, and may be corrected at any time. The monotonic clock of one boot of
the machine never steps, but says nothing across boots. So what must expire is noted by both:

- within one boot the monotonic clock alone counts;
- across boots, or across the machines of a cloud, the wall clocks count if both were sure and time did not run back;
- otherwise the time that passed is not known (None), and each caller takes the side that is safe: a code, a token or a
  fresh factor is spent, an attempt still counts, nothing is purged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from shared.clock import Clock
from shared.sync.records import to_ms

#: A clock may be disciplined back by this much between two looks, in milliseconds.
_SLACK_MS: Final = 60_000


class Moment(msgspec.Struct, frozen=True):
    """An instant: ``ms`` since 1970 by the wall clock, ``mono_ms`` since ``boot`` by the monotonic one."""

    ms: int
    mono_ms: int
    boot: str
    is_sure: bool


def elapsed_s(then: Moment, now: Moment) -> float | None:
    """Return how many seconds passed from ``then`` to ``now``; None where nobody knows."""
    if then.boot and then.boot == now.boot:
        passed_ms = now.mono_ms - then.mono_ms
        return passed_ms / 1000 if passed_ms >= 0 else None
    if not (then.is_sure and now.is_sure):
        return None
    passed_ms = now.ms - then.ms
    return max(passed_ms, 0) / 1000 if passed_ms >= -_SLACK_MS else None


def is_within(then: Moment, now: Moment, seconds: float) -> bool:
    """Say whether it is known that ``then`` is at most ``seconds`` ago."""
    passed_s = elapsed_s(then, now)
    return passed_s is not None and passed_s <= seconds


def packed(moment: Moment) -> str:
    """Return a moment as text for a column."""
    return msgspec.json.encode(moment).decode()


def unpacked(text: str) -> Moment:
    """Return the moment of a column."""
    return msgspec.json.decode(text, type=Moment)


def moments_of(clock: Clock, boot: str) -> Callable[[], Moment]:
    """Return what gives the moment that ``clock`` shows, on a machine whose boot has this name."""

    def moment() -> Moment:
        return Moment(to_ms(clock.now()), round(clock.monotonic() * 1000), boot, clock.state.is_sure)

    return moment


def sure_ms(clock: Clock) -> int | None:
    """Return the time of ``clock`` where it is sure, else None."""
    return to_ms(clock.now()) if clock.state.is_sure else None
