"""Real homes for a browser to look at: the programs themselves, with animals, trails, a zone and an alert in them."""

from __future__ import annotations

import asyncio
import io
import math
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, Response
from rasterio import warp

from cloud import app as cloud_app
from cloud.config import Config as CloudConfig
from cloud.store.database import Database
from edge.ops.system_clock import system_clock
from edge.people import with_accounts
from firmware_bridge.codecs.opencollar import encode_short
from firmware_bridge.codecs.station_frame import pack_station_frame
from firmware_bridge.framing.cobs import encode_frame
from shared.accounts.service import Accounts
from shared.accounts.users import ROLES
from shared.api.access import ACCESS_COOKIE, CSRF_COOKIE, REFRESH_COOKIE, csrf_of
from shared.api.web import DIST, WEB
from shared.people import demo_people
from shared.privacy import Role
from tests.access import logged_in
from tests.faults.cloud_process import CloudProcess
from tests.faults.station_process import StationProcess, until
from tests.services import require
from tests.unit.models.habitat.maps import CELL_M, CRS, NORTH, WEST, smooth_noise, write_map

T = TypeVar("T")

CHROMIUM = Path("/usr/bin/chromium")
AXE = WEB / "axe.min.js"
#: Where the herd is, and the farm that it may walk into.
LON, LAT = 37.25, -2.65
FARM = [[37.40, -2.70], [37.46, -2.70], [37.46, -2.64], [37.40, -2.64], [37.40, -2.70]]
HERD = (
    ("Nashipai", "African elephant"), ("Ole Sante", "African elephant"), ("Kijana", "African elephant"),
    ("Tumaini", "Plains zebra"), ("Mwezi", "Blue wildebeest"), ("Simba", "Lion"),
)  # fmt: skip
INTERVAL_S = 1800
#: Every page of a home, the map first.
STATION_WAYS = (
    "", "collars", "animals", "observations", "rangers", "charts", "zones", "corridors", "conflicts", "models",
    "sheet", "phones", "system",
)  # fmt: skip
CLOUD_WAYS = (
    "", "stations", "animals", "collars", "observations", "rangers", "charts", "zones", "corridors", "studio",
    "conflicts", "models", "reports", "sheet", "users", "phones", "keys", "audit",
)  # fmt: skip
READY_S = 120.0
#: The cloud's maps have so many cells on a side.
SIDE = 70
RASTERS = """
[[layer]]
kind = "habitat_suitability"
file = "ground.tif"
unit = "1"

[[layer]]
kind = "distance_to_road"
file = "ground.tif"
band = 2
unit = "m"
"""


def require_browser() -> None:
    """Skip where the pages were not built, or there is no browser."""
    require(CHROMIUM.exists(), "chromium is not installed: apt-get install chromium")
    require((DIST / "manifest.json").exists(), "the pages are not built: bash .ci/web .venv/bin")


def open_browser(playwright: Playwright) -> Browser:
    """Return Debian's browser, drawing the map by software as a machine without a graphics card does."""
    flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
    return playwright.chromium.launch(executable_path=str(CHROMIUM), args=flags)


def eui(n: int) -> str:
    """Return the radio id of animal ``n``'s collar."""
    return f"{0x0101_0101_0000_0000 + n:016x}"


