"""``make screenshots``: every page of both homes at 360 px and 1080p into ``var/screenshots``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.web import homes

SIZES = {"phone": (360, 640), "wall": (1920, 1080)}
THEMES = ("light", "dark", "night")


def shoot(home: homes.Home, name: str, ways: tuple[str, ...], out: Path) -> None:
    """Write the pages of a home; the first one in every theme."""
    with sync_playwright() as playwright:
        browser = homes.open_browser(playwright)
        for size, (width, height) in SIZES.items():
            for theme in THEMES:
                context = home.context(browser, "admin", viewport={"width": width, "height": height})
                context.add_cookies([{"name": "outpost_theme", "value": theme, "url": home.url}])
                for way in ways if theme == "dark" else ways[:1]:
                    page = homes.open_page(context, way)
                    if not way:
                        homes.wait_for_map(page)
                    page.wait_for_timeout(1500 if way else 4000)
                    page.screenshot(path=out / f"{name}-{way or 'map'}-{theme}-{size}.png")
                    page.close()
                context.close()
            context = home.context(browser, None, viewport={"width": width, "height": height})
            page = context.new_page()
            page.goto("/")
            page.screenshot(path=out / f"{name}-login-{size}.png")
            context.close()
        browser.close()


def main(only: tuple[str, ...]) -> None:
    """Write the pictures of both homes, or of one."""
    out = Path("var/screenshots")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if not only or "station" in only:
            with homes.station(Path(folder) / "station") as station:
                shoot(station, "station", homes.STATION_WAYS, out)
        if not only or "cloud" in only:
            with homes.cloud(Path(folder) / "cloud") as (cloud, _):
                shoot(cloud, "cloud", homes.CLOUD_WAYS, out)
    print(f"{len(list(out.glob('*.png')))} pictures in {out}")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]))
