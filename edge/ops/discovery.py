"""How phones of the post find the station: a service ``_outpost._tcp`` on the local network, and nothing more.

It names the station, its port and whether it speaks TLS. Whoever is on the network hears it, so it says neither which
species are tracked nor how many, nor where.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

import structlog
from zeroconf import Error, InterfaceChoice, IPVersion
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from edge.ops.trust import Address

log = structlog.get_logger()

TYPE: Final = "_outpost._tcp.local."


def service_of(
    station: str, machine: str, addresses: Sequence[Address], port: int, *, is_tls: bool
) -> AsyncServiceInfo:
    """Return what is announced."""
    return AsyncServiceInfo(
        TYPE, f"{station}.{TYPE}", port=port, server=f"{machine}.local.", addresses=[each.packed for each in addresses],
        properties={"version": "1", "tls": "1" if is_tls else "0", "path": "/"}, host_ttl=60, other_ttl=60,
    )  # fmt: skip


async def announce(service: AsyncServiceInfo, interfaces: Sequence[str] | None = None) -> None:
    """Announce the station until cancelled. A network that takes no multicast costs the announcement alone."""
    try:
        zeroconf = AsyncZeroconf(
            interfaces=InterfaceChoice.All if interfaces is None else list(interfaces), ip_version=IPVersion.V4Only
        )
    except OSError as error:
        log.warning("discovery.unavailable", detail=str(error))
        return
    try:
        await (await zeroconf.async_register_service(service, allow_name_change=True))
        await asyncio.Event().wait()
    except (OSError, Error) as error:
        log.warning("discovery.unavailable", detail=str(error))
    finally:
        with contextlib.suppress(OSError, Error):
            await (await zeroconf.async_unregister_service(service))
        await zeroconf.async_close()
