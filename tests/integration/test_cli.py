"""The commands of the station as an operator runs them: one line for an error, nothing overwritten, JSON on demand."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from edge.store.ledger import Entry, Ledger
from firmware_bridge.codecs.opencollar import PORT_SHORT, encode_short
from firmware_bridge.codecs.station_frame import pack_station_frame
from shared.sync.records import to_ms
from tests.commands import STATION, StationFolder
from tests.fakes import START

pytestmark = pytest.mark.integration

COMMANDS = ("init", "run", "status", "watch", "decode", "redecode", "import", "export", "verify", "check", "db")
HEADER = "individual,timestamp,lon,lat"
DEADLINE_S = 120.0

run, facts, refusal = STATION.run, STATION.facts, STATION.refusal


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edge", *map(str, arguments)]


@pytest.fixture(autouse=True, scope="module")
def narrow() -> Iterator[None]:
    """Give what a command sees where its output is no terminal, and nobody's own settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("OUTPOST_")]:
            patch.delenv(name)
        patch.setenv("COLUMNS", "80")
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StationFolder:
    """Give a station that tests only read from, with three fixes of one animal."""
    station = StationFolder(tmp_path_factory.mktemp("station"))
    station.init()
    run("import", station.tracks(*some_rows(3)), "--config", station.config)
    return station


@pytest.fixture
def station(tmp_path: Path) -> StationFolder:
    station = StationFolder(tmp_path)
    station.init()
    return station


def some_rows(count: int, name: str = "Ayo") -> list[str]:
    return [f"{name},{START + timedelta(hours=hour):%Y-%m-%dT%H:%M:%SZ},37.{hour + 5},-2.5" for hour in range(count)]


# --- every command
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    assert "--help" in run(name, "--help").stdout


def test_these_are_all_the_commands() -> None:
    said = run("--help").stdout
    assert all(f" {name} " in said for name in COMMANDS)


@pytest.mark.parametrize("name", ["run", "status", "redecode", "export", "verify", "import", "check", "db", "watch"])
def test_a_configuration_that_is_not_there_is_one_line(name: str, tmp_path: Path) -> None:
    more: dict[str, list[str]] = {"export": ["x.csv"], "import": ["x.csv"], "verify": ["--against", "x.csv"]}
    long = tmp_path / ("a [bold]long[/bold] name [/x] " + "x" * 100) / "none.toml"
    line = refusal(name, *more.get(name, []), "--config", long)
    assert line.startswith("config: ")
    assert str(long) in line


# --- init
def test_init_twice_overwrites_nothing(station: StationFolder) -> None:
    before = {path: path.read_bytes() for path in (station.config, station.key)}
    said = station.init()
    assert "wrote" not in said
    assert {path: path.read_bytes() for path in before} == before
    assert station.key.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(before[station.key].decode().strip())) == 32
    checked = facts("check", "--config", station.config)
    assert (checked["database"], checked["ledger"]) == ("ok", "ok")


def test_init_makes_no_new_key_for_old_data(station: StationFolder) -> None:
    station.key.unlink()
    assert "bring the key" in refusal("init", "--config", station.config)
    assert not station.key.exists()


def test_another_key_is_refused_by_every_command(station: StationFolder) -> None:
    station.key.write_text("ab" * 32)
    for name, *more in (["export", "-"], ["redecode"], ["db", "--sql", "SELECT 1"], ["run", "--port", "0"]):
        assert refusal(name, *more, "--config", station.config).startswith("wrong_key: ")


@pytest.mark.parametrize("content", ["", "zz" * 32, "ab" * 31, "ab" * 33, "ä"])
def test_a_key_that_is_none_is_refused(station: StationFolder, content: str) -> None:
    station.key.write_text(content, encoding="utf-8")
    assert "64 hex digits" in refusal("redecode", "--config", station.config)


# --- decode
SHORT = encode_short(recorded_at=START, lat_deg=-2.5, lon_deg=37.5)
BODY = {"collar_id": "K1", "recorded_at": "2026-06-01T12:00:00Z", "lon_deg": 37.5, "lat_deg": -2.5}