def in_thread(act: Callable[[], T]) -> T:
    """Return what ``act`` returns in a thread of its own: the browser's library has an event loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(act).result()


class Home:
    """A running home, and people of each role who are logged in at it."""

    def __init__(self, url: str, auth: httpx.Auth, accounts: Callable[[Callable[[Accounts], Awaitable[Any]]], Any]):
        self.url = url
        self.api = httpx.Client(base_url=f"{url}/api/v1", auth=auth, timeout=30)
        self._accounts_of = accounts
        #: what the demo's people log in with, by role
        self.people: dict[Role, dict[str, Any]] = {}
        #: animals by name
        self.animals: dict[str, str] = {}

    def ask(self, job: Callable[[Accounts], Awaitable[Any]]) -> Any:
        """Return what a job over the home's accounts returns."""
        return in_thread(lambda: self._accounts_of(job))

    def enter_people(self, kept: Path) -> None:
        """Enter a person of each role."""
        made = self.ask(lambda accounts: demo_people(accounts, kept))
        self.people = dict(zip(ROLES, made, strict=True))

    def session(self, role: Role) -> list[dict[str, Any]]:
        """Return the cookies of a new session of the person with ``role``."""

        async def begin(accounts: Accounts) -> tuple[str, str]:
            return await logged_in(accounts, await accounts.user(self.people[role]["email"]))

        access, refresh = self.ask(begin)
        strict = {"url": self.url, "sameSite": "Strict"}
        return [
            {"name": ACCESS_COOKIE, "value": access, "httpOnly": True, **strict},
            {"name": CSRF_COOKIE, "value": csrf_of(access), **strict},
            {
                "name": REFRESH_COOKIE, "value": refresh, "httpOnly": True, "sameSite": "Strict",
                "domain": "127.0.0.1", "path": "/api/v1/auth",
            },
        ]  # fmt: skip

    def context(self, browser: Browser, role: Role | None, **options: Any) -> BrowserContext:
        """Return a browser of its own in which the person with ``role`` is logged in."""
        context = browser.new_context(base_url=self.url, **options)
        if role is not None:
            context.add_cookies(self.session(role))  # type: ignore[arg-type] # the library's own type of a cookie
        return context

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Post as the operator."""
        answer = self.api.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def fill(self) -> None:
        """Enter the herd with a day of its trails, and the farm beside it."""
        now = datetime.now(UTC).replace(microsecond=0)
        began = now - timedelta(days=2)
        points = []
        for n, (name, species) in enumerate(HERD):
            animal = self.post("/animals/", {"name": name, "species": species})
            self.animals[name] = animal["id"]
            collar = f"eui:{eui(n)}"
            assert self.api.put(f"/collars/{collar}/", json={"fix_interval_s": INTERVAL_S, "model": "OC-2"}).is_success
            self.post("/deployments/", {"animal": animal["id"], "collar_id": collar, "started_at": began.isoformat()})
            late_s = 0 if n < 4 else 2 * INTERVAL_S + 120 if n == 4 else 9 * INTERVAL_S
            points += trail(collar, n, now - timedelta(seconds=late_s + 60))
        self.post("/tracking/bulk_upload", {"tracking_points": points})
        zone = {"name": "Kimana farm", "zone_type": "agriculture", "risk_level": "high", "buffer_distance_km": 1}
        self.post("/conflict-zones/", {**zone, "geometry": {"type": "Polygon", "coordinates": [FARM]}})
        corridor = {"name": "Kimana corridor", "species": "African elephant", "status": "active", "width_m": 1500}
        line = {"type": "LineString", "coordinates": [[37.1, -2.72], [37.2, -2.60], [37.38, -2.55]]}
        self.post("/corridors/", {**corridor, "geometry": line})
        self.raise_alert("Nashipai", "stationary_too_long", "critical")
        ranger = self.post("/rangers/rangers", {"name": "Leteipa", "badge_number": "R-07"})
        at = {"ranger": ranger["id"], "lat": LAT, "lon": LON + 0.02, "timestamp": now.isoformat()}
        self.post("/rangers/tracking", at)

    def where(self, name: str) -> tuple[float, float]:
        """Return longitude and latitude of an animal as the home shows it."""
        found = self.api.get("/animals/live_status/").json()
        at = next(each["current_position"] for each in found if each["name"] == name)
        return at["lon"], at["lat"]

    def raise_alert(self, name: str, kind: str, severity: str) -> str:
        """Raise an alert by hand, and return its id."""
        body = {
            "alert_type": kind, "severity": severity, "title": kind, "animal": self.animals[name],
            "message": f"{name} has not moved for 7 h", "latitude": LAT, "longitude": LON,
        }  # fmt: skip
        return str(self.post("/alerts/", body)["id"])


def trail(collar: str, n: int, until: datetime) -> list[dict[str, Any]]:
    """Return a day of positions: rest, then wander in a figure of the animal's own."""
    found = []
    for step in range(48):
        turn, wide = step / 7 + n, 0.004 * max(0, step - 12)
        found.append({
            "collar_id": collar, "timestamp": (until - timedelta(seconds=INTERVAL_S * (47 - step))).isoformat(),
            "lat": round(LAT + 0.03 * n - 0.08 + wide * math.sin(turn) / 2, 6),
            "lon": round(LON + 0.025 * n - 0.1 + wide * math.cos(turn) / 2, 6),
            "battery_level": f"{92 - 13 * n}%", "signal_strength": -80 - n,
        })  # fmt: skip
    return found


