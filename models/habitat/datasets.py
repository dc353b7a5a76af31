"""Which animals go with which maps: the published sets by name, or a reserve's own folder.

A reserve puts its track files (``*.csv``) and ``rasters.toml`` into one folder, and, where the defaults do not suit,
``habitat.toml`` with ``Settings``. Maps may lie in a folder beside it; ``rasters.toml`` says where.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np

from models.habitat.availability import PER_USED, home_range, steps
from models.habitat.covariates import Float32Array, FloatArray, IntArray, covariate_names, own_names
from models.habitat.features import RasterSet
from models.habitat.layers import LAND_COVER, Layer, Rasters, read_rasters
from models.habitat.runtime import model_name
from shared.errors import Invalid
from shared.movement.tracks import good_rows

FEWEST_FIXES: Final = 100
_Positive = Annotated[float, msgspec.Meta(gt=0)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is trained: ``habitat.toml``. The defaults are those of the README's tables.

    ``rising`` and ``falling`` name covariates in which suitability may only rise or fall; the trees alone have them.
    ``block_m`` is the side of the squares that are held back. ``bags`` are models on draws of availability of their
    own, averaged. ``blend`` is the share of the trees beside the regression, ``crowding`` how much less a fix weighs
    where there are many.
    """

    availability: Literal["home_range", "steps"] = "home_range"
    per_used: Annotated[int, msgspec.Meta(ge=1, le=100)] = PER_USED
    most_available: Annotated[int, msgspec.Meta(ge=1_000)] = 50_000
    block_m: _Positive = 5_000.0
    rising: tuple[str, ...] = ()
    falling: tuple[str, ...] = ()
    depth: Annotated[int, msgspec.Meta(ge=1, le=6)] = 3
    rounds: Annotated[int, msgspec.Meta(ge=1, le=2_000)] = 100
    learning_rate: _Positive = 0.1
    rows: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.6
    columns: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.4
    l2: Annotated[float, msgspec.Meta(ge=0)] = 100.0
    least_weight: Annotated[float, msgspec.Meta(ge=0)] = 100.0
    bins: Annotated[int, msgspec.Meta(ge=2, le=254)] = 32
    crowding: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.25
    bags: Annotated[int, msgspec.Meta(ge=1, le=20)] = 1
    blend: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.6


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """Animals of one species on one set of maps; ``is_each_alone`` measures each animal by itself.

    ``artifact`` is None where the maps mean nothing elsewhere: the set is measured and no model is shipped.
    """

    name: str
    artifact: str | None
    files: tuple[str, ...]
    species: str
    rasters: Rasters
    licence: str
    citation: str
    is_each_alone: bool = False


