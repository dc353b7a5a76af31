"""GPX 1.1, both ways: one ``trk`` an animal, a new ``trkseg`` after a gap, one ``trkpt`` a fix.

GPX has words for height, time, satellites and dilution. What else a fix says travels in one element of ours in the
point's ``extensions``, which other programs pass over::

    <trkpt lat="-2.5000000" lon="37.5000000"><ele>1200.5</ele><time>2026-06-01T12:00:00Z</time><sat>7</sat>
      <extensions><o:fix collar="K1" speed_mps="0.4" flags="poor_dop"/></extensions></trkpt>

A fix without a place on the globe (the receiver failed, or said a latitude of 95 degrees) can be no ``trkpt``. It
stands in the ``extensions`` that end its segment, as ``<o:fix time="..."/>``, so a file keeps every fix.

Read with expat, piece by piece, whatever the size. A document type is refused: GPX needs none, and entities are how XML
is made to explode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import tzinfo
from pathlib import Path
from typing import Final, TextIO
from xml.parsers import expat  # a document type is refused, so no entity is ever expanded

from shared.errors import Invalid
from shared.exchange.rows import TrackFix, by_animal, degrees, flag_names, number, xml_quoted, xml_text
from shared.exchange.times import instant, iso_text
from shared.movement.tracks import BadRow, Rows, TrackRow, extra_cells, flags_called, place_cells, text_cell

TOPOGRAFIX: Final = "http://www.topografix.com/GPX/1/1"
OURS: Final = "urn:outpost:gpx:1"
#: A pause that ends a segment: longer than any collar's usual schedule, a day and a bit.
GAP_MS: Final = 26 * 3_600_000
_PIECE: Final = 1 << 16
_SEP: Final = "\n"
_MAX_TEXT: Final = 10_000
#: GPX's own words, in the order in which its schema wants them.
_WORDS: Final = (("sat", "sats"), ("hdop", "hdop"), ("pdop", "pdop"))
_OWN: Final = ("speed_mps", "heading_deg", "h_acc_m", "seq", "battery_mv", "battery_pct", "temperature_c")
_NUMBERS: Final = {"ele": "alt_m", **dict(_WORDS), **{name: name for name in ("alt_m", "sats", *_OWN)}}
#: A failed fix closes its segment when so many have come together: they are held until then.
_MOST_FAILED: Final = 1_000


# --- in
def read(path: Path, zone: tzinfo | None = None, individual: str | None = None) -> Iterator[TrackRow | BadRow]:
    """Yield the points of all tracks as they are read; raises Invalid when ``path`` is no GPX.

    ``individual`` is whose the tracks without a name are; ``zone`` that of times which carry none, against the rules.
    """
    points = _Points(path, zone, individual)
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield from points.feed(piece)
            yield from points.feed(b"", is_last=True)
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error


class _Points:
    """Expat's events to rows; holds what one point says and no more."""

    def __init__(self, path: Path, zone: tzinfo | None, individual: str | None) -> None:
        self._path = path
        self._zone = zone
        self._unnamed = individual
        self._rows = Rows(path)
        self._found: list[TrackRow | BadRow] = []
        self._open: list[str] = []
        self._text: list[str] = []
        self._line = 0
        self._name: str | None = None
        self._species: str | None = None
        self._cells: dict[str, str | None] | None = None
        self._parser = expat.ParserCreate(namespace_separator=_SEP)
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refuse

    def feed(self, piece: bytes, *, is_last: bool = False) -> list[TrackRow | BadRow]:
        """Return the rows that ``piece`` completes; raises Invalid where it is no XML."""
        try:
            self._parser.Parse(piece, is_last)
        except expat.ExpatError as error:
            raise Invalid(f"{self._path}: is no GPX: {error}") from error
        found, self._found = self._found, []
        return found

    def _refuse(self, *_: object) -> None:
        raise Invalid(f"{self._path}: has a document type, which GPX does not need: refused")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        namespace, _, name = tag.rpartition(_SEP)
        if not self._open and name != "gpx":
            raise Invalid(f"{self._path}: is no GPX: its first element is {name!r}")
        self._open.append(name)
        self._text = []
        if name == "trk":
            self._name = self._species = None
        elif name == "trkpt":
            self._line = self._parser.CurrentLineNumber
            self._cells = dict(attributes)
        elif namespace == OURS and name == "animal":
            self._name, self._species = attributes.get("name", self._name), attributes.get("species")
        elif namespace == OURS and name == "fix" and self._cells is not None:
            self._cells = {**attributes, **self._cells}
        elif namespace == OURS and name == "fix":
            self._line = self._parser.CurrentLineNumber
            self._emit(dict(attributes))

    def _end(self, tag: str) -> None:
        name = tag.rpartition(_SEP)[2]
        self._open.pop()
        text, self._text = "".join(self._text).strip(), []
        if self._cells is not None:
            if name == "trkpt":
                cells, self._cells = self._cells, None
                self._emit(cells)
            elif self._open[-1] == "trkpt" and text:
                self._cells[name] = text
        elif name == "name" and self._open[-1] == "trk" and self._name is None:
            self._name = text or None

    def _characters(self, text: str) -> None:
        if sum(map(len, self._text)) < _MAX_TEXT:
            self._text.append(text)

    def _emit(self, cells: Mapping[str, str | None]) -> None:
        self._found.append(self._rows.read(self._row, self._line, cells))

    def _row(self, line: int, cells: Mapping[str, str | None]) -> TrackRow:
        individual = text_cell({"name": self._name}, "name") or self._unnamed
        if individual is None:
            raise ValueError("its track has no name; --individual NAME says whose it is")
        if cells.get("time") is None:
            raise ValueError("time: is missing")
        lon_deg, lat_deg = place_cells(cells, "lon", "lat", is_bounded="collar" not in cells)
        return TrackRow(
            line=line,
            individual=individual,
            recorded_at=instant(cells["time"] or "", self._zone, column="time"),
            lon_deg=lon_deg,
            lat_deg=lat_deg,
            species=text_cell({"species": self._species}, "species"),
            collar_id=text_cell(cells, "collar"),
            extras=extra_cells(cells, _NUMBERS),
            **flags_called(cells.get("flags")),
        )


