"""A station whose models are damaged keeps working, and says in a clear word which and why."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.api.app import create_app
from edge.api.events import EventHub
from edge.pipeline.advice import AdviceStage
from edge.pipeline.insight import KeptInsight
from edge.pipeline.lookout import Lookout
from edge.pipeline.pipeline import Pipeline
from edge.store.store import SpatialiteStore
from models.artifact import PACKAGED, Manifest
from models.live.advice import Advisor
from models.live.habitat import MappedHabitat
from models.live.runtime import Models
from shared.accounts.service import Accounts
from tests.access import accounts_over, operator_of
from tests.contract.conftest import client_of
from tests.fakes import START, FakeClock, FakeHealth
from tests.integration.station_store import HOUR, VIEW, add, ask, deploy, elephant
from tests.integration.test_pipeline import walk

pytestmark = [pytest.mark.integration, pytest.mark.ml]

STATUS = "/api/v1/predictions/ml_status/"
Damage = Callable[[Path], None]


def altered(manifest: Path) -> None:
    """Change a byte of the file."""
    data = bytearray(manifest.with_suffix(".bin").read_bytes())
    data[len(data) // 2] ^= 1
    manifest.with_suffix(".bin").write_bytes(data)


def misshapen(manifest: Path) -> None:
    """Say another shape of the first array, with as many numbers, of a file that is as it was."""
    said = msgspec.json.decode(manifest.read_bytes(), type=Manifest)
    first, *others = said.arrays
    longer = msgspec.structs.replace(first, shape=(1, *first.shape))
    manifest.write_bytes(msgspec.json.encode(msgspec.structs.replace(said, arrays=(longer, *others))))


def of_the_future(manifest: Path) -> None:
    """Say that a later program wrote it."""
    said = msgspec.json.decode(manifest.read_bytes(), type=Manifest)
    manifest.write_bytes(msgspec.json.encode(msgspec.structs.replace(said, format=said.format + 1)))


async def asked(
    store: SpatialiteStore, clock: FakeClock, artifacts: Path, maps: Path
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Let a station work on two days of an elephant; return its models' status, the animal's live view, its steps."""
    models = Models(artifacts)
    habitat = MappedHabitat(maps, artifacts)
    pipeline = Pipeline(store, models, lambda _name, _data: None, lookout=Lookout(models))
    advisor = Advisor(artifacts)
    advice = AdviceStage(store, advisor, clock, MappedHabitat(None))
    accounts: Accounts = accounts_over(None, clock)
    try:
        await pipeline.start()
        animal = await elephant(store)
        await deploy(store, animal)
        await add(store, *walk(48))
        clock.at = START + 47 * HOUR + timedelta(minutes=1)
        await pipeline.drain()
        while await advice.advance():
            pass
        insight = KeptInsight(store, models, pipeline.occurrence, clock, habitat, advisor)
        app = create_app(
            store, health=FakeHealth(), events=EventHub(), clock=clock, accounts=accounts, insight=insight,
            habitat=habitat,
        )  # fmt: skip
        async with client_of(app, operator_of(app)) as client:
            status = await client.get(STATUS)
            live = await client.get("/api/v1/animals/live_status/")
            assert (status.status_code, live.status_code) == (200, 200)
            made = await client.post(
                "/api/v1/predictions/", json={"prediction_type": "movement", "animal": animal}
            )  # fmt: skip
            assert made.status_code in (201, 503), made.text
            assert (await client.get("/api/v1/ml/health")).status_code == 200
            ready = await client.get("/api/v1/ml/health/ready")
            is_ready = all(
                model["status"] != "unavailable"
                for name, model in status.json()["models"].items()
                if name in ("hmm", "bbmm", "forecast", "corridor")
            )
            assert ready.status_code == (200 if is_ready else 503), ready.text
            steps = int((await ask(store, "SELECT count(*) FROM steps"))[0][0])
            return status.json()["models"], {**live.json()[0], "made": made.status_code}, steps
    finally:
        habitat.close()
        advice.close()
        pipeline.close()


