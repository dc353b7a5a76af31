"""The job behind ``corridors/optimize``: search in a thread, tell how far and how good, store one corridor.

The corridor's id is derived from the job's, so that an attempt that was killed after storing it leaves one corridor and
not two. The line is stored with its width; area, scores, model and seed stand in ``optimization_data``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from cloud.corridors.router import MapRouter, model_of, score_of
from cloud.jobs.kinds import JobKind, Reporter, Run
from cloud.jobs.service import CORRIDOR
from models.corridor.ground import Line
from shared.errors import NotFound
from shared.jobs import CorridorWish
from shared.movement.areas import Place
from shared.privacy import Principal, View
from shared.routing import RouteAsked
from shared.store import Store

_LEAST_WIDTH_M: Final = 100.0
_MOST_WIDTH_M: Final = 20_000.0


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The result of the job."""

    corridor_id: str
    model_version: str
    cost: float
    bound: float
    cost_ratio: float
    terms: dict[str, float]


class CorridorSearch:
    """Searches corridors over a router's maps and stores them."""

    def __init__(self, store: Store, router: MapRouter, view_of: Callable[[Principal], View]) -> None:
        self._store = store
        self._view_of = view_of
        self._router = router

    def kind(self) -> JobKind[CorridorWish]:
        """Return the kind of job."""
        return JobKind(name=CORRIDOR, parameters=CorridorWish, run=self.run, is_heavy=True)

    async def run(self, run: Run[CorridorWish]) -> Found:
        """Search, store, and say what was found."""
        wish, view = run.parameters, self._view_of(run.owner)
        asked = RouteAsked(
            species=wish.species, start=Place(lon_deg=wish.start_lon_deg, lat_deg=wish.start_lat_deg),
            end=Place(lon_deg=wish.end_lon_deg, lat_deg=wish.end_lat_deg), algorithm=wish.algorithm, goal=wish.goal,
            steps=wish.steps, seed=wish.seed, version=wish.model_version, region=wish.region,
        )  # fmt: skip
        ground, dangers = await self._router.prepared(view)
        await run.log(f"{len(dangers)} zones are a risk")
        inner = self._router.wish(asked)

        def search(reporter: Reporter) -> Line:
            reporter.progress(5, "reading maps")

            def told(share: float, cost: float | None) -> None:
                best = None if cost is None else {"cost": round(cost, 3)}
                reporter.progress(10 + 80 * share, "searching", best=best)

            return ground.route(inner, dangers, told)

        line = await run.in_thread(search)
        await run.progress(95, "storing", best={"cost": line.scores.cost, "cost_ratio": line.scores.cost_ratio})
        identity = run.identity("corridor")
        async with run.committing():
            pass  # raises where another attempt has taken over
        await self._stored(view, identity, wish, line)
        scores = line.scores
        await run.log(f"{model_of(line)}: {scores.cost_ratio:.4f} times the exact least cost")
        return Found(
            corridor_id=identity, model_version=model_of(line), cost=scores.cost, bound=scores.bound,
            cost_ratio=scores.cost_ratio, terms=scores.terms,
        )  # fmt: skip

    async def _stored(self, view: View, identity: str, wish: CorridorWish, line: Line) -> None:
        with contextlib.suppress(NotFound):
            await self._store.corridor(view, identity)
            return  # an attempt before this one had stored it
        await self._store.create_corridor(view, _columns(identity, wish, line))


def _columns(identity: str, wish: CorridorWish, line: Line) -> dict[str, Any]:
    geometry = {"type": "LineString", "coordinates": [list(corner) for corner in line.corners]}
    data = {
        "area": line.area,
        "scores": msgspec.to_builtins(line.scores),
        "score": msgspec.to_builtins(score_of(line)),
        "model_version": model_of(line),
        "seed": line.seed,
        "weights": line.weights,
        "weights_of": line.species,
        "cell_m": round(line.cell_m, 2),
        "missing": list(line.missing),
        "goal": wish.goal,
        "region": None if wish.region is None else msgspec.Raw(wish.region.encode()),
        "policy_alone_cost_ratio": line.alone_cost_ratio,
    }
    return {
        "id": identity,
        "name": wish.name or f"{wish.species}: {wish.goal} corridor",
        "species": wish.species,
        "status": "planned",
        "start_lon_deg": wish.start_lon_deg, "start_lat_deg": wish.start_lat_deg,
        "end_lon_deg": wish.end_lon_deg, "end_lat_deg": wish.end_lat_deg,
        "geometry": msgspec.json.encode(geometry).decode(),
        "width_m": min(max(line.scores.mean_width_m, _LEAST_WIDTH_M), _MOST_WIDTH_M),
        "optimization_score": round(1 / line.scores.cost_ratio, 6),
        "optimization_data": msgspec.json.encode(data).decode(),
    }  # fmt: skip
