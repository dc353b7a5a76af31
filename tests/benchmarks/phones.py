"""Phones: bulk uploads into the cloud, pulls and pushes at both homes, over HTTP.

`python -m tests.benchmarks.phones`, a part of `make bench`. Each server is a process of its own, the PostgreSQL flushes
to disk as it ships, and what was acknowledged is counted in the database before a figure is given.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import multiprocessing
import statistics
import tempfile
import threading
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import psycopg
import typer
import uvicorn

from cloud.api.app import create_app as create_cloud
from cloud.demo.cluster import PrivateCluster
from cloud.store.database import Database
from cloud.store.migrate import migrate
from cloud.store.store import PostgresStore
from edge.api.app import create_app as create_station
from edge.api.events import EventHub
from edge.store.store import SpatialiteStore
from shared.sync.records import to_ms
from tests.access import accounts_over, rosters_over
from tests.benchmarks import machine, tables
from tests.benchmarks.tables import Table
from tests.fakes import START, FakeClock, FakeHealth
from tests.services import free_port

ROOT: Final = Path(__file__).parents[2]
README: Final = Path(__file__).with_name("README.md")
MARKS: Final = (
    "<!-- tables: written by `python -m tests.benchmarks.phones --write` -->",
    "<!-- end of tables of phones -->",
)
FIXES_A_REQUEST: Final = 100
#: A base station's log, and one collar's.
COLLARS: Final = (50, 1)
CONNECTIONS: Final = 4
NOW_MS: Final = to_ms(START)


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Short rounds: shows that it runs.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the tables into the README.")] = False,
) -> None:
    """Measure uploads, pulls and pushes and print the tables."""
    console = tables.console()
    requests, rows, rounds = (20, 1_000, 3) if quick else (600, 10_000, 15)
    with tempfile.TemporaryDirectory(prefix="outpost-bench-") as folder:
        Path(folder).chmod(0o755)
        with PrivateCluster(Path(folder) / "cluster") as cluster:
            uploads = [_uploads(cluster, collars, n, requests) for collars in COLLARS for n in (1, 2)]
            settings = [*_settings(cluster.url()), *_indexes(cluster.url("up_50_1"))]
            synced = [
                _synced("cloud", _fresh(cluster, "sync"), rows, rounds),
                _synced("station", str(Path(folder) / "station.db"), rows, rounds),
            ]
    made = [
        Table(
            "Bulk uploads of 100 fixes into the cloud",
            ("collars a request", "workers", "requests", "fixes/s", "p50", "p95"),
            uploads,
        ),
        Table(
            f"A phone at each home, {rows:,} rows",
            ("home", "pull p50", "bytes", "deflated", "push of 1,000 rows p50"),
            synced,
        ),
        Table("Machine, phones", ("what", "value"), [*machine.facts(ROOT, 0.1 if quick else 1.0), *settings]),
    ]
    for table in made:
        console.print(table.on_terminal())
    if write:
        tables.write(made, README, MARKS)
        console.print(f"written: {README}")


def _settings(url: str) -> list[tuple[str, str]]:
    with psycopg.connect(url) as connection:
        names = ("synchronous_commit", "fsync", "full_page_writes", "shared_buffers", "server_version")
        return [(f"PostgreSQL {name}", str(connection.execute(f"SHOW {name}").fetchone()[0])) for name in names]  # type: ignore[index]


def _indexes(url: str) -> list[tuple[str, str]]:
    """Return the indexes of the tables that an upload writes, as the database that took the last one has them."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT tablename, string_agg(substring(indexdef FROM 'UNIQUE|USING.*'), '; ' ORDER BY indexname)"
            " FROM pg_indexes WHERE tablename IN ('fixes', 'phone_ids') GROUP BY tablename ORDER BY tablename"
        ).fetchall()
    return [(f"indexes of {table}", said) for table, said in found]


def _fresh(cluster: PrivateCluster, name: str) -> str:
    cluster.create_database(name)
    url = cluster.url(name)
    migrate(url)
    return url


# --- servers


def _serve(home: str, where: str, port: int) -> None:
    async def run() -> None:
        clock = FakeClock()
        if home == "station":
            station = SpatialiteStore(Path(where), bytes(32), now=clock.now)
            app = create_station(
                station, health=FakeHealth(), events=EventHub(), clock=clock, accounts=accounts_over(station, clock)
            )
            await _run(app, port)
            return
        async with Database.open(where, pool_min=4, pool_max=8) as database:
            store = PostgresStore(database, now=clock.now)
            accounts = accounts_over(store, clock)
            await _run(create_cloud(store, clock=clock, accounts=accounts, rosters=rosters_over(store, accounts)), port)

    asyncio.run(run())


async def _run(app: Any, port: int) -> None:
    config = uvicorn.Config(app, host="127.0.0.1", port=port, http="httptools", log_config=None, access_log=False)
    await uvicorn.Server(config).serve()


@contextmanager
def _serving(home: str, where: str) -> Iterator[int]:
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(home, where, port), daemon=True)
    process.start()
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                _Client(port).ask("GET", "/health/live")
                break
            except OSError:
                assert process.is_alive(), "the server fell"
                assert time.monotonic() < deadline, "the server does not begin"
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.join()


