"""Alarms that leave the station: files as gammu-smsd reads them, other services, once, and nothing of the past."""

# ruff: noqa: ASYNC240 - a handful of files of a test
from __future__ import annotations

import asyncio
import http.server
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.notify.delivery import LOOK_S, MOST_AN_HOUR, Alarm, Delivery
from edge.notify.sms import write_message
from edge.notify.targets import check_targets
from edge.store.store import SpatialiteStore
from shared.ending import end
from shared.errors import ConfigError, StoreError
from shared.privacy import OPERATOR, view_for
from shared.sayings import say
from tests.fakes import START, FakeClock
from tests.services import free_port

pytestmark = [pytest.mark.integration]


KEY = bytes(range(32))
#: Sooner than a way looks without being told.
WITHIN_S = LOOK_S * 2 / 3
#: As gammu-smsd-files(7) describes the names that it sends.
NAME = re.compile(r"OUT[A-Z]\d{8}_\d{6}_\d\d_\+?\d+_[^_]+\.txt")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SpatialiteStore]:
    store = SpatialiteStore(tmp_path / "station.db", KEY, now=lambda: START, readers=1)
    yield store
    await store.close()


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    folder = tmp_path / "outbox"
    folder.mkdir()
    return folder


def delivery(store: SpatialiteStore, outbox: Path | None = None, targets: tuple[str, ...] = ()) -> Delivery:
    numbers = ("+254700000001", "+254700000002")
    return Delivery(
        store, FakeClock(), "north", severity="high", sms_outbox=outbox, sms_to=numbers if outbox else (),
        targets=targets,
    )  # fmt: skip


async def raise_alert(store: SpatialiteStore, title: str, severity: str = "critical", **more: Any) -> str:
    columns = {
        "alert_type": "high_risk_zone", "severity": severity, "status": "active", "title": title, "message": "",
        "detected_at": START, "lat": -2.65, "lon": 37.26, **more,
    }  # fmt: skip
    return (await store.create_alert(view_for(OPERATOR), columns)).id


async def turns(each: Delivery) -> int:
    return sum([await each.turn(way) for way in each.ways])


@pytest.mark.parametrize(("text", "read"), [("Naisha is in Kimana", "ascii"), ("Naïsha ist in Kimana", "utf-16")])
def test_a_message_is_a_file_as_the_daemon_reads_it(outbox: Path, text: str, read: str) -> None:
    at = datetime(2026, 11, 28, 4, 5, 6, tzinfo=UTC)
    file = write_message(outbox, "+254700000001", text, severity="critical", serial=0, at=at, note="a1")
    assert file.name == "OUTA20261128_040506_00_+254700000001_a1.txt"
    assert file.read_bytes().decode(read) == text
    assert [each.name for each in outbox.iterdir()] == [file.name]


def test_a_text_stays_one_message(outbox: Path) -> None:
    for text, most in (("x" * 500, 160), ("ï" * 500, 70)):
        file = write_message(outbox, "1", text, severity="low", serial=0, at=START, note="a")
        body = file.read_bytes()
        assert len(body.decode("ascii" if text.isascii() else "utf-16")) == most


def test_an_outbox_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the message waits"):
        write_message(tmp_path / "none", "1", "x", severity="low", serial=0, at=START, note="a")


async def test_a_grave_alarm_goes_once_to_every_number_and_names_no_place(store: SpatialiteStore, outbox: Path) -> None:
    await raise_alert(store, "of last week")
    out = delivery(store, outbox)
    await out.begin()
    assert await turns(out) == 0, "nothing from before it was configured"
    await raise_alert(store, "Naisha is in Kimana")
    await raise_alert(store, "a battery is low", severity="medium")
    await raise_alert(store, "closed already", status="resolved")
    assert await turns(out) == 1
    assert await turns(out) == 0
    again = delivery(store, outbox)  # the next start
    await again.begin()
    assert await turns(again) == 0
    files = sorted(outbox.iterdir())
    assert [bool(NAME.fullmatch(file.name)) for file in files] == [True, True]
    for file in files:
        text = file.read_text()
        assert text == "OUTPOST north: Naisha is in Kimana (critical, 12:00 UTC)"
        assert "2.65" not in text
        assert "37.26" not in text


