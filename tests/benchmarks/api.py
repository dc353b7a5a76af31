"""The API of both homes as a client sees it: uploads, lists, live views; and the cloud's uploads beside raw COPY.

`python -m tests.benchmarks.api`, a part of `make bench`. Each home is a process of its own, as it ships: the station
encrypted, with `synchronous=FULL` and its models running behind; the cloud on a durable PostgreSQL, one worker. One
client asks, one request after the other over one connection, and waits for each answer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import msgspec
import typer

from cloud.accounts.secret import make_secret
from cloud.demo.cluster import PrivateCluster
from cloud.store.migrate import migrate
from shared.api.brief import KEPT_S
from tests.access import operator_of_cloud
from tests.benchmarks import machine, tables
from tests.benchmarks.figures import quantile
from tests.benchmarks.herd import SPECIES, START
from tests.benchmarks.reconcile import by_copy
from tests.benchmarks.station import station
from tests.benchmarks.tables import Table

ROOT: Final = Path(__file__).parents[2]
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


FULL: Final = Effort(animals=500, fixes=20_000, times=30, colds=3)
QUICK: Final = Effort(animals=10, fixes=2_000, times=3, colds=1)


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
    with _cloud() as (client, copied):
        in_cloud = _measured(client, effort)
        copy_per_s = copied()
    console = tables.console()
    made = [
        Table(
            "Uploads through the API",
            ("what", "station", "cloud"),
            [
                ("1,000 fixes a request, fixes/s", f"{at_station.bulk_per_s:,.0f}", f"{in_cloud.bulk_per_s:,.0f}"),
                ("the same rows by COPY, 1,000 a commit, fixes/s", "", f"{copy_per_s:,.0f}"),
                ("ratio to COPY", "", f"{in_cloud.bulk_per_s / copy_per_s:.2f}"),
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
        Table("Machine, the API", ("what", "value"), of_machine),
    ]
    for table in made:
        console.print(table.on_terminal())
    if write:
        tables.write(made, readme, MARKS)
        console.print(f"written: {readme}")


@contextlib.contextmanager
def _cloud() -> Iterator[tuple[httpx.Client, Callable[[], float]]]:
    """A running cloud, and what copies all of its fixes into an empty database and returns fixes a second."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        key_file = Path(folder) / "cloud.key"
        make_secret(key_file)
        with PrivateCluster(Path(folder) / "postgres") as cluster:
            for name in ("cloud", "raw"):
                cluster.create_database(name)
                migrate(cluster.url(name))
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

                        def copied() -> float:
                            count = client.get("/api/v1/tracking/", params={"page_size": 1}).json()["count"]
                            return float(count / by_copy(cluster.url("cloud"), cluster.url("raw"), 1_000))

                        yield client, copied
                finally:
                    process.send_signal(signal.SIGTERM)
                    process.wait(20)


def _measured(client: httpx.Client, effort: Effort) -> Home:
    animals = _enter(client, effort.animals)
    began = time.perf_counter()
    for first in range(0, effort.fixes, 1_000):
        _upload(client, effort.animals, first, 1_000)
    bulk_per_s = effort.fixes / (time.perf_counter() - began)
    began = time.perf_counter()
    for n in range(effort.times):
        _upload(client, effort.animals, effort.fixes + n * 100, 100)
    hundreds_per_s = effort.times / (time.perf_counter() - began)
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


def _upload(client: httpx.Client, animals: int, first: int, count: int) -> None:
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
    answer = client.post("/api/v1/tracking/bulk_upload/", json={"tracking_points": points}).raise_for_status().json()
    if answer["created"] != count:
        raise RuntimeError(f"an upload of {count} made {answer['created']}")


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
