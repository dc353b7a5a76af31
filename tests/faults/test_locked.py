"""A station that starts without its key hears, keeps, and shows nothing; unlocked, it has all that it acknowledged."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from edge.cli import cli
from edge.ingest.group_commit import LedgerWriter
from edge.ingest.intake import replay
from edge.store.ledger import Entry, Ledger, LedgerReader
from edge.store.spool import Spool, files_of, keep_public, read, read_public
from shared.errors import StoreFull
from tests.faults.station_process import GatewaySender, SerialSender, StationProcess, until
from tests.services import Broker

pytestmark = [pytest.mark.faults]

KEY = bytes(range(32))
IS_NIGHTLY = os.environ.get("OUTPOST_NIGHTLY") == "1"
#: That a start is quick is what other tests promise.
PATIENCE_S = 90.0
KILLS = 40 if IS_NIGHTLY else 4


def entry(n: int) -> Entry:
    return Entry("base", "cobs", "", b"where the animal is %d" % n, 1_700_000_000_000 + n, n, "ntp")


def spool(folder: Path) -> Spool:
    keep_public(folder, KEY)
    public = read_public(folder)
    assert public is not None
    return Spool(folder / "spool", public)


def entries_of(folder: Path, damaged: list[str] | None = None, key: bytes = KEY) -> list[Entry]:
    told = [] if damaged is None else damaged
    return [each for path in files_of(folder / "spool") for record in read(path, key, told) for each in record]


def test_what_is_sealed_opens_with_the_stations_key_alone_and_in_order(tmp_path: Path) -> None:
    one = spool(tmp_path)
    one.append([entry(1), entry(2)])
    one.append([entry(3)])
    one.close()
    another = spool(tmp_path)  # a second start, still locked
    another.append([entry(4)])
    another.close()
    assert entries_of(tmp_path) == [entry(n) for n in (1, 2, 3, 4)]
    damaged: list[str] = []
    assert entries_of(tmp_path, damaged, key=bytes(32)) == []
    assert len(damaged) == 3
    kept = b"".join(path.read_bytes() for path in files_of(tmp_path / "spool"))
    assert b"animal" not in kept
    assert b"base" not in kept


@pytest.mark.parametrize("seed", range(20))
def test_a_torn_end_costs_what_was_not_acknowledged_and_a_flipped_bit_one_record(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    one = spool(tmp_path)
    ends = []
    for n in range(10):
        one.append([entry(n)])
        ends.append(files_of(tmp_path / "spool")[0].stat().st_size)
    one.close()
    (file,) = files_of(tmp_path / "spool")
    raw = file.read_bytes()
    cut = rng.randrange(16, len(raw))
    file.write_bytes(raw[:cut])
    damaged: list[str] = []
    assert entries_of(tmp_path, damaged) == [entry(n) for n, end in enumerate(ends) if end <= cut]
    assert damaged == []
    at = rng.randrange(20 + 32, ends[0])  # in the first record's sealed bytes
    file.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    assert entries_of(tmp_path, damaged) == [entry(n) for n in range(1, 10)]
    assert len(damaged) == 1


def test_a_disk_that_refuses_is_told_and_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = spool(tmp_path)
    one.append([entry(1)])

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", refuse)
        with pytest.raises(StoreFull):
            one.append([entry(2)])
    one.append([entry(3)])
    one.close()
    assert entries_of(tmp_path) == [entry(1), entry(3)]


async def test_a_replay_that_is_cut_short_is_done_again_and_stores_once(tmp_path: Path) -> None:
    one = spool(tmp_path)
    for n in range(5):
        one.append([entry(n)])
    one.close()
    kept = [(path, path.read_bytes()) for path in files_of(tmp_path / "spool")]
    ledger = LedgerWriter(Ledger(tmp_path / "ledger", KEY, boot="a"))
    assert await replay(tmp_path / "spool", KEY, ledger) == 5
    assert files_of(tmp_path / "spool") == []
    for path, raw in kept:  # as if it had been killed before they were removed
        path.write_bytes(raw)
    await replay(tmp_path / "spool", KEY, ledger)
    await ledger.close()
    reader = LedgerReader(tmp_path / "ledger", KEY)
    assert [row.payload for row in reader.read(0, 100)] == [entry(n).payload for n in range(5)]
    reader.close()


def word_of(station: StationProcess) -> str:
    try:
        return str(httpx.get(f"{station.url}/health/ready", timeout=2).json()["status"])
    except (httpx.TransportError, ValueError):
        return ""


@pytest.mark.slow
@pytest.mark.timeout(3600 if IS_NIGHTLY else 600)
def test_a_locked_station_that_is_killed_again_and_again_loses_nothing_that_it_acknowledged(
    tmp_path: Path, broker: Broker
) -> None:
    rng = random.Random(7)
    station = StationProcess(tmp_path / "station", broker_port=broker.port)
    key_file = tmp_path / "station" / "station.key"
    token = tmp_path / "token.key"  # the medium that somebody carries
    serial, gateway = SerialSender(station.wire, seed=3), GatewaySender(broker.port)
    station.start()
    try:
        until(lambda: word_of(station) == "ready", "the first start", PATIENCE_S)
        station.stop()
        key_file.rename(token)
        station.start()
        until(lambda: word_of(station) == "locked", "the locked station", PATIENCE_S)
        gateway.start()
        for _ in range(KILLS):
            before = len(gateway.acknowledged)
            until(lambda known=before: len(gateway.acknowledged) > known + 5, "acknowledged fixes", PATIENCE_S)  # type: ignore[misc]
            time.sleep(rng.uniform(0, 0.3))
            station.kill()
            station.start()
            until(lambda: word_of(station) == "locked", "the locked station", PATIENCE_S)
        assert httpx.get(f"{station.url}/health/").status_code == 503
        assert httpx.get(f"{station.url}/api/v1/tracking/").status_code == 404
        assert httpx.post(f"{station.url}/unlock", json={"key": "00" * 32}).json()["code"] == "wrong_key"
        for file in (station.data_dir / "spool").iterdir():
            assert b"MQ1" not in file.read_bytes()
        serial.start()
        until(lambda: httpx.get(f"{station.url}/health/detail").json()["frames"] > 20, "frames", PATIENCE_S)
        config = str(tmp_path / "station" / "station.toml")
        unlocked = CliRunner().invoke(cli, ["unlock", "--key-file", str(token), "--config", config])
        assert unlocked.exit_code == 0, unlocked.output
        until(lambda: word_of(station) == "ready", "readiness", PATIENCE_S)
        serial.finish()
        gateway.finish()

        def has_all() -> bool:
            shown = station.fixes()
            serial.saw(shown)
            return not gateway.unacknowledged and not serial.unacknowledged and gateway.sent <= set(shown)

        until(has_all, "every fix", PATIENCE_S * 2)
        assert list((station.data_dir / "spool").glob("*.sealed")) == []
        lines = httpx.get(f"{station.url}/api/v1/audit/", auth=station.auth).json()["results"]
        assert any(line["action"] == "station.unlocked" for line in lines)
        station.stop()
        token.rename(key_file)  # plugged in again
        stored = station.stored()
        assert set(stored) == gateway.sent | serial.sent
        assert set(stored.values()) == {1}
    finally:
        station.close()
        gateway.stop()
        serial.stop()
