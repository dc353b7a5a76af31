"""How fast the cloud takes a station's backlog, beside the fastest that PostgreSQL can: raw COPY of the same rows.

The cloud is a process of its own with a durable PostgreSQL. A station's batches are made beforehand, so what is timed
is what the cloud does: HTTP, signature, decoding, ids, folding, judging, COPY, receipt, commit; one after the other, as
the protocol says, with the response of each awaited. The rows go by COPY into a second database with the same tables
and indexes: in transactions of the same size, and all at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import psycopg
from psycopg import sql

from cloud.accounts.secret import make_secret
from cloud.demo.cluster import PrivateCluster
from cloud.store.database import Database
from cloud.store.migrate import migrate
from cloud.store.partitions import Partitions
from shared.sync.fixes import COLUMNS
from shared.sync.records import to_ms
from shared.sync.streams import GENESIS, chain_hash
from shared.wire import signatures
from shared.wire.batch import FIX_COLUMNS, FixColumns, encode_fixes
from shared.wire.link import BATCH, HASH, PREVIOUS
from tests.benchmarks import herd

STATION: Final = "bench"
EPOCH: Final = "0" * 16
_READY_S: Final = 180.0


class Reconciled(msgspec.Struct, frozen=True, kw_only=True):
    """Fixes a second through HTTP, and of the same rows by COPY, in batches and in one."""

    fixes: int
    batch: int
    http_per_s: float
    copy_batches_per_s: float
    copy_once_per_s: float

    @property
    def ratio(self) -> float:
        """The part of COPY's speed, in transactions of the same size, that is left."""
        return self.http_per_s / self.copy_batches_per_s


def columns_of(first: int, count: int) -> FixColumns:
    """Return ``count`` fixes of the herd as a station sends them, from the ``first``-th on."""
    columns: FixColumns = {column.name: [] for column in FIX_COLUMNS}
    for number in range(first, first + count):
        lon_e7, lat_e7 = herd.position_e7(number)
        raw_ms = to_ms(herd.recorded_at(number))
        said: dict[str, Any] = {
            "collar_id": herd.device_of(number % herd.COLLARS), "raw_ms": raw_ms, "received_ms": raw_ms + 4_000,
            "sure_received_ms": raw_ms + 4_000, "lon_e7": lon_e7, "lat_e7": lat_e7, "source": "collar",
            "h_acc_m": float(4 + number % 7), "battery_mv": 3_600 - number % 50, "temperature_c": 20.0 + number % 15,
            "rssi_dbm": float(-70 - number % 40), "snr_db": 7.5, "link": "base-1", "is_clock_unset": 0,
        }  # fmt: skip
        for name, values in columns.items():
            values.append(said.get(name))
    return columns


def reconcile(fixes: int, batch: int) -> Reconciled:
    """Measure it in a folder of its own, gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with PrivateCluster(Path(folder) / "postgres") as cluster:
            for name in ("cloud", "raw", "once"):
                cluster.create_database(name)
                migrate(cluster.url(name))
            http_s = _through_http(cluster.url("cloud"), fixes, batch)
            batches_s = by_copy(cluster.url("cloud"), cluster.url("raw"), batch)
            once_s = by_copy(cluster.url("cloud"), cluster.url("once"), fixes)
    return Reconciled(
        fixes=fixes,
        batch=batch,
        http_per_s=fixes / http_s,
        copy_batches_per_s=fixes / batches_s,
        copy_once_per_s=fixes / once_s,
    )


def enter_station(url: str) -> bytes:
    """Make the station known to the cloud at ``url`` and return its private key."""
    private, public = signatures.new_key()
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO stations (id, name, public_key, enrolled_ms) VALUES (%s, %s, %s, 0)",
            (STATION, STATION, public),
        )
    return private


@contextlib.contextmanager
def running_cloud(url: str) -> Iterator[str]:
    """Give the address of the shipped program over the database at ``url``."""
    secret_file = Path(tempfile.mkdtemp(prefix="outpost-bench-")) / "cloud.key"
    make_secret(secret_file)
    environment = {**os.environ, "DATABASE_URL": url, "OUTPOST_ACCOUNTS_KEY_FILE": str(secret_file)}
    program = Path(sys.executable).with_name("outpost-cloud")
    log = secret_file.with_name("cloud.log")
    with log.open("wb") as out, subprocess.Popen([program, "run", "--port", "0"], env=environment, stderr=out) as cloud:
        try:
            yield _address(cloud, log)
        finally:
            cloud.send_signal(signal.SIGTERM)
            cloud.wait(20)
            shutil.rmtree(secret_file.parent)


def _address(cloud: subprocess.Popen[bytes], log: Path) -> str:
    ends = time.monotonic() + _READY_S
    while time.monotonic() < ends:
        for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
            if "cloud.ready" in line and line.endswith("\n"):
                return str(msgspec.json.decode(line)["url"])
        if cloud.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"the cloud is not ready:\n{log.read_text(encoding='utf-8')[-2_000:]}")


def _through_http(url: str, fixes: int, batch: int) -> float:
    private = enter_station(url)
    payloads = [encode_fixes(columns_of(first, min(batch, fixes - first))) for first in range(0, fixes, batch)]
    with running_cloud(url) as address, httpx.Client(base_url=address, timeout=60) as client:
        previous = GENESIS.hash
        began = time.perf_counter()
        for n, payload in enumerate(payloads, 1):
            path = f"/api/v1/stations/{STATION}/streams/{EPOCH}/fixes/batches/{n}"
            hashed = chain_hash(previous, payload)
            headers = {
                **signatures.sign(private, STATION, "PUT", path, "", payload), "Content-Type": BATCH,
                PREVIOUS: previous.hex(), HASH: hashed.hex(),
            }  # fmt: skip
            answer = client.put(path, content=payload, headers=headers)
            assert answer.status_code == 200, answer.text
            previous = hashed
        return time.perf_counter() - began


def by_copy(source: str, target: str, batch: int) -> float:
    """Copy what the cloud has stored into an empty database with the same tables; only writing is timed."""
    names = [name for name in COLUMNS if name != "pk"]
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    with psycopg.connect(source) as connection:
        rows = connection.execute(sql.SQL("SELECT {} FROM fixes ORDER BY raw_ms, collar_pk").format(columns)).fetchall()
    asyncio.run(_make_months(target, [row[names.index("raw_ms")] for row in rows]))
    statement = sql.SQL("COPY fixes ({}) FROM STDIN").format(columns)
    chunks = []
    for start in range(0, len(rows), batch):  # as text, made beforehand: what is left is the server's own speed
        lines = [
            "\t".join(r"\N" if value is None else str(value) for value in row) for row in rows[start : start + batch]
        ]
        chunks.append(("\n".join(lines) + "\n").encode())
    with psycopg.connect(target, autocommit=True) as connection:
        began = time.perf_counter()
        for chunk in chunks:
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.write(chunk)
        took_s = time.perf_counter() - began
    if (stored := stored_in(target)) != len(rows):
        raise RuntimeError(f"COPY of {len(rows)} rows stored {stored}")
    return took_s


def stored_in(url: str) -> int:
    """Return how many fixes a database has."""
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT count(*) FROM fixes").fetchone()
        assert found is not None
        return int(found[0])


async def _make_months(url: str, raw_ms: list[int]) -> None:
    async with Database.open(url, pool_min=1, pool_max=1) as database:
        await Partitions(database).ensure(raw_ms)
