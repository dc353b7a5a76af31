from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware_bridge.framing.cobs import encode_frame
from firmware_bridge.transports.capture import CaptureLink, CaptureReader, CaptureRecord, CaptureWriter, RecordKind
from shared.errors import ConfigError, LinkClosed

pytestmark = pytest.mark.unit

KINDS: list[RecordKind] = ["chunk", "message", "silence"]
SAID = st.tuples(st.sampled_from(KINDS), st.text("a/é\N{ELEPHANT}", max_size=20), st.binary(max_size=200))


def now() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)


def written(path: Path, said: list[tuple[RecordKind, str, bytes]]) -> None:
    writer = CaptureWriter(path)
    for kind, topic, data in said:
        writer.tap(kind, topic, data)
    writer.close()


def records(path: Path) -> tuple[list[CaptureRecord], CaptureReader]:
    reader = CaptureReader(path)
    found = list(reader)
    reader.close()
    return found, reader


async def replayed(link: CaptureLink) -> list[bytes]:
    payloads: list[bytes] = []
    while True:
        try:
            payloads += [each.frame.payload for each in await link.read()]
        except LinkClosed:
            await link.close()
            return payloads


@given(st.lists(SAID, max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_written_is_read(tmp_path: Path, said: list[tuple[RecordKind, str, bytes]]) -> None:
    path = tmp_path / "any.capture"
    path.unlink(missing_ok=True)
    written(path, said)
    found, reader = records(path)
    assert [(record.kind, record.topic, record.data) for record in found] == said
    assert (reader.torn_bytes, reader.damaged) == (0, 0)


def test_a_torn_tail_is_left_and_a_writer_that_goes_on_cuts_it_off(tmp_path: Path) -> None:
    path = tmp_path / "torn.capture"
    written(path, [("chunk", "", b"first"), ("chunk", "", b"second")])
    whole = path.read_bytes()
    for cut in range(1, 30):
        path.write_bytes(whole[:-cut])
        found, reader = records(path)
        assert [record.data for record in found] == [b"first"]
        assert reader.torn_bytes > 0
        written(path, [("chunk", "", b"third")])
        assert [record.data for record in records(path)[0]] == [b"first", b"third"]


def test_a_damaged_record_is_counted_and_stepped_over(tmp_path: Path) -> None:
    path = tmp_path / "damaged.capture"
    written(path, [("chunk", "", b"first"), ("chunk", "", b"second"), ("chunk", "", b"third")])
    path.write_bytes(path.read_bytes().replace(b"second", b"secund"))
    found, reader = records(path)
    assert [record.data for record in found] == [b"first", b"third"]
    assert reader.damaged == 1


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0 and more of it")
    with pytest.raises(ConfigError, match="not a capture"):
        CaptureReader(path)
    with pytest.raises(ConfigError, match="not a capture"):
        CaptureWriter(path)
    path.write_bytes(b"OUTCAP\x00\x09")
    with pytest.raises(ConfigError, match="version 9"):
        CaptureReader(path)
    with pytest.raises(ConfigError, match="cannot open"):
        CaptureReader(tmp_path / "nothing")


async def test_a_replay_gives_the_frames_and_messages_and_then_ends(tmp_path: Path) -> None:
    path = tmp_path / "mixed.capture"
    wire = encode_frame(b"one") + encode_frame(b"two")
    written(path, [("chunk", "", wire[:4]), ("chunk", "", wire[4:]), ("message", "outpost/s/g/fix", b"{}")])
    link = CaptureLink("replay", path, now=now)
    assert await replayed(link) == [b"one", b"two", b"{}"]
    assert link.status.frames == 3
    assert not link.status.is_up


async def test_a_silence_flushes_where_the_live_line_was_flushed(tmp_path: Path) -> None:
    path = tmp_path / "silence.capture"
    frame = encode_frame(b"real")
    written(path, [("chunk", "", b"\x07false start"), ("silence", "", b""), ("chunk", "", frame)])
    assert await replayed(CaptureLink("replay", path, now=now)) == [b"real"]


class Metronome:
    """A monotonic clock that a test winds."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


async def test_a_replay_at_the_recorded_pace_waits(tmp_path: Path) -> None:
    path = tmp_path / "paced.capture"
    clock = Metronome()
    writer = CaptureWriter(path, monotonic_ns=clock)
    for number in range(4):
        clock.now_ns = number * 1_000_000_000
        writer.tap("chunk", "", encode_frame(bytes([number])))
    writer.close()
    link = CaptureLink("replay", path, now=now, speed=50.0)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    assert await replayed(link) == [b"\x00", b"\x01", b"\x02", b"\x03"]
    assert loop.time() - began_s >= 3 / 50


async def test_close_ends_a_waiting_replay(tmp_path: Path) -> None:
    path = tmp_path / "slow.capture"
    clock = Metronome()
    writer = CaptureWriter(path, monotonic_ns=clock)
    writer.tap("chunk", "", encode_frame(b"now"))
    clock.now_ns = 3_600 * 1_000_000_000
    writer.tap("chunk", "", encode_frame(b"in an hour"))
    writer.close()
    link = CaptureLink("replay", path, now=now, speed=1.0)
    assert len(await link.read()) == 1
    waiting = asyncio.create_task(link.read())
    await asyncio.sleep(0)
    await link.close()
    with pytest.raises(LinkClosed):
        await waiting


def test_a_disk_that_refuses_ends_the_recording_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = CaptureWriter(path)
    os.close(reader)
    writer.tap("chunk", "", b"lost")
    assert "Broken pipe" in writer.failure
    writer.tap("chunk", "", b"ignored")
    writer.close()


def test_a_disk_that_takes_nothing_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="No space left"):
        CaptureWriter(Path("/dev/full"))
