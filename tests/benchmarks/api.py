"""The API of both homes as a client sees it: uploads, lists, live views; and the cloud's uploads beside raw COPY.

`python -m tests.benchmarks.api`, a part of `make bench`. Each home is a process of its own, as it ships: the station
encrypted, with `synchronous=FULL` and its models running behind; the cloud on a durable PostgreSQL, one worker. One
client asks, one request after the other over one connection, and waits for each answer.

Beside raw COPY stand the whole request and the writer alone, which is the Store's method called in this process. Each
has databases of its own on one server, with the same tables and indexes, and what is in them afterwards is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import msgspec
import psycopg
import typer

from cloud.accounts.secret import make_secret
from cloud.demo.cluster import PrivateCluster
from cloud.store.database import Database
from cloud.store.migrate import migrate
from cloud.store.store import PostgresStore
from shared.api.brief import KEPT_S
from shared.domain import NewFix
from shared.privacy import OPERATOR, view_for
from tests.access import operator_of_cloud
from tests.benchmarks import machine, tables
from tests.benchmarks.figures import quantile
from tests.benchmarks.herd import SPECIES, START
from tests.benchmarks.reconcile import by_copy, stored_in
from tests.benchmarks.station import station
from tests.benchmarks.tables import Table

ROOT: Final = Path(__file__).parents[2]
VIEW: Final = view_for(OPERATOR)
README: Final = Path(__file__).with_name("README.md")
MARKS: Final = (
    "<!-- tables: written by `python -m tests.benchmarks.api --write` -->",
    "<!-- end of tables of the API -->",
)
AREA: Final = {"type": "Polygon", "coordinates": [[[37.0, -2.0], [37.1, -2.0], [37.1, -2.1], [37.0, -2.0]]]}


class Effort(msgspec.Struct, frozen=True):
    """How much is measured."""

    animals: int
    fixes: int
    times: int
    colds: int
    #: of the writer alone and of COPY, in turn
    rounds: int


FULL: Final = Effort(animals=500, fixes=20_000, times=30, colds=3, rounds=3)
QUICK: Final = Effort(animals=10, fixes=2_000, times=3, colds=1, rounds=1)
BATCH: Final = 1_000


class Home(msgspec.Struct, frozen=True):
    """What was measured of one home; ``lists`` and ``live`` hold milliseconds."""

    bulk_per_s: float
    hundreds_per_s: float
    lists: dict[str, list[float]]
    live: dict[str, list[float]]


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Few of all: shows that it runs.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the tables into the README.")] = False,
    readme: Annotated[Path, typer.Option(help="Where --write puts them.")] = README,
) -> None:
    """Measure the API of both homes and print the tables."""
    effort = QUICK if quick else FULL
    of_machine = machine.facts(ROOT, 0.1 if quick else 1.0)
    with tempfile.TemporaryDirectory() as folder, station(Path(folder)) as running:
        at_station = _measured(running.api, effort)
    with _cloud() as (client, server):
        in_cloud = _measured(client, effort)
        beside = server.beside_copy(effort)
        settings = server.settings()
    console = tables.console()
    made = [
        Table(
            "Uploads through the API",
            ("what", "station", "cloud"),
            [
                ("1,000 fixes a request, fixes/s", f"{at_station.bulk_per_s:,.0f}", f"{in_cloud.bulk_per_s:,.0f}"),
                ("the writer alone, 1,000 a call, fixes/s", "", f"{statistics.median(beside.writer_per_s):,.0f}"),
                ("raw COPY, 1,000 a commit, fixes/s", "", f"{statistics.median(beside.copy_per_s):,.0f}"),
                ("ratio of the whole request to COPY", "", f"{in_cloud.bulk_per_s / beside.copy:.2f}"),
                ("ratio of the writer to COPY", "", f"{statistics.median(beside.ratios):.2f}"),
                ("the same, each round", "", " ".join(f"{ratio:.2f}" for ratio in beside.ratios)),
                (
                    "requests of 100 fixes, a second",
                    f"{at_station.hundreds_per_s:.1f}",
                    f"{in_cloud.hundreds_per_s:.1f}",
                ),
            ],
        ),
        Table(
            f"Answers of the API with {effort.animals} animals and {effort.fixes:,} fixes, ms (median, p95)",
            ("path", "station", "cloud"),
            [(name, _figures(at_station.lists[name]), _figures(in_cloud.lists[name])) for name in at_station.lists]
            + [(name, _figures(at_station.live[name]), _figures(in_cloud.live[name])) for name in at_station.live],
        ),
        Table("PostgreSQL, the API", ("what", "value"), settings),
        Table("Machine, the API", ("what", "value"), of_machine),
    ]
    for table in made:
        console.print(table.on_terminal())
    if write:
        tables.write(made, readme, MARKS)
        console.print(f"written: {readme}")


class BesideCopy(msgspec.Struct, frozen=True):
    """Fixes a second of each round: the Store's method in this process, and raw COPY."""

    writer_per_s: list[float]
    copy_per_s: list[float]

    @property
    def copy(self) -> float:
        """What COPY makes, of its rounds the middle one."""
        return statistics.median(self.copy_per_s)

    @property
    def ratios(self) -> list[float]:
        """The part of COPY's speed that is left to the writer, round by round."""
        return [writer / copy for writer, copy in zip(self.writer_per_s, self.copy_per_s, strict=True)]


