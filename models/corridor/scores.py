"""What a planner asks of a route: its cost term by term, how it compares with the exact one, what it passes."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from models.corridor.exact import MovingRisk, least_cost, moving_cost, widths_m
from models.corridor.surface import EDGE_TERMS, Cell, Float32Array, FloatArray, IntArray, Surface, edge_step_cost
from shared.errors import Invalid

#: Risk from which ground counts as exposed.
EXPOSED: Final = 0.5


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of a route. Costs are cells of cost; ``terms`` add up to ``cost``.

    ``bound`` is the cost of the exact least-cost path over the cells, ``cost_ratio`` the route's cost without edges
    over it: at least 1, and 1 is the best there is. ``bound_terms`` are that path's terms, to compare one by one.
    ``conflict_exposure`` is the mean risk on the way, ``exposed_m`` its length in risk of 0.5 and more;
    ``mean_habitat`` the mean suitability. None where the maps do not say. Widths are those of good ground around the
    route, ``bottleneck_cells`` the cells narrower than the species' minimum width.
    """

    cost: float
    terms: dict[str, float]
    bound: float
    bound_terms: dict[str, float]
    cost_ratio: float
    length_m: float
    conflict_exposure: float | None
    exposed_m: float | None
    mean_habitat: float | None
    min_width_m: float
    mean_width_m: float
    bottleneck_cells: int
    crossings: int
    moving_cost: float | None = None


def scores_of(
    surface: Surface, path: IntArray, *, exact: IntArray | None = None, risk: MovingRisk | None = None
) -> Scores:
    """Return the scores of a path of neighbouring cells; raises Invalid where it leaps or leaves walkable ground.

    ``exact``: the least-cost path between its ends where it is known already.
    """
    check_path(surface, path)
    best = exact if exact is not None else least_cost(surface, *(_cell(path[end]) for end in (0, -1)))
    terms, best_terms = terms_of_path(surface, path), terms_of_path(surface, best)
    cells = sum(value for name, value in terms.items() if name not in EDGE_TERMS)
    bound = sum(value for name, value in best_terms.items() if name not in EDGE_TERMS)
    lengths = step_cells(path)
    conflict = _along(surface.conflict, path)
    widths = widths_m(surface)[path[:, 0], path[:, 1]]
    is_exposed = None if conflict is None else (conflict[:-1] + conflict[1:]) / 2 >= EXPOSED
    return Scores(
        cost=round(sum(terms.values()), 4),
        terms={name: round(value, 4) for name, value in terms.items()},
        bound=round(bound, 4),
        bound_terms={name: round(value, 4) for name, value in best_terms.items()},
        cost_ratio=round(max(1.0, cells / bound), 6),
        length_m=round(float(lengths.sum()) * surface.cell_m, 1),
        conflict_exposure=None if conflict is None else round(_mean(conflict, lengths), 4),
        exposed_m=None if is_exposed is None else round(float(lengths[is_exposed].sum()) * surface.cell_m, 1),
        mean_habitat=_habitat(surface, path, lengths),
        min_width_m=round(float(widths.min()), 1),
        mean_width_m=round(float(widths.mean()), 1),
        bottleneck_cells=int((widths < surface.weights.edges.min_width_m).sum()),
        crossings=crossings(surface, path),
        moving_cost=None if risk is None else round(moving_cost(surface, path, risk), 4),
    )


def terms_of_path(surface: Surface, path: IntArray) -> dict[str, float]:
    """Return what a path costs by term; they add up to its cost."""
    lengths = step_cells(path)
    found = {}
    for name, values in surface.terms.items():
        along = values[path[:, 0], path[:, 1]].astype(np.float64)
        found[name] = float((lengths * (along[:-1] + along[1:]) / 2).sum())
    road_price, habitat_price = edge_step_cost(surface)
    if surface.has_edges:
        is_habitat = surface.is_habitat[path[:, 0], path[:, 1]]
        found["crossings"] = road_price * crossings(surface, path)
        found["fragmentation"] = habitat_price * int((is_habitat[:-1] & ~is_habitat[1:]).sum())
    return found


def cost_of(surface: Surface, path: IntArray) -> float:
    """Return what a path costs over its cells, without edges."""
    along = surface.cost[path[:, 0], path[:, 1]].astype(np.float64)
    return float((step_cells(path) * (along[:-1] + along[1:]) / 2).sum())


def cost_with_edges(surface: Surface, path: IntArray) -> float:
    """Return what a path costs with its edges."""
    return sum(terms_of_path(surface, path).values())


def step_cells(path: IntArray) -> FloatArray:
    """Return the length of each move, in cells."""
    down, right = np.diff(path, axis=0).T.astype(np.float64)
    return np.asarray(np.hypot(down, right))


def crossings(surface: Surface, path: IntArray) -> int:
    """Return how often a path goes onto a road."""
    is_road = surface.is_road[path[:, 0], path[:, 1]]
    return int((is_road[1:] & ~is_road[:-1]).sum())


def check_path(surface: Surface, path: IntArray) -> None:
    """Raise Invalid unless a path goes from neighbour to neighbour over ground that can be walked on."""
    if path.ndim != 2 or path.shape[0] < 2 or path.shape[1] != 2:
        raise Invalid("a route has at least two places in different cells")
    steps = np.abs(np.diff(path, axis=0))
    if int(steps.max()) > 1 or (steps.max(axis=1) == 0).any():
        raise Invalid("a route goes from cell to neighbouring cell")
    if (path < 0).any() or (path >= np.array(surface.shape)).any():
        raise Invalid("the route leaves the map")
    if not np.isfinite(surface.cost[path[:, 0], path[:, 1]]).all():
        raise Invalid("the route leads over ground that nothing walks on, or where the maps have no data")


def straight(start: tuple[int, int], end: tuple[int, int]) -> IntArray:
    """Return the cells of the straight line between two cells, neighbour to neighbour."""
    count = max(abs(end[0] - start[0]), abs(end[1] - start[1])) + 1
    rows = np.rint(np.linspace(start[0], end[0], count))
    columns = np.rint(np.linspace(start[1], end[1], count))
    return np.stack((rows, columns), axis=1).astype(np.int64)


def _cell(place: IntArray) -> Cell:
    return Cell(int(place[0]), int(place[1]))


def _mean(values: FloatArray, lengths: FloatArray) -> float:
    return float((lengths * (values[:-1] + values[1:]) / 2).sum() / lengths.sum())


def _along(values: Float32Array, path: IntArray) -> FloatArray | None:
    found = values[path[:, 0], path[:, 1]].astype(np.float64)
    return found if bool(np.isfinite(found).all()) else None


def _habitat(surface: Surface, path: IntArray, lengths: FloatArray) -> float | None:
    found = _along(surface.suitability, path)
    return None if found is None else round(_mean(found, lengths), 4)
