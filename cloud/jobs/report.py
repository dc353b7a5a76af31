"""Reports: what a period was like, in tables that a person reads: as PDF, as a spreadsheet or as JSON, by a job.

What is worked out of positions one by one (movement, corridors, habitat) is for those who see them exactly: of places
in coarse cells there is no distance. Where species are is told in cells of a tenth of a degree, of what the asker sees.
No report names a place more precisely than that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, aclosing
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
import numpy as np

from cloud.jobs import report_files
from cloud.jobs.export import seen_as
from cloud.jobs.kinds import JobKind, Run
from cloud.jobs.report_files import Cell, Report, Section
from cloud.jobs.report_words import Language
from cloud.store.export import Selection, leaving
from cloud.store.reports import corridor_use
from cloud.store.store import PostgresStore
from shared.domain import Alert, is_usable
from shared.errors import Forbidden
from shared.exchange.rows import TrackFix
from shared.habitat import Habitat
from shared.ids import derived_id
from shared.movement.areas import Place
from shared.movement.geodesy import step_lengths_m
from shared.privacy import Principal, View
from shared.store import AlertQuery, CorridorQuery, ZoneQuery
from shared.sync.records import from_ms

REPORT: Final = "report"
Subject = Literal["movement", "corridors", "conflicts", "species", "habitat"]
ReportForm = Literal["pdf", "xlsx", "json"]
#: Worked out of exact positions alone.
EXACT: Final[frozenset[str]] = frozenset({"movement", "corridors", "habitat"})
#: Alerts of people and animals that come too close.
CONFLICTS: Final = ("high_risk_zone", "zone_warning", "poaching_risk")
CELL_DEG: Final = 0.1
_PAGE: Final = 500
_SAMPLE: Final = 400
_DAY_MS: Final = 86_400_000


class ReportWish(msgspec.Struct, frozen=True, kw_only=True):
    """What a report is about; ``since`` is inclusive, ``until`` exclusive. ``seen_as`` is how the asker saw then."""

    subject: Subject
    format: ReportForm
    since: datetime
    until: datetime
    species: str | None = None
    seen_as: str
    language: Language = "en"

    @property
    def selection(self) -> Selection:
        """Return which fixes it is about."""
        return Selection(species=self.species, since=self.since, until=self.until, is_usable_only=True)


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a report."""

    subject: Subject
    rows: int
    file: str
    is_exact: bool
    url: str


class Track(msgspec.Struct, kw_only=True):
    """The usable fixes of one animal, in the order of time."""

    name: str
    species: str
    ms: list[int] = msgspec.field(default_factory=list)
    lon_deg: list[float] = msgspec.field(default_factory=list)
    lat_deg: list[float] = msgspec.field(default_factory=list)


def check_may(view: View, subject: str) -> None:
    """Raise Forbidden where a report of ``subject`` cannot be made of what ``view`` shows."""
    if subject in EXACT and not view.is_exact:
        raise Forbidden(f"a report on {subject} is worked out of exact positions, and you see some of them coarsely")


def report_kind(
    store: PostgresStore,
    view_of: Callable[[Principal], View],
    habitat: Callable[[], AbstractContextManager[Habitat]],
    now: Callable[[], datetime],
) -> JobKind[ReportWish]:
    """Return the kind of job that writes reports; ``habitat`` gives the maps for as long as one is made."""

    async def run(run: Run[ReportWish]) -> Reported:
        wish, view = run.parameters, view_of(run.owner)
        if seen_as(view) != wish.seen_as:
            raise Forbidden("what you may see has changed since you asked: ask again")
        check_may(view, wish.subject)
        if wish.subject == "conflicts":
            sections = await conflicts(store, view, wish)
        else:
            tracks = await _tracks(run, store, view, wish)
            await run.progress(60, "counting")
            if wish.subject == "movement":
                sections = [movement(tracks)]
            elif wish.subject == "species":
                sections = species_distribution(tracks)
            elif wish.subject == "corridors":
                sections = await corridors(store, view, wish)
            else:
                with habitat() as maps:
                    sections = await habitat_quality(maps, tracks)
        made = Report(
            subject=wish.subject, species=wish.species, since=wish.since, until=wish.until, made_at=now(),
            is_exact=view.is_exact, sections=sections, language=wish.language,
        )  # fmt: skip
        suffix, media_type = report_files.KINDS[wish.format]
        name = f"outpost-{wish.subject}-{derived_id(run.id, 'file')[:8]}.{suffix}"
        await run.progress(90, "writing")
        data = await run.in_thread(lambda _: report_files.written(made, wish.format))
        async with run.file(name, media_type, seen_as=wish.seen_as) as file:
            await file.write(data)
        return Reported(
            subject=wish.subject, rows=sum(len(each.rows) for each in sections), file=name, is_exact=view.is_exact,
            url=f"/api/v1/reports/{run.id}/file/",
        )  # fmt: skip

    return JobKind(name=REPORT, parameters=ReportWish, run=run)


