"""A cost surface: what a metre costs on each cell, term by term, and what a species' weights say of it.

::

    cost(cell) = distance + sum of weight x term(cell)           terms 0 (good) .. 1 (bad), weights of species.toml
    cost(path) = sum over moves of length x mean(cost of both cells) + edges        lengths in cells
    edges      = road_m / cell_m a road that is crossed + fragmentation_m / cell_m a time that good habitat is left,
                 times the cost of the cheapest cell

The first line of a path's cost is what ``skimage.graph.MCP_Geometric`` adds up, so a path's cost splits exactly into
its terms. Cells without data in any layer that has a weight cannot be walked on: their cost is infinite. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from shared.errors import Invalid

Float32Array: TypeAlias = npt.NDArray[np.float32]
FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

#: The file of weights that travels with the program.
WEIGHTS: Final = Path(__file__).with_name("species.toml")

#: The eight moves as rows and columns: east, south-east, south, south-west, west, north-west, north, north-east.
MOVES: Final = np.array([(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)], dtype=np.int64)
#: Their lengths in cells.
MOVE_CELLS: Final = np.hypot(MOVES[:, 0], MOVES[:, 1])

#: Terms of a cell, in the order in which answers print them.
TERMS: Final = ("distance", "habitat", "conflict", "settlement", "road", "slope", "water", "cover", "use", "width")
#: Terms that a move between two cells adds.
EDGE_TERMS: Final = ("crossings", "fragmentation")

#: From this suitability on a cell counts as habitat.
GOOD_HABITAT: Final = 0.5


class Cell(NamedTuple):
    """A cell of a surface."""

    row: int
    column: int


class Edges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a move adds beside its cells, and how an animal walks."""

    road_m: float = 400.0
    fragmentation_m: float = 50.0
    min_width_m: float = 500.0
    speed_mps: float = 0.25


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """One species of ``species.toml``, with what it takes over from the default."""

    species: str
    weights: dict[str, float]
    ramps: dict[str, tuple[float, float]]
    cover: dict[str, float]
    impassable: dict[str, float]
    edges: Edges


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    weights: dict[str, float] = {}
    ramps: dict[str, tuple[float, float]] = {}
    cover: dict[str, float] = {}
    impassable: dict[str, float] = {}
    edges: dict[str, float] = {}


