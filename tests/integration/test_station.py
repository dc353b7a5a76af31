"""The whole station: a real terminal, a real broker and HTTP at once, every fix once, and an end in order."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import time
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge.app import Tasks, running, url_file
from edge.config import ApiSection, ClockSection, Config, LedgerSection, StationSection, StoreSection
from edge.store.ledger import LedgerReader
from firmware_bridge.codecs.opencollar import PORT_SHORT, encode_short
from firmware_bridge.codecs.outpost_json import encode_fix
from firmware_bridge.codecs.station_frame import pack_station_frame
from firmware_bridge.framing.cobs import encode_frame
from firmware_bridge.transports.broker import BrokerAddress
from firmware_bridge.transports.publisher import MqttPublisher
from firmware_bridge.transports.spec import LinkSpec, link_from
from shared.errors import ConfigError, WrongKey
from tests.access import operator_of_station
from tests.services import Broker

pytestmark = pytest.mark.integration

DEADLINE_S = 120.0
#: What is promised of a start.
READY_S = 10.0
KEY = "0f" * 32
START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=5)
SERIAL, RADIO, OWN = "0101010101010101", "0202020202020202", "K3"


class Terminal:
    """A cable behind a path; the test is the base station at its other end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        path.symlink_to(os.ttyname(self._slave))

    def send(self, payload: bytes) -> None:
        os.write(self._master, encode_frame(payload))

    def close(self) -> None:
        os.close(self._master)
        os.close(self._slave)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "tty-base")
    yield terminal
    terminal.close()


def config_of(folder: Path, *links: LinkSpec, **sections: Any) -> Config:
    key_file = folder / "station.key"
    if not key_file.exists():
        key_file.write_text(KEY)
    default: dict[str, Any] = {
        "station": StationSection(data_dir=folder / "data"),
        "store": StoreSection(key_file=key_file),
        "api": ApiSection(port=0),
        "links": links,
    }
    return Config(**{**default, **sections})


def serial(terminal: Terminal) -> LinkSpec:
    return LinkSpec(kind="serial", name="base", path=str(terminal.path))


def mqtt(broker: Broker) -> LinkSpec:
    return LinkSpec(kind="mqtt", name="broker", host=broker.host, port=broker.port, client_id="station")


def gateway_of(broker: Broker) -> MqttPublisher:
    return MqttPublisher("gateway", BrokerAddress(host=broker.host, port=broker.port, client_id="gateway"))


def message(hour: int) -> bytes:
    return encode_short(recorded_at=START + timedelta(hours=hour), lat_deg=-2.5, lon_deg=37.5 + hour / 1000)


def station_frame(hour: int) -> bytes:
    return pack_station_frame(SERIAL, PORT_SHORT, -90, 7.0, message(hour))


def chirpstack(hour: int) -> bytes:
    return json.dumps({
        "deviceInfo": {"devEui": RADIO}, "fPort": PORT_SHORT, "data": base64.b64encode(message(hour)).decode(),
        "rxInfo": [{"gatewayId": "g", "rssi": -100, "snr": 3.5}],
    }).encode()  # fmt: skip


def own_json(hour: int) -> bytes:
    at = START + timedelta(hours=hour)
    return encode_fix(collar_id=OWN, recorded_at=at, lon_deg=37.5 + hour / 1000, lat_deg=-2.5, battery_mv=3600)


def posted(hour: int) -> dict[str, object]:
    at = START + timedelta(hours=hour)
    return {"collar_id": "K4", "timestamp": at.isoformat(), "lat": -2.5, "lon": 37.5 + hour / 1000}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():  # noqa: ASYNC110 - it asks another program
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def station(config: Config) -> AsyncIterator[httpx.AsyncClient]:
    auth = operator_of_station(config.database, config.key(), config.station.id)
    async with running(config) as url, httpx.AsyncClient(base_url=url, timeout=DEADLINE_S, auth=auth) as client:
        yield client


