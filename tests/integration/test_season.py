"""The end of a season at a station: what is shown, what is refused, what goes and what stays."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.app import sole_owner
from edge.config import load
from edge.store import season
from edge.store.compacting import compact, pages
from edge.store.driver import connect, transaction
from edge.store.snapshot import Contents, contents_of
from shared.errors import Conflict, StoreFull
from shared.sync.records import to_ms
from tests.fakes import START
from tests.integration.test_backup import made_station
from tests.integration.test_cli import run

pytestmark = pytest.mark.integration

STEPS = 9_000
STEP_MS = 3_600_000
BEGAN_MS = to_ms(START - timedelta(days=400))
#: 300 days of the 375 that there are
BEFORE = f"{START - timedelta(days=100):%Y-%m-%d}"
#: what a season's end does not touch; what tells of it, and of its commands, aside
TOUCHED = {"steps", "predictions", "audit", "facts", "counters", "attempts", "sqlite_sequence"}


def station_with_a_season(folder: Path, *, animals: int = 2) -> Path:
    """Make a station that has stepped through a year; return its configuration."""
    config = made_station(folder)
    track = folder / "tracks.csv"
    track.write_text(
        "individual,timestamp,lon,lat\n"
        + "".join(f"Animal{n},2025-12-{day:02}T00:00:00Z,37.{n},-2.5\n" for n in range(animals) for day in range(1, 9))
    )
    run("import", track, "--config", config, "--utc")
    with closing(opened(config)) as db, transaction(db):
        for animal in range(1, animals + 1):
            db.executemany(
                "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, 1.5, NULL, 'resting', 0.5, 0, 1, -1.0)",
                [(animal, BEGAN_MS + (n + 1) * STEP_MS, BEGAN_MS + n * STEP_MS) for n in range(STEPS)],
            )
        db.executemany(
            "INSERT INTO predictions (id, key, tier, prediction_type, input_data, results, created_ms)"
            " VALUES (?, ?, 'exact', 'movement', '{}', '{}', ?)",
            [(f"p{n}", f"k{n}", BEGAN_MS + n * 86_400_000) for n in range(400)],
        )
    return config


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a station that has a season behind it, to be copied."""
    folder = tmp_path_factory.mktemp("season")
    station_with_a_season(folder)
    return folder


@pytest.fixture
def config(made: Path, tmp_path: Path) -> Path:
    """Give the configuration of a station with a season behind it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "station.toml"
    config.write_text(config.read_text().replace(str(made), str(tmp_path)))
    return config


def opened(config: Path) -> Any:
    settings = load(config)
    return connect(settings.database, settings.key(), is_spatial=False)


def held(config: Path) -> Contents:
    settings = load(config)
    return contents_of(settings.database, settings.key())


def kept(config: Path) -> Contents:
    """What must be the same whatever a season's end does."""
    return {name: each for name, each in held(config).items() if name not in TOUCHED}


def end(config: Path, *words: str, code: int = 0, before: str = BEFORE) -> Any:
    done = run("season", "end", "--config", config, "--before", before, "--json", *words, code=code)
    return done if code else json.loads(done.stdout)


def test_what_can_be_computed_again_goes_after_an_archive_and_everything_else_stays(
    config: Path, tmp_path: Path
) -> None:
    untouched, size = kept(config), load(config).database.stat().st_size
    looked = run("season", "end", "--config", config, "--before", BEFORE, "--look", "--json")
    said = json.loads(looked.stdout)
    assert held(config)["steps"].rows == 2 * STEPS, "looking changes nothing"
    assert said["steps"] > STEPS
    done = end(config, "--yes")
    assert Path(done["archive"]).exists()
    assert done["rows"] == said["steps"] + said["predictions"] == done["steps"] + done["predictions"]
    assert kept(config) == untouched
    with closing(opened(config)) as db:
        before_ms = to_ms(START.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=100))
        assert season.past(db, before_ms) == season.Past(steps=0, predictions=0)
        assert db.execute("SELECT count(*) FROM steps").fetchone()[0] == 2 * STEPS - said["steps"]
        acts = [row[0] for row in db.execute("SELECT action FROM audit ORDER BY seq")]
        assert acts[-2:] == ["season.end", "season.ended"]
    assert done["compacted"]
    assert load(config).database.stat().st_size == done["database bytes"] < size
    assert done["given back"] > 0
    again = end(config, "--yes")
    assert (again["rows"], again["compacted"]) == (0, False)
    restored = tmp_path / "other"
    restored.mkdir()
    elsewhere = made_station(restored)
    (restored / "station.key").write_bytes((tmp_path / "station.key").read_bytes())
    run("restore", done["archive"], "--config", elsewhere, "--replace")
    assert held(elsewhere)["steps"].rows == 2 * STEPS, "the archive has what went"


