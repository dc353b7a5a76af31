"""What the pages cost: their sizes, how soon they are there with a large herd, and how fast the cloud cuts tiles.

`python -m tests.benchmarks.web`. The browser is Debian's, which draws without a graphics card: the map's figure is that
of a slow machine.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import psycopg
import typer
from playwright.sync_api import sync_playwright
from rich.console import Console

from cloud.store.database import Database
from cloud.store.partitions import Partitions
from edge.store.store import SpatialiteStore
from shared.api.web import DIST
from shared.domain import NewFix
from shared.privacy import OPERATOR, view_for
from shared.sync.records import to_ms
from tests.benchmarks import machine, tables
from tests.benchmarks.tables import Table
from tests.faults.cloud_process import CloudProcess
from tests.faults.station_process import until
from tests.web import homes

ROOT: Final = Path(__file__).parents[2]
README: Final = Path(__file__).with_name("README.md")
MARKS: Final = (
    "<!-- tables: written by `python -m tests.benchmarks.web --write` -->",
    "<!-- end of tables of the pages -->",
)
ANIMALS: Final = 500
POINTS: Final = 40
LON, LAT = 37.2, -2.6
VIEW: Final = view_for(OPERATOR)
#: Where a map is looked at: so many tiles of each zoom around the herd.
ZOOMS: Final = range(4, 15)


def sizes() -> list[tuple[str, str]]:
    """Return what a browser fetches before the page can be used, and after, packed."""
    manifest = json.loads((DIST / "manifest.json").read_text(encoding="utf-8"))
    packed = {path.name.removesuffix(".gz"): path.stat().st_size for path in DIST.glob("*.gz")}

    def needed(name: str) -> set[str]:
        entry = manifest[name]
        return {entry["file"], *entry.get("css", [])}.union(*(needed(each) for each in entry.get("imports", [])), set())

    words = max(packed[entry["file"]] for name, entry in manifest.items() if name.startswith("strings/"))
    rows = [
        (
            f"{home}: script, style, words",
            f"{(sum(packed[each] for each in needed(f'src/{home}.tsx')) + words) / 1e3:.1f} kB",
        )
        for home in ("station", "cloud")
    ]
    engine = sum(size for name, size in packed.items() if name.startswith(("view-", "maplibre")))
    return [
        *rows,
        ("map engine, after it", f"{engine / 1e3:.0f} kB"),
        ("world map", f"{packed['world.json'] / 1e3:.0f} kB"),
    ]


async def _herd(database: Path, key: bytes, animals: int) -> None:
    store = SpatialiteStore(database, key, now=lambda: datetime.now(UTC), synchronous="NORMAL", readers=1)
    rng, now = random.Random(7), datetime.now(UTC).replace(microsecond=0)
    try:
        for n in range(animals):
            animal = await store.create_animal(VIEW, {"name": f"A{n:03}", "species": "African elephant"})
            collar = {"animal_id": animal.id, "collar_id": f"K{n}", "started_at": now - timedelta(days=3)}
            await store.create_deployment(VIEW, collar)
            lon, lat, fixes = LON + rng.uniform(-1, 1), LAT + rng.uniform(-1, 1), []
            for step in range(POINTS):
                at = now - timedelta(minutes=30 * (POINTS - step) + 5)
                lon, lat = lon + rng.gauss(0, 0.003), lat + rng.gauss(0, 0.003)
                fixes.append(NewFix(device=f"K{n}", recorded_at=at, received_at=at, lon_deg=lon, lat_deg=lat))
            await store.add_fixes(VIEW, fixes)
    finally:
        await store.close()


Told = Callable[[str], None]


def told_on(console: Console) -> Told:
    """Return what says on the console how long each piece of work took since the one before."""
    before = time.monotonic()

    def told(what: str) -> None:
        nonlocal before
        now = time.monotonic()
        console.print(f"{now - before:6.0f} s  {what}")
        before = now

    return told


def loads(animals: int, rounds: int, told: Told) -> list[tuple[str, ...]]:
    """Return how soon page and map are there, each round in a browser that knows nothing yet."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = homes.WatchedStation(Path(folder))
        data = home.process.data_dir
        data.mkdir(parents=True)
        homes.in_thread(lambda: asyncio.run(_herd(data / "station.db", home.process.key, animals)))
        told(f"{animals} animals entered")
        home.process.start()
        until(home.is_ready, "the station", 120)
        home.enter_people(Path(folder) / "people.json")
        until(lambda: not homes.owed(home), "the models", 1200)
        told("models came to all of them")
        browser = homes.open_browser(playwright)
        found: list[dict[str, float]] = []
        for _ in range(rounds):
            context = home.context(browser, "ranger", viewport={"width": 1920, "height": 1080})
            page = context.new_page()
            page.goto("/")
            page.wait_for_function("() => performance.getEntriesByName('map-drawn').length > 0", timeout=120_000)
            drawn = page.evaluate("() => document.querySelector('[data-map]').dataset.animals")
            assert drawn == str(animals), drawn
            found.append(
                page.evaluate(
                    "() => Object.fromEntries(performance.getEntriesByType('mark').map(m => [m.name, m.startTime]))"
                )
            )
            context.close()
        browser.close()
        home.process.close()
        told(f"{rounds} browsers looked")
    return [
        (
            name,
            *(f"{each[mark] / 1000:.2f}" for each in found),
            f"{statistics.median(each[mark] for each in found) / 1000:.2f}",
        )
        for name, mark in (("page can be used", "page-ready"), ("map is drawn", "map-drawn"))
    ]