async def _tracks(run: Run[ReportWish], store: PostgresStore, view: View, wish: ReportWish) -> dict[str, Track]:
    """Return the usable fixes of each animal; a place outside the view's rights has no numbers and is left out."""
    found: dict[str, Track] = {}
    async with leaving(store.database, view, wish.selection) as leaves:
        total = max(await leaves.count(), 1)
        async with aclosing(leaves.fixes()) as fixes:
            n = 0
            async for fix in fixes:
                n += 1
                if n % 5_000 == 0:
                    await run.progress(60 * n / total, f"{n} of {total} fixes")
                _add(found, fix)
    return found


def _add(found: dict[str, Track], fix: TrackFix) -> None:
    if fix.lon_e7 is None or fix.lat_e7 is None or not is_usable(fix.flags):
        return
    track = found.setdefault(fix.animal_id, Track(name=fix.individual, species=fix.species))
    track.ms.append(fix.recorded_ms)
    track.lon_deg.append(fix.lon_e7 / 1e7)
    track.lat_deg.append(fix.lat_e7 / 1e7)


def movement(tracks: dict[str, Track]) -> Section:
    """Return how far each animal went: the sum of its steps, and from its first place to its last."""
    rows: list[list[Cell]] = []
    for track in tracks.values():
        steps = step_lengths_m(np.array(track.lon_deg), np.array(track.lat_deg))
        ends = [0, -1]
        net = step_lengths_m(np.array(track.lon_deg)[ends], np.array(track.lat_deg)[ends])
        days = (track.ms[-1] - track.ms[0]) / _DAY_MS
        km = float(steps.sum()) / 1e3
        rows.append([
            track.name, track.species, len(track.ms), from_ms(track.ms[0]), from_ms(track.ms[-1]), round(km, 2),
            round(float(net.sum()) / 1e3, 2), round(km / days, 2) if days >= 1 else None,
            round(float(steps.max()) / 1e3, 2) if len(steps) else None,
        ])  # fmt: skip
    columns = ["Animal", "Species", "Fixes", "First", "Last", "Distance, km", "Net, km", "Km a day", "Longest step, km"]
    return Section(title="Movement of each animal", columns=columns, rows=rows)


def species_distribution(tracks: dict[str, Track]) -> list[Section]:
    """Return how many animals and fixes each species has, and in which cells of a tenth of a degree."""
    cells: dict[tuple[str, int, int], set[str]] = defaultdict(set)
    fixes: Counter[tuple[str, int, int]] = Counter()
    for animal, track in tracks.items():
        for lon, lat in zip(track.lon_deg, track.lat_deg, strict=True):
            key = (track.species, int(np.floor(lat / CELL_DEG)), int(np.floor(lon / CELL_DEG)))
            cells[key].add(animal)
            fixes[key] += 1
    names = sorted({track.species for track in tracks.values()})
    whole: list[list[Cell]] = [
        [
            name, sum(track.species == name for track in tracks.values()),
            sum(len(track.ms) for track in tracks.values() if track.species == name),
            sum(key[0] == name for key in cells),
        ]
        for name in names
    ]  # fmt: skip
    each: list[list[Cell]] = [
        [name, round((lat + 0.5) * CELL_DEG, 2), round((lon + 0.5) * CELL_DEG, 2), len(cells[name, lat, lon]), n]
        for (name, lat, lon), n in sorted(fixes.items())
    ]
    return [
        Section(title="Species", columns=["Species", "Animals", "Fixes", "Cells of 0.1 degree"], rows=whole),
        Section(
            title="Cells of 0.1 degree", columns=["Species", "Latitude", "Longitude", "Animals", "Fixes"], rows=each
        ),
    ]


