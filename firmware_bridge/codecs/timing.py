"""Three times stand on every fix: the device's own, the network's and the station's. This is how they meet.

A codec gives what the device says and never more. Some devices leave out the date (APRS), some the whole time (Digital
Matter, Cayenne LPP, Sigfox: they send when they have fixed, and the network stamps the uplink). Whoever stores fixes
asks here what can be made of that, and is told nothing where nothing is safe.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from firmware_bridge.frames import DecodedFix, TimeOfDay

#: A device's clock may run ahead of the one that is near by so much; beyond that its time is one of the past.
AHEAD = timedelta(minutes=10)


def recorded_at(
    fix: DecodedFix, *, network_time: datetime | None, received_at: datetime | None
) -> tuple[datetime | None, str]:
    """Return when a fix was recorded, or None and the reason why that cannot be said.

    ``received_at`` is the station's clock while it is sure, else None: it only ever supplies a date, never a time. A
    time of the network stands in where the device gives none at all; the fix then has twice the same time.
    """
    if fix.recorded_at is not None:
        return fix.recorded_at, ""
    if fix.time_of_day is not None:
        near = network_time or received_at
        if near is None:
            return None, "a time without a date, and no sure clock to supply it"
        instant = latest(fix.time_of_day, near + AHEAD)
        return instant, "" if instant is not None else "a time that no day near has"
    if network_time is not None:
        return network_time, ""
    return None, "a position without the device's time"


def latest(said: TimeOfDay, until: datetime) -> datetime | None:
    """Return the last instant up to ``until`` that ``said`` can mean; None where no day of two months can be meant."""
    try:
        candidate = until.replace(hour=said.hour, minute=said.minute, second=said.second, microsecond=0)
        for _ in range(63):
            if candidate <= until and said.day_of_month in {None, candidate.day}:
                return candidate
            candidate -= timedelta(days=1)
    except (ValueError, OverflowError):
        pass
    return None
