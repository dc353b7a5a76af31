"""A full disk under the real program: it refuses, acknowledges nothing falsely, and recovers once there is room."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.faults.station_process import GatewaySender, HttpSender, SerialSender, StationProcess, until
from tests.services import Broker, require
from tests.small_disk import SmallDisk

pytestmark = [pytest.mark.faults, pytest.mark.slow]

#: More than the reserve below which the station calls for help.
SIZE_MIB = 300
#: The station calls for help, in /health/, within this time of a full disk.
ALARM_S = 60.0
DRAIN_S = 60.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk", SIZE_MIB)
    try:
        require(disk.is_mounted, f"a small disk needs the right to mount one (run as root): {disk.answer}")
        yield disk
    finally:
        disk.close()


def test_a_medium_that_fills_up_while_a_backup_is_made_holds_no_half_of_one(tmp_path: Path, disk: SmallDisk) -> None:
    folder = tmp_path / "station"
    program = Path(sys.executable).parent / "outpost-station"
    config = tmp_path / "station.toml"

    def run(*arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [*prefix, str(program), *map(str, arguments), "--config", str(config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert run("init", "--data-dir", folder, "--key-file", tmp_path / "key").returncode == 0
    good = run("backup", "--to", disk.folder, "--json", prefix=disk.prefix)
    assert good.returncode == 0, good.stderr
    for room_kib in (0, 40, 2_000, 8_000, 9_000):
        disk.fill()
        with (disk.seen_at / "filler").open("r+b") as filler:
            filler.truncate((disk.seen_at / "filler").stat().st_size - room_kib * 1024)
        done = run("backup", "--daily", "--to", disk.folder, "--json", prefix=disk.prefix)
        disk.make_room()
        assert done.returncode == 1, (room_kib, done.stdout)
        assert len(done.stderr.splitlines()) == 1, done.stderr
        left = {path.name for path in disk.seen_at.rglob("*") if path.suffix in (".new", ".part", ".outpost")}
        assert left == set()
    done = run("backup", "--daily", "--to", disk.folder, "--json", prefix=disk.prefix)
    assert done.returncode == 0, done.stderr


def test_a_full_disk_refuses_and_recovers_by_itself(tmp_path: Path, disk: SmallDisk, broker: Broker) -> None:
    station = StationProcess(
        tmp_path / "station",
        broker_port=broker.port,
        data_dir=disk.folder / "data",
        data_seen_at=disk.seen_at / "data",
        prefix=disk.prefix,
    )
    serial, http, gateway = (
        SerialSender(station.wire, seed=3),
        HttpSender(station.url, station.auth),
        GatewaySender(broker.port),
    )
    senders = [serial, http, gateway]

    def shows_all() -> bool:
        shown = set(station.fixes())
        serial.saw(shown)
        return all(sender.sent <= shown for sender in senders)

    def status() -> object:
        return httpx.get(f"{station.url}/health/").json()["status"]

    station.start()
    try:
        station.wait_ready()
        for sender in senders:
            sender.start()
        until(lambda: len(http.acknowledged) > 20 and len(gateway.acknowledged) > 20, "the first fixes", DRAIN_S)
        for _ in range(2):
            until(lambda: status() != "failing", "the all-clear", ALARM_S)
            refused, kept = http.statuses[507], set(gateway.acknowledged)
            until(lambda kept=kept: kept <= set(station.fixes()), "what has a receipt is shown", DRAIN_S)  # type: ignore[misc]
            disk.fill()
            until(lambda count=refused: http.statuses[507] > count + 3, "a refusal", DRAIN_S)  # type: ignore[misc]
            until(lambda: status() == "failing", "the alarm", ALARM_S)
            # a later receipt is the ledger's word: what lies there is decoded, and shown, when there is room
            promised = http.acknowledged | kept
            assert promised <= set(station.fixes()), "acknowledged and not there while the disk is full"
            disk.make_room()
            taken = len(http.acknowledged), len(gateway.acknowledged)
            until(
                lambda counts=taken: (  # type: ignore[misc]
                    len(http.acknowledged) > counts[0] and len(gateway.acknowledged) > counts[1]
                ),
                "recovery without a restart",
                DRAIN_S,
            )
        for sender in senders:
            sender.finish()
        until(shows_all, "the last fix", DRAIN_S)
        until(lambda: not any(sender.unacknowledged for sender in senders), "the last acknowledgement", DRAIN_S)
        for sender in senders:
            sender.stop()
        station.stop()
        # SQLite follows the link out of /proc, so it opens a copy
        station.data_dir = shutil.copytree(disk.seen_at / "data", tmp_path / "copy")
        stored = station.stored()
    finally:
        station.close()
        for sender in senders:
            sender.stop()
    assert set(http.statuses) <= {200, 201, 507}
    assert set(stored) == serial.sent | http.sent | gateway.sent
    assert set(stored.values()) == {1}
