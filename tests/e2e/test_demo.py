"""What `make run` starts, as programs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.services import require

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@contextmanager
def demo(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    require(shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin"), "mosquitto is not installed")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    running = subprocess.Popen(
        [sys.executable, "-m", "edge.demo", "--animals", "4"], cwd=folder, env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield running
    finally:
        running.terminate()
        running.wait(30)


def links(folder: Path) -> dict[str, Any]:
    """Return the error of each link of the running demo station that is down; not asked while it starts."""
    try:
        url = (folder / "var/demo/data/station.url").read_text().strip()
        return {each["name"]: each for each in httpx.get(f"{url}/health/detail", timeout=10).json()["links"]}
    except (OSError, httpx.TransportError):
        return {}


def are_up(folder: Path) -> bool:
    found = links(folder)
    return len(found) == 3 and all(each["is_up"] for each in found.values())


def children_of(process: subprocess.Popen[bytes]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_demo_that_was_killed_leaves_nobody_who_takes_the_next_ones_terminals(tmp_path: Path) -> None:
    with demo(tmp_path) as first:
        wait_for(lambda: are_up(tmp_path), "the first demo's links are not up")
        begun = children_of(first)
        assert len(begun) == 3
        first.send_signal(signal.SIGKILL)
        first.wait()
        wait_for(lambda: not any(map(is_alive, begun)), "a program outlived its demo")
    shutil.rmtree(tmp_path / "var/demo/data")  # what a developer does next: a station on it would not be noticed
    with demo(tmp_path):
        wait_for(lambda: are_up(tmp_path), f"not all links are up: {links(tmp_path)}")


def test_a_second_demo_on_the_same_folder_is_refused_and_takes_nothing_from_the_first(tmp_path: Path) -> None:
    with demo(tmp_path) as first:
        wait_for(lambda: are_up(tmp_path), "the demo's links are not up")
        with demo(tmp_path) as second:
            assert second.wait(120) == 1
        assert first.poll() is None
        assert are_up(tmp_path)
