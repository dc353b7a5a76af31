"""`check`: each trouble of the READMEs' tables, made real, is named with its cause and a next step."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from edge import checks
from edge.checks import LOOKS, Scene, look_around
from edge.config import Config, StationSection, StoreSection
from edge.store.ledger import Entry, Ledger
from edge.store.store import SpatialiteStore
from firmware_bridge.transports.spec import LinkSpec
from models.artifact import PACKAGED
from shared.findings import Finding
from shared.privacy import OPERATOR, view_for
from tests.commands import STATION, StationFolder
from tests.fakes import START, FakeHealth

pytestmark = pytest.mark.integration

KEY = bytes(range(32))
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Give a station that is well: data and key are there, and it answers."""
    data, key_file = tmp_path / "data", tmp_path / "station.key"
    data.mkdir()
    key_file.write_text(KEY.hex())
    config = Config(station=StationSection(data_dir=data), store=StoreSection(key_file=key_file))
    SpatialiteStore(config.database, KEY, now=lambda: START, readers=1).close_now()
    frames = Ledger(config.ledger_dir, KEY, boot="a")
    frames.append([Entry("base", "raw", "", bytes([n] * 64), 1, 1, "ntp") for n in range(200)])
    frames.close()
    detail = msgspec.to_builtins(asyncio.run(FakeHealth().detail()), str_keys=True)
    return Scene(config=config, key=KEY, detail=detail, is_running=True)


def told(scene: Scene, name: str) -> Finding:
    return next(found for found in look_around(scene) if found.name == name)


def change(scene: Scene, **fields: Any) -> Scene:
    return msgspec.structs.replace(scene, **fields)


def detailed(scene: Scene, **parts: Any) -> Scene:
    assert scene.detail is not None
    return change(scene, detail={**scene.detail, **parts})


def with_links(scene: Scene, *links: LinkSpec) -> Scene:
    return change(scene, config=msgspec.structs.replace(scene.config, links=links))


def test_a_station_that_is_well_has_no_fault(scene: Scene) -> None:
    found = {each.name: each.state for each in look_around(scene)}
    assert len(found) == len(LOOKS)
    assert "fault" not in found.values()
    assert {name for name, state in found.items() if state == "warning"} <= {
        "key",
        "disk",
    }  # one disk, as full as it is


def overwrite_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(4096))


def damaged_database(scene: Scene) -> Scene:
    overwrite_middle(scene.config.database)
    return scene


def damaged_ledger(scene: Scene) -> Scene:
    overwrite_middle(next(scene.config.ledger_dir.glob("ledger-*.db")))
    return scene


def altered_model(scene: Scene) -> Scene:
    folder = scene.config.station.data_dir.parent / "artifacts"
    shutil.copytree(PACKAGED, folder)
    for file in folder.rglob("hmm/**/*"):
        if file.is_file() and file.name != "manifest.json":
            file.write_bytes(b"altered")
    return change(scene, models=folder)


def little_memory(scene: Scene) -> Scene:
    file = scene.config.station.data_dir / "meminfo"
    file.write_text("MemTotal: 500000 kB\nMemAvailable: 20000 kB\n")
    return change(scene, meminfo=file)


def no_key(scene: Scene) -> Scene:
    scene.config.store.key_file.unlink()
    key, error = checks.key_of(scene.config)
    return change(scene, key=key, key_error=error)


def silent_collar(scene: Scene) -> Scene:
    async def raise_it() -> None:
        store = SpatialiteStore(scene.config.database, KEY, now=lambda: START, readers=1)
        try:
            view = view_for(OPERATOR)
            animal = await store.create_animal(view, {"name": "Naisha", "species": "Elephant"})
            columns = {
                "animal_id": animal.id, "alert_type": "silent_collar", "severity": "medium", "status": "active",
                "title": "The collar of Naisha is silent", "message": "", "detected_at": START,
            }  # fmt: skip
            await store.create_alert(view, columns)
        finally:
            await store.close()

    asyncio.run(raise_it())
    return scene


def down(kind: str) -> dict[str, Any]:
    return {"name": "one", "kind": kind, "is_up": False, "last_error": "Connection refused"}


