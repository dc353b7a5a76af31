"""Cost surfaces, landscapes and exact routes: what a cost is made of, and that exact is exact."""

from __future__ import annotations

import heapq
import itertools
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.corridor import exact
from models.corridor.exact import BY_DAY, MovingRisk
from models.corridor.landscape import KINDS, landscape
from models.corridor.scores import cost_of, cost_with_edges, crossings, scores_of, straight, terms_of_path
from models.corridor.search import bettered
from models.corridor.surface import (
    MOVE_CELLS,
    MOVES,
    Cell,
    Surface,
    plain_surface,
    read_weights,
    surface_of,
    terms_of,
    weights_for,
)
from shared.errors import Invalid
from tests import real_data

pytestmark = [pytest.mark.unit, pytest.mark.corridors, pytest.mark.ml]


def open_ends(surface: Surface, seed: int) -> tuple[Cell, Cell]:
    rng = np.random.default_rng(seed)
    cells = np.argwhere(exact.largest_component(surface))
    start, end = cells[rng.choice(len(cells), 2, replace=False)]
    return Cell(*map(int, start)), Cell(*map(int, end))


def test_every_species_has_whole_weights_and_takes_over_the_default() -> None:
    weights = read_weights()
    assert {"default", "elephant", "wildebeest"} <= set(weights)
    assert weights["elephant"].weights["conflict"] == weights["default"].weights["conflict"]
    assert weights["elephant"].weights["water"] != weights["default"].weights["water"]
    assert weights_for("African Elephant", weights).species == "elephant"
    assert weights_for("zebra", weights).species == "default"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[elephant.weights]\ndistance = 1.0", "no [default.weights]"),
        ("[default.weights]\ndistance = 0.0", "above zero"),
        ("[default.weights]\ndistance = 1.0\nhabitt = 2.0", "habitt"),
        ("[default.weights]\ndistance = 1.0\n[default.ramps]\nslope = [3.0, 3.0]", "same value"),
        ("[default.weights]\ndistance = 1.0\n[default.edges]\nspeed = 1.0", "speed"),
        ("[default.weights\n", "toml"),
    ],
)
def test_weights_that_mean_nothing_are_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "species.toml"
    path.write_text(text)
    with pytest.raises(Invalid) as refused:
        read_weights(path)
    assert said in str(refused.value)


def test_no_data_in_a_layer_with_a_weight_cannot_be_walked_on() -> None:
    weights = read_weights()["default"]
    habitat = np.array([[0.2, np.nan], [0.4, 1.0]])
    surface = surface_of({"habitat": habitat}, weights=weights, cell_m=100.0)
    assert np.isfinite(surface.cost).tolist() == [[True, False], [True, True]]
    assert surface.cost[1, 1] == pytest.approx(1 + weights.weights["habitat"])
    assert "conflict" in surface.missing
    with pytest.raises(Invalid, match="no cell"):
        surface_of({"habitat": np.full((2, 2), np.nan)}, weights=weights, cell_m=100.0)
    with pytest.raises(Invalid, match="same rows"):
        surface_of({"habitat": habitat, "slope": np.zeros((3, 2))}, weights=weights, cell_m=100.0)