async def detail(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/health/detail")
    assert answer.status_code == 200, answer.text
    facts: dict[str, Any] = answer.json()
    return facts


async def stored(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    page: str | None = "/api/v1/tracking/?page_size=500&ordering=timestamp"
    while page:
        answer = await client.get(page)
        assert answer.status_code == 200, answer.text
        rows += answer.json()["results"]
        page = answer.json()["next"]
    return rows


async def until_settled(client: httpx.AsyncClient, fixes: int, *, frames: int = 0) -> None:
    async def is_settled() -> bool:
        facts = await detail(client)
        is_all_heard = sum(link["frames"] for link in facts["links"]) >= frames
        return bool(is_all_heard and facts["store"]["fixes"] >= fixes and facts["ledger"]["pending"] == 0)

    await until(is_settled)


async def test_every_fix_of_every_link_is_stored_once(tmp_path: Path, terminal: Terminal, broker: Broker) -> None:
    config = config_of(tmp_path, serial(terminal), mqtt(broker))
    async with station(config) as client:
        assert url_file(config).read_text().strip() == str(client.base_url).rstrip("/")
        assert (await client.get("/health/ready")).json() == {"status": "ready"}
        await until(lambda: are_up(client, 2))
        listening = asyncio.Event()
        events = asyncio.create_task(first_events(client, 16, listening))
        await listening.wait()
        publisher = gateway_of(broker)
        try:
            for hour in range(4):
                for _ in range(2):  # everything is said twice
                    terminal.send(station_frame(hour))
                    await publisher.publish(f"application/1/device/{RADIO}/event/up", chirpstack(hour))
                    await publisher.publish("outpost/station/gate/fix", own_json(hour))
                    answer = await client.post("/api/v1/tracking/", json=posted(hour))
                    assert answer.status_code in (200, 201), answer.text
            terminal.send(b"\x01noise")
            await until_settled(client, 16, frames=9 + 16)
        finally:
            await publisher.close()

        rows = await stored(client)
        assert len(rows) == 16
        await until(lambda: has_frames(client, 13))
        facts = await detail(client)
        assert facts["store"]["fixes"] == 16
        assert facts["store"]["is_encrypted"]
        assert facts["ledger"] == {"frames": 13, "pending": 0, "undecoded": 1}
        assert {link["name"]: (link["is_up"], link["frames"]) for link in facts["links"]} == {
            "base": (True, 9), "broker": (True, 16),
        }  # fmt: skip
        heard = await events
        assert {name for name, _ in heard} == {"fix"}
        places = {(fix["collar_id"], fix["recorded_at"]) for _, fix in heard}
        assert len(places) == 16  # by radio, by the broker and by HTTP, each once
        assert {collar for collar, _ in places} == {f"eui:{SERIAL}", f"eui:{RADIO}", OWN, "K4"}
    assert not url_file(config).exists()

    began = time.monotonic()
    async with station(config) as client:  # and it is there again at once, with all of it
        assert time.monotonic() - began < READY_S
        assert await stored(client) == rows
        assert (await detail(client))["ledger"]["frames"] == 13


async def are_up(client: httpx.AsyncClient, count: int) -> bool:
    return len([link for link in (await detail(client))["links"] if link["is_up"]]) == count


async def has_frames(client: httpx.AsyncClient, count: int) -> bool:
    kept = (await detail(client))["ledger"]
    return [kept["frames"], kept["pending"]] == [count, 0]


async def first_events(
    client: httpx.AsyncClient, count: int, listening: asyncio.Event
) -> list[tuple[str, dict[str, Any]]]:
    """Return the first ``count`` events that the station sends."""
    heard: list[tuple[str, dict[str, Any]]] = []
    name = ""
    async with asyncio.timeout(DEADLINE_S), client.stream("GET", "/api/v1/events") as stream:
        async for line in stream.aiter_lines():
            listening.set()
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                heard.append((name, json.loads(line.removeprefix("data: "))))
                if len(heard) == count:
                    break
    return heard


async def test_a_gateway_gets_a_receipt_for_what_is_on_disk(tmp_path: Path, broker: Broker) -> None:
    gateway = link_from(
        LinkSpec(kind="mqtt", name="gate", host=broker.host, port=broker.port, topics=("outpost/+/+/ack",)),
        now=lambda: datetime.now(UTC),
    )
    async with station(config_of(tmp_path, mqtt(broker))) as client:
        reading = asyncio.create_task(gateway.read())
        await until(lambda: are_up(client, 1))

        async def is_listening() -> bool:
            return gateway.status.is_up

        await until(is_listening)
        publisher = gateway_of(broker)
        try:
            await publisher.publish("outpost/station/gate/fix", own_json(0))
            async with asyncio.timeout(DEADLINE_S):
                (receipt,) = await reading
        finally:
            await publisher.close()
            await gateway.close()
        assert receipt.frame.topic == "outpost/station/gate/ack"
        assert json.loads(receipt.frame.payload)["collar_id"] == OWN


async def test_what_a_dead_station_had_acknowledged_is_decoded_after_its_restart(
    tmp_path: Path, terminal: Terminal
) -> None:
    config = config_of(tmp_path, serial(terminal))
    async with station(config) as client:
        terminal.send(station_frame(0))
        await until_settled(client, 1)
    for path in config.station.data_dir.glob("station.db*"):  # the database is lost, the ledger is not
        path.unlink()
    async with station(config) as client:
        await until_settled(client, 1)
        (row,) = await stored(client)
        assert row["collar_id"] == f"eui:{SERIAL}"


async def test_another_key_is_refused_and_nothing_is_made(tmp_path: Path, terminal: Terminal) -> None:
    config = config_of(tmp_path, serial(terminal))
    async with station(config) as client:
        terminal.send(station_frame(0))
        await until_settled(client, 1)
    config.store.key_file.write_text("aa" * 32)
    with pytest.raises(WrongKey):
        async with station(config):
            pass
    for path in config.station.data_dir.glob("station.db*"):
        path.unlink()
    with pytest.raises(WrongKey):  # a new database would not hide that the ledger is another's
        async with station(config):
            pass
    assert not config.database.exists()


async def test_a_damaged_ledger_stops_no_station(tmp_path: Path, terminal: Terminal) -> None:
    config = config_of(tmp_path, serial(terminal), ledger=LedgerSection(dir=str(tmp_path / "other-medium")))
    async with station(config) as client:
        terminal.send(station_frame(0))
        await until_settled(client, 1)
    (segment,) = config.ledger_dir.glob("ledger-*.db")
    segment.write_bytes(os.urandom(segment.stat().st_size))
    evidence = segment.read_bytes()
    async with station(config) as client:
        terminal.send(station_frame(1))
        await until_settled(client, 2)
    assert segment.read_bytes() == evidence
    reader = LedgerReader(config.ledger_dir, bytes.fromhex(KEY))
    assert len(reader.read(0, 10)) == 1
    assert list(reader.damaged) == [segment]
    reader.close()


async def test_a_station_without_encryption_or_links_runs(tmp_path: Path) -> None:
    config = config_of(tmp_path, store=StoreSection(is_encrypted=False), api=ApiSection(host="::1", port=0))
    async with station(config) as client:
        facts = await detail(client)
        assert facts["store"]["is_encrypted"] is False
        assert "[::1]" in str(client.base_url)


async def test_a_virtual_clock_dates_what_is_heard(tmp_path: Path, terminal: Terminal) -> None:
    start = datetime(2010, 1, 1, tzinfo=UTC)
    clock = ClockSection(virtual_start=start, virtual_speed=60, virtual_origin_s=time.monotonic())
    async with station(config_of(tmp_path, serial(terminal), clock=clock)) as client:
        facts = await detail(client)
        assert facts["clock"]["now"].startswith("2010-01-01T")
        assert facts["clock"]["is_sure"]
        terminal.send(station_frame(0))
        await until_settled(client, 1)
        (row,) = await stored(client)
        assert row["timestamp"].startswith(f"{START:%Y-%m-%dT%H}")


async def test_a_port_that_is_taken_is_refused_and_leaves_nothing_open(tmp_path: Path) -> None:
    async with station(config_of(tmp_path)) as client:
        folder = tmp_path / "other"
        folder.mkdir()
        with pytest.raises(ConfigError, match="choose another with --port"):
            async with running(config_of(folder, api=ApiSection(port=client.base_url.port or 0))):
                pass


async def test_a_second_station_on_the_same_data_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    async with station(config):
        with pytest.raises(ConfigError, match="another station"):
            async with running(config):
                pytest.fail("two stations would give out the same places in the ledger")
    async with station(config) as client:
        assert (await client.get("/health/ready")).status_code == 200


async def test_a_task_that_falls_ends_the_station_and_is_named() -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)

    async def fall() -> None:
        raise RuntimeError("a fault of ours")

    try:
        tasks = Tasks()
        tasks.start("decode", fall())
        async with asyncio.timeout(DEADLINE_S):
            await ended.wait()
        assert tasks.fallen == "decode"
        await tasks.cancel()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def test_a_person_sets_the_clock_where_nothing_better_is_at_hand(tmp_path: Path) -> None:
    async with station(config_of(tmp_path)) as client:
        before = (await detail(client))["clock"]
        told = datetime.now(UTC) + timedelta(days=3)
        answer = await client.put("/health/clock", json={"utc": told.isoformat()})
        if before["state"] == "ntp":
            assert answer.status_code == 409, answer.text
            return
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == "admin"
        assert (await detail(client))["clock"]["is_sure"]
        assert abs(datetime.fromisoformat(answer.json()["now"]) - told) < timedelta(minutes=1)
        for wrong in ("1999-01-01T00:00:00Z", "yesterday", "2030-01-01T00:00:00"):
            refused = await client.put("/health/clock", json={"utc": wrong})
            assert refused.status_code in (400, 409), refused.text
        assert (await detail(client))["clock"]["state"] == "admin"


async def test_the_clock_of_a_replay_is_not_set(tmp_path: Path) -> None:
    clock = ClockSection(virtual_start=datetime(2020, 1, 1, tzinfo=UTC), virtual_origin_s=time.monotonic())
    async with station(config_of(tmp_path, clock=clock)) as client:
        answer = await client.put("/health/clock", json={"utc": "2030-01-01T00:00:00Z"})
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
