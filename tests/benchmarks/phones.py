"""Phones: bulk uploads into the cloud, pulls and pushes at both homes, over HTTP.

`python -m tests.benchmarks.phones`, a part of `make bench`. Each server is a process of its own, the PostgreSQL flushes
to disk as it ships, and what was acknowledged is counted in the database before a figure is given. What uploads cost
the processor of servers and database is told too: on a machine that does other things besides, it says more than the
seconds of the clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
import uuid
import zlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import psycopg
import structlog
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
from shared.collector import settle
from shared.sync.records import to_ms
from tests.access import accounts_over, rosters_over
from tests.benchmarks import machine, tables
from tests.benchmarks.reconcile import by_copy
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
#: Phones that upload at once, each its own device's log, request after request.
PHONES: Final = 16
#: How the herd is uploaded: collars of a phone's log, and whether all phones have heard the same collars.
HERDS: Final = ((1, False), (10, False), (50, False), (50, True))
NOW_MS: Final = to_ms(START)


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Short rounds: shows that it runs.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the tables into the README.")] = False,
) -> None:
    """Measure uploads, pulls and pushes and print the tables."""
    console = tables.console()
    requests, rows, rounds = (4, 1_000, 3) if quick else (100, 10_000, 15)
    with tempfile.TemporaryDirectory(prefix="outpost-bench-") as folder:
        Path(folder).chmod(0o755)
        with PrivateCluster(Path(folder) / "cluster") as cluster:
            uploads = [row for herd in HERDS for row in _of_herd(cluster, herd, requests)]
            settings = [*_settings(cluster.url()), *_indexes(cluster.url("up_1_0_1"))]
            synced = [
                _synced("cloud", _fresh(cluster, "sync"), rows, rounds),
                _synced("station", str(Path(folder) / "station.db"), rows, rounds),
            ]
    made = [
        Table(
            "Bulk uploads of 100 fixes into the cloud",
            (
                "collars a request",
                "of each phone",
                "workers",
                "fixes",
                "fixes/s",
                "beside COPY",
                "p50",
                "p95",
                "CPU ms a request",
            ),
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
            " FROM pg_indexes WHERE tablename IN ('fixes', 'phone_fixes') GROUP BY tablename ORDER BY tablename"
        ).fetchall()
    return [(f"indexes of {table}", said) for table, said in found]


def _fresh(cluster: PrivateCluster, name: str) -> str:
    cluster.create_database(name)
    url = cluster.url(name)
    migrate(url)
    return url


# --- servers


def _serve(home: str, where: str, port: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))  # as it is run

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
            app = create_cloud(store, clock=clock, accounts=accounts, rosters=rosters_over(store, accounts))
            settle()
            await _run(app, port)

    asyncio.run(run())


async def _run(app: Any, port: int) -> None:
    config = uvicorn.Config(app, host="127.0.0.1", port=port, http="httptools", log_config=None, access_log=False)
    await uvicorn.Server(config).serve()


class _Server(NamedTuple):
    """A home in a process of its own."""

    port: int
    pid: int


@contextmanager
def _serving(home: str, where: str) -> Iterator[_Server]:
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
        assert process.pid is not None
        yield _Server(port, process.pid)
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


def _body(phone: int, n: int, collars: int = 50, *, is_shared: bool = False) -> bytes:
    """Return the ``n``-th upload of a phone: each collar goes on where it was, a fix a minute."""
    each = FIXES_A_REQUEST // collars
    herd, begun = (0, n * PHONES + phone) if is_shared else (phone, n)
    fixes = [
        {
            "local_id": str(uuid.UUID(int=(phone << 64) + n * FIXES_A_REQUEST + k)),
            "collar_id": f"COL{herd:02d}{k % collars:03d}",
            "lat": round(-2 - (k % collars) * 1e-2, 6), "lon": round(34 + abs(at % 200 - 100) * 1e-4, 6),
            "altitude": 1_500.0, "speed_kmh": 3.2, "heading": 120.0,
            "timestamp": NOW_MS - 90 * 86_400_000 + at * 60_000,
        }
        for k in range(FIXES_A_REQUEST)
        for at in [begun * each + k // collars]
    ]  # fmt: skip
    return json.dumps({"device_id": f"device-{phone}", "tracking": fixes}).encode()


def _of_herd(cluster: PrivateCluster, herd: tuple[int, bool], requests: int) -> list[tuple[str, ...]]:
    """Return what one worker makes of a herd, and two, beside COPY of the same fixes, as many a commit."""
    collars, is_shared = herd
    names = {n: f"up_{collars}_{int(is_shared)}_{n}" for n in (1, 2)}
    made = [(n, _uploads(_fresh(cluster, name), cluster, herd, n, requests)) for n, name in names.items()]
    raw = _fresh(cluster, f"raw_{collars}_{int(is_shared)}")
    stored = (requests + 1) * PHONES * FIXES_A_REQUEST
    copied_per_s = stored / by_copy(cluster.url(names[1]), raw, FIXES_A_REQUEST)
    return [
        (
            str(collars), "no, of all" if is_shared else "yes", str(n), f"{found.fixes:,}",
            f"{found.fixes / found.whole_s:,.0f}", f"{found.fixes / found.whole_s / copied_per_s:.2f}",
            _ms([found.took_s[len(found.took_s) // 2]]), _ms([found.took_s[int(len(found.took_s) * 0.95)]]),
            f"{1000 * found.cpu_s / len(found.took_s):.1f}",
        )
        for n, found in made
    ]  # fmt: skip


class _Uploaded(NamedTuple):
    """What was measured of uploads; ``took_s`` of each request, in order of size, ``cpu_s`` of servers and database."""

    fixes: int
    whole_s: float
    took_s: list[float]
    cpu_s: float


def _uploads(url: str, cluster: PrivateCluster, herd: tuple[int, bool], workers: int, requests: int) -> _Uploaded:
    collars, is_shared = herd
    bodies = [[_body(phone, n, collars, is_shared=is_shared) for n in range(requests + 1)] for phone in range(PHONES)]
    token = _token_of_cloud(url)
    with ExitStack() as stack:
        servers = [stack.enter_context(_serving("cloud", url)) for _ in range(workers)]
        clients = [_Client(servers[phone % workers].port) for phone in range(PHONES)]
        for client, mine in zip(clients, bodies, strict=True):  # partitions, prepared statements
            _upload(client, mine[0], token)
        pids = [server.pid for server in servers]
        before_s = _cpu_s(cluster, pids)
        took: list[float] = []
        begun = time.perf_counter()
        with ThreadPoolExecutor(PHONES) as pool:
            for some in pool.map(lambda client, mine: _send(client, mine, token), clients, bodies):
                took += some
        whole_s = time.perf_counter() - begun
        cpu_s = _cpu_s(cluster, pids) - before_s
    n = (requests + 1) * PHONES * FIXES_A_REQUEST
    with psycopg.connect(url) as connection:
        for table in ("fixes", "phone_fixes"):
            (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[misc]
            assert count == n, (table, count, n)
    return _Uploaded(len(took) * FIXES_A_REQUEST, whole_s, sorted(took), cpu_s)


def _send(client: _Client, bodies: Sequence[bytes], token: str) -> list[float]:
    """Send a phone's uploads but for the first, one after the other, and return what each took."""
    took = []
    for body in bodies[1:]:
        begun = time.perf_counter()
        _upload(client, body, token)
        took.append(time.perf_counter() - begun)
    return took


