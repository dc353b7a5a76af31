"""Exact routes: what every other route is measured against.

- ``least_cost``: the cheapest path over the cells' costs, ``skimage.graph.MCP_Geometric``.
- ``least_cost_with_edges``: the same with road crossings and losses of habitat, which are prices of moves: Dijkstra
  over the graph of cells.
- ``least_cost_moving``: risk that changes with the hour, at the animal's own speed. Time is cut into ticks, a fifth of
  a straight move; a diagonal one takes seven. Every move goes forward in time, so what Dijkstra would settle in the
  time-expanded graph is settled tick after tick, for all cells at once.
- ``widened``: where a minimum width is asked for, which no shortest path can price: the best surrogate that is static,
  a term for cells that are too near to bad ground.

scikit-image and scipy have their home here; a station has neither.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from skimage.graph import MCP_Geometric

from models.corridor.surface import (
    MOVE_CELLS,
    MOVES,
    BoolArray,
    Cell,
    Float32Array,
    FloatArray,
    IntArray,
    Surface,
    edge_step_cost,
)
from shared.errors import Invalid

#: Ticks of a straight and of a diagonal move: 7 / 5 is 1.4, where the square root of 2 is 1.414.
STRAIGHT_TICKS: Final = 5
DIAGONAL_TICKS: Final = 7
#: Cells times ticks that a time-expanded search remembers at most: a byte each.
MOST_STATES: Final = 1_500_000_000
#: Ground is bad from this multiple of the median cost on.
BAD_GROUND: Final = 2.0
_DAY_S: Final = 86_400.0


class MovingRisk(msgspec.Struct, frozen=True, kw_only=True):
    """How the risk of conflict changes over the day: a factor for each hour, and when the walk begins."""

    factors: tuple[float, ...]
    begins_at_h: float = 18.0


#: People are out by day: full risk from 6 to 18 h, a tenth of it at night.
BY_DAY: Final = MovingRisk(factors=(0.1,) * 6 + (1.0,) * 12 + (0.1,) * 6)


def check_place(surface: Surface, name: str, cell: Cell) -> None:
    """Raise Invalid, calling the place ``name``, where nothing can walk on it."""
    if not (0 <= cell.row < surface.shape[0] and 0 <= cell.column < surface.shape[1]):
        raise Invalid(f"{name} is outside the map")
    if not np.isfinite(surface.cost[cell]):
        raise Invalid(f"{name} is on ground that nothing walks on, or where the maps have no data")


def check_ends(surface: Surface, start: Cell, end: Cell) -> None:
    """Raise Invalid where no path can begin or end."""
    check_place(surface, "start_point", start)
    check_place(surface, "end_point", end)
    if start == end:
        raise Invalid("start_point and end_point are in the same cell: there is nothing to connect")


def cost_to_go(cost: Float32Array, goal: Cell) -> FloatArray:
    """Return what the cheapest path from every cell to ``goal`` costs; infinite where there is none."""
    found, _ = MCP_Geometric(cost, fully_connected=True).find_costs([goal])
    return np.asarray(found)


def least_cost(surface: Surface, start: Cell, end: Cell) -> IntArray:
    """Return the cheapest path over the cells' costs, shape (cells, 2); raises Invalid where there is none."""
    check_ends(surface, start, end)
    return _cheapest(surface.cost, start, end)


def least_cost_within(cost: Float32Array, start: Cell, end: Cell) -> IntArray:
    """Return the cheapest path over costs; raises Invalid where there is none."""
    return _cheapest(cost, start, end)


def least_cost_with_edges(surface: Surface, start: Cell, end: Cell) -> IntArray:
    """Return the cheapest path where crossing a road and leaving habitat have their price."""
    check_ends(surface, start, end)
    rows, columns = surface.shape
    numbers = np.arange(rows * columns).reshape(rows, columns)
    froms, tos, prices = [], [], []
    road_price, habitat_price = edge_step_cost(surface)
    for (down, right), length in zip(MOVES, MOVE_CELLS, strict=True):
        here, there = _shifted(rows, columns, int(down), int(right))
        price = length * (surface.cost[here].astype(np.float64) + surface.cost[there]) / 2
        price += road_price * (surface.is_road[there] & ~surface.is_road[here])
        price += habitat_price * (surface.is_habitat[here] & ~surface.is_habitat[there])
        is_there = np.isfinite(price)
        froms.append(numbers[here][is_there])
        tos.append(numbers[there][is_there])
        prices.append(price[is_there])
    graph = sparse.csr_matrix(
        (np.concatenate(prices), (np.concatenate(froms), np.concatenate(tos))), shape=(numbers.size, numbers.size)
    )
    begin, goal = int(numbers[start]), int(numbers[end])
    costs, before = csgraph.dijkstra(graph, indices=begin, return_predecessors=True)
    if not np.isfinite(costs[goal]):
        raise Invalid("no path leads from start_point to end_point: unwalkable ground lies between them")
    path = [goal]
    while path[-1] != begin:
        path.append(int(before[path[-1]]))
    return np.stack(np.unravel_index(np.array(path[::-1]), surface.shape), axis=1).astype(np.int64)


