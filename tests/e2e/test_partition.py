"""Two stations and a cloud, each at an address of its own: the network parts and joins, and whoever is killed."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from edge.store.driver import connect
from tests.e2e.test_two_homes import COLLARS, positions
from tests.faults.cloud_process import CloudProcess
from tests.faults.proxy import FaultProxy
from tests.faults.station_process import StationProcess, until

pytestmark = [pytest.mark.sync, pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]

IS_NIGHTLY: Final = os.environ.get("OUTPOST_NIGHTLY") == "1"
KILLS: Final = 50 if IS_NIGHTLY else 10
CHUNK: Final = 60
#: More than the longest pause after a session that failed.
WAIT_S: Final = 90.0
_ROW: Final = (
    "SELECT {id}, raw_ms, lon_e7, lat_e7, fixes.battery_pct, collars.id"
    " FROM fixes JOIN collars ON collars.pk = fixes.collar_pk"
)


class Station:
    """A station's program at an address of its own, and its way to the cloud."""

    def __init__(self, folder: Path, name: str, host: str, cloud: CloudProcess) -> None:
        self.name = name
        self.proxy = FaultProxy(cloud.port, cloud.host)
        self.process = StationProcess(folder / name, host=host, identity=name)
        self._config = folder / name / "station.toml"
        with self._config.open("a") as config:
            config.write("[cloud]\ninterval_s = 1\nbatch_fixes = 40\n")

    def start(self, cloud: CloudProcess) -> None:
        """Enrol and run."""
        code = cloud.command("station", "add", self.name)["code"]
        done = self.call("enrol", self.proxy.url, code)
        assert done.returncode == 0, done.stderr
        self.process.start()
        self.process.wait_ready(WAIT_S)

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the station's program, whatever comes of it."""
        program = Path(sys.executable).parent / "outpost-station"
        return subprocess.run(
            [program, *words, "--config", str(self._config)], capture_output=True, text=True, check=False, timeout=120
        )

    def api(self) -> httpx.Client:
        """Return a client of its operator."""
        return httpx.Client(base_url=f"{self.process.url}/api/v1", auth=self.process.auth, timeout=30)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return its fixes."""
        database = connect(self.process.data_dir / "station.db", self.process.key, is_readonly=True)
        try:
            return list(map(tuple, database.execute(_ROW.format(id="lower(hex(fixes.id))")).fetchall()))
        finally:
            database.close()

    def close(self) -> None:
        """End all of it."""
        self.process.close()
        self.proxy.close()


class Field:
    """Two stations and a cloud."""

    def __init__(self, folder: Path) -> None:
        self.cloud = CloudProcess(folder / "cloud", host="127.0.0.4")
        self.north = Station(folder, "north", "127.0.0.2", self.cloud)
        self.south = Station(folder, "south", "127.0.0.3", self.cloud)
        self.stations = (self.north, self.south)

    def start(self) -> None:
        """Start everything."""
        self.cloud.create()
        self.cloud.start(WAIT_S)
        for station in self.stations:
            station.start(self.cloud)

    def api(self) -> httpx.Client:
        """Return a client of the cloud's operator."""
        return httpx.Client(base_url=f"{self.cloud.url}/api/v1", auth=self.cloud.auth, timeout=30)

    def counted(self, *collars: str) -> int:
        """Return how many fixes of some collars the cloud has."""
        names = ", ".join(f"'{collar}'" for collar in collars)
        found = self.cloud.rows(
            f"SELECT count(*) FROM fixes JOIN collars ON pk = collar_pk WHERE collars.id IN ({names})"
        )
        return int(found[0][0])

    def close(self) -> None:
        """End everything."""
        for station in self.stations:
            station.close()
        self.cloud.close()


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """Give all three, running; each test has collars and animals of its own."""
    field = Field(tmp_path_factory.mktemp("field"))
    try:
        field.start()
        yield field
    finally:
        field.close()


