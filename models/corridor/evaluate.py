"""How good routes are: against exact ones, on ground that no policy was trained on, and against where animals went.

Every case is two places far apart. ``letter`` is the policy to the letter, one walk; ``alone`` the best of its sixteen
walks by what each paid itself, with no search and no knowledge of the cost to go; ``cost_ratio`` its routes after local
search, which always arrives: where no walk did it begins at a straight line, and ``completed`` says how often it did.
``straight`` the same local search begun at a straight line, so that everybody sees what the policy adds. All ratios are
to the exact least-cost path of the same surface, arrived ones only; ``arrived`` says how many those are.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec
import numpy as np

from models.corridor import exact, studies
from models.corridor.budget import best_of_all, greedy, instance, swapped
from models.corridor.budget_policy import FEATURES, BudgetPolicy, load_budget_policy
from models.corridor.exact import BY_DAY
from models.corridor.landscape import HELD_OUT, landscape
from models.corridor.planner import WALKERS
from models.corridor.runtime import ALGORITHMS, Policy, best_of, load_policy, routes
from models.corridor.runtime import Algorithm as Algorithms
from models.corridor.scores import cost_of, cost_with_edges, straight, terms_of_path
from models.corridor.search import bettered, priced
from models.corridor.studies import Case, Way
from models.corridor.surface import EDGE_TERMS, Cell, IntArray, Surface, read_weights
from shared.errors import Invalid

_TRACKS_EACH: Final = 3
#: How much of the work the cases are.
_CASES_SHARE: Final = 0.6
_HARD: Final = 6
_SMALL: Final = 12
_LARGE: Final = 16


class Mapped(Protocol):
    """Maps a function over items, in their order."""

    def __call__(self, work: Callable[[Case], Tried], items: list[Case], /) -> Iterable[Tried]:
        """Return what the function gives of each item."""
        ...


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Median and 95 % quantile; None where there is nothing to measure."""

    median: float | None
    p95: float | None


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """Share of cases in which a route arrived, and the cost of those over the exact one."""

    arrived: float
    cost_ratio: Spread


class Algorithm(msgspec.Struct, frozen=True, kw_only=True):
    """One algorithm over all cases: with local search, and ``alone`` without it.

    ``terms``: mean share of each term in the cost of its routes. ``seconds``: median time of a route, search included.
    ``letter``: one walk to the letter. ``completed``: share of cases in which no walk arrived and the search found the
    way from a straight line.
    """

    arrived: float
    cost_ratio: Spread
    terms: dict[str, float]
    seconds: float
    alone: Reached | None = None
    letter: Reached | None = None
    completed: float = 0.0


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """Mean, least and greatest of ratios."""

    mean: float
    least: float
    greatest: float


class OnSet(msgspec.Struct, frozen=True, kw_only=True):
    """One set of cases."""

    name: str
    cases: int
    ppo: Algorithm
    dqn: Algorithm
    least_cost: Algorithm
    straight: Reached
    straight_alone: Reached


class Beyond(msgspec.Struct, frozen=True, kw_only=True):
    """An objective beside the sum over cells, ratios to ``baseline``: by policy and search, and by the plain path."""

    objective: str
    baseline: str
    cases: int
    ppo: Reached
    least_cost: Reached


class AgainstTracks(msgspec.Struct, frozen=True, kw_only=True):
    """How far the fixes of animals lie from routes between the ends of their ways: median, in metres.

    ``nearest``: share of ways to which each route is the nearest of the three; routes that are the same share a way.
    """

    map: str
    ways: int
    individuals: int
    distance_m: dict[str, float]
    nearest: dict[str, float]


