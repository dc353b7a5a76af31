"""``shared.insight.Insight`` computed when it is asked for, from the fixes of any Store.

The cloud answers so. A station has most of it written down already (``edge.pipeline``) and takes from here what it has
not.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import zlib
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import structlog

from models.bbmm.features import Frame, frame_for, track_of
from models.bbmm.runtime import Grid, Occurrence, Utilisation, bridges_of, path_at, variances
from models.hmm.runtime import StepState
from models.live import maps
from models.live import runtime as live
from models.live.advice import AROUND_M, AT_ONCE, Advisor, Asked
from models.live.ahead import Shape, aheads
from models.live.forecasts import MOST_FIXES, SPAN, Forecast, Forecasts
from models.live.runtime import Fixes
from models.live.shapes import Shapes
from models.live.standing import Spot, Standing, standings
from shared import insight
from shared.clock import Clock
from shared.domain import Fix
from shared.errors import Forbidden, Invalid, ModelUnavailable, NotFound, StoreError
from shared.habitat import Habitat, NoHabitat
from shared.movement.areas import REACH_M, Nearby, Place
from shared.movement.geodesy import step_lengths_m
from shared.privacy import TIERS, View, cell_shown_deg, seen_alike
from shared.store import AlertQuery, FixQuery, LiveAnimal, Store
from shared.sync.records import from_ms
from shared.wire.live import movement

#: Fixes of each animal that its newest state is worked out from.
NEWEST: Final = 96
#: Fixes that one answer takes into account at most; what is older is left out and ``since`` says so.
MOST: Final = 50_000
_PAGE: Final = 5_000
#: Why models say nothing to whoever sees positions reduced: a state, a width or a place ahead would sharpen them.
REDUCED: Final = "models speak of exact positions, which you may not see"
_DAY: Final = timedelta(days=1)
_DEGREE_M: Final = 111_320.0
_RADII: Final = ("semi_major_50_m", "semi_minor_50_m", "semi_major_90_m", "semi_minor_90_m")
#: Views of which forecasts are kept beside those of who sees everything.
_TIERS: Final = 16
#: Fixes among which the newest that is placed is looked for.
_LOOKED_AT: Final = 8
#: An older fix tells nothing of where an animal should go now.
ADVISED_FOR: Final = timedelta(hours=24)
_TOO_OLD: Final = "its newest fix is too old"
#: Maps that are kept for the next tile, and how long.
_MAPS: Final = 4
MAP_S: Final = 60.0
#: How long what models say of an animal holds at most while it has no new fix.
MOVED_S: Final = 60.0
#: Animals whose movement one view works out; the others of a herd follow behind it, a few at a time.
MOVED_AT_ONCE: Final = 16
_WAITS: Final = "waits for its turn"
#: Places of which it is kept what is near.
_PLACES: Final = 10_000

log = structlog.get_logger(__name__)


class DrawnMap(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Occurrence of one animal, drawn: what tiles are cut from."""

    answer: insight.Occurrence
    levels: npt.NDArray[np.uint8]
    grid: Grid
    frame: Frame


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the models said of an animal's fixes."""

    step: insight.StepSaid | None
    distance_24h_m: float | None
    path_sd_m: float | None
    models: Mapping[str, str]
    missing: Mapping[str, str]
    suitability: float | None = None
    advice: insight.Advice | None = None


