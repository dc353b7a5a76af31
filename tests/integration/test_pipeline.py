"""The models over a real store: what is owed, in any order, after kills, and with models that are missing."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from edge.pipeline import occurrence as keeping
from edge.pipeline.occurrence import OccurrenceKeeper
from edge.pipeline.pipeline import Pipeline
from edge.store import computing
from edge.store.store import SpatialiteStore
from models.artifact import PACKAGED
from models.bbmm.features import track_of
from models.bbmm.runtime import bridges_of, occurrence_of, variances
from models.hmm.features import rows_of
from models.live.runtime import Models
from shared.domain import NewFix
from shared.errors import ModelUnavailable, StoreFull
from shared.sync.records import to_ms
from tests.fakes import START
from tests.integration.station_store import EUI, HOUR, VIEW, add, ask, deploy, elephant, fix_of

pytestmark = [pytest.mark.integration, pytest.mark.ml]

OTHER = "eui:0202020202020202"
OF_STEPS = (
    "SELECT ended_ms, started_ms, state, is_settled, round(confidence, 6) FROM steps ORDER BY animal_pk, ended_ms"
)


@pytest.fixture(scope="module")
def models() -> Models:
    return Models()


class HeardPipeline(Pipeline):
    """A pipeline whose events the test looks at."""

    def __init__(self, store: SpatialiteStore, models: Models, **given: Any) -> None:
        self.heard: list[tuple[str, Any]] = []
        super().__init__(store, models, lambda name, data: self.heard.append((name, data)), **given)


@contextlib.contextmanager
def pipeline_of(store: SpatialiteStore, models: Models, **given: Any) -> Iterator[HeardPipeline]:
    pipeline = HeardPipeline(store, models, **given)
    try:
        yield pipeline
    finally:
        pipeline.close()


def walk(hours: int, *, seed: int = 1, device: str = EUI, every: timedelta = HOUR) -> list[NewFix]:
    """Return the fixes of an elephant that rests, feeds and walks by turns."""
    rng = np.random.default_rng(seed)
    lon, lat, heading = 37.5, -2.5, 0.0
    fixes = []
    for hour in range(hours):
        mean_m, turn = ((40.0, 3.0), (400.0, 1.5), (1_500.0, 0.3))[hour // 8 % 3]
        step = rng.gamma(2.0, mean_m / 2)
        heading += rng.normal(0, turn)
        lon += step * np.sin(heading) / 111_000
        lat += step * np.cos(heading) / 111_000
        at = START + hour * every
        fixes.append(fix_of(device, at, lon=round(lon, 7), lat=round(lat, 7), hdop=float(rng.uniform(0.8, 2.0))))
    return fixes


def expected(fixes: Sequence[NewFix], models: Models, species: str = "elephant") -> list[tuple[int, str, bool]]:
    """Return the steps of the whole track as the behaviour model says them at once."""
    times = np.array([fix.recorded_at.timestamp() for fix in fixes])
    lon, lat = (np.array([getattr(fix, name) for fix in fixes], dtype=float) for name in ("lon_deg", "lat_deg"))
    variant = models.behaviour(species).variant_for(3600)
    steps = variant.steps(rows_of(times, lon, lat, 3600, tolerance=variant.tolerance), times)
    return [(round(step.ended_at_s * 1000), step.state, step.is_settled) for step in steps]


async def kept(store: SpatialiteStore) -> list[tuple[int, str, bool]]:
    return [(ended, state, bool(settled)) for ended, _, state, settled, _ in await ask(store, OF_STEPS)]


async def test_fix_by_fix_ends_in_the_steps_of_the_whole_track(store: SpatialiteStore, models: Models) -> None:
    await deploy(store, await elephant(store))
    fixes = walk(120)
    with pipeline_of(store, models) as pipeline:
        for fix in fixes:
            await add(store, fix)
            await pipeline.drain()
        assert await kept(store) == expected(fixes, models)
        assert [name for name, _ in pipeline.heard] == ["state"] * 120
        newest = pipeline.heard[-1][1]
        assert newest["recorded_at"] == fixes[-1].recorded_at
        assert newest["state"] in {"resting", "foraging", "migrating"}
        assert newest["is_settled"] is True
        assert newest["path_sd_m"] > 0
        assert newest["missing"] == {}
    assert await ask(store, "SELECT * FROM to_compute") == []


async def test_any_order_of_arrival_ends_in_the_same_steps(store: SpatialiteStore, models: Models) -> None:
    await deploy(store, await elephant(store), start=START - HOUR)
    fixes = walk(200)
    order = np.random.default_rng(7).permutation(200)
    with pipeline_of(store, models) as pipeline:
        for start in range(0, 200, 11):
            await add(store, *(fixes[i] for i in order[start : start + 11]))
            await pipeline.drain()
        assert await kept(store) == expected(fixes, models)


async def test_what_comes_at_once_is_computed_in_turns(store: SpatialiteStore, models: Models) -> None:
    await deploy(store, await elephant(store))
    fixes = walk(450)
    await add(store, *fixes)
    with pipeline_of(store, models, turn_fixes=100) as pipeline:
        turns = 0
        while await pipeline.turn():
            turns += 1
        assert turns > 4
        assert await kept(store) == expected(fixes, models)


async def test_a_change_while_a_turn_is_computed_is_not_lost(store: SpatialiteStore, models: Models) -> None:
    await deploy(store, await elephant(store))
    fixes = walk(40)
    await add(store, *fixes[:30])
    with pipeline_of(store, models) as pipeline:
        reading = store.read

        async def read_and_then_something_comes(job: Callable[[Any], Any]) -> Any:
            found = await reading(job)
            await add(store, *fixes[30:])
            return found

        store.read = read_and_then_something_comes  # type: ignore[method-assign]
        await pipeline.turn()
        store.read = reading  # type: ignore[method-assign]
        assert len(await ask(store, "SELECT * FROM to_compute")) == 1
        await pipeline.drain()
        assert await kept(store) == expected(fixes, models)


async def test_a_deployment_entered_later_brings_its_states(store: SpatialiteStore, models: Models) -> None:
    fixes = walk(48)
    await add(store, *fixes)
    with pipeline_of(store, models) as pipeline:
        assert not await pipeline.turn()
        deployment = await deploy(store, await elephant(store), start=START)
        await pipeline.drain()
        assert await kept(store) == expected(fixes, models)
        await store.delete_deployment(VIEW, deployment)
        await pipeline.drain()
        assert await kept(store) == []


async def test_a_fix_that_is_taken_out_changes_the_steps_around_it(store: SpatialiteStore, models: Models) -> None:
    await deploy(store, await elephant(store))
    fixes = walk(60)
    added = await add(store, *fixes)
    with pipeline_of(store, models) as pipeline:
        await pipeline.drain()
        await store.flag_fix(VIEW, added[30].id, is_excluded=True)
        await pipeline.drain()
        assert await kept(store) == expected(fixes[:30] + fixes[31:], models)
        await store.flag_fix(VIEW, added[30].id, is_excluded=False)
        await pipeline.drain()
        assert await kept(store) == expected(fixes, models)


async def test_another_species_is_computed_by_its_own_model(store: SpatialiteStore, models: Models) -> None:
    animal = await elephant(store)
    await deploy(store, animal)
    fixes = walk(60)
    await add(store, *fixes)
    with pipeline_of(store, models) as pipeline:
        await pipeline.drain()
        await store.update_animal(VIEW, animal, {"species": "Connochaetes taurinus"})
        await pipeline.drain()
        assert await kept(store) == expected(fixes, models, "wildebeest")
        assert await ask(store, "SELECT model FROM computed") == [("wildebeest",)]


async def test_an_animal_that_is_deleted_leaves_no_states(store: SpatialiteStore, models: Models) -> None:
    animal = await elephant(store)
    await deploy(store, animal)
    await add(store, *walk(30))
    with pipeline_of(store, models) as pipeline:
        await pipeline.drain()
        assert await kept(store)
        await store.delete_animal(VIEW, animal)
        await pipeline.drain()
        assert await kept(store) == []
        assert await ask(store, "SELECT * FROM to_compute") == []


async def test_fixes_too_far_apart_for_a_state_have_a_reason(store: SpatialiteStore, models: Models) -> None:
    await deploy(store, await elephant(store))
    await add(store, *walk(20, every=12 * HOUR))
    with pipeline_of(store, models) as pipeline:
        await pipeline.drain()
        event = pipeline.heard[-1][1]
        assert event["state"] is None
        assert "12 h apart" in event["missing"]["behaviour"]
        assert "path" not in event["missing"]


async def test_a_missing_model_stops_neither_the_others_nor_the_fixes(store: SpatialiteStore, tmp_path: Path) -> None:
    shutil.copytree(PACKAGED, tmp_path / "artifacts")
    shutil.rmtree(tmp_path / "artifacts" / "hmm")
    await deploy(store, await elephant(store))
    with pipeline_of(store, Models(tmp_path / "artifacts")) as pipeline:
        await pipeline.start()
        assert "hmm" in pipeline.refused
        await add(store, *walk(40))
        await pipeline.drain()
        event = pipeline.heard[-1][1]
        assert "no usable hmm model" in event["missing"]["behaviour"]
        assert event["path_sd_m"] > 0


async def test_an_altered_artefact_is_refused_and_the_one_before_it_serves(
    store: SpatialiteStore, tmp_path: Path, models: Models
) -> None:
    shutil.copytree(PACKAGED, tmp_path / "artifacts")
    shutil.copytree(tmp_path / "artifacts" / "hmm" / "1", tmp_path / "artifacts" / "hmm" / "2")
    await deploy(store, await elephant(store))
    fixes = walk(40)
    with pipeline_of(store, Models(tmp_path / "artifacts")) as pipeline:
        await pipeline.start()
        assert "its manifest belongs to another artefact" in pipeline.refused["hmm"]
        await add(store, *fixes)
        await pipeline.drain()
        assert await kept(store) == expected(fixes, models)
        assert await ask(store, "SELECT version FROM computed") == [(1,)]


async def test_a_newer_model_is_owed_to_every_animal_at_start(store: SpatialiteStore, models: Models) -> None:
    await deploy(store, await elephant(store))
    await add(store, *walk(40))
    with pipeline_of(store, models) as pipeline:
        await pipeline.drain()
        await pipeline.start()
        assert await ask(store, "SELECT * FROM to_compute") == []
        await store.write(lambda db: db.execute("UPDATE computed SET version = 0"))
        await pipeline.start()
        assert len(await ask(store, "SELECT * FROM to_compute")) == 1


async def test_the_list_is_written_with_the_fixes_or_not_at_all(store: SpatialiteStore) -> None:
    await deploy(store, await elephant(store))

    def fail(db: Any) -> None:
        db.execute("UPDATE animals SET species = 'x'")
        raise RuntimeError

    await add(store, *walk(3))
    await store.write(lambda db: db.execute("DELETE FROM to_compute"))
    with pytest.raises(RuntimeError):
        await store.write(fail)
    assert await ask(store, "SELECT * FROM to_compute") == []


async def test_a_turn_over_a_full_store_waits_and_recovers(store: SpatialiteStore, models: Models) -> None:
    await deploy(store, await elephant(store))
    fixes = walk(30)
    await add(store, *fixes)
    with pipeline_of(store, models) as pipeline:
        writing = store.write
        refusals = 0

        async def refuse(job: Callable[[Any], Any]) -> Any:
            nonlocal refusals
            if refusals < 2:
                refusals += 1
                raise StoreFull("no room")
            return await writing(job)

        store.write = refuse  # type: ignore[method-assign]
        task = asyncio.create_task(pipeline.run())
        async with asyncio.timeout(120):
            while await kept(store) != expected(fixes, models):  # noqa: ASYNC110 - it asks a database
                await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert refusals == 2


async def test_a_pipeline_that_is_told_to_end_as_news_come_ends(store: SpatialiteStore, models: Models) -> None:
    with pipeline_of(store, models) as pipeline:
        running = asyncio.create_task(pipeline.run())
        for turns in range(60):  # somewhere among them it waits for news
            await asyncio.sleep(0.01 if turns < 30 else 0)
            pipeline.wake()
        await asyncio.sleep(0.1)
        pipeline.wake()
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=120)
    assert done == {running}


# --- occurrence


async def drawn(keeper: OccurrenceKeeper, store: SpatialiteStore) -> Any:
    [(animal_pk,)] = await ask(store, "SELECT pk FROM animals")
    _, used = await keeper.whole(animal_pk)
    return used.occurrence()


def at_once(fixes: Sequence[NewFix], models: Models, grid: Any, frame: Any) -> Any:
    calibration = models.calibration("elephant")
    columns = [np.array([getattr(fix, name) for fix in fixes], dtype=float) for name in ("lon_deg", "lat_deg", "hdop")]
    times = np.array([to_ms(fix.recorded_at) / 1000 for fix in fixes])
    track = track_of(times, columns[0], columns[1], frame, calibration.errors, hdop=columns[2])
    variance = variances(track, calibration.variance_m2_per_s, calibration.max_gap_s)
    return occurrence_of(bridges_of(track, variance, calibration.max_gap_s), grid)


async def test_occurrence_in_slices_is_that_of_all_fixes(store: SpatialiteStore, models: Models) -> None:
    await deploy(store, await elephant(store))
    fixes = walk(180)
    after_a_gap = [{name: getattr(fix, name) + 72 * HOUR for name in ("recorded_at", "received_at")} for fix in fixes]
    fixes = fixes[:90] + [replace(fix, **later) for fix, later in zip(fixes[90:], after_a_gap[90:], strict=True)]
    await add(store, *fixes)
    keeper = OccurrenceKeeper(store, models, slice_fixes=50)
    [(animal_pk,)] = await ask(store, "SELECT pk FROM animals")
    _, used = await keeper.whole(animal_pk)
    found = used.occurrence()
    wanted = at_once(fixes, models, found.grid, used.frame)
    assert (found.bridges, found.gaps, found.gaps_s) == (wanted.bridges, wanted.gaps, wanted.gaps_s)
    assert found.area_km2(0.95) == pytest.approx(wanted.area_km2(0.95), rel=0.01)
    assert found.mass_on_grid == pytest.approx(1, abs=0.01)
    keeper.close()


async def test_a_late_fix_takes_back_the_bridges_after_it(store: SpatialiteStore, models: Models) -> None:
    await deploy(store, await elephant(store))
    fixes = walk(120)
    keeper = OccurrenceKeeper(store, models)
    with pipeline_of(store, models) as pipeline:
        await add(store, *fixes[:60], *fixes[61:])
        await pipeline.drain()
        before = await drawn(keeper, store)
        assert before.bridges == 118
        await add(store, fixes[60])
        await pipeline.drain()
        assert (await ask(store, "SELECT stale_ms FROM utilisations")) == [(to_ms(fixes[60].recorded_at),)]
        after = await drawn(keeper, store)
        assert after.bridges == 119
        assert after.lasting_s == pytest.approx(119 * 3600)
        assert after.mass_on_grid == pytest.approx(1, abs=0.01)
        assert (await ask(store, "SELECT stale_ms FROM utilisations")) == [(None,)]
        again = OccurrenceKeeper(store, models)
        await store.write(lambda db: db.execute("DELETE FROM utilisations"))
        anew = await drawn(again, store)
        assert after.area_km2(0.95) == pytest.approx(anew.area_km2(0.95), rel=0.01)
        again.close()
    keeper.close()


async def test_a_change_older_than_what_is_kept_draws_all_anew(store: SpatialiteStore, models: Models) -> None:
    await deploy(store, await elephant(store))
    fixes = walk(120)
    keeper = OccurrenceKeeper(store, models, recent=20)
    with pipeline_of(store, models) as pipeline:
        await add(store, *fixes[:30], *fixes[31:])
        await pipeline.drain()
        assert (await drawn(keeper, store)).bridges == 118
        await add(store, fixes[30])
        await pipeline.drain()
        found = await drawn(keeper, store)
        assert (found.bridges, found.lasting_s) == (119, pytest.approx(119 * 3600))
    keeper.close()


async def test_idle_moments_draw_what_waits(store: SpatialiteStore, models: Models) -> None:
    await deploy(store, await elephant(store))
    await add(store, *walk(keeping.WAITING - 1))
    keeper = OccurrenceKeeper(store, models)
    assert not await keeper.advance_next()
    await add(store, *walk(keeping.WAITING + 2))
    assert await keeper.advance_next()
    assert not await keeper.advance_next()
    assert (await ask(store, "SELECT count(*) FROM utilisation_tiles"))[0][0] > 0
    keeper.close()


async def test_a_lone_fix_has_no_occurrence(store: SpatialiteStore, models: Models) -> None:
    await deploy(store, await elephant(store))
    await add(store, *walk(1))
    keeper = OccurrenceKeeper(store, models)
    with pytest.raises(ModelUnavailable, match="fewer than two"):
        await drawn(keeper, store)
    keeper.close()


async def test_the_steps_of_a_span_come_by_time(store: SpatialiteStore, models: Models) -> None:
    await deploy(store, await elephant(store))
    fixes = walk(40)
    await add(store, *fixes)
    with pipeline_of(store, models) as pipeline:
        await pipeline.drain()
    [(pk,)] = await ask(store, "SELECT pk FROM animals")
    since, until = to_ms(fixes[10].recorded_at), to_ms(fixes[20].recorded_at)
    found = await store.read(lambda db: computing.steps_between(db, pk, since, until, 1000))
    assert [step.ended_ms for step in found] == [to_ms(fix.recorded_at) for fix in fixes[10:20]]
    newest = await store.read(lambda db: computing.steps_between(db, pk, since, until, 3))
    assert newest == found[-3:]
