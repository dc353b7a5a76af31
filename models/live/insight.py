"""``shared.insight.Insight`` computed when it is asked for, from the fixes of any Store.

The cloud answers so. A station has most of it written down already (``edge.pipeline``) and takes from here what it has
not.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

import msgspec
import structlog

from models.live import maps
from models.live import runtime as live
from models.live.advice import AROUND_M, AT_ONCE, Advisor, Asked
from models.live.ahead import Shape, aheads
from models.live.drawing import DrawnMap, drawn_of, likely_path
from models.live.forecasts import MOST_FIXES, SPAN, Forecast, Forecasts
from models.live.runtime import Fixes
from models.live.shapes import Shapes
from models.live.standing import Spot, Standing, standings
from models.live.telling import (
    DAY,
    REDUCED,
    Known,
    advised,
    columns_of,
    distance_of_the_last_day_m,
    generalised,
    missing_of_place,
    place_of,
    reduced,
    said_of,
    shown,
    spoke_of,
    spoke_of_place,
)
from shared import insight
from shared.clock import Clock
from shared.domain import Fix
from shared.errors import Forbidden, ModelUnavailable, NotFound, StoreError
from shared.habitat import Habitat, NoHabitat
from shared.movement.areas import REACH_M, Nearby, Place
from shared.privacy import View, seen_alike
from shared.store import AlertQuery, FixQuery, LiveAnimal, Store
from shared.wire.live import movement

#: Fixes of each animal that its newest state is worked out from.
NEWEST: Final = 96
#: Fixes that one answer takes into account at most; what is older is left out and ``since`` says so.
MOST: Final = 50_000
_PAGE: Final = 5_000
#: Views of which forecasts are kept beside those of who sees everything.
_TIERS: Final = 16
#: Fixes among which the newest that is placed is looked for.
_LOOKED_AT: Final = 8
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
            return [reduced(each, view) for each in animals]
        return await self._live(view, animals)

    async def _live(self, view: View, animals: Sequence[LiveAnimal]) -> list[insight.AnimalInsight]:
        """Return what models say of animals that ``view`` sees exactly."""
        return await self._insights(view, animals, await self._known(view, animals))

    async def _known(
        self, view: View, animals: Sequence[LiveAnimal], told: Mapping[str, Known] = MappingProxyType({})
    ) -> list[Known]:
        """Return what models say of animals that ``view`` sees exactly, but for what lies ahead of them.

        ``told`` is what another home's models said, by animal: only what it lacks of places is worked out here.
        """
        unmoved = [each for each in animals if each.animal.id not in told]
        moved = {each.animal.id: said for each, said in zip(unmoved, await self._moved(view, unmoved), strict=True)}
        known = [told.get(each.animal.id) or _known_of(moved[each.animal.id]) for each in animals]
        lacking = [
            each for each, one in zip(animals, known, strict=True) if one.suitability is None or one.advice is None
        ]
        standing = await self._standing(lacking)
        advised = await self._advice(view, lacking, standing)
        places = {
            each.animal.id: (place, advice) for each, place, advice in zip(lacking, standing, advised, strict=True)
        }
        return [
            _placed(one, *places[each.animal.id]) if each.animal.id in places else one
            for each, one in zip(animals, known, strict=True)
        ]

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
                **advised(each, one, forecast, self._clock.now()),
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

    async def states(self, view: View, since: datetime, until: datetime) -> dict[str, list[insight.StepSpan]]:
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
        return await asyncio.to_thread(drawn_of, self._models, animal.species, fixes)

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
        return generalised(view, animal, found.predicted)

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
        fixes = await self._fixes(view, animal.animal.id, animal.fix.recorded_at - DAY, None)
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


def _known_of(moved: Moved | None) -> Known:
    said = _UNSAID if moved is None else moved.said
    return Known(
        step=shown(said.behaviour),
        distance_24h_m=None if moved is None else moved.distance_24h_m,
        path_sd_m=None if said.path is None else said.path.sd_m,
        models=spoke_of(said),
        missing={str(stage): reason for stage, reason in said.missing.items()},
    )


def _placed(known: Known, place: Standing, advice: insight.Advice | str) -> Known:
    """Return what is known of an animal with what is said here of its place, where nothing was."""
    missing, models = dict(known.missing), dict(known.models)
    if known.suitability is None:
        missing.pop("habitat", None)
        missing |= missing_of_place(place)
        models |= spoke_of_place(place)
    if known.advice is None:
        missing.pop("corridor", None)
        missing |= {"corridor": advice} if isinstance(advice, str) else {}
    return msgspec.structs.replace(
        known,
        models=models,
        missing=missing,
        suitability=place.suitability if known.suitability is None else known.suitability,
        advice=known.advice or (None if isinstance(advice, str) else advice),
    )


def _holds_s(animal_id: str) -> float:
    """Return how long what was said of an animal holds: of a herd not of all to the same instant."""
    return MOVED_S * (0.5 + zlib.crc32(animal_id.encode()) / 2**33)


def _digest(fixes: Fixes) -> bytes:
    """Return what is equal for equal tracks alone."""
    columns = (fixes.times_s, fixes.lon_deg, fixes.lat_deg, fixes.h_acc_m, fixes.hdop)
    return hashlib.blake2b(b"".join(column.tobytes() for column in columns), digest_size=16).digest()


def _are_same(before: Sequence[Shape], now: Sequence[Shape]) -> bool:
    return len(before) == len(now) and all(was is each for was, each in zip(before, now, strict=True))