class Surface(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A cost surface; arrays (rows, columns).

    ``cost`` is a metre's cost, infinite where nothing walks. ``terms`` are weighted: they add up to ``cost``.
    ``is_road`` and ``is_habitat`` are what edges are told by; ``conflict`` and ``suitability`` are the layers
    themselves, 0 to 1, NaN where there is none.
    """

    cost: Float32Array
    terms: dict[str, Float32Array]
    cell_m: float
    weights: Weights
    is_road: BoolArray
    is_habitat: BoolArray
    conflict: Float32Array
    suitability: Float32Array
    missing: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.cost.shape[0], self.cost.shape[1]

    @property
    def is_passable(self) -> BoolArray:
        """Where an animal can walk."""
        return np.asarray(np.isfinite(self.cost))

    @property
    def has_edges(self) -> bool:
        """Whether a move can cost more than its cells."""
        edges = self.weights.edges
        return bool((edges.road_m > 0 and self.is_road.any()) or (edges.fragmentation_m > 0 and self.is_habitat.any()))


def read_weights(path: Path = WEIGHTS) -> dict[str, Weights]:
    """Read the weights of every species; raises Invalid, naming the file and the entry."""
    try:
        parts = msgspec.toml.decode(path.read_bytes(), type=dict[str, _Part])
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: {error}") from error
    if "default" not in parts:
        raise Invalid(f"{path}: it has no [default.weights], which every species begins with")
    return {name: _merged(name, parts["default"], part, path) for name, part in parts.items()}


def weights_for(species: str | None, known: Mapping[str, Weights]) -> Weights:
    """Return the weights of a species, by any of its words; the default's where it is not known."""
    words = (species or "").lower().replace("_", " ").split()
    return next((known[word] for word in reversed(words) if word in known), known["default"])


def ramp(values: npt.NDArray[Any], good: float, bad: float) -> Float32Array:
    """Return how bad values are: 0 at ``good`` and beyond, 1 at ``bad`` and beyond, linear between; NaN stays."""
    return np.asarray(np.clip((values - np.float32(good)) / np.float32(bad - good), 0, 1), dtype=np.float32)


def terms_of(
    layers: Mapping[str, npt.NDArray[Any]], names: Mapping[int, str], weights: Weights
) -> dict[str, Float32Array]:
    """Return the unweighted terms (0 to 1) that the layers can say, by name; NaN where a layer has no data."""
    found: dict[str, Float32Array] = {}
    for term, layer in (("habitat", "habitat_suitability"), ("use", "utilisation")):
        if layer in layers:
            found[term] = (1 - np.clip(layers[layer], 0, 1)).astype(np.float32)
    if "conflict_risk" in layers:
        found["conflict"] = np.clip(layers["conflict_risk"], 0, 1).astype(np.float32)
    for term, layer in (
        ("slope", "slope"), ("water", "distance_to_water"), ("settlement", "distance_to_settlement"),
        ("road", "distance_to_road"),
    ):  # fmt: skip
        if layer in layers and layer in weights.ramps:
            found[term] = ramp(layers[layer], *weights.ramps[layer])
    if "land_cover" in layers:
        found["cover"] = _cover(layers["land_cover"], names, weights)
    return found


def surface_of(
    terms: Mapping[str, npt.NDArray[Any]],
    *,
    weights: Weights,
    cell_m: float,
    is_road: BoolArray | None = None,
    is_blocked: BoolArray | None = None,
) -> Surface:
    """Return the surface of unweighted terms; raises Invalid where there is nothing to walk on."""
    known = {name: np.asarray(values, dtype=np.float32) for name, values in terms.items() if name != "distance"}
    unknown = set(known) - set(TERMS)
    if unknown or not known:
        raise Invalid(f"a cost surface is made of {', '.join(TERMS[1:])}; given was {', '.join(sorted(terms)) or '-'}")
    shape = next(iter(known.values())).shape
    if any(values.shape != shape or values.ndim != 2 for values in known.values()) or 0 in shape:
        raise Invalid("the layers of a cost surface must have the same rows and columns, and some of each")
    blocked = np.zeros(shape, dtype=bool) if is_blocked is None else is_blocked.copy()
    weighted = {"distance": np.full(shape, weights.weights["distance"], dtype=np.float32)}
    for name in TERMS[1:]:
        if name in known and weights.weights.get(name, 0) > 0:
            blocked |= ~np.isfinite(known[name])
            weighted[name] = np.float32(weights.weights[name]) * known[name]
    cost = np.asarray(np.sum(list(weighted.values()), axis=0), dtype=np.float32)
    cost[blocked] = np.inf
    if blocked.all():
        raise Invalid("no cell of the cost surface can be walked on: the layers have no data in common")
    none = np.full(shape, np.nan, dtype=np.float32)
    suitability = 1 - known["habitat"] if "habitat" in known else none
    return Surface(
        cost=cost,
        terms=weighted,
        cell_m=cell_m,
        weights=weights,
        is_road=np.zeros(shape, dtype=bool) if is_road is None else is_road,
        is_habitat=np.nan_to_num(suitability, nan=0.0) >= GOOD_HABITAT,
        conflict=known.get("conflict", none),
        suitability=suitability.astype(np.float32),
        missing=tuple(name for name in TERMS[1:-1] if name not in known and weights.weights.get(name, 0) > 0),
    )


def plain_surface(cost: npt.NDArray[Any], cell_m: float) -> Surface:
    """Return the surface of ready-made costs a metre: all of it is the term ``habitat`` beyond the cheapest metre.

    Cells that are not finite cannot be walked on; raises Invalid where a cost is not above zero.
    """
    values = np.asarray(cost, dtype=np.float32)
    if values.ndim != 2 or 0 in values.shape:
        raise Invalid("a cost surface has rows and columns")
    is_there = np.isfinite(values)
    if not is_there.any():
        raise Invalid("no cell of the cost surface can be walked on")
    if float(values[is_there].min()) <= 0:
        raise Invalid("a cost surface's costs must be above zero, or a path could grow for nothing")
    least = np.float32(values[is_there].min())
    nowhere = np.zeros(values.shape, dtype=bool)
    none = np.full(values.shape, np.nan, dtype=np.float32)
    weights = Weights(
        species="given", weights={"distance": float(least)}, ramps={}, cover={}, impassable={},
        edges=Edges(road_m=0, fragmentation_m=0),
    )  # fmt: skip
    beyond = np.where(is_there, values - least, 0).astype(np.float32)
    return Surface(
        cost=np.where(is_there, values, np.float32(np.inf)).astype(np.float32),
        terms={"distance": np.full(values.shape, least, dtype=np.float32), "habitat": beyond},
        cell_m=cell_m, weights=weights, is_road=nowhere, is_habitat=nowhere, conflict=none, suitability=none,
    )  # fmt: skip


def edge_step_cost(surface: Surface) -> tuple[float, float]:
    """Return what one crossing of a road and one loss of habitat cost: that many cells of the cheapest ground."""
    least = float(surface.cost[surface.is_passable].min()) / surface.cell_m
    return surface.weights.edges.road_m * least, surface.weights.edges.fragmentation_m * least


def _merged(name: str, default: _Part, part: _Part, path: Path) -> Weights:
    weights = {**default.weights, **part.weights}
    unknown = set(weights) - set(TERMS)
    if unknown:
        raise Invalid(f"{path}: [{name}.weights] has {', '.join(sorted(unknown))}; there are {', '.join(TERMS)}")
    if any(not 0 <= value < 1e6 for value in weights.values()) or weights.get("distance", 0) <= 0:
        raise Invalid(f"{path}: [{name}.weights] must be zero or more, and distance above zero")
    ramps = {**default.ramps, **part.ramps}
    for layer, (good, bad) in ramps.items():
        if good == bad:
            raise Invalid(f"{path}: [{name}.ramps] {layer}: good and bad are the same value")
    try:
        edges = msgspec.convert({**default.edges, **part.edges}, Edges)
    except msgspec.ValidationError as error:
        raise Invalid(f"{path}: [{name}.edges]: {error}") from error
    if min(edges.road_m, edges.fragmentation_m, edges.min_width_m) < 0 or edges.speed_mps <= 0:
        raise Invalid(f"{path}: [{name}.edges]: lengths are zero or more, the speed is above zero")
    return Weights(
        species=name, weights=weights, ramps=ramps, cover={**default.cover, **part.cover},
        impassable={**default.impassable, **part.impassable}, edges=edges,
    )  # fmt: skip


def _cover(values: npt.NDArray[Any], names: Mapping[int, str], weights: Weights) -> Float32Array:
    found = np.full(values.shape, np.nan, dtype=np.float32)
    is_there = np.isfinite(values)
    found[is_there] = 0.5
    for number, name in names.items():
        found[values == number] = weights.cover.get(name, 0.5)
    return found
