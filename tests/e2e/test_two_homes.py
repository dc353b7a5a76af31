"""A station and a cloud as programs of their own: whoever is killed, whatever is lost, every fix is there once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge.store.driver import connect
from shared.movement.tracks import good_rows
from tests import real_data
from tests.faults.cloud_process import CloudProcess
from tests.faults.proxy import FaultProxy
from tests.faults.station_process import StationProcess, until

pytestmark = [pytest.mark.sync, pytest.mark.faults, pytest.mark.slow]

IS_NIGHTLY = os.environ.get("OUTPOST_NIGHTLY") == "1"
MISHAPS = 50 if IS_NIGHTLY else 8
CHUNK = 40
COLLARS = ("eui:00000000000000a1", "eui:00000000000000a2")


class TwoHomes:
    """A station that is enrolled at a cloud, with a proxy between them."""

    def __init__(self, folder: Path) -> None:
        self.cloud = CloudProcess(folder / "cloud")
        self.proxy = FaultProxy(self.cloud.port)
        self.station = StationProcess(folder / "station")
        self.config = folder / "station" / "station.toml"
        with self.config.open("a") as config:
            config.write("[cloud]\ninterval_s = 1\nbatch_fixes = 60\n")

    def start(self) -> None:
        """Start both programs and enrol."""
        self.cloud.create()
        self.cloud.start()
        code = self.cloud.command("station", "add", "North post")["code"]
        self.run("enrol", self.proxy.url, code)
        self.station.start()
        self.station.wait_ready()

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the station's program, whatever comes of it."""
        program = Path(sys.executable).parent / "outpost-station"
        return subprocess.run(
            [program, *words, "--config", str(self.config)], capture_output=True, text=True, check=False, timeout=120
        )

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the station's program that must succeed."""
        done = self.call(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}\n{self.cloud.tail()}"
        return done

    def facts(self, *words: str) -> dict[str, Any]:
        """Run a command and return the facts that it prints."""
        found: dict[str, Any] = json.loads(self.run(*words, "--json").stdout)
        return found

    def close(self) -> None:
        """End everything."""
        self.station.close()
        self.proxy.close()
        self.cloud.close()


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[TwoHomes]:
    """Give both homes, running."""
    homes = TwoHomes(tmp_path)
    try:
        homes.start()
        yield homes
    finally:
        homes.close()


def positions(n: int) -> list[dict[str, Any]]:
    """Return ``n`` positions as they are posted: of a real elephant where tracks are at hand, else of invented ones."""
    path = real_data.FOLDER / "elephant_etosha_getz2010.csv"
    if path.exists():
        rows = islice(good_rows(path), n)
        return [_position(i, row.recorded_at, row.lon_deg, row.lat_deg) for i, row in enumerate(rows)]
    rng = random.Random(11)
    start = datetime(2024, 3, 1, tzinfo=UTC)
    lon, lat = 16.0, -19.0
    made = []
    for number in range(n):
        lon, lat = lon + rng.uniform(-2e-3, 2e-3), lat + rng.uniform(-2e-3, 2e-3)
        made.append(_position(number, start + timedelta(minutes=20 * number), lon, lat))
    return made


def _position(number: int, at: datetime, lon_deg: float | None, lat_deg: float | None) -> dict[str, Any]:
    return {
        "collar_id": COLLARS[number % 2], "timestamp": at.isoformat(), "lat": lat_deg, "lon": lon_deg,
        "source": "collar", "battery_level": f"{90 - number % 50}%",
    }  # fmt: skip


class Uploader(threading.Thread):
    """Brings positions to the station until each was acknowledged, some of them twice; a dead station is waited for."""

    def __init__(self, url: str, auth: httpx.Auth, wanted: list[dict[str, Any]]) -> None:
        super().__init__(daemon=True)
        self._url = f"{url}/api/v1/tracking/bulk_upload/"
        self._auth = auth
        self._chunks = [wanted[start : start + CHUNK] for start in range(0, len(wanted), CHUNK)]
        self.is_done = threading.Event()
        self.refused: list[str] = []

    def run(self) -> None:
        """Bring all of it."""
        rng = random.Random(5)
        for place, chunk in enumerate(self._chunks):
            again = self._chunks[rng.randrange(place + 1)][:5]
            while True:
                try:
                    body = {"tracking_points": [*chunk, *again]}
                    answer = httpx.post(self._url, json=body, timeout=10, auth=self._auth)
                except httpx.TransportError:
                    time.sleep(0.05)
                    continue
                if answer.status_code == 200:
                    self.refused += [str(item) for item in answer.json().get("errors", [])]
                    break
                time.sleep(0.05)
            time.sleep(0.04)
        self.is_done.set()


