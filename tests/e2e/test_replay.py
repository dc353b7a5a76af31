"""A track file through real ports: simulator, pseudo-terminal, broker, station, store; every row exactly once."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest

from tests import real_data
from tests.services import require

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(240)]

ROWS = 2_000


def invented_tracks(path: Path) -> None:
    """Write two animals that walk a spiral, one with fractions of a second in its times."""
    rng = random.Random(7)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["individual", "timestamp", "lon", "lat", "species"])
        for name, fraction in (("Nasieku", 0), ("Olchurro", 250)):
            for step in range(ROWS // 2):
                at = datetime(2024, 3, 1, tzinfo=UTC) + timedelta(minutes=15 * step, milliseconds=fraction)
                angle, radius = step / 40, 0.0005 * step
                lon = 37.3 + radius * math.cos(angle) + rng.uniform(-1e-4, 1e-4)
                lat = -2.4 + radius * math.sin(angle) + rng.uniform(-1e-4, 1e-4)
                writer.writerow([name, at.isoformat(), f"{lon:.7f}", f"{lat:.7f}", "elephant"])


def replay(tracks: Path, folder: Path, speed: float) -> subprocess.CompletedProcess[str]:
    """Run what ``make run TRACKS=... ONCE=1`` runs, in ``folder``."""
    repository = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "edge.demo", "--tracks", str(tracks), "--speed", str(speed), "--once"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


def assert_whole(done: subprocess.CompletedProcess[str], rows: int) -> None:
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    facts = dict(line.split(": ", 1) for line in done.stdout.splitlines() if line.count(": ") == 1)
    assert facts["rows"] == facts["matching"] == facts["stored"] == str(rows), done.stdout
    assert facts["differences"] == "0", done.stdout


def require_broker() -> None:
    found = any((Path(folder) / "mosquitto").exists() for folder in ("/usr/sbin", "/usr/bin", "/usr/local/sbin"))
    require(found, "mosquitto is not installed: make services")


def test_every_row_of_a_track_is_stored_once_over_serial_and_mqtt(tmp_path: Path) -> None:
    require_broker()
    tracks = tmp_path / "tracks.csv"
    invented_tracks(tracks)
    done = replay(tracks, tmp_path, speed=200_000)
    assert_whole(done, ROWS)


def test_a_real_elephant_is_stored_once_over_serial_and_mqtt(tmp_path: Path) -> None:
    require_broker()
    tracks = tmp_path / "elephant.csv"
    with real_data.tracks("elephant_etosha_getz2010.csv").open() as whole:
        tracks.write_text("".join(islice(whole, ROWS + 1)))
    done = replay(tracks, tmp_path, speed=500_000)
    assert_whole(done, ROWS)


def test_a_changed_row_is_found_by_verify(tmp_path: Path) -> None:
    require_broker()
    tracks = tmp_path / "tracks.csv"
    invented_tracks(tracks)
    lines = tracks.read_text().splitlines(keepends=True)
    short = tmp_path / "short.csv"
    short.write_text("".join(lines[:201]))
    assert_whole(replay(short, tmp_path, speed=500_000), 200)
    moved = lines[100].split(",")
    moved[2] = f"{float(moved[2]) + 1e-6:.7f}"
    short.write_text("".join([*lines[:100], ",".join(moved), *lines[101:201]]))
    config = tmp_path / "var" / "replay" / "station.toml"
    program = Path(sys.executable).parent / "outpost-station"
    done = subprocess.run(
        [program, "verify", "--config", config, "--against", short, "--json"],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    facts = json.loads(done.stdout)
    assert (facts["missing"], facts["unexpected"], facts["differences"]) == (1, 1, 2)
