"""Habitat in the original platform's words: ``xgboost/environment/`` and ``xgboost/predict/``."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from shared.habitat import Ground, LayerSaid, Suited
from shared.movement.areas import Place
from shared.wire.public.fields import Latitude, Longitude, Name

Month: TypeAlias = Annotated[int, Meta(ge=1, le=12)]

#: What every suitability must say of itself.
MEANING = "Compares places, 0 to 1, 0.5 where the model cannot tell. It is no chance that an animal is there."


class PlaceIn(Struct, frozen=True, kw_only=True):
    """A place and a species; without a month, that of now."""

    lat: Latitude
    lon: Longitude
    species: Name
    month: Month | None = None

    def place(self) -> Place:
        """Return the place."""
        return Place(lon_deg=self.lon, lat_deg=self.lat)


class LayerOut(Struct, frozen=True, kw_only=True):
    """What a map says of a place and around it; null where it has no data."""

    unit: str
    value: float | None
    mean: float | None
    min: float | None
    max: float | None
    category: str | None
    shares: dict[str, float]

    @classmethod
    def of(cls, layer: LayerSaid) -> LayerOut:
        """Return the public form of a layer."""
        return cls(
            unit=layer.unit,
            value=layer.value,
            mean=layer.mean,
            min=layer.lowest,
            max=layer.highest,
            category=layer.category,
            shares=dict(layer.shares),
        )


class SuitabilityOut(Struct, frozen=True, kw_only=True):
    """How suitable a place is; null outside the maps. ``missing``: covariates of the model that no map gives."""

    suitability: float | None
    meaning: str = MEANING
    species: str
    lat: float
    lon: float
    month: int
    model_version: str
    model_auc: float | None
    model_boyce: float | None
    is_guess: bool
    missing: list[str]

    @classmethod
    def of(cls, species: str, place: Place, found: Suited) -> SuitabilityOut:
        """Return the public form of what was said of one place."""
        (said,) = found.suitability
        return cls(
            suitability=None if said is None else round(said, 4),
            species=species,
            lat=place.lat_deg,
            lon=place.lon_deg,
            month=found.month,
            model_version=f"{found.model} {found.version}",
            model_auc=found.model_auc,
            model_boyce=found.model_boyce,
            is_guess=found.is_guess,
            missing=list(found.missing),
        )


class EnvironmentOut(Struct, frozen=True, kw_only=True):
    """What the maps say of a place and of the cells around it; of a species also how suitable the place is.

    ``missing`` tells why there is no suitability.
    """

    lat: float
    lon: float
    radius_m: float
    month: int
    cell_m: float
    cells: int
    layers: dict[str, LayerOut]
    habitat: SuitabilityOut | None
    missing: str | None

    @classmethod
    def of(cls, ground: Ground, habitat: SuitabilityOut | None, missing: str | None) -> EnvironmentOut:
        """Return the public form of what the maps say."""
        return cls(
            lat=ground.place.lat_deg,
            lon=ground.place.lon_deg,
            radius_m=ground.radius_m,
            month=ground.month,
            cell_m=ground.cell_m,
            cells=ground.cells,
            layers={layer.kind: LayerOut.of(layer) for layer in ground.layers},
            habitat=habitat,
            missing=missing,
        )