def test_ramps_turn_units_into_terms_and_cover_goes_by_name() -> None:
    weights = read_weights()["default"]
    terms = terms_of(
        {
            "slope": np.array([[0.0, 17.5, 90.0]]), "distance_to_settlement": np.array([[9000.0, 2750.0, 0.0]]),
            "land_cover": np.array([[1.0, 9.0, np.nan]]),
        },
        {1: "grass"}, weights,
    )  # fmt: skip
    assert terms["slope"].tolist() == [[0.0, 0.5, 1.0]]
    assert terms["settlement"].tolist() == [[0.0, 0.5, 1.0]]
    assert terms["cover"][0, :2].tolist() == pytest.approx([weights.cover["grass"], 0.5])
    assert np.isnan(terms["cover"][0, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_one_landscape(kind: str) -> None:
    one, again, other = (landscape(seed, (40, 30), kind=kind) for seed in (5, 5, 6))
    assert one.shape == (40, 30)
    assert np.array_equal(one.cost, again.cost)
    assert not np.array_equal(one.cost, other.cost)
    assert exact.largest_component(one).mean() > 0.2


def test_terms_of_a_path_add_up_to_its_cost_and_to_the_exact_bound() -> None:
    for seed in range(6):
        surface = landscape(seed, (40, 40))
        start, end = open_ends(surface, seed)
        path = exact.least_cost(surface, start, end)
        edges = {"crossings", "fragmentation"}
        along = sum(value for name, value in terms_of_path(surface, path).items() if name not in edges)
        assert along == pytest.approx(cost_of(surface, path), rel=1e-5)
        assert cost_of(surface, path) == pytest.approx(exact.cost_to_go(surface.cost, end)[start], rel=1e-5)
        scores = scores_of(surface, path)
        assert scores.cost_ratio == pytest.approx(1, abs=1e-6)
        assert sum(scores.terms.values()) == pytest.approx(scores.cost, abs=1e-2)


def dijkstra(surface: Surface, start: Cell, end: Cell, risk: MovingRisk | None) -> float:
    """Plain Dijkstra over cells, or over cells and ticks: slow, and written from the definition alone."""
    least = float(surface.cost[surface.is_passable].min()) / surface.cell_m
    road, leave = surface.weights.edges.road_m * least, surface.weights.edges.fragmentation_m * least
    queue: list[tuple[float, int, Cell]] = [(0.0, 0, start)]
    done: set[tuple[int, Cell]] = set()
    while queue:
        cost, tick, here = heapq.heappop(queue)
        if here == end:
            return cost
        if (tick, here) in done:
            continue
        done.add((tick, here))
        for number, (move, length) in enumerate(zip(MOVES.tolist(), MOVE_CELLS.tolist(), strict=True)):
            there = Cell(here.row + move[0], here.column + move[1])
            if not (0 <= there.row < surface.shape[0] and 0 <= there.column < surface.shape[1]):
                continue
            if not np.isfinite(surface.cost[there]):
                continue
            if risk is None:
                price = length * (float(surface.cost[here]) + float(surface.cost[there])) / 2
                price += road * bool(surface.is_road[there] and not surface.is_road[here])
                price += leave * bool(surface.is_habitat[here] and not surface.is_habitat[there])
                heapq.heappush(queue, (cost + price, 0, there))
            else:
                later = tick + (7 if number % 2 else 5)
                both = exact.hourly_cost(surface, risk, tick)[here], exact.hourly_cost(surface, risk, later)[there]
                heapq.heappush(queue, (cost + length * (float(both[0]) + float(both[1])) / 2, later, there))
    return float("inf")


def test_with_edges_no_path_is_cheaper_than_the_exact_one() -> None:
    for seed in range(4):
        surface = landscape(seed, (18, 18), kind="peopled")
        start, end = open_ends(surface, seed)
        path = exact.least_cost_with_edges(surface, start, end)
        assert cost_with_edges(surface, path) == pytest.approx(dijkstra(surface, start, end, None), rel=1e-5)


def test_with_risk_that_moves_no_path_is_cheaper_than_the_exact_one() -> None:
    for seed in range(3):
        surface = landscape(seed, (9, 9), kind="peopled", cell_m=2000.0)
        start, end = open_ends(surface, seed)
        path = exact.least_cost_moving(surface, start, end, BY_DAY)
        assert exact.moving_cost(surface, path, BY_DAY) == pytest.approx(
            dijkstra(surface, start, end, BY_DAY), rel=1e-6
        )


def test_risk_by_day_sends_a_walk_elsewhere_than_by_night() -> None:
    surface = landscape(2, (24, 24), kind="peopled", cell_m=1000.0)
    start, end = Cell(1, 1), Cell(22, 20)
    by_night = exact.least_cost_moving(surface, start, end, msgspec.structs.replace(BY_DAY, begins_at_h=18.0))
    costs = [
        exact.moving_cost(surface, by_night, msgspec.structs.replace(BY_DAY, begins_at_h=at)) for at in (18.0, 6.0)
    ]
    assert costs[0] < costs[1]


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (Cell(-1, 0), Cell(5, 5), "start_point is outside"),
        (Cell(0, 0), Cell(5, 60), "end_point is outside"),
        (Cell(0, 0), Cell(0, 0), "same cell"),
        (Cell(0, 0), Cell(4, 4), "end_point is on ground"),
        (Cell(0, 0), Cell(9, 9), "unwalkable ground lies between"),
    ],
)
def test_ends_that_cannot_be_joined_are_refused_with_the_reason(start: Cell, end: Cell, said: str) -> None:
    cost = np.ones((10, 10))
    cost[4, :] = np.nan
    with pytest.raises(Invalid, match=said):
        exact.least_cost(plain_surface(cost, 100.0), start, end)


