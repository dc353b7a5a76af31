"""Serial links over real pseudo-terminals, and captures of them: nothing is lost, nothing is heard twice."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_bridge.frames import Frame
from firmware_bridge.framing.cobs import encode_frame
from firmware_bridge.framing.meshtastic import encode_mesh_frame
from firmware_bridge.transports.capture import CaptureLink, CaptureReader
from firmware_bridge.transports.serial import SerialLink
from firmware_bridge.transports.spec import LinkSpec, link_from
from shared.errors import LinkClosed
from tests.integration.lines import Terminal, collect, now, payloads, some_payloads, started
from tests.waiting import DEADLINE_S, until

pytestmark = pytest.mark.integration


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "collar-base")
    yield terminal
    terminal.pull()


# --- devices that have to be spoken to -------------------------------------------------------------------------------


async def said_to(terminal: Terminal, words: bytes) -> bytes:
    """Wait until the link has said ``words``; return all that it said."""
    said = b""
    async with asyncio.timeout(DEADLINE_S):
        while words not in said:
            try:
                said += os.read(terminal.master, 4096)
            except BlockingIOError:
                await asyncio.sleep(0.002)
    return said


async def test_a_mesh_node_is_asked_for_its_packets_and_its_position_is_heard(terminal: Terminal) -> None:
    data = b"\x08\x03\x12\x0a" + b"\x0d\x04\x67\x94\xfe" + b"\x15\x56\x41\x16\x16"
    packet = b"\x0d\x01\x02\x03\x04\x22" + bytes((len(data),)) + data
    frame = encode_mesh_frame(b"\x12" + bytes((len(packet),)) + packet)
    async with started(SerialLink("mesh", str(terminal.path), now=now, framing="meshtastic")) as link:
        assert (await said_to(terminal, b"\x18\x01")).endswith(b"\x94\xc3\x00\x02\x18\x01")
        await terminal.write(b"INFO | heard something\r\n" + frame)
        (heard,) = await collect(link, 1)
    assert heard.frame == Frame("meshtastic", frame)


async def test_a_modem_that_listens_once_is_told_to_listen_again_after_each_packet(terminal: Terminal) -> None:
    listen = b"radio rx 0\r\n"
    async with started(SerialLink("radio", str(terminal.path), now=now, framing="rn2483")) as link:
        assert b"mac pause" in await said_to(terminal, listen)
        for _ in range(2):
            await terminal.write(b"radio_rx  00FF\r\n")
            await collect(link, 1)
            assert await said_to(terminal, listen) == listen


async def test_a_base_station_is_never_spoken_to(terminal: Terminal) -> None:
    async with started(SerialLink("base", str(terminal.path), now=now)) as link:
        await terminal.write(encode_frame(b"hello"))
        await collect(link, 1)
    with pytest.raises(BlockingIOError):
        os.read(terminal.master, 1)


# --- serial --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 4096])
async def test_every_frame_of_a_serial_line_arrives_once_in_any_chunking(terminal: Terminal, chunk: int) -> None:
    sent = some_payloads(300)
    async with started(SerialLink("base", str(terminal.path), now=now, silence_s=5)) as link:
        writing = asyncio.create_task(terminal.write(b"".join(map(encode_frame, sent)), chunk=chunk))
        assert payloads(await collect(link, len(sent))) == sent
        await writing
        assert link.status.damaged_frames == 0
        assert link.status.frames == len(sent)
        assert link.status.last_frame_at is not None


async def test_bytes_that_came_before_the_port_was_opened_are_kept(terminal: Terminal) -> None:
    sent = some_payloads(20)
    await terminal.write(b"".join(map(encode_frame, sent)))
    async with started(SerialLink("base", str(terminal.path), now=now)) as link:
        assert payloads(await collect(link, len(sent))) == sent


class Stopwatch:
    """A monotonic clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_full_inbox_makes_the_sender_wait_and_loses_nothing(terminal: Terminal) -> None:
    sent = some_payloads(6000)
    wire = b"".join(map(encode_frame, sent))
    clock = Stopwatch()
    link = SerialLink("base", str(terminal.path), now=now, max_waiting=100, silence_s=0.05, monotonic=clock)
    async with started(link):
        writing = asyncio.create_task(terminal.write(wire))
        await until(lambda: link.status.frames >= 100)
        heard_at_first = link.status.frames
        # A long wait for the reader is no silence of the line: half a frame stays half a frame.
        clock.now_s += 100
        await asyncio.sleep(0.2)
        assert link.status.frames == heard_at_first
        assert not writing.done()
        assert payloads(await collect(link, len(sent))) == sent
        await writing


