"""GeoJSON (RFC 7946), both ways: a FeatureCollection of Points, or of a LineString for each animal's way.

Points keep everything: ``properties`` hold the fix, ``geometry`` is null where the receiver failed. Lines are for maps:
only fixes that models may use, their times in ``coordTimes`` beside the coordinates. A line ends at the antimeridian
and the next begins behind it, without the invented point that a cut exactly there would need; a line of one point is a
Point. What lies outside the collection's ``features`` is passed over on reading.

Read feature by feature: the text is taken in pieces and each feature is decoded where it stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from pathlib import Path
from typing import Any, Final, TextIO

from shared.errors import Invalid
from shared.exchange.rows import EXTRAS, TrackFix, by_animal, degrees, flag_names, number, ways
from shared.exchange.times import instant, iso_text
from shared.movement.tracks import BadRow, Rows, TrackRow, extra_cells, flags_called, place_cells, text_cell

_PIECE: Final = 1 << 18
#: The text of one feature that is held at most: a line of a million points.
_MAX_FEATURE: Final = 1 << 26
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NUMBERS: Final = {
    **{name: name for name in EXTRAS}, "altitude": "alt_m", "ele": "alt_m", "heading": "heading_deg",
}  # fmt: skip
_INDIVIDUAL: Final = ("individual", "name")
_TIME: Final = ("time", "timestamp")
_COORD_TIMES: Final = ("coordTimes", "times")


# --- in
def read(path: Path, zone: tzinfo | None = None, individual: str | None = None) -> Iterator[TrackRow | BadRow]:
    """Yield the fixes of all features as they are read; raises Invalid when ``path`` is no FeatureCollection.

    ``individual`` is whose the features without a name are; ``zone`` that of times which carry none.
    """
    rows = Rows(path)
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            for line, feature in _Features(path, file):
                for cells in _fixes(feature):
                    yield (
                        BadRow(line, cells)
                        if isinstance(cells, str)
                        else rows.read(_row, line, cells, zone, individual)
                    )
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error


class _Features:
    """Iterates over the features of a collection, each with the line on which it begins."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path = path
        self._file = file
        self._text = ""
        self._at = 0  # what lies before it has been read
        self._counted = 0  # up to where line ends have been counted
        self._line = 1
        self._is_all = False
        self._decoder = json.JSONDecoder()

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        self._expect("{")
        while True:
            name = self._value()
            self._expect(":")
            if name == "features":
                break
            self._value()
            if self._next() != ",":
                raise self._refusal("has no features: only a FeatureCollection is read")
            self._at += 1
        self._expect("[")
        if self._next() == "]":
            return
        while True:
            self._next()
            yield self._line, self._value()
            if self._next() == "]":
                return
            self._expect(",")

    def _value(self) -> Any:
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._is_all:
                    raise self._refusal(f"{error.msg} after line {self._line}") from error
            except RecursionError as error:
                raise self._refusal(f"is nested without end after line {self._line}") from error
            else:
                if end < len(self._text) or self._is_all:  # a number may go on in the next piece
                    self._at = end
                    return value
            if len(self._text) - self._at > _MAX_FEATURE:
                raise self._refusal(f"holds a feature of more than {_MAX_FEATURE >> 20} MiB at line {self._line}")
            self._more(len(self._text) - self._at)

    def _next(self) -> str:
        """Return the next character that is no space, without taking it; empty at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            assert found is not None  # it matches nothing as well
            self._at = found.end()
            if self._at < len(self._text) or self._is_all:
                self._line += self._text.count("\n", self._counted, self._at)
                self._counted = self._at
                return self._text[self._at : self._at + 1]
            self._more(0)

    def _expect(self, character: str) -> None:
        if self._next() != character:
            raise self._refusal(f"{character!r} expected at line {self._line}")
        self._at += 1

    def _more(self, n: int) -> None:
        """Read on, at least ``n`` characters: a value that needs them again and again is read in doubling pieces."""
        self._line += self._text.count("\n", self._counted, self._at)
        piece = self._file.read(max(_PIECE, n))
        self._is_all = not piece
        self._text = self._text[self._at :] + piece
        self._at = self._counted = 0

    def _refusal(self, why: str) -> Invalid:
        return Invalid(f"{self._path}: is no GeoJSON of tracks: {why}")


def _fixes(feature: Any) -> Iterator[dict[str, Any] | str]:
    """Yield what each fix of a feature says, or why the feature holds none."""
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        yield "is no Feature"
        return
    properties = feature.get("properties")
    said: dict[str, Any] = dict(properties) if isinstance(properties, dict) else {}
    geometry = feature.get("geometry")
    if geometry is None:
        yield {**said, "place": ()}
        return
    kind, coordinates = (geometry.get("type"), geometry.get("coordinates")) if isinstance(geometry, dict) else (None, 0)
    if kind == "Point":
        yield {**said, "place": coordinates}
    elif kind == "LineString" and isinstance(coordinates, list):
        times = next((said[name] for name in _COORD_TIMES if name in said), None)
        if not isinstance(times, list) or len(times) != len(coordinates):
            yield "its line has no coordTimes, one for each point"
            return
        for place, time in zip(coordinates, times, strict=True):
            yield {**said, "place": place, "time": time}
    else:
        yield f"its geometry is {ascii(kind)[:40]}: Points and LineStrings are read"


def _row(line: int, said: Mapping[str, Any], zone: tzinfo | None, unnamed: str | None) -> TrackRow:
    place = said["place"]
    if not isinstance(place, Sequence) or not (len(place) == 0 or 2 <= len(place) <= 4):
        raise ValueError("coordinates: must be longitude and latitude")
    cells = {name: _cell(value) for name, value in said.items() if name not in ("place", *_COORD_TIMES)}
    if place:
        cells["lon"], cells["lat"] = _cell(place[0]), _cell(place[1])
        if not (cells["lon"] and cells["lat"]):
            raise ValueError("coordinates: must be numbers")
        if len(place) > 2 and not any(cells.get(name) for name in ("alt_m", "altitude", "ele")):
            cells["alt_m"] = _cell(place[2])
    else:  # what our own files say of a fix beyond the globe
        cells["lon"], cells["lat"] = cells.get("raw_lon"), cells.get("raw_lat")
    individual = next((text for name in _INDIVIDUAL if (text := text_cell(cells, name))), unnamed)
    if individual is None:
        raise ValueError("individual: is missing; --individual NAME says whose it is")
    time = next((cells[name] for name in _TIME if cells.get(name)), None)
    if time is None:
        raise ValueError("time: is missing")
    lon_deg, lat_deg = place_cells(cells, "lon", "lat", is_bounded=bool(place))
    return TrackRow(
        line=line,
        individual=individual,
        recorded_at=instant(time, zone, column="time"),
        lon_deg=lon_deg,
        lat_deg=lat_deg,
        species=text_cell(cells, "species"),
        collar_id=text_cell(cells, "collar_id"),
        extras=extra_cells(cells, _NUMBERS),
        **flags_called(cells.get("flags")),
    )


def _cell(value: Any) -> str | None:
    """Return a JSON value as the cell of a table; a list or an object is none."""
    if value is None or isinstance(value, bool | list | dict):
        return None
    return value if isinstance(value, str) else repr(value)


# --- out
def write(fixes: Iterable[TrackFix], file: TextIO) -> int:
    """Write every fix as a Feature with a Point, one a line; return how many there were."""
    file.write('{"type":"FeatureCollection","features":[\n')
    n = 0
    for n, fix in enumerate(fixes, 1):
        said = {
            "individual": _json(fix.individual), "species": _json(fix.species), "collar_id": _json(fix.collar_id),
            "time": _json(iso_text(fix.recorded_ms)),
            **{name: number(value) for name in EXTRAS if (value := getattr(fix, name)) is not None},
        }  # fmt: skip
        if fix.flags:
            said["flags"] = _json(flag_names(fix.flags))
        if fix.area is not None:
            said["area"] = _json(fix.area)
        if fix.lon_e7 is None or fix.lat_e7 is None:
            geometry = "null"
        elif fix.is_placed:
            geometry = f'{{"type":"Point","coordinates":[{degrees(fix.lon_e7)},{degrees(fix.lat_e7)}]}}'
        else:
            geometry = "null"
            said["raw_lon"], said["raw_lat"] = degrees(fix.lon_e7), degrees(fix.lat_e7)
        properties = ",".join(f'"{name}":{value}' for name, value in said.items())
        comma = ",\n" if n > 1 else ""
        file.write(f'{comma}{{"type":"Feature","geometry":{geometry},"properties":{{{properties}}}}}')
    file.write("\n]}\n")
    return n


def write_lines(fixes: Iterable[TrackFix], file: TextIO) -> int:
    """Write the usable fixes of each animal as LineStrings; return how many fixes they hold."""
    file.write('{"type":"FeatureCollection","features":[\n')
    n, comma = 0, ""
    for whose, track in by_animal(fixes):
        for lons, lats, times_ms in ways(track):
            places = ",".join(f"[{degrees(lon)},{degrees(lat)}]" for lon, lat in zip(lons, lats, strict=True))
            one = len(lons) == 1
            geometry = f'"Point","coordinates":{places}' if one else f'"LineString","coordinates":[{places}]'
            times = ",".join(f'"{iso_text(ms)}"' for ms in times_ms)
            when = f'"time":{times}' if one else f'"coordTimes":[{times}]'
            file.write(
                f'{comma}{{"type":"Feature","geometry":{{"type":{geometry}}},"properties":{{'
                f'"individual":{_json(whose.individual)},"species":{_json(whose.species)},{when}}}}}'
            )
            n, comma = n + len(lons), ",\n"
    file.write("\n]}\n")
    return n


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
