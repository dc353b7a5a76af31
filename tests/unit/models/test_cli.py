"""``outpost-models``: what it says, and that a station can start it."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.artifact import PACKAGED
from models.bbmm.features import frame_for
from tests.unit.models.bbmm.tracks import brownian
from tests.unit.models.habitat.maps import write_reserve

pytestmark = [pytest.mark.unit, pytest.mark.ml]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    program = "from models.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one track file of an animal that never was."""
    folder = tmp_path_factory.mktemp("data")
    walk = brownian(400, 8.0, step_s=1_800.0, error_m=20.0)
    lon, lat = frame_for(np.array([2.5]), np.array([12.4])).to_degrees(walk.x_m + 440_000, walk.y_m + 1_375_000)
    with (folder / "buffalo_Wniger_activity.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("individual", "timestamp", "lon", "lat"))
        for n in range(400):
            day, half_hour = divmod(n, 48)
            stamp = f"2001-05-{day + 1:02d}T{half_hour // 2:02d}:{half_hour % 2 * 30:02d}:00Z"
            writer.writerow(("buf", stamp, f"{lon[n]:.6f}", f"{lat[n]:.6f}"))
    return folder


def test_help_imports_no_model_and_nothing_that_only_training_needs() -> None:
    script = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from models.cli import cli\n"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0\n"
        "heavy = {'hmmlearn', 'scipy', 'sklearn', 'pyproj', 'xgboost', 'rasterio'} & set(sys.modules)\n"
        "heavy |= {'models.bbmm', 'models.hmm', 'models.habitat'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_model_is_trained_verified_measured_and_trained_again(data: Path, tmp_path: Path) -> None:
    trained = run("train", "bbmm", "--data", str(data), "--artifacts", str(tmp_path), "--json")
    assert trained.returncode == 0, trained.stderr
    assert msgspec.json.decode(trained.stdout) == {"bbmm": ["bbmm/1/buffalo", "bbmm/1/generic"]}
    verified = run("verify", "--artifacts", str(tmp_path), "--json")
    assert [one["artifact"] for one in msgspec.json.decode(verified.stdout)] == ["bbmm/1/buffalo", "bbmm/1/generic"]
    measured = run("evaluate", "bbmm", "--data", str(data), "--reference", str(tmp_path), "--json")
    assert measured.returncode == 0, measured.stderr
    found = msgspec.json.decode(measured.stdout)["bbmm"]
    assert found["against_reference"] == []
    assert {row["individual"] for row in found["coverage"]} == {"buf", None}
    text = run("evaluate", "bbmm", "--data", str(data))
    assert "| buffalo | 0-1.5 h |" in text.stdout
    again = run("train", "bbmm", "--data", str(data), "--artifacts", str(tmp_path))
    assert again.stdout.startswith("bbmm: wrote bbmm/2/buffalo")


def test_a_reserve_trains_habitat_on_its_own_animals_and_maps(tmp_path: Path) -> None:
    write_reserve(tmp_path, fixes=300)
    (tmp_path / "habitat.toml").write_text("rounds = 20\nper_used = 3\nblock_m = 2500\n", encoding="utf-8")
    trained = run("train", "habitat", "--data", str(tmp_path), "--artifacts", str(tmp_path / "made"), "--json")
    assert trained.returncode == 0, trained.stderr
    assert msgspec.json.decode(trained.stdout) == {"habitat": ["habitat/1/elephant", "habitat/1/generic"]}
    verified = run("verify", "habitat", "--artifacts", str(tmp_path / "made"))
    assert verified.stdout.startswith("habitat/1/elephant: ")
    (tmp_path / "rasters.toml").write_text("[[layer]]\nkind = 1", encoding="utf-8")
    refused = run("evaluate", "habitat", "--data", str(tmp_path))
    assert refused.returncode == 1
    assert refused.stderr.startswith("invalid: ")
    assert "rasters.toml" in refused.stderr


def test_an_altered_artefact_fails_verification(tmp_path: Path) -> None:
    place = tmp_path / "bbmm" / "1"
    place.mkdir(parents=True)
    for path in (PACKAGED / "bbmm" / "1").glob("generic.*"):
        (place / path.name).write_bytes(path.read_bytes())
    assert run("verify", "bbmm", "--artifacts", str(tmp_path)).returncode == 0
    altered = bytearray((place / "generic.bin").read_bytes())
    altered[3] ^= 1
    (place / "generic.bin").write_bytes(altered)
    done = run("verify", "bbmm", "--artifacts", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("artifact: bbmm/1/generic")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("update", "corridor", "--data", "."), "model_unavailable: corridor"),
        (("evaluate", "weather", "--data", "."), "invalid: weather: no such model"),
        (("evaluate", "bbmm", "--data", "no/such"), "invalid: no/such: no such folder"),
        (("verify", "bbmm", "--artifacts", "no/such"), "model_unavailable: bbmm"),
        (("verify", "--artifacts", "no/such"), "model_unavailable: no artefacts"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(words: tuple[str, ...], said: str) -> None:
    done = run(*words)
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


def test_a_folder_without_known_tracks_is_refused(tmp_path: Path) -> None:
    for command in ("train", "evaluate"):
        done = run(command, "bbmm", "--data", str(tmp_path))
        assert done.returncode == 1
        assert done.stderr.startswith("invalid: ")