class Moved(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What models said of how an animal moved, ``of`` its newest fix as one of its species, and when they did.

    ``track`` stands for the fixes that it was made of, and ``models`` for what made it.
    """

    at_s: float
    of: tuple[str, str]
    track: bytes
    models: object
    said: live.Said
    distance_24h_m: float | None


#: Of an animal whose turn has not come.
_UNSAID: Final = live.Said(behaviour=None, path=None, missing={"behaviour": _WAITS, "path": _WAITS})


class OnDemand:
    """Implements ``Insight`` over a Store."""

    def __init__(
        self,
        store: Store,
        models: live.Models,
        clock: Clock,
        habitat: Habitat | None = None,
        advisor: Advisor | None = None,
    ) -> None:
        self._store = store
        self._models = models
        self._clock = clock
        self._habitat: Habitat = NoHabitat() if habitat is None else habitat
        self._shapes = Shapes(store, clock.monotonic)
        #: how suitable places of fixes are, by the id of the fix
        self._standings: dict[str, Standing] = {}
        self._forecasts = Forecasts(models, clock.monotonic)
        #: those made from reduced positions, by what is seen alike
        self._reduced_forecasts: dict[Hashable, Forecasts] = {}
        self._maps: dict[str, tuple[float, DrawnMap]] = {}
        #: what was said of how animals moved, by animal, and what works out the rest of a herd
        self._moves: dict[str, Moved] = {}
        self._catching_up: asyncio.Task[None] | None = None
        #: what is near places, while zones and corridors are as they were
        self._near: dict[tuple[float, float], list[Nearby]] = {}
        self._near_mark: Hashable = None
        #: what animals may walk into, by animal, with what it was made of
        self._aheads: dict[
            str, tuple[tuple[insight.Predicted, ...], Sequence[Shape], str, tuple[insight.Ahead, ...]]
        ] = {}
        self._advisor = Advisor() if advisor is None else advisor
        #: advice by animal, with what it was made of
        self._advised: dict[str, tuple[Hashable, insight.Advice | str]] = {}

    async def live(self, view: View) -> list[insight.AnimalInsight]:
        """Return every active animal that has a usable position; to a reduced view models say nothing."""
        animals = await self._store.live_animals(view)
        if not view.is_exact:
            return [_reduced(each, view) for each in animals]
        return await self._live(view, animals)

    async def _live(self, view: View, animals: Sequence[LiveAnimal]) -> list[insight.AnimalInsight]:
        """Return what models say of animals that ``view`` sees exactly."""
        moved = await self._moved(view, animals)
        standing = await self._standing(animals)
        advised = await self._advice(view, animals, standing)
        return await self._insights(
            view,
            animals,
            [
                Known(
                    step=_shown(said.behaviour),
                    distance_24h_m=None if each is None else each.distance_24h_m,
                    path_sd_m=None if said.path is None else said.path.sd_m,
                    models={**_spoke(said), **spoke_of_place(place)},
                    missing={
                        **dict(said.missing.items()),
                        **missing_of_place(place),
                        **({"corridor": advice} if isinstance(advice, str) else {}),
                    },
                    suitability=place.suitability,
                    advice=None if isinstance(advice, str) else advice,
                )
                for each, place, advice in zip(moved, standing, advised, strict=True)
                for said in [_UNSAID if each is None else each.said]
            ],
        )

    async def _moved(self, view: View, animals: Sequence[LiveAnimal]) -> list[Moved | None]:
        """Return what models say of how animals moved, None of whom it is not known yet.

        Of those without a new fix it is asked again within a minute: so long a fix that came late, or was taken out,
        may wait. A view works out a few animals itself; where more are new, the rest of the herd follows behind it.
        """
        present = {each.animal.id for each in animals}
        self._moves = {key: moved for key, moved in self._moves.items() if key in present}
        wanted = self._to_work_out(animals)
        await self._work_out(view, wanted[:MOVED_AT_ONCE])
        if len(wanted) > MOVED_AT_ONCE and (self._catching_up is None or self._catching_up.done()):
            self._catching_up = asyncio.create_task(self._catch_up(view, wanted[MOVED_AT_ONCE:]), name="catching up")
        return [self._move_of(each) for each in animals]

    def _to_work_out(self, animals: Sequence[LiveAnimal]) -> list[LiveAnimal]:
        """Return animals of which nothing is known, then those of which it was asked long ago."""
        now_s = self._clock.monotonic()
        unknown = [each for each in animals if self._move_of(each) is None]
        old = [
            each
            for each in animals
            if (moved := self._move_of(each)) is not None and now_s - moved.at_s >= _holds_s(each.animal.id)
        ]
        return unknown + sorted(old, key=lambda each: self._moves[each.animal.id].at_s)

    def _move_of(self, animal: LiveAnimal) -> Moved | None:
        moved = self._moves.get(animal.animal.id)
        return moved if moved is not None and moved.of == (animal.fix.id, animal.animal.species) else None

    async def _catch_up(self, view: View, animals: Sequence[LiveAnimal]) -> None:
        """Work out the rest of a herd, a few at a time; a store that does not answer is asked at the next view."""
        for start in range(0, len(animals), MOVED_AT_ONCE):
            try:
                await self._work_out(view, animals[start : start + MOVED_AT_ONCE])
            except StoreError as error:
                log.warning("insight.fell_behind", code=error.code, detail=error.detail)
                return

    async def _work_out(self, view: View, animals: Sequence[LiveAnimal]) -> None:
        """Work out how some animals moved; of a track that is as it was, nothing is worked out anew."""
        if not animals:
            return
        now_s, tracks = self._clock.monotonic(), await self._tracks(view, animals)
        known = [self._move_of(each) for each in animals]
        models = self._models.mark

        def moved() -> list[Moved]:
            digests = [_digest(fixes) for fixes in tracks]
            as_it_was = [
                before is not None and (before.track, before.models) == (track, models)
                for before, track in zip(known, digests, strict=True)
            ]
            asked = [
                live.Asked(species=each.animal.species, fixes=fixes)
                for each, fixes, same in zip(animals, tracks, as_it_was, strict=True)
                if not same
            ]
            said = iter(live.said_of_each(self._models, asked))
            return [
                msgspec.structs.replace(before, at_s=now_s)
                if same and before is not None
                else Moved(
                    at_s=now_s, of=(each.fix.id, each.animal.species), track=track, models=models, said=next(said),
                    distance_24h_m=distance_of_the_last_day_m(fixes),
                )
                for each, fixes, before, track, same in zip(animals, tracks, known, digests, as_it_was, strict=True)
            ]  # fmt: skip

        found = await asyncio.to_thread(moved)
        self._moves |= {each.animal.id: one for each, one in zip(animals, found, strict=True)}

    async def _tracks(self, view: View, animals: Sequence[LiveAnimal]) -> list[Fixes]:
        """Return of each animal the fixes that its state is worked out from; ``view`` sees them exactly."""
        return [columns_of(await self._newest(view, each)) for each in animals]

    async def _standing(self, animals: Sequence[LiveAnimal]) -> list[Standing]:
        """Return how suitable the places of animals are; of each fix it is asked once."""
        present = {each.fix.id for each in animals}
        self._standings = {key: kept for key, kept in self._standings.items() if key in present}
        placed = [(each, place_of(each)) for each in animals if each.fix.id not in self._standings]
        spots = [
            (each.fix.id, Spot(each.animal.species, place, each.fix.recorded_at.month))
            for each, place in placed
            if place is not None
        ]
        found = await standings(self._habitat, [spot for _, spot in spots])
        fresh = {fix_id: said for (fix_id, _), said in zip(spots, found, strict=True)}
        # what could not be told is asked again at the next view: somebody may bring the maps
        self._standings |= {fix_id: said for fix_id, said in fresh.items() if said.missing is None}
        nowhere = Standing(missing="it has no place")
        return [self._standings.get(each.fix.id) or fresh.get(each.fix.id, nowhere) for each in animals]

    async def _advice(
        self, view: View, animals: Sequence[LiveAnimal], standing: Sequence[Standing]
    ) -> list[insight.Advice | str]:
        """Return advice on animals, or why there is none; a few that are new are worked out, the others wait."""
        places = [place_of(each) for each in animals]
        near = iter(await self._shapes.around(view, [place for place in places if place is not None], AROUND_M))
        asked: dict[str, tuple[Hashable, Asked]] = {}
        for each, place, stood in zip(animals, places, standing, strict=True):
            if place is None:
                continue
            shapes = next(near)
            stamp = each.fix.id, stood.suitability, tuple(sorted((shape.ahead.id, id(shape)) for shape in shapes))
            asked[each.animal.id] = stamp, Asked(
                species=each.animal.species, lon_deg=place.lon_deg, lat_deg=place.lat_deg,
                heading_deg=movement(each.previous, each.fix)[1], suitability=stood.suitability, shapes=shapes,
            )  # fmt: skip
        known = self._advised
        fresh = [key for key, (stamp, _) in asked.items() if key not in known or known[key][0] != stamp]
        fresh = sorted(fresh, key=lambda key: key in known)[:AT_ONCE]
        said = await asyncio.to_thread(self._advisor.advise, [asked[key][1] for key in fresh]) if fresh else []
        made = {key: (asked[key][0], one) for key, one in zip(fresh, said, strict=True)}
        self._advised = {key: kept for key, kept in {**known, **made}.items() if key in asked}
        found: list[insight.Advice | str] = []
        for each in animals:
            if each.animal.id not in asked:
                found.append("it has no place")
                continue
            made_of, one = self._advised.get(each.animal.id, (None, ""))
            found.append(one if made_of == asked[each.animal.id][0] else "waits for its turn")
        return found

    async def _insights(
        self, view: View, animals: Sequence[LiveAnimal], known: Sequence[Known]
    ) -> list[insight.AnimalInsight]:
        """Return what is known of animals with what is near, where they will be, and their alerts."""
        nearby = await self._nearby(view, [(each.fix.lon_deg, each.fix.lat_deg) for each in animals])
        forecasts = await self._forecast(view, animals)
        ahead = [(f.predicted[0].lon_deg, f.predicted[0].lat_deg) if f.predicted else (None, None) for f in forecasts]
        there = await self._nearby(view, ahead)
        shapes = await self._shapes.near(view, [each for f in forecasts for each in f.predicted])
        walked_into = self._walked_into(animals, forecasts, shapes)
        alerts = await alerts_now(self._store, view)
        return [
            insight.AnimalInsight(
                live=each,
                step=one.step,
                distance_24h_m=one.distance_24h_m,
                path_sd_m=one.path_sd_m,
                nearby=tuple(near),
                alerts=alerts.get(each.animal.id, insight.AlertsNow()),
                predicted=forecast.predicted,
                predicted_nearby=tuple(then),
                suitability=one.suitability,
                ahead=ahead_of_it,
                **_advised(each, one, forecast, self._clock.now()),
            )
            for each, one, near, forecast, then, ahead_of_it in zip(
                animals, known, nearby, forecasts, there, walked_into, strict=True
            )
        ]

    def _walked_into(
        self, animals: Sequence[LiveAnimal], forecasts: Sequence[Forecast], shapes: Sequence[Shape]
    ) -> list[tuple[insight.Ahead, ...]]:
        """Return what each animal may walk into; where forecast and shapes are as they were, what it was."""
        found = {}
        before = {id(kept[1]): kept[1] for kept in self._aheads.values()}
        as_now = {key for key, was in before.items() if _are_same(was, shapes)}
        for each, forecast in zip(animals, forecasts, strict=True):
            key, species = each.animal.id, each.animal.species
            kept = self._aheads.get(key)
            if kept is None or (kept[0], kept[2]) != (forecast.predicted, species) or id(kept[1]) not in as_now:
                kept = forecast.predicted, shapes, species, aheads(forecast.predicted, shapes, species)
            found[key] = (kept[0], shapes, species, kept[3])
        self._aheads = found
        return [found[each.animal.id][3] for each in animals]

    async def behaviour(self, view: View, animal_id: str, since: datetime, until: datetime) -> insight.Behaviour:
        """Return the steps that ended in a span; to a reduced view nothing."""
        if not view.is_exact:
            return insight.Behaviour(steps=[], missing=REDUCED)
        return await self._behaviour(view, animal_id, since, until)

    async def _behaviour(self, view: View, animal_id: str, since: datetime, until: datetime) -> insight.Behaviour:
        animal = await self._store.animal(view, animal_id)
        before = await self._fixes(view, animal_id, None, since, limit=NEWEST)
        fixes = before + await self._fixes(view, animal_id, since, until)
        try:
            said = await asyncio.to_thread(live.behaviour, self._models, animal.species, columns_of(fixes))
        except ModelUnavailable as error:
            return insight.Behaviour(steps=[], missing=error.detail)
        steps = [said_of(step) for step in said.steps if since.timestamp() <= step.ended_at_s]
        return insight.Behaviour(steps=steps, model=f"{said.model} {said.version}", interval_s=said.interval_s)

    async def states(self, view: View, since: datetime, until: datetime) -> dict[str, list[tuple[datetime, str]]]:
        """Return nothing: no step is written down here."""
        return {}

    async def path(
        self, view: View, animal_id: str, since: datetime, until: datetime, points: int
    ) -> insight.LikelyPath:
        """Return the likely path; to a reduced view nothing."""
        if not view.is_exact:
            return insight.LikelyPath(points=[], missing=REDUCED)
        animal = await self._store.animal(view, animal_id)
        fixes = await self._fixes(view, animal_id, since, until)
        try:
            return await asyncio.to_thread(likely_path, self._models, animal.species, fixes, points)
        except ModelUnavailable as error:
            return insight.LikelyPath(points=[], missing=error.detail)

    async def occurrence(self, view: View, animal_id: str) -> insight.Occurrence:
        """Return occurrence; raises ModelUnavailable where there are too few fixes or no model."""
        return (await self._map(view, animal_id)).answer

    async def occurrence_tile(self, view: View, animal_id: str, z: int, x: int, y: int) -> bytes:
        """Return occurrence as a PNG tile."""
        drawn = await self._map(view, animal_id)
        try:
            return await asyncio.to_thread(maps.tile_png, drawn.levels, drawn.grid, drawn.frame, z, x, y)
        except ValueError as error:
            raise NotFound(str(error)) from error

    async def track(self, view: View, animal_id: str) -> list[Fix]:
        """Return the newest usable fixes of an animal, at most ``MOST``, by time."""
        return await self._fixes(view, animal_id, None, None)

    async def draw(self, view: View, animal_id: str) -> DrawnMap:
        """Draw an animal's map from its fixes."""
        animal = await self._store.animal(view, animal_id)
        fixes = await self._fixes(view, animal_id, None, None)
        return await asyncio.to_thread(_drawn, self._models, animal.species, fixes)

    async def _map(self, view: View, animal_id: str) -> DrawnMap:
        if not view.is_exact:
            await self._store.animal(view, animal_id)
            raise Forbidden(REDUCED)
        now_s = self._clock.monotonic()
        self._maps = {key: kept for key, kept in self._maps.items() if now_s - kept[0] < MAP_S}
        kept = self._maps.get(animal_id)
        if kept is not None:
            await self._store.animal(view, animal_id)  # whoever may not see the animal may not see its map
            return kept[1]
        drawn = await self.draw(view, animal_id)
        while len(self._maps) >= _MAPS:
            del self._maps[min(self._maps, key=lambda key: self._maps[key][0])]
        self._maps[animal_id] = now_s, drawn
        return drawn

    async def forecast(self, view: View, animal_id: str) -> insight.Forecast:
        """Return where an animal will be, made from the positions that ``view`` has; raises ModelUnavailable.

        What is made from reduced positions is reduced again: each place is the middle of its cell, and the ellipses
        are wider by half a cell's diagonal.
        """
        animal = await self._newest_of(view, animal_id)
        kept = self._forecasts_for(view)
        if kept.whole(animal) is None:
            kept.forget_old()
            track = await (self._track(view, animal) if view.is_exact else self._track_seen(view, animal))
            await asyncio.to_thread(kept.work_out, [(animal, track)])
        found = kept.whole(animal)
        if found is None or not found.predicted:
            raise ModelUnavailable((found and found.missing) or "there is no forecast yet")
        if found.predicted[-1].at <= self._clock.now():
            raise ModelUnavailable("its newest position that you may see is too old for a forecast")
        if view.is_exact:
            return insight.Forecast(animal=animal.animal, fix=animal.fix, predicted=found.predicted)
        return _generalised(view, animal, found.predicted)

    async def statuses(self) -> list[insight.ModelStatus]:
        """Say how each model of the movement is."""
        return await asyncio.to_thread(lambda: [*self._models.statuses(), self._advisor.status()])

    async def _newest_of(self, view: View, animal_id: str) -> LiveAnimal:
        """Return an animal with its newest usable position; raises NotFound, ModelUnavailable where it has none."""
        animal = await self._store.animal(view, animal_id)
        fixes = await self._fixes(view, animal_id, None, None, limit=_LOOKED_AT)
        if not fixes:
            raise ModelUnavailable("there is no usable position of this animal that you may see")
        return LiveAnimal(animal=animal, fix=fixes[-1], previous=fixes[-2] if len(fixes) > 1 else None)

    def _forecasts_for(self, view: View) -> Forecasts:
        if view.is_exact:
            return self._forecasts
        key = seen_alike(view)
        if key not in self._reduced_forecasts:
            while len(self._reduced_forecasts) >= _TIERS:
                del self._reduced_forecasts[next(iter(self._reduced_forecasts))]
            self._reduced_forecasts[key] = Forecasts(self._models, self._clock.monotonic)
        return self._reduced_forecasts[key]

    async def _nearby(self, view: View, at: Sequence[tuple[float | None, float | None]]) -> list[list[Nearby]]:
        """Return what is near each place; nothing is near no place. Who sees exactly asks."""
        mark = await self._areas_mark()
        if mark is None or mark != self._near_mark:
            self._near, self._near_mark = {}, mark
        places = {(lon, lat): Place(lon, lat) for lon, lat in at if lon is not None and lat is not None}
        fresh = [place for key, place in places.items() if key not in self._near]
        if fresh:
            found = await self._store.areas_near(view, fresh, REACH_M)
            if len(self._near) > _PLACES:
                self._near = {key: near for key, near in self._near.items() if key in places}
            self._near |= {(place.lon_deg, place.lat_deg): near for place, near in zip(fresh, found, strict=True)}
        return [[] if lon is None or lat is None else self._near[lon, lat] for lon, lat in at]

    async def _areas_mark(self) -> Hashable:
        """Return what changes with every zone and corridor; None where the home cannot tell."""
        return None

    async def _forecast(self, view: View, animals: Sequence[LiveAnimal]) -> list[Forecast]:
        """Return where animals will be; a few that are new are worked out, the others are known or wait."""
        if wanted := self._forecasts.wanted(animals):
            tracks = await self._forecast_tracks(view, wanted)
            await asyncio.to_thread(self._forecasts.work_out, list(zip(wanted, tracks, strict=True)))
        now = self._clock.now()
        return [self._forecasts.of(each, now) for each in animals]

    async def _forecast_tracks(self, view: View, animals: Sequence[LiveAnimal]) -> list[Fixes]:
        """Return of each animal the fixes that a forecast needs; ``view`` sees them exactly."""
        return [await self._track(view, each) for each in animals]

    async def _track(self, view: View, animal: LiveAnimal) -> Fixes:
        """Return the fixes that a forecast needs; ``view`` sees them exactly."""
        return await self._track_seen(view, animal)

    async def _track_seen(self, view: View, animal: LiveAnimal) -> Fixes:
        """Return of those fixes what ``view`` sees."""
        since = animal.fix.recorded_at - SPAN
        return columns_of(await self._fixes(view, animal.animal.id, since, None, limit=MOST_FIXES))

    async def _newest(self, view: View, animal: LiveAnimal) -> list[Fix]:
        """Return the fixes of the last day before the newest, and at least so many that its state can be told."""
        fixes = await self._fixes(view, animal.animal.id, animal.fix.recorded_at - _DAY, None)
        if len(fixes) < NEWEST:
            fixes = await self._fixes(view, animal.animal.id, None, None, limit=NEWEST)
        return fixes

    async def _fixes(
        self, view: View, animal_id: str, since: datetime | None, until: datetime | None, *, limit: int = MOST
    ) -> list[Fix]:
        """Return the newest ``limit`` usable fixes of a span, by time, one at each instant."""
        found: list[Fix] = []
        while len(found) < limit:
            query = FixQuery(
                animal_id=animal_id, since=since, until=until, is_usable=True, ordering="-timestamp",
                limit=min(_PAGE, limit - len(found)),
            )  # fmt: skip
            page = (await self._store.fixes(view, query)).results
            if found:  # several fixes may share the instant at which the page before ended
                page = [fix for fix in page if fix.recorded_at < found[-1].recorded_at]
            found += page
            if len(page) < query.limit // 2:
                break
            until = found[-1].recorded_at + timedelta(milliseconds=1)
        placed = {fix.recorded_at: fix for fix in found if fix.lon_deg is not None}
        return [placed[instant] for instant in sorted(placed)]


def columns_of(fixes: Sequence[Fix]) -> Fixes:
    """Return fixes as the models take them; they are placed, by time, one at each instant."""

    def column(name: str) -> npt.NDArray[np.float64]:
        values = [getattr(fix, name) for fix in fixes]
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)

    return Fixes(
        times_s=np.array([fix.recorded_at.timestamp() for fix in fixes], dtype=np.float64),
        lon_deg=column("lon_deg"),
        lat_deg=column("lat_deg"),
        h_acc_m=column("h_acc_m"),
        hdop=column("hdop"),
    )


