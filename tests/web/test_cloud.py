"""The cloud's dashboard in a real browser, and the station's page while its cloud is there and when it is cut off."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import expect

from shared.accounts.audit import Entry
from shared.accounts.service import Accounts
from shared.sync import clashes, log
from shared.sync.clashes import Clash
from tests.faults.cloud_process import CloudProcess
from tests.faults.station_process import until
from tests.web import homes, pmtiles
from tests.web.conftest import Open
from tests.web.homes import Home, WatchedStation, open_page, wait_for_map

pytestmark = [pytest.mark.web, pytest.mark.integration, pytest.mark.slow]

PATIENCE_MS = 60_000


def test_an_administrator_invites_a_station_by_code_and_picture(cloud: tuple[Home, CloudProcess], look: Open) -> None:
    home, _ = cloud
    page = open_page(look(home, "admin"), "stations")
    page.get_by_role("button", name="Invite a station").click()
    page.get_by_label("Station *").fill("South Gate")
    page.get_by_role("button", name="Save").click()
    code = page.locator("code.large")
    expect(code).to_have_text(re.compile(r"^([0-9A-Z]{4}-){3}[0-9A-Z]{4}$"), timeout=PATIENCE_MS)
    expect(page.get_by_role("img", name="One-time code")).to_be_visible()
    enrolled = home.post("/stations/enrol", {"code": code.inner_text(), "public_key": "cd" * 32})
    assert enrolled["station_id"] == "south-gate"


def test_an_administrator_limits_what_a_station_is_told_of_and_lets_it_have_everything_again(
    cloud: tuple[Home, CloudProcess], look: Open
) -> None:
    home, _ = cloud
    code = home.post("/stations/", {"name": "Far Post"})["code"]
    home.post("/stations/enrol", {"code": code, "public_key": "ce" * 32})
    animal = home.post("/animals/", {"name": "Resiato", "species": "Elephant", "collar_id": "of-resiato"})
    page = open_page(look(home, "admin", viewport={"width": 1400, "height": 900}), "stations")
    row = page.get_by_role("row", name=re.compile("Far Post"))
    expect(row).to_contain_text("everything", timeout=PATIENCE_MS)
    row.get_by_role("button", name="Limit").click()
    page.get_by_label("Corners").fill("37 -3\n38 -3\n38 -2\n37 -2")
    page.get_by_label("Resiato").check()
    page.get_by_role("button", name="Save").click()
    expect(row).to_contain_text("an area or animals", timeout=PATIENCE_MS)
    ring = [[37, -3], [38, -3], [38, -2], [37, -2], [37, -3]]
    scope = home.api.get("/stations/far-post/scope").json()
    assert scope == {"area": {"type": "Polygon", "coordinates": [ring]}, "animals": [animal["id"]]}
    row.get_by_role("button", name="Limit").click()
    expect(page.get_by_label("Corners")).to_have_value(re.compile(r"^37\.0+ -3\.0+\n"), timeout=PATIENCE_MS)
    page.get_by_role("button", name="Begin anew").click()
    page.get_by_label("Resiato").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(row).to_contain_text("everything", timeout=PATIENCE_MS)
    assert home.api.get("/stations/far-post/scope").json() == {"area": None, "animals": None}


def test_a_person_is_entered_with_a_picture_for_the_app_and_shut_out_again(
    cloud: tuple[Home, CloudProcess], look: Open
) -> None:
    home, _ = cloud
    page = open_page(look(home, "admin"), "users")
    page.get_by_role("button", name="New person").click()
    page.get_by_label("E-mail address *").fill("naserian@example.org")
    page.get_by_label("Name *").fill("Naserian")
    page.get_by_label("Password").fill("seven hornbills on a branch")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("img", name="QR code for an authenticator app")).to_be_visible(timeout=PATIENCE_MS)
    assert page.locator(".codes li").count() == 10
    row = page.get_by_role("row", name=re.compile("Naserian"))
    row.get_by_role("button", name="Shut out").click()
    page.get_by_role("dialog").get_by_role("button", name="OK").click()
    expect(row.get_by_role("button", name="Let in again")).to_be_visible(timeout=PATIENCE_MS)


def test_a_key_is_shown_once_and_taken_away_and_the_audit_log_tells_of_both(
    cloud: tuple[Home, CloudProcess], look: Open
) -> None:
    home, _ = cloud
    page = open_page(look(home, "admin"), "keys")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name *").fill("Gateway at the dam")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("code.large")).to_have_text(re.compile("^wc_"), timeout=PATIENCE_MS)
    row = page.get_by_role("row", name=re.compile("Gateway at the dam"))
    row.get_by_role("button", name="Take away").click()
    page.get_by_role("dialog").get_by_role("button", name="OK").click()
    expect(row).to_contain_text("taken away", timeout=PATIENCE_MS)
    homes.go(page, "audit")
    expect(page.get_by_text(re.compile("their chain is whole"))).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_role("cell", name=re.compile("key")).first).to_be_visible()


def test_the_audit_log_is_read_page_by_page_newest_first(cloud: tuple[Home, CloudProcess], look: Open) -> None:
    home, _ = cloud
    at_ms = int(time.time() * 1000)
    lines = [Entry(at_ms, "warden", "read", f"leaf {n}") for n in range(150)]
    home.ask(lambda accounts: accounts.note(lines))
    page = open_page(look(home, "admin"), "audit")
    leaves = page.get_by_role("cell", name=re.compile(r"^leaf \d+$"))
    expect(leaves.first).to_have_text("leaf 149", timeout=PATIENCE_MS)
    expect(page.get_by_role("button", name="Newer")).to_be_disabled()
    newer = leaves.all_inner_texts()
    page.get_by_role("button", name="Older").click()
    expect(leaves.last).to_have_text("leaf 0", timeout=PATIENCE_MS)
    older = leaves.all_inner_texts()
    page.get_by_role("button", name="Newer").click()
    expect(leaves.first).to_have_text("leaf 149", timeout=PATIENCE_MS)
    # what is read and written meanwhile moves the border: a line may stand on both pages, and none on neither
    border = len(newer) - 150 + len(older)
    assert 0 <= border < len(newer) < 150
    assert newer + older[border:] == [f"leaf {n}" for n in range(149, -1, -1)]


def test_a_marker_moves_and_an_alarm_rings_when_the_cloud_hears_of_them(
    cloud: tuple[Home, CloudProcess], look: Open
) -> None:
    home, _ = cloud
    page = open_page(look(home, "conservation_manager"))
    wait_for_map(page)
    expect(page.locator('[data-fact="live"]')).to_have_text(re.compile("live"), timeout=PATIENCE_MS)
    before = homes.place_of(page, "Ole Sante")
    lon, lat = home.where("Ole Sante")
    to = (round(lon + 0.001, 5), round(lat + 0.001, 5))
    point = {"collar_id": f"eui:{homes.eui(1)}", "timestamp": datetime.now(UTC).isoformat(), "lon": to[0], "lat": to[1]}
    began = time.monotonic()
    home.post("/tracking/bulk_upload", {"tracking_points": [point]})
    page.wait_for_function(
        "was => ![...document.querySelectorAll('aside td')].some(each => each.textContent === was)", arg=before
    )
    print(f"marker moved {time.monotonic() - began:.2f} s after the upload")
    assert homes.place_of(page, "Ole Sante") == f"{to[1]:.4f}, {to[0]:.4f}"
    alert = home.raise_alert("Kijana", "poaching_risk", "critical")
    expect(page.locator(f'[data-alert="{alert}"]')).to_be_visible(timeout=PATIENCE_MS)
    page.wait_for_function("() => Number(document.documentElement.dataset.rings) > 0")


def test_the_map_draws_all_fixes_from_tiles_of_this_home(cloud: tuple[Home, CloudProcess], look: Open) -> None:
    home, _ = cloud
    context = look(home, "conservation_manager")
    tiles: list[int] = []
    context.on("response", lambda answer: tiles.append(answer.status) if "/tiles/fixes/" in answer.url else None)
    page = open_page(context)
    wait_for_map(page)
    expect(page.locator("[data-map]")).to_have_attribute("data-drawn", "6", timeout=PATIENCE_MS)
    page.wait_for_load_state("networkidle")
    assert tiles
    assert set(tiles) == {200}
    assert page.get_by_role("link", name="API keys").count() == 0  # a manager makes no keys
    assert page.get_by_role("link", name="People").count() == 1


def test_a_reserves_maps_lie_in_a_folder_of_the_cloud_and_are_layers(
    cloud: tuple[Home, CloudProcess], look: Open
) -> None:
    home, process = cloud
    maps = process.folder / "reserves"
    (maps / "reserve.pmtiles").write_bytes(pmtiles.one_colour((200, 0, 200)))
    (maps / "ndvi.pmtiles").write_bytes(pmtiles.one_colour((0, 200, 0)))
    try:
        context = look(home, "viewer", viewport={"width": 900, "height": 600})
        statuses: list[int] = []
        context.on("response", lambda answer: statuses.append(answer.status) if "/basemap/" in answer.url else None)
        page = open_page(context)
        wait_for_map(page)
        until(lambda: homes.colour_is_drawn(page, (200, 0, 200)), "the reserve's map", 30)
        page.get_by_text("Layers").click()
        page.get_by_label("ndvi").check()  # half of it is seen over what lies below
        until(lambda: homes.colour_is_drawn(page, (100, 100, 100)), "the map of green ground over it", 30)
        page.get_by_label("reserve").uncheck()
        until(lambda: not homes.colour_is_drawn(page, (100, 100, 100)), "the map without its reserve", 30)
        assert statuses
        assert set(statuses) == {206}
    finally:
        for path in maps.iterdir():
            path.unlink()


def test_a_viewer_of_the_cloud_gets_no_exact_position_in_any_answer(
    cloud: tuple[Home, CloudProcess], look: Open
) -> None:
    home, _ = cloud
    manager = homes.bodies_of(look(home, "conservation_manager"), homes.CLOUD_WAYS)
    viewer = homes.bodies_of(look(home, "viewer"), homes.CLOUD_WAYS)
    exact = homes.exact_degrees(manager)
    assert len(exact) > 100
    assert exact.isdisjoint(homes.degrees_in(viewer))


def test_a_viewer_is_told_the_area_of_an_animal_whose_place_is_never_shown(
    cloud: tuple[Home, CloudProcess], look: Open
) -> None:
    home, process = cloud
    week_old = datetime.now(UTC).replace(microsecond=0) - timedelta(days=8)
    rhino = home.post("/animals/", {"name": "Faru", "species": "Black rhino"})
    collar = "eui:0101010100000fa0"
    worn = {"animal": rhino["id"], "collar_id": collar, "started_at": (week_old - timedelta(days=1)).isoformat()}
    home.post("/deployments/", worn)
    at = {"collar_id": collar, "timestamp": week_old.isoformat(), "lat": -2.9, "lon": 38.1}
    home.post("/tracking/bulk_upload", {"tracking_points": [at]})
    seen = {"observation_type": "health", "timestamp": week_old.isoformat(), "lat": -2.9, "lon": 38.1}
    home.post("/tracking/observations/", {**seen, "animal": rhino["id"], "description": "Limps"})
    with psycopg.connect(process.database_url, autocommit=True) as connection:  # as if all had been heard at once
        connection.execute("UPDATE fixes SET received_ms = raw_ms, sure_received_ms = raw_ms")
        connection.execute("UPDATE observations SET created_ms = recorded_ms")
    ring = [[37.9, -3.1], [38.3, -3.1], [38.3, -2.7], [37.9, -2.7], [37.9, -3.1]]
    park = {"name": "Chyulu sanctuary", "zone_type": "protected_area", "risk_level": "low"}
    home.post("/conflict-zones/", {**park, "geometry": {"type": "Polygon", "coordinates": [ring]}})
    try:
        page = open_page(look(home, "viewer"))
        row = page.locator("aside table tbody tr", has=page.get_by_role("button", name="Faru", exact=True))
        expect(row).to_contain_text("somewhere in Chyulu sanctuary", timeout=PATIENCE_MS)
        zebra = page.locator("aside table tbody tr", has=page.get_by_role("button", name="Tumaini", exact=True))
        expect(zebra).to_contain_text("somewhere in a square of 1.1 km")
        row.get_by_role("button").click()
        expect(page.get_by_role("region", name="Faru")).to_contain_text("somewhere in Chyulu sanctuary")
        homes.go(page, "observations")
        observed = page.get_by_role("row", name=re.compile("Health")).filter(has_text="Chyulu sanctuary")
        expect(observed).to_be_visible(timeout=PATIENCE_MS)
        assert page.get_by_text("Limps").count() == 0
    finally:
        assert home.api.patch(f"/animals/{rhino['id']}/", json={"status": "inactive"}).is_success


def test_a_conflict_is_resolved_by_keyboard_alone_with_both_values_side_by_side(
    cloud: tuple[Home, CloudProcess], look: Open
) -> None:
    home, _ = cloud
    animal = home.api.get(f"/animals/{home.animals['Tumaini']}/").json()
    now_ms = int(time.time() * 1000)
    clash = Clash(
        id="c" * 16, kind="same_column", entity="animal", row_id=animal["id"], ours='{"status": "active"}',
        theirs='{"status": "missing"}', made_ms=now_ms, noted_ms=now_ms, needs_person=True, author="r1",
        origin="post-1",
    )  # fmt: skip
    home.ask(lambda accounts: accounts.tables.write(clashes.note([clash])))
    page = open_page(look(home, "conservation_manager"), "conflicts")
    entry = page.locator(f'[data-conflict="{clash.id}"]')
    expect(entry.get_by_role("row", name="status active missing")).to_be_visible(timeout=PATIENCE_MS)
    homes.tab_to(page, f'[data-conflict="{clash.id}"]', "Take the other value")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.type("The ranger was there")
    homes.tab_to(page, "dialog", "OK")
    page.keyboard.press("Enter")
    expect(entry).to_have_count(0, timeout=PATIENCE_MS)
    assert home.api.get(f"/animals/{animal['id']}/").json()["status"] == "missing"
    assert home.api.get(f"/conflicts/{clash.id}/").json()["conflict"]["note"] == "The ranger was there"


def test_a_corridor_is_searched_compared_and_published(cloud: tuple[Home, CloudProcess], look: Open) -> None:
    home, process = cloud
    page = open_page(look(home, "conservation_manager"), "studio")
    for name, (lon, lat) in (("From *", homes.on_maps(60, 6)), ("To *", homes.on_maps(6, 60))):
        page.get_by_label(name).fill(f"{lon:.5f} {lat:.5f}")
    page.get_by_label("Species *").fill("African elephant")
    page.get_by_label("Method").select_option("ppo")
    page.get_by_label("Name").fill("Over the road")
    page.get_by_role("button", name="Search").click()
    job = page.locator("[data-job]")
    expect(job).to_have_attribute("data-state", "queued", timeout=PATIENCE_MS)
    with process.worker():
        expect(job).to_have_attribute("data-state", "succeeded", timeout=3 * PATIENCE_MS)
        cell = page.get_by_role("cell", name="Over the road", exact=True)
        row = page.locator("tr[data-corridor]").filter(has=cell)
        expect(row).to_contain_text("ppo", timeout=PATIENCE_MS)
        # beside it stands the exact least cost between the same places, term by term
        bars = page.locator("[data-bar]")
        expect(bars).to_have_count(2)
        mine, least = (float(text.split()[-1]) for text in bars.all_inner_texts())
        assert mine >= least * 0.999
        assert page.locator(".bar svg.term").count() >= 4
        homes.check_with_axe(page, "the studio with bars")
        row.get_by_role("button", name="Least-cost path").click()
        expect(page.locator('[data-job][data-state="succeeded"]')).to_have_count(2, timeout=3 * PATIENCE_MS)
        expect(bars).to_have_count(4, timeout=PATIENCE_MS)
    # the factor was shown as the session began; one of five minutes ago is asked for again
    row.get_by_role("button", name="Publish to the stations").click()
    page.get_by_role("dialog").get_by_role("button", name="OK").click()
    expect(row).to_contain_text("published", timeout=PATIENCE_MS)
    (found,) = home.api.get("/corridors/?search=Over the road&status=active").json()["results"]
    assert found["geometry"]["type"] == "LineString"
    assert found["optimization_data"]["scores"]["cost_ratio"] >= 1


def test_a_search_is_bounded_by_a_region_that_is_drawn(cloud: tuple[Home, CloudProcess], look: Open) -> None:
    home, process = cloud
    page = open_page(look(home, "conservation_manager", viewport={"width": 1400, "height": 1000}), "studio")
    wait_for_map(page)
    page.get_by_text("Region", exact=True).click()
    page.get_by_role("button", name="Draw a region").click()
    box = page.locator(".editor .canvas").bounding_box()
    assert box is not None
    for right, down in ((0.3, 0.3), (0.6, 0.3), (0.6, 0.6)):
        page.mouse.click(box["x"] + box["width"] * right, box["y"] + box["height"] * down)
    corners = page.get_by_label("Corners")
    expect(corners).to_have_value(re.compile(r"^(-?\d+\.\d+ -?\d+\.\d+\n?){3}$"))
    ring = [homes.on_maps(*corner) for corner in ((65, 3), (65, 66), (3, 66), (3, 55), (54, 55), (54, 3))]
    corners.fill("\n".join(f"{lon:.5f} {lat:.5f}" for lon, lat in ring))  # the same by keyboard
    for name, (lon, lat) in (("From *", homes.on_maps(60, 6)), ("To *", homes.on_maps(6, 60))):
        page.get_by_label(name).fill(f"{lon:.5f} {lat:.5f}")
    page.get_by_label("Species *").fill("African elephant")
    page.get_by_label("Method").select_option("least_cost")
    page.get_by_label("Name").fill("Around")
    page.get_by_role("button", name="Search").click()
    with process.worker():
        expect(page.locator("[data-job]").first).to_have_attribute("data-state", "succeeded", timeout=3 * PATIENCE_MS)
    (found,) = home.api.get("/corridors/?search=Around").json()["results"]
    drawn = found["optimization_data"]["region"]["coordinates"][0]
    assert drawn == [[round(lon, 5), round(lat, 5)] for lon, lat in [*ring, ring[0]]]


def test_what_stations_sent_is_drawn_by_day_and_station(cloud: tuple[Home, CloudProcess], look: Open) -> None:
    home, _ = cloud
    at = int(time.time() * 1000)
    rows = [
        log.Session(
            id=f"carried-{n}", user_id=None, device_id=name, path="batch", total=1, synced=1, conflicts=0, failed=0,
            started_ms=at - 86_400_000 * n, completed_ms=at, bytes_up=200_000 * (n + 1),
        )
        for n, name in enumerate(("north", "south"))
    ]  # fmt: skip

    async def note(accounts: Accounts) -> None:
        for row in rows:
            await accounts.tables.write(log.note(row))

    home.ask(note)
    page = open_page(look(home, "admin"), "charts")
    figure = page.locator('[data-figure="traffic"]')
    expect(figure.locator("[data-chart=drawn] canvas")).to_be_visible(timeout=PATIENCE_MS)
    expect(figure.locator(".legend li")).to_have_text(["south", "north"])
    figure.locator("summary").click()
    expect(figure.get_by_role("cell", name="200 kB")).to_be_visible()


def test_a_report_is_asked_for_and_fetched_as_pdf(cloud: tuple[Home, CloudProcess], look: Open) -> None:
    home, process = cloud
    page = open_page(look(home, "conservation_manager"), "reports")
    page.get_by_role("button", name="New report").click()
    page.get_by_label("About *").select_option("movement")
    page.get_by_role("button", name="Save").click()
    with process.worker():
        link = page.get_by_role("link", name=re.compile("Fetch outpost-movement"))
        expect(link).to_be_visible(timeout=3 * PATIENCE_MS)
    with page.expect_download() as waiting:
        link.click()
    assert waiting.value.path().read_bytes().startswith(b"%PDF-")
    homes.check_with_axe(page, "reports with one in it")


def test_a_person_registers_in_the_browser_and_sees_what_viewers_see(
    cloud: tuple[Home, CloudProcess], look: Open
) -> None:
    home, process = cloud
    context = look(home, None)
    page = context.new_page()
    page.goto("/")
    page.get_by_text("New account").click()
    form = page.locator('form[action="/session/register"]')
    form.get_by_label("Name").fill("Sironka")
    form.get_by_label("E-mail address").fill("sironka@example.org")
    homes.check_with_axe(page, "registration")
    form.get_by_role("button", name="Send me a code").click()
    page.get_by_label("Code").wait_for()
    sent = [json.loads(line) for line in (process.folder / "codes.jsonl").read_text().splitlines()]
    page.get_by_label("Code").fill(next(each["code"] for each in sent if each["to"] == "sironka@example.org"))
    page.get_by_role("button", name="Log in").click()
    page.wait_for_selector("nav.ways")
    assert page.get_by_role("link", name="People").count() == 0
    assert page.get_by_role("link", name="Corridor studio").count() == 0


def test_the_registry_tells_each_version_and_what_was_measured_of_it(
    cloud: tuple[Home, CloudProcess], look: Open
) -> None:
    home, _ = cloud
    page = open_page(look(home, "conservation_manager"), "models")
    registry = page.get_by_role("region", name="Versions of the models")
    rows = registry.locator("tbody tr")
    known = home.api.get("/models/?page_size=500").json()["results"]
    expect(rows).to_have_count(len(known), timeout=PATIENCE_MS)
    assert len(known) > 0
    assert registry.get_by_role("button", name="Let it serve").count() == 0  # a manager chooses none


def test_a_search_that_waits_is_cancelled_from_the_page(cloud: tuple[Home, CloudProcess], look: Open) -> None:
    home, _ = cloud
    page = open_page(look(home, "admin"), "studio")
    for name, (lon, lat) in (("From *", homes.on_maps(50, 6)), ("To *", homes.on_maps(6, 50))):
        page.get_by_label(name).fill(f"{lon:.5f} {lat:.5f}")
    page.get_by_label("Species *").fill("African elephant")
    page.get_by_role("button", name="Search").click()
    job = page.locator("[data-job]").first
    job.get_by_role("button", name="Cancel").click()
    expect(job).to_have_attribute("data-state", "cancelled", timeout=PATIENCE_MS)


@pytest.mark.parametrize("theme", ["light", "dark", "night"])
def test_no_page_of_the_dashboard_has_a_serious_fault(cloud: tuple[Home, CloudProcess], look: Open, theme: str) -> None:
    home, _ = cloud
    context = look(home, "admin", viewport={"width": 1280, "height": 800})
    context.add_cookies([{"name": "outpost_theme", "value": theme, "url": home.url}])
    page = open_page(context)
    for way in homes.CLOUD_WAYS:
        homes.go(page, way)
        homes.check_with_axe(page, f"{way or 'map'} in {theme}")


def test_nothing_of_the_dashboard_is_wider_than_a_phone(cloud: tuple[Home, CloudProcess], look: Open) -> None:
    home, _ = cloud
    page = open_page(look(home, "admin", viewport={"width": 360, "height": 640}, has_touch=True))
    for way in homes.CLOUD_WAYS:
        homes.go(page, way)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, way


def ids_of_people(home: Home) -> set[str]:
    """Return who can be in a roster: whoever has a password and a second factor."""
    people = home.api.get("/users/").json()["results"]
    return {person["id"] for person in people if person["has_password"] and person["has_totp"]}


def test_the_stations_page_tells_what_waits_when_its_cloud_is_cut_off(
    own_station: WatchedStation, cloud: tuple[Home, CloudProcess], look: Open
) -> None:
    station = own_station
    home, process = cloud
    code = home.post("/stations/", {"name": "Faults"})["code"]
    program = Path(sys.executable).parent / "outpost-station"
    done = subprocess.run(
        [program, "enrol", home.url, code, "--config", station.folder / "station.toml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # people of one address at both homes are from now on the cloud's: whoever was logged in does so again
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while ids_of_people(station) != ids_of_people(home):
        assert time.monotonic() < deadline, "the cloud's roster has not come"
        time.sleep(0.2)
    page = open_page(look(station, "ranger"))
    fact = page.locator('[data-fact="uplink"]')
    expect(fact).to_contain_text("Online", timeout=PATIENCE_MS)
    expect(page.locator('[data-banner="offline"]')).to_have_count(0)
    seen = {
        "observation_type": "sighting",
        "timestamp": "2026-05-01T08:00:00Z",
        "description": "Confirmed by a receipt",
    }
    station.post("/tracking/observations/", seen)
    homes.go(page, "observations")
    expect(page.get_by_role("row", name=re.compile("by a receipt"))).to_contain_text(
        "In the cloud", timeout=PATIENCE_MS
    )
    process.kill()
    try:
        station.raise_alert("Simba", "weak_signal", "low")
        banner = page.locator('[data-banner="offline"]')
        expect(banner).to_be_visible(timeout=2 * PATIENCE_MS)
        expect(banner).to_contain_text("Nothing is lost")
        assert "100" not in fact.inner_text()
        station.post("/tracking/observations/", {**seen, "description": "Written while cut off"})
        homes.go(page, "animals")
        homes.go(page, "observations")
        expect(page.get_by_role("row", name=re.compile("cut off"))).to_contain_text("At the station")
        expect(page.get_by_role("row", name=re.compile("by a receipt"))).to_contain_text("In the cloud")
        page = open_page(look(station, "conservation_manager"), "system")
        page.get_by_text("What is only here").click()
        only_here = page.get_by_role("region", name="What is only here")
        expect(only_here).to_contain_text("Written while cut off", timeout=PATIENCE_MS)
        assert "by a receipt" not in only_here.inner_text()
    finally:
        process.start(homes.READY_S)
    expect(page.locator('[data-banner="offline"]')).to_have_count(0, timeout=3 * PATIENCE_MS)