@pytest.mark.parametrize(
    ("arguments", "device"),
    [
        (["--format", "opencollar", "--port", "13", "--hex", SHORT.hex()], ""),
        (
            ["--format", "outpost_station_frame", "--hex", pack_station_frame("01" * 8, 13, -90, 7, SHORT).hex()],
            "eui:0101010101010101",
        ),
        (["--format", "nmea0183", "--text", "$GPRMC,120000.00,A,0230.0000,S,03730.0000,E,0.0,0.0,010626,,,A*45"], ""),
        (["--format", "outpost_json", "--text", json.dumps(BODY)], "collar:K1"),
    ],
    ids=["opencollar", "station", "nmea", "json"],
)
def test_decode_prints_what_a_frame_means(arguments: list[str], device: str) -> None:
    said = json.loads(run("decode", *arguments).stdout)
    (fix,) = said["fixes"]
    assert (fix["recorded_at"], fix["lon_deg"], fix["lat_deg"]) == ("2026-06-01T12:00:00Z", 37.5, -2.5)
    assert said["device"] == device


def test_decode_takes_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "body.json"
    path.write_text(json.dumps(BODY))
    said = json.loads(run("decode", "--format", "outpost_json", "--json-file", path).stdout)
    assert said["device"] == "collar:K1"


def test_decode_takes_a_json_list_and_tells_each_of_its_positions(tmp_path: Path) -> None:
    row = {"idCollar": 5, "acquisitionTime": "2026-01-01T00:00:00", "latitude": -2.5, "longitude": 37.5}
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([row, row | {"latitude": None}]))
    said = json.loads(run("decode", "--format", "vectronic_json", "--json-file", path).stdout)
    stored = [fix["store_as"] for message in said["messages"] for fix in message["fixes"]]
    assert stored == ["fix", "failed_fix_event_without_geometry"]


@pytest.mark.parametrize("name", ["ubx_nav_pvt", "chirpstack_v4", "opencollar", "cobs", "nmea0183", "nope"])
def test_decode_says_why_it_cannot(name: str) -> None:
    assert refusal("decode", "--format", name, "--hex", "ff").startswith("frame: ")


@pytest.mark.parametrize("arguments", [[], ["--hex", "zz"], ["--hex", "aa", "--text", "b"], ["--json-file", "none"]])
def test_decode_asks_for_exactly_one_frame(arguments: list[str]) -> None:
    run("decode", "--format", "opencollar", *arguments, code=2)


# --- import, export, verify
def test_import_keeps_the_good_rows_lists_the_bad_ones_and_exits_1(station: StationFolder) -> None:
    path = station.tracks(*some_rows(2), "Ayo,never,1,2")
    said = facts("import", path, "--config", station.config, "--species", "elephant", code=1)
    assert (said["new"], said["refused"]) == (2, 1)
    assert said["problems"][0].startswith("line 4: ")
    assert "line 4" in run("import", path, "--config", station.config, code=1).stdout
    again = facts("import", station.tracks(*some_rows(2)), "--config", station.config)
    assert (again["new"], again["duplicates"], again["refused"]) == (0, 2, 0)