async def alerts_now(store: Store, view: View) -> Mapping[str, insight.AlertsNow]:
    """Return the active alerts of each animal that has some."""
    found: dict[str, insight.AlertsNow] = {}
    for alert in (await store.alerts(view, AlertQuery(status="active", limit=_PAGE))).results:
        if alert.animal_id is None:
            continue
        known = found.get(alert.animal_id, insight.AlertsNow(latest_title=alert.title))  # the newest comes first
        found[alert.animal_id] = msgspec.structs.replace(
            known,
            active_count=known.active_count + 1,
            has_critical=known.has_critical or alert.severity == "critical",
        )
    return found


def distance_of_the_last_day_m(fixes: Fixes) -> float | None:
    """Return the length of the track over the day before its newest fix; None for a lone fix."""
    if not len(fixes):
        return None
    day = fixes.times_s > fixes.times_s[-1] - _DAY.total_seconds()
    if day.sum() < 2:
        return None
    return float(step_lengths_m(fixes.lon_deg[day], fixes.lat_deg[day]).sum())


def _holds_s(animal_id: str) -> float:
    """Return how long what was said of an animal holds: of a herd not of all to the same instant."""
    return MOVED_S * (0.5 + zlib.crc32(animal_id.encode()) / 2**33)


def _digest(fixes: Fixes) -> bytes:
    """Return what is equal for equal tracks alone."""
    columns = (fixes.times_s, fixes.lon_deg, fixes.lat_deg, fixes.h_acc_m, fixes.hdop)
    return hashlib.blake2b(b"".join(column.tobytes() for column in columns), digest_size=16).digest()


