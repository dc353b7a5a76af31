"""R14: a station that hangs falls silent towards its supervisor, is started again within 30 s, and has lost nothing."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.ingest.group_commit import LedgerWriter
from edge.ops.notify import Supervisor
from edge.store.ledger import Ledger
from tests.faults.station_process import READY_S, HttpSender, StationProcess, until

pytestmark = [pytest.mark.faults]

UNIT = Path(__file__).resolve().parents[2] / "edge" / "deploy" / "outpost-station.service"
PROMISE_S = 30.0
IS_NIGHTLY = os.environ.get("OUTPOST_NIGHTLY") == "1"


def of_unit(key: str) -> float:
    match = re.search(rf"^{key}=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert match is not None, key
    return float(match[1])


class Listener:
    """The supervisor's end of the socket; remembers when it heard what."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.1)
        self.said: list[tuple[float, str]] = []
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def count(self, word: str) -> int:
        return sum(word in words for _, words in self.said)

    @property
    def silence_s(self) -> float:
        return time.monotonic() - self.said[-1][0]

    def close(self) -> None:
        self._is_closed.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._is_closed.is_set():
            try:
                words = self._socket.recv(4096).decode()
            except TimeoutError:
                continue
            self.said.append((time.monotonic(), words))


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(tmp_path / "notify")
    yield listener
    listener.close()


def environment(listener: Listener, patience_s: float) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(listener.path), "WATCHDOG_USEC": str(int(patience_s * 1e6))}


def test_silence_restart_and_readiness_of_the_unit_keep_the_promise() -> None:
    assert of_unit("WatchdogSec") + of_unit("RestartSec") + READY_S <= PROMISE_S


@pytest.mark.parametrize("held", ["loop", "ledger"])
async def test_no_heartbeat_comes_while_the_loop_or_the_ledger_is_held_up(
    tmp_path: Path, listener: Listener, held: str
) -> None:
    ledger = LedgerWriter(Ledger(tmp_path / "ledger", None, boot="a"))
    beating = asyncio.create_task(Supervisor(environment(listener, 0.3)).beat(ledger.proof))
    await asyncio.to_thread(until, lambda: listener.count("WATCHDOG=1") > 2, "heartbeats")
    release = threading.Event()
    if held == "ledger":
        hanging = asyncio.get_running_loop().run_in_executor(ledger._thread, release.wait, 30)
        await asyncio.to_thread(until, lambda: listener.silence_s > 1, "silence")
        release.set()
        await hanging
    else:
        until(lambda: listener.silence_s > 1, "silence")  # on purpose in the loop's own thread
    heard = listener.count("WATCHDOG=1")
    await asyncio.to_thread(until, lambda: listener.count("WATCHDOG=1") > heard + 1, "heartbeats again")
    beating.cancel()
    await asyncio.wait([beating])
    await ledger.close()


async def test_without_a_watchdog_nothing_is_said() -> None:
    supervisor = Supervisor({})
    assert supervisor.interval_s is None
    await supervisor.beat(asyncio.Event().wait)
    supervisor.ready("nobody listens")


@pytest.mark.slow
def test_a_station_that_hangs_is_started_again_in_time_and_keeps_what_it_acknowledged(
    tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience_s = of_unit("WatchdogSec") if IS_NIGHTLY else 4.0
    for name, value in environment(listener, patience_s).items():
        monkeypatch.setenv(name, value)
    station = StationProcess(tmp_path / "station")
    sender = HttpSender(station.url, station.auth)
    station.start()
    try:
        until(lambda: listener.count("READY=1") == 1, "the word that it is ready", READY_S)
        station.wait_ready()
        sender.start()
        until(lambda: len(sender.acknowledged) > 10, "acknowledged fixes")
        os.kill(station.pid, signal.SIGSTOP)
        hung_at = time.monotonic()
        until(lambda: listener.silence_s > patience_s, "silence")
        station.kill()  # as the unit says: WatchdogSignal=SIGKILL
        time.sleep(of_unit("RestartSec") if IS_NIGHTLY else 0)
        station.start()
        until(lambda: listener.count("READY=1") == 2, "the word that it is ready again", PROMISE_S)
        station.wait_ready()
        assert time.monotonic() - hung_at <= PROMISE_S
        sender.finish()
        until(lambda: not sender.unacknowledged, "the last acknowledgement")
        sender.stop()
        station.stop()
        assert listener.count("STOPPING=1") == 1
        assert set(station.stored()) == sender.sent
    finally:
        station.close()
        sender.stop()
