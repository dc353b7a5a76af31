"""Signed updates (R15), with real packages and stations: taken, refused, and left after three failed starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.ops.update import current_of, previous_of, take, take_fetched, wants
from edge.store.driver import connect
from edge.store.migrate import migrations, schema_version
from shared.errors import Conflict, Invalid, OutpostError
from shared.wire.releases import Offer, sign
from tests.faults.station_process import StationProcess, until
from tests.faults.test_hang import Listener
from tests.services import require

pytestmark = [pytest.mark.integration, pytest.mark.faults]

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "edge" / "deploy" / "outpost-release"
SEED = bytes(range(32))
PUBLIC = Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw().hex()
PATIENCE_S = 90.0

#: In the place of a release's interpreter: ours, with the code that is tested. -I would hide it.
PYTHON = f'#!/bin/sh\nshift\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n'
SAYS = 'import sys\nif sys.argv[1:] == ["--version"]:\n    print("{version}")\n    sys.exit()\n'
WORKS = SAYS + "from edge.cli import main\nmain()\n"
FAILS = SAYS + "sys.exit(3)\n"
#: Brings the database to a schema of its own, with the program's own code, and falls.
MIGRATES_AND_FAILS = (
    SAYS
    + """
from edge.store import migrate, snapshot
known = migrate.migrations()
newer = lambda: [*known, (len(known) + 1, "CREATE TABLE of_the_newer_one (x);")]
migrate.migrations = snapshot.migrations = newer
from pathlib import Path
from edge.config import load
from edge.store.store import SpatialiteStore
config = load(Path(sys.argv[sys.argv.index("--config") + 1]))
SpatialiteStore(config.database, config.key(), now=lambda: None, readers=1).close_now()
sys.exit(3)
"""
)


def program(home: Path, source: str, version: str) -> None:
    (home / "bin").mkdir(parents=True)
    for name, text in (("python", PYTHON), ("outpost-station", source.replace("{version}", version))):
        (home / "bin" / name).write_text(text)
        (home / "bin" / name).chmod(0o755)


def signed(folder: Path, version: str, source: str, *, said: str | None = None, architecture: str = "all") -> Path:
    """Return an update with a real package in it."""
    require(shutil.which("dpkg-deb"), "dpkg-deb is not installed: apt-get install dpkg")
    tree, package = folder / f"tree-{version}", folder / f"{version}.deb"
    program(tree / "usr/lib/outpost", source, said or version)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(
        f"Package: outpost-station\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <n@localhost>\n"
        "Description: a release of a test\n"
    )
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, package], check=True, capture_output=True)
    update = folder / f"{version}.outpost-update"
    sign(package, update, SEED, version=version, architecture=architecture, made_at="2026-11-28T00:00:00Z")
    return update


def took(update: Path, releases: Path, **changes: Any) -> Any:
    given: dict[str, Any] = {"public_keys": (PUBLIC,), "running": "0.1.0", "architecture": "amd64", **changes}
    return take(update, releases, **given)


# --- what is believed
def flipped(update: Path, at: int) -> None:
    raw = bytearray(update.read_bytes())
    raw[at] ^= 1
    update.write_bytes(raw)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda u: flipped(u, 30), Invalid),
        (lambda u: flipped(u, -10), Invalid),
        (lambda u: u.write_bytes(u.read_bytes()[:-1]), Invalid),
        (lambda u: u.write_bytes(u.read_bytes() + b"x"), Invalid),
        (lambda u: u.write_bytes(b"MZ" + u.read_bytes()), Invalid),
        (lambda u: u.write_bytes(b""), Invalid),
    ],
)
def test_what_is_not_what_was_signed_is_refused_and_nothing_changes(
    tmp_path: Path, damage: Callable[[Path], None], error: type[OutpostError]
) -> None:
    update = signed(tmp_path, "0.2.0", WORKS)
    damage(update)
    with pytest.raises(error):
        took(update, tmp_path / "releases")
    assert list((tmp_path / "releases").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"public_keys": ()}, Conflict), ({"public_keys": ("ab" * 32,)}, Invalid), ({"running": "0.2.0"}, Conflict),
        ({"running": "0.10.0"}, Conflict),
    ],
)  # fmt: skip
def test_nobodys_a_strangers_and_an_old_update_are_refused(
    tmp_path: Path, changes: dict[str, Any], error: type[OutpostError]
) -> None:
    update = signed(tmp_path, "0.2.0", WORKS)
    with pytest.raises(error):
        took(update, tmp_path / "releases", **changes)
    assert list((tmp_path / "releases").iterdir()) == []


def test_an_update_for_another_machine_or_with_another_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="arm64"):
        took(signed(tmp_path, "0.2.0", WORKS, architecture="arm64"), tmp_path / "releases")
    with pytest.raises(Invalid, match=r"says '0\.2\.9'"):
        took(signed(tmp_path, "0.3.0", WORKS, said="0.2.9"), tmp_path / "releases")
    assert list((tmp_path / "releases").iterdir()) == []


def test_a_second_update_goes_back_to_the_first_and_older_ones_make_room(tmp_path: Path) -> None:
    releases = tmp_path / "releases"
    for version in ("0.2.0", "0.3.0", "0.4.0"):
        took(signed(tmp_path, version, WORKS), releases)
    assert (current_of(releases), previous_of(releases)) == ("0.4.0", "0.3.0")
    assert not (releases / "0.2.0").exists()
    assert (releases / "trial").read_text() == "0\n"


# --- what the cloud offers
@pytest.mark.parametrize(
    ("version", "architecture", "is_news"),
    [("0.2.0", "all", True), ("0.2.0", "amd64", True), ("0.2.0", "arm64", False), ("0.1.0", "all", False),
     ("0.0.9", "all", False), ("../x", "all", False)],
)  # fmt: skip
def test_only_what_is_newer_and_for_this_machine_is_news(
    tmp_path: Path, version: str, architecture: str, is_news: bool
) -> None:
    offer = Offer(version=version, architecture=architecture, sha256="ab" * 32, size_bytes=1)
    assert wants(tmp_path, offer, running="0.1.0", architecture="amd64") is is_news


def test_a_release_that_was_left_or_is_there_is_no_news(tmp_path: Path) -> None:
    took(signed(tmp_path, "0.2.0", WORKS), tmp_path / "releases")
    offer = Offer(version="0.2.0", architecture="all", sha256="ab" * 32, size_bytes=1)
    assert not wants(tmp_path / "releases", offer, running="0.1.0", architecture="amd64")
    other = tmp_path / "other"
    other.mkdir()
    (other / "left").write_text("0.2.0\n")
    assert not wants(other, offer, running="0.1.0", architecture="amd64"), "it would fail again, and again be fetched"


def test_the_installer_takes_what_was_fetched_once_and_throws_away_what_is_not_signed(tmp_path: Path) -> None:
    inbox, releases = tmp_path / "inbox", tmp_path / "releases"
    given: dict[str, Any] = {"running": "0.1.0", "architecture": "amd64"}
    inbox.mkdir()
    assert take_fetched(inbox, releases, (PUBLIC,), **given) is None
    ready = inbox / "ready.outpost-update"
    update = signed(tmp_path, "0.2.0", WORKS)
    shutil.copyfile(update, ready)
    with pytest.raises(Invalid):
        take_fetched(inbox, releases, ("ab" * 32,), **given)
    assert not ready.exists()
    shutil.copyfile(update, ready)
    taken = take_fetched(inbox, releases, (PUBLIC,), **given)
    assert taken is not None
    assert (taken.version, current_of(releases), ready.exists()) == ("0.2.0", "0.2.0", False)


# --- what starts
class Box:
    """A machine with a station, an installed program, and a supervisor that does what the unit says."""

    def __init__(self, folder: Path) -> None:
        self.station = StationProcess(folder / "station")
        self.releases = folder / "releases"
        self.installed = folder / "installed"
        program(self.installed, WORKS, "0.1.0")
        self.listener = Listener(folder / "notify")
        self.environment = {
            **os.environ, "OUTPOST_RELEASES": str(self.releases), "OUTPOST_PACKAGED": str(self.installed),
            "NOTIFY_SOCKET": str(self.listener.path),
        }  # fmt: skip

    def release(self, word: str) -> None:
        subprocess.run([RELEASE, word], env=self.environment, check=True, capture_output=True)

    def starts_until_ready(self, at_most: int = 6) -> int:
        """Start it as systemd does, again and again, and return which start was the one that was ready."""
        for start in range(1, at_most + 1):
            self.release("begin")
            heard = self.listener.count("READY=1")
            with self.station.log_file.open("ab") as log:
                self.station._process = subprocess.Popen(
                    [RELEASE, "run", "run", "--config", self.station._config],
                    env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
            process = self.station._process

            def is_decided(known: int = heard, one: subprocess.Popen[bytes] = process) -> bool:
                return self.listener.count("READY=1") > known or one.poll() is not None

            until(is_decided, "a word of the station", PATIENCE_S)
            if self.listener.count("READY=1") > heard:
                self.release("good")
                return start
        pytest.fail(f"it never was ready:\n{self.station.tail()}")

    def close(self) -> None:
        self.station.close()
        self.listener.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bad", [FAILS, MIGRATES_AND_FAILS], ids=["falls", "changes the schema and falls"])
def test_a_bad_update_is_left_after_three_starts_and_the_data_is_there(tmp_path: Path, bad: str) -> None:
    box = Box(tmp_path)
    station = box.station
    try:
        assert box.starts_until_ready() == 1
        fix = {"collar_id": "K1", "timestamp": "2026-11-01T06:00:00Z", "lat": -2.6, "lon": 37.2}
        posted = httpx.post(f"{station.url}/api/v1/tracking/", json=fix, auth=station.auth, timeout=30)
        assert posted.status_code == 201
        station.stop()
        took(signed(tmp_path, "0.2.0", bad), box.releases)
        assert current_of(box.releases) == "0.2.0"
        assert box.starts_until_ready() == 4, "three starts of the bad one, then the former"
        assert current_of(box.releases) == ""
        rows = httpx.get(f"{station.url}/api/v1/tracking/?collar_id=K1", auth=station.auth, timeout=30).json()[
            "results"
        ]
        assert [(row["lat"], row["lon"]) for row in rows] == [(-2.6, 37.2)]
        assert (box.releases / "left").read_text().strip() == "0.2.0"
        station.stop()
        with connect(station.data_dir / "station.db", station.key, is_spatial=False, is_readonly=True) as db:
            assert schema_version(db) == len(migrations())
        kept = list(station.data_dir.glob("station.db.schema-*-left"))
        assert len(kept) == (bad is MIGRATES_AND_FAILS), "what the bad one made is kept"
        took(signed(tmp_path, "0.3.0", WORKS), box.releases)
        assert box.starts_until_ready() == 1
        assert not (box.releases / "trial").exists()
        assert (current_of(box.releases), httpx.get(f"{station.url}/health/live", timeout=30).status_code) == (
            "0.3.0",
            200,
        )
    finally:
        box.close()