def _are_same(before: Sequence[Shape], now: Sequence[Shape]) -> bool:
    return len(before) == len(now) and all(was is each for was, each in zip(before, now, strict=True))


def said_of(step: StepState) -> insight.StepSaid:
    """Return a step as both homes serve it."""
    return insight.StepSaid(
        started_at=from_ms(round(step.started_at_s * 1000)),
        ended_at=from_ms(round(step.ended_at_s * 1000)),
        step_m=step.step_m,
        state=step.state,
        confidence=step.confidence,
        is_settled=step.is_settled,
        log_likelihood=step.log_likelihood,
    )


def likely_path(models: live.Models, species: str | None, fixes: Sequence[Fix], points: int) -> insight.LikelyPath:
    """Return ``points`` instants evenly over the fixes, those in gaps left out; raises ModelUnavailable."""
    if points < 2:
        raise Invalid("points: a path has at least 2")
    calibration = models.calibration(species)
    if len(fixes) < 2:
        raise ModelUnavailable("there is no path yet: fewer than two fixes")
    columns = columns_of(fixes)
    frame = frame_for(columns.lon_deg, columns.lat_deg)
    track = track_of(
        columns.times_s, columns.lon_deg, columns.lat_deg, frame, calibration.errors, h_acc_m=columns.h_acc_m,
        hdop=columns.hdop,
    )  # fmt: skip
    found = path_at(track, np.linspace(columns.times_s[0], columns.times_s[-1], points), calibration)
    is_there = np.isfinite(found.x_m)
    lon, lat = frame.to_degrees(found.x_m[is_there], found.y_m[is_there])
    rows = zip(
        found.times_s[is_there].tolist(), lon.tolist(), lat.tolist(), found.sd_m[is_there].tolist(),
        found.radius_50_m[is_there].tolist(), found.radius_95_m[is_there].tolist(), strict=True,
    )  # fmt: skip
    return insight.LikelyPath(
        points=[
            insight.PathPoint(
                at=from_ms(round(at_s * 1000)), lon_deg=round(x, 7), lat_deg=round(y, 7), sd_m=sd_m,
                radius_50_m=inner_m, radius_95_m=outer_m,
            )
            for at_s, x, y, sd_m, inner_m, outer_m in rows
        ],
        model=f"{calibration.name} {calibration.version}",
    )  # fmt: skip