async def test_an_alarm_is_told_in_the_language_of_the_station(store: SpatialiteStore, outbox: Path) -> None:
    each = Delivery(
        store, FakeClock(), "north", severity="high", sms_outbox=outbox, sms_to=("+254700000001",), targets=(),
        language="sw",
    )  # fmt: skip
    await each.begin()
    await raise_alert(store, say("alarm.still", animal="Naisha", hours=7))
    assert await turns(each) == 1
    (file,) = outbox.glob("OUT*.txt")
    assert file.read_text(encoding="ascii") == "OUTPOST north: Naisha hajasogea kwa saa 7 (hatari kubwa, 12:00 UTC)"


async def test_a_modem_that_is_gone_keeps_the_alarm_until_it_is_back(store: SpatialiteStore, outbox: Path) -> None:
    out = delivery(store, outbox)
    await out.begin()
    outbox.rmdir()
    await raise_alert(store, "Naisha is in Kimana")
    assert await turns(out) == 0
    (way,) = out.ways
    assert way.last_error
    assert way.wait_s > 30
    outbox.mkdir()
    assert await turns(out) == 1
    assert not way.last_error
    assert len(list(outbox.iterdir())) == 2


async def test_a_storm_of_alarms_ends_in_one_message_that_says_so(store: SpatialiteStore, outbox: Path) -> None:
    out = delivery(store, outbox)
    await out.begin()
    for n in range(MOST_AN_HOUR + 5):
        await raise_alert(store, f"alarm {n}")
    assert await turns(out) == MOST_AN_HOUR + 1
    assert len(list(outbox.iterdir())) == 2 * (MOST_AN_HOUR + 1)
    assert sum("many alarms" in file.read_text() for file in outbox.iterdir()) == 2
    assert await turns(out) == 0


async def test_an_alarm_waits_for_no_look_where_another_way_was_quicker(store: SpatialiteStore, outbox: Path) -> None:
    out = delivery(store, outbox, ("json://127.0.0.1",))
    await out.begin()
    slow, quick = out.ways
    told: dict[str, list[str]] = {"slow": [], "quick": []}
    is_free, has_begun = asyncio.Event(), asyncio.Event()

    async def hold(alarm: Alarm, _text: str) -> None:
        has_begun.set()
        await is_free.wait()
        told["slow"].append(alarm.title)

    async def take(alarm: Alarm, _text: str) -> None:
        told["quick"].append(alarm.title)

    slow.hand_over, quick.hand_over = hold, take
    running = asyncio.create_task(out.run())
    try:
        await raise_alert(store, "first")
        out.wake()
        await has_begun.wait()
        await until(lambda: told["quick"] == ["first"])
        await raise_alert(store, "second")
        out.wake()
        await until(lambda: told["quick"] == ["first", "second"])
        is_free.set()
        await until(lambda: told["slow"] == ["first", "second"])
    finally:
        await end(running)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - what ways have told, no event
            await asyncio.sleep(0.01)


class Hook(http.server.BaseHTTPRequestHandler):
    """A service that takes JSON."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append(msgspec.json.decode(body))  # type: ignore[attr-defined] # a server of ours
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hook() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.heard = []  # type: ignore[attr-defined] # filled by the handler
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def test_another_service_is_told_the_same_and_one_that_is_gone_holds_up_no_sms(
    store: SpatialiteStore, outbox: Path, hook: http.server.ThreadingHTTPServer
) -> None:
    gone = delivery(store, outbox, (f"json://127.0.0.1:{free_port()}/",))
    await gone.begin()
    await raise_alert(store, "Naisha is in Kimana")
    assert await turns(gone) == 1, "the SMS alone"
    there = delivery(store, outbox, (f"json://127.0.0.1:{hook.server_address[1]}/",))
    assert await turns(there) == 1, "what the service was not told yet"
    (heard,) = hook.heard  # type: ignore[attr-defined] # as above
    assert heard["message"] == "OUTPOST north: Naisha is in Kimana (critical, 12:00 UTC)"
    assert await turns(there) == 0


def test_an_address_that_no_service_has_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError) as refusal:
        check_targets(["json://localhost", "nosuchthing://secret-token"])
    assert "number 2" in refusal.value.detail
    assert "secret" not in refusal.value.detail