@pytest.mark.parametrize(
    "content", [b"", b"a,b\n", b"\xff\xfe\x00\n", None], ids=["empty", "columns", "binary", "none"]
)
def test_what_is_no_track_file_is_one_line(made: StationFolder, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tracks.csv"
    if content is not None:
        path.write_bytes(content)
    for name, *more in (["import", path], ["verify", "--against", path]):
        assert refusal(name, *more, "--config", made.config).startswith("invalid: ")


def test_an_export_imported_into_a_new_station_is_the_same(made: StationFolder, station: StationFolder) -> None:
    out = station.folder / "out.csv"
    assert run("export", out, "--config", made.config).stderr == "3 fixes\n"
    assert facts("import", out, "--config", station.config)["new"] == 3
    found = facts("verify", "--against", out, "--config", station.config)
    assert (found["rows"], found["matching"], found["differences"]) == (3, 3, 0)
    assert run("export", "-", "--config", station.config).stdout.splitlines() == out.read_text().splitlines()


def test_verify_exits_1_on_any_difference(made: StationFolder, tmp_path: Path) -> None:
    path = tmp_path / "more.csv"
    path.write_text("\n".join((HEADER, *some_rows(4))) + "\n")
    found = facts("verify", "--against", path, "--config", made.config, code=1)
    assert (found["missing"], found["differences"]) == (1, 1)


def test_a_file_that_cannot_be_written_is_one_line(made: StationFolder, tmp_path: Path) -> None:
    line = refusal("export", tmp_path / "none" / "out.csv", "--config", made.config)
    assert line.startswith("file: ")
    assert "No such file" in line


def test_a_file_of_another_system_is_known_by_its_columns_and_its_bad_rows_are_written_down(
    station: StationFolder, tmp_path: Path
) -> None:
    path, refused = tmp_path / "events.csv", tmp_path / "refused.csv"
    path.write_text(
        "timestamp,location-long,location-lat,tag-local-identifier,individual-local-identifier,sensor-type\n"
        "2026-06-01 12:00:00.250,37.5,-2.5,K1,Ayo,gps\nnever,37.5,-2.5,K1,Ayo,gps\n"
    )
    said = facts("import", path, "--refused", refused, "--config", station.config, code=1)
    assert (said["new"], said["refused"]) == (1, 1)
    head, line = refused.read_text().splitlines()
    assert head == "line,reason"
    assert line.startswith("3,")
    out = tmp_path / "out.gpx"
    assert run("export", out, "--config", station.config).stderr == "1 fixes\n"
    assert "2026-06-01T12:00:00.250Z" in out.read_text()
    reference = run("export", "-", "--format", "movebank-reference", "--config", station.config)
    assert reference.stdout.splitlines()[1].startswith("K1,Ayo,")
    assert reference.stderr == "1 deployments\n"


def test_a_time_zone_is_asked_for(station: StationFolder, tmp_path: Path) -> None:
    path = station.tracks("Ayo,2026-06-01 12:00:00,37.5,-2.5")
    assert "--timezone AREA/CITY, or --utc" in refusal("import", path, "--config", station.config)
    assert "no time zone" in refusal("import", path, "--timezone", "Mars/Base", "--config", station.config)
    run("import", path, "--utc", "--timezone", "Africa/Nairobi", "--config", station.config, code=2)
    assert facts("import", path, "--timezone", "Africa/Nairobi", "--config", station.config)["new"] == 1
    where = ["--against", path, "--config", station.config]
    assert facts("verify", "--timezone", "Africa/Nairobi", *where)["matching"] == 1
    assert facts("verify", "--utc", *where, code=1)["missing"] == 1


@pytest.mark.parametrize(
    "arguments",
    [["import", "x.csv", "--format", "shapefile"], ["export"], ["export", "x.csv", "--since", "2026-01-01"],
     ["export", "--to", "mars"], ["export", "x.csv", "--to", "gundi"]],
)  # fmt: skip
def test_what_import_and_export_cannot_do_is_said_before_anything_is_done(
    made: StationFolder, arguments: list[str]
) -> None:
    run(*arguments, "--config", made.config, code=2)


def test_a_system_that_is_not_configured_is_one_line_without_its_token(made: StationFolder) -> None:
    assert refusal("export", "--to", "gundi", "--config", made.config).startswith("config: gundi.url")


# --- redecode
def test_redecode_twice_changes_nothing(station: StationFolder) -> None:
    ledger = Ledger(station.data / "ledger", bytes.fromhex(station.key.read_text().strip()), boot="b")
    payloads = [
        pack_station_frame(
            "01" * 8, PORT_SHORT, -90, 7,
            encode_short(recorded_at=START + timedelta(hours=hour), lat_deg=-2.5, lon_deg=37.5),
        )
        for hour in range(5)
    ]  # fmt: skip
    ledger.append([Entry("l", "cobs", "", payload, to_ms(START), 0, "ntp") for payload in [*payloads, b"?"]])
    ledger.close()
    first = facts("redecode", "--config", station.config)
    assert first == {"frames": 6, "fixes": 5, "new_fixes": 5, "enriched_fixes": 0, "undecoded": 1}
    assert facts("redecode", "--config", station.config) == {**first, "new_fixes": 0}


def test_a_new_station_has_nothing_to_decode(station: StationFolder) -> None:
    assert facts("redecode", "--config", station.config)["frames"] == 0


# --- db
def test_db_reads(made: StationFolder) -> None:
    said = run("db", "--config", made.config, "--sql", "SELECT count(*) AS n, ST_SRID(geom) FROM fixes").stdout
    assert said.split() == ["n", "ST_SRID(geom)", "3", "4326"]


@pytest.mark.parametrize(
    "sql", ["DELETE FROM fixes", "PRAGMA query_only = OFF", "SELECT 1; DELETE FROM fixes", "nonsense"]
)
def test_db_refuses_to_write(made: StationFolder, sql: str) -> None:
    before = (made.data / "station.db").read_bytes()
    refusal("db", "--config", made.config, "--sql", sql)
    assert (made.data / "station.db").read_bytes() == before


def test_db_takes_statements_from_a_pipe_and_prints_what_looks_like_markup(made: StationFolder) -> None:
    ended = run("db", "--config", made.config, stdin="SELECT '[/x]' AS \"[b]\"\nnonsense\n\nSELECT 7\n")
    assert "[/x]" in ended.stdout
    assert "[b]" in ended.stdout
    assert "7" in ended.stdout
    assert "nonsense" in ended.stderr


def test_db_without_a_database_makes_none(tmp_path: Path) -> None:
    station = StationFolder(tmp_path)
    station.init()
    for path in station.data.glob("station.db*"):
        path.unlink()
    assert "there is no database" in refusal("db", "--config", station.config, "--sql", "SELECT 1")
    assert not list(station.data.glob("station.db*"))


# --- a running station
@contextlib.contextmanager
def started(station: StationFolder, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A station that runs until the test ends it; it must then end well."""
    process = subprocess.Popen(
        command("run", "--port", 0, "--config", station.config, *arguments),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not (station.data / "station.url").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_station_ends_in_order_when_it_is_told(station: StationFolder, how: signal.Signals) -> None:
    with started(station) as process:
        url = (station.data / "station.url").read_text().strip()
        assert httpx.get(f"{url}/health/ready").status_code == 200
        process.send_signal(how)
        said, complained = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, complained
    assert said == ""
    assert "Traceback" not in complained
    events = [json.loads(line)["event"] for line in complained.splitlines()]
    assert {"station.ready", "station.stopped"} <= set(events)
    assert not (station.data / "station.url").exists()


@pytest.mark.slow
def test_status_and_watch_show_the_running_station(station: StationFolder) -> None:
    assert "is not running" in refusal("status", "--config", station.config)
    link = '[[links]]\nkind = "serial"\nname = "base"\npath = "/dev/not [there]"\n'
    station.config.write_text(f"{station.config.read_text()}\n{link}")
    with started(station) as process:
        said = facts("status", "--config", station.config)
        assert said["ledger"] == {"frames": 0, "pending": 0, "undecoded": 0}
        assert said["store"]["is_encrypted"]
        assert [each["name"] for each in said["links"]] == ["base"]
        assert "link base" in run("status", "--config", station.config).stdout
        # import beside the running station
        assert facts("import", station.tracks(*some_rows(3)), "--config", station.config)["new"] == 3
        assert facts("status", "--config", station.config)["store"]["fixes"] == 3
        watching = subprocess.Popen(
            command("watch", "--config", station.config), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            assert watching.stdout is not None
            assert "fixes 3 " in watching.stdout.readline()
            watching.send_signal(signal.SIGINT)
            _, complained = watching.communicate(timeout=DEADLINE_S)
            assert (watching.returncode, complained) == (0, "")
        finally:
            watching.kill()
            watching.wait()
        process.kill()  # no goodbye: the address stays
        process.communicate()
        assert "does not answer" in refusal("status", "--config", station.config)


@pytest.mark.slow
def test_a_port_that_is_taken_is_one_line(station: StationFolder) -> None:
    with started(station):
        url = (station.data / "station.url").read_text().strip()
        other = StationFolder(station.folder / "other")
        other.init()
        assert "choose another with --port" in refusal("run", "--port", url.rsplit(":", 1)[1], "--config", other.config)
