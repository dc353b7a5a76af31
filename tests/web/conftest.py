"""A browser, and real homes for it: started once, because making them takes longer than looking at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Request, sync_playwright

from shared.privacy import Role
from tests.faults.cloud_process import CloudProcess
from tests.web import homes

Open = Callable[..., BrowserContext]


@pytest.fixture(scope="session")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[homes.WatchedStation]:
    """Give a running station with a herd."""
    homes.require_browser()
    with homes.station(tmp_path_factory.mktemp("station")) as station:
        yield station


@pytest.fixture
def own_station(tmp_path: Path) -> Iterator[homes.WatchedStation]:
    """Give a running station of the test's own, which may be enrolled: its people become the cloud's."""
    homes.require_browser()
    with homes.station(tmp_path / "station") as station:
        yield station


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[homes.Home, CloudProcess]]:
    """Give a running cloud with a herd."""
    homes.require_browser()
    with homes.cloud(tmp_path_factory.mktemp("cloud")) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give Debian's browser; while it is open its loop is the thread's, and no other test may need one."""
    homes.require_browser()
    with sync_playwright() as playwright:
        browser = homes.open_browser(playwright)
        yield browser
        browser.close()


class Watched:
    """What the pages of a test asked for, and what the browser refused them."""

    def __init__(self) -> None:
        self.elsewhere: list[str] = []
        self.refused: list[str] = []
        self.home = ""

    def asked(self, request: Request) -> None:
        """Note a request that does not go to the home."""
        parts = urlsplit(request.url)
        if parts.scheme not in ("blob", "data") and f"{parts.scheme}://{parts.netloc}" != self.home:
            self.elsewhere.append(request.url)

    def said(self, message: ConsoleMessage) -> None:
        """Note what the content policy refused."""
        if "Content Security Policy" in message.text or "Refused to" in message.text:
            self.refused.append(message.text)


@pytest.fixture
def look(browser: Browser) -> Iterator[Open]:
    """Give a function that opens a browser of a role's own at a home.

    Afterwards: every request of every page went to that home, and nothing was asked for that its policy refuses.
    """
    opened: list[tuple[BrowserContext, Watched]] = []

    def look(home: homes.Home, role: Role | None, **options: Any) -> BrowserContext:
        context = home.context(browser, role, **options)
        context.set_default_timeout(30_000)
        watched = Watched()
        watched.home = home.url
        context.on("request", watched.asked)
        context.on("console", watched.said)
        opened.append((context, watched))
        return context

    yield look
    for context, watched in opened:
        context.close()
        assert watched.elsewhere == []
        assert watched.refused == []


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Give a folder for what a test sees."""
    return tmp_path