def hourly_cost(surface: Surface, risk: MovingRisk, tick: int) -> Float32Array:
    """Return a metre's cost at a tick of a walk: the conflict term times the factor of that hour."""
    conflict = surface.terms.get("conflict")
    if conflict is None:
        return surface.cost
    seconds = risk.begins_at_h * 3600 + tick * tick_s(surface)
    factor = risk.factors[int(seconds % _DAY_S // 3600)]
    return np.asarray(surface.cost + np.float32(factor - 1) * conflict, dtype=np.float32)


def at_mean_risk(surface: Surface, risk: MovingRisk) -> Surface:
    """Return the surface with the conflict term times its mean factor over the day: the nearest static one."""
    conflict = surface.terms.get("conflict")
    if conflict is None:
        return surface
    off = np.float32(np.mean(risk.factors) - 1)
    return msgspec.structs.replace(surface, cost=np.asarray(surface.cost + off * conflict, dtype=np.float32))


def tick_s(surface: Surface) -> float:
    """Return how long a tick is: a fifth of the time in which the animal crosses a cell."""
    return surface.cell_m / surface.weights.edges.speed_mps / STRAIGHT_TICKS


def moving_cost(surface: Surface, path: IntArray, risk: MovingRisk) -> float:
    """Return what a path costs where risk changes with the hour."""
    total, tick = 0.0, 0
    for here, there in itertools.pairwise(path):
        is_diagonal = bool((here != there).all())
        later = tick + (DIAGONAL_TICKS if is_diagonal else STRAIGHT_TICKS)
        both = float(_at_hour(surface, risk, tick, here)) + float(_at_hour(surface, risk, later, there))
        total += (2**0.5 if is_diagonal else 1.0) * both / 2
        tick = later
    return total


def least_cost_moving(surface: Surface, start: Cell, end: Cell, risk: MovingRisk = BY_DAY) -> IntArray:
    """Return the cheapest path where risk changes with the hour; the animal leaves at once and never stands still.

    Raises Invalid where there is no path, or where the map is too large for a search through time.
    """
    check_ends(surface, start, end)
    rows, columns = surface.shape
    nowhere = np.full((rows, columns), np.inf)
    first = nowhere.copy()
    first[start] = 0.0
    recent: list[FloatArray] = [first]
    moves: list[npt.NDArray[np.int8]] = [np.full((rows, columns), -1, dtype=np.int8)]
    best, best_tick, tick = np.inf, -1, 0
    while any(bool((layer < best).any()) for layer in recent[-DIAGONAL_TICKS:]):
        tick += 1
        if rows * columns * tick > MOST_STATES:
            raise Invalid("the map is too large for risk that moves with the hour: take a smaller part of it")
        layer, came = _settled(surface, risk, tick, recent, best)
        recent = [*recent[-DIAGONAL_TICKS:], layer]
        moves.append(came)
        if layer[end] < best:
            best, best_tick = float(layer[end]), tick
    if best_tick < 0:
        raise Invalid("no path leads from start_point to end_point: unwalkable ground lies between them")
    path, tick = [end], best_tick
    while tick > 0:
        move = int(moves[tick][path[-1]])
        path.append(Cell(path[-1].row - int(MOVES[move, 0]), path[-1].column - int(MOVES[move, 1])))
        tick -= DIAGONAL_TICKS if move % 2 else STRAIGHT_TICKS
    return np.array(path[::-1], dtype=np.int64)


def widths_m(surface: Surface) -> Float32Array:
    """Return how wide good ground is around each cell: twice the way to the nearest bad one; 0 on bad ground."""
    median = float(np.median(surface.cost[surface.is_passable]))
    is_good = surface.is_passable & (surface.cost < BAD_GROUND * median)
    if is_good.all():
        return np.full(surface.shape, 2 * surface.cell_m * max(surface.shape), dtype=np.float32)
    return np.asarray(2 * surface.cell_m * ndimage.distance_transform_edt(is_good), dtype=np.float32)


def widened(surface: Surface, min_width_m: float | None = None) -> Surface:
    """Return the surface with a term for cells narrower than the minimum width: the best static surrogate."""
    needed = surface.weights.edges.min_width_m if min_width_m is None else min_width_m
    weight = surface.weights.weights.get("width", 0.0)
    if needed <= 0 or weight <= 0:
        return surface
    term = np.float32(weight) * np.clip(1 - widths_m(surface) / np.float32(needed), 0, 1)
    return msgspec.structs.replace(
        surface, cost=surface.cost + term, terms={**surface.terms, "width": term.astype(np.float32)}
    )


def component_of(surface: Surface, cell: Cell) -> BoolArray:
    """Return the cells that can be reached from a cell."""
    labels, _ = ndimage.label(surface.is_passable, structure=np.ones((3, 3)))
    return np.asarray(labels == labels[cell])


def largest_component(surface: Surface) -> BoolArray:
    """Return the largest piece of ground that hangs together."""
    labels, count = ndimage.label(surface.is_passable, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray(labels == int(sizes.argmax()))


def near(is_here: BoolArray, cells: int) -> BoolArray:
    """Return the cells at most so many from those that are marked."""
    return np.asarray(ndimage.binary_dilation(is_here, structure=np.ones((3, 3)), iterations=cells))


def _cheapest(cost: Float32Array, start: Cell, end: Cell) -> IntArray:
    search = MCP_Geometric(cost, fully_connected=True)
    costs, _ = search.find_costs([start], [end])
    if not np.isfinite(costs[end]):
        raise Invalid("no path leads from start_point to end_point: unwalkable ground lies between them")
    return np.array(search.traceback(end), dtype=np.int64)


def _at_hour(surface: Surface, risk: MovingRisk, tick: int, cell: Sequence[int] | IntArray) -> float:
    row, column = int(cell[0]), int(cell[1])
    conflict = surface.terms.get("conflict")
    if conflict is None:
        return float(surface.cost[row, column])
    seconds = risk.begins_at_h * 3600 + tick * tick_s(surface)
    factor = risk.factors[int(seconds % _DAY_S // 3600)]
    return float(np.float32(surface.cost[row, column] + np.float32(factor - 1) * conflict[row, column]))


def _settled(
    surface: Surface, risk: MovingRisk, tick: int, recent: list[FloatArray], best: float
) -> tuple[FloatArray, npt.NDArray[np.int8]]:
    """Return the cheapest way to be on each cell at a tick, and the move by which it is reached."""
    rows, columns = surface.shape
    layer = np.full((rows, columns), np.inf)
    came = np.full((rows, columns), -1, dtype=np.int8)
    now = hourly_cost(surface, risk, tick)
    for move, (down, right) in enumerate(MOVES):
        ticks = DIAGONAL_TICKS if move % 2 else STRAIGHT_TICKS
        if tick < ticks:
            continue
        before = recent[-ticks]
        if not bool((before < best).any()):
            continue
        here, there = _shifted(rows, columns, int(down), int(right))
        then = hourly_cost(surface, risk, tick - ticks)
        price = before[here] + MOVE_CELLS[move] * (then[here].astype(np.float64) + now[there]) / 2
        is_better = price < layer[there]
        layer[there] = np.where(is_better, price, layer[there])
        came[there] = np.where(is_better, np.int8(move), came[there])
    return layer, came


def _shifted(rows: int, columns: int, down: int, right: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the cells from which a move leads somewhere, and where it leads."""
    here = (slice(max(0, -down), rows - max(0, down)), slice(max(0, -right), columns - max(0, right)))
    there = (slice(max(0, down), rows + min(0, down)), slice(max(0, right), columns + min(0, right)))
    return here, there


def node_fields(weights: FloatArray, sources: IntArray) -> tuple[FloatArray, IntArray]:
    """Return the cost from each source to every parcel of a grid with four neighbours, and the parcel before it.

    A move costs half of both parcels. Shapes: weights (rows, columns), sources (s,) flat; results (s, rows x columns).
    """
    rows, columns = weights.shape
    flat = weights.ravel()
    numbers = np.arange(flat.size).reshape(rows, columns)
    froms = np.concatenate((numbers[:, :-1].ravel(), numbers[:-1].ravel()))
    tos = np.concatenate((numbers[:, 1:].ravel(), numbers[1:].ravel()))
    prices = (flat[froms] + flat[tos]) / 2
    graph = sparse.csr_matrix((prices, (froms, tos)), shape=(flat.size, flat.size))
    costs, before = csgraph.dijkstra(graph, directed=False, indices=sources, return_predecessors=True)
    return np.asarray(costs), np.asarray(before, dtype=np.int64)


def distances_cells(is_here: BoolArray) -> FloatArray:
    """Return how far each cell is from the nearest one that is marked."""
    return np.asarray(ndimage.distance_transform_edt(~is_here))