async def conflicts(store: PostgresStore, view: View, wish: ReportWish) -> list[Section]:
    """Return alerts of people and animals too close: by kind and severity, by zone, and how soon somebody answered."""
    found = [each for kind in CONFLICTS for each in await _alerts(store, view, wish, kind)]
    kinds = Counter((each.alert_type, each.severity, each.status) for each in found)
    zones = Counter(each.zone_id or "" for each in found)
    names = {zone.id: zone.name for zone in (await store.zones(view, ZoneQuery(limit=_PAGE))).results}
    days = Counter(each.detected_at.astimezone(UTC).date().isoformat() for each in found)
    answered = [
        (each.acknowledged_at - each.detected_at).total_seconds() / 60 for each in found if each.acknowledged_at
    ]
    middle = round(float(np.median(answered)), 1) if answered else None
    return [
        Section(
            title="Conflicts", columns=["Alerts", "Acknowledged", "Median minutes until acknowledged"],
            rows=[[len(found), len(answered), middle]],
        ),
        Section(
            title="By kind", columns=["Kind", "Severity", "Status", "Alerts"],
            rows=[[*key, n] for key, n in sorted(kinds.items())],
            words={0: "alert_type", 1: "severity", 2: "alert_status"},
        ),
        Section(
            title="By zone", columns=["Zone", "Alerts"],
            rows=[[names.get(key, key or "no zone named"), n] for key, n in zones.most_common()], words={0: "zone"},
        ),
        Section(title="By day", columns=["Day, UTC", "Alerts"], rows=[[day, n] for day, n in sorted(days.items())]),
    ]  # fmt: skip


async def _alerts(store: PostgresStore, view: View, wish: ReportWish, kind: str) -> list[Alert]:
    found: list[Alert] = []
    while True:
        query = AlertQuery(
            alert_type=kind, since=wish.since, until=wish.until, ordering="detected_at", offset=len(found), limit=_PAGE
        )
        page = (await store.alerts(view, query)).results
        found += page
        if len(page) < _PAGE:
            return found


async def corridors(store: PostgresStore, view: View, wish: ReportWish) -> list[Section]:
    """Return how much each corridor is used by the species that it is for, and how often animals left it."""
    exits = await _alerts(store, view, wish, "corridor_exit")
    query = CorridorQuery(species=wish.species, ordering="name", limit=_PAGE)
    known = {each.id: each for each in (await store.corridors(view, query)).results}
    async with store.database.snapshot() as connection:
        used = await corridor_use(connection, list(known), wish.selection.span_ms)
    rows: list[list[Cell]] = []
    for row in used:
        one = known[row.corridor_id]
        share = None if not row.fixes else round(100 * row.inside / row.fixes, 2)
        rows.append([
            one.name, one.species or "any", one.status, row.animals, row.animals_inside, row.fixes, row.inside, share,
        ])  # fmt: skip
    columns = ["Corridor", "For", "Status", "Animals", "Used it", "Fixes", "Inside", "Inside, %"]
    return [
        Section(title="Use of corridors", columns=columns, rows=rows, words={1: "species", 2: "corridor_status"}),
        Section(title="Alerts of leaving a corridor", columns=["Alerts"], rows=[[len(exits)]]),
    ]


async def habitat_quality(habitat: Habitat, tracks: dict[str, Track]) -> list[Section]:
    """Return how suitable the places are where each species was, month by month, of an even sample of its fixes."""
    places: dict[tuple[str, str, int], list[Place]] = defaultdict(list)
    for track in tracks.values():
        for ms, lon, lat in zip(track.ms, track.lon_deg, track.lat_deg, strict=True):
            at = from_ms(ms)
            places[track.species, f"{at:%Y-%m}", at.month].append(Place(lon_deg=lon, lat_deg=lat))
    rows: list[list[Cell]] = []
    for (species, period, month), all_of in sorted(places.items()):
        sample = all_of[:: max(1, len(all_of) // _SAMPLE)]
        suited = await habitat.suitability(species, sample, month)
        known = [value for value in suited.suitability if value is not None]
        quarters = [round(float(value), 3) for value in np.quantile(known, (0.25, 0.5, 0.75))] if known else [None] * 3
        rows.append([
            species, period, len(all_of), len(sample), len(known), round(float(np.mean(known)), 3) if known else None,
            *quarters, f"{suited.model} {suited.version}",
        ])  # fmt: skip
    columns = [
        "Species", "Month", "Fixes", "Sampled", "On the maps", "Mean suitability", "Lower quarter", "Median",
        "Upper quarter", "Model",
    ]  # fmt: skip
    return [Section(title="Suitability where animals were", columns=columns, rows=rows)]