#: As far as an animal walks between two frames of the benchmark, in degrees; the page shows five digits.
STEP_DEG: Final = 0.000_02


def to_screen(rounds: int, told: Told) -> list[tuple[str, ...]]:
    """Return how long a frame on the wire takes until its marker has moved, and until its alarm stands on the page."""
    with (
        tempfile.TemporaryDirectory() as folder,
        homes.station(Path(folder)) as station,
        sync_playwright() as playwright,
    ):
        browser = homes.open_browser(playwright)
        page = homes.open_page(station.context(browser, "ranger", viewport={"width": 1920, "height": 1080}))
        homes.wait_for_map(page)
        page.wait_for_selector('[data-fact="live"]:has-text("live")', timeout=60_000)
        lon, lat = station.where("Ole Sante")
        moved, rang = [], []
        for _ in range(rounds):
            page.wait_for_timeout(1_100)  # an instant of its own, and time to walk there
            lon = round(lon + STEP_DEG, 5)
            shown = f"{lat:.5f}, {lon:.5f}"
            began = time.perf_counter()
            station.hear(1, lon, lat)
            page.wait_for_function(
                "text => [...document.querySelectorAll('aside td')].some(each => each.textContent === text)", arg=shown
            )
            moved.append(time.perf_counter() - began)
        for n in range(rounds):
            page.wait_for_timeout(1_100)
            lon = round(lon + STEP_DEG, 5)
            west, east = lon - STEP_DEG / 2, lon + 0.01
            ring = [[west, lat - 0.01], [east, lat - 0.01], [east, lat + 0.01], [west, lat + 0.01], [west, lat - 0.01]]
            farm = {"name": f"Maize {n}.", "zone_type": "agriculture", "risk_level": "high"}
            station.post("/conflict-zones/", {**farm, "geometry": {"type": "Polygon", "coordinates": [ring]}})
            began = time.perf_counter()
            station.hear(1, lon, lat)
            page.wait_for_selector(f'.alert.active:has-text("Maize {n}.")')
            rang.append(time.perf_counter() - began)
        browser.close()
    told(f"{2 * rounds} frames seen on the page")
    return [("the marker moves", *_quantiles(moved)), ("the alarm stands there", *_quantiles(rang))]


def _fill(process: CloudProcess, fixes: int, animals: int) -> None:
    """Enter rows as the writer leaves them: the tiles read, so how they were written does not matter."""
    end = datetime.now(UTC)

    async def prepare() -> None:
        async with Database.open(process.database_url, pool_min=1, pool_max=1) as database:
            await Partitions(database).ensure(range(to_ms(end - timedelta(days=370)), to_ms(end), 86_400_000))

    asyncio.run(prepare())
    auth = httpx.Client(base_url=f"{process.url}/api/v1", auth=process.auth, timeout=60)
    for n in range(animals):
        animal = auth.post("/animals/", json={"name": f"A{n:03}", "species": "African elephant"}).json()["id"]
        body = {"animal": animal, "collar_id": f"K{n}", "started_at": "2020-01-01T00:00:00Z"}
        assert auth.post("/deployments/", json=body).is_success
    with psycopg.connect(process.database_url, autocommit=True) as connection:
        connection.execute(
            """
            INSERT INTO fixes (id, collar_pk, animal_pk, recorded_ms, raw_ms, received_ms, sure_received_ms, lon_e7,
              lat_e7, flags, source)
            SELECT (lpad(to_hex(at), 12, '0') || substr(md5(n::text), 1, 20))::uuid, c.pk, a.pk, at, at, at, at,
              ((%(lon)s + 0.8 * sin(n %% %(animals)s) + 0.1 * sin(n / 977.0) + 0.02 * random()) * 1e7)::bigint,
              ((%(lat)s + 0.8 * cos(n %% %(animals)s * 1.7) + 0.1 * cos(n / 1201.0) + 0.02 * random()) * 1e7)::bigint,
              0, 'collar'
            FROM (SELECT n, %(end)s - (n::bigint * 31536000000 / %(fixes)s) AS at
              FROM generate_series(0, %(fixes)s - 1) n) g
            JOIN (SELECT pk, row_number() OVER (ORDER BY pk) - 1 AS k FROM collars) c ON c.k = g.n %% %(animals)s
            JOIN (SELECT pk, row_number() OVER (ORDER BY pk) - 1 AS k FROM animals) a ON a.k = g.n %% %(animals)s
            """,
            {"lon": LON, "lat": LAT, "animals": animals, "end": to_ms(end), "fixes": fixes},
        )
        connection.execute("ANALYZE fixes")
        # these rows are in no change log: the service makes what is thinned beforehand anew
        connection.execute("UPDATE counters SET value = -1 WHERE name = 'laddered'")
        is_made = "SELECT value >= 0 FROM counters WHERE name = 'laddered'"
        until(lambda: connection.execute(is_made).fetchone() == (True,), "what is thinned beforehand", 600)