async def test_a_pulled_cable_is_noticed_and_the_link_comes_back_with_it(terminal: Terminal) -> None:
    sent = some_payloads(40)
    async with started(SerialLink("base", str(terminal.path), now=now)) as link:
        for times in range(1, 4):
            await terminal.write(b"".join(map(encode_frame, sent)))
            assert payloads(await collect(link, len(sent))) == sent
            terminal.pull()
            await until(lambda: not link.status.is_up)
            assert str(terminal.path) in link.status.last_error
            terminal.plug()
            await until(lambda: link.status.is_up)
            assert link.status.reconnects == times
            assert link.status.last_error == ""


async def test_a_port_that_appears_late_is_found(tmp_path: Path) -> None:
    link = SerialLink("base", str(tmp_path / "late"), now=now)
    first = asyncio.create_task(link.read())
    await until(lambda: "cannot open" in link.status.last_error)
    terminal = Terminal(tmp_path / "late")
    await terminal.write(encode_frame(b"here"))
    async with asyncio.timeout(DEADLINE_S):
        assert payloads(await first) == [b"here"]
    await link.close()
    terminal.pull()


async def test_a_path_that_leads_to_another_device_is_followed(terminal: Terminal) -> None:
    async with started(SerialLink("base", str(terminal.path), now=now)) as link:
        old_master = terminal.master
        terminal.plug()
        await until(lambda: link.status.reconnects == 1 and link.status.is_up)
        await terminal.write(encode_frame(b"from the new one"))
        assert payloads(await collect(link, 1)) == [b"from the new one"]
        os.close(old_master)


async def test_a_false_start_does_not_hold_up_the_line(terminal: Terminal) -> None:
    async with started(SerialLink("base", str(terminal.path), now=now, silence_s=0.05)) as link:
        await terminal.write(b"\x07noise")
        await until(lambda: link.status.damaged_frames == 1)
        await terminal.write(encode_frame(b"real"))
        assert payloads(await collect(link, 1)) == [b"real"]


async def test_close_hands_over_what_was_heard_and_then_ends_the_reader(terminal: Terminal) -> None:
    link = SerialLink("base", str(terminal.path), now=now)
    async with started(link):
        await terminal.write(encode_frame(b"last words"))
        await until(lambda: link.status.frames == 1)
    assert payloads(await link.read()) == [b"last words"]
    with pytest.raises(LinkClosed):
        await link.read()


async def test_close_wakes_a_waiting_reader(terminal: Terminal) -> None:
    async with started(SerialLink("base", str(terminal.path), now=now)) as link:
        waiting = asyncio.create_task(link.read())
        await asyncio.sleep(0)
        await link.close()
        with pytest.raises(LinkClosed):
            await waiting


# --- captures ------------------------------------------------------------------------------------------------------


async def test_a_recorded_serial_line_replays_byte_for_byte(terminal: Terminal, tmp_path: Path) -> None:
    sent = some_payloads(200)
    noise = b"\x07noise\x00"
    wire = b"".join(noise + encode_frame(payload) for payload in sent)
    path = tmp_path / "line.capture"
    spec = LinkSpec(kind="serial", name="base", path=str(terminal.path), record=str(path))
    link = link_from(spec, now=now)
    writing = asyncio.create_task(terminal.write(wire))
    assert payloads(await collect(link, len(sent))) == sent
    await writing
    live = link.status
    await link.close()
    reader = CaptureReader(path)
    assert b"".join(record.data for record in reader) == wire
    assert reader.torn_bytes == 0
    reader.close()
    replay = CaptureLink("replay", path, now=now)
    assert payloads(await collect(replay, len(sent))) == sent
    with pytest.raises(LinkClosed):
        await replay.read()
    assert (replay.status.bytes_read, replay.status.damaged_frames) == (live.bytes_read, live.damaged_frames)
    await replay.close()