class Server:
    """The PostgreSQL beneath a running cloud, with databases beside the cloud's own to compare it with."""

    def __init__(self, cluster: PrivateCluster, client: httpx.Client) -> None:
        self._cluster = cluster
        self._client = client

    def beside_copy(self, effort: Effort) -> BesideCopy:
        """Write the fixes of the cloud into empty databases: by the Store's method and by raw COPY, in turn."""
        cloud = self._cluster.url("cloud")
        count = self._client.get("/api/v1/tracking/", params={"page_size": 1}).json()["count"]
        sent = effort.fixes + effort.times * 100
        if not count == stored_in(cloud) == sent:
            raise RuntimeError(f"of {sent} fixes the cloud counts {count} and has {stored_in(cloud)}")
        beside = BesideCopy([], [])
        for number in range(effort.rounds):
            beside.writer_per_s.append(effort.fixes / asyncio.run(_by_writer(self._empty(f"writer_{number}"), effort)))
            beside.copy_per_s.append(count / by_copy(cloud, self._empty(f"raw_{number}"), BATCH))
        return beside

    def settings(self) -> list[tuple[str, str]]:
        """Return what decides how fast rows are written: how durable a commit is, and the indexes."""
        names = ("server_version", "synchronous_commit", "fsync", "full_page_writes", "wal_level", "shared_buffers")
        with psycopg.connect(self._cluster.url("cloud")) as connection:
            told = [(name, connection.execute(f"SHOW {name}".encode()).fetchall()[0][0]) for name in names]
            if dict(told)["synchronous_commit"] != "on" or dict(told)["fsync"] != "on":
                raise RuntimeError(f"not durable: {told}")
            indexes = connection.execute(
                "SELECT regexp_replace(indexdef, '.* USING ', '') FROM pg_indexes WHERE tablename = 'fixes' ORDER BY 1"
            ).fetchall()
        return [*told, ("indexes of fixes, of both", "; ".join(text for (text,) in indexes))]

    def _empty(self, name: str) -> str:
        self._cluster.create_database(name)
        migrate(url := self._cluster.url(name))
        return url


async def _by_writer(url: str, effort: Effort) -> float:
    """Return the seconds that the Store takes for the fixes of a herd whose animals and collars it knows."""
    async with Database.open(url) as database:
        store = PostgresStore(database, now=lambda: datetime.now(UTC))
        for n in range(effort.animals):
            animal = await store.create_animal(VIEW, {"name": f"A{n:03}", "species": SPECIES})
            worn = {"animal_id": animal.id, "collar_id": f"B{n:03}", "started_at": START - timedelta(days=1)}
            await store.create_deployment(VIEW, worn)
        took_s = 0.0
        for first in range(0, effort.fixes, BATCH):
            fixes = [_new_fix(point) for point in _points(effort.animals, first, BATCH)]
            began = time.perf_counter()
            added = await store.add_fixes(VIEW, fixes)
            took_s += time.perf_counter() - began
            if any(each.outcome != "new" for each in added):
                raise RuntimeError("a fix was there already")
    if (stored := stored_in(url)) != effort.fixes:
        raise RuntimeError(f"of {effort.fixes} fixes the writer stored {stored}")
    return took_s


def _new_fix(point: dict[str, Any]) -> NewFix:
    return NewFix(
        device=point["collar_id"], recorded_at=datetime.fromisoformat(point["timestamp"]), lon_deg=point["lon"],
        lat_deg=point["lat"], received_at=datetime.now(UTC), speed_mps=point["speed_kmh"] / 3.6, source="gps",
        link="api",
    )  # fmt: skip


