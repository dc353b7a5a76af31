"""A station of its own process for a benchmark, with a pseudo-terminal to write to, and what the kernel says of it."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from firmware_bridge.codecs.opencollar import encode_short
from firmware_bridge.codecs.station_frame import pack_station_frame
from firmware_bridge.framing.cobs import encode_frame

START = datetime(2026, 1, 1, tzinfo=UTC)
COLLARS = 200
INTERVAL = timedelta(minutes=15)


def frame_of(number: int) -> bytes:
    """Return the bytes on the wire of the ``number``-th fix: collars in turn, each on its interval, walking."""
    collar, turn = number % COLLARS, number // COLLARS
    message = encode_short(
        recorded_at=START + turn * INTERVAL,
        lon_deg=37.0 + collar * 0.01 + (turn * 7919 % 1000) * 1e-6,
        lat_deg=-2.0 + collar * 0.005 + (turn * 104_729 % 1000) * 1e-6,
        h_acc_m=6,
    )
    return encode_frame(pack_station_frame(f"{collar + 1:016x}", 13, -90, 7.5, message))


class Station:
    """A running `outpost-station run` on a fresh folder or one that is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        key = folder / "key"
        if not key.exists():
            key.write_text(secrets.token_hex(32))
        master, slave = os.openpty()
        tty.setraw(slave)
        self.line = master
        self._slave = slave
        self.config = folder / "station.toml"
        self.config.write_text(
            f'[station]\ndata_dir = "{folder}/data"\n[store]\nkey_file = "{key}"\n[api]\nport = 0\n'
            f'[[links]]\nkind = "serial"\nname = "base"\npath = "{os.ttyname(slave)}"\n'
        )
        self._log = (folder / "log").open("ab")
        program = Path(sys.executable).parent / "outpost-station"
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [program, "run", "--config", self.config], stdout=self._log, stderr=subprocess.STDOUT
        )
        url = folder / "data" / "station.url"
        while not url.exists():
            if self._process.poll() is not None:
                raise RuntimeError((folder / "log").read_text())
            time.sleep(0.01)
        self.url = url.read_text().strip()
        self.api = httpx.Client(base_url=self.url, timeout=60)
        while self.api.get("/health/ready").status_code != httpx.codes.OK:
            time.sleep(0.01)
        while not self.detail()["links"][0]["is_up"]:
            time.sleep(0.01)
        self.start_s = time.perf_counter() - began

    def detail(self) -> dict[str, Any]:
        """Return what the station says of itself."""
        body: dict[str, Any] = self.api.get("/health/detail").json()
        return body

    def pss_mb(self) -> float:
        """Return the proportional set size of the process, in MB (10**6 bytes), as the kernel accounts it."""
        text = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text()
        kib = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
        return kib * 1024 / 1e6

    def close(self) -> None:
        """End the process."""
        self.api.close()
        self._process.terminate()
        self._process.wait(20)
        self._log.close()
        os.close(self.line)
        os.close(self._slave)


@contextlib.contextmanager
def station(folder: Path) -> Iterator[Station]:
    """A station as a context."""
    running = Station(folder)
    try:
        yield running
    finally:
        running.close()


def wait_for_fixes(running: Station, count: int, deadline_s: float = 60.0) -> None:
    """Wait until ``count`` fixes are committed; raises RuntimeError when they do not come."""
    ends = time.monotonic() + deadline_s
    while running.detail()["store"]["fixes"] < count:
        if time.monotonic() > ends:
            raise RuntimeError(f"{running.detail()}")
        time.sleep(0.1)
