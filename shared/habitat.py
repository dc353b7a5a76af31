"""How suitable places are for a species, as both homes serve it: values and one protocol, no model and no map.

A suitability compares places, 0 to 1, 0.5 where the model cannot tell; it is no chance that an animal is there. It
comes of a reserve's own maps (``rasters.toml`` in the data folder). A home without maps says so and gives nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

from shared.errors import ModelUnavailable
from shared.insight import ModelStatus
from shared.movement.areas import Place


class Suited(msgspec.Struct, frozen=True, kw_only=True):
    """How suitable places are, each in the order asked: None outside the maps.

    ``missing`` are covariates of the model that no map gives. ``model_auc`` and ``model_boyce`` are what the model
    reached on ground or animals that it had not seen; None where that was not measured.
    """

    suitability: tuple[float | None, ...]
    model: str
    version: int
    month: int
    missing: tuple[str, ...] = ()
    model_auc: float | None = None
    model_boyce: float | None = None
    is_guess: bool = False


class LayerSaid(msgspec.Struct, frozen=True, kw_only=True):
    """What a map says of a place and around it, in ``unit``; None where it has no data.

    ``shares`` stand for the numbers where a map has categories.
    """

    kind: str
    unit: str
    value: float | None = None
    mean: float | None = None
    lowest: float | None = None
    highest: float | None = None
    category: str | None = None
    shares: Mapping[str, float] = {}


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What the maps say of a place and of the cells whose middles lie within ``radius_m`` of it."""

    place: Place
    radius_m: float
    month: int
    cell_m: float
    cells: int
    layers: tuple[LayerSaid, ...]


class Habitat(Protocol):
    """What a home knows of habitat. Its questions raise ModelUnavailable without maps or without a model."""

    def missing(self) -> str | None:
        """Return why there are no maps; None where a file names some. None are opened."""
        ...

    async def status(self) -> ModelStatus:
        """Say how the model is."""
        ...

    async def suitability(self, species: str | None, places: Sequence[Place], month: int) -> Suited:
        """Return how suitable places are for a species in a month."""
        ...

    async def ground(self, place: Place, radius_m: float, month: int) -> Ground:
        """Return what the maps say of a place."""
        ...

    async def tile(self, species: str, z: int, x: int, y: int, month: int) -> bytes:
        """Return a tile of Web Mercator of suitability as PNG; Invalid for a tile that is not on the map."""
        ...


_NONE: Final = "this home has no maps: put rasters.toml and its files into the folder habitat.dir"


class NoHabitat:
    """A home without maps."""

    def missing(self) -> str | None:
        """Return that there are none."""
        return _NONE

    async def status(self) -> ModelStatus:
        """Say that nothing serves."""
        return ModelStatus(model="habitat", status="unavailable", detail=_NONE)

    async def suitability(self, species: str | None, places: Sequence[Place], month: int) -> Suited:
        """Raise ModelUnavailable."""
        raise ModelUnavailable(_NONE)

    async def ground(self, place: Place, radius_m: float, month: int) -> Ground:
        """Raise ModelUnavailable."""
        raise ModelUnavailable(_NONE)

    async def tile(self, species: str, z: int, x: int, y: int, month: int) -> bytes:
        """Raise ModelUnavailable."""
        raise ModelUnavailable(_NONE)
