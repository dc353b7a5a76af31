"""NMEA 0183 epochs: the sentences RMC, GGA and GNS of one time of day make one fix.

RMC gives date, time, position, speed in knots and course; GGA (or GNS) satellites, HDOP and the altitude above mean sea
level. What decides whether there is a fix:

- RMC says ``A``, and its position mode, where the receiver is young enough to send one, is autonomous, differential,
  float or fixed. The navigational status behind it is always ``V`` on u-blox receivers and means nothing;
- GGA's quality, if there is a GGA, is a satellite one. 0 stands beside coordinates of 0 or of the last fix;
- GGA alone has no date, so it is no fix at all: its fields stand in the details.

Empty fields stay unknown and never become 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from itertools import groupby
from typing import Any

from pynmeagps import NMEAReader
from pynmeagps.exceptions import NMEAMessageError, NMEAParseError, NMEATypeError

from firmware_bridge.codecs.instants import is_clock_unset, iso_text
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import DecodedFix, Uplink
from shared.errors import FrameError

_MPS_PER_KNOT = 1852 / 3600
_SENTENCE = re.compile(r"\$(?!P)[A-Z]{2}(?:RMC|GGA|GNS),[0-9A-Za-z.,+ -]*\*[0-9A-Fa-f]{2}")
_TIME = re.compile(r"\d{6}(\.\d+)?")
_DATE = re.compile(r"\d{6}")
_RMC_DATE_FIELD = 9

#: Autonomous, differential, float RTK, fixed RTK; not estimated, manual or simulated. Precise is GNS's own.
_RMC_MODES = frozenset("ADFR")
_GNS_MODES = frozenset("ADFRP")
#: GPS, differential, PPS, fixed RTK, float RTK, and SBAS as some makers number it; not estimated, manual or simulated.
_GGA_QUALITIES = frozenset({1, 2, 3, 4, 5, 9})


class NmeaCodec:
    """Read epochs of RMC, GGA and GNS sentences."""

    format = "nmea0183"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per epoch; raises FrameError where a sentence is damaged or of another type."""
        sentences = list(_sentences(payload))
        if not sentences:
            raise FrameError("there is no sentence")
        return [self._uplink(list(epoch)) for _, epoch in groupby(sentences, key=lambda sentence: sentence.time_of_day)]

    def _uplink(self, epoch: list[_Sentence]) -> Uplink:
        # A talker may repeat a type; what its first sentence says stands.
        by_kind = {sentence.kind: sentence for sentence in reversed(epoch)}
        rmc = by_kind.get("RMC")
        quality = by_kind.get("GGA") or by_kind.get("GNS")
        details: dict[str, Any] = {}
        if quality is not None:
            details |= quality.details()
        if rmc is None:
            return Uplink(format=self.format, details=details)
        is_valid = rmc.is_valid and (quality is None or quality.is_valid)
        details |= rmc.details()
        details["valid"] = is_valid
        return Uplink(format=self.format, fixes=_fixes(rmc, quality, is_valid=is_valid), details=details)


ROUTES = (Route(NmeaCodec(), "nmea"),)