class UnderBudget(msgspec.Struct, frozen=True, kw_only=True):
    """Connectivity of plans over that of ``baseline``; ``drawn_greedy`` has as many starts and swaps as the policy.

    ``alone`` is the policy to the letter; ``within``: share of instances in which its plan is within 2 % of the
    baseline or better.
    """

    instances: int
    baseline: str
    policy: Ratio
    alone: Ratio
    greedy: Ratio
    drawn_greedy: Ratio
    within: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. ``ppo``, ``dqn`` and ``least_cost`` are over the cases of all sets together."""

    ppo: Algorithm
    dqn: Algorithm
    least_cost: Algorithm
    straight: Reached
    straight_alone: Reached
    sets: tuple[OnSet, ...]
    beyond: tuple[Beyond, ...]
    tracks: tuple[AgainstTracks, ...]
    budget: tuple[UnderBudget, ...]
    versions: dict[str, int]


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One case: ratios by algorithm, infinite where nothing arrived; shares of terms; seconds."""

    alone: dict[str, float]
    letter: dict[str, float]
    ratio: dict[str, float]
    is_completed: dict[str, bool]
    terms: dict[str, dict[str, float]]
    seconds: dict[str, float]


def evaluate(
    data: Path,
    reference: Path,
    *,
    progress: Callable[[float, str], None] = lambda _share, _what: None,
    spread: Mapped = map,
) -> Evaluation:
    """Measure the policies of the packaged artefacts on generated landscapes and on the real maps in ``data``.

    ``progress`` hears how far it is, 0 to 1, and at what; ``spread`` maps one function over cases, in order, wherever.
    """
    policies: dict[Algorithms, Policy] = {name: load_policy(name) for name in ALGORITHMS}
    progress(0.0, "reading maps")
    cases = [(name, case) for name, cases in _sets(data, reference) for case in cases]
    tried: dict[str, list[Tried]] = {}
    for number, ((name, _), found) in enumerate(
        zip(cases, spread(tried_by(policies), [case for _, case in cases]), strict=True)
    ):
        tried.setdefault(name, []).append(found)
        progress(_CASES_SHARE * (number + 1) / len(cases), name)
    sets = tuple(
        OnSet(
            name=name, cases=len(found), ppo=_algorithm(found, "ppo"), dqn=_algorithm(found, "dqn"),
            least_cost=_algorithm(found, "least_cost"), straight=_reached(one.ratio["straight"] for one in found),
            straight_alone=_reached(one.alone["straight"] for one in found),
        )
        for name, found in tried.items()
    )  # fmt: skip
    whole = [one for found in tried.values() for one in found]
    progress(_CASES_SHARE, "roads, hours and widths")
    hard = tuple(beyond(policies["ppo"]))
    progress(_CASES_SHARE + 0.1, "tracks")
    tracks = tuple(against_tracks(data, policies["ppo"]))
    progress(_CASES_SHARE + 0.2, "budgets")
    return Evaluation(
        ppo=_algorithm(whole, "ppo"), dqn=_algorithm(whole, "dqn"), least_cost=_algorithm(whole, "least_cost"),
        straight=_reached(one.ratio["straight"] for one in whole),
        straight_alone=_reached(one.alone["straight"] for one in whole),
        sets=sets, beyond=hard, tracks=tracks, budget=under_budget(load_budget_policy()),
        versions={str(name): policy.version for name, policy in policies.items()},
    )  # fmt: skip


def report(result: Evaluation) -> str:
    """Return the tables of the README."""
    lines = [
        "| set | cases | algorithm | one walk | alone | median | p95 | searched | median | p95 | completed | s |",
        "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    whole = OnSet(
        name="all", cases=sum(one.cases for one in result.sets), ppo=result.ppo, dqn=result.dqn,
        least_cost=result.least_cost, straight=result.straight, straight_alone=result.straight_alone,
    )  # fmt: skip
    for one in (*result.sets, whole):
        for name in (*ALGORITHMS, "least_cost"):
            found: Algorithm = getattr(one, name)
            letter = "-" if found.letter is None else f"{found.letter.arrived:.1%}"
            lines.append(
                f"| {one.name} | {one.cases} | {name} | {letter}"
                f" | {_cells(found.alone)} | {_cells(found)} | {found.completed:.1%} | {found.seconds:.2f} |"
            )
        lines.append(
            f"| {one.name} | {one.cases} | straight line | - | {_cells(one.straight_alone)} | {_cells(one.straight)}"
            " | - | - |"
        )
    lines += [
        "", "| objective | baseline | cases | ppo arrived | median | p95 | least cost arrived | median | p95 |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
        *(
            f"| {one.objective} | {one.baseline} | {one.cases} | {_cells(one.ppo)} | {_cells(one.least_cost)} |"
            for one in result.beyond
        ),
        "", "| map | ways | animals | route | median distance of fixes, m | nearest of the three |",
        "|---|--:|--:|---|--:|--:|",
        *(
            f"| {one.map} | {one.ways} | {one.individuals} | {route} | {distance:.0f} | {one.nearest[route]:.0%} |"
            for one in result.tracks
            for route, distance in one.distance_m.items()
        ),
    ]  # fmt: skip
    lines += [
        "", "| instances | beside | policy, swaps | least | alone | greedy | drawn greedy, swaps | within 2 % |",
        "|--:|---|--:|--:|--:|--:|--:|--:|",
        *(
            f"| {one.instances} | {one.baseline} | {one.policy.mean:.4f} | {one.policy.least:.4f} |"
            f" {one.alone.mean:.4f} | {one.greedy.mean:.4f} | {one.drawn_greedy.mean:.4f} | {one.within:.0%} |"
            for one in result.budget
        ),
    ]  # fmt: skip
    return "\n".join(lines)


def under_budget(policy: BudgetPolicy) -> tuple[UnderBudget, ...]:
    """Measure plans under a budget: beside the best of all on small instances, greedy with swaps on large ones."""
    drawn = BudgetPolicy(weights={**dict.fromkeys(FEATURES, 0.0), "gain": 4.0})
    small = [instance(7_000_000 + number, (4, 5), 3, 3) for number in range(_SMALL)]
    large = [instance(8_000_000 + number, (16, 16), 8, 14) for number in range(_LARGE)]
    found = []
    for baseline, instances in (("best of all plans", small), ("greedy with swaps", large)):
        rows = []
        for one in instances:
            first = greedy(one)
            base = best_of_all(one) if baseline == "best of all plans" else swapped(one, first)
            plans = (policy.plan(one), policy.alone(one), first, drawn.plan(one))
            rows.append([plan.connectivity_ha / base.connectivity_ha for plan in plans])
        table = np.array(rows)
        ratios = [
            Ratio(mean=round(float(c.mean()), 4), least=round(float(c.min()), 4), greatest=round(float(c.max()), 4))
            for c in table.T
        ]
        found.append(
            UnderBudget(
                instances=len(rows), baseline=baseline, policy=ratios[0], alone=ratios[1], greedy=ratios[2],
                drawn_greedy=ratios[3], within=round(float((table[:, 0] >= 0.98).mean()), 4),
            )
        )  # fmt: skip
    return tuple(found)


def beyond(policy: Policy) -> list[Beyond]:
    """Measure what a least-cost path over cells does not price, against what is exact for it."""
    found: dict[str, list[tuple[float, float]]] = {"road crossings": [], "moving risk": [], "minimum width": []}
    weights = read_weights()["elephant"]
    for number in range(_HARD):
        seed = HELD_OUT + 50_000 + number
        surface = landscape(seed, (64, 64), kind="peopled", weights=weights, cell_m=500.0)
        start, end = studies.pairs_on(surface, 1, seed)[0]
        roads = priced(surface)
        walked = _walked(policy, roads, start, end)
        plain = exact.least_cost(surface, start, end)

        def with_edges(path: IntArray, surface: Surface = surface) -> float:
            return cost_with_edges(surface, path)

        best = with_edges(exact.least_cost_with_edges(surface, start, end))
        found["road crossings"].append((_searched(roads, walked, with_edges) / best, with_edges(plain) / best))

        def moving(path: IntArray, surface: Surface = surface) -> float:
            return exact.moving_cost(surface, path, BY_DAY)

        best = moving(exact.least_cost_moving(surface, start, end, BY_DAY))
        hours = exact.at_mean_risk(surface, BY_DAY)
        on_hours = _walked(policy, hours, start, end)
        found["moving risk"].append((_searched(hours, on_hours, moving) / best, moving(plain) / best))
        wide = exact.widened(surface)
        best = cost_of(wide, exact.least_cost(wide, start, end))
        on_wide = _walked(policy, wide, start, end)
        found["minimum width"].append((_searched(wide, on_wide, None) / best, cost_of(wide, plain) / best))
    baselines = {
        "road crossings": "Dijkstra with prices of moves (exact)", "moving risk": "time-expanded Dijkstra (exact)",
        "minimum width": "least cost with a term for narrow ground (static surrogate)",
    }  # fmt: skip
    return [
        Beyond(
            objective=name, baseline=baselines[name], cases=len(pairs), ppo=_reached(one for one, _ in pairs),
            least_cost=_reached(other for _, other in pairs),
        )
        for name, pairs in found.items()
    ]  # fmt: skip


def against_tracks(data: Path, policy: Policy) -> list[AgainstTracks]:
    """Measure how near routes come to where animals went between the same ends; no weight was fitted to a track."""
    found: list[AgainstTracks] = []
    placed_maps = dict(studies.real(data))
    for file, name in studies.TRACKS:
        if name not in placed_maps or not (data / file).is_file():
            continue
        surface = placed_maps[name].surface
        ways = studies.ways_on(data / file, placed_maps[name], _TRACKS_EACH)
        distances: dict[str, list[float]] = {"ppo": [], "least_cost": [], "straight": []}
        for way in ways:
            start, end = (Cell(*map(int, np.floor(way.places[at]))) for at in (0, -1))
            if not exact.component_of(surface, start)[end]:
                continue
            walked = _walked(policy, surface, start, end)
            for route, path in (
                ("ppo", bettered(surface, walked or [straight(start, end)])),
                ("least_cost", exact.least_cost(surface, start, end)), ("straight", straight(start, end)),
            ):  # fmt: skip
                distances[route].append(_apart_cells(way, path) * surface.cell_m)
        table = np.array(list(distances.values()))
        if table.size:
            is_nearest = table <= table.min(axis=0) * (1 + 1e-9)
            nearest = is_nearest / is_nearest.sum(axis=0)  # routes that are the same share it
            found.append(
                AgainstTracks(
                    map=name, ways=table.shape[1], individuals=len({way.individual for way in ways}),
                    distance_m={route: round(float(np.median(one)), 1) for route, one in distances.items()},
                    nearest={
                        route: round(float(nearest[number].mean()), 3) for number, route in enumerate(distances)
                    },
                )
            )  # fmt: skip
    return found


def _sets(data: Path, reference: Path) -> Iterable[tuple[str, list[Case]]]:
    for side, count in studies.GENERATED:
        yield f"generated {side}", list(studies.generated(side, count))
    for number, (name, placed) in enumerate(studies.real(data)):
        pairs = studies.pairs_on(placed.surface, studies.PAIRS, HELD_OUT + number)
        yield name, [Case(placed.surface, *pair) for pair in pairs]
    stored = studies.stored_utah(reference)
    path = reference / "models" / "lcp_reference.json"
    if stored is not None and path.is_file():
        pairs_said = msgspec.json.decode(path.read_bytes())["utah_250m"]["pairs"]
        yield "utah, stored", [Case(stored, Cell(*one["start"]), Cell(*one["end"])) for one in pairs_said]


def tried_by(policies: Mapping[Algorithms, Policy]) -> Callable[[Case], Tried]:
    """Return what tries policies on one case, wherever it is called."""
    return functools.partial(_tried, policies=policies)


def _tried(case: Case, policies: Mapping[Algorithms, Policy]) -> Tried:
    surface, start, end = case
    begun = time.perf_counter()
    best = exact.least_cost(surface, start, end)
    bound = cost_of(surface, best)
    seconds = {"least_cost": time.perf_counter() - begun}
    line = straight(start, end)
    alone = {"straight": cost_of(surface, line) / bound}
    letter: dict[str, float] = {}
    is_completed: dict[str, bool] = {}
    ratio = {"straight": _searched(surface, [line], None) / bound, "least_cost": 1.0}
    terms = {"least_cost": _shares(surface, best)}
    for name, policy in policies.items():
        begun = time.perf_counter()
        walked = routes(policy, surface, start, end, count=WALKERS)
        own = best_of(surface, walked)
        alone[name] = np.inf if own is None else cost_of(surface, own) / bound
        letter[name] = np.inf if walked[0] is None else cost_of(surface, walked[0]) / bound
        is_completed[name] = own is None
        path = bettered(surface, [one for one in walked if one is not None] or [line])
        seconds[name] = time.perf_counter() - begun
        ratio[name] = cost_of(surface, path) / bound
        terms[name] = _shares(surface, path)
    return Tried(alone=alone, letter=letter, ratio=ratio, is_completed=is_completed, terms=terms, seconds=seconds)


def _walked(policy: Policy, surface: Surface, start: Cell, end: Cell) -> list[IntArray]:
    return [path for path in routes(policy, surface, start, end, count=WALKERS) if path is not None]


def _searched(surface: Surface, begin: Sequence[IntArray], price: Callable[[IntArray], float] | None) -> float:
    """Return what the search comes to; infinite where nothing arrived or no band holds a path."""
    if not begin:
        return float("inf")
    try:
        path = bettered(surface, begin, price=price)
    except Invalid:
        return float("inf")
    return price(path) if price else cost_of(surface, path)


def _shares(surface: Surface, path: IntArray) -> dict[str, float]:
    terms = {name: value for name, value in terms_of_path(surface, path).items() if name not in EDGE_TERMS}
    return {name: value / sum(terms.values()) for name, value in terms.items()}


def _algorithm(found: Sequence[Tried], name: str) -> Algorithm:
    reached = _reached(one.ratio[name] for one in found)
    shares = [one.terms[name] for one in found if name in one.terms]
    names = dict.fromkeys(term for one in shares for term in one)
    return Algorithm(
        arrived=reached.arrived,
        cost_ratio=reached.cost_ratio,
        terms={term: round(float(np.mean([one.get(term, 0.0) for one in shares])), 4) for term in names},
        seconds=round(float(np.median([one.seconds[name] for one in found])), 3),
        alone=_reached(one.alone[name] for one in found) if name in ALGORITHMS else None,
        letter=_reached(one.letter[name] for one in found) if name in ALGORITHMS else None,
        completed=round(float(np.mean([one.is_completed.get(name, False) for one in found])), 4),
    )


def _reached(ratios: Iterable[float]) -> Reached:
    values = np.array(list(ratios))
    arrived = values[np.isfinite(values)]
    spread = (
        Spread(median=round(float(np.median(arrived)), 4), p95=round(float(np.quantile(arrived, 0.95)), 4))
        if arrived.size
        else Spread(median=None, p95=None)
    )
    return Reached(arrived=round(arrived.size / max(1, values.size), 4), cost_ratio=spread)


def _apart_cells(way: Way, path: IntArray) -> float:
    """Return the mean distance of a way's fixes, its ends left out, to a route."""
    middles = path + 0.5
    inner = way.places[1:-1]
    apart = np.hypot(inner[:, None, 0] - middles[None, :, 0], inner[:, None, 1] - middles[None, :, 1])
    return float(apart.min(axis=1).mean())


def _cells(found: Reached | Algorithm | None) -> str:
    if found is None:
        return "- | - | -"
    median, p95 = found.cost_ratio.median, found.cost_ratio.p95
    return f"{found.arrived:.1%} | " + ("- | -" if median is None or p95 is None else f"{median:.3f} | {p95:.3f}")


def write(result: Evaluation, folder: Path) -> list[Path]:
    """Write what was measured as JSON: a file of each algorithm, and one of all of it; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in (*ALGORITHMS, "least_cost"):
        found: Algorithm = getattr(result, name)
        of_sets = {one.name: getattr(one, name) for one in result.sets}
        path = folder / f"corridor-{name}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode({"all": found, "sets": of_sets})) + b"\n")
        written.append(path)
    path = folder / "corridor.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    return [*written, path]
