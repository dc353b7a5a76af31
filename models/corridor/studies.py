"""What corridors are measured on: landscapes that no policy was trained on, real maps, and real tracks over them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from models.corridor.exact import largest_component
from models.corridor.features import Placed, surface_in
from models.corridor.landscape import HELD_OUT, landscape
from models.corridor.surface import Cell, FloatArray, Surface, plain_surface, read_weights
from models.habitat.features import Window, open_rasters
from models.habitat.layers import Layer, Rasters

#: Sides of generated landscapes, and how many of each.
GENERATED: Final = ((64, 12), (128, 12), (256, 4))
PAIRS: Final = 6
_FAR_SHARE: Final = 0.4
#: Cells that an animal must have gone for its way to be compared with a route, and fixes that it may take.
_WAY_CELLS: Final = 25
_WAY_FIXES: Final = 240


class Case(NamedTuple):
    """Two places on a surface."""

    surface: Surface
    start: Cell
    end: Cell


class RealMap(NamedTuple):
    """A real map and how its layers are read; species.toml's word whose weights are taken."""

    name: str
    layers: tuple[Layer, ...]
    species: str


_UTAH: Final = "coyote_cougar_utah_habitat_250m.tif"
_KRUGER: Final = "kruger_woody_temp_200m.tif"

#: How bad ground is on these maps is what species.toml says of slope, cover and woody cover taken as suitability:
#: good for measuring routes against the exact ones, not a statement on what these animals need.
REAL_MAPS: Final = (
    RealMap(
        "utah",
        (
            Layer(kind="elevation", file=_UTAH, unit="m", band=1),
            Layer(kind="habitat_suitability", file=_UTAH, unit="percent", band=2),
            Layer(kind="distance_to_road", file=_UTAH, unit="m", band=4),
        ),
        "default",
    ),
    RealMap("kruger", (Layer(kind="habitat_suitability", file=_KRUGER, unit="percent", band=1, scale=1.5),), "buffalo"),
    RealMap(
        "w_niger",
        (
            Layer(
                kind="land_cover", file="buffalo_Wniger_habitat_30m.tif",
                categories={"1": "grass", "2": "shrub", "3": "bare", "4": "crop"},
            ),
        ),
        "buffalo",
    ),
    RealMap("vinschgau", (Layer(kind="elevation", file="terra_elev_vinschgau_250m.tif", unit="m"),), "default"),
    RealMap(
        "sh_forest",
        (Layer(kind="land_cover", file="sh_forest_25m.tif", categories={"1": "forest", "2": "crop"}),),
        "default",
    ),
)  # fmt: skip

#: Tracks that lie on a real map: file, map, columns of the individual.
TRACKS: Final = (("buffalo_kruger_cross2016.csv", "kruger"), ("coyote_cougar_utah_mahoney2016.csv", "utah"))


def generated(side: int, count: int) -> Iterator[Case]:
    """Return cases on landscapes with seeds that are never trained on, each species' weights in turn."""
    weights = list(read_weights().values())
    for number in range(count):
        seed = HELD_OUT + side * 100 + number
        surface = landscape(seed, (side, side), weights=weights[number % len(weights)])
        yield Case(surface, *pairs_on(surface, 1, seed)[0])


def real(folder: Path) -> Iterator[tuple[str, Placed]]:
    """Return the real maps that are in ``folder/rasters``, as surfaces."""
    weights = read_weights()
    for one in REAL_MAPS:
        if not (folder / "rasters" / one.layers[0].file).is_file():
            continue
        with open_rasters(Rasters(layer=one.layers, folder=folder / "rasters")) as maps:
            window = Window(0, 0, maps.grid.rows, maps.grid.columns)
            yield one.name, surface_in(maps, weights[one.species], window)


def stored_utah(reference: Path) -> Surface | None:
    """Return the stored cost surface of the reference paths, where it is at hand."""
    path = reference / "models" / "lcp_cost_utah.npy"
    return plain_surface(np.load(path, allow_pickle=False), 250.0) if path.is_file() else None


def pairs_on(surface: Surface, count: int, seed: int) -> list[tuple[Cell, Cell]]:
    """Return pairs of places that hang together and lie far apart."""
    rng = np.random.default_rng(seed)
    cells = np.argwhere(largest_component(surface))
    found: list[tuple[Cell, Cell]] = []
    least = _FAR_SHARE * max(surface.shape)
    for _ in range(10_000):
        one, other = cells[rng.integers(len(cells), size=2)]
        if np.abs(one - other).max() >= least:
            found.append((Cell(*map(int, one)), Cell(*map(int, other))))
            if len(found) == count:
                break
    return found


class Way(NamedTuple):
    """A way that an animal went: its fixes as places on the surface, shape (n, 2), in cells."""

    individual: str
    places: FloatArray


def ways_on(path: Path, placed: Placed, most: int) -> list[Way]:
    """Return ways of animals that went far enough, one after another, at most so many of each individual."""
    tracks: dict[str, list[tuple[str, float, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            tracks.setdefault(_individual(row), []).append((row["timestamp"], float(row["lon"]), float(row["lat"])))
    found: list[Way] = []
    for individual, fixes in sorted(tracks.items()):
        ordered = sorted(fixes)
        rows, columns = placed.grid.cells(np.array([one[1] for one in ordered]), np.array([one[2] for one in ordered]))
        places = np.stack((rows - placed.row, columns - placed.column), axis=1) / placed.coarseness
        found += [Way(individual, way) for way in _ways(placed.surface, places)[:most]]
    return found


def _individual(row: dict[str, Any]) -> str:
    return str(next(row[name] for name in ("individual", "animal_id", "id", "name") if name in row))


def _ways(surface: Surface, places: FloatArray) -> list[FloatArray]:
    found: list[FloatArray] = []
    begin = 0
    while begin < len(places):
        away = np.abs(places[begin : begin + _WAY_FIXES] - places[begin]).max(axis=1)
        far = np.flatnonzero(away >= _WAY_CELLS)
        if not far.size:
            begin += _WAY_FIXES // 4
            continue
        way = places[begin : begin + int(far[0]) + 1]
        begin += int(far[0]) + 1
        cells = np.floor(way).astype(np.int64)
        is_inside = bool(((cells >= 0) & (cells < np.array(surface.shape))).all())
        if is_inside and len(way) >= 6 and np.isfinite(surface.cost[cells[:, 0], cells[:, 1]]).all():
            found.append(way)
    return found
