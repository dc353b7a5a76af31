"""A station whose key is not at hand: it hears and seals until the key is plugged in or an operator brings it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import structlog

from edge.api.locked import create_locked
from edge.config import Config
from edge.ingest.group_commit import LedgerWriter
from edge.ingest.intake import Intake
from edge.serving import listen, serving
from edge.store.driver import connect
from edge.store.ledger import check_key
from edge.store.spool import Spool, read_public
from firmware_bridge.frames import Link
from shared.configuration import LOOPBACK, own_hosts
from shared.errors import ConfigError, WrongKey

log = structlog.get_logger()

#: How often the medium of the key is looked for.
LOOK_S: Final = 1.0


def spool_dir(config: Config) -> Path:
    """Return the folder of the spool."""
    return config.station.data_dir / "spool"


def is_locked(config: Config) -> bool:
    """Say whether a station that had its key once starts without it, and may hear meanwhile; raises ConfigError."""
    return (
        config.store.is_encrypted
        and config.store.hears_locked
        and not config.store.key_file.exists()
        and read_public(config.station.data_dir) is not None
    )


class Lock:
    """Waits for the key. ``open_with`` takes one that an operator brings; the file may appear at any time."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._opened: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def open_with(self, key: bytes) -> None:
        """Take a key that fits; raises WrongKey."""
        check_fits(self._config, key)
        if not self._opened.done():
            self._opened.set_result(key)

    async def key(self) -> bytes:
        """Return the key once it is there; one that does not fit is told in the log and waited past."""
        refused = ""
        while not self._opened.done():
            await asyncio.wait([self._opened], timeout=LOOK_S)
            if self._opened.done() or not await asyncio.to_thread(self._config.store.key_file.exists):
                continue
            try:
                found = self._config.key()
                assert found is not None
                self.open_with(found)
            except (ConfigError, WrongKey) as error:  # half copied, or another station's: it may become right
                if error.detail != refused:
                    log.error("locked.refused", detail=error.detail)
                refused = error.detail
        return self._opened.result()


def check_fits(config: Config, key: bytes) -> None:
    """Raise WrongKey unless ``key`` opens what lies there."""
    if config.database.exists():
        connect(config.database, key, is_spatial=False, is_readonly=True).close()
    check_key(config.ledger_dir, key)


@contextlib.asynccontextmanager
async def hearing(
    config: Config, port: int | None, links: Sequence[Link], lock: Lock
) -> AsyncIterator[tuple[str, LedgerWriter, Intake]]:
    """A locked station as a context; yields its address on the machine, the writer of its spool, and the intake.

    The writer stays open: frames go into it until the intake leads elsewhere.
    """
    public = read_public(config.station.data_dir)
    assert public is not None
    writer = LedgerWriter(Spool(spool_dir(config), public))
    intake = Intake(writer)
    hosts = own_hosts(socket.gethostname(), config.api.allowed_hosts)
    app = create_locked(links, lock.open_with, hosts)
    async with contextlib.AsyncExitStack() as stack:
        own = listen("127.0.0.1", 0)
        await stack.enter_async_context(serving(app, own))
        plain = config.api.redirect_port if config.api.is_tls else (config.api.port if port is None else port)
        if config.api.host not in LOOPBACK and plain:
            lan = listen(config.api.host, plain)
            await stack.enter_async_context(serving(app, lan, is_second=True))
        elif not config.api.is_tls:
            await stack.enter_async_context(serving(app, listen(config.api.host, plain), is_second=True))
        log.critical("station.locked", hears=len(links), key_file=str(config.store.key_file))
        yield f"http://127.0.0.1:{own.getsockname()[1]}", writer, intake
