"""How suitable the places are where animals stand: the stage of the pipeline between path and forecast."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared.errors import ModelUnavailable, OutpostError
from shared.habitat import Habitat
from shared.movement.areas import Place


class Spot(msgspec.Struct, frozen=True):
    """A place, the species that stands there, and the month."""

    species: str
    place: Place
    month: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How suitable a spot is and by which model; ``missing``: why nobody can tell."""

    suitability: float | None = None
    model: str | None = None
    missing: str | None = None


async def standings(habitat: Habitat, spots: Sequence[Spot]) -> list[Standing]:
    """Return how suitable spots are, in their order; those of one species and month are asked together."""
    found: dict[int, Standing] = {}
    for species, month in dict.fromkeys((spot.species, spot.month) for spot in spots):
        numbers = [n for n, spot in enumerate(spots) if (spot.species, spot.month) == (species, month)]
        try:
            said = await habitat.suitability(species, [spots[n].place for n in numbers], month)
        except ModelUnavailable as error:
            found |= dict.fromkeys(numbers, Standing(missing=error.detail))
            continue
        except OutpostError as error:  # a fault of one model is no reason to lose another
            found |= dict.fromkeys(numbers, Standing(missing=f"failed: {error.detail}"))
            continue
        for n, value in zip(numbers, said.suitability, strict=True):
            outside = "its place lies outside the maps, or they have no data there" if value is None else None
            found[n] = Standing(suitability=value, model=f"{said.model} {said.version}", missing=outside)
    return [found[n] for n in range(len(spots))]