def test_each_animal_keeps_its_newest_steps_whatever_their_age(config: Path) -> None:
    with closing(opened(config)) as db, transaction(db):
        db.execute("DELETE FROM steps WHERE animal_pk = 1 AND ended_ms > ?", (BEGAN_MS + 2_000 * STEP_MS,))
        far_ms = BEGAN_MS + STEPS * STEP_MS
        gone = 0
        while rows := season.forget(db, far_ms, 700):
            assert rows <= 700
            gone += rows
        found = dict(db.execute("SELECT animal_pk, count(*) FROM steps GROUP BY animal_pk").fetchall())
        assert found == {1: season.STEPS_KEPT, 2: season.STEPS_KEPT}
        newest = db.execute("SELECT max(ended_ms) FROM steps WHERE animal_pk = 1").fetchone()[0]
        assert newest == BEGAN_MS + 2_000 * STEP_MS


def test_nothing_goes_while_anything_of_the_season_is_not_in_the_cloud(config: Path) -> None:
    with closing(opened(config)) as db, transaction(db):
        assert db.execute("SELECT count(*) FROM outbox").fetchone()[0], "what was imported waits"
        db.execute(
            "INSERT INTO enrolment (pk, url, station_id, private_key, epoch, cursor, enrolled_ms)"
            " VALUES (1, 'http://cloud', 's', x'00', 'e', 0, 0)"
        )
    before = held(config)
    refused = end(config, "--yes", code=1)
    assert "not in the cloud yet" in refused.stderr
    assert "sync --once" in refused.stderr
    assert held(config) == before
    with closing(opened(config)) as db, transaction(db):
        db.execute("DELETE FROM outbox")
        db.execute("DELETE FROM unsent_results")
        db.execute("INSERT INTO unsent_results VALUES (1, ?)", (BEGAN_MS,))
    assert "1 results" in end(config, "--yes", code=1).stderr
    with closing(opened(config)) as db, transaction(db):
        db.execute("DELETE FROM unsent_results")
    assert end(config, "--yes")["rows"] > 0


def test_the_newest_month_is_no_season_that_ended(config: Path) -> None:
    late = f"{START - timedelta(days=26):%Y-%m-%d}"
    assert "the newest 30 days stay" in end(config, "--yes", code=1, before=late).stderr
    assert "name a day" in end(config, "--yes", code=1, before="yesterday").stderr
    assert held(config)["steps"].rows == 2 * STEPS


def test_without_a_medium_for_the_archive_nothing_goes(config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    text = config.read_text().replace("[backup]\n", f'[backup]\ndir = "{tmp_path}/file/backups"\n')
    config.write_text(text)
    assert "medium" in end(config, "--yes", code=1).stderr
    assert held(config)["steps"].rows == 2 * STEPS


def test_beside_a_running_station_rows_go_and_the_file_is_left(config: Path) -> None:
    with sole_owner(load(config).station.data_dir):
        done = end(config, "--yes")
    assert done["rows"] > 0
    assert not done["compacted"]
    assert "another station runs" in done["why"]


def test_a_database_is_compacted_only_alone_and_where_there_is_room(config: Path) -> None:
    settings = load(config)
    with closing(opened(config)) as db:
        with transaction(db):
            db.execute("DELETE FROM steps WHERE animal_pk = 1")
        with pytest.raises(Conflict, match="open"):
            compact(settings.database, settings.key())
        before = pages(db)
    held_before = held(config)
    with pytest.raises(StoreFull, match="are needed"):
        compact(settings.database, settings.key(), free_bytes=lambda _: 2**20)
    assert held(config) == held_before
    after = compact(settings.database, settings.key())
    assert after.size_bytes < before.size_bytes
    assert held(config) == held_before
    assert settings.database.read_bytes()[:6] != b"SQLite", "it is encrypted as it was"
    assert not list(settings.database.parent.glob("*.compact*"))