def test_what_both_sides_of_a_partition_said_of_an_animal_is_listed_resolved_and_shown_everywhere(field: Field) -> None:
    with field.api() as cloud, field.north.api() as north, field.south.api() as south:
        begun = {"name": "Alpha", "species": "elephant", "status": "active"}
        animal = north.post("/animals/", json=begun).raise_for_status().json()
        path = f"/animals/{animal['id']}/"

        def shows(api: httpx.Client, **expected: Any) -> bool:
            here = api.get(path).json()
            return all(here.get(name) == value for name, value in expected.items())

        def conflicts(api: httpx.Client) -> list[dict[str, Any]]:
            listed = api.get("/conflicts/").raise_for_status().json()["results"]
            return [each for each in listed if each["row_id"] == animal["id"]]

        until(lambda: shows(south, name="Alpha"), "the animal at the other station", WAIT_S)
        for station in field.stations:
            station.proxy.part()
        fixes = [{**position, "collar_id": "P1"} for position in positions(60)]
        for api, status, more, some in (
            (north, "missing", {"notes": "a torn left ear"}, fixes[:40]),
            (south, "deceased", {"weight": 3_100.0}, fixes[20:]),  # some that both have heard
        ):
            api.patch(path, json={"status": status, **more}).raise_for_status()
            api.post("/tracking/bulk_upload/", json={"tracking_points": some}).raise_for_status()
        assert shows(cloud, status="active", notes="", weight=None) or shows(cloud, status="active", notes=None)

        field.north.proxy.join()
        until(lambda: shows(cloud, status="missing"), "what the first station said", WAIT_S)
        field.south.proxy.join()
        until(lambda: len(conflicts(cloud)) == 1, "the conflict", WAIT_S)
        (conflict,) = conflicts(cloud)
        assert (conflict["kind"], conflict["status"], conflict["needs_person"]) == ("same_column", "open", True)
        assert (conflict["server"], conflict["client"]) == ({"status": "missing"}, {"status": "deceased"})
        for api in (cloud, north, south):  # what does not contradict is together, what does is the cloud's
            merged = {"status": "missing", "notes": "a torn left ear", "weight": 3_100.0}
            until(lambda api=api, merged=merged: shows(api, **merged), "the merged animal", WAIT_S)  # type: ignore[misc] # now
        until(lambda: all(len(conflicts(api)) == 1 for api in (north, south)), "the conflict at both stations", WAIT_S)
        assert not any(conflicts(api)[0]["can_resolve"] for api in (north, south))

        decision = {"resolution": "keep_client", "note": "seen by the vet"}
        cloud.post(f"/conflicts/{conflict['id']}/resolve", json=decision).raise_for_status()
        for api in (cloud, north, south):
            until(lambda api=api: shows(api, status="deceased"), "the resolution", WAIT_S)  # type: ignore[misc] # now
            until(lambda api=api: conflicts(api)[0]["status"] == "resolved", "its word", WAIT_S)  # type: ignore[misc] # now
            (shown,) = conflicts(api)
            assert (shown["resolution"], shown["note"]) == ("keep_client", "seen by the vet")
        until(lambda: field.counted("P1") == len(fixes), "every fix", WAIT_S)


@pytest.mark.timeout(3600 if IS_NIGHTLY else 900)
def test_nothing_is_lost_or_doubled_whoever_is_killed_while_a_batch_is_on_its_way(field: Field) -> None:
    rng = random.Random(29)
    wanted = positions(KILLS * CHUNK)
    caught = 0
    for number in range(KILLS):
        victim = (field.cloud, field.north, field.south)[number % 3]
        way = (rng.choice(field.stations) if isinstance(victim, CloudProcess) else victim).proxy
        chunk = wanted[number * CHUNK : (number + 1) * CHUNK]
        way.batch_on_its_way.clear()
        for station, some in ((field.north, chunk[: CHUNK * 2 // 3]), (field.south, chunk[CHUNK // 3 :])):
            with station.api() as api:  # a third is heard by both
                api.post("/tracking/bulk_upload/", json={"tracking_points": some}).raise_for_status()
        caught += way.batch_on_its_way.wait(WAIT_S)
        if isinstance(victim, CloudProcess):
            victim.kill()
            victim.start(WAIT_S)
        else:
            victim.process.kill()
            victim.process.start()
            victim.process.wait_ready(WAIT_S)
    assert caught == KILLS
    until(lambda: field.counted(*COLLARS) == len(wanted), "every fix", WAIT_S)
    for station in field.stations:
        done = station.call("sync", "--once")
        assert done.returncode == 0, done.stderr
    in_cloud = [
        row for row in field.cloud.rows(_ROW.format(id="replace(fixes.id::text, '-', '')")) if row[-1] in COLLARS
    ]
    at_stations = {row for station in field.stations for row in station.rows() if row[-1] in COLLARS}
    print(f"{KILLS} kills with a batch on its way: {len(in_cloud)} rows, {_hashed(in_cloud)}")
    assert len(in_cloud) == len(set(in_cloud)) == len(wanted)
    assert _hashed(in_cloud) == _hashed(list(at_stations))
    assert field.cloud.rows("SELECT value FROM counters WHERE name = 'fixes'") == field.cloud.rows(
        "SELECT count(*) FROM fixes"
    )
    assert field.cloud.rows("SELECT count(*) FROM quarantine") == [(0,)]


def _hashed(rows: Sequence[tuple[Any, ...]]) -> str:
    return hashlib.sha256("\n".join(sorted(map(str, map(tuple, rows)))).encode()).hexdigest()
