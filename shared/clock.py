"""The truth about time: a Pi has no clock battery, so the station says how far its clock can be trusted.

::

    UNSET --wall at or past the build date--> HELD --an admin says so--> ADMIN
      |                                         |                          |
      +--------------- GNSS time heard ---------+---------> GNSS <---------+
      +--------------- kernel says synchronised -------------> NTP   (and back to HELD when it no longer is)

``UNSET``  the wall clock stands before this program was built: it booted in the past
``HELD``   plausible (kept over the reboot by the file system), of unknown error
``ADMIN``  a person set it; sure to a minute
``GNSS``   the station's own receiver; sure to a second
``NTP``    the kernel is disciplined; sure to a second

A source never makes the clock less sure than it is: the order is the order above. Sure means ADMIN or better.
No source is believed that names a time before this program was built, the kernel and a person included.
Nothing is purged, expired or declared silent on a clock that is not sure. Rate limits and timeouts use the monotonic
clock and never ask here.

Between corrections the clock runs on the monotonic one from its last anchor, so a step of the wall clock does not
move it. This module reads no clock: callers hand in ``wall`` and ``monotonic``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

#: How far a free-running crystal may drift; 50 parts per million is a poor one.
DRIFT = 50e-6
#: A disciplined clock is believed this long after the last word of its source, in seconds.
GNSS_HOLD_S = 86_400.0


class ClockState(enum.StrEnum):
    """How the station knows the time, from worst to best."""

    UNSET = "unset"
    HELD = "held"
    ADMIN = "admin"
    GNSS = "gnss"
    NTP = "ntp"

    @property
    def is_sure(self) -> bool:
        """Say whether decisions that cannot be undone may rest on it."""
        return self in _SURE


_ORDER = list(ClockState)
_SURE = frozenset({ClockState.ADMIN, ClockState.GNSS, ClockState.NTP})


class Clock(Protocol):
    """What the rest of the program asks for the time."""

    def now(self) -> datetime:
        """Return the best known time, aware UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never step."""
        ...

    @property
    def state(self) -> ClockState:
        """Return how far ``now`` can be trusted."""
        ...


class StationClock:
    """The state machine above over a wall and a monotonic clock."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float], *, built_at: datetime) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._built_s = built_at.timestamp()
        self._source: ClockState | None = None
        self._anchor_utc_s = 0.0
        self._anchor_mono_s = 0.0
        self._sigma_s = 0.0

    def now(self) -> datetime:
        """Return the best known time, aware UTC."""
        if self._source is None or self._source is ClockState.NTP:
            return datetime.fromtimestamp(self._wall(), UTC)
        return datetime.fromtimestamp(self._anchor_utc_s + self._monotonic() - self._anchor_mono_s, UTC)

    def monotonic(self) -> float:
        """Return seconds that never step."""
        return self._monotonic()

    @property
    def state(self) -> ClockState:
        """Return how far ``now`` can be trusted."""
        if self._source is not None:
            return self._source
        return ClockState.HELD if self._wall() >= self._built_s else ClockState.UNSET

    @property
    def uncertainty(self) -> timedelta | None:
        """Return the error to expect, or None where it is unknown (``unset`` and ``held``)."""
        if self._source is None:
            return None
        age_s = 0.0 if self._source is ClockState.NTP else self._monotonic() - self._anchor_mono_s
        return timedelta(seconds=self._sigma_s + age_s * DRIFT)

    def kernel_says(self, *, is_synchronised: bool) -> None:
        """Take the kernel's word on whether NTP disciplines the wall clock."""
        if is_synchronised and self._wall() >= self._built_s:
            self._take(ClockState.NTP, self._wall(), 1.0)
        elif self._source is ClockState.NTP:
            self._source = None

    def gnss_says(self, utc: datetime) -> None:
        """Take the time from the station's own receiver; never call it with a collar's or a peer's time."""
        if self._source is not ClockState.NTP and utc.timestamp() >= self._built_s:
            self._take(ClockState.GNSS, utc.timestamp(), 1.0)

    def admin_says(self, utc: datetime) -> bool:
        """Take the time from a person; False, and not taken, where a better source is at hand or it cannot be true."""
        better = self._source is ClockState.NTP or (
            self._source is ClockState.GNSS and self._monotonic() - self._anchor_mono_s < GNSS_HOLD_S
        )
        if better or utc.timestamp() < self._built_s:
            return False
        self._take(ClockState.ADMIN, utc.timestamp(), 60.0)
        return True

    def _take(self, source: ClockState, utc_s: float, sigma_s: float) -> None:
        self._source = source
        self._anchor_utc_s = utc_s
        self._anchor_mono_s = self._monotonic()
        self._sigma_s = sigma_s


class VirtualClock:
    """The clock of a replay: ``speed`` virtual seconds pass in one real second, from ``start`` at ``origin_s``.

    Processes that share ``origin_s`` (a reading of the system-wide monotonic clock) share the virtual time.
    """

    def __init__(self, start: datetime, speed: float, monotonic: Callable[[], float], origin_s: float) -> None:
        self._start = start
        self._speed = speed
        self._monotonic = monotonic
        self._origin_s = origin_s

    def now(self) -> datetime:
        """Return the virtual time, aware UTC."""
        return self._start + timedelta(seconds=(self._monotonic() - self._origin_s) * self._speed)

    def monotonic(self) -> float:
        """Return real seconds that never step."""
        return self._monotonic()

    @property
    def state(self) -> ClockState:
        """A virtual clock is right by definition."""
        return ClockState.ADMIN

    def real_seconds_until(self, instant: datetime) -> float:
        """Return how many real seconds remain until the virtual ``instant``; negative when it has passed."""
        return (instant - self._start).total_seconds() / self._speed - (self._monotonic() - self._origin_s)