def drawn_map(found: Occurrence, frame: Frame, *, since: datetime, until: datetime, model: str) -> DrawnMap:
    """Return occurrence with its answer and its levels."""
    answer = maps.answer_of(found, frame, since=since, until=until, model=model)
    return DrawnMap(answer=answer, levels=found.levels(), grid=found.grid, frame=frame)


def _drawn(models: live.Models, species: str | None, fixes: Sequence[Fix]) -> DrawnMap:
    if len(fixes) < 2:
        raise ModelUnavailable("there is no occurrence yet: fewer than two usable fixes")
    return drawn_from(models, species, columns_of(fixes), since=fixes[0].recorded_at, until=fixes[-1].recorded_at)


def drawn_from(
    models: live.Models, species: str | None, columns: Fixes, *, since: datetime, until: datetime
) -> DrawnMap:
    """Return where an animal was between its fixes, drawn; raises ModelUnavailable where there are too few."""
    calibration = models.calibration(species)
    if len(columns) < 2:
        raise ModelUnavailable("there is no occurrence yet: fewer than two usable fixes")
    box = maps.corners(
        float(columns.lon_deg.min()), float(columns.lat_deg.min()), float(columns.lon_deg.max()),
        float(columns.lat_deg.max()),
    )  # fmt: skip
    frame = frame_for(*box)
    used = Utilisation(frame, maps.cell_m_for(frame.to_metres(*box)))
    track = track_of(
        columns.times_s, columns.lon_deg, columns.lat_deg, frame, calibration.errors, h_acc_m=columns.h_acc_m,
        hdop=columns.hdop,
    )  # fmt: skip
    variance = variances(track, calibration.variance_m2_per_s, calibration.max_gap_s)
    used.add(bridges_of(track, variance, calibration.max_gap_s))
    return drawn_map(
        used.occurrence(), frame, since=since, until=until, model=f"{calibration.name} {calibration.version}"
    )