class WatchedStation(Home):
    """A station, and the base station on its cable."""

    def __init__(self, folder: Path, name: str = "faults") -> None:
        self.folder = folder
        self.process = StationProcess(folder, identity=name)
        super().__init__(self.process.url, self.process.auth, lambda job: with_accounts(folder / "station.toml", job))

    def is_ready(self) -> bool:
        """Say whether it serves; how soon is promised and tested elsewhere."""
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=2).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def hear_noise(self) -> None:
        """Let a whole frame be heard whose payload no codec can read."""
        os.write(self.process.wire, encode_frame(pack_station_frame(eui(0), 13, -90.0, 7.5, b"\xff\x00 no codec")))

    def hear(self, n: int, lon_deg: float, lat_deg: float) -> None:
        """Let the collar of animal ``n`` be heard over the serial line, now."""
        message = encode_short(
            recorded_at=datetime.now(UTC).replace(microsecond=0), lat_deg=lat_deg, lon_deg=lon_deg, h_acc_m=5.0
        )
        os.write(self.process.wire, encode_frame(pack_station_frame(eui(n), 13, -90.0, 7.5, message)))


def place_of(page: Page, name: str) -> str:
    """Return what the table says of where an animal is."""
    row = page.locator("aside table tbody tr", has=page.get_by_role("button", name=name, exact=True))
    return row.locator("td").nth(3).inner_text()


@contextmanager
def station(folder: Path, name: str = "faults") -> Iterator[WatchedStation]:
    """Give a running station that looks for its cloud every second, once it has one."""
    os.environ["OUTPOST_CLOUD_INTERVAL_S"] = "1"
    home = WatchedStation(folder, name)
    try:
        home.process.start()
        until(home.is_ready, "the station", READY_S)
        home.enter_people(folder / "people.json")
        home.fill()
        yield home
    finally:
        os.environ.pop("OUTPOST_CLOUD_INTERVAL_S", None)  # there may be two stations
        home.api.close()
        home.process.close()


def write_maps(folder: Path) -> Path:
    """Write the maps of a simulated reserve with a road through it, and return their index."""
    folder.mkdir(parents=True, exist_ok=True)
    suitability = np.clip(0.5 + 0.3 * smooth_noise((SIDE, SIDE), 3), 0, 1)
    road = np.abs(np.arange(SIDE) - SIDE / 2)[None, :].repeat(SIDE, axis=0) * CELL_M
    write_map(folder / "ground.tif", np.stack((suitability, road)))
    (folder / "rasters.toml").write_text(RASTERS, encoding="utf-8")
    return folder / "rasters.toml"


def on_maps(row: float, column: float) -> tuple[float, float]:
    """Return longitude and latitude of a cell of the cloud's maps."""
    (lon,), (lat,) = warp.transform(CRS, "EPSG:4326", [WEST + (column + 0.5) * CELL_M], [NORTH - (row + 0.5) * CELL_M])
    return lon, lat


@contextmanager
def cloud(folder: Path) -> Iterator[tuple[Home, CloudProcess]]:
    """Give a running cloud."""
    (folder / "reserves").mkdir(parents=True)
    process = CloudProcess(
        folder, corridors_maps=write_maps(folder / "maps"), pages_maps=folder / "reserves", jobs_poll_s=0.2,
        notify_outbox_file=folder / "codes.jsonl",
    )  # fmt: skip
    try:
        process.create()
        process.start(READY_S)
        config = CloudConfig()
        section = msgspec.structs.replace(config.accounts, key_file=process.key_file)
        config = msgspec.structs.replace(config, accounts=section)

        def with_cloud_accounts(job: Callable[[Accounts], Awaitable[T]]) -> T:
            async def run() -> T:
                async with Database.open(process.database_url, pool_min=1, pool_max=1) as database:
                    return await job(cloud_app.accounts_of(config, database, system_clock()))

            return asyncio.run(run())

        home = Home(process.url, process.auth, with_cloud_accounts)
        home.enter_people(folder / "people.json")
        home.fill()
        yield home, process
        home.api.close()
    finally:
        process.close()