def tiles(fixes: int, asked: int, told: Told) -> list[tuple[str, ...]]:
    """Return how long tiles take over so many fixes, asked for as a map asks: many zooms, around the herd."""
    rng = random.Random(11)
    with tempfile.TemporaryDirectory() as folder:
        process = CloudProcess(Path(folder))
        try:
            process.create()
            process.start(120)
            _fill(process, fixes, 200)
            told(f"{fixes:,} fixes entered in the cloud")
            client = httpx.Client(base_url=process.url, auth=process.auth, timeout=120)
            spans: dict[str, list[float]] = {"all": [], "last 30 days": []}
            since = (datetime.now(UTC) - timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
            largest = 0
            for n in range(asked):
                z = ZOOMS[n % len(ZOOMS)]
                x, y = _tile(LON + rng.uniform(-0.9, 0.9), LAT + rng.uniform(-0.9, 0.9), z)
                for name, query in (("all", ""), ("last 30 days", f"?since={since}")):
                    began = time.perf_counter()
                    answer = client.get(f"/api/v1/tiles/fixes/{z}/{x}/{y}.mvt{query}").raise_for_status()
                    spans[name].append(time.perf_counter() - began)
                    largest = max(largest, len(answer.content))
            client.close()
            told(f"{asked} places asked for twice")
        finally:
            process.close()
    rows = [(name, *_quantiles(each)) for name, each in spans.items()]
    return [*rows, ("largest tile", f"{largest / 1e3:.0f} kB", "", "")]


def _quantiles(spans: list[float]) -> tuple[str, str, str]:
    ordered = sorted(spans)
    return (
        f"{statistics.median(ordered) * 1000:.0f} ms", f"{ordered[int(len(ordered) * 0.95)] * 1000:.0f} ms",
        f"{ordered[-1] * 1000:.0f} ms",
    )  # fmt: skip


def _tile(lon: float, lat: float, z: int) -> tuple[int, int]:
    turn = math.asinh(math.tan(math.radians(lat)))
    return int((lon + 180) / 360 * 2**z), int((1 - turn / math.pi) / 2 * 2**z)


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Small numbers: shows that it runs.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the tables into the README.")] = False,
    readme: Annotated[Path, typer.Option(help="Where --write puts them.")] = README,
) -> None:
    """Measure the pages and print the tables."""
    animals, rounds, fixes, asked = (20, 1, 10_000, 11) if quick else (ANIMALS, 3, 1_000_000, 110)
    console = tables.console()
    told = told_on(console)
    of_machine: list[Any] = machine.facts(ROOT, 0.1 if quick else 1.0)
    made = [
        Table("Pages, packed", ("what", "gzip"), sizes()),
        Table(
            f"First load, {animals} animals, {animals * POINTS:,} points of trails, seconds",
            ("what", *(str(n + 1) for n in range(rounds)), "median"), loads(animals, rounds, told),
        ),
        Table(
            f"From a frame to the page, {rounds * 8} of each", ("what", "p50", "p95", "most"),
            to_screen(rounds * 8, told),
        ),
        Table(f"Vector tiles over {fixes:,} fixes", ("span", "p50", "p95", "most"), tiles(fixes, asked, told)),
        Table("Machine, pages", ("what", "value"), of_machine),
    ]  # fmt: skip
    for table in made:
        console.print(table.on_terminal())
    if write:
        tables.write(made, readme, MARKS)
        console.print(f"written: {readme}")


if __name__ == "__main__":
    typer.run(main)
