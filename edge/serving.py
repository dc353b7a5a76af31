"""The station's listening ports: uvicorn on sockets of ours, with TLS or without."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

import uvicorn
from litestar import Litestar

from shared.errors import ConfigError


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the station ends it."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def] # as uvicorn declares it
        yield


@contextlib.asynccontextmanager
async def serving(
    app: Litestar, listening: socket.socket, *, context: ssl.SSLContext | None = None, is_second: bool = False
) -> AsyncIterator[None]:
    """Serve ``app`` on a socket, over TLS where there is a ``context``.

    ``is_second`` says that another server begins and ends the application itself.
    """
    server = _Server(
        uvicorn.Config(
            app, http="httptools", log_config=None, access_log=False, timeout_graceful_shutdown=2, server_header=False,
            lifespan="off" if is_second else "auto",
            ssl_context_factory=None if context is None else lambda _config, _default: context,
        )
    )  # fmt: skip
    task = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        if task.done():
            await task
            raise ConfigError("the LAN interface could not be started")
        await asyncio.sleep(0.005)
    try:
        yield
    finally:
        server.should_exit = True
        await task


def listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to a port; raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # the protocol is named because asyncio turns Nagle's algorithm off only where it is: small answers wait 40 ms else
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigError(f"port {port} on {host}: {error.strerror}; choose another with --port") from error
    return listening
