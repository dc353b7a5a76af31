"""Laws of the formats: what is written is read as it was, and bytes of any kind are read or refused."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain import EXCLUDING, FixFlag
from shared.errors import Invalid
from shared.exchange import geojson, movebank
from shared.exchange.formats import IMPORTED, WRITTEN, ImportFormat, format_of, read_rows
from shared.exchange.rows import EXTRAS, WHOLE, TrackFix, degrees, number
from shared.exchange.times import instant, iso_text
from shared.movement.tracks import BadRow, TrackRow
from shared.sync.records import from_ms

NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))
WHOLLY_KEPT: tuple[ImportFormat, ...] = ("tidy", "movebank", "gpx", "geojson")
SUFFIX = {"gpx": ".gpx", "geojson": ".geojson"}


def examples(n: int) -> settings:
    return settings(max_examples=n * 10 if NIGHTLY else n, deadline=None, derandomize=True, database=None)


@contextmanager
def file_with(content: bytes, form: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"tracks{SUFFIX.get(form, '.csv')}"
        path.write_bytes(content)
        yield path


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8).filter(
    lambda name: name.isprintable() and name == name.strip() and not name.startswith("animal:")
)
NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: value + 0.0)


@st.composite
def tracks(draw: st.DrawFn) -> list[TrackFix]:
    """Draw some animals' fixes, animal after animal and by time, as a home hands them to a writer."""
    fixes = []
    for number_of, individual in enumerate(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))):
        species = draw(st.sampled_from(["lion", "<&'\">"]))
        times = draw(st.lists(st.integers(0, 2_000_000_000_000), max_size=6, unique=True))
        for ms in sorted(times):
            is_failed = draw(st.booleans())
            lon = None if is_failed else draw(st.integers(-1_800_000_000, 1_800_000_000))
            lat = None if is_failed else draw(st.integers(-900_000_000, 900_000_000))
            said = draw(st.sets(st.sampled_from(EXTRAS)))
            extras = {name: draw(st.integers(0, 60_000)) if name in WHOLE else draw(NUMBERS) for name in said}
            flags = draw(st.sampled_from([0, 0, FixFlag.EXCLUDED_BY_HAND, FixFlag.REINSTATED | FixFlag.POOR_DOP]))
            fixes.append(
                TrackFix(
                    animal_id=str(number_of), individual=individual, species=species,
                    collar_id=draw(st.sampled_from(["K1", "eui:01", 'a "b"'])), recorded_ms=ms, lon_e7=lon, lat_e7=lat,
                    flags=int(flags) | (int(FixFlag.NO_FIX) if is_failed else 0), **extras,  # type: ignore[arg-type] # whole where it must be
                )
            )  # fmt: skip
    return fixes


def written(fixes: list[TrackFix], form: str) -> bytes:
    text = io.StringIO(newline="")
    assert WRITTEN[form](fixes, text) == len(fixes)
    return text.getvalue().encode()


def row_of(fix: TrackFix) -> TrackRow:
    """Return what a reader must find of ``fix``, but for the line."""
    return TrackRow(
        line=0, individual=fix.individual, recorded_at=from_ms(fix.recorded_ms), species=fix.species,
        lon_deg=None if fix.lon_e7 is None else float(degrees(fix.lon_e7)),
        lat_deg=None if fix.lat_e7 is None else float(degrees(fix.lat_e7)), collar_id=fix.collar_id,
        extras={name: value for name in EXTRAS if (value := getattr(fix, name)) is not None},
        is_excluded=bool(fix.flags & FixFlag.EXCLUDED_BY_HAND), is_reinstated=bool(fix.flags & FixFlag.REINSTATED),
    )  # fmt: skip


def order(row: TrackRow) -> tuple[object, ...]:
    return (row.individual, row.recorded_at)


