"""`outpost-sim` as a program of its own, against real pseudo-terminals and a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from firmware_bridge.codecs.registry import decode_frame
from firmware_bridge.frames import Link
from firmware_bridge.simulator.base_station import SerialBaseStation
from firmware_bridge.simulator.tracks import eui_for
from firmware_bridge.transports.capture import CaptureReader
from firmware_bridge.transports.spec import LinkSpec, link_from
from shared.errors import FrameError
from tests.services import Broker
from tests.waiting import DEADLINE_S, until

pytestmark = pytest.mark.integration

#: (individual's radio id, instant, longitude and latitude in 1e-7 degree)
Place = tuple[str, datetime | None, int | None, int | None]


def now() -> datetime:
    return datetime.now(UTC)


def links_to(pty: Path | None, broker: Broker | None) -> list[Link]:
    specs = []
    if pty is not None:
        specs.append(LinkSpec(kind="serial", name="base", path=str(pty)))
    if broker is not None:
        specs.append(LinkSpec(kind="mqtt", name="broker", host=broker.host, port=broker.port))
    return [link_from(spec, now=now) for spec in specs]


class Post:
    """A small station: it reads, decodes, acknowledges, and remembers every fix."""

    def __init__(self, links: list[Link]) -> None:
        self.links = links
        self.heard: Counter[Place] = Counter()
        self.undecoded = 0

    @property
    def damaged(self) -> int:
        """What was met as damage: on a serial line by its decoder, on a broker by the codec."""
        return sum(link.status.damaged_frames for link in self.links) + self.undecoded

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._listen(link)) for link in self.links]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for link in self.links:
                await link.close()

    async def _listen(self, link: Link) -> None:
        while True:
            heard = await link.read()
            for each in heard:
                try:
                    uplinks = decode_frame(each.frame)
                except FrameError:
                    self.undecoded += 1
                    continue
                for uplink in uplinks:
                    device = uplink.device.removeprefix("collar:").removeprefix("eui:")
                    for fix in uplink.fixes:
                        self.heard[device, fix.recorded_at, _e7(fix.lon_deg), _e7(fix.lat_deg)] += 1
            await link.acknowledge(heard)


def _e7(degrees: float | None) -> int | None:
    return None if degrees is None else round(degrees * 1e7)


async def simulate(*arguments: object) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "firmware_bridge",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: Process) -> tuple[int, list[Any], str]:
    """Return exit code, JSON lines and what was said on standard error."""
    async with asyncio.timeout(DEADLINE_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, [json.loads(line) for line in out.splitlines()], err.decode()


def track_file(path: Path, *, rows: int = 600, fractions: bool = False) -> set[Place]:
    """Write three individuals that lived at one time, one after the other, and return what a station must know."""
    rng = random.Random(7)
    expected: set[Place] = set()
    lines = ["individual,timestamp,lon,lat,species"]
    for individual in ("Ann", "Bob", "Old Tom"):
        for number in range(rows // 3):
            at = datetime(2010, 5, 1, tzinfo=UTC) + timedelta(minutes=20 * number)
            if fractions and number % 10 == 0:
                at += timedelta(milliseconds=250)
            lon_e7, lat_e7 = rng.randrange(350_000_000, 360_000_000), rng.randrange(-20_000_000, -10_000_000)
            lines.append(f"{individual},{at.isoformat()},{lon_e7 / 1e7:.7f},{lat_e7 / 1e7:.7f},Loxodonta africana")
            expected.add((eui_for(individual), at, lon_e7, lat_e7))
    path.write_text("\n".join(lines) + "\n")
    return expected


async def test_a_replay_delivers_every_row_over_both_links(broker: Broker, tmp_path: Path) -> None:
    expected = track_file(tmp_path / "tracks.csv", fractions=True)
    pty = tmp_path / "tty-base-1"
    post = Post(links_to(pty, broker))
    async with post.listening():
        process = await simulate(
            "replay", "--tracks", tmp_path / "tracks.csv", "--speed", 1e9, "--pty", pty,
            "--mqtt", f"{broker.host}:{broker.port}", "--json",
        )  # fmt: skip
        code, [summary], _ = await ended(process)
        await until(lambda: expected <= set(post.heard))
    assert code == 0
    assert post.heard == Counter(expected)
    assert summary["is_complete"]
    assert summary["rows"] == len(expected)
    assert sum(link["frames"] for link in summary["links"]) == len(expected)
    assert all(link["frames"] > 200 for link in summary["links"])


async def test_a_replay_with_faults_still_delivers_every_row_and_invents_none(broker: Broker, tmp_path: Path) -> None:
    expected = track_file(tmp_path / "tracks.csv")
    pty = tmp_path / "tty-base-1"
    post = Post(links_to(pty, broker))
    async with post.listening():
        process = await simulate(
            "replay", "--tracks", tmp_path / "tracks.csv", "--speed", 1e9, "--pty", pty,
            "--mqtt", f"{broker.host}:{broker.port}", "--duplicate", 0.3, "--reorder", 20, "--corrupt", 0.2,
            "--seed", 5, "--json",
        )  # fmt: skip
        code, [summary], _ = await ended(process)
        await until(lambda: expected <= set(post.heard))
        damaged = sum(link["damaged"] for link in summary["links"])
        await until(lambda: post.damaged >= damaged)
    assert code == 0
    assert set(post.heard) == expected
    assert sum(post.heard.values()) == len(expected) + summary["duplicates"]
    assert damaged > 50


async def test_a_replay_waits_for_a_reader_that_comes_late(tmp_path: Path) -> None:
    expected = track_file(tmp_path / "tracks.csv", rows=3000)
    pty = tmp_path / "tty-base-1"
    process = await simulate("replay", "--tracks", tmp_path / "tracks.csv", "--speed", 1e9, "--pty", pty, "--json")
    await until(pty.exists)
    await asyncio.sleep(0.3)
    assert process.returncode is None
    post = Post(links_to(pty, None))
    async with post.listening():
        code, [summary], _ = await ended(process)
        await until(lambda: expected <= set(post.heard))
    assert code == 0
    assert summary["rows"] == 3000
    assert not pty.exists()


async def test_nothing_arrives_before_its_virtual_time(tmp_path: Path) -> None:
    track_file(tmp_path / "tracks.csv", rows=30)
    start = datetime(2010, 5, 1, tzinfo=UTC)
    loop = asyncio.get_running_loop()
    pty = tmp_path / "tty-base-1"
    speed = 12_000.0
    [link] = links_to(pty, None)
    origin_s = loop.time()
    process = await simulate(
        "replay", "--tracks", tmp_path / "tracks.csv", "--speed", speed, "--start", start.isoformat(),
        "--origin-s", origin_s, "--pty", pty, "--json",
    )  # fmt: skip
    seen = 0
    async with asyncio.timeout(DEADLINE_S):
        while seen < 30:
            heard = await link.read()
            virtual_now = start + timedelta(seconds=(loop.time() - origin_s) * speed)
            for each in heard:
                for uplink in decode_frame(each.frame):
                    for fix in uplink.fixes:
                        assert fix.recorded_at is not None
                        assert fix.recorded_at <= virtual_now
                        seen += 1
    await link.close()
    assert (await ended(process))[0] == 0


async def test_an_interrupted_replay_is_not_complete(tmp_path: Path) -> None:
    track_file(tmp_path / "tracks.csv")
    pty = tmp_path / "tty-base-1"
    process = await simulate("replay", "--tracks", tmp_path / "tracks.csv", "--speed", 1, "--pty", pty, "--json")
    await until(pty.exists)
    process.send_signal(signal.SIGINT)
    code, [summary], said = await ended(process)
    assert code == 1
    assert not summary["is_complete"]
    assert "Traceback" not in said
    assert not pty.exists()


async def test_a_simulation_in_a_shell_s_background_hears_ctrl_c_from_its_first_sign_of_life_on(tmp_path: Path) -> None:
    pty = tmp_path / "tty-base-1"
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):  # full: it stands still at its first word
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "firmware_bridge", "herd", "--animals", "3",
        "--pty", str(pty), "--json", stdout=writing,
    )  # fmt: skip
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        try:
            await until(pty.is_symlink)
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(DEADLINE_S):
                beginning, summary = (await asyncio.to_thread(said.read)).lstrip(b"\0").splitlines()
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
    assert json.loads(beginning)["links"] == [str(pty)]
    assert not json.loads(summary)["is_complete"]
    assert not pty.is_symlink()


async def test_a_bad_file_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "tracks.csv"
    path.write_text("individual,timestamp,lon,lat\nAnn,2010-01-01T00:00:00Z,36.1,-1.1\nAnn,never,36.1,-1.1\n")
    code, lines, said = await ended(await simulate("replay", "--tracks", path, "--pty", tmp_path / "tty", "--json"))
    assert (code, lines) == (1, [])
    assert "line 3: timestamp: 'never'" in said
    path.write_text("individual,timestamp,lon,lat\nAnn,2010-01-01T00:00:00.5Z,36.1,-1.1\n")
    code, _, said = await ended(await simulate("replay", "--tracks", path, "--pty", tmp_path / "tty"))
    assert code == 1
    assert "--mqtt is needed" in said


@pytest.mark.parametrize("form", ["chirpstack", "outpost"])
async def test_a_herd_is_heard_and_named(broker: Broker, tmp_path: Path, form: str) -> None:
    pty = tmp_path / "tty-base-1"
    manifest = tmp_path / "herd.json"
    post = Post(links_to(pty, broker))
    async with post.listening():
        process = await simulate(
            "herd", "--animals", 10, "--speed", 1e9, "--start", "2026-01-01T00:00:00Z", "--duration", 86_400,
            "--fix-interval", 3600, "--faults", "none", "--pty", pty, "--mqtt", f"{broker.host}:{broker.port}",
            "--mqtt-format", form, "--manifest", manifest, "--json",
        )  # fmt: skip
        code, [beginning, summary], _ = await ended(process)
        await until(lambda: len(post.heard) >= 240)
    assert code == 0
    assert summary["is_complete"]
    assert beginning["herd"] == json.loads(manifest.read_text())
    assert beginning["links"] == [str(pty), f"{broker.host}:{broker.port}"]
    assert {f"eui:{device}" for device, *_ in post.heard} == {member["device"] for member in beginning["herd"]}


async def test_one_seed_gives_the_same_bytes_on_the_wire_twice(tmp_path: Path) -> None:
    captures = []
    for run in ("one", "two"):
        pty = tmp_path / f"tty-{run}"
        link = link_from(
            LinkSpec(kind="serial", name="base", path=str(pty), record=str(tmp_path / f"{run}.capture"), silence_s=60),
            now=now,
        )
        post = Post([link])
        async with post.listening():
            process = await simulate(
                "herd", "--animals", 5, "--seed", 3, "--speed", 1e9, "--start", "2026-01-01T00:00:00Z",
                "--duration", 86_400, "--faults", "field", "--pty", pty, "--json",
            )  # fmt: skip
            code, _, _ = await ended(process)
            assert code == 0
        reader = CaptureReader(tmp_path / f"{run}.capture")
        captures.append(b"".join(record.data for record in reader))
        reader.close()
    assert len(captures[0]) > 10_000
    assert captures[0] == captures[1]


async def test_a_herd_ends_cleanly_with_ctrl_c_and_makes_its_own_terminal(tmp_path: Path) -> None:
    process = await simulate("herd", "--animals", 3, "--json")
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        beginning = json.loads(await process.stdout.readline())
    [pty] = [Path(link) for link in beginning["links"]]
    assert pty.is_symlink()
    process.send_signal(signal.SIGINT)
    code, [summary], said = await ended(process)
    assert code == 0
    assert not summary["is_complete"]
    assert "Traceback" not in said
    assert not pty.is_symlink()


async def test_a_base_station_survives_its_cable_being_pulled(tmp_path: Path) -> None:
    station = SerialBaseStation(tmp_path / "tty-base-1")
    [link] = links_to(station.path, None)
    reading = asyncio.create_task(link.read())
    await station.send([("", b"\x00")])
    station.unplug()
    assert not station.path.is_symlink()
    sending = asyncio.create_task(station.send([("", b"\x05\x93\x0e\x01\x02")]))
    await asyncio.sleep(0.05)
    assert not sending.done()
    station.plug()
    async with asyncio.timeout(DEADLINE_S):
        await sending
    reading.cancel()
    await link.close()
    await station.close()
