"""Instants of other people's files: the time zone of a text is known, or it is asked for, never guessed.

A text with an offset needs nothing. One without is a wall clock: only with the zone that a person named does it tell an
instant, and twice a year not even then. Where clocks are set back an hour happens twice, where they are set forward an
hour does not happen; both are refused row by row, because either choice would move an animal in time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from shared.errors import Invalid

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class NoZone(ValueError):
    """A time without a zone, and nobody said which."""


def zone_called(name: str) -> tzinfo:
    """Return the time zone of an IANA name (``Africa/Nairobi``); raises Invalid where there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid(
            f"{name!r} is no time zone that is known here: it must be written AREA/CITY, like Africa/Nairobi; where all"
            " are unknown the package tzdata is not installed"
        ) from error


def instant(text: str, zone: tzinfo | None, *, column: str = "timestamp") -> datetime:
    """Return the aware UTC instant of an ISO 8601 text; ``zone`` is that of texts which carry none.

    Raises NoZone where it is needed and None, ValueError for any other text that tells no instant.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{column}: {text!r} is not YYYY-MM-DDTHH:MM:SSZ") from None
    try:
        if found.tzinfo is not None:
            return found.astimezone(UTC)
        if zone is None:
            raise NoZone(f"{column}: {text!r} carries no time zone")
        return found.replace(tzinfo=UTC) if zone is UTC else _told_by(found, zone, text, column)
    except OverflowError:
        raise ValueError(f"{column}: {text!r} is beyond the calendar") from None


def _told_by(wall: datetime, zone: tzinfo, text: str, column: str) -> datetime:
    first, second = (wall.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first.astimezone(UTC)
    is_told_twice = first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall
    why = "happened twice there, as clocks were set back" if is_told_twice else "never happened there"
    raise ValueError(f"{column}: {text!r} is no instant of {zone}: it {why}; give this row an offset or UTC")


def iso_text(ms: int) -> str:
    """Return milliseconds since 1970 as RFC 3339 text in UTC, with ``.fff`` where there is a fraction."""
    text = utc(ms).replace(tzinfo=None).isoformat(timespec="milliseconds")
    return f"{text.removesuffix('.000')}Z"


def utc(ms: int) -> datetime:
    """Return the aware UTC instant of milliseconds since 1970."""
    return _EPOCH + ms * _MILLISECOND