def place_of(animal: LiveAnimal) -> Place | None:
    """Return where an animal is."""
    lon_deg, lat_deg = animal.fix.lon_deg, animal.fix.lat_deg
    return None if lon_deg is None or lat_deg is None else Place(lon_deg, lat_deg)


def spoke_of_place(standing: Standing) -> dict[str, str]:
    """Return which model spoke of a place."""
    return {} if standing.model is None or standing.suitability is None else {"habitat": standing.model}


def missing_of_place(standing: Standing) -> dict[str, str]:
    """Return why none did."""
    return {} if standing.missing is None else {"habitat": standing.missing}


def _generalised(view: View, animal: LiveAnimal, predicted: Sequence[insight.Predicted]) -> insight.Forecast:
    """Return a forecast as whoever sees positions reduced may have it."""
    assert view.species is not None
    tier = TIERS[view.species.category(animal.animal.species)]
    told = []
    for each in predicted:
        middle = tier.generalised(each.lon_deg, each.lat_deg)
        if middle is None or tier.cell_e7 is None:
            raise ModelUnavailable("no place of this species is shown to you")
        wider_m = tier.cell_e7 / 1e7 * _DEGREE_M / math.sqrt(2)
        radii = {name: getattr(each, name) + wider_m for name in _RADII}
        told.append(
            msgspec.structs.replace(each, lon_deg=middle[0], lat_deg=middle[1], bearing_deg=0.0, **_rounded(radii))
        )
    cell_deg = None if tier.cell_e7 is None else tier.cell_e7 / 1e7
    return insight.Forecast(animal=animal.animal, fix=animal.fix, predicted=tuple(told), cell_deg=cell_deg)


