from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware_bridge.codecs.opencollar import PORT_LONG, PORT_SHORT, OpenCollarCodec
from firmware_bridge.simulator.tracks import TrackFile, eui_for
from shared.errors import Invalid

pytestmark = pytest.mark.unit

HEADER = "individual,timestamp,lon,lat,species\n"


def file_of(folder: Path, text: str) -> Path:
    path = folder / "tracks.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


def test_rows_come_in_order_of_time_with_both_ways_to_write_it(tmp_path: Path) -> None:
    text = (
        HEADER
        + "Ann,2010-01-01T00:20:00Z,15.1,-19.1,Loxodonta africana\n"
        + "Ann,2010-01-01T01:00:00Z,15.2,-19.2,Loxodonta africana\n"
        + "\n"
        + "Bob,2010-01-01 00:30:00,15.3,-19.3,\n"
        + "Bob,2010-01-01T02:50:00+02:00,15.4,-19.4,\n"
    )
    track = TrackFile(file_of(tmp_path, text))
    assert len(track) == 4
    assert track.started_at == datetime(2010, 1, 1, 0, 20, tzinfo=UTC)
    assert track.ended_at == datetime(2010, 1, 1, 1, 0, tzinfo=UTC)
    assert [(row.individual, row.line) for row in track.rows()] == [("Ann", 2), ("Bob", 5), ("Bob", 6), ("Ann", 3)]
    assert track.species_by_individual == {"Ann": "Loxodonta africana", "Bob": "unknown"}


def test_a_byte_order_mark_and_quotes_and_other_columns_are_read(tmp_path: Path) -> None:
    text = '\ufeffspecies,lat,lon,note,timestamp,individual\r\n,-1.5,36.5,"a, b",2010-01-01T00:00:00Z,"Old, Tom"\r\n'
    [row] = TrackFile(file_of(tmp_path, text)).rows()
    assert (row.individual, row.lon_deg, row.lat_deg, row.species) == ("Old, Tom", 36.5, -1.5, None)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("Ann,2010-01-01T00:00:00Z,15.1", "line 3: 3 fields, the header has 5"),
        (",2010-01-01T00:00:00Z,15.1,-19.1,", "line 3: individual: is empty"),
        ("Ann,yesterday,15.1,-19.1,", "line 3: timestamp: 'yesterday'"),
        ("Ann,2010-01-01T00:00:00Z,east,-19.1,", "line 3: lon: 'east' is no number"),
        ("Ann,2010-01-01T00:00:00Z,181,-19.1,", "line 3: lon, lat: out of range"),
        ("Ann,2010-01-01T00:00:00Z,15,inf,", "line 3: lat: 'inf' is no number"),
        ("Ann,2010-01-01T00:00:00Z,15,,", "line 3: lon, lat: one is given"),
        ('"Ann,2010-01-01T00:00:00Z,15,1,', "line 3: unexpected end of data"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, row: str, problem: str) -> None:
    path = file_of(tmp_path, HEADER + "Ann,2010-01-01T00:00:00Z,15.1,-19.1,\n" + row + "\n")
    with pytest.raises(Invalid, match=problem):
        TrackFile(path)


def test_a_file_that_is_no_track_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no column timestamp, lat"):
        TrackFile(file_of(tmp_path, "individual,time,lon\n"))
    with pytest.raises(Invalid, match="no rows"):
        TrackFile(file_of(tmp_path, HEADER))
    with pytest.raises(Invalid, match="No such file"):
        TrackFile(tmp_path / "none.csv")


def test_what_opencollar_cannot_say_is_left_to_json(tmp_path: Path) -> None:
    text = (
        HEADER
        + "Ann,2010-01-01T00:00:00Z,15.1,-19.1,\n"
        + "Ann,2010-01-01T00:00:00.500Z,15.1,-19.1,\n"
        + "Ann,1969-07-20T20:17:40Z,15.1,-19.1,\n"
        + "Ann,2010-01-01T01:00:00Z,,,\n"
    )
    track = TrackFile(file_of(tmp_path, text))
    assert track.json_rows == 2
    sent = list(track.transmissions())
    assert [(each.port, each.message is None) for each in sent] == [
        (PORT_SHORT, True),
        (PORT_SHORT, False),
        (PORT_SHORT, True),
        (PORT_LONG, False),
    ]
    assert [each.counter for each in sent] == [0, 1, 2, 3]
    assert all(each.fixes[0].recorded_at == each.at for each in sent)


@given(
    st.integers(-1_800_000_000, 1_800_000_000),
    st.integers(-900_000_000, 900_000_000),
    st.integers(0, 2**32 - 1),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_seven_decimals_arrive_as_they_stand(tmp_path: Path, lon_e7: int, lat_e7: int, unix_s: int) -> None:
    instant = datetime.fromtimestamp(unix_s, UTC)
    row = f"Ann,{instant.isoformat()},{lon_e7 / 1e7:.7f},{lat_e7 / 1e7:.7f},\n"
    [sent] = TrackFile(file_of(tmp_path, HEADER + row)).transmissions()
    assert sent.message is not None
    [uplink] = OpenCollarCodec().decode(sent.message, port=sent.port)
    [fix] = uplink.fixes
    assert fix.lon_deg is not None
    assert fix.lat_deg is not None
    assert (round(fix.lon_deg * 1e7), round(fix.lat_deg * 1e7), fix.recorded_at) == (lon_e7, lat_e7, instant)


def test_a_name_has_one_radio_for_ever() -> None:
    assert eui_for("Habiba") == eui_for("Habiba")
    assert len({eui_for(f"animal {number}") for number in range(1000)}) == 1000
    assert len(eui_for("x")) == 16
    int(eui_for("x"), 16)
