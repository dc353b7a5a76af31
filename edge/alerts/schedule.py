"""When a rule may ring: a span of the day in a time zone, on some days of the week."""

from __future__ import annotations

from datetime import time
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from shared.errors import ConfigError
from shared.sync.records import from_ms

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From ``begins`` up to, not including, ``ends``, in local time; over midnight where it ends before it begins.

    A night belongs to the day on which it began. The same two times mean the whole day.
    """

    timezone: str
    begins: str
    ends: str
    days: tuple[Day, ...] = DAYS

    def checked(self, rule: str) -> Schedule:
        """Return the schedule itself; raises ConfigError where it means nothing."""
        for name in ("begins", "ends"):
            try:
                _of_day(getattr(self, name))
            except ValueError as error:
                raise ConfigError(f"alerts: {rule}.schedule.{name}: expected HH:MM") from error
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigError(f"alerts: {rule}.schedule.timezone: there is no time zone {self.timezone}") from error
        if not self.days:
            raise ConfigError(f"alerts: {rule}.schedule.days: no day is named")
        return self

    def covers(self, at_ms: int) -> bool:
        """Say whether a rule with this schedule may ring then."""
        local = from_ms(at_ms).astimezone(ZoneInfo(self.timezone))
        begins, ends, now = _of_day(self.begins), _of_day(self.ends), local.time()
        today, yesterday = DAYS[local.weekday()], DAYS[local.weekday() - 1]
        if begins < ends:
            return begins <= now < ends and today in self.days
        return (now >= begins and today in self.days) or (now < ends and yesterday in self.days)


def _of_day(text: str) -> time:
    hour, _, minute = text.partition(":")
    if not (len(hour) == len(minute) == 2 and text.isascii()):
        raise ValueError(text)
    return time(int(hour), int(minute))
