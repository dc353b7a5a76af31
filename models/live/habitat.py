"""``shared.habitat.Habitat`` over a reserve's maps, by a process of its own that is started when it is needed.

::

    home ---- questions ----> process of maps: rasterio, maps, model
         <---- answers -----  (ends by itself with the home, and is ended when nobody asked for a while)

A map that hangs or a library that falls takes that process along and nothing else: the question is answered with
ModelUnavailable, and the next one starts another. Without ``rasters.toml`` there is no process at all.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Final, TypeVar

import structlog

from models.artifact import PACKAGED, versions
from models.habitat.runtime import load_model
from models.live import habitat_child as child
from shared.errors import Invalid, ModelUnavailable
from shared.habitat import Ground, Suited
from shared.insight import ModelStatus
from shared.movement.areas import Place

log = structlog.get_logger()

#: What a folder of maps has.
RASTERS: Final = "rasters.toml"
#: A question that takes longer has met a map that hangs.
LONGEST_S: Final = 60.0
#: The process is ended when nobody asked for so long: its libraries hold a third of what the station may take.
IDLE_S: Final = 120.0
#: What was said of the model's status is said again for so long.
SAID_AGAIN_S: Final = 60.0
#: Tiles that are kept.
_TILES: Final = 256
_DEEPEST_ZOOM: Final = 22

T = TypeVar("T")


class MappedHabitat:
    """Implements ``Habitat`` over the maps of ``folder``; ``close`` ends the process."""

    def __init__(
        self, folder: Path | None, artifacts: Path = PACKAGED, *, idle_s: float = IDLE_S, longest_s: float = LONGEST_S
    ) -> None:
        self._path = None if folder is None else folder / RASTERS
        self._artifacts = artifacts
        self._idle_s = idle_s
        self._longest_s = longest_s
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()
        self._said: tuple[float, str | None, ModelStatus] | None = None
        self._tiles: OrderedDict[tuple[object, ...], bytes] = OrderedDict()

    @property
    def has_maps(self) -> bool:
        """Whether there is a file that names maps."""
        return self._path is not None and self._path.is_file()

    @property
    def is_running(self) -> bool:
        """Whether the process of maps runs."""
        return self._pool is not None

    def missing(self) -> str | None:
        """Return why there are no maps; None where a file names some."""
        try:
            self._named()
        except ModelUnavailable as error:
            return error.detail
        return None

    async def status(self) -> ModelStatus:
        """Say how the model is: ready where maps open and an artefact loads, degraded where one was refused.

        What was said is said again for a minute: anybody may ask, and opening maps takes a process.
        """
        now_s = asyncio.get_running_loop().time()
        if self._said is None or now_s - self._said[0] > SAID_AGAIN_S or self._said[1] != self.missing():
            self._said = now_s, self.missing(), await self._look()
        return self._said[2]

    async def _look(self) -> ModelStatus:
        found, refused = await asyncio.to_thread(_artefacts, self._artifacts)
        missing = None
        try:
            await self._ask(lambda pool, path: pool.submit(child.open_maps, path))
        except ModelUnavailable as error:
            missing = error.detail
        if missing is not None or not found:
            why = missing or "; ".join(refused) or "there is no artefact"
            return ModelStatus(model="habitat", status="unavailable", versions=found, detail=why)
        return ModelStatus(
            model="habitat",
            status="degraded" if refused else "ready",
            versions=found,
            detail="; ".join(refused) or None,
        )

    async def suitability(self, species: str | None, places: Sequence[Place], month: int) -> Suited:
        """Return how suitable places are for a species in a month."""
        asked = list(places)
        return await self._ask(
            lambda pool, path: pool.submit(child.suitability, path, self._artifacts, species, asked, month)
        )

    async def ground(self, place: Place, radius_m: float, month: int) -> Ground:
        """Return what the maps say of a place."""
        return await self._ask(lambda pool, path: pool.submit(child.ground, path, place, radius_m, month))

    async def tile(self, species: str, z: int, x: int, y: int, month: int) -> bytes:
        """Return a tile of Web Mercator of suitability as PNG."""
        if not (0 <= z <= _DEEPEST_ZOOM and 0 <= x < 1 << z and 0 <= y < 1 << z):
            raise Invalid(f"there is no tile {z}/{x}/{y}")
        path = self._named()
        about = path.stat()
        key = (species, z, x, y, month, about.st_mtime_ns, about.st_size)
        if key not in self._tiles:
            self._tiles[key] = await self._ask(
                lambda pool, path: pool.submit(child.tile, path, self._artifacts, species, z, x, y, month)
            )
            while len(self._tiles) > _TILES:
                self._tiles.popitem(last=False)
        self._tiles.move_to_end(key)
        return self._tiles[key]

    def turn_to(self, artifacts: Path) -> None:
        """Take models from another folder from now on."""
        self._artifacts = artifacts
        self._said = None
        self._tiles.clear()

    def close(self) -> None:
        """End the process."""
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        pool, self._pool = self._pool, None
        if pool is not None:
            _end(pool)

    def _named(self) -> Path:
        if self._path is None:
            raise ModelUnavailable(f"this home has no maps: name a folder with {RASTERS} in habitat.dir")
        if not self._path.is_file():
            raise ModelUnavailable(
                f"this home has no maps: put {RASTERS} and its files into {self._path.parent}, or name another folder "
                "in habitat.dir"
            )
        return self._path

    async def _ask(
        self, submit: Callable[[concurrent.futures.ProcessPoolExecutor, Path], concurrent.futures.Future[T]]
    ) -> T:
        """Put a question to the process, one at a time; raises ModelUnavailable where it cannot be answered."""
        path = self._named()
        async with self._turn:
            if self._ending is not None:
                self._ending.cancel()
                self._ending = None
            try:
                if self._pool is None:
                    self._pool = concurrent.futures.ProcessPoolExecutor(
                        1, mp_context=multiprocessing.get_context("spawn"), initializer=child.begin
                    )
                pool = self._pool
                asked = await asyncio.to_thread(submit, pool, path)  # the first starts the process, which takes a while
                return await asyncio.wait_for(asyncio.wrap_future(asked), self._longest_s)
            except BrokenProcessPool as error:
                log.error("habitat.fell")
                self.close()
                raise ModelUnavailable(
                    "the process that reads the maps fell; the next question starts another"
                ) from error
            except TimeoutError as error:
                log.error("habitat.hung", after_s=self._longest_s)
                self.close()
                raise ModelUnavailable(f"the maps gave no answer within {self._longest_s:g} s") from error
            finally:
                if self._pool is not None:
                    self._ending = asyncio.get_running_loop().call_later(self._idle_s, self.close)


def _end(pool: concurrent.futures.ProcessPoolExecutor) -> None:
    """End the process of a pool without waiting for what it does."""
    processes = list((pool._processes or {}).values())  # there is no public way before Python 3.14
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()


def _artefacts(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Return the version of each species' model that can be loaded, and why others cannot."""
    names = sorted({
        file.stem
        for version in versions(folder, "habitat")
        for file in (folder / "habitat" / str(version)).glob("*.json")
    })  # fmt: skip
    found: dict[str, str] = {}
    refused: list[str] = []
    for name in names:
        try:
            model = load_model(name, folder, is_guess_allowed=True)
        except ModelUnavailable as error:
            refused.append(error.detail)
            continue
        refused += model.refused
        if model.name == name and not model.is_guess:
            found[name] = str(model.version)
    return found, list(dict.fromkeys(refused))
