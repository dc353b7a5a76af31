"""A fix on its way out of the system, and what every format needs to write one.

What comes in is a ``TrackRow`` of ``shared.movement.tracks``, whatever the format; what goes out is a ``TrackFix``.
Degrees are written with seven places, the grid on which they are stored, and other numbers so that reading them gives
the same number again: a format that is read back gives the row that was written.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import Final
from xml.sax.saxutils import escape, quoteattr

import msgspec

from shared.domain import FixFlag, is_usable

#: What a fix may say beside time and place, by its names in ``NewFix``.
EXTRAS: Final = (
    "alt_m", "speed_mps", "heading_deg", "hdop", "pdop", "sats", "h_acc_m", "seq", "battery_mv", "battery_pct",
    "temperature_c",
)  # fmt: skip
#: Those of them that count.
WHOLE: Final = frozenset({"sats", "seq", "battery_mv"})

_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HALF_TURN_E7: Final = 1_800_000_000


class TrackFix(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One fix of a known animal as it leaves. A collar id ``animal:...`` stands for positions without a collar.

    ``area`` is the name of the area that stands for a place which is not shown.
    """

    animal_id: str
    individual: str
    species: str
    collar_id: str
    recorded_ms: int
    lon_e7: int | None
    lat_e7: int | None
    flags: int
    alt_m: float | None = None
    speed_mps: float | None = None
    heading_deg: float | None = None
    hdop: float | None = None
    pdop: float | None = None
    sats: int | None = None
    h_acc_m: float | None = None
    seq: int | None = None
    battery_mv: int | None = None
    battery_pct: float | None = None
    temperature_c: float | None = None
    area: str | None = None

    @property
    def is_placed(self) -> bool:
        """Say whether it has a place on the globe."""
        return self.lon_e7 is not None and self.lat_e7 is not None and not self.flags & FixFlag.OUT_OF_RANGE


def degrees(e7: int) -> str:
    """Return 1e-7 degrees as text with seven places, exactly."""
    sign = "-" if e7 < 0 else ""
    whole, part = divmod(abs(e7), 10_000_000)
    return f"{sign}{whole}.{part:07d}"


def number(value: float | None) -> str:
    """Return the shortest text that reads as ``value`` again, without a point where it is whole; empty for None."""
    if value is None:
        return ""
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def flag_names(flags: int) -> str:
    """Return the names of quality flags, with spaces between them."""
    return " ".join(flag.name.lower() for flag in FixFlag if flags & flag and flag.name)


def by_animal(fixes: Iterable[TrackFix]) -> Iterator[tuple[TrackFix, Iterator[TrackFix]]]:
    """Split fixes that come animal after animal; with each its first fix, which says whose they are."""
    for _, group in groupby(fixes, attrgetter("animal_id")):
        first = next(group)
        yield first, _again(first, group)  # noqa: B031 - first what was taken, then what is left


def _again(first: TrackFix, rest: Iterator[TrackFix]) -> Iterator[TrackFix]:
    yield first
    yield from rest


def ways(track: Iterable[TrackFix]) -> Iterator[tuple[array[int], array[int], array[int]]]:
    """Yield longitudes, latitudes and times of the usable fixes, cut where the way crosses the antimeridian."""
    lons, lats, times_ms = array("q"), array("q"), array("q")
    for fix in track:
        if not is_usable(fix.flags) or not fix.is_placed:
            continue
        assert fix.lon_e7 is not None and fix.lat_e7 is not None  # noqa: PT018 - one claim: it is placed
        if lons and abs(fix.lon_e7 - lons[-1]) > _HALF_TURN_E7:
            yield lons, lats, times_ms
            lons, lats, times_ms = array("q"), array("q"), array("q")
        lons.append(fix.lon_e7)
        lats.append(fix.lat_e7)
        times_ms.append(fix.recorded_ms)
    if lons:
        yield lons, lats, times_ms


def xml_text(text: str) -> str:
    """Return ``text`` as the content of an XML element; what XML 1.0 cannot hold at all is replaced."""
    return escape(_NO_XML.sub("\N{REPLACEMENT CHARACTER}", text))


def xml_quoted(text: str) -> str:
    """Return ``text`` as the value of an XML attribute, in quotes; what XML 1.0 cannot hold at all is replaced."""
    return quoteattr(_NO_XML.sub("\N{REPLACEMENT CHARACTER}", text))
