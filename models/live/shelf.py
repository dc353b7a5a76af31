"""The models of a home: those of its program, those that were brought, and a folder laid out as they were chosen.

::

    tables (models, choices) + files among the blobs + the program's own
          |
          v   laid out anew whenever a choice was made, here or by another process of the home
    root/<generation>/<model>/<version>/<name>.{bin,json}     what every runtime loads from, newest version first

A generation has of each model file the chosen version and, below it, those that served before: so a runtime that
refuses the chosen one (altered on the card, wrong shape) falls back to the one before, as ``models.artifact`` does
everywhere. A version that is forced by configuration is there alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from models.artifact import PACKAGED, Manifest, versions
from models.live.usable import check_usable, read_manifest, species_of
from shared.accounts import audit
from shared.accounts.checks import Tables
from shared.accounts.users import Job
from shared.errors import ArtifactError, Conflict, Invalid, NotFound, OutpostError
from shared.shelf import EVERYWHERE, NONE_CHOSEN, Artefact, Change
from shared.sync import blobs, shelves
from shared.sync.records import from_ms
from shared.sync.shelves import BY_CLOUD, Choice, Kept
from shared.wire.manifests import check_manifest

log = structlog.get_logger()

#: A home of several processes sees within this time what another one chose.
LOOK_S: Final = 10.0

#: A model file: model and name.
File = tuple[str, str]
#: One version of it.
Version = tuple[str, str, int]


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the tables hold."""

    kept: dict[Version, Kept]
    made: list[Choice]
    head: int