@pytest.mark.parametrize("form", WHOLLY_KEPT)
@examples(40)
@given(fixes=tracks())
def test_what_is_written_is_read_again_as_it_was(form: ImportFormat, fixes: list[TrackFix]) -> None:
    with file_with(written(fixes, form), form) as path:
        assert format_of(path) == form
        found = list(read_rows(path, form, zone=None))
    rows = []
    for row in found:
        assert isinstance(row, TrackRow), row
        rows.append(row)
    assert sorted(map(unplaced_line, rows), key=order) == sorted(map(row_of, fixes), key=order)


def unplaced_line(row: TrackRow) -> TrackRow:
    assert row.line > 0
    return TrackRow(**{name: getattr(row, name) for name in row.__struct_fields__ if name != "line"}, line=0)


@examples(40)
@given(fixes=tracks())
def test_the_lines_of_a_map_are_read_again_as_the_usable_fixes(fixes: list[TrackFix]) -> None:
    usable = [
        fix
        for fix in fixes
        if fix.lon_e7 is not None
        and not fix.flags & FixFlag.EXCLUDED_BY_HAND
        and (fix.flags & FixFlag.REINSTATED or not fix.flags & EXCLUDING)
    ]
    text = io.StringIO()
    assert geojson.write_lines(fixes, text) == len(usable)
    with file_with(text.getvalue().encode(), "geojson") as path:
        found = [row for row in geojson.read(path) if isinstance(row, TrackRow)]
    expected = [(fix.individual, from_ms(fix.recorded_ms), float(degrees(fix.lon_e7 or 0))) for fix in usable]
    assert sorted((row.individual, row.recorded_at, row.lon_deg or 0.0) for row in found) == sorted(expected)


@examples(40)
@given(fixes=tracks())
def test_an_event_has_the_same_number_in_every_export(fixes: list[TrackFix]) -> None:
    numbers = [line.split(b",")[0] for line in written(fixes, "movebank").splitlines()[1:]]
    assert len(set(numbers)) == len(fixes)
    assert [line.split(b",")[0] for line in written(fixes[::-1], "movebank").splitlines()[1:]] == numbers[::-1]


@pytest.mark.parametrize("form", IMPORTED)
@examples(60)
@given(content=st.binary(max_size=300), start=st.integers(0, 3))
def test_no_bytes_do_anything_but_be_read_or_refused(form: ImportFormat, content: bytes, start: int) -> None:
    heads = [
        b"",
        b'{"type":"FeatureCollection","features":[',
        b'<gpx version="1.1"><trk><trkseg>',
        b"timestamp,lon,lat\n",
    ]
    read: Callable[[Path], object] = (
        (lambda path: list(movebank.read_reference(path)))
        if form == "movebank-reference"
        else (lambda path: list(read_rows(path, form, zone=UTC)))
    )
    with file_with(heads[start] + content, form) as path:
        try:
            read(path)
        except Invalid as refusal:
            refusal.detail.encode()


@pytest.mark.parametrize("form", WHOLLY_KEPT)
@examples(25)
@given(fixes=tracks(), data=st.data())
def test_a_file_that_was_cut_short_gives_its_beginning_or_a_refusal(
    form: ImportFormat, fixes: list[TrackFix], data: st.DataObject
) -> None:
    whole = written(fixes, form)
    cut = data.draw(st.integers(0, len(whole)))
    known = {(fix.individual, fix.recorded_ms) for fix in fixes}
    with file_with(whole[:cut], form) as path:
        try:
            for row in read_rows(path, form, zone=UTC):
                assert isinstance(row, TrackRow | BadRow)
                if isinstance(row, TrackRow):
                    assert (row.individual, round(row.recorded_at.timestamp() * 1000)) in known
        except Invalid:
            pass


@examples(200)
@given(e7=st.integers(-1_800_000_000, 1_800_000_000), value=st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_written_so_that_they_read_the_same(e7: int, value: float) -> None:
    assert round(float(degrees(e7)) * 1e7) == e7
    assert degrees(e7).count(".") == 1
    assert float(number(value)) == value


@examples(200)
@given(ms=st.integers(-10_000_000_000_000, 100_000_000_000_000))
def test_an_instant_reads_as_the_same_millisecond(ms: int) -> None:
    assert round(instant(iso_text(ms), None).timestamp() * 1000) == ms