# --- out
def write(fixes: Iterable[TrackFix], file: TextIO) -> int:
    """Write ``fixes``, animal after animal and by time, as one GPX; return how many there were."""
    file.write(
        f'<?xml version="1.0" encoding="UTF-8"?>\n<gpx version="1.1" creator="Outpost" xmlns="{TOPOGRAFIX}"'
        f' xmlns:o="{OURS}">\n'
    )
    n = 0
    for whose, track in by_animal(fixes):
        file.write(
            f"<trk><name>{xml_text(whose.individual)}</name><extensions><o:animal name={xml_quoted(whose.individual)}"
            f" species={xml_quoted(whose.species)}/></extensions>\n"
        )
        n += _write_segments(track, file)
        file.write("</trk>\n")
    file.write("</gpx>\n")
    return n


def _write_segments(track: Iterator[TrackFix], file: TextIO) -> int:
    n = 0
    failed: list[TrackFix] = []
    last_ms: int | None = None
    for fix in track:
        is_gap = last_ms is not None and fix.recorded_ms - last_ms > GAP_MS
        if last_ms is None or is_gap or len(failed) >= _MOST_FAILED:
            if last_ms is not None:
                _end_segment(failed, file)
            file.write("<trkseg>\n")
        last_ms = fix.recorded_ms
        n += 1
        if not fix.is_placed:
            failed.append(fix)
            continue
        assert fix.lon_e7 is not None and fix.lat_e7 is not None  # noqa: PT018 - one claim: it is placed
        words = "".join(
            f"<{word}>{number(value)}</{word}>" for word, name in _WORDS if (value := getattr(fix, name)) is not None
        )
        height = "" if fix.alt_m is None else f"<ele>{number(fix.alt_m)}</ele>"
        file.write(
            f'<trkpt lat="{degrees(fix.lat_e7)}" lon="{degrees(fix.lon_e7)}">{height}'
            f"<time>{iso_text(fix.recorded_ms)}</time>{words}"
            f"<extensions><o:fix{_attributes(fix, _OWN)}/></extensions></trkpt>\n"
        )
    if last_ms is not None:
        _end_segment(failed, file)
    return n


def _end_segment(failed: list[TrackFix], file: TextIO) -> None:
    if failed:
        file.write("<extensions>\n")
        for fix in failed:
            place = "" if fix.lon_e7 is None else f' lon="{degrees(fix.lon_e7)}"'
            place += "" if fix.lat_e7 is None else f' lat="{degrees(fix.lat_e7)}"'
            all_of_it = _attributes(fix, ("alt_m", *(name for _, name in _WORDS), *_OWN))
            file.write(f'<o:fix time="{iso_text(fix.recorded_ms)}"{place}{all_of_it}/>\n')
        file.write("</extensions>\n")
        failed.clear()
    file.write("</trkseg>\n")


def _attributes(fix: TrackFix, names: Iterable[str]) -> str:
    said = [("collar", fix.collar_id), *((name, number(getattr(fix, name))) for name in names)]
    said.append(("flags", flag_names(fix.flags)))
    return "".join(f" {name}={xml_quoted(text)}" for name, text in said if text)
