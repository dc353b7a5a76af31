"""Models come down last, after all that a ranger waits for: what the cloud chose for this station, and its files.

::

    list, signed  ->  of each version that is not here: its file, part after part, from where it stopped
                  ->  SHA-256, manifest, the publisher's signature beside the cloud's, the model's own runtime
                  ->  the choice, in one transaction with the number of the list

What does not hold is refused and told; the model that served goes on, and the next session asks for the list again. A
link that is short of bytes, or carries no files, brings none.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

import structlog

from edge.store.outbox import Enrolment
from edge.sync.client import Cloud, CloudClient
from edge.sync.meter import OVERHEAD_BYTES, LinkSpent, Meter
from models.artifact import Manifest
from models.live.shelf import HomeShelf
from models.live.usable import check_usable, read_manifest
from shared.accounts import audit, rosters
from shared.accounts.facts import fact, set_fact
from shared.accounts.service import Accounts
from shared.accounts.users import Job
from shared.errors import AccessError, ArtifactError, CorruptBatch, LinkError, RequestError, SyncError
from shared.shelf import EVERYWHERE, MODEL_FILE
from shared.sync import blobs, shelves
from shared.sync.shelves import BY_CLOUD, Kept
from shared.wire.manifests import Chosen, StationShelf, checked_shelf

log = structlog.get_logger()

PART_BYTES: Final = 64 << 10
#: The fact that says which list was taken last: life of the cloud and number.
MODELS_TAKEN: Final = "models.taken"
#: The fact that says what the cloud chose last of a model file.
_CHOSE: Final = "models.chose"
_MOST_DAMAGED: Final = 3


async def take_models(cloud: Cloud, here: Enrolment, accounts: Accounts, shelf: HomeShelf, meter: Meter) -> int:
    """Take what the cloud chose; return how many models are news here. Raises LinkError."""
    if not isinstance(cloud, CloudClient) or not meter.profile.sends_files:
        return 0
    try:
        return await _Taking(cloud, here, accounts, shelf, meter).all()
    except LinkSpent as spent:
        log.info("models.wait", detail=spent.detail)
    except (AccessError, RequestError, SyncError) as error:
        log.warning("models.untaken", code=error.code, detail=error.detail)
    return 0


async def take_carried(source: ModelSource, here: Enrolment, accounts: Accounts, shelf: HomeShelf | None) -> int:
    """Take what a stick brought of models; return how many are news here.

    Where a file is not whole on it, what came stays, and another stick or a link brings the rest.
    """
    try:
        return await _Taking(source, here, accounts, shelf, None).all()
    except (AccessError, LinkError, RequestError, SyncError) as error:
        log.warning("models.untaken", code=error.code, detail=error.detail)
    return 0


class ModelSource(Protocol):
    """Who gives a station the list of its models, and their files."""

    async def models(self, epoch: str | None, issue: int) -> bytes | None:
        """Return the list, signed; None where the last one still holds."""
        ...

    async def model_part(self, sha256: str, first: int, limit: int) -> bytes:
        """Return bytes of a model's file from ``first`` on; raises LinkError where they cannot be had."""
        ...


