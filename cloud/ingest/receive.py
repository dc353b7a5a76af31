"""From a broker into the ledger: read, commit, acknowledge, in this order and no other.

The Things Stack publishes with QoS 0: what is on the way while the connection or this program is down is lost to it, as
its makers say, and what arrives is committed as it arrives. A broker with QoS 1 hears of each message after the commit.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from cloud.ingest.ledger import LedgerWriter
from firmware_bridge.frames import Link
from shared.errors import LinkClosed, LinkError, StoreError

log = structlog.get_logger()

#: How long messages that the database refused wait before they are offered again.
RETRY_S: Final = 1.0


async def receive(link: Link, ledger: LedgerWriter) -> None:
    """Carry messages from ``link`` to the ledger until it closes.

    While the database refuses, they are held here, nothing is acknowledged, and the link is not read on.
    """
    while True:
        try:
            heard = await link.read()
        except LinkClosed:
            return
        await _commit(link, ledger, [(item.frame.topic, item.frame.payload) for item in heard])
        try:
            await link.acknowledge(heard)
        except LinkError as error:
            # the broker sends again and the ledger counts a copy
            log.warning("ingest.unconfirmed", link=link.name, frames=len(heard), reason=error.detail)


async def _commit(link: Link, ledger: LedgerWriter, messages: list[tuple[str, bytes]]) -> None:
    has_failed = False
    while True:
        try:
            await ledger.append(link.name, "mqtt", messages)
        except StoreError as error:
            if not has_failed:
                log.error("ingest.refused", link=link.name, frames=len(messages), reason=error.detail)
            has_failed = True
            await asyncio.sleep(RETRY_S)
        else:
            if has_failed:
                log.info("ingest.recovered", link=link.name)
            return
