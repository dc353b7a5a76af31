"""Cables and links, as the tests of this folder hold their other end."""

from __future__ import annotations

import asyncio
import os
import random
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from firmware_bridge.frames import Heard, Link
from firmware_bridge.transports.mqtt import MqttLink
from firmware_bridge.transports.serial import SerialLink
from tests.waiting import DEADLINE_S, until

AnyLink = TypeVar("AnyLink", SerialLink, MqttLink)


def now() -> datetime:
    return datetime.now(UTC)


async def collect(link: Link, count: int) -> list[Heard]:
    heard: list[Heard] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(heard) < count:
            heard += await link.read()
    return heard


def payloads(heard: list[Heard]) -> list[bytes]:
    return [each.frame.payload for each in heard]


def some_payloads(count: int, seed: int = 1) -> list[bytes]:
    rng = random.Random(seed)
    return [index.to_bytes(4, "big") + rng.randbytes(rng.randrange(1, 60)) for index in range(count)]


class Terminal:
    """A cable: a pseudo-terminal behind a path; the test is the base station at its other end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.master = -1
        self._slave = -1
        self.plug()

    def plug(self) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(self._slave))

    def pull(self) -> None:
        os.close(self.master)
        os.close(self._slave)
        self.path.unlink()

    async def write(self, data: bytes, *, chunk: int = 4096) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while data:
                try:
                    data = data[os.write(self.master, data[:chunk]) :]
                except BlockingIOError:
                    await asyncio.sleep(0.002)


@asynccontextmanager
async def started(link: AnyLink) -> AsyncIterator[AnyLink]:
    """Start a link, wait until it is up, and close it in the end."""
    link.start()
    try:
        await until(lambda: link.status.is_up)
        yield link
    finally:
        await link.close()
