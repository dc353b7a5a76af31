"""What became of a station's own alerts and patrols elsewhere comes back to it, and all of it once it was restored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.errors import NotFound
from tests.clouds import VIEW, Cloud, serving, wipe
from tests.fakes import START, FakeClock
from tests.roaming import StationHome

pytestmark = [pytest.mark.integration, pytest.mark.sync]

RAISED = {"alert_type": "rapid_movement", "title": "Mwezi runs", "severity": "high", "detected_at": START}


@pytest.fixture
async def cloud(database_url: str) -> AsyncIterator[Cloud]:
    """Give an empty cloud."""
    wipe(database_url)
    async with serving(database_url) as cloud:
        yield cloud


@pytest.fixture
async def station(tmp_path: Path, cloud: Cloud) -> AsyncIterator[StationHome]:
    """Give a station that is enrolled at it."""
    home = StationHome(tmp_path / "station.db", cloud, FakeClock())
    await home.open()
    yield home
    await home.close()


async def test_an_alert_that_is_acknowledged_in_the_cloud_is_acknowledged_at_its_station(
    cloud: Cloud, station: StationHome
) -> None:
    raised = await station.store.create_alert(VIEW, RAISED)
    await station.meet()
    await cloud.store.update_alert(VIEW, raised.id, {"status": "acknowledged", "acknowledged_by": "ann"})
    await station.meet()
    found = await station.store.alert(VIEW, raised.id)
    assert (found.status, found.acknowledged_by) == ("acknowledged", "ann")
    # and what is decided here meanwhile stands beside what was decided there
    await station.store.update_alert(VIEW, raised.id, {"note": "gone by noon"})
    await cloud.store.update_alert(VIEW, raised.id, {"status": "resolved"})
    await station.meet()
    here, above = await station.store.alert(VIEW, raised.id), await cloud.store.alert(VIEW, raised.id)
    assert (here.status, here.note) == (above.status, above.note) == ("resolved", "gone by noon")


async def test_a_station_that_was_restored_has_its_alerts_and_patrols_again(
    cloud: Cloud, station: StationHome, tmp_path: Path
) -> None:
    await station.keep_copy()
    alert = await station.store.create_alert(VIEW, RAISED)
    patrol = await station.store.create_patrol(VIEW, {"started_at": START, "note": "fence"})
    await station.restore()  # once the cloud has what the copy misses
    with pytest.raises(NotFound):
        await station.store.alert(VIEW, alert.id)
    await station.meet()
    assert (await station.store.alert(VIEW, alert.id)).title == "Mwezi runs"
    assert (await station.store.patrol(VIEW, patrol.id)).note == "fence"
