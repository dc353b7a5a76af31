"""The real program under fire: a station as a process of its own, and senders who remember what it acknowledged.

Each sender has collars of its own, so that every fix has one key, (collar, instant), whatever way it came. A sender
offers a fix again until it is acknowledged: by a 2xx over HTTP, by a receipt over MQTT. A serial line has no way back,
so its sender goes on until it has seen the fix through the API, as a collar does that repeats its flash log.

Two kinds of time limit are told apart. A *promise* is what the product owes, by the clock on the wall. A *guard* ends a
wait for what never comes, and is so long that no machine's load comes near it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
import tty
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.store.driver import connect
from edge.store.ledger import LedgerReader
from edge.store.store import SpatialiteStore
from firmware_bridge.codecs.opencollar import encode_resend, encode_short
from firmware_bridge.codecs.outpost_json import encode_fix
from firmware_bridge.codecs.station_frame import pack_station_frame
from firmware_bridge.framing.cobs import encode_frame
from shared.privacy import OPERATOR, view_for
from shared.store import FixQuery
from tests.access import TokenAuth, operator_of_station
from tests.services import free_port
from tests.tied import tied

#: The promise: so long after a kill the station serves again.
READY_S = 10.0
#: The guard: what has not come after this does not come.
GUARD_S = 240.0
#: How long a sender waits for an acknowledgement before it offers the fix again.
PATIENCE_S = 2.0
#: A sender whose patience grows waits no longer than this.
LONGEST_PATIENCE_S = 16.0
#: With so many fixes unacknowledged a sender makes no new ones.
BACKLOG = 60
PAGE = 500

Key = tuple[str, datetime]


def until(condition: Callable[[], bool], what: str | Callable[[], str], within_s: float = GUARD_S) -> float:
    """Wait for ``condition`` and return how many seconds it took; fail the test after ``within_s``."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > within_s:
            pytest.fail(f"{what if isinstance(what, str) else what()} did not come within {within_s:g} s")
        time.sleep(0.01)
    return time.monotonic() - began


class StationProcess:
    """``outpost-station run`` with one pseudo-terminal and, where there is one, a broker.

    ``prefix`` stands before the command and may change what the program sees at ``data_dir``; the tests then find the
    same files at ``data_seen_at``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        broker_port: int | None = None,
        data_dir: Path | None = None,
        data_seen_at: Path | None = None,
        prefix: Sequence[str] = (),
        host: str = "127.0.0.1",
        identity: str = "faults",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        data_dir = data_dir or folder / "data"
        self.data_dir = data_seen_at or data_dir
        self._prefix = tuple(prefix)
        self._made: tuple[float, str] | None = None
        self.log_file = folder / "station.log"
        self._config = folder / "station.toml"
        self._process: subprocess.Popen[bytes] | None = None
        self.key = secrets.token_bytes(32)
        key_file = folder / "station.key"
        key_file.write_text(self.key.hex() + "\n", encoding="ascii")
        key_file.chmod(0o600)
        self.wire, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.wire, False)
        port = free_port()
        self.url = f"http://{host}:{port}"
        #: makes a client its operator
        self.auth: httpx.Auth = operator_of_station(data_dir / "station.db", self.key, identity)
        if self._prefix:  # its files are where only a program with the same prefix sees them
            self.auth = TokenAuth(self._token)
        text = (
            f'[station]\nid = "{identity}"\ndata_dir = "{data_dir}"\n[store]\nkey_file = "{key_file}"\n'
            f'[api]\nhost = "{host}"\nport = {port}\n'
            f'[[links]]\nkind = "serial"\nname = "base"\npath = "{os.ttyname(self._slave)}"\n'
        )
        if broker_port is not None:
            text += f'[[links]]\nkind = "mqtt"\nname = "broker"\nhost = "127.0.0.1"\nport = {broker_port}\n'
        self._config.write_text(text, encoding="utf-8")

    def start(self) -> None:
        """Start the program and return at once."""
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(
                [*self._prefix, Path(sys.executable).parent / "outpost-station", "run", "--config", self._config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._process = tied(process)

    def wait_ready(self, within_s: float = READY_S) -> float:
        """Wait until ``/health/ready`` says so, within the promise, and return how many seconds it took."""
        return until(self._is_ready, "readiness", within_s)

    @property
    def pid(self) -> int:
        """The process that runs."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it with SIGKILL: no handler runs, nothing is flushed."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def close(self) -> None:
        """End it if it still runs, and take the wire away."""
        if self._process is not None:
            self.kill()
        os.close(self.wire)
        os.close(self._slave)

    def fixes(self) -> Counter[Key]:
        """Return every fix that the API shows, with the number of rows that hold it.

        A row inserted meanwhile moves others to the next page, where they are seen again: rows are told by their id.
        """
        keys_by_id: dict[str, Key] = {}
        url: str | None = f"{self.url}/api/v1/tracking/?page_size={PAGE}&ordering=timestamp"
        with httpx.Client(timeout=30, auth=self.auth) as client:
            while url is not None:
                page = client.get(url).raise_for_status().json()
                for row in page["results"]:
                    keys_by_id[row["id"]] = row["collar_id"], datetime.fromisoformat(row["timestamp"])
                url = page["next"]
        return Counter(keys_by_id.values())

    def stored(self) -> Counter[Key]:
        """Return what the files of the stopped station hold, after a whole check of each."""
        ledger_dir = self.data_dir / "ledger"
        with closing(LedgerReader(ledger_dir, self.key)) as reader:
            reader.check()
        for path in [self.data_dir / "station.db", *ledger_dir.glob("ledger-*.db")]:
            with closing(connect(path, self.key, is_spatial=path.name == "station.db", is_readonly=True)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return asyncio.run(self._stored())

    async def _stored(self) -> Counter[Key]:
        store = SpatialiteStore(self.data_dir / "station.db", self.key, now=lambda: datetime.now(UTC), readers=1)
        try:
            page = await store.fixes(view_for(OPERATOR), FixQuery(limit=1_000_000))
        finally:
            await store.close()
        return Counter((fix.collar_id, fix.raw_recorded_at) for fix in page.results)

    def tail(self, lines: int = 20) -> str:
        """Return the last lines of the program's log."""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    def _token(self) -> str:
        """Return an operator's token that the station's own program made, the same for five minutes."""
        if not self._made or time.monotonic() - self._made[0] > 300:
            program = Path(sys.executable).parent / "outpost-station"
            command: list[str | Path] = [*self._prefix, program, "token", "operator", "--config", self._config]
            ended = subprocess.run(command, check=True, capture_output=True, text=True)
            self._made = time.monotonic(), ended.stdout.strip()
        return self._made[1]

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"the station ended by itself with {self._process.returncode}:\n{self.tail()}")
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=2).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(timeout=GUARD_S)
        self._process = None


