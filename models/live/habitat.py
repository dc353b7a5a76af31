"""``shared.habitat.Habitat`` over a reserve's maps, read in a process of their own (``models.live.apart``).

Without ``rasters.toml`` there is no process at all.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from models.artifact import PACKAGED, versions
from models.habitat.runtime import load_model
from models.live import habitat_child as child
from models.live.apart import IDLE_S, LONGEST_S, Apart
from shared.errors import Invalid, ModelUnavailable
from shared.habitat import Ground, Suited
from shared.insight import ModelStatus
from shared.movement.areas import Place

#: What a folder of maps has.
RASTERS: Final = "rasters.toml"
#: What was said of the model's status is said again for so long.
SAID_AGAIN_S: Final = 60.0
#: Tiles that are kept.
_TILES: Final = 256
_DEEPEST_ZOOM: Final = 22

P = ParamSpec("P")
T = TypeVar("T")


class MappedHabitat:
    """Implements ``Habitat`` over the maps of ``folder``; ``close`` ends the process."""

    def __init__(
        self, folder: Path | None, artifacts: Path = PACKAGED, *, idle_s: float = IDLE_S, longest_s: float = LONGEST_S
    ) -> None:
        self._path = None if folder is None else folder / RASTERS
        self._artifacts = artifacts
        self._apart = Apart("habitat", idle_s=idle_s, longest_s=longest_s)
        self._said: tuple[float, str | None, ModelStatus] | None = None
        self._tiles: OrderedDict[tuple[object, ...], bytes] = OrderedDict()

    @property
    def has_maps(self) -> bool:
        """Whether there is a file that names maps."""
        return self._path is not None and self._path.is_file()

    @property
    def is_running(self) -> bool:
        """Whether the process of maps runs."""
        return self._apart.is_running

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
            await self._ask(child.open_maps)
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
        return await self._ask(child.suitability, self._artifacts, species, list(places), month)

    async def ground(self, place: Place, radius_m: float, month: int) -> Ground:
        """Return what the maps say of a place."""
        return await self._ask(child.ground, place, radius_m, month)

    async def tile(self, species: str, z: int, x: int, y: int, month: int) -> bytes:
        """Return a tile of Web Mercator of suitability as PNG."""
        if not (0 <= z <= _DEEPEST_ZOOM and 0 <= x < 1 << z and 0 <= y < 1 << z):
            raise Invalid(f"there is no tile {z}/{x}/{y}")
        path = self._named()
        about = path.stat()
        key = (species, z, x, y, month, about.st_mtime_ns, about.st_size)
        if key not in self._tiles:
            self._tiles[key] = await self._ask(child.tile, self._artifacts, species, z, x, y, month)
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
        self._apart.close()

    def _named(self) -> Path:
        if self._path is None:
            raise ModelUnavailable(f"this home has no maps: name a folder with {RASTERS} in habitat.dir")
        if not self._path.is_file():
            raise ModelUnavailable(
                f"this home has no maps: put {RASTERS} and its files into {self._path.parent}, or name another folder "
                "in habitat.dir"
            )
        return self._path

    async def _ask(self, work: Callable[Concatenate[Path, P], T], *values: P.args, **named: P.kwargs) -> T:
        """Put a question about the maps; raises ModelUnavailable where it cannot be answered."""
        return await self._apart.ask(work, self._named(), *values, **named)


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