class Animal(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The usable fixes of one animal in time order, (n,)."""

    individual: str
    times_s: FloatArray
    months: IntArray
    lon_deg: FloatArray
    lat_deg: FloatArray


class Points(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Used and available places, (n,): metres in the plane of the maps, animal by number, covariates (n, k).

    ``own`` are those of the covariates that are values of a map itself, not made of its surroundings or its slope.
    """

    names: tuple[str, ...]
    own: tuple[str, ...]
    values: Float32Array
    is_used: FloatArray
    x_m: FloatArray
    y_m: FloatArray
    animal: IntArray
    months: IntArray
    individuals: tuple[str, ...]

    def part(self, rows: Any) -> Points:
        """Return some of the places."""
        columns = {name: getattr(self, name)[rows] for name in ("values", "is_used", "x_m", "y_m", "animal", "months")}
        return msgspec.structs.replace(self, **columns)


_UTAH: Final = "rasters/coyote_cougar_utah_habitat_250m.tif"
_KRUGER: Final = "rasters/kruger_woody_temp_200m.tif"
_UTAH_LAYERS: Final = (
    Layer(kind="elevation", file=_UTAH, band=1, unit="m"),
    Layer(kind="woody_cover", file=_UTAH, band=2, unit="percent"),
    Layer(kind="biomass", file=_UTAH, band=3, unit="1"),
    Layer(kind="distance_to_road", file=_UTAH, band=4, unit="m"),
)
_MAHONEY: Final = "Mahoney et al. 2016, handle 10255/move.590"
_MOVEBANK: Final = "Movebank Data Repository"


def known_studies(data: Path) -> list[Study]:
    """Return the published sets whose tracks and maps are in the folder."""
    utah = Rasters(layer=_UTAH_LAYERS, folder=data)
    kruger = Rasters(
        layer=(
            Layer(kind="woody_cover", file=_KRUGER, band=1, unit="percent"),
            Layer(kind="temperature", file=_KRUGER, band=2, unit="celsius"),
        ),
        folder=data,
    )
    niger = Layer(
        kind=LAND_COVER,
        file="rasters/buffalo_Wniger_habitat_30m.tif",
        categories={str(number): f"class_{number}" for number in range(1, 5)},
    )
    forest = Layer(kind=LAND_COVER, file="rasters/sh_forest_25m.tif", categories={"1": "forest", "2": "open"})
    cats = ("coyote_cougar_utah_mahoney2016.csv",)
    studies = (
        Study(
            name="coyote", artifact="coyote", files=cats, species="Canis latrans", rasters=utah, licence=_MOVEBANK,
            citation=_MAHONEY, is_each_alone=True,
        ),
        Study(
            name="cougar", artifact="cougar", files=cats, species="Puma concolor", rasters=utah, licence=_MOVEBANK,
            citation=_MAHONEY, is_each_alone=True,
        ),
        Study(
            name="kruger_buffalo", artifact="buffalo", files=("buffalo_kruger_cross2016.csv",),
            species="Syncerus caffer", rasters=kruger, licence="Movebank Data Repository; distributed with ctmm, GPL-3",
            citation="Cross et al. 2016, doi:10.5441/001/1.j900f88t",
        ),
        Study(
            name="red_deer", artifact="red_deer", files=("reddeer_amt.csv",), species="Cervus elaphus",
            rasters=Rasters(layer=(forest,), folder=data), licence="distributed with amt, GPL-3",
            citation="Verein fuer Wildtierforschung, in amt",
        ),
        Study(
            name="w_niger_buffalo", artifact=None, files=("buffalo_Wniger_activity.csv",), species="Syncerus caffer",
            rasters=Rasters(layer=(niger,), folder=data), licence="distributed with adehabitatLT, GPL-2 or later",
            citation="Cornelis et al., W National Park, Niger",
        ),
    )  # fmt: skip
    return [study for study in studies if all((data / one).is_file() for one in _needed(study))]


def studies_in(data: Path) -> list[Study]:
    """Return what can be trained and measured on a folder; raises Invalid where nothing can."""
    path = next((one for one in (data / "rasters.toml", data / "rasters" / "rasters.toml") if one.is_file()), None)
    if path is None:
        found = known_studies(data)
        if not found:
            raise Invalid(f"{data}: no rasters.toml, and none of the published sets with maps is here")
        return found
    rasters = read_rasters(path)
    files = sorted(one.name for one in data.glob("*.csv"))
    by_species: dict[str, list[str]] = {}
    for file in files:
        for species in dict.fromkeys(row.species or "" for row in good_rows(data / file)):
            by_species.setdefault(species, []).append(file)
    if not by_species:
        raise Invalid(f"{data}: no track file (*.csv) with fixes beside {path.name}")
    return [
        Study(
            name=model_name(species), artifact=model_name(species), files=tuple(of_species), species=species,
            rasters=rasters, licence="the reserve's own", citation="the reserve's own",
        )
        for species, of_species in sorted(by_species.items())
    ]  # fmt: skip


def settings_in(data: Path) -> Settings:
    """Return ``habitat.toml`` of a folder, or the defaults; raises Invalid."""
    path = data / "habitat.toml"
    if not path.is_file():
        return Settings()
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Settings)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: {error}") from error


def animals_of(data: Path, study: Study) -> list[Animal]:
    """Return the animals of a study with enough fixes, by name; raises Invalid where there is none."""
    fixes: dict[str, list[tuple[float, int, float, float]]] = {}
    for file in study.files:
        for row in good_rows(data / file):
            if (row.species or "") == study.species and row.lon_deg is not None and row.lat_deg is not None:
                fix = (row.recorded_at.timestamp(), row.recorded_at.month, row.lon_deg, row.lat_deg)
                fixes.setdefault(row.individual, []).append(fix)
    animals = []
    for individual, rows in sorted(fixes.items()):
        # One fix an instant; copies of a fix do not count twice.
        columns = np.array(sorted({row[0]: row for row in rows}.values()))
        if len(columns) >= FEWEST_FIXES:
            times_s, months, lon, lat = columns.T
            animals.append(
                Animal(individual=individual, times_s=times_s, months=months.astype(np.int64), lon_deg=lon, lat_deg=lat)
            )
    if not animals:
        raise Invalid(f"{', '.join(study.files)}: no animal of {study.species!r} has {FEWEST_FIXES} fixes")
    return animals