def test_a_cost_of_nothing_is_refused() -> None:
    with pytest.raises(Invalid, match="above zero"):
        plain_surface(np.zeros((3, 3)), 100.0)


def test_a_minimum_width_makes_narrow_ground_dear() -> None:
    cost = np.full((50, 21), 9.0)
    cost[10, :] = 1.0  # a passage of one cell
    cost[15:, :] = 1.5  # wide ground that is a little worse
    cost[:, :2] = cost[:, -2:] = 1.0
    plain = plain_surface(cost, 100.0)
    weights = msgspec.structs.replace(plain.weights, weights={**plain.weights.weights, "width": 4.0})
    surface = msgspec.structs.replace(plain, weights=weights)
    narrow = exact.least_cost(surface, Cell(10, 0), Cell(10, 20))
    wide = exact.least_cost(exact.widened(surface, 600.0), Cell(10, 0), Cell(10, 20))
    assert narrow[:, 0].tolist() == [10] * 21
    assert wide[:, 0].max() >= 15
    assert scores_of(surface, wide).bottleneck_cells < scores_of(surface, narrow).bottleneck_cells


def test_a_route_that_leaps_or_leaves_is_refused() -> None:
    surface = plain_surface(np.ones((5, 5)), 100.0)
    for path, said in (
        ([(0, 0), (0, 2)], "neighbouring"), ([(0, 0)], "two places"), ([(0, 0), (0, -1)], "leaves the map"),
        ([(0, 0), (0, 0)], "neighbouring"),
    ):  # fmt: skip
        with pytest.raises(Invalid, match=said):
            scores_of(surface, np.array(path))


def test_crossings_are_counted_once_a_road() -> None:
    surface = landscape(1, (20, 20), kind="hills")
    road = np.zeros((20, 20), dtype=bool)
    road[:, 7:9] = True
    crossed = msgspec.structs.replace(surface, is_road=road)
    assert crossings(crossed, straight((3, 0), (3, 19))) == 1


def test_local_search_never_gives_a_dearer_route_and_ends_at_the_exact_one_where_its_band_is_wide() -> None:
    for seed in range(4):
        surface = landscape(seed, (50, 50), kind="hills")
        start, end = open_ends(surface, seed)
        begin = straight(start, end)
        found = bettered(surface, [begin])
        best = exact.least_cost(surface, start, end)
        assert cost_of(surface, best) <= cost_of(surface, found) * (1 + 1e-6) <= cost_of(surface, begin) * (1 + 1e-5)
        widest = bettered(surface, [begin], reaches=(50,))
        assert cost_of(surface, widest) == pytest.approx(cost_of(surface, best), rel=1e-6)


def test_the_stored_paths_of_utah_cost_what_the_reference_says() -> None:
    costs, stored = real_data.reference("models/lcp_cost_utah.npy"), real_data.reference("models/lcp_reference.json")
    if costs is None or stored is None:
        pytest.skip("the reference paths are absent")
    surface = plain_surface(np.load(costs), 250.0)
    for pair in msgspec.json.decode(stored.read_bytes())["utah_250m"]["pairs"]:
        path = exact.least_cost(surface, Cell(*pair["start"]), Cell(*pair["end"]))
        assert cost_of(surface, path) == pytest.approx(pair["cost"], rel=1e-6)
        assert len(path) == pair["cells"]


def test_moves_are_eight_and_go_round() -> None:
    assert len({tuple(move) for move in MOVES.tolist()}) == 8
    assert all(
        np.abs(np.subtract(one, other)).max() == 1 for one, other in itertools.pairwise([*MOVES.tolist(), MOVES[0]])
    )