def open_page(context: BrowserContext, way: str = "") -> Page:
    """Return a page of a home once its application has drawn."""
    page = context.new_page()
    page.goto(f"/#/{way}")
    page.wait_for_selector("nav.ways")
    return page


def colour_is_drawn(page: Page, colour: tuple[int, int, int]) -> bool:
    """Say whether the map shows a colour, give or take what blending rounds, where nothing else is."""
    picture = Image.open(io.BytesIO(page.locator(".map").screenshot())).convert("RGB")
    seen = [picture.getpixel((x, y)) for x in (150, 250, 350) for y in (200, 300, 400)]
    return any(
        isinstance(each, tuple) and all(abs(one - two) <= 3 for one, two in zip(each, colour, strict=True))
        for each in seen
    )


def owed(station: WatchedStation) -> bool:
    """Say whether the models still owe something to an animal."""
    detail = httpx.get(f"{station.url}/health/detail", auth=station.process.auth, timeout=30).json()
    return bool(detail["pipeline"]["owed"])


def tab_to(page: Page, where: str, words: str) -> None:
    """Go from control to control with the Tab key until the one with ``words`` inside ``where`` is reached."""
    here = "([where, words]) => (at => at.matches(where + ' *') && at.textContent === words)(document.activeElement)"
    for _ in range(300):
        if page.evaluate(here, [where, words]):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{words} in {where} is not reached by keyboard")


def go(page: Page, way: str) -> None:
    """Go to another page of the application, and wait for what it lists."""
    page.evaluate("way => { location.hash = '#/' + way; }", way)
    page.wait_for_selector(f'nav.ways a[href="#/{way}"][aria-current=page]')
    page.wait_for_selector("main :is(table, li, p):visible")
    page.wait_for_selector("main [aria-busy=true]", state="detached")


def wait_for_map(page: Page) -> None:
    """Wait until the map is drawn."""
    page.wait_for_selector('[data-map="ready"]', timeout=60_000)
    page.wait_for_function("() => document.querySelector('[data-map]').dataset.drawn !== undefined", timeout=90_000)


def check_with_axe(page: Page, what: str) -> None:
    """Assert that axe-core finds no serious or critical fault on a page."""
    require(AXE.exists(), "axe-core is not there: bash .ci/web .venv/bin")
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    grave = [
        (
            each["id"],
            each["impact"],
            [node["html"][:160] + " | " + node["failureSummary"][:240] for node in each["nodes"][:3]],
        )
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    assert grave == [], (what, grave)


#: A place of the herd to four digits and more, and no seconds of an instant.
_DEGREES = re.compile(r"(?<![:\d])(?:3[67]\.\d{4,}|-2\.\d{4,})")


def bodies_of(context: BrowserContext, ways: tuple[str, ...]) -> str:
    """Return all that a home answered in words while its pages were looked at, also those without a link."""
    answers: list[Response] = []
    context.on("response", lambda answer: answers.append(answer) if _is_of_the_herd(answer) else None)
    texts = []
    for way in ways:
        page = open_page(context, way)
        page.wait_for_load_state("networkidle") if way else wait_for_map(page)
        texts += [each.text() for each in answers]
        answers.clear()
        page.close()
    return "".join(texts)


def _is_of_the_herd(answer: Response) -> bool:
    path = answer.url.split("/", 3)[-1]
    kind = answer.headers.get("content-type", "")
    is_text = "json" in kind or "html" in kind
    return answer.request.method == "GET" and is_text and not path.startswith("app/") and answer.ok


def degrees_in(text: str) -> set[str]:
    """Return what reads as a place of the herd."""
    return set(_DEGREES.findall(text))


def exact_degrees(text: str) -> set[str]:
    """Return the places that are finer than any grid; some exact ones lie on it."""
    return {found for found in degrees_in(text) if float(found) != round(float(found), 2)}
