"""A cloud that takes collars in over the internet, as the tests of this folder speak to it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import httpx
from litestar import Litestar

from cloud.accounts.secret import make_secret
from cloud.api.app import create_app
from cloud.config import AccountsSection
from cloud.ingest.service import DirectIp, Ingest
from cloud.store.database import Database
from cloud.store.store import PostgresStore
from tests.access import accounts_over, rosters_over
from tests.clouds import START_MS, Cloud
from tests.fakes import FakeClock
from tests.satellites import DEVICE
from tests.waiting import DEADLINE_S, until

KEY = "0123456789abcdef0123456789abcdef"
HOOK = f"/api/v1/ingest/rockblock/{KEY}/"
LOOPBACK = DirectIp(host="127.0.0.1", port=0, peers=("127.0.0.0/8",), does_confirm=True)
HERE = (DEVICE, START_MS, 375_000_000, -25_000_000)


def keyed(folder: Path) -> AccountsSection:
    """Return a cloud's accounts with a secret that lies in ``folder``."""
    made = AccountsSection(key_file=folder / "cloud.key")
    make_secret(made.key_file)
    return made


class Intake(Cloud):
    """A cloud that takes collars in, over a database of the test's own."""

    def __init__(
        self, url: str, database: Database, client: httpx.AsyncClient, clock: FakeClock, ingest: Ingest
    ) -> None:
        super().__init__(url, database, client, clock)
        self.ingest = ingest

    async def say(self, *messages: bytes) -> bytes:
        """Connect as the gateway does, send, and return all that is answered until the connection ends."""
        assert self.ingest.directip_port is not None
        return await converse(self.ingest.directip_port, *messages)

    async def deliver(self, body: bytes, path: str = HOOK) -> httpx.Response:
        """Deliver as RockBLOCK does."""
        return await self.client.post(path, content=body)

    async def decoded(self) -> None:
        """Wait until the decoder has seen every frame."""
        last = self.ask("SELECT coalesce(max(seq), 0) FROM frames")[0][0]
        await until(lambda: self.ask("SELECT coalesce(max(position), 0) FROM cursors")[0][0] >= last)

    def copies(self) -> list[tuple[Any, ...]]:
        """Return link and count of every frame, in order."""
        return self.ask("SELECT link, copies FROM frames ORDER BY seq")

    def places(self) -> list[tuple[Any, ...]]:
        """Return collar, instant and place of every fix."""
        return self.ask(
            "SELECT c.id, f.raw_ms, f.lon_e7, f.lat_e7 FROM fixes f JOIN collars c ON c.pk = f.collar_pk"
            " ORDER BY c.id, f.raw_ms"
        )


async def converse(port: int, *pieces: bytes, pause: bool = False) -> bytes:
    """Send to a port of the loopback and return what comes back until the end."""
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(OSError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                if pause:
                    await asyncio.sleep(0)
            writer.write_eof()
        said = b""
        with contextlib.suppress(OSError):
            said = await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return said


def app_over(store: PostgresStore, clock: FakeClock, ingest: Ingest | None = None) -> Litestar:
    accounts = accounts_over(store, clock)
    return create_app(store, clock=clock, accounts=accounts, rosters=rosters_over(store, accounts), ingest=ingest)