def _rounded(radii: Mapping[str, float]) -> dict[str, float]:
    """Return radii in whole kilometres, upwards: a metre of them would tell of steps within a cell."""
    return {name: math.ceil(value / 1000) * 1000.0 for name, value in radii.items()}


def _advised(animal: LiveAnimal, known: Known, forecast: Forecast, now: datetime) -> dict[str, Any]:
    """Return the advice on an animal with what spoke and what did not; of an old fix there is none."""
    advice, missing = known.advice, dict(known.missing)
    if now - animal.fix.recorded_at > ADVISED_FOR:
        advice, missing["corridor"] = None, _TOO_OLD
    if forecast.missing is not None:
        missing["forecast"] = forecast.missing
    spoke = {"forecast": forecast.predicted[0].model} if forecast.predicted else {}
    if advice is not None:
        spoke["corridor"] = advice.model
    return {"advice": advice, "models": {**known.models, **spoke}, "missing": missing}


def _reduced(animal: LiveAnimal, view: View) -> insight.AnimalInsight:
    return insight.AnimalInsight(
        live=animal,
        cell_deg=cell_shown_deg(view, animal.animal.species, animal.fix.lon_deg, animal.fix.lat_deg),
        step=None,
        distance_24h_m=None,
        path_sd_m=None,
        nearby=(),
        alerts=insight.AlertsNow(),
        missing=dict.fromkeys(("behaviour", "path", "habitat", "forecast", "corridor"), REDUCED),
    )


def _shown(behaviour: live.Behaviour | None) -> insight.StepSaid | None:
    """Return the newest step that is settled; where none is, the newest."""
    if behaviour is None or not behaviour.steps:
        return None
    settled = [step for step in behaviour.steps if step.is_settled] or behaviour.steps
    return said_of(settled[-1])


def _spoke(said: live.Said) -> dict[str, str]:
    spoke: dict[str, str] = {}
    if said.behaviour is not None:
        spoke["behaviour"] = f"{said.behaviour.model} {said.behaviour.version}"
    if said.path is not None:
        spoke["path"] = f"{said.path.model} {said.path.version}"
    return spoke