class _Sentence:
    """One sentence with its fields typed; None for what is empty or unreadable."""

    def __init__(self, text: str) -> None:
        message = _parsed(text)
        self._fields = text.partition("*")[0].split(",")
        self._message = message
        self.kind: str = message.msgID
        self.time_of_day = self._time_of_day()
        self.lat_deg = self._number("lat") if getattr(message, "NS", "") in {"N", "S"} else None
        self.lon_deg = self._number("lon") if getattr(message, "EW", "") in {"E", "W"} else None

    @property
    def is_valid(self) -> bool:
        """Say whether this sentence, for itself, tells of a fix."""
        if self.lat_deg is None or self.lon_deg is None:
            return False
        mode = str(getattr(self._message, "posMode", "")).strip()
        if self.kind == "RMC":
            return getattr(self._message, "status", "") == "A" and (not mode or mode in _RMC_MODES)
        if self.kind == "GNS":
            return not _GNS_MODES.isdisjoint(mode)
        return self._number("quality") in _GGA_QUALITIES

    @property
    def recorded_at(self) -> datetime | None:
        """The instant of an RMC sentence."""
        if self.kind != "RMC" or self.time_of_day is None or len(self._fields) <= _RMC_DATE_FIELD:
            return None
        day = getattr(self._message, "date", "")
        if not isinstance(day, date) or _DATE.fullmatch(self._fields[_RMC_DATE_FIELD]) is None:
            return None
        return datetime.combine(day, self.time_of_day, UTC)

    @property
    def alt_m(self) -> float | None:
        """Altitude above mean sea level, of GGA and GNS."""
        return self._number("alt")

    @property
    def hdop(self) -> float | None:
        """Horizontal dilution of precision, of GGA and GNS."""
        return self._number("HDOP")

    @property
    def sats(self) -> int | None:
        """Satellites used, of GGA and GNS."""
        count = self._number("numSV")
        return None if count is None else int(count)

    @property
    def speed_kn(self) -> float | None:
        """Speed over ground in knots, of RMC."""
        return self._number("spd")

    @property
    def heading_deg(self) -> float | None:
        """Course over ground, of RMC."""
        return self._number("cog")

    def details(self) -> dict[str, Any]:
        """Return the fields under their usual names."""
        position = {"lat": self.lat_deg, "lon": self.lon_deg, "valid": self.is_valid}
        if self.kind == "RMC":
            instant = self.recorded_at
            return {
                **position,
                "time": None if instant is None else iso_text(instant),
                "date": None if instant is None else instant.date().isoformat(),
                "sog_kn": self.speed_kn,
                "cog": self.heading_deg,
            }
        return {
            **position,
            "date": None,
            "time_of_day": None if self.time_of_day is None else self.time_of_day.isoformat(),
            "quality": self._number("quality") if self.kind == "GGA" else getattr(self._message, "posMode", None),
            "sats": self.sats,
            "hdop": self.hdop,
            "alt_msl_m": self.alt_m,
            "geoid_m": self._number("sep"),
        }

    def _time_of_day(self) -> time | None:
        value = getattr(self._message, "time", "")
        if not isinstance(value, time) or _TIME.fullmatch(self._fields[1]) is None:
            return None
        return value

    def _number(self, name: str) -> float | int | None:
        value = getattr(self._message, name, "")
        return value if isinstance(value, int | float) and math.isfinite(value) else None


def _sentences(payload: bytes) -> Iterator[_Sentence]:
    try:
        lines = payload.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise FrameError(f"not ASCII: byte {error.start}") from error
    for line in lines:
        if stripped := line.strip():
            yield _Sentence(stripped)


def _parsed(text: str) -> Any:
    if _SENTENCE.fullmatch(text) is None:
        raise FrameError(f"not an RMC, GGA or GNS sentence with a checksum: {text[:82]!r}")
    try:
        message = NMEAReader.parse(text.encode())
    except (NMEAParseError, NMEAMessageError, NMEATypeError) as error:
        raise FrameError(str(error)) from error
    if message is None:
        raise FrameError(f"unreadable sentence: {text[:82]!r}")
    return message


def _fixes(rmc: _Sentence, quality: _Sentence | None, *, is_valid: bool) -> tuple[DecodedFix, ...]:
    recorded_at = rmc.recorded_at
    is_unset = recorded_at is not None and is_clock_unset(recorded_at.timestamp())
    sats = None if quality is None else quality.sats
    if not is_valid:
        failed = DecodedFix(recorded_at=recorded_at, lon_deg=None, lat_deg=None, sats=sats, is_clock_unset=is_unset)
        return (failed,)
    if recorded_at is None:
        # A position without an instant is no fix, and the time of arrival must not stand in for it.
        return ()
    return (
        DecodedFix(
            recorded_at=recorded_at,
            lon_deg=rmc.lon_deg,
            lat_deg=rmc.lat_deg,
            alt_m=None if quality is None else quality.alt_m,
            speed_mps=None if rmc.speed_kn is None else rmc.speed_kn * _MPS_PER_KNOT,
            heading_deg=rmc.heading_deg,
            hdop=None if quality is None else quality.hdop,
            sats=sats,
            is_clock_unset=is_unset,
        ),
    )
