"""From a link to the ledger: acknowledged after the commit and never before."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from edge.ingest.group_commit import MAX_FRAMES
from edge.ingest.receive import receipt_for, receive
from edge.store.ledger import Entry, LedgerReader
from firmware_bridge.frames import Frame
from shared.clock import ClockState
from shared.errors import StoreFull
from shared.sync.records import to_ms
from tests.fakes import START, FakeClock
from tests.integration.ingesting import KEY, FakeLink, json_fix, nothing, task, writing
from tests.waiting import until

pytestmark = pytest.mark.integration


# --- the order of events
async def test_a_receipt_goes_out_after_the_commit_and_the_acknowledgement_comes_last(tmp_path: Path) -> None:
    told: list[str] = []
    link = FakeLink(told=told)
    async with writing(tmp_path, told) as (writer, ledger):
        ledger.gate.clear()
        async with task(receive(link, writer, FakeClock(), lambda: told.append("woke the decoder"))) as running:
            link.hear(json_fix(), topic="outpost/station/gate/fix", framing="mqtt")
            await until(lambda: ledger.attempts == 1)
            assert told == []  # the commit is under way and nobody has been told anything
            ledger.gate.set()
            await until(lambda: len(told) == 4)
            assert told == ["committed 1", "woke the decoder", "published outpost/station/gate/ack", "acknowledged 1"]
            await link.close()
            await running


async def test_copies_get_one_receipt_and_are_acknowledged_after_it(tmp_path: Path) -> None:
    link = FakeLink()
    async with writing(tmp_path) as (writer, _), task(receive(link, writer, FakeClock(), nothing)):
        copies = [json_fix(hours) for _ in range(100) for hours in range(3)]
        link.hear(*copies, topic="outpost/station/gate/fix", framing="mqtt")
        await until(lambda: len(link.acknowledged) == 300)
        assert link.told == ["published outpost/station/gate/ack"] * 3 + ["acknowledged 300"]
        assert len({body for _, body in link.published}) == 3


async def test_what_was_heard_is_in_the_ledger_with_time_clock_and_device(tmp_path: Path) -> None:
    link, clock = FakeLink(device="eui:aa"), FakeClock(state=ClockState.HELD)
    async with writing(tmp_path) as (writer, _), task(receive(link, writer, clock, nothing)):
        link.hear(b"one", b"two")
        await until(lambda: len(link.acknowledged) == 2)
        reader = LedgerReader(tmp_path, KEY)
        rows = reader.read(0, 10)
        reader.close()
    assert [(row.payload, row.device, row.received_ms, row.clock, row.link) for row in rows] == [
        (b"one", "eui:aa", to_ms(START), "held", "base"), (b"two", "eui:aa", to_ms(START), "held", "base"),
    ]  # fmt: skip


async def test_a_full_disk_acknowledges_nothing_holds_the_frames_and_recovers(tmp_path: Path) -> None:
    link = FakeLink()
    async with writing(tmp_path) as (writer, ledger), task(receive(link, writer, FakeClock(), nothing)):
        ledger.is_full = True
        first, second = link.hear(b"one"), link.hear(b"two")
        await until(lambda: ledger.attempts == 2)  # it has tried again
        assert str(writer.refusal) == "no room"
        assert link.reads == 1  # back-pressure: it reads no more
        assert not link.acknowledged
        ledger.is_full = False
        await until(lambda: len(link.acknowledged) == 2)
        assert link.acknowledged == [*first, *second]
        assert writer.refusal is None
        assert (await writer.facts()).frames == 2


async def test_a_peer_that_is_gone_at_the_acknowledgement_costs_nothing(tmp_path: Path) -> None:
    link = FakeLink()
    async with writing(tmp_path) as (writer, ledger), task(receive(link, writer, FakeClock(), nothing)):
        link.is_deaf = True
        link.hear(b"one")
        await until(lambda: ledger.commits == [1] and link.reads == 2)
        link.is_deaf = False
        link.hear(b"one")  # sent again
        await until(lambda: len(link.acknowledged) == 1)
        assert (await writer.facts()).frames == 1


# --- group commit
async def test_frames_of_many_links_share_few_commits(tmp_path: Path) -> None:
    async with writing(tmp_path) as (writer, ledger):
        ledger.gate.clear()
        entries = [Entry(f"l{n}", "cobs", "", b"x", to_ms(START), 0, "ntp") for n in range(50)]
        first = asyncio.create_task(writer.append(entries[:1]))
        await until(lambda: ledger.attempts == 1)
        waiting = [first, *(asyncio.create_task(writer.append([entry])) for entry in entries[1:])]
        await asyncio.sleep(0)
        assert not any(each.done() for each in waiting)
        ledger.gate.set()
        seqs = await asyncio.gather(*waiting)
        assert ledger.commits == [1, 49]
        assert sorted(set(seqs)) == [1, 50]


async def test_a_commit_is_bounded_and_loses_nothing(tmp_path: Path) -> None:
    async with writing(tmp_path) as (writer, ledger):
        ledger.gate.clear()

        def batch(seed: int) -> list[Entry]:
            payloads = (b"%d %d" % (seed, n) for n in range(300))
            return [Entry("l", "cobs", "", payload, to_ms(START), 0, "ntp") for payload in payloads]

        waiting = [asyncio.create_task(writer.append(batch(seed))) for seed in range(20)]
        await until(lambda: ledger.attempts == 1)
        ledger.gate.set()
        await asyncio.gather(*waiting)
        assert sum(ledger.commits) == 6000
        assert max(ledger.commits) < MAX_FRAMES + 300
        assert (await writer.facts()).frames == 6000


async def test_a_refused_commit_is_told_to_those_whose_frames_it_held_alone(tmp_path: Path) -> None:
    async with writing(tmp_path) as (writer, ledger):
        ledger.is_full = True
        with pytest.raises(StoreFull):
            await writer.append([Entry("l", "cobs", "", b"x", to_ms(START), 0, "ntp")])
        ledger.is_full = False
        assert await writer.append([Entry("l", "cobs", "", b"y", to_ms(START), 0, "ntp")]) == 1


async def test_closing_commits_what_waits_though_nobody_waits_for_it(tmp_path: Path) -> None:
    async with writing(tmp_path) as (writer, ledger):
        ledger.gate.clear()
        waiting = asyncio.create_task(writer.append([Entry("l", "cobs", "", b"x", to_ms(START), 0, "ntp")]))
        await until(lambda: ledger.attempts == 1)
        waiting.cancel()
        ledger.gate.set()
    reader = LedgerReader(tmp_path, KEY)
    assert len(reader.read(0, 10)) == 1
    reader.close()


# --- receipts
def test_a_receipt_names_the_digest_and_the_fix() -> None:
    payload = json_fix(seq=7)
    receipt = receipt_for(Frame("mqtt", payload, "outpost/station/gate/fix"))
    assert receipt is not None
    assert receipt[0] == "outpost/station/gate/ack"
    assert json.loads(receipt[1]) == {
        "sha256": hashlib.sha256(payload).hexdigest(), "status": "kept", "collar_id": "K1",
        "recorded_at": "2026-06-01T12:00:00Z", "seq": 7,
    }  # fmt: skip


def test_a_receipt_of_what_cannot_be_read_says_that_it_is_kept_and_why() -> None:
    receipt = receipt_for(Frame("mqtt", b"not json", "outpost/station/gate/fix"))
    assert receipt is not None
    body = json.loads(receipt[1])
    assert body["sha256"] == hashlib.sha256(b"not json").hexdigest()
    assert body["status"] == "undecoded"
    assert body["detail"]


@pytest.mark.parametrize("topic", ["", "application/1/device/0101010101010101/event/up", "outpost/s/g/ack", "x/fix"])
def test_nobody_else_gets_a_receipt(topic: str) -> None:
    assert receipt_for(Frame("mqtt" if topic else "cobs", b"{}", topic)) is None