@pytest.mark.timeout(1800 if IS_NIGHTLY else 280)
def test_every_fix_is_in_the_cloud_once_whoever_is_killed_and_whatever_is_lost(homes: TwoHomes) -> None:
    rng = random.Random(23)
    wanted = positions(600 * MISHAPS // 4)
    with httpx.Client(base_url=f"{homes.station.url}/api/v1", auth=homes.station.auth) as api:
        animal = api.post("/animals/", json={"name": "Alpha", "species": "elephant"}).raise_for_status().json()
        deployment = {"animal": animal["id"], "collar_id": COLLARS[0], "started_at": "2000-01-01T00:00:00Z"}
        api.post("/deployments/", json=deployment).raise_for_status()
    uploader = Uploader(homes.station.url, homes.station.auth, wanted)
    uploader.start()
    mishaps = [homes.cloud.kill, homes.station.kill, lambda: homes.proxy.drop_answers(2), homes.cloud.cluster.kill]
    for number in range(MISHAPS):
        time.sleep(rng.uniform(0.2, 0.8))
        mishap = mishaps[number % len(mishaps)]
        mishap()
        if mishap is mishaps[2]:
            homes.proxy.cut_requests(1)
        elif mishap is homes.station.kill or number % len(mishaps) == 1:
            homes.station.start()
            homes.station.wait_ready()
        elif number % len(mishaps) == 0:
            homes.cloud.start()
        else:
            time.sleep(rng.uniform(0, 0.5))
            homes.cloud.cluster.start()
    assert uploader.is_done.wait(120), homes.station.tail()
    assert uploader.refused == []
    until(lambda: homes.call("sync", "--once").returncode == 0, "a session without a mishap", 60)  # some are left over
    assert homes.proxy.dropped > 0, "no answer was dropped after its commit"
    found = homes.facts("verify", "--against", "cloud")
    assert found["fixes"] == len(wanted)
    assert (found["differences"], found["only_in_cloud"], found["waiting"]) == (0, 0, 0), found
    homes.station.stop()
    ((rows, ids),) = homes.cloud.rows("SELECT count(*), count(DISTINCT (collar_pk, raw_ms, lon_e7, lat_e7)) FROM fixes")
    assert rows == ids == len(wanted)
    assert homes.cloud.rows("SELECT count(*) FROM quarantine") == [(0,)]
    in_cloud = homes.cloud.rows(
        "SELECT replace(f.id::text, '-', ''), a.name, f.flags, f.recorded_ms FROM fixes f"
        " LEFT JOIN animals a ON a.pk = f.animal_pk"
    )
    database = connect(homes.station.data_dir / "station.db", homes.station.key, is_readonly=True)
    at_station = database.execute(
        "SELECT lower(hex(f.id)), a.name, f.flags, f.recorded_ms FROM fixes f LEFT JOIN animals a ON a.pk = f.animal_pk"
    ).fetchall()
    database.close()
    assert sorted(map(tuple, at_station), key=str) == sorted(in_cloud, key=str)


def test_an_animal_entered_in_the_cloud_comes_down_and_is_worn_by_the_stations_collar(homes: TwoHomes) -> None:
    with httpx.Client(base_url=f"{homes.cloud.url}/api/v1", auth=homes.cloud.auth) as cloud:
        body = {"name": "Beta", "species": "elephant", "collar_id": COLLARS[1]}
        animal = cloud.post("/animals/", json=body).raise_for_status().json()
    homes.run("sync", "--once")
    with httpx.Client(base_url=f"{homes.station.url}/api/v1", auth=homes.station.auth) as station:
        came = station.get(f"/animals/{animal['id']}/").raise_for_status().json()
        assert (came["name"], came["collar_id"]) == ("Beta", COLLARS[1])
        station.patch(f"/animals/{animal['id']}/", json={"notes": "a torn left ear"}).raise_for_status()
    homes.run("sync", "--once")
    with httpx.Client(base_url=f"{homes.cloud.url}/api/v1", auth=homes.cloud.auth) as cloud:
        assert cloud.get(f"/animals/{animal['id']}/").json()["notes"] == "a torn left ear"
        cloud.delete(f"/animals/{animal['id']}/").raise_for_status()
    homes.run("sync", "--once")
    gone = httpx.get(f"{homes.station.url}/api/v1/animals/{animal['id']}/", auth=homes.station.auth)
    assert gone.status_code == 404