def points_of(animals: Iterable[Animal], rasters: RasterSet, settings: Settings, seed: int) -> Points:
    """Return the fixes on the maps and what was available instead; raises Invalid where no fix lies on a map."""
    rng = np.random.default_rng(seed)
    animals = [_near(one, rasters) for one in animals]
    n_fixes = sum(one.times_s.size for one in animals)
    per_used = max(1, min(settings.per_used, settings.most_available // n_fixes))
    parts = []
    for number, animal in enumerate(animals):
        x_m, y_m = rasters.grid.to_metres(animal.lon_deg, animal.lat_deg)
        if settings.availability == "steps":
            ends, free_x, free_y = steps(animal.times_s, x_m, y_m, per_used, rng)
            x_m, y_m, months = x_m[ends], y_m[ends], animal.months[ends]
            free_x, free_y = free_x.ravel(), free_y.ravel()
            free_months = np.repeat(months, per_used)
        else:
            months = animal.months
            free_x, free_y = home_range(x_m, y_m, per_used * x_m.size, rng)
            free_months = rng.permutation(np.repeat(months, per_used))
        is_used = np.repeat((1.0, 0.0), (x_m.size, free_x.size))
        parts.append((
            np.concatenate((x_m, free_x)), np.concatenate((y_m, free_y)), is_used,
            np.full(is_used.size, number), np.concatenate((months, free_months)),
        ))  # fmt: skip
    x_m, y_m, is_used, animal_number, months = (np.concatenate(column) for column in zip(*parts, strict=True))
    names = covariate_names(rasters.kinds, rasters.rasters.categories)
    return at_places(rasters, names, x_m, y_m, is_used, animal_number, months, tuple(one.individual for one in animals))


def _near(animal: Animal, rasters: RasterSet) -> Animal:
    """Return the animal without the fixes that are far from the maps; raises Invalid where all are."""
    is_near = np.isfinite(rasters.grid.to_metres(animal.lon_deg, animal.lat_deg)[0])
    if not is_near.any():
        raise Invalid(f"no fix of {animal.individual} lies on the maps: is their coordinate system right?")
    return Animal(
        individual=animal.individual,
        times_s=animal.times_s[is_near],
        months=animal.months[is_near],
        lon_deg=animal.lon_deg[is_near],
        lat_deg=animal.lat_deg[is_near],
    )


def at_places(
    rasters: RasterSet,
    names: tuple[str, ...],
    x_m: FloatArray,
    y_m: FloatArray,
    is_used: FloatArray,
    animal: IntArray,
    months: IntArray,
    individuals: tuple[str, ...],
) -> Points:
    """Return places with their covariates, those without any left out."""
    lon_deg, lat_deg = rasters.grid.from_metres(x_m, y_m)
    values = np.full((x_m.size, len(names)), np.nan, dtype=np.float32)
    seasons = {tuple(one.key for one in rasters.rasters.at(month).values()): month for month in range(12, 0, -1)}
    for season, month in seasons.items():
        of_season = [m for m in range(1, 13) if tuple(one.key for one in rasters.rasters.at(m).values()) == season]
        here = np.flatnonzero(np.isin(np.asarray(months), of_season))
        if here.size:
            values[here] = rasters.at(names, lon_deg[here], lat_deg[here], month)
    points = Points(
        names=names, own=own_names(rasters.kinds, names), values=values, is_used=is_used,
        x_m=x_m, y_m=y_m, animal=animal, months=months,
        individuals=individuals,
    )  # fmt: skip
    is_on_map = np.asarray(np.isfinite(values).any(axis=1))
    if not is_on_map[is_used > 0].any():
        raise Invalid(f"no fix of {', '.join(individuals)} lies on the maps: is their coordinate system right?")
    return points.part(is_on_map)


def _needed(study: Study) -> list[str]:
    return [*study.files, *(layer.file for layer in study.rasters.layer)]
