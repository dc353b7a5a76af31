"""From a frame to the API: the time between writing a fix to the line and reading it over HTTP.

Fixes go out one by one at a steady rate. A client listens to ``/api/v1/events``; at each event another one fetches that
very fix under its id. Two instants of each fix are taken: the event's arrival, and the end of the answer that holds it.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
from collections.abc import Callable
from typing import Final

import httpx
import msgspec

from tests.benchmarks.herd import frame_of, id_of
from tests.benchmarks.station import Station

RATE_HZ: Final = 50.0
ARRIVE_S: Final = 30.0
#: Connections that fetch: one answer that takes long must not be charged to the fixes behind it.
FETCHERS: Final = 4
_LISTENING: Final = ": listening"


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds from the write of each fix to its event and to its answer."""

    event_ms: list[float]
    api_ms: list[float]


class Probe:
    """Listens for fixes, fetches each, tells ``arrived`` of (id, event at, answered at); all in threads of its own."""

    def __init__(self, url: str, auth: httpx.Auth, arrived: Callable[[str, float, float], None]) -> None:
        self._url = url
        self._arrived = arrived
        self._client = httpx.Client(base_url=url, timeout=30, auth=auth)
        self._fetchers = concurrent.futures.ThreadPoolExecutor(FETCHERS, "probe")
        self._is_listening = threading.Event()
        self._is_closing = False
        self._last_id = ""
        #: what ended the listening, if anything did
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        if not self._is_listening.wait(30):
            raise RuntimeError(f"{url}/api/v1/events does not answer: {self.error}")

    def close(self) -> None:
        """Listen no more."""
        self._is_closing = True
        self._fetchers.shutdown(cancel_futures=True)
        self._client.close()

    def _run(self) -> None:
        try:
            while not self._is_closing:  # a stream ends with its token, after a quarter of an hour
                self._listen()
        except (httpx.HTTPError, RuntimeError, OSError) as error:
            self._fail(error)

    def _listen(self) -> None:
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        with self._client.stream("GET", "/api/v1/events", headers=headers) as stream:
            stream.raise_for_status()
            event = ""
            for line in stream.iter_lines():
                if line == _LISTENING:
                    self._is_listening.set()
                elif line.startswith("id: "):
                    self._last_id = line.removeprefix("id: ")
                elif line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: ") and event == "fix":
                    self._fetchers.submit(self._fetch, line.removeprefix("data: "), time.perf_counter())
                elif line.startswith("data: ") and event == "lost":
                    raise RuntimeError(f"the probe was too slow for the events: {line}")

    def _fetch(self, data: str, event_s: float) -> None:
        try:
            identity = msgspec.json.decode(data)["id"]
            self._client.get(f"/api/v1/tracking/{identity}/").raise_for_status()
        except (httpx.HTTPError, RuntimeError, OSError) as error:
            self._fail(error)
        else:
            self._arrived(identity, event_s, time.perf_counter())

    def _fail(self, error: Exception) -> None:
        if not self._is_closing:
            self.error = error


def frame_to_api(running: Station, first: int, seconds: float, rate_hz: float = RATE_HZ) -> Latency:
    """Send ``rate_hz`` fixes a second, numbered from ``first`` on, and return how long each took."""
    numbers = range(first, first + round(seconds * rate_hz))
    frames = [frame_of(number) for number in numbers]
    ids = [id_of(number) for number in numbers]
    arrivals: dict[str, tuple[float, float]] = {}
    probe = Probe(
        running.url, running.auth, lambda identity, event_s, answer_s: arrivals.update({identity: (event_s, answer_s)})
    )
    sent_s = []
    began = time.perf_counter()
    for index, frame in enumerate(frames):
        time.sleep(max(began + index / rate_hz - time.perf_counter(), 0))
        sent_s.append(time.perf_counter())
        os.write(running.line, frame)
    ends = time.perf_counter() + ARRIVE_S
    while len(arrivals) < len(ids) and probe.error is None and time.perf_counter() < ends:
        time.sleep(0.01)
    probe.close()
    missing = [identity for identity in ids if identity not in arrivals]
    if missing:
        raise RuntimeError(f"{len(missing)} of {len(ids)} fixes did not reach the API: {probe.error or missing[0]}")
    return Latency(
        [(arrivals[identity][0] - at) * 1e3 for identity, at in zip(ids, sent_s, strict=True)],
        [(arrivals[identity][1] - at) * 1e3 for identity, at in zip(ids, sent_s, strict=True)],
    )