class HomeShelf:
    """Implements ``shared.shelf.Shelf``. ``folder`` is what runtimes load from.

    ``root`` is a folder of this home's own; ``forced`` versions by model are taken whatever is chosen; ``publishers``
    are the public keys (hex digits) of those whose models are taken. ``knows_station`` says whether there is such a
    station; without it this home is one, and chooses for itself alone.
    """

    def __init__(
        self,
        tables: Tables,
        root: Path,
        *,
        now_ms: Callable[[], int],
        base: Path = PACKAGED,
        publishers: Sequence[str] = (),
        forced: Mapping[str, int] | None = None,
        knows_station: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        self._tables = tables
        self._root = root
        self._now_ms = now_ms
        self._base = base
        self._publishers = tuple(publishers)
        self._forced = dict(forced or {})
        self._knows_station = knows_station
        self._followers: list[Callable[[Path], Awaitable[None]]] = []
        self._laid: int | None = None
        self._generation = 0
        self._turn = asyncio.Lock()
        self._problems: dict[Version, str] = {}
        #: where runtimes load from
        self.folder = base

    def follow(self, follower: Callable[[Path], Awaitable[None]]) -> None:
        """Tell ``follower`` of every new folder."""
        self._followers.append(follower)

    async def refresh(self) -> bool:
        """Lay the folder out anew where choices were made; say whether it was."""
        async with self._turn:
            seen = await self._seen()
            if seen.head == self._laid:
                return False
            files = await self._files(seen)
            folder = await asyncio.to_thread(self._lay_out, seen, files)
            self._laid = seen.head
            if folder == self.folder:
                return False
            self.folder = folder
        log.info("models.laid_out", folder=str(folder))
        for follower in self._followers:
            await follower(folder)
        return True

    async def run(self, look_s: float = LOOK_S) -> None:
        """Look for choices of other processes, for ever."""
        while True:
            await asyncio.sleep(look_s)
            try:
                await self.refresh()
            except OutpostError as error:
                log.warning("models.not_laid_out", code=error.code, detail=error.detail)

    # --- shared.shelf.Shelf

    async def artefacts(
        self, *, model: str | None = None, species: str | None = None, station: str | None = None
    ) -> list[Artefact]:
        """List artefacts by model, name and version."""
        here = await self._checked_station(station or EVERYWHERE)
        seen = await self._seen()
        packaged = await asyncio.to_thread(_manifests, self._base)
        known = {**packaged, **{key: read_manifest(kept.manifest) for key, kept in seen.kept.items()}}
        active = self._active(seen, packaged, here)
        wanted = None if species is None else (species.lower().replace("_", " ").split() or [""])[-1]
        found = []
        for key, manifest in sorted(known.items()):
            names = species_of(manifest)
            if (model is not None and key[0] != model) or (wanted and names and wanted not in names):
                continue
            found.append(self._artefact(key, manifest, seen, is_packaged=key in packaged, is_active=key in active))
        return found

    async def bring(self, manifest: str, *, key: str, signature: str, user_id: str) -> Artefact:
        """Take a model whose file has come, once it is known to be what it says and to run here."""
        told = read_manifest(manifest)
        check_manifest(manifest, key, signature, self._publishers)
        version = (told.model, told.name, told.version)
        if (self._base / told.model / str(told.version) / f"{told.name}.json").exists():
            raise Invalid(f"version: {_title(version)} came with the program: take a higher one")
        data = await self._file(told.sha256)
        if data is None:
            raise NotFound(f"manifest: its file {told.sha256} has not come: bring it to /api/v1/blobs/ first")
        try:
            await asyncio.to_thread(check_usable, told, data)
        except ArtifactError as error:
            raise Invalid(f"manifest: {error.detail}; nothing of it was taken") from error
        kept = Kept(
            model=told.model, name=told.name, version=told.version, sha256=told.sha256, size=len(data),
            manifest=manifest, key=key, signature=signature, brought_by=user_id, created_ms=self._now_ms(),
        )  # fmt: skip

        def job() -> Job[None]:
            there = yield from shelves.find(told.model, told.version, told.name)
            yield from shelves.keep(kept)
            if there is not None:
                return
            yield from audit.write([audit.Entry(self._now_ms(), user_id, "model.brought", _title(version))])

        await self._tables.write(job())
        seen = await self._seen()
        return self._artefact(version, told, seen, is_packaged=False, is_active=False)

    async def activate(
        self, model: str, version: int, name: str | None = None, station: str = EVERYWHERE, user_id: str = BY_CLOUD
    ) -> list[Change]:
        """Choose a version of a model; raises NotFound for one that is not here, Conflict for one that is bad."""
        here = await self._checked_station(station)
        seen, packaged = await self._seen(), await asyncio.to_thread(_manifests, self._base)
        names = [each for each in {**packaged, **seen.kept} if each[0] == model and each[2] == version]
        names = sorted(each for each in names if name is None or each[1] == name)
        if not names:
            raise NotFound(f"there is no {_title((model, name or '*', version))} here")
        for each in names:  # a file may have been damaged since it came
            kept = seen.kept.get(each)
            if kept is not None:
                data = await self._file(kept.sha256)
                try:
                    if data is None:
                        raise ArtifactError(f"{_title(each)}: its file is gone: bring it again")
                    await asyncio.to_thread(check_usable, read_manifest(kept.manifest), data)
                except ArtifactError as error:
                    raise Conflict(f"version: {error.detail}; what serves now stays") from error

        def job() -> Job[list[Change]]:
            made = []
            for each in names:
                before = yield from shelves.choose(here, each[0], each[1], version, user_id, self._now_ms())
                made.append(Change(station=here, model=each[0], name=each[1], before=before, after=version))
            yield from self._told(made, "model.activated", user_id)
            return made

        made = await self._tables.write(job())
        await self.refresh()
        return made

    async def roll_back(
        self, model: str, name: str | None = None, station: str = EVERYWHERE, user_id: str = BY_CLOUD
    ) -> list[Change]:
        """Take the last choice of a model back; without ``name`` of each of its files that one was made of."""
        here = await self._checked_station(station)
        seen = await self._seen()
        names = sorted({each.name for each in seen.made if each.station == here and each.model == model})
        names = (
            [each for each in names if shelves.is_standing(seen.made, here, model, each)] if name is None else [name]
        )

        def job() -> Job[list[Change]]:
            made = []
            for each in names or ["*"]:
                before, after = yield from shelves.take_back(here, model, each, user_id, self._now_ms())
                made.append(Change(station=here, model=model, name=each, before=before, after=after))
            yield from self._told(made, "model.rolled_back", user_id)
            return made

        made = await self._tables.write(job())
        await self.refresh()
        return made

    # --- inside

    def _told(self, made: Sequence[Change], action: str, user_id: str) -> Job[None]:
        lines = [
            f"{each.model}/{each.name}: version {each.before} to {each.after}"
            + (f" at {each.station}" if each.station else "")
            for each in made
        ]
        yield from audit.write([audit.Entry(self._now_ms(), user_id, action, line) for line in lines])

    async def _checked_station(self, station: str) -> str:
        if not station:
            return EVERYWHERE
        if self._knows_station is None:
            raise Invalid("station: a station chooses for itself alone; leave it out")
        if not await self._knows_station(station):
            raise NotFound(f"there is no station {station}")
        return station

    async def _seen(self) -> _Seen:
        def job() -> Job[_Seen]:
            kept = yield from shelves.listed()
            made = yield from shelves.choices()
            head = made[-1].n if made else 0
            return _Seen(kept={(each.model, each.name, each.version): each for each in kept}, made=made, head=head)

        return await self._tables.read(job())

    async def _file(self, sha256: str) -> bytes | None:
        def job() -> Job[bytes | None]:
            blob = yield from blobs.find(sha256)
            if blob is None or not blob.is_whole:
                return None
            return (yield from blobs.read(sha256, 0, blob.size))

        return await self._tables.read(job())

    async def _files(self, seen: _Seen) -> dict[str, bytes]:
        """Return the files of the layout that are not on disk as they should be."""
        found: dict[str, bytes] = {}
        for key in self._used(seen):
            kept = seen.kept.get(key)
            if kept is None or await asyncio.to_thread(_is_whole, self._stored(kept.sha256), kept.sha256):
                continue
            data = await self._file(kept.sha256)
            if data is not None:
                found[kept.sha256] = data
        return found

    def _stored(self, sha256: str) -> Path:
        return self._root / "files" / f"{sha256}.bin"

    def _used(self, seen: _Seen) -> set[Version]:
        """Return the brought versions that the layout may need."""
        used = {key for key in shelves.once_chosen(seen.made, EVERYWHERE) if key in seen.kept}
        return used | {key for key in seen.kept if self._forced.get(key[0]) == key[2]}

    def _allowed(self, seen: _Seen, packaged: Mapping[Version, Manifest], station: str) -> list[Version]:
        """Return the versions of the layout: of each file the chosen one and those that may serve in its place."""
        chosen = shelves.in_force(seen.made, station)
        before = shelves.once_chosen(seen.made, station)
        found = []
        for key in {**packaged, **seen.kept}:
            model, name, version = key
            if model in self._forced:
                if version == self._forced[model]:
                    found.append(key)
                continue
            choice = chosen.get((model, name))
            highest = NONE_CHOSEN if choice is None else choice.version
            if highest == NONE_CHOSEN:
                if key in packaged:
                    found.append(key)
            elif version <= highest and (key in packaged or key in before):
                found.append(key)
        return found

    def _active(self, seen: _Seen, packaged: Mapping[Version, Manifest], station: str) -> set[Version]:
        newest: dict[File, int] = {}
        for model, name, version in self._allowed(seen, packaged, station):
            if (model, name, version) not in self._problems:
                newest[model, name] = max(version, newest.get((model, name), 0))
        return {(model, name, version) for (model, name), version in newest.items()}

    def _artefact(
        self, key: Version, manifest: Manifest, seen: _Seen, *, is_packaged: bool, is_active: bool
    ) -> Artefact:
        kept = seen.kept.get(key)
        places = dict.fromkeys(each.station for each in seen.made)
        chosen_at = tuple(
            place
            for place in places
            if (choice := shelves.in_force(seen.made, place).get(key[:2])) is not None
            and (choice.station, choice.version) == (place, key[2])
        )
        return Artefact(
            model=key[0], name=key[1], version=key[2], sha256=manifest.sha256,
            size=sum(array.size_bytes for array in manifest.arrays), species=species_of(manifest),
            metrics=manifest.metrics, datasets=tuple(each.dataset for each in manifest.trained_on),
            licence=manifest.licence, is_packaged=is_packaged, is_active=is_active,
            is_forced=self._forced.get(key[0]) == key[2], chosen_at=chosen_at,
            signed_by=None if kept is None else kept.key, brought_by=None if kept is None else kept.brought_by,
            brought_at=None if kept is None else from_ms(kept.created_ms), problem=self._problems.get(key),
        )  # fmt: skip

    def _lay_out(self, seen: _Seen, files: Mapping[str, bytes]) -> Path:
        """Write the next generation and return its folder; the program's own where nothing was chosen or forced."""
        if not seen.made and not self._forced:
            return self._base
        packaged = _manifests(self._base)
        for model, version in self._forced.items():
            if not any((key[0], key[2]) == (model, version) for key in {**packaged, **seen.kept}):
                log.error("models.forced_missing", model=model, version=version)
        self._stored("").parent.mkdir(parents=True, exist_ok=True)
        for sha256, data in files.items():
            fresh = self._stored(sha256).with_suffix(".new")
            fresh.write_bytes(data)
            fresh.replace(self._stored(sha256))
        self._generation += 1
        place = self._root / f"{seen.head}.{self._generation}"
        shutil.rmtree(place, ignore_errors=True)
        problems: dict[Version, str] = {}
        for key in self._allowed(seen, packaged, EVERYWHERE):
            if (kept := seen.kept.get(key)) is not None and (why := self._broken(kept)) is not None:
                problems[key] = why
                log.error("models.refused", detail=why)
                continue
            _link(self._base if key in packaged else None, place, key, kept, self._stored)
        for model in {key[0] for key in packaged}:  # nothing but a clear word, where nothing of it may be used
            (place / model).mkdir(parents=True, exist_ok=True)
        self._problems = problems
        for old in self._root.iterdir():  # the last but one may still be read from
            if old.is_dir() and old.name != "files" and old not in (place, self.folder):
                shutil.rmtree(old, ignore_errors=True)
        return place

    def _broken(self, kept: Kept) -> str | None:
        """Return why a file on disk cannot be used; it is taken out, and comes from the database again."""
        try:
            check_usable(read_manifest(kept.manifest), self._stored(kept.sha256).read_bytes())
        except (ArtifactError, Invalid) as error:
            self._stored(kept.sha256).unlink(missing_ok=True)
            return error.detail
        except OSError as error:
            return f"{_title((kept.model, kept.name, kept.version))}: its file is gone: {error.strerror}"
        return None


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False


def _link(base: Path | None, place: Path, key: Version, kept: Kept | None, stored: Callable[[str], Path]) -> None:
    model, name, version = key
    folder = place / model / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    if base is not None:
        for kind in ("bin", "json"):
            (folder / f"{name}.{kind}").symlink_to((base / model / str(version) / f"{name}.{kind}").absolute())
    elif kept is not None:
        (folder / f"{name}.bin").symlink_to(stored(kept.sha256).absolute())
        (folder / f"{name}.json").write_text(kept.manifest, encoding="utf-8")


def _manifests(folder: Path) -> dict[Version, Manifest]:
    """Return the manifests of a folder of artefacts that can be read."""
    found: dict[Version, Manifest] = {}
    for place in sorted(folder.iterdir()) if folder.is_dir() else []:
        for version in versions(folder, place.name):
            for path in sorted((place / str(version)).glob("*.json")):
                try:
                    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
                except (msgspec.DecodeError, OSError) as error:
                    log.warning("models.unreadable", file=str(path), error=str(error))
                    continue
                found[place.name, path.stem, version] = manifest
    return found


def _title(key: Version) -> str:
    return f"{key[0]}/{key[2]}/{key[1]}"


async def folder_of(shelf: HomeShelf, base: Path) -> Path:
    """Return where runtimes shall load from; what the program came with where the shelf cannot be laid out."""
    try:
        await shelf.refresh()
    except (OutpostError, OSError) as error:
        log.error("models.not_laid_out", detail=str(error))
        return base
    return shelf.folder