def _upload(client: _Client, body: bytes, token: str) -> None:
    status, answer = client.ask("POST", "/api/v1/sync/upload/", body, token)
    assert status == 200, answer
    assert json.loads(answer)["summary"]["synced"] == FIXES_A_REQUEST, answer


def _cpu_s(cluster: PrivateCluster, pids: Collection[int]) -> float:
    """Return the seconds of the processor that servers and database have had, as the kernel counts them."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            said = stat.read_text().rpartition(")")[2].split()
            pid, parent, own, waited = int(stat.parent.name), int(said[1]), said[11:13], said[13:15]
            if pid in pids or cluster.pid in (pid, parent):
                ticks += sum(map(int, own))
            if pid == cluster.pid:  # sessions that have ended
                ticks += sum(map(int, waited))
    return ticks / os.sysconf("SC_CLK_TCK")


def _token_of_cloud(url: str) -> str:
    async def make() -> str:
        clock = FakeClock()
        async with Database.open(url, pool_min=1, pool_max=1) as database:
            return accounts_over(PostgresStore(database, now=clock.now), clock).machine_token()

    return asyncio.run(make())


# --- pulls and pushes


def _synced(home: str, where: str, rows: int, rounds: int) -> tuple[str, ...]:
    token = _token_of_cloud(where) if home == "cloud" else accounts_over(None, FakeClock()).machine_token()
    with _serving(home, where) as server:
        client = _Client(server.port)
        for n in range(rows // FIXES_A_REQUEST):
            _upload(client, _body(0, n), token)
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
    """Return a push of 500 positions, a minute apart for each of 50 collars, and 500 observations."""
    tracking = [
        {
            "id": f"t{n}x{k}", "animal_id": "", "collar_id": f"P{k % 50}", "lat": round(-2.5 - k % 50 * 1e-2, 6),
            "lon": round(37.5 + k // 50 * 1e-4, 6), "timestamp": NOW_MS - 3_600_000 + (n * 10 + k // 50) * 60_000,
            "source": "gps", "_status": "created", "_changed": "",
        }
        for k in range(500)
    ]  # fmt: skip
    observations = [
        {
            "id": f"o{n}x{k}", "animal_id": "", "observation_type": "sighting", "description": f"seen {n} {k}",
            "lat": round(-2.5 - k * 1e-3, 6), "lon": 37.5, "timestamp": NOW_MS - (n * 500 + k) * 60_000,
            "_status": "created", "_changed": "",
        }
        for k in range(500)
    ]  # fmt: skip
    empty: dict[str, Any] = {"updated": [], "deleted": []}
    changes = {"tracking": {"created": tracking, **empty}, "observations": {"created": observations, **empty}}
    return json.dumps(changes).encode()


if __name__ == "__main__":
    typer.run(main)