class _Client:
    """One kept connection of the operator."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, method: str, path: str, body: bytes | None = None, token: str = "") -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()


# --- uploads


def _body(n: int, collars: int = COLLARS[0]) -> bytes:
    """Return an upload of walks: each collar goes on where it was, a fix a minute."""
    each = FIXES_A_REQUEST // collars
    fixes = [
        {
            "local_id": str(uuid.UUID(int=n * FIXES_A_REQUEST + k)), "collar_id": f"COL{k % collars:03d}",
            "lat": round(-2 - (k % collars) * 1e-2, 6), "lon": round(34 + abs(at % 200 - 100) * 1e-4, 6),
            "altitude": 1_500.0, "speed_kmh": 3.2, "heading": 120.0,
            "timestamp": NOW_MS - 90 * 86_400_000 + at * 60_000,
        }
        for k in range(FIXES_A_REQUEST)
        for at in [n * each + k // collars]
    ]  # fmt: skip
    return json.dumps({"device_id": f"device-{n % CONNECTIONS}", "tracking": fixes}).encode()


def _uploads(cluster: PrivateCluster, collars: int, workers: int, requests: int) -> tuple[str, ...]:
    url = _fresh(cluster, f"up_{collars}_{workers}")
    bodies = [_body(n, collars) for n in range(requests)]
    token = _token_of_cloud(url)
    with ExitStack() as stack:
        ports = [stack.enter_context(_serving("cloud", url)) for _ in range(workers)]
        _Client(ports[0]).ask(
            "POST", "/api/v1/sync/upload/", _body(requests, collars), token
        )  # partitions, prepared statements
        waiting, took = iter(bodies), []
        lock = threading.Lock()

        def send(port: int) -> None:
            client = _Client(port)
            while True:
                with lock:
                    body = next(waiting, None)
                if body is None:
                    return
                begun = time.perf_counter()
                status, answer = client.ask("POST", "/api/v1/sync/upload/", body, token)
                took.append(time.perf_counter() - begun)
                assert status == 200, answer
                assert json.loads(answer)["summary"]["synced"] == FIXES_A_REQUEST, answer

        threads = [threading.Thread(target=send, args=(ports[n % workers],)) for n in range(CONNECTIONS)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        whole_s = time.perf_counter() - begun
    n = (requests + 1) * FIXES_A_REQUEST
    with psycopg.connect(url) as connection:
        for table in ("fixes", "phone_ids"):
            (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[misc]
            assert count == n, (table, count, n)
    ordered = sorted(took)
    return (
        str(collars), str(workers), f"{requests:,}", f"{requests * FIXES_A_REQUEST / whole_s:,.0f}",
        f"{1000 * statistics.median(ordered):.1f} ms", f"{1000 * ordered[int(len(ordered) * 0.95)]:.1f} ms",
    )  # fmt: skip


def _token_of_cloud(url: str) -> str:
    async def make() -> str:
        clock = FakeClock()
        async with Database.open(url, pool_min=1, pool_max=1) as database:
            return accounts_over(PostgresStore(database, now=clock.now), clock).machine_token()

    return asyncio.run(make())


# --- pulls and pushes


def _synced(home: str, where: str, rows: int, rounds: int) -> tuple[str, ...]:
    token = _token_of_cloud(where) if home == "cloud" else accounts_over(None, FakeClock()).machine_token()
    with _serving(home, where) as port:
        client = _Client(port)
        for n in range(rows // FIXES_A_REQUEST):
            status, answer = client.ask("POST", "/api/v1/sync/upload/", _body(n), token)
            assert status == 200, answer
        pulled, size, deflated = [], 0, 0
        found: dict[str, Any] = {}
        for _ in range(rounds):
            begun = time.perf_counter()
            status, answer = client.ask("GET", f"/api/v1/sync/pull?limit={rows}&days=3000", token=token)
            pulled.append(time.perf_counter() - begun)
            found = json.loads(answer)
            assert (status, len(found["changes"]["tracking"]["updated"])) == (200, rows), answer[:300]
            size, deflated = len(answer), len(zlib.compress(answer, 6))
        pushed = []
        for n in range(rounds):
            body = _pushed(n)
            begun = time.perf_counter()
            status, answer = client.ask(
                "POST", f"/api/v1/sync/push?last_pulled_at={found['timestamp']}&device_id=d1", body, token
            )
            pushed.append(time.perf_counter() - begun)
            assert (status, json.loads(answer)["messages"]) == (200, []), answer[:300]
    return home, _ms(pulled), f"{size:,}", f"{deflated:,}", _ms(pushed)


def _ms(took_s: Sequence[float]) -> str:
    return f"{1000 * statistics.median(took_s):,.0f} ms"


def _pushed(n: int) -> bytes:
    tracking = [
        {
            "id": f"t{n}x{k}", "animal_id": "", "collar_id": f"P{k % COLLARS[0]}", "lat": -2.5 - k * 1e-4, "lon": 37.5,
            "timestamp": NOW_MS - 3_600_000 + n * 60_000 + k, "source": "gps", "_status": "created", "_changed": "",
        }
        for k in range(500)
    ]  # fmt: skip
    observations = [
        {
            "id": f"o{n}x{k}", "animal_id": "", "observation_type": "sighting", "description": f"seen {n} {k}",
            "lat": None, "lon": None, "timestamp": NOW_MS, "_status": "created", "_changed": "",
        }
        for k in range(500)
    ]  # fmt: skip
    empty: dict[str, Any] = {"updated": [], "deleted": []}
    changes = {"tracking": {"created": tracking, **empty}, "observations": {"created": observations, **empty}}
    return json.dumps(changes).encode()


if __name__ == "__main__":
    typer.run(main)