class Sender(ABC):
    """A thread that sends fixes of its own collars until told to stop, and then what is not acknowledged yet."""

    def __init__(
        self, collars: list[str], *, interval_s: float = 0.02, patience_s: float = PATIENCE_S, growth: float = 1.0
    ) -> None:
        self.sent: set[Key] = set()
        self._collars = collars
        self._interval_s = interval_s
        self._patience_s = patience_s
        self._growth = growth
        self._waiting: dict[Key, _Offer] = {}
        self._acknowledged: set[Key] = set()
        self._lock = threading.Lock()
        self._is_draining = threading.Event()
        self._is_stopped = threading.Event()
        self._next = 0
        self._start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=20)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.errors: list[Exception] = []

    @abstractmethod
    def offer(self, key: Key, n: int) -> None:
        """Send the fix; call ``acknowledge`` when the station has confirmed it, now or later."""

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def finish(self) -> None:
        """Make no new fixes; go on with those that are not acknowledged. What is in ``sent`` now is all."""
        with self._lock:  # a fix that is being made is in ``sent`` before
            self._is_draining.set()

    def stop(self) -> None:
        """End the thread; what went wrong in it is raised here."""
        self._is_stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=20)
        for error in self.errors:
            raise error

    @property
    def acknowledged(self) -> set[Key]:
        """What the station has confirmed."""
        with self._lock:
            return set(self._acknowledged)

    @property
    def unacknowledged(self) -> set[Key]:
        """What it was sent and has not confirmed yet."""
        with self._lock:
            return set(self._waiting)

    def acknowledge(self, key: Key) -> None:
        """Take a confirmation, which may come twice."""
        with self._lock:
            self._waiting.pop(key, None)
            self._acknowledged.add(key)

    def _run(self) -> None:
        try:
            while not self._is_stopped.wait(self._interval_s):
                for key, n in self._due(time.monotonic()):
                    self.offer(key, n)
        except Exception as error:  # noqa: BLE001  the test's own thread must not end unseen
            self.errors.append(error)

    def _due(self, now_s: float) -> list[tuple[Key, int]]:
        """Return what is to be offered again, and a new fix where there may be one."""
        with self._lock:
            due = [(key, offer) for key, offer in self._waiting.items() if now_s >= offer.again_s][:2]
            if not self._is_draining.is_set() and len(self._waiting) < BACKLOG:
                n, self._next = self._next, self._next + 1
                key = (self._collars[n % len(self._collars)], self._start + timedelta(minutes=n))
                self.sent.add(key)
                due.append((key, _Offer(n, 0.0, self._patience_s)))
            for key, (n, _, patience_s) in due:
                longer_s = min(patience_s * self._growth, LONGEST_PATIENCE_S)
                self._waiting[key] = _Offer(n, now_s + patience_s, longer_s)
            return [(key, offer.n) for key, offer in due]


class _Offer(NamedTuple):
    """A fix under way: its number, when it is offered again, and for how long the time after that."""

    n: int
    again_s: float
    patience_s: float


