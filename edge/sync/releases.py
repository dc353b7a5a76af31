"""Releases come down last of all: what the cloud offers this station, part after part, over many sessions.

::

    offer  ->  news here?  ->  parts into INBOX/SHA256.part, from where they stopped
           ->  SHA-256, signature of a pinned key
           ->  INBOX/ready.outpost-update, for the installer (``deploy/outpost-station-update.path``), which looks again

The station cannot install what it fetched: its program is root's. What the cloud offers is believed in nothing but its
hash; who must have signed is in the station's own configuration.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from edge.sync.client import Cloud, CloudClient
from edge.sync.meter import OVERHEAD_BYTES, LinkSpent, Meter
from shared.errors import AccessError, Conflict, Invalid, LinkError, RequestError, StoreFull, SyncError
from shared.wire.releases import READY, Offer, read_header, sha256_of

log = structlog.get_logger()

PART_BYTES: Final = 256 << 10


class Fetching(msgspec.Struct, frozen=True, kw_only=True):
    """Where releases go to and what is news here."""

    inbox: Path
    public_keys: tuple[str, ...]
    architecture: str
    is_news: Callable[[Offer], bool]


async def take_release(cloud: Cloud, meter: Meter, to: Fetching) -> bool:
    """Fetch what the cloud offers, as far as the link lets it; say whether a release waits for the installer now."""
    if not isinstance(cloud, CloudClient) or not meter.profile.sends_files or not to.public_keys:
        return False
    try:
        await meter.allow(OVERHEAD_BYTES)
        offer = await cloud.release(to.architecture)
        if offer is None or not to.is_news(offer):
            return False
        return await _fetch(cloud, meter, to, offer)
    except LinkSpent as spent:
        log.info("release.waits", detail=spent.detail)
    except (AccessError, RequestError, SyncError, StoreFull) as error:
        log.warning("release.untaken", code=error.code, detail=error.detail)
    return False


async def _fetch(cloud: CloudClient, meter: Meter, to: Fetching, offer: Offer) -> bool:
    ready = to.inbox / READY
    if ready.exists():
        return True  # the installer has not come to it yet
    part = _begun(to.inbox, offer)
    while (first := part.stat().st_size) < offer.size_bytes:
        await meter.allow(OVERHEAD_BYTES)
        chunk = await cloud.release_part(offer.sha256, first, min(PART_BYTES, offer.size_bytes - first))
        await meter.settle(len(chunk))
        if not chunk:
            raise LinkError("a release ends before its size: something alters it on the way")
        await asyncio.to_thread(_append, part, chunk)
    try:
        await asyncio.to_thread(_check, part, offer, to.public_keys)
    except (Conflict, Invalid):
        part.unlink(missing_ok=True)
        raise
    part.replace(ready)
    log.info("release.fetched", version=offer.version, size_bytes=offer.size_bytes)
    return True


def _begun(inbox: Path, offer: Offer) -> Path:
    """Return the file of what has come of an offer; what came of others is gone."""
    part = inbox / f"{offer.sha256}.part"
    try:
        inbox.mkdir(mode=0o750, parents=True, exist_ok=True)
        for other in inbox.glob("*.part"):
            if other != part:
                other.unlink()
        part.touch(mode=0o640)
    except OSError as error:
        raise StoreFull(f"{inbox}: {error.strerror}; the release was not fetched") from error
    if part.stat().st_size > offer.size_bytes:
        part.unlink()
        part.touch(mode=0o640)
    return part


def _append(part: Path, chunk: bytes) -> None:
    try:
        with part.open("ab") as file:
            file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreFull(f"{part}: {error.strerror}; what has come of the release stays") from error


def _check(part: Path, offer: Offer, public_keys: tuple[str, ...]) -> None:
    if sha256_of(part) != offer.sha256:
        raise Invalid(f"release {offer.version}: what came is not what was offered, it is fetched anew")
    with part.open("rb") as file:
        header = read_header(file, part, public_keys)
    if (header.version, header.architecture) != (offer.version, offer.architecture):
        raise Invalid(f"release {offer.version}: its file says {header.version} for {header.architecture}")
