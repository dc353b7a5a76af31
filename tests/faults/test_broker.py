"""kill -9 of the broker under the real program: every receipted fix is stored once, every other is sent again."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.faults.station_process import GatewaySender, StationProcess, until
from tests.services import Broker

pytestmark = [pytest.mark.faults, pytest.mark.slow]

IS_NIGHTLY = os.environ.get("OUTPOST_NIGHTLY") == "1"
KILLS = 50 if IS_NIGHTLY else 5
#: Link and gateway find their broker again within this time, whatever it forgot.
BACK_S = 30.0


@pytest.mark.timeout(7200 if IS_NIGHTLY else 1800)
@pytest.mark.parametrize("is_persistent", [True, False], ids=["remembers", "forgets"])
def test_no_kill_of_the_broker_loses_or_doubles_what_was_receipted(tmp_path: Path, is_persistent: bool) -> None:
    rng = random.Random(4)
    broker = Broker(tmp_path / "broker", is_persistent=is_persistent)
    broker.start()
    station = StationProcess(tmp_path / "station", broker_port=broker.port)
    gateway = GatewaySender(broker.port)
    station.start()
    try:
        station.wait_ready()
        gateway.start()
        for _ in range(KILLS):
            before = len(gateway.acknowledged)
            until(lambda count=before: len(gateway.acknowledged) > count, "a receipt", BACK_S)  # type: ignore[misc]
            time.sleep(rng.uniform(0, 0.6))
            broker.kill()
            receipted = gateway.acknowledged
            # the station needs no broker to show what it has receipted
            until(lambda promised=receipted: promised <= set(station.fixes()), "a receipted fix", BACK_S)  # type: ignore[misc]
            broker.start()
        gateway.finish()
        until(lambda: not gateway.unacknowledged, "the last receipt", BACK_S)
        gateway.stop()
        station.stop()
        stored = station.stored()
    finally:
        station.close()
        gateway.stop()
        broker.stop()
    assert set(stored) == gateway.sent
    assert set(stored.values()) == {1}


def test_a_gateway_does_not_pile_up_copies_before_a_broker_that_takes_none(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    broker.start()
    gateway = GatewaySender(broker.port, patience_s=0.01)
    gateway.start()
    try:
        until(lambda: gateway.published > 0, "the first fix")
        broker.freeze()  # as one that writes all it holds, at each change
        until(lambda: gateway.kept_back > 50, "copies that are kept back")
        assert gateway.published <= 2 * len(gateway.sent)
    finally:
        broker.thaw()
        gateway.stop()
        broker.stop()
