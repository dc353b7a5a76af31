"""Batch science over Dask: a real scheduler with two worker processes gives what this process alone gives."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from cloud.cli import cli
from cloud.jobs.science import Animal, habitat_map, utilisations
from cloud.jobs.spread import AHEAD, SCHEDULER, Spread, spread
from cloud.ops.science import write_utilisations
from models.corridor import studies
from models.corridor.evaluate import tried_by
from models.corridor.runtime import Algorithm, Policy, load_policy
from models.live.runtime import Fixes
from shared.errors import ConfigError, Invalid, LinkError, StoreError
from shared.sync.records import from_ms
from tests.clusters import cluster
from tests.fakes import START, FakeClock
from tests.integration.station_store import EUI, HOUR, VIEW, add, deploy, fix_of, opened
from tests.services import free_port
from tests.unit.models.habitat.maps import smooth_noise, write_map

pytestmark = [pytest.mark.integration, pytest.mark.ml]

#: Cells along a side of the map; the benchmark has 10,000.
SIDE = 10_000 if os.environ.get("OUTPOST_NIGHTLY") == "1" else 1_000
LAYERS = (("elevation", "m"), ("woody_cover", "percent"), ("distance_to_water", "m"))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of a scheduler with two worker processes."""
    with cluster(tmp_path_factory.mktemp("dask")) as (address, _):
        yield address


