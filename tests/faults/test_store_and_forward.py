"""The schedules of store and forward over SpatiaLite, PostgreSQL and HTTP: all that stations had is there, once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from edge.store.store import SpatialiteStore
from tests.fakes import FakeClock
from tests.faults.homes_on_disk import Homes
from tests.schedules import Effort, Schedule, anything, duties, forgetful, month_away, two_histories
from tests.services import Postgres

pytestmark = [pytest.mark.sync, pytest.mark.faults, pytest.mark.slow, pytest.mark.integration]

IS_NIGHTLY: Final = os.environ.get("OUTPOST_NIGHTLY") == "1"
FIXES: Final = 10_000
EFFORT: Final[dict[Schedule, Effort]] = {
    anything: Effort(steps=70, fixes_at_once=600),
    two_histories: Effort(steps=0, fixes_at_once=600),
    forgetful: Effort(steps=80, fixes_at_once=600),
    month_away: Effort(steps=80, fixes_at_once=300),
    duties: Effort(steps=80, fixes_at_once=300),
}
#: Every schedule in turn at night; on each change one seed of everything and one of the rarest story.
RUNS: Final = (
    [(schedule, seed) for seed in range(42, 47) for schedule in EFFORT]
    if IS_NIGHTLY
    else [(anything, 42), (two_histories, 42)]
)


#: What happens in the one story of everything that is played on each change.
EVENTS: Final = (
    "request lost", "answer lost", "half open", "late request", "station put back", "card cloned", "cloud restored",
)  # fmt: skip


@pytest.fixture(scope="module")
def new_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file of an empty store."""
    path = tmp_path_factory.mktemp("new") / "station.db"
    SpatialiteStore(path, None, now=FakeClock().now).close_now()
    return path


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("schedule", "seed"), RUNS)
async def test_the_sets_of_fixes_and_records_are_equal_whatever_happened(
    schedule: Schedule, seed: int, postgres: Postgres, tmp_path: Path, new_file: Path
) -> None:
    homes = Homes(postgres, tmp_path, new_file)
    try:
        await homes.open()
        await homes.play(schedule(seed, EFFORT[schedule]), FIXES)
        faults = await homes.faults()
        print(f"{schedule.__name__} {seed}: {len(homes.made)} made, {len(homes.gone)} gone, {dict(homes.events)}")
        assert faults == []
        if (schedule, seed) == (anything, 42):
            assert {name for name in EVENTS if homes.events[name]} == set(EVENTS), homes.events
    finally:
        await homes.close()
