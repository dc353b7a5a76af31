"""Instants as devices give them."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

#: Where clocks start that nobody has set: the Unix epoch, the GPS epoch (1980-01-06, which receivers without a backup
#: battery report until they hear a satellite) and the start value of OpenCollar firmware (2020-11-25T14:29:35Z).
START_VALUES_S = (0, 315_964_800, 1_606_314_575)

#: A clock that was never set counts up from its start value. A collar that has seen no satellite for 30 days has lain
#: in a drawer; and none of the three windows can hold a true time of a collar that this program serves, so a generous
#: window costs nothing.
UNSET_WINDOW_S = 30 * 86_400


def utc(unix_s: float) -> datetime:
    """Return the aware UTC instant of seconds since 1970."""
    return datetime.fromtimestamp(unix_s, UTC)


def is_clock_unset(unix_s: float) -> bool:
    """Say whether a device time tells that the device's clock was never set."""
    return any(start <= unix_s < start + UNSET_WINDOW_S for start in START_VALUES_S)


def instant_of(text: str | None) -> datetime | None:
    """Return the instant of RFC 3339 text, nine decimals included; None where it says none, or none with a zone.

    For times of the network, which never cost a fix.
    """
    try:
        instant = msgspec.convert(text, datetime)
        return None if instant.tzinfo is None else instant.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        return None


def instant_of_utc(text: str | None) -> datetime | None:
    """Return the instant of text that is UTC where it names no zone; None where it says none."""
    try:
        instant = msgspec.convert(text, datetime)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        return None


def iso_or_none(instant: datetime | None) -> str | None:
    """Return the text of ``iso_text``; None for no instant."""
    return None if instant is None else iso_text(instant)


def iso_text(instant: datetime) -> str:
    """Return RFC 3339 text in UTC, with ``Z`` and without trailing zeros."""
    text = instant.astimezone(UTC).replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if "." in text else text) + "Z"