@contextlib.contextmanager
def _cloud() -> Iterator[tuple[httpx.Client, Server]]:
    """A running cloud, and the server beneath it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        key_file = Path(folder) / "cloud.key"
        make_secret(key_file)
        with PrivateCluster(Path(folder) / "postgres") as cluster:
            cluster.create_database("cloud")
            migrate(cluster.url("cloud"))
            environment = {
                **os.environ, "DATABASE_URL": cluster.url("cloud"), "OUTPOST_ACCOUNTS_KEY_FILE": str(key_file),
            }  # fmt: skip
            program = Path(sys.executable).with_name("outpost-cloud")
            command = [str(program), "run", "--port", "0"]
            with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
                assert process.stderr is not None
                url = next(msgspec.json.decode(line)["url"] for line in process.stderr if "cloud.ready" in line)
                try:
                    with httpx.Client(base_url=url, timeout=120, auth=operator_of_cloud(key_file)) as client:
                        yield client, Server(cluster, client)
                finally:
                    process.send_signal(signal.SIGTERM)
                    process.wait(20)


def _measured(client: httpx.Client, effort: Effort) -> Home:
    animals = _enter(client, effort.animals)
    took_s = sum(_upload(client, _points(effort.animals, first, BATCH)) for first in range(0, effort.fixes, BATCH))
    bulk_per_s = effort.fixes / took_s
    took_s = sum(_upload(client, _points(effort.animals, effort.fixes + n * 100, 100)) for n in range(effort.times))
    hundreds_per_s = effort.times / took_s
    lists = {
        name: _asked(client, f"/api/v1/{name}", effort.times)
        for name in (
            "animals/", "tracking/", f"tracking/?animal={animals[0]}", "tracking/?page_size=500",
            "tracking/?fields=id,lat,lon&page_size=500", "tracking/observations/", "corridors/", "conflict-zones/",
            "alerts/", "rangers/rangers/", "rangers/tracking/", "rangers/live_status/",
        )
    }  # fmt: skip
    lists["tracking/?animal=ID"] = lists.pop(f"tracking/?animal={animals[0]}")
    cold: list[float] = []
    for _ in range(effort.colds):
        time.sleep(KEPT_S + 0.5)  # until what is kept is too old
        cold += _asked(client, "/api/v1/animals/live_status/", 1)
    return Home(
        bulk_per_s=bulk_per_s,
        hundreds_per_s=hundreds_per_s,
        lists=lists,
        live={
            "animals/live_status/, cold": cold,
            "animals/live_status/, cached": _asked(client, "/api/v1/animals/live_status/", effort.times),
        },
    )


def _enter(client: httpx.Client, animals: int) -> list[str]:
    """Enter animals with their collars, and some of everything else that is listed."""
    ids = []
    for n in range(animals):
        animal = _made(client, "animals/", name=f"A{n:03}", species=SPECIES)
        worn = (START - timedelta(days=1)).isoformat()
        _made(client, "deployments/", animal=animal, collar_id=f"B{n:03}", started_at=worn)
        ids.append(animal)
    here = {"lat": -2.0, "lon": 37.0}
    for n in range(50):
        _made(client, "tracking/observations/", observation_type="sighting", timestamp=START.isoformat(), **here)
        _made(client, "corridors/", name=f"C{n}", start_point=here, end_point={"lat": -2.1, "lon": 37.1})
        _made(client, "conflict-zones/", name=f"Z{n}", zone_type="road", geometry=AREA)
        _made(client, "alerts/", alert_type="low_battery", title=f"T{n}")
        ranger = _made(client, "rangers/rangers/", name=f"R{n}", badge_number=str(n))
        at = (START + timedelta(minutes=n)).isoformat()
        _made(client, "rangers/tracking/", ranger=ranger, timestamp=at, **here)
    return ids


def _made(client: httpx.Client, path: str, **body: Any) -> str:
    answer = client.post(f"/api/v1/{path}", json=body)
    if answer.status_code != httpx.codes.CREATED:
        raise RuntimeError(f"{path}: {answer.status_code} {answer.text}")
    return str(answer.json()["id"])


def _points(animals: int, first: int, count: int) -> list[dict[str, Any]]:
    """Return fixes of a herd as the API takes them, from the ``first``-th on: one of each animal in turn."""
    points = []
    for number in range(first, first + count):
        turn, collar = divmod(number, animals)
        at = START + turn * timedelta(minutes=15)
        points.append(
            {
                "collar_id": f"B{collar:03}",
                "timestamp": at.isoformat(),
                "lat": round(-2.0 - collar * 1e-3 - turn * 1e-4, 7),
                "lon": round(37.0 + collar * 1e-3, 7),
                "speed_kmh": 1.5,
            }
        )
    return points


def _upload(client: httpx.Client, points: list[dict[str, Any]]) -> float:
    """Upload and return the seconds until the answer has come."""
    body = msgspec.json.encode({"tracking_points": points})
    began = time.perf_counter()
    answer = client.post(
        "/api/v1/tracking/bulk_upload/", content=body, headers={"Content-Type": "application/json"}
    ).raise_for_status()
    took_s = time.perf_counter() - began
    if (created := answer.json()["created"]) != len(points):
        raise RuntimeError(f"an upload of {len(points)} made {created}")
    return took_s


def _asked(client: httpx.Client, path: str, times: int) -> list[float]:
    took_ms = []
    for _ in range(times):
        began = time.perf_counter()
        answer = client.get(path).raise_for_status()
        took_ms.append((time.perf_counter() - began) * 1e3)
        rows = answer.json()
        if not (rows if isinstance(rows, list) else rows["results"]):
            raise RuntimeError(f"{path} found nothing: the figure would be of an empty list")
    return took_ms


def _figures(took_ms: list[float]) -> str:
    return f"{statistics.median(took_ms):,.1f}, {quantile(took_ms, 0.95):,.1f}"


if __name__ == "__main__":
    typer.run(main)