async def test_a_station_without_maps_says_so_and_all_else_works(
    store: SpatialiteStore, clock: FakeClock, tmp_path: Path
) -> None:
    status, live, steps = await asked(store, clock, PACKAGED, tmp_path)
    assert {name: model["status"] for name, model in status.items()} == {
        "hmm": "ready", "bbmm": "ready", "habitat": "unavailable", "forecast": "ready", "corridor": "degraded",
    }  # fmt: skip
    assert "rasters.toml" in status["habitat"]["detail"]
    assert list(live["missing"]) == ["habitat"]
    assert live["predictions"]
    assert (live["made"], steps > 0) == (201, True)


@pytest.mark.parametrize("damage", [altered, misshapen, of_the_future], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("model", ["hmm", "bbmm", "forecast", "corridor"])
async def test_a_station_whose_artefacts_are_damaged_keeps_working_and_says_which(
    store: SpatialiteStore, clock: FakeClock, tmp_path: Path, model: str, damage: Damage
) -> None:
    folder = tmp_path / "artifacts"
    shutil.copytree(PACKAGED, folder)
    for manifest in (folder / model).glob("*/*.json"):
        damage(manifest)
    status, live, steps = await asked(store, clock, folder, tmp_path)
    assert status[model]["status"] == "unavailable"
    assert status[model]["detail"]
    words = {"altered": "sha256 differs", "misshapen": "", "of_the_future": "format 2, this program reads 1"}
    if model != "corridor":  # the status tells of its routes, the animal's view of its advice
        assert words[damage.__name__] in status[model]["detail"]
    assert model != "corridor" or words[damage.__name__] in live["missing"]["corridor"]
    others = {"hmm", "bbmm", "forecast"} - {model}
    assert all(status[name]["status"] == "ready" for name in others)
    stage = {"hmm": "behaviour", "bbmm": "path", "forecast": "forecast", "corridor": "corridor"}[model]
    assert set(live["missing"]) == {stage, "habitat"}
    assert (steps > 0) == (model != "hmm")
    assert bool(live["predictions"]) == (model != "forecast")
    assert live["made"] == (503 if model == "forecast" else 201)
    assert live["current_position"]["lat"] is not None


@pytest.mark.parametrize("damage", [altered, misshapen, of_the_future], ids=lambda damage: damage.__name__)
async def test_without_its_network_the_station_forecasts_plainly_and_says_so(
    store: SpatialiteStore, clock: FakeClock, tmp_path: Path, damage: Damage
) -> None:
    folder = tmp_path / "artifacts"
    shutil.copytree(PACKAGED, folder)
    damage(folder / "forecast" / "1" / "network.json")
    status, live, _ = await asked(store, clock, folder, tmp_path)
    assert status["forecast"]["status"] == "degraded"
    assert status["forecast"]["detail"].startswith("plain forecasts: ")
    assert live["predictions"]
    assert "network" not in {each["model"] for each in live["predictions"]}
    assert live["made"] == 201


async def test_a_newer_version_that_is_damaged_leaves_the_one_before_it(
    store: SpatialiteStore, clock: FakeClock, tmp_path: Path
) -> None:
    folder = tmp_path / "artifacts"
    shutil.copytree(PACKAGED, folder)
    for model in ("hmm", "bbmm", "forecast"):
        shutil.copytree(folder / model / "1", folder / model / "2")
    status, live, steps = await asked(store, clock, folder, tmp_path)
    for model in ("hmm", "bbmm", "forecast"):
        assert status[model]["status"] == "degraded", model
        assert "belongs to another artefact" in status[model]["detail"]
    assert status["hmm"]["versions"] == {"generic": "1"}
    assert live["movement"]["behavior_source"] == "elephant 1"
    assert steps > 0
    assert (await store.live_animals(VIEW))[0].animal.name == "Alpha"