def write_reserve(folder: Path, side: int) -> Path:
    """Write a reserve of three maps without animals, in tiles as large maps are."""
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    small = np.stack([500 + 60 * smooth_noise((200, 200), 1), 30 + 10 * smooth_noise((200, 200), 2),
                      np.abs(smooth_noise((200, 200), 3)) * 1_500])  # fmt: skip
    times = -(-side // 200)
    write_map(folder / "ground.tif", np.tile(small, (1, times, times))[:, :side, :side], **tiles)
    (folder / "rasters.toml").write_text(
        "".join(
            f'[[layer]]\nkind = "{kind}"\nfile = "ground.tif"\nband = {band}\nunit = "{unit}"\n'
            for band, (kind, unit) in enumerate(LAYERS, 1)
        )
    )
    return folder / "rasters.toml"


def test_a_map_scored_by_a_cluster_is_the_one_that_is_scored_here(address: str, tmp_path: Path) -> None:
    maps = write_reserve(tmp_path, SIDE)
    told: list[float] = []
    with spread(environment={SCHEDULER: address}) as over:
        assert (over.workers, over.where) == (2, f"2 at {address}")
        made = habitat_map(
            over, maps, "Syncerus caffer", 6, tmp_path / "far.tif", progress=lambda share, _: told.append(share)
        )
    assert (made.rows, made.columns, made.model) == (SIDE, SIDE, "buffalo 1")
    assert (told == sorted(told), told[-1]) == (True, 1.0)
    with spread(1, {}) as over:
        habitat_map(over, maps, "Syncerus caffer", 6, tmp_path / "here.tif")
    with rasterio.open(tmp_path / "far.tif") as far, rasterio.open(tmp_path / "here.tif") as here:
        np.testing.assert_array_equal(far.read(1), here.read(1))
        assert far.tags()["MODEL"] == "habitat/1/buffalo"
        assert np.nanstd(far.read(1)) > 0


def herd(count: int) -> list[Animal]:
    found = []
    for number in range(count):
        rng = np.random.default_rng(number)
        n = 2 if number == 3 else 60
        times = 1_700_000_000.0 + 3600.0 * np.arange(n, dtype=np.float64)
        nothing = np.full(n, np.nan)
        fixes = Fixes(
            times_s=times, lon_deg=16 + np.cumsum(rng.normal(0, 2e-3, n)),
            lat_deg=-19 + np.cumsum(rng.normal(0, 2e-3, n)),
            h_acc_m=nothing, hdop=nothing,
        )  # fmt: skip
        found.append(
            Animal(
                id=f"a{number}", species="elephant", fixes=fixes if number != 2 else fixes.newest(1),
                since=from_ms(round(times[0] * 1000)), until=from_ms(round(times[-1] * 1000)),
            )
        )  # fmt: skip
    return found


def test_occurrence_of_many_animals_is_the_same_anywhere_and_one_that_has_none_costs_no_other(address: str) -> None:
    animals = herd(12)
    with spread(environment={SCHEDULER: address}) as over:
        far = list(utilisations(over, animals))
    with spread(1, {}) as over:
        here = list(utilisations(over, animals))
    assert [each.animal_id for each in far] == [each.id for each in animals]
    assert far == here
    assert far[2].occurrence is None
    assert "fewer than two" in (far[2].missing or "")
    assert all(
        each.occurrence is not None and each.occurrence.area_95_km2 > 0 for each in far if each.animal_id != "a2"
    )


def test_routes_over_many_landscapes_are_measured_by_a_cluster_as_here(address: str) -> None:
    cases = list(studies.generated(48, 4))
    policies: dict[Algorithm, Policy] = {"ppo": load_policy("ppo")}
    work = tried_by(policies)
    with spread(environment={SCHEDULER: address}) as over:
        far = list(over.map(work, cases))
    assert [(one.alone, one.letter, one.ratio) for one in far] == [
        (one.alone, one.letter, one.ratio) for one in map(work, cases)
    ]


def test_no_more_is_asked_for_ahead_than_a_few_for_each_worker() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(1_000):
            taken += 1
            yield number

    found = Spread(None, 1).map(abs, items())
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    assert taken == AHEAD


def test_what_a_worker_raises_comes_back_and_an_address_that_is_none_is_refused(address: str, tmp_path: Path) -> None:
    with spread(environment={SCHEDULER: address}) as over:
        with pytest.raises(Invalid, match="No such file"):
            habitat_map(over, tmp_path / "rasters.toml", "Syncerus caffer", 6, tmp_path / "out.tif")
        with pytest.raises(ValueError, match="no number"):
            list(over.map(int, ["1", "no number"]))
    with pytest.raises(ConfigError, match="tcp://"), spread(environment={SCHEDULER: "somewhere"}):
        pass
    nobody = {SCHEDULER: f"tcp://127.0.0.1:{free_port()}"}
    with pytest.raises(LinkError, match="no Dask scheduler answers"), spread(environment=nobody, connect_s=1.0):
        pass


def test_the_program_scores_the_reserves_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = write_reserve(tmp_path, 300)
    monkeypatch.delenv(SCHEDULER, raising=False)
    monkeypatch.setenv("OUTPOST_HABITAT_DIR", str(maps.parent))
    asked = ["science", "habitat", "--species", "Syncerus caffer", "--out", str(tmp_path / "out.tif"), "--workers", "1"]
    done = CliRunner().invoke(cli, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert (made["rows"], made["model"], made["where"]) == (300, "buffalo 1", "1 local")
    with rasterio.open(tmp_path / "out.tif") as written:
        assert np.isfinite(written.read(1)).mean() > 0.95  # some ground is none that a map of cover may say


def written_under(folder: Path, name: str) -> list[str]:
    return sorted(path.name for path in folder.glob(f"{name}*"))


async def test_every_animal_of_a_store_has_a_line_also_one_without_a_fix(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path / "store.db", clock) as store:
        walked = await store.create_animal(VIEW, {"name": "Alpha", "species": "elephant"})
        await deploy(store, walked.id, EUI)
        for hour in range(6):
            await add(store, fix_of(EUI, START + hour * HOUR, lon=16.0 + 0.005 * hour, lat=-19.0))
        still = await store.create_animal(VIEW, {"name": "Beta", "species": "elephant"})
        told: list[float] = []
        noted: list[tuple[str, bool]] = []
        out = tmp_path / "used.jsonl"

        async def note(words: str) -> None:
            noted.append((words, out.exists()))

        async def refuse(_words: str) -> None:
            noted.append(("refused", out.exists()))
            raise StoreError("the audit log cannot be written")

        with spread(1, {}) as over:
            with pytest.raises(StoreError):
                await write_utilisations(store, clock, over, out, note=refuse, progress=lambda _share, _what: None)
            counts = await write_utilisations(
                store, clock, over, out, note=note, progress=lambda share, _: told.append(share)
            )
    assert noted == [("refused", False), ("occurrence of 2 animals to used.jsonl exact", False)]
    assert written_under(tmp_path, "used") == ["used.jsonl"]
    lines = [json.loads(line) for line in (tmp_path / "used.jsonl").read_text().splitlines()]
    found = {line["animal_id"]: line for line in lines}
    assert (counts, told[-1]) == ({"animals": 2, "without": 1}, 1.0)
    assert found[walked.id]["occurrence"]["area_95_km2"] > 0
    assert found[still.id]["missing"] == "it has no usable fix"
