"""The commands of the cloud as an operator runs them: one line for an error, JSON on demand, a look writes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cloud.accounts.secret import make_secret
from cloud.store.migrate import known_versions
from shared import console
from tests.clouds import ask
from tests.commands import CLOUD
from tests.original_platform import OriginalDatabase

pytestmark = pytest.mark.integration

DEADLINE_S = 120.0
#: What the base installation lacks: the cloud's own packages.
_BLOCKED = ("psycopg", "psycopg_pool", "sqlalchemy", "alembic", "geoalchemy2")

run, facts, refusal = CLOUD.run, CLOUD.facts, CLOUD.refusal


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give commands nobody's own settings and a folder without any."""
    for name in list(os.environ):
        if name.startswith("OUTPOST_") or name in ("DATABASE_URL", "ALLOWED_HOSTS", "CORS_ALLOWED_ORIGINS"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(console.console, "width", 200)  # it may have read another when it was made
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def url(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give a database with the schema, named by DATABASE_URL."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    return database_url


# --- what leaves and what comes -------------------------------------------------------------------------------------


def test_the_original_s_database_is_copied_and_all_of_it_exported(
    url: str, blank_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_file = tmp_path / "cloud.key"
    make_secret(key_file)
    monkeypatch.setenv("OUTPOST_ACCOUNTS_KEY_FILE", str(key_file))
    original = OriginalDatabase(blank_database_url)
    original.user("asha")
    original.user("odd", email="none")
    original.animal("alpha", collar_id="K1")
    for n in range(3):
        original.position(f"p{n}", "alpha", n)
    done = facts("import-original", blank_database_url, "--report", tmp_path / "report")
    assert (done["tracking"]["new"], done["users"]["refused"]) == (3, 1)
    assert (tmp_path / "report").read_text().count("\n") == 1
    shown = run("import-original", blank_database_url).stdout
    assert "tracking" in shown
    assert "email" in shown
    assert facts("export", tmp_path / "a.csv") == {"fixes": 3}
    assert (tmp_path / "a.csv").read_text().count("alpha") == 3
    assert run("export", tmp_path / "a.gpx", "--animal", "alpha", "--since", "2025-11-01").stderr == "3 fixes\n"
    assert "no animal" in refusal("export", tmp_path / "b.csv", "--animal", "nobody")
    assert "no format" in refusal("export", tmp_path / "b.csv", "--format", "shapefile")
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".csv", ".gpx", ".part")) == [
        "a.csv", "a.gpx",
    ]  # fmt: skip
    used = facts("science", "utilisations", "--out", tmp_path / "used.jsonl", "--workers", 1)
    assert used == {"animals": 1, "without": 0}
    assert (tmp_path / "used.jsonl").read_text().count('"area_95_km2"') == 1
    assert ask(url, "SELECT detail FROM audit WHERE action = 'export' ORDER BY seq") == [
        ("3 fixes of all to a.csv exact",), ("3 fixes of alpha to a.gpx exact",),
        ("occurrence of 1 animals to used.jsonl exact",),
    ]  # fmt: skip


# --- the database ---------------------------------------------------------------------------------------------------


def test_init_writes_a_configuration_for_its_owner_alone_and_brings_the_database_up(
    blank_database_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "etc" / "cloud.toml"
    said = run("init", "--config", path, "--database", blank_database_url)
    assert known_versions()[-1] in said.stdout
    assert path.stat().st_mode & 0o777 == 0o600
    written = path.read_text()
    assert facts("status", "--config", path)["fixes"] == 0
    run("init", "--config", path, "--database", "postgresql://other/other")
    assert path.read_text() == written
    assert facts("migrate", "--config", path) == {"schema": known_versions()[-1]}


def test_migrate_brings_an_empty_database_to_this_programs_schema(
    blank_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", blank_database_url.replace("postgresql://", "postgis://"))
    assert "outpost-cloud migrate" in refusal("status")
    assert "outpost-cloud migrate" in refusal("run", "--port", "0")
    for _ in range(2):
        assert facts("migrate") == {"schema": known_versions()[-1]}
    assert facts("status")["stations"] == []


@pytest.mark.parametrize("command", [
    ("init", "--config", "cloud.toml"), ("migrate",), ("run",), ("status",), ("db", "--sql", "SELECT 1"),
    ("station", "add", "Post"), ("station", "list"), ("station", "retire", "post"), ("station", "follow", "post"),
    ("undecoded",), ("redecode",),
])  # fmt: skip
def test_without_a_database_each_command_says_where_to_name_one(command: tuple[str, ...]) -> None:
    ended = run(*command, code=1)
    assert "DATABASE_URL" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(("said", "word"), [
    ("postgresql://127.0.0.1:1/outpost?password=geheim", "refused"), ("mysql://geheim@x/y", "postgresql://"),
    ("postgresql://u:geheim@[/x", "postgresql://"),
])  # fmt: skip
def test_a_database_that_cannot_be_had_is_one_line_without_the_password(
    monkeypatch: pytest.MonkeyPatch, said: str, word: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", said)
    line = refusal("status")
    assert word in line
    assert "geheim" not in line


def test_the_shell_reads_and_cannot_write(url: str) -> None:
    counted = ask(url, "SELECT count(*) FROM counters")
    shown = run("db", "--sql", "SELECT name, value FROM counters ORDER BY name").stdout
    assert "change" in shown
    assert "fixes" in shown
    assert "POINT(1 2)" in run("db", "--sql", "SELECT ST_AsText(ST_Point(1, 2))").stdout
    for statement in (
        "DELETE FROM counters",
        "CREATE TABLE t ()",
        "SET TRANSACTION READ WRITE; DELETE FROM counters",
        "COMMIT; SET default_transaction_read_only = off; DELETE FROM counters",
        "ROLLBACK; BEGIN READ WRITE; DELETE FROM counters; COMMIT",
        "SELECT set_config('transaction_read_only', 'off', false), 1; DELETE FROM counters",
        "WITH gone AS (DELETE FROM counters RETURNING 1) SELECT * FROM gone",
        "EXPLAIN ANALYZE DELETE FROM counters",
    ):
        assert refusal("db", "--sql", statement).startswith("invalid: "), statement
        assert ask(url, "SELECT count(*) FROM counters") == counted


def test_a_statement_that_fails_does_not_end_the_shell(url: str) -> None:
    lines = [
        "SELECT nonsense", "", "SET TRANSACTION READ WRITE", "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "SET default_transaction_read_only = off", "DELETE FROM counters", "SELECT 40 + 2 AS answer",
    ]  # fmt: skip
    counted = ask(url, "SELECT count(*) FROM counters")
    said = run("db", stdin="\n".join(lines)).stdout
    assert "nonsense" in said
    assert "42" in said
    assert ask(url, "SELECT count(*) FROM counters") == counted


# --- stations -------------------------------------------------------------------------------------------------------


def test_stations_are_added_listed_and_retired(url: str) -> None:
    added = facts("station", "add", "North Gate (2)", "--minutes", "5")
    assert added["station_id"] == "north-gate-2"
    assert added["valid_minutes"] == 5
    assert [len(part) for part in added["code"].split("-")] == [4, 4, 4, 4]
    assert added["code"] not in str(ask(url, "SELECT * FROM enrolment_codes"))
    assert facts("station", "list") == []
    assert facts("station", "add", "Ваза", "--id", "vaza_1")["station_id"] == "vaza_1"
    ask(url, "INSERT INTO stations (id, name, public_key, enrolled_ms) VALUES ('north-gate-2', 'North [red]', '', 0)")
    ((listed,), status) = facts("station", "list"), facts("status")
    assert (listed["id"], listed["is_retired"], listed["last_seen_at"]) == ("north-gate-2", False, None)
    assert status["stations"] == [listed]
    assert "North [red]" in run("station", "list").stdout
    run("station", "retire", "north-gate-2")
    assert facts("station", "list")[0]["is_retired"] is True
    assert "retired" in refusal("station", "retire", "north-gate-2")
    assert "no station" in refusal("station", "retire", "nobody")


@pytest.mark.parametrize("arguments", [
    ("Ваза",), ("x", "--id", "a/b"), ("x", "--id", "a" * 65), ("x", "--id", "a\0"), ("",), ("--", "-_-"),
])  # fmt: skip
def test_an_id_that_fits_no_topic_is_refused(url: str, arguments: tuple[str, ...]) -> None:
    assert "--id" in refusal("station", "add", *arguments)
    assert ask(url, "SELECT count(*) FROM enrolment_codes") == [(0,)]


def test_status_tells_what_is_kept(url: str) -> None:
    found = facts("status")
    assert {name for name in found if found[name] == 0} == {
        "fixes", "animals", "collars", "quarantined", "lost_edits", "last_change", "frames", "frames_waiting",
        "frames_undecoded", "workers",
    }  # fmt: skip
    assert found["size_bytes"] > 1_000_000
    assert "lost edits: 0" in run("status").stdout


def test_a_station_is_told_which_collars_it_follows(url: str) -> None:
    ask(url, "INSERT INTO stations (id, name, public_key, enrolled_ms) VALUES ('post', 'Post', '', 0)")
    assert "post follows K1, K2" in run("station", "follow", "post", "K1", "K2").stdout
    assert facts("station", "list")[0]["follows"] == ["K1", "K2"]
    assert "no collar" in run("station", "follow", "post").stdout
    assert facts("station", "list")[0]["follows"] == []
    assert "every collar" in run("station", "follow", "post", "--all").stdout
    assert facts("station", "list")[0]["follows"] is None
    assert "--all" in refusal("station", "follow", "post", "K1", "--all")
    assert "nowhere" in refusal("station", "follow", "nowhere", "K1")


def test_frames_that_cannot_be_read_are_listed_and_tried_again(url: str) -> None:
    ask(
        url,
        "INSERT INTO frames (seq, day, digest, link, framing, topic, device, payload, received_ms, clock,"
        " last_received_ms) VALUES (1, 0, '', 'rockblock', 'rockblock', '', '', 'hello', 5, 'ntp', 5)",
    )
    assert facts("status")["frames_waiting"] == 1
    assert facts("redecode") == {
        "frames": 1, "fixes": 0, "new_fixes": 0, "enriched_fixes": 0, "undecoded": 1,
    }  # fmt: skip
    (listed,) = facts("undecoded")
    assert (listed["seq"], listed["link"], listed["head"]) == (1, "rockblock", b"hello".hex())
    assert listed["reason"] in run("undecoded").stdout
    assert facts("redecode", "--undecoded")["frames"] == 1
    assert "1 frames" in run("redecode").stderr


# --- the service ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secret_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file of a cloud's secret."""
    path = tmp_path_factory.mktemp("secret") / "cloud.key"
    make_secret(path)
    return path


@contextlib.contextmanager
def service(url: str, secret_file: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the service and give its process and address."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from cloud.cli import main; main()", "run", "--port", "0"],
        stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        env={**os.environ, "DATABASE_URL": url, "OUTPOST_ACCOUNTS_KEY_FILE": str(secret_file)},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        for line in process.stderr:
            ready = json.loads(line)
            if ready["event"] == "cloud.ready":
                yield process, ready["url"]
                break
        else:
            pytest.fail("the service ended before it was ready")
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=DEADLINE_S)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_service_answers_until_it_is_told_to_stop(url: str, secret_file: Path, how: signal.Signals) -> None:
    with service(url, secret_file) as (process, address):
        assert httpx.get(f"{address}/health/ready").json() == {"status": "ok"}
        detail = httpx.get(f"{address}/health/detail").json()
        assert detail["database"]["fixes"] == 0
        begun = time.monotonic()
        process.send_signal(how)
        assert process.wait(timeout=DEADLINE_S) == 0
        assert time.monotonic() - begun < 10
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/health/live")


def test_a_port_that_is_taken_is_one_line(url: str, secret_file: Path) -> None:
    with service(url, secret_file) as (_, address):
        port = address.rpartition(":")[2]
        ended = subprocess.run(
            [sys.executable, "-c", "from cloud.cli import main; main()", "run", "--port", port],
            capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=DEADLINE_S, check=False,
            env={**os.environ, "OUTPOST_ACCOUNTS_KEY_FILE": str(secret_file)},
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("config: port ")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["station", "--help"], ["run", "--help"]])
def test_help_needs_none_of_the_clouds_packages(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {_BLOCKED!r}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "from cloud.cli import main\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout
