"""The stage of corridors: what a herder would do with an animal now, by the policy that walks cost surfaces.

::

    zones, corridors around the animal  ->  a window of 81 x 81 cells of cost, the animal in its middle
    where it heads, the corridor for it ->  a goal in the window
    int8 policy                         ->  a walk to the goal: bearing, reward term by term
    the walk beside straight on         ->  one of five recommendations

The ground is what a station knows without maps: zones are risk (as much as their level says inside, falling to nothing
over their buffer), settlements are settlements, ground in a corridor is good and ground outside as suitable as the
place where the animal stands, where that is known; else half. Prices are those of ``models/corridor/species.toml``.
What lies ahead is looked at as far as the species walks in three hours. The straight line is where the animal would go
by its last step; an animal that stands has none, and is spoken of where it stands.

There is no advice where the policy was not trained for the species, and none where nothing says where to go.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.artifact import PACKAGED, Loaded, load_newest
from models.corridor.observation import pyramid
from models.corridor.runtime import Policy, int8_policy, policy_of
from models.corridor.surface import TERMS, Surface, Weights, read_weights, surface_of, weights_for
from models.corridor.walkers import Pool, Walkers
from models.live.ahead import Shape, inside
from shared.errors import ArtifactError, ModelUnavailable
from shared.insight import Advice, ModelStatus, Recommendation
from shared.movement.kinds import is_meant

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

ALGORITHM: Final = "ppo"
#: Cells from the animal to the edge of its window.
_HALF: Final = 40
SIDE: Final = 2 * _HALF + 1
#: How far ahead advice looks, in hours of the species' own walking.
LOOK_H: Final = 3.0
#: A corridor that is further away is none that an animal could be led back to.
REACH_M: Final = 10_000.0
#: Shapes are asked for as far as any window reaches.
AROUND_M: Final = REACH_M * 1.25
_LEAST_CELL_M: Final = 50.0
#: An animal that turns from the walk by less goes along with it.
_ASTRAY_DEG: Final = 45.0
_RISKS: Final = {"high": 1.0, "medium": 0.6, "low": 0.3}
_RISKY: Final = ("agriculture", "settlement", "road", "infrastructure")
#: How suitable ground is that nobody has looked at.
_UNKNOWN: Final = 0.5
#: Animals whose walks are taken together.
AT_ONCE: Final = 16
_DEGREE_M: Final = 111_195.0


class Asked(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """An animal, where it is, where it heads (None: it stands), how suitable its place is, and what is around it."""

    species: str
    lon_deg: float
    lat_deg: float
    heading_deg: float | None
    suitability: float | None
    shapes: Sequence[Shape]


class _Placed(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A window around an animal: what lies in it, and where the animal is led."""

    surface: Surface
    settlements: BoolArray
    risks: BoolArray
    corridor: BoolArray | None
    shape: Shape | None
    goal: tuple[int, int]
    straight: IntArray
    look_cells: int


class Advisor:
    """Gives advice; the policy is loaded when it is first asked for, and kept. ``turn_to`` loads another."""

    def __init__(self, folder: Path = PACKAGED) -> None:
        self._folder = folder
        self._weights = read_weights()
        self._kept: Policy | str | None = None

    def turn_to(self, folder: Path) -> None:
        """Load from another folder from now on."""
        self._folder = folder
        self._kept = None

    def status(self) -> ModelStatus:
        """Say how the policy is."""
        try:
            policy = self._policy()
        except ModelUnavailable as error:
            return ModelStatus(model="corridor", status="unavailable", detail=error.detail)
        return ModelStatus(
            model="corridor", status="degraded" if policy.refused else "ready",
            versions={ALGORITHM: str(policy.version)}, detail="; ".join(policy.refused) or None,
        )  # fmt: skip

    def advise(self, animals: Sequence[Asked]) -> list[Advice | str]:
        """Return advice on each animal, or why there is none; takes time, call it in a thread."""
        found: list[Advice | str] = ["waits for its turn"] * len(animals)
        try:
            policy = self._policy()
        except ModelUnavailable as error:
            return [error.detail] * len(animals)
        placed: dict[int, _Placed] = {}
        for number, asked in enumerate(animals):
            if policy.knows(asked.species) is None:
                found[number] = (
                    f"no corridor policy was trained for {asked.species}; there is one for"
                    f" {', '.join(name for name in policy.species if name != 'default')}"
                )
                continue
            try:
                placed[number] = _placed(asked, weights_for(asked.species, self._weights))
            except ModelUnavailable as error:
                found[number] = error.detail
            except (
                ArithmeticError,
                ValueError,
                LookupError,
            ) as error:  # one animal's fault is no reason to lose others
                found[number] = f"failed: {type(error).__name__}: {error}"
        numbers = list(placed)
        for begin in range(0, len(numbers), AT_ONCE):
            some = numbers[begin : begin + AT_ONCE]
            try:
                walks = _walks(policy, [placed[number] for number in some])
            except (ArithmeticError, ValueError, LookupError, RuntimeError) as error:
                for number in some:
                    found[number] = f"failed: {type(error).__name__}: {error}"
                continue
            for number, walk in zip(some, walks, strict=True):
                found[number] = _said(animals[number], placed[number], walk, f"{policy.algorithm} {policy.version}")
        return found

    def _policy(self) -> Policy:
        if self._kept is None:
            try:
                made, loaded = load_newest(self._folder, "corridor", ALGORITHM, _opened)
                self._kept = msgspec.structs.replace(made, refused=loaded.refused)
            except ArtifactError as error:
                self._kept = error.detail
        if isinstance(self._kept, str):
            raise ModelUnavailable(self._kept)
        return self._kept


def _opened(loaded: Loaded) -> Policy:
    return int8_policy(policy_of(loaded))


def _placed(asked: Asked, weights: Weights) -> _Placed:
    """Return the window of an animal; raises ModelUnavailable where nothing says where it should go."""
    look_m = weights.edges.speed_mps * LOOK_H * 3600
    meant = [each for each in asked.shapes if each.ahead.kind == "corridor" and is_meant(each.species, asked.species)]
    half_m = max(2 * look_m, _LEAST_CELL_M * _HALF)
    nearest = _nearest(asked, meant, half_m)
    if nearest is None and meant:
        half_m = AROUND_M
        nearest = _nearest(asked, meant, half_m)
    cell_m = half_m / _HALF
    points = _points(asked, cell_m)
    zones = [each for each in asked.shapes if each.ahead.kind == "zone" and each.ahead.zone_type in _RISKY]
    conflict, settlements = _dangers(zones, points, cell_m)
    corridor = None if nearest is None else inside(nearest, points).reshape(SIDE, SIDE)
    outside = 1 - (_UNKNOWN if asked.suitability is None else asked.suitability)
    habitat = np.full((SIDE, SIDE), outside) if corridor is None else np.where(corridor, 0.0, outside)
    surface = surface_of(
        {"habitat": habitat, "conflict": conflict, "settlement": settlements.astype(np.float32)}, weights=weights,
        cell_m=cell_m,
    )  # fmt: skip
    risks = conflict >= min(_RISKS.values())
    look_cells = max(2, round(look_m / cell_m))
    return _Placed(
        surface=surface, settlements=settlements, risks=risks, corridor=corridor, shape=nearest,
        goal=_goal(asked, corridor, risks), straight=_straight(asked.heading_deg, look_cells), look_cells=look_cells,
    )  # fmt: skip


def _points(asked: Asked, cell_m: float) -> FloatArray:
    """Return the middles of the cells, (cells, 2) of longitude and latitude; the first row is the north."""
    steps_m = (np.arange(SIDE) - _HALF) * cell_m
    shrink = max(0.01, math.cos(math.radians(asked.lat_deg)))
    lon = asked.lon_deg + steps_m / (_DEGREE_M * shrink)
    lat = asked.lat_deg - steps_m / _DEGREE_M
    return np.stack(np.broadcast_arrays(lon[None, :], lat[:, None]), axis=-1).reshape(-1, 2)


def _nearest(asked: Asked, corridors: Sequence[Shape], half_m: float) -> Shape | None:
    """Return the corridor of which a cell lies nearest; None where none reaches into the window."""
    points = _points(asked, half_m / _HALF)
    rows, columns = np.divmod(np.arange(SIDE * SIDE), SIDE)
    apart = np.hypot(rows - _HALF, columns - _HALF)
    best: tuple[float, str] | None = None
    found = None
    for each in corridors:
        is_in = inside(each, points)
        if is_in.any() and (best is None or (float(apart[is_in].min()), each.ahead.id) < best):
            best, found = (float(apart[is_in].min()), each.ahead.id), each
    return found


def _dangers(zones: Sequence[Shape], points: FloatArray, cell_m: float) -> tuple[FloatArray, BoolArray]:
    """Return the risk of each cell, 0 to 1, and where settlements are."""
    conflict, settlements = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE), dtype=bool)
    for zone in zones:
        here = inside(zone, points).reshape(SIDE, SIDE)
        risk = _RISKS[zone.ahead.risk_level or "medium"]
        if zone.ahead.zone_type == "settlement":
            settlements |= here
        conflict = np.maximum(conflict, np.where(here, risk, 0.0))
        reach = min(int(zone.buffer_m / cell_m), SIDE)
        wider = here
        for step in range(1, reach + 1):  # a ring of cells at a time, each of less risk
            if not wider.any() or wider.all():
                break
            wider = _grown(wider)
            conflict = np.maximum(conflict, np.where(wider, risk * (1 - step * cell_m / zone.buffer_m), 0.0))
    return conflict, settlements


def _grown(mask: BoolArray) -> BoolArray:
    padded = np.pad(mask, 1)
    found = mask.copy()
    for row in range(3):
        for column in range(3):
            found |= padded[row : row + SIDE, column : column + SIDE]
    return found


def _goal(asked: Asked, corridor: BoolArray | None, risks: BoolArray) -> tuple[int, int]:
    """Return where the animal is led: along its corridor, back to it, on as it goes, or out of a zone."""
    rows, columns = np.indices((SIDE, SIDE))
    down, right = rows - _HALF, columns - _HALF
    apart = np.hypot(down, right)
    heading = asked.heading_deg
    along = apart if heading is None else _along(down, right, heading)
    is_free = ~risks & (apart > 1) & (apart <= _HALF)
    if corridor is not None:
        if not corridor[_HALF, _HALF]:
            return _best(-apart, corridor & (apart > 0))
        open_ = corridor & is_free
        if open_.any():
            return _best(along, open_)
    if heading is None and not risks[_HALF, _HALF]:
        raise ModelUnavailable("it stands, and no corridor for it is within reach: there is nowhere to lead it")
    if not is_free.any():
        raise ModelUnavailable("all ground around it is at risk: there is nowhere to lead it")
    if risks[_HALF, _HALF]:
        return _best(-apart, is_free)
    ahead = np.abs(along - apart) <= apart * (1 - math.cos(math.radians(_ASTRAY_DEG)))
    return _best(along, is_free & ahead if (is_free & ahead).any() else is_free)


def _along(down: IntArray, right: IntArray, heading_deg: float) -> FloatArray:
    """Return how many cells each cell lies ahead."""
    turn = math.radians(heading_deg)
    return np.asarray(right * math.sin(turn) - down * math.cos(turn), dtype=np.float64)


def _best(score: FloatArray, among: BoolArray) -> tuple[int, int]:
    row, column = np.unravel_index(int(np.where(among, score, -np.inf).argmax()), score.shape)
    return int(row), int(column)


def _straight(heading_deg: float | None, look_cells: int) -> IntArray:
    """Return the cells that the animal comes through if it goes on as it goes; its own alone where it stands."""
    if heading_deg is None:
        return np.array([[_HALF, _HALF]], dtype=np.int64)
    turn = math.radians(heading_deg)
    steps = np.arange(min(look_cells, _HALF) + 1)
    rows = np.rint(_HALF - steps * math.cos(turn)).astype(np.int64)
    return np.stack((rows, np.rint(_HALF + steps * math.sin(turn)).astype(np.int64)), axis=1)


def _walks(policy: Policy, placed: Sequence[_Placed]) -> list[IntArray]:
    """Return the policy's walk of each animal, (cells, 2), to its goal or until its steps are used up."""
    costs = np.stack([each.surface.cost / np.float32(np.median(each.surface.cost)) for each in placed])
    count = len(placed)
    pool = Pool(
        cost=costs, terms=np.zeros((len(TERMS), count, 0, 0), dtype=np.float32),
        marks=np.zeros((count, SIDE, SIDE), dtype=np.uint8), prices=np.zeros((count, 2)), ground=pyramid(costs),
        goals=np.array([[each.goal] for each in placed], dtype=np.int64),
        starts=np.full((count, 1, 1, 2), _HALF, dtype=np.int64), to_go=None,
    )  # fmt: skip
    walkers = Walkers(pool, count, has_terms=False)
    obs = walkers.begin_at(np.arange(count), np.zeros(count, dtype=np.int64))
    cells: list[list[tuple[int, int]]] = [[(_HALF, _HALF)] for _ in placed]
    is_walking = np.ones(count, dtype=bool)
    while is_walking.any():
        actions = np.where(walkers.is_open, policy.scores(obs), -np.inf).argmax(axis=1)
        goals = np.stack((walkers.goal_row, walkers.goal_column), axis=1)
        stepped = walkers.step(actions)
        for one in np.flatnonzero(is_walking):
            at = goals[one] if stepped.terminated[one] else (walkers.row[one], walkers.column[one])
            if not stepped.truncated[one]:  # who is cut off begins anew elsewhere in the same step
                cells[one].append((int(at[0]), int(at[1])))
        is_walking[stepped.ended] = False
        obs = stepped.obs
    return [np.array(each, dtype=np.int64) for each in cells]


def _said(asked: Asked, placed: _Placed, walk: IntArray, model: str) -> Advice:
    part = walk[: placed.look_cells + 1]
    bearing_deg = _bearing(part)
    terms = _terms(placed.surface, part)
    return Advice(
        recommendation=_recommended(asked, placed, bearing_deg),
        bearing_deg=round(bearing_deg, 1),
        corridor_id=None if placed.shape is None else placed.shape.ahead.id,
        corridor_name=None if placed.shape is None else placed.shape.ahead.name,
        reward=round(sum(terms.values()), 3),
        terms=terms,
        model=model,
    )


def _recommended(asked: Asked, placed: _Placed, bearing_deg: float) -> Recommendation:
    ahead = placed.straight[:, 0], placed.straight[:, 1]
    if placed.settlements[ahead].any():
        return "avoid_settlement"
    if placed.risks[ahead].any():
        return "avoid_risk_zone"
    if placed.corridor is None:
        return "continue"
    if not placed.corridor[_HALF, _HALF]:
        return "return_to_corridor"
    if asked.heading_deg is None or placed.corridor[ahead].all():
        return "stay_course"
    turn = abs((asked.heading_deg - bearing_deg + 180.0) % 360.0 - 180.0)
    return "return_to_corridor" if turn > _ASTRAY_DEG else "stay_course"


def _bearing(walk: IntArray) -> float:
    """Return where a walk leads, in degrees clockwise from north."""
    down, right = (walk[-1] - walk[0]).tolist()
    return math.degrees(math.atan2(right, -down)) % 360.0


def _terms(surface: Surface, walk: IntArray) -> dict[str, float]:
    """Return the reward of a walk term by term: minus its cost, in cells of the window's middle ground."""
    lengths = np.hypot(*np.diff(walk, axis=0).T)
    middle = float(np.median(surface.cost))
    found = {}
    for name, values in surface.terms.items():
        along = values[walk[:, 0], walk[:, 1]].astype(np.float64)
        found[name] = round(0.0 - float((lengths * (along[:-1] + along[1:]) / 2).sum()) / middle, 3)
    return found
