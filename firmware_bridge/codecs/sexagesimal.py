"""Degrees and minutes as text: ``0222.97`` and ``S``, as NMEA and APRS write them."""

from __future__ import annotations

import re

from shared.errors import FrameError

_LAT = re.compile(r"(\d{2})(\d{2}(?:\.\d{1,8})?)", re.ASCII)
_LON = re.compile(r"(\d{3})(\d{2}(?:\.\d{1,8})?)", re.ASCII)
_SIGNS = {"N": 1, "S": -1, "E": 1, "W": -1}


def lat_deg(text: str, hemisphere: str) -> float:
    """Return a latitude of two digits of degrees; raises FrameError unless it is one."""
    return _degrees(_LAT, text, hemisphere, "NS", 90)


def lon_deg(text: str, hemisphere: str) -> float:
    """Return a longitude of three digits of degrees; raises FrameError unless it is one."""
    return _degrees(_LON, text, hemisphere, "EW", 180)


def _degrees(pattern: re.Pattern[str], text: str, hemisphere: str, hemispheres: str, most: int) -> float:
    match = pattern.fullmatch(text)
    if match is None or hemisphere not in _SIGNS or hemisphere not in hemispheres:
        raise FrameError(f"{text[:16]!r} {hemisphere[:1]!r} is no coordinate")
    minutes = float(match[2])
    degrees = int(match[1]) + minutes / 60
    if minutes >= 60 or degrees > most:
        raise FrameError(f"{text!r} {hemisphere!r} is not on the globe")
    return degrees * _SIGNS[hemisphere]
