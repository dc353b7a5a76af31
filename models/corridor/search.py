"""Local search: a route is bettered in its neighbourhood until nothing near it is cheaper.

The band of cells within reach of the route is searched exactly; the best path in it is the next route. The band widens
where a round gains nothing, and the search ends at the widest. Where several routes are given, their bands are one at
first: what two routes found is put together. Where no band holds a path yet they go on widening, twice as far each
time, until one does: a search arrives wherever a path exists, at worst by searching everything. The same search may
begin at a policy's routes or at a straight line, so that anybody can see what the policy adds.

The band is searched by the cells' costs; routes are compared by ``price``, which may say more (roads, losses of
habitat, risk that moves with the hour).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np

from models.corridor.exact import least_cost_within, near
from models.corridor.scores import cost_of
from models.corridor.surface import Cell, IntArray, Surface, edge_step_cost
from shared.errors import Invalid

#: Reaches of the band, in cells.
REACHES: Final = (2, 4, 8, 16)
_ROUNDS: Final = 24


def bettered(
    surface: Surface,
    routes: Sequence[IntArray],
    *,
    reaches: Sequence[int] = REACHES,
    price: Callable[[IntArray], float] | None = None,
    seen: Callable[[float], None] | None = None,
) -> IntArray:
    """Return a route that is at least as good as the best of ``routes``; ``seen`` hears of better costs.

    A route that is given may lead over ground that nothing walks on: its cost is infinite and its band counts. Raises
    Invalid where no path leads from its start to its end.
    """
    if not routes:
        raise Invalid("a local search needs a route to begin with")
    cost = price or (lambda path: cost_of(surface, path))
    best = min(routes, key=cost)
    best_cost = cost(best)
    start, end = Cell(*map(int, best[0])), Cell(*map(int, best[-1]))
    around: Sequence[IntArray] = routes
    level = 0
    for _ in range(_ROUNDS):
        found = _within(surface, around, reaches[level], start, end)
        found_cost = np.inf if found is None else cost(found)
        if found is not None and found_cost < best_cost * (1 - 1e-9):
            best, best_cost, around = found, found_cost, [found]
            if seen is not None:
                seen(best_cost)
            continue
        around = [best]
        level += 1
        if level == len(reaches):
            break
    if not np.isfinite(best_cost):
        best = _reached(surface, routes, 2 * reaches[-1], start, end)
        return bettered(surface, [best], reaches=reaches, price=price, seen=seen)
    return best


def priced(surface: Surface) -> Surface:
    """Return the surface with the price of a crossing on the cells of roads: the nearest that cells come to it.

    It is what a policy and a band see; routes are compared by what they really cost.
    """
    road_price, _ = edge_step_cost(surface)
    added = np.where(surface.is_road, np.float32(road_price), np.float32(0))
    return msgspec.structs.replace(surface, cost=np.asarray(surface.cost + added, dtype=np.float32))


def _reached(surface: Surface, routes: Sequence[IntArray], reach: int, start: Cell, end: Cell) -> IntArray:
    """Return the cheapest path in the narrowest band, of twice the reach each time, that holds one."""
    while True:
        found = _within(surface, routes, reach, start, end)
        if found is not None:
            return found
        if reach >= max(surface.shape):
            raise Invalid("no path leads from start to end: unwalkable ground lies between them")
        reach *= 2


def _within(surface: Surface, routes: Sequence[IntArray], reach: int, start: Cell, end: Cell) -> IntArray | None:
    """Return the cheapest path in the band around routes; None where there is none. Only the band's box is searched."""
    cells = np.concatenate(routes)
    top, left = (int(value) for value in np.maximum(cells.min(axis=0) - reach, 0))
    bottom, right = (int(value) for value in np.minimum(cells.max(axis=0) + reach + 1, surface.shape))
    is_route = np.zeros((bottom - top, right - left), dtype=bool)
    is_route[cells[:, 0] - top, cells[:, 1] - left] = True
    cost = np.where(near(is_route, reach), surface.cost[top:bottom, left:right], np.float32(np.inf))
    try:
        found = least_cost_within(
            cost, Cell(start.row - top, start.column - left), Cell(end.row - top, end.column - left)
        )
    except Invalid:
        return None
    return np.asarray(found + np.array((top, left)))