class _Taking:
    def __init__(
        self, cloud: ModelSource, here: Enrolment, accounts: Accounts, shelf: HomeShelf | None, meter: Meter | None
    ) -> None:
        self._cloud = cloud
        self._here = here
        self._accounts = accounts
        self._tables = accounts.tables
        self._shelf = shelf
        self._meter = meter

    async def all(self) -> int:
        key, _ = await self._tables.read(rosters.trusted())
        if key is None:
            return 0  # no roster has come: nobody's word is known yet
        taken = await self._tables.read(fact(MODELS_TAKEN))
        epoch, _, issue = (taken or "").rpartition(" ")
        await self._allow()
        sent = await self._cloud.models(epoch or None, int(issue or 0))
        if sent is None:
            return 0
        await self._settle(len(sent))
        list_ = checked_shelf(sent, key, self._here.station_id)
        if epoch == list_.epoch and list_.issue < int(issue or 0):
            log.warning("models.older_list", issue=list_.issue, taken=int(issue))
            return 0
        refused = [each for each in list_.chosen if not await self._is_taken(each)]
        news = await self._tables.write(self._chosen(list_, refused))
        if news:
            log.info("models.taken", issue=list_.issue, models=news)
            if self._shelf is not None:
                await self._shelf.refresh()
        return news

    async def _allow(self) -> None:
        if self._meter is not None:
            await self._meter.allow(OVERHEAD_BYTES)

    async def _settle(self, size: int) -> None:
        if self._meter is not None:
            await self._meter.settle(size)

    async def _is_taken(self, chosen: Chosen) -> bool:
        """Bring a version here if it is not; say whether it can be chosen. What is broken is told once a session."""
        title = f"{chosen.model}/{chosen.version}/{chosen.name}"
        if chosen.manifest is None:
            return True
        try:
            manifest = read_manifest(chosen.manifest)
            if (manifest.model, manifest.version, manifest.name) != (chosen.model, chosen.version, chosen.name):
                raise ArtifactError(f"{title}: its manifest belongs to another artefact")
            if await self._tables.read(shelves.find(chosen.model, chosen.version, chosen.name)) is not None:
                return True
            data = await self._file(manifest, chosen.size)
            await asyncio.to_thread(check_usable, manifest, data)
        except (ArtifactError, RequestError) as error:
            log.error("models.refused", detail=error.detail)
            return False
        await self._tables.write(
            shelves.keep(
                Kept(
                    model=chosen.model, name=chosen.name, version=chosen.version, sha256=manifest.sha256,
                    size=len(data), manifest=chosen.manifest, key=chosen.key, signature=chosen.signature,
                    brought_by=BY_CLOUD, created_ms=self._accounts.moments().ms,
                )
            )
        )  # fmt: skip
        return True

    async def _file(self, manifest: Manifest, size: int) -> bytes:
        """Return a file, the rest of it from the cloud; a part that has come once does not come again."""
        for _ in range(_MOST_DAMAGED):
            kept = await self._tables.read(blobs.find(manifest.sha256))
            while kept is None or not kept.is_whole:
                first = 0 if kept is None else kept.received
                await self._allow()
                part = await self._cloud.model_part(manifest.sha256, first, PART_BYTES)
                await self._settle(len(part))
                if not part:
                    raise LinkError("a model's file ends before its size: something alters it on the way")
                now_ms = self._accounts.moments().ms
                kept = await self._tables.write(
                    blobs.put(
                        manifest.sha256, size=size, offset=first, part=part, media_type=MODEL_FILE, owner=None,
                        origin=BY_CLOUD, now_ms=now_ms, media={MODEL_FILE},
                    )
                )  # fmt: skip
                if not kept.received:  # thrown away: it was not what its name says
                    break
            else:
                return await self._tables.read(blobs.read(manifest.sha256, 0, kept.size))
        raise CorruptBatch(
            f"{manifest.model}/{manifest.version}/{manifest.name}: its file does not arrive as it is sent"
        )

    def _chosen(self, list_: StationShelf, refused: list[Chosen]) -> Job[int]:
        """Choose here what the cloud chose anew; a list of which something was refused is asked for again."""
        news = 0
        now_ms = self._accounts.moments().ms
        for each in list_.chosen:
            if each in refused:
                continue
            name = f"{_CHOSE} {each.model}/{each.name}"
            said = yield from fact(name)
            if said == str(each.version):
                continue
            before = yield from shelves.choose(EVERYWHERE, each.model, each.name, each.version, BY_CLOUD, now_ms)
            yield from set_fact(name, str(each.version))
            yield from audit.write([
                audit.Entry(
                    now_ms, BY_CLOUD, "model.activated", f"{each.model}/{each.name}: version {before} to {each.version}"
                )
            ])  # fmt: skip
            news += 1
        if not refused:
            yield from set_fact(MODELS_TAKEN, f"{list_.epoch} {list_.issue}")
        return news
