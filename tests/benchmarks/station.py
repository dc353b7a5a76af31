"""A station of its own process for a benchmark, with a pseudo-terminal to write to, and what the kernel says of it."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from edge.config import Config, load
from edge.store.driver import connect
from tests.access import operator_of_station
from tests.tied import tied

READY_S: Final = 60.0
STOP_S: Final = 20.0
_POLL_S: Final = 0.005


def configure(folder: Path, line: str | None = None, more: str = "") -> Config:
    """Write the configuration of a station in ``folder``, and its key where there is none; ``line`` is a serial path.

    Everything that is not written, here or as ``more``, stays as shipped: encrypted, synchronous=FULL.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "key"
    if not key.exists():
        key.write_text(secrets.token_hex(32))
    link = "" if line is None else f'[[links]]\nkind = "serial"\nname = "base"\npath = "{line}"\n'
    config = folder / "station.toml"
    config.write_text(
        f'[station]\ndata_dir = "{folder}/data"\n[store]\nkey_file = "{key}"\n[api]\nport = 0\n{link}{more}',
        encoding="utf-8",
    )
    return load(config, {})


class Station:
    """A running `outpost-station run` on a folder, fresh or not; ``start_s`` is the time from its start to ready."""

    def __init__(self, folder: Path, prefix: Sequence[str] = (), more: str = "") -> None:
        master, slave = os.openpty()
        tty.setraw(slave)
        self.line = master
        self._slave = slave
        self.config = configure(folder, os.ttyname(slave), more)
        self._log = folder / "log"
        url = folder / "data" / "station.url"
        url.unlink(missing_ok=True)
        program = Path(sys.executable).parent / "outpost-station"
        with self._log.open("ab") as log:
            began = time.perf_counter()
            process = subprocess.Popen(
                [*prefix, program, "run", "--config", folder / "station.toml"],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the benchmark, which ends the station in order
            )
        self._process = tied(process)
        #: makes a client its operator
        self.auth = operator_of_station(self.config.database, self.config.key(), self.config.station.id)
        self.api = httpx.Client(timeout=60, auth=self.auth)
        try:
            self.wait_until(url.exists, "its address")
            self.url = url.read_text(encoding="ascii").strip()
            self.api.base_url = self.url
            self.wait_until(lambda: self.api.get("/health/ready").status_code == httpx.codes.OK, "ready")
            self.start_s = time.perf_counter() - began
            self.wait_until(lambda: self.detail()["links"][0]["is_up"], "its serial line")
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    def detail(self) -> dict[str, Any]:
        """Return what the station says of itself."""
        body: dict[str, Any] = self.api.get("/health/detail").raise_for_status().json()
        return body

    def pss_mb(self) -> float:
        """Return the proportional set size of the process, in MB (10**6 bytes), as the kernel accounts it."""
        return self._memory_mb("smaps_rollup", "Pss:")

    def rss_mb(self) -> float:
        """Return the resident set size of the process, in MB (10**6 bytes)."""
        return self._memory_mb("status", "VmRSS:")

    def wal_mb(self) -> float:
        """Return the size of the largest write-ahead log of the station, in MB (10**6 bytes)."""
        return max((_size(path) for path in self.config.station.data_dir.rglob("*-wal")), default=0) / 1e6

    def wait_until(self, condition: Callable[[], bool], what: str, deadline_s: float = READY_S) -> None:
        """Wait for ``condition``; raises RuntimeError with the end of the log where the station ends or takes long."""
        ends = time.monotonic() + deadline_s
        while not condition():
            if self._process.poll() is not None:
                raise RuntimeError(f"the station has ended:\n{self._tail()}")
            if time.monotonic() > ends:
                raise RuntimeError(f"the station is not there with {what} after {deadline_s:.0f} s:\n{self._tail()}")
            time.sleep(_POLL_S)

    def close(self) -> None:
        """End the process; one that does not stop is killed and that is an error."""
        self.api.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            os.close(self.line)
            os.close(self._slave)

    def _memory_mb(self, file: str, field: str) -> float:
        text = Path(f"/proc/{self.pid}/{file}").read_text(encoding="ascii")
        kib = next(int(line.split()[1]) for line in text.splitlines() if line.startswith(field))
        return kib * 1024 / 1e6

    def _tail(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-2_000:]


@contextlib.contextmanager
def station(folder: Path, prefix: Sequence[str] = (), more: str = "") -> Iterator[Station]:
    """A station as a context; ``prefix`` goes before its command, ``more`` into its configuration."""
    running = Station(folder, prefix, more)
    try:
        yield running
    finally:
        running.close()


class Committed:
    """Counts the fixes that are committed, on a connection of our own: what it sees another process can see."""

    def __init__(self, config: Config) -> None:
        self._connection = connect(config.database, config.key(), is_spatial=False, is_readonly=True, cache_kib=500)

    def fixes(self) -> int:
        """Return how many fixes are stored."""
        (count,) = self._connection.execute("SELECT value FROM counters WHERE name = 'fixes'").fetchone()
        return int(count)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # the ledger has gone on to another segment
        return 0