def position(n: int) -> tuple[float, float]:
    """Return lon and lat of fix ``n``: a slow walk."""
    return round(37.0 + n * 1e-5, 7), round(-2.5 + n * 1e-5, 7)


class SerialSender(Sender):
    """A base station on a cable: COBS frames, some damaged on the way, no way back."""

    def __init__(self, wire: int, seed: int) -> None:
        super().__init__([f"eui:{n:016x}" for n in range(1, 4)])
        self._wire = wire
        self._rng = random.Random(seed)

    def offer(self, key: Key, n: int) -> None:
        lon_deg, lat_deg = position(n)
        port, encode = self._rng.choice(((13, encode_short), (16, encode_resend)))
        message = encode(recorded_at=key[1], lat_deg=lat_deg, lon_deg=lon_deg, h_acc_m=5.0)
        wire = bytearray(encode_frame(pack_station_frame(key[0].removeprefix("eui:"), port, -90.0, 7.5, message)))
        if self._rng.random() < 0.05:
            wire[self._rng.randrange(len(wire))] ^= 1 << self._rng.randrange(8)
        try:
            os.write(self._wire, wire)
        except BlockingIOError:
            pass  # nobody reads while the station is down: the frame is lost, as on the air

    def saw(self, shown: Iterable[Key]) -> None:
        """Take what the API shows for the confirmation that the wire cannot bring."""
        for key in self.sent.intersection(shown):
            self.acknowledge(key)


class HttpSender(Sender):
    """A phone: one position a request, now and then a batch."""

    def __init__(self, url: str, auth: httpx.Auth) -> None:
        super().__init__(["phone-1", "phone-2"])
        # a station that was killed ends the connection, so nothing waits for the guard
        self._client = httpx.Client(base_url=f"{url}/api/v1", timeout=GUARD_S, auth=auth)
        #: how often the station answered with each status
        self.statuses: Counter[int] = Counter()

    def offer(self, key: Key, n: int) -> None:
        lon_deg, lat_deg = position(n)
        body = {"collar_id": key[0], "timestamp": key[1].isoformat(), "lat": lat_deg, "lon": lon_deg}
        try:
            if n % 5:
                answer = self._client.post("/tracking/", json=body)
                is_taken = answer.is_success
            else:
                answer = self._client.post("/tracking/bulk_upload", json={"tracking_points": [body]})
                is_taken = answer.is_success and answer.json()["failed"] == 0
        except httpx.TransportError:
            return
        self.statuses[answer.status_code] += 1
        if is_taken:
            self.acknowledge(key)

    def stop(self) -> None:
        super().stop()
        self._client.close()


class GatewaySender(Sender):
    """A gateway that publishes over MQTT and waits for the station's own receipt; the broker's word counts nothing.

    It repeats a fix as the README of the firmware bridge tells gateways to: never behind a copy that the broker has not
    taken, and with a patience that grows. A broker that saves each change writes all that it holds each time, so copies
    for a station that is away make it the slower the more they are: with one every two seconds a fix that was new stood
    behind thousands of them.
    """

    def __init__(self, broker_port: int, *, patience_s: float = PATIENCE_S) -> None:
        super().__init__(["MQ1", "MQ2"], patience_s=patience_s, growth=2.0)
        self._keys_by_digest: dict[str, Key] = {}
        self._mids: dict[Key, int] = {}
        self._taken_mids: set[int] = set()
        #: messages handed to the client
        self.published = 0
        #: copies kept back, because the one before has not been taken
        self.kept_back = 0
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="gateway-1", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("outpost/faults/gateway-1/ack", qos=1)
        self._client.on_message = self._hear
        self._client.on_publish = self._take
        self._client.connect_async("127.0.0.1", broker_port)

    def start(self) -> None:
        self._client.loop_start()
        super().start()

    def stop(self) -> None:
        super().stop()
        self._client.disconnect()
        self._client.loop_stop()

    def offer(self, key: Key, n: int) -> None:
        lon_deg, lat_deg = position(n)
        payload = encode_fix(collar_id=key[0], recorded_at=key[1], lon_deg=lon_deg, lat_deg=lat_deg, seq=n)
        self._keys_by_digest[hashlib.sha256(payload).hexdigest()] = key
        if key in self._mids and self._mids[key] not in self._taken_mids:
            self.kept_back += 1  # the client itself sends it again over a new connection
        elif self._client.is_connected():
            self.published += 1
            self._mids[key] = self._client.publish("outpost/faults/gateway-1/fix", payload, qos=1).mid

    def _take(self, _client: Client, _userdata: object, mid: int, *_: Any) -> None:
        self._taken_mids.add(mid)

    def _hear(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        receipt = msgspec.json.decode(message.payload)
        if receipt["status"] == "kept":
            self.acknowledge(self._keys_by_digest[receipt["sha256"]])
