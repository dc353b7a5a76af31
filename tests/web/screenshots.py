"""``make screenshots``: every page of both homes at 360 px and 1080p into ``var/screenshots``.

``python -m tests.web.screenshots station sw`` makes those of one home in another language, ``... readme`` the two that
the README begins with.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from shared.sayings import LANGUAGES
from tests.web import homes

SIZES = {"phone": (360, 640), "wall": (1920, 1080)}
THEMES = ("light", "dark", "night")
#: Beside the pages that they show: name, theme and size.
PICTURES = Path("shared/web/pictures")
README = (("station", "light", (1280, 720)), ("phone", "night", (360, 640)))


def shoot(home: homes.Home, name: str, ways: tuple[str, ...], out: Path, language: str) -> None:
    """Write the pages of a home; the first one in every theme."""
    mark = "" if language == "en" else f"-{language}"
    with sync_playwright() as playwright:
        browser = homes.open_browser(playwright)
        for size, (width, height) in SIZES.items():
            for theme in THEMES if language == "en" else ("dark",):
                context = home.context(browser, "admin", viewport={"width": width, "height": height})
                for cookie, value in (("outpost_theme", theme), ("outpost_lang", language)):
                    context.add_cookies([{"name": cookie, "value": value, "url": home.url}])
                for way in ways if theme == "dark" else ways[:1]:
                    page = homes.open_page(context, way)
                    if not way:
                        homes.wait_for_map(page)
                    page.wait_for_selector("main [aria-busy=true]", state="detached")
                    page.wait_for_timeout(500 if way else 4000)
                    page.screenshot(path=out / f"{name}-{way or 'map'}-{theme}-{size}{mark}.png")
                    page.close()
                context.close()
            context = home.context(browser, None, viewport={"width": width, "height": height})
            context.add_cookies([{"name": "outpost_lang", "value": language, "url": home.url}])
            page = context.new_page()
            page.goto("/")
            page.screenshot(path=out / f"{name}-login-{size}{mark}.png")
            context.close()
        browser.close()


def shoot_readme(home: homes.Home) -> None:
    """Write the pictures that the README begins with."""
    with sync_playwright() as playwright:
        browser = homes.open_browser(playwright)
        for name, theme, (width, height) in README:
            context = home.context(browser, "admin", viewport={"width": width, "height": height})
            context.add_cookies([{"name": "outpost_theme", "value": theme, "url": home.url}])
            page = homes.open_page(context, "")
            homes.wait_for_map(page)
            page.wait_for_selector("main [aria-busy=true]", state="detached")
            page.wait_for_timeout(4000)
            page.screenshot(path=PICTURES / f"{name}.png")
            context.close()
        browser.close()


def main(words: tuple[str, ...]) -> None:
    """Write the pictures of both homes, or of one; in English, or in the language that is named."""
    if "readme" in words:
        with tempfile.TemporaryDirectory() as folder, homes.station(Path(folder) / "station", "mara-north") as station:
            shoot_readme(station)
        return
    only = {"station", "cloud"}.intersection(words)
    language = next((word for word in words if word in LANGUAGES), "en")
    out = Path("var/screenshots")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if not only or "station" in only:
            with homes.station(Path(folder) / "station") as station:
                shoot(station, "station", homes.STATION_WAYS, out, language)
        if not only or "cloud" in only:
            with homes.cloud(Path(folder) / "cloud") as (cloud, _):
                shoot(cloud, "cloud", homes.CLOUD_WAYS, out, language)
    print(f"{len(list(out.glob('*.png')))} pictures in {out}")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]))