UNSURE = {"now": "", "state": "held", "is_sure": False, "uncertainty_s": None}
TROUBLES: dict[str, tuple[str, str, Callable[[Scene], Scene]]] = {
    "it fell silent": ("service", "fault", lambda s: change(s, detail=None, detail_error="timed out")),
    "it was not started": ("service", "warning", lambda s: change(s, detail=None, is_running=False)),
    "its answers are slow": ("answers", "warning", lambda s: change(s, answered_in_s=4.2)),
    "the key is not plugged in": ("key", "fault", no_key),
    "a page of the database is bad": ("database", "fault", damaged_database),
    "it is another key": ("database", "fault", lambda s: change(s, key=bytes(32))),
    "a page of the ledger is bad": ("ledger", "fault", damaged_ledger),
    "a model was altered": ("models", "warning", altered_model),
    "memory runs out": ("memory", "warning", little_memory),
    "the disk is full": ("disk", "fault", lambda s: change(s, usage=lambda _: SimpleNamespace(free=1, total=100))),
    "the disk runs full": (
        "disk", "warning", lambda s: change(s, usage=lambda _: SimpleNamespace(free=2**30, total=2**34)),
    ),
    "the clock is unsure": ("clock", "warning", lambda s: detailed(s, clock=UNSURE)),
    "people cannot log in": ("codes", "warning", lambda s: detailed(s, clock=UNSURE)),
    "the receiver is gone": (
        "serial", "fault", lambda s: with_links(s, LinkSpec(kind="serial", name="base", path="/dev/outpost/gone")),
    ),
    "the receiver is held": ("serial", "fault", lambda s: detailed(s, links=[down("serial")])),
    "the broker is down": ("broker", "fault", lambda s: detailed(s, links=[down("mqtt")])),
    "a collar is silent": ("collars", "warning", silent_collar),
    "frames are not read": (
        "undecoded", "warning", lambda s: detailed(s, ledger={"frames": 9, "pending": 0, "undecoded": 3}),
    ),
    "backups fail": (
        "backups", "fault", lambda s: detailed(s, backup={"last_error": "no medium", "is_on_the_same_medium": False}),
    ),
    "the cloud is not reached": (
        "cloud", "warning", lambda s: detailed(s, cloud={"station_id": "north", "last_error": "no route to host"}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_trouble_is_named_with_its_cause_and_a_next_step(scene: Scene, trouble: str) -> None:
    name, state, make = TROUBLES[trouble]
    found = told(make(scene), name)
    assert (found.state, bool(found.cause), bool(found.next_step)) == (state, True, True), found


def test_a_missing_package_is_named(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PACKAGES", ("msgspec", "a_package_that_is_not_there"))
    found = told(scene, "python")
    assert found.state == "fault"
    assert "a_package_that_is_not_there" in found.cause


def test_every_look_is_seen_to_find_something() -> None:
    assert {look.__name__ for look in LOOKS} == {name for name, _, _ in TROUBLES.values()} | {"python"}


# --- the README's table
def rows() -> list[tuple[str, str, str]]:
    text = (ROOT / "edge" / "README.md").read_text(encoding="utf-8")
    part = text.split("## When something is wrong", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| (?!symptom|---)([^|]+) \| `(\w+)` \| `([^`|]+)`", part, re.MULTILINE)


def test_the_readmes_table_has_every_look() -> None:
    assert {name for _, name, _ in rows()} == {look.__name__ for look in LOOKS}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StationFolder:
    station = StationFolder(tmp_path_factory.mktemp("station"))
    station.init()
    return station


@pytest.mark.parametrize(("symptom", "name", "command"), rows())
def test_a_command_of_the_readmes_table_runs(made: StationFolder, symptom: str, name: str, command: str) -> None:
    program, *words = command.split()
    assert program == "outpost-station", symptom
    needs_a_running_one = words[0] in ("status", "log", "sync")
    STATION.run(*words, "--config", made.config, code=1 if needs_a_running_one else 0)
    said = STATION.facts("check", "--config", made.config)
    assert name in said


def test_check_says_as_json_what_is_wrong_and_fails_where_there_is_a_fault(tmp_path: Path) -> None:
    station = StationFolder(tmp_path)
    station.init()
    well = STATION.facts("check", "--config", station.config)
    assert (well["database"], well["ledger"], well["service"]) == ("ok", "ok", "warning")
    station.key.unlink()
    said = STATION.facts("check", "--config", station.config, code=1)
    assert said["key"] == "fault"
    (found,) = [each for each in said["findings"] if each["name"] == "key"]
    assert "init" in found["cause"]
    assert found["next_step"]
    assert "database" not in STATION.facts("check", "--quick", "--config", station.config, code=1)
