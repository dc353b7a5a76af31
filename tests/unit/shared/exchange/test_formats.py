"""What each format's files say, by example; the laws are in tests/property/test_exchange.py."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.domain import FixFlag
from shared.errors import Invalid
from shared.exchange import geojson, gpx, kml, movebank
from shared.exchange.formats import ImportFormat, format_of, read_rows, rows_in
from shared.exchange.movebank import DeploymentRow, OtherSensor
from shared.exchange.rows import TrackFix
from shared.movement.tracks import BadRow, TrackRow, flags_called

pytestmark = pytest.mark.unit

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
NOON_MS = round(NOON.timestamp() * 1000)
HOUR_MS = 3_600_000
MOVEBANK = "event-id,visible,timestamp,location-long,location-lat,"
PLAIN = MOVEBANK + "sensor-type,individual-taxon-canonical-name,tag-local-identifier,individual-local-identifier"


def fix(hour: float = 0, *, lon_e7: int | None = 375_000_000, flags: int = 0, name: str = "Ayo") -> TrackFix:
    return TrackFix(
        animal_id=name, individual=name, species="Loxodonta africana", collar_id="K1", flags=int(flags),
        recorded_ms=NOON_MS + round(hour * HOUR_MS), lon_e7=lon_e7, lat_e7=None if lon_e7 is None else -25_000_000,
    )  # fmt: skip


def rows(
    folder: Path, text: str, form: ImportFormat, name: str = "tracks.csv"
) -> list[TrackRow | BadRow | OtherSensor]:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return list(read_rows(path, form, zone=None))


def good(found: list[TrackRow | BadRow | OtherSensor]) -> list[TrackRow]:
    assert all(isinstance(row, TrackRow) for row in found), found
    return [row for row in found if isinstance(row, TrackRow)]


# --- Movebank
def test_a_row_of_movebank_is_utc_and_is_read_with_all_that_it_says(tmp_path: Path) -> None:
    more = "height-above-ellipsoid,gps:hdop,gps:satellite-count,ground-speed,external-temperature,tag-voltage"
    line = "1,true,2014-01-23 11:30:42.250,37.5,-2.5,gps,Loxodonta africana,2829,Habiba,1200.5,1.2,7,0.4,24,3600"
    (row,) = good(rows(tmp_path, f"{PLAIN},{more}\n{line}\n", "movebank"))
    assert row == TrackRow(
        line=2, individual="Habiba", recorded_at=datetime(2014, 1, 23, 11, 30, 42, 250_000, UTC), lon_deg=37.5,
        lat_deg=-2.5, species="Loxodonta africana", collar_id="2829", extras={"alt_m": 1200.5, "hdop": 1.2, "sats": 7,
        "speed_mps": 0.4, "temperature_c": 24.0, "battery_mv": 3600},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("visible", "algorithm", "manual", "imported", "valid", "expected"),
    [
        ("true", "", "", "", "", (False, False, False)),
        ("false", "", "", "", "", (False, False, True)),
        ("false", "true", "", "", "", (False, False, True)),
        ("false", "", "true", "", "", (True, False, False)),
        ("false", "true", "", "TRUE", "", (True, False, False)),
        ("true", "true", "", "", "true", (False, True, False)),
        ("true", "false", "false", "", "", (False, False, False)),
    ],
)
def test_marks_of_outliers_become_decisions_and_doubts(
    tmp_path: Path, visible: str, algorithm: str, manual: str, imported: str, valid: str, expected: tuple[bool, ...]
) -> None:
    head = f"{PLAIN},algorithm-marked-outlier,manually-marked-outlier,import-marked-outlier,manually-marked-valid"
    line = f"1,{visible},2014-01-23 11:30:42.000,37.5,-2.5,gps,x,2829,Habiba,{algorithm},{manual},{imported},{valid}"
    (row,) = good(rows(tmp_path, f"{head}\n{line}\n", "movebank"))
    assert (row.is_excluded, row.is_reinstated, row.is_doubted) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (FixFlag(0), "true,,,,"),
        (FixFlag.IMPOSSIBLE_SPEED, "false,true,,,"),
        (FixFlag.DUPLICATE | FixFlag.EXCLUDED_BY_HAND, "false,true,,true,"),
        (FixFlag.POOR_DOP | FixFlag.REINSTATED, "true,true,,,true"),
        (FixFlag.WEEK_ROLLOVER, "true,,,,"),
        (FixFlag.NO_FIX, "true,,,,"),
    ],
)
def test_flags_become_marks_of_outliers(flags: FixFlag, expected: str) -> None:
    text = io.StringIO()
    movebank.write([fix(flags=flags, lon_e7=None if flags is FixFlag.NO_FIX else 1)], text, study="S")
    head, line = (each.split(",") for each in text.getvalue().splitlines())
    cells = dict(zip(head, line, strict=True))
    names = ("visible", "algorithm-marked-outlier", "import-marked-outlier", "manually-marked-outlier")
    assert ",".join(cells[name] for name in (*names, "manually-marked-valid")) == expected


def test_rows_of_other_sensors_are_passed_over_and_undeployed_ones_are_kept(tmp_path: Path) -> None:
    lines = [
        "1,true,2014-01-23 11:30:42.000,,,acceleration,x,2829,Habiba",
        "2,true,2014-01-23 11:30:42.000,37.5,-2.5,gps,x,2829,",
        "3,true,2014-01-23 11:30:42.000,,,gps,x,2829,Habiba",
        "4,true,2014-01-23 11:30:42.000,37.5,-2.5,gps,x,,",
    ]
    sensor, undeployed, failed, nobody = rows(tmp_path, "\n".join((PLAIN, *lines)), "movebank")
    assert sensor == OtherSensor(2, "acceleration")
    assert isinstance(undeployed, TrackRow)
    assert (undeployed.individual, undeployed.collar_id) == ("", "2829")
    assert isinstance(failed, TrackRow)
    assert failed.lon_deg is None
    assert isinstance(nobody, BadRow)
    assert "both are empty" in nobody.reason


@pytest.mark.parametrize(
    ("form", "head", "whole", "cut"),
    [
        ("movebank", PLAIN, "1,true,2026-06-01 12:00:00,37.5,-2.5,gps,,K1,Ayo", -9),
        ("tidy", "individual,timestamp,lon,lat,species", "Ayo,2026-06-01T12:00:00Z,37.5,-2.5,lion", -6),
    ],
)
def test_a_row_that_the_end_of_the_file_cuts_short_is_no_fix(
    tmp_path: Path, form: ImportFormat, head: str, whole: str, cut: int
) -> None:
    short = BadRow(3, "the file ends inside this row")
    assert rows(tmp_path, f"{head}\n{whole}\n{whole[:cut]}", form)[1:] == [short]
    assert isinstance(rows(tmp_path, f"{head}\n{whole}", form)[0], TrackRow)
    assert short not in rows(tmp_path, f"{head}\n{whole}\n{whole[:cut]}\n", form)


def test_deployments_are_read_with_dates_and_times_and_written_so_that_they_read_the_same(tmp_path: Path) -> None:
    path = tmp_path / "reference.csv"
    path.write_text(
        "tag-id,animal-id,animal-taxon,deploy-on-date,deploy-off-date,animal-sex\n"
        "K1,Ayo,Loxodonta africana,2014-01-23 11:30:42.250,2014-02-01,f\n"
        "K2,Bo,,2014-01-23,,M\nK3,Cy,,2014-01-23,2014-01-22 00:00:00.000,\n,Di,,2014-01-23,,\nK5,Ed,,soon,,\n"
    )
    assert format_of(path) == "movebank-reference"
    first, second, *bad = movebank.read_reference(path)
    assert isinstance(first, DeploymentRow)
    assert first.started_at == datetime(2014, 1, 23, 11, 30, 42, 250_000, UTC)
    assert (first.ended_at, first.gender) == (datetime(2014, 2, 2, tzinfo=UTC), "female")  # the whole last day
    assert isinstance(second, DeploymentRow)
    assert (second.started_at, second.ended_at) == (datetime(2014, 1, 23, tzinfo=UTC), None)
    assert second.gender == "male"
    assert [isinstance(each, BadRow) for each in bad] == [True] * 3
    text = io.StringIO()
    assert movebank.write_reference([first, second], text) == 2
    path.write_text(text.getvalue())
    assert list(movebank.read_reference(path)) == [first, second]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (None, {}),
        ("", {}),
        ("unheard_of", {}),
        ("duplicate no_fix", ()),
        ("clock_unset", ("is_clock_unset",)),
        ("excluded_by_hand poor_dop", ("is_excluded", "is_doubted")),
        ("future", ("is_doubted",)),
        ("future reinstated", ("is_reinstated",)),
    ],
)
def test_of_flags_by_name_is_kept_what_no_rule_can_find_again(flags: str | None, expected: object) -> None:
    found = flags_called(flags)
    assert (tuple(name for name, value in found.items() if value) if found else {}) == expected


# --- GPX
GPX = f'<gpx version="1.1" creator="x" xmlns="{gpx.TOPOGRAFIX}">'


def test_a_track_of_another_program_is_read(tmp_path: Path) -> None:
    text = (
        f"<?xml version='1.0'?>\n{GPX}<wpt lat='1' lon='2'><name>camp</name></wpt>"
        "<trk><name>Ayo &amp; Bo</name><trkseg>\n"
        "<trkpt lat='-2.5' lon='37.5'><ele>1200.5</ele><time>2026-06-01T12:00:00Z</time><sat>7</sat><hdop>1.2</hdop>"
        "</trkpt>\n<trkpt lat='91' lon='0'><time>2026-06-01T13:00:00Z</time></trkpt>\n"
        "<trkpt lat='1' lon='0'/></trkseg></trk></gpx>"
    )
    first, beyond, timeless = rows(tmp_path, text, "gpx", "a.gpx")
    assert isinstance(first, TrackRow)
    assert (first.individual, first.line, first.recorded_at) == ("Ayo & Bo", 3, NOON)
    assert first.extras == {"alt_m": 1200.5, "sats": 7, "hdop": 1.2}
    assert beyond == BadRow(4, "lon, lat: out of range")
    assert timeless == BadRow(5, "time: is missing")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<kml/>", "first element"),
        ("nothing", "is no GPX"),
        (f"{GPX}<trk>", "is no GPX"),
        ('<!DOCTYPE gpx [<!ENTITY a "aaaaaaaa">]><gpx>&a;</gpx>', "document type"),
        (
            f"{GPX}<trk><name>A</name><trkseg><trkpt lat='1' lon='2'><time>2026-06-01T12:00:00</time></trkpt>",
            "--timezone",
        ),
    ],
)
def test_what_is_no_gpx_of_ours_to_read_is_refused_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        rows(tmp_path, text, "gpx", "a.gpx")


def test_a_gap_begins_a_new_segment_and_what_has_no_place_stands_beside_them() -> None:
    text = io.StringIO()
    track = [fix(0), fix(1, lon_e7=None, flags=FixFlag.NO_FIX), fix(2), fix(30), fix(31, flags=FixFlag.OUT_OF_RANGE)]
    assert gpx.write([*track, fix(0, name="Bo")], text) == 6
    root = ET.fromstring(text.getvalue())
    named = {"g": gpx.TOPOGRAFIX, "o": gpx.OURS}
    ayo, bo = root.findall("g:trk", named)
    assert [len(segment.findall("g:trkpt", named)) for segment in ayo.findall("g:trkseg", named)] == [2, 1]
    assert len(bo.findall(".//g:trkpt", named)) == 1
    beside = [len(segment.findall("g:extensions/o:fix", named)) for segment in ayo.findall("g:trkseg", named)]
    assert beside == [1, 1]


def test_a_fix_beyond_the_globe_keeps_what_the_collar_said(tmp_path: Path) -> None:
    beyond = TrackFix(
        animal_id="1", individual="Ayo", species="x", collar_id="K1", recorded_ms=NOON_MS, lon_e7=1_900_000_000,
        lat_e7=950_000_000, flags=int(FixFlag.OUT_OF_RANGE),
    )  # fmt: skip
    for name, write in (("a.gpx", gpx.write), ("a.geojson", geojson.write)):
        text = io.StringIO()
        write([beyond], text)
        (row,) = good(rows(tmp_path, text.getvalue(), "gpx" if name == "a.gpx" else "geojson", name))
        assert (row.lon_deg, row.lat_deg) == (190.0, 95.0)


# --- GeoJSON
def collection(*features: object) -> str:
    return json.dumps({"type": "FeatureCollection", "name": ["x"], "features": features, "after": 1})


def feature(geometry: object, **properties: object) -> dict[str, object]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def test_points_and_lines_of_another_program_are_read(tmp_path: Path) -> None:
    at = "2026-06-01T12:00:00Z"
    point = feature({"type": "Point", "coordinates": [37.5, -2.5, 1200]}, name="Ayo", time=at, sats=7)
    line = feature(
        {"type": "LineString", "coordinates": [[37.5, -2.5], [37.6, -2.5]]}, individual="Bo",
        coordTimes=[at, "2026-06-01T15:00:00+02:00"],
    )  # fmt: skip
    one, two, three = good(rows(tmp_path, collection(point, line), "geojson", "a.json"))
    assert (one.individual, one.extras) == ("Ayo", {"sats": 7, "alt_m": 1200.0})
    assert [(row.individual, row.lon_deg, row.recorded_at) for row in (two, three)] == [
        ("Bo", 37.5, NOON), ("Bo", 37.6, NOON + timedelta(hours=1)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (feature({"type": "Polygon", "coordinates": []}, name="A", time="2026-06-01T12:00:00Z"), "Polygon"),
        (feature({"type": "LineString", "coordinates": [[1, 2]]}, name="A"), "coordTimes"),
        (feature({"type": "Point", "coordinates": ["a", 2]}, name="A", time="2026-06-01T12:00:00Z"), "no number"),
        (feature({"type": "Point", "coordinates": 7}, name="A", time="2026-06-01T12:00:00Z"), "longitude"),
        (feature({"type": "Point", "coordinates": [1, 2]}, name="A"), "time"),
        (feature({"type": "Point", "coordinates": [1, 2]}, time="2026-06-01T12:00:00Z"), "individual"),
        ("text", "no Feature"),
    ],
)
def test_a_bad_feature_says_why_and_costs_no_neighbour(tmp_path: Path, bad: object, words: str) -> None:
    fine = feature({"type": "Point", "coordinates": [1, 2]}, name="A", time="2026-06-01T12:00:00Z")
    first, found, last = rows(tmp_path, collection(fine, bad, fine), "geojson", "a.json")
    assert isinstance(first, TrackRow)
    assert isinstance(last, TrackRow)
    assert isinstance(found, BadRow)
    assert words in found.reason


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"type": "Feature"}', '{"features": [}', '{"features": [1', '{"a": 1, "features": 2}', "{" * 9],
)
def test_what_is_no_collection_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(Invalid, match="is no GeoJSON of tracks"):
        rows(tmp_path, text, "geojson", "a.json")


def test_a_long_collection_is_read_over_the_ends_of_pieces_with_its_lines(tmp_path: Path) -> None:
    text = io.StringIO()
    geojson.write((fix(hour) for hour in range(4_000)), text)
    found = good(rows(tmp_path, text.getvalue(), "geojson", "a.geojson"))
    assert [row.line for row in found] == list(range(2, 4_002))
    assert [row.recorded_at for row in found] == [NOON + timedelta(hours=hour) for hour in range(4_000)]


def test_a_way_is_cut_at_the_antimeridian_without_an_invented_point() -> None:
    lons = (1_799_000_000, 1_799_900_000, -1_799_900_000, -1_799_000_000, 1_799_900_000)
    track = [fix(hour, lon_e7=lon) for hour, lon in enumerate(lons)]
    text = io.StringIO()
    assert geojson.write_lines([*track, fix(9, flags=FixFlag.POOR_DOP)], text) == 5
    found = json.loads(text.getvalue())["features"]
    assert [each["geometry"]["type"] for each in found] == ["LineString", "LineString", "Point"]
    assert [len(each["properties"].get("coordTimes", [1])) for each in found] == [2, 2, 1]


# --- KML
def test_kml_holds_each_way_with_its_times_and_where_the_animal_was_last() -> None:
    text = io.StringIO()
    assert kml.write([fix(0), fix(1), fix(2, flags=FixFlag.POOR_DOP), fix(0, name="<Bo>")], text) == 3
    named = {"k": "http://www.opengis.net/kml/2.2", "gx": "http://www.google.com/kml/ext/2.2"}
    root = ET.fromstring(text.getvalue())
    ayo, bo = root.findall("k:Document/k:Folder", named)
    assert bo.findtext("k:name", namespaces=named) == "<Bo>"
    assert [each.text for each in ayo.findall(".//gx:Track/k:when", named)] == [
        "2026-06-01T12:00:00Z", "2026-06-01T13:00:00Z",
    ]  # fmt: skip
    assert [each.text for each in ayo.findall(".//gx:coord", named)] == ["37.5000000 -2.5000000 0"] * 2
    assert ayo.findtext(".//k:Point/k:coordinates", namespaces=named) == "37.5000000,-2.5000000"


# --- which
@pytest.mark.parametrize(
    ("name", "head", "form"),
    [
        ("a.csv", "individual,timestamp,lon,lat", "tidy"),
        ("a.csv", PLAIN, "movebank"),
        ("a.txt", "animal-id,tag-id,deploy-on-date", "movebank-reference"),
        ("a.GPX", "", "gpx"),
        ("a.json", "", "geojson"),
        ("a.csv", "", "tidy"),
    ],
)
def test_a_file_shows_its_format(tmp_path: Path, name: str, head: str, form: str) -> None:
    path = tmp_path / name
    path.write_text(f"{head}\n1\n2\n")
    assert format_of(path) == form


def test_rows_are_counted_for_the_progress_bar(tmp_path: Path) -> None:
    path = tmp_path / "a.gpx"
    text = io.StringIO()
    gpx.write((fix(hour) for hour in range(9_000)), text)
    path.write_text(text.getvalue())
    assert rows_in(path, "gpx") == 9_000
    assert rows_in(tmp_path / "none", "gpx") == 0
