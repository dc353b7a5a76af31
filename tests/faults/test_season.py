"""The end of a season, killed at any moment: nothing of what stays is lost, and the same words end it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from edge.config import load
from edge.store.driver import quick_check
from tests.integration.test_cli import run
from tests.integration.test_season import BEFORE, STEPS, kept, opened, station_with_a_season

pytestmark = [pytest.mark.faults, pytest.mark.slow]

IS_NIGHTLY = os.environ.get("OUTPOST_NIGHTLY") == "1"
#: beside the moments that are waited for
KILLS = 30 if IS_NIGHTLY else 1
SEED = 20261128
DEADLINE_S = 120.0


def ending(config: Path) -> subprocess.Popen[bytes]:
    words = ("season", "end", "--config", config, "--before", BEFORE, "--yes", "--json")
    return subprocess.Popen(
        [sys.executable, "-m", "edge", *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def killed_when(config: Path, is_now: Callable[[], bool]) -> bool:
    """Begin, and kill as soon as ``is_now``; say whether it was still at work."""
    process, deadline = ending(config), time.monotonic() + DEADLINE_S
    try:
        while process.poll() is None and not is_now():
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        process.kill()
    return process.wait() != 0


def sound(config: Path) -> int:
    """Check every page of the database and return how many steps there are."""
    with closing(opened(config)) as db:
        quick_check(db, load(config).database)
        return int(db.execute("SELECT count(*) FROM steps").fetchone()[0])


def test_a_season_whose_end_is_killed_anywhere_is_ended_by_the_same_words(tmp_path: Path) -> None:
    config = station_with_a_season(tmp_path)
    settings, whole = load(config), tmp_path / "whole"
    data, backups = settings.station.data_dir, settings.backup_dir
    shutil.copytree(data, whole)
    words = ("season", "end", "--config", config, "--before", BEFORE, "--json")
    expected = 2 * STEPS - json.loads(run(*words, "--look").stdout)["steps"]
    untouched, half = kept(config), settings.database.with_name("station.db.compact")

    def has_archive() -> bool:
        return any((backups / "daily").glob("*.outpost"))

    def some_went() -> bool:
        """Rows go after the archive; each transaction of two thousand is one look."""
        return has_archive() and (data / "station.db-wal").exists() and (data / "station.db-wal").stat().st_size > 2**17

    randomly = random.Random(SEED)
    hits = 0
    moments: list[Callable[[], bool]] = [(backups / "hourly" / ".part").exists, has_archive, some_went, half.exists]
    for _ in range(KILLS):
        began_s, after_s = time.monotonic(), randomly.uniform(1.0, 8.0)
        moments.append(lambda began_s=began_s, after_s=after_s: time.monotonic() - began_s > after_s)  # type: ignore[misc] # bound now
    for is_now in moments:
        shutil.rmtree(data)
        shutil.rmtree(backups, ignore_errors=True)
        shutil.copytree(whole, data)
        hits += killed_when(config, is_now)
        assert sound(config) <= 2 * STEPS
        assert kept(config) == untouched
        done = json.loads(run(*words, "--yes").stdout)
        assert Path(done["archive"]).exists()
        assert kept(config) == untouched
        assert sound(config) == expected
        assert not list(data.glob("*.compact*"))
    assert hits, "no kill met it at work"
