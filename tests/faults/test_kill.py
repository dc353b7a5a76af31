"""kill -9 of the real program while serial, MQTT and HTTP bring fixes: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.station_process import (
    READY_S,
    GatewaySender,
    HttpSender,
    Key,
    Sender,
    SerialSender,
    StationProcess,
    until,
)
from tests.services import Broker

pytestmark = [pytest.mark.faults, pytest.mark.slow]

IS_NIGHTLY = os.environ.get("OUTPOST_NIGHTLY") == "1"
KILLS = 200 if IS_NIGHTLY else 20
#: After the last start, all that was sent must be stored within this time.
DRAIN_S = 60.0


@pytest.mark.timeout(7200 if IS_NIGHTLY else 1800)
def test_no_kill_loses_or_doubles_what_was_acknowledged(tmp_path: Path, broker: Broker) -> None:
    rng = random.Random(2)
    station = StationProcess(tmp_path / "station", broker_port=broker.port)
    serial = SerialSender(station.wire, seed=3)
    senders: list[Sender] = [serial, HttpSender(station.url, station.auth), GatewaySender(broker.port)]

    def shows(promised: set[Key]) -> bool:
        shown = station.fixes()
        assert set(shown.values()) <= {1}, "a fix is shown twice"
        serial.saw(shown)
        return promised <= set(shown)

    station.start()
    try:
        ready_s = [station.wait_ready()]
        for sender in senders:
            sender.start()
        for kill in range(KILLS):
            if kill % 4 == 3:  # now and then while it is starting
                station.kill()
                station.start()
                time.sleep(rng.uniform(0, 1.5))
            else:
                time.sleep(rng.uniform(0, 0.8))
            acknowledged = set().union(*(sender.acknowledged for sender in senders))
            station.kill()
            station.start()
            ready_s.append(station.wait_ready())
            # what stands in the ledger alone is decoded after the start
            until(lambda promised=acknowledged: shows(promised), "an acknowledged fix", READY_S)  # type: ignore[misc]
        for sender in senders:
            sender.finish()
        everything = set().union(*(s.sent for s in senders))
        until(lambda: shows(everything), lambda: f"the last fix of {still_open(senders)}", DRAIN_S)
        until(
            lambda: not any(s.unacknowledged for s in senders),
            lambda: f"the last word to {still_open(senders)}",
            DRAIN_S,
        )
        for sender in senders:
            sender.stop()
        station.stop()
        stored = station.stored()
    finally:
        station.close()
        for sender in senders:
            sender.stop()
    assert max(ready_s) <= READY_S
    assert set(stored) == set().union(*(sender.sent for sender in senders))
    assert set(stored.values()) == {1}


def still_open(senders: Sequence[Sender]) -> str:
    return ", ".join(f"{type(s).__name__} ({len(s.unacknowledged)} of {len(s.sent)} open)" for s in senders)
