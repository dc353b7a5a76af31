"""A browser, and real homes for it: started once, because making them takes longer than looking at them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Request

from shared.privacy import Role
from tests.faults.cloud_process import CloudProcess
from tests.web import homes, leash
from tests.web.leash import Engine, Leash

LEASH = Leash()
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let no test that looks into a browser outlast its own time, whatever becomes of pytest-timeout's signal."""
    is_looking = "browser" in getattr(item, "fixturenames", ())
    LEASH.give(time_of(item) + leash.BEYOND_S if is_looking else None)
    try:
        return (yield)
    finally:
        LEASH.give(None)


def time_of(item: pytest.Item) -> float:
    """Return how long a test may take by pytest-timeout: its mark's word, the command line's, the configuration's."""
    marker = item.get_closest_marker("timeout")
    if marker is not None:
        return float(marker.args[0] if marker.args else marker.kwargs["timeout"])
    return float(item.config.getoption("timeout") or item.config.getini("timeout"))


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Give what starts the browser; it is closed before tests of another file may need an event loop of their own."""
    homes.require_browser()
    engine = Engine(LEASH)
    yield engine
    engine.close()


@pytest.fixture
def browser(engine: Engine) -> Browser:
    """Give Debian's browser."""
    return engine.browser()


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
        with LEASH.closing():
            context.close()
        assert watched.elsewhere == []
        assert watched.refused == []


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Give a folder for what a test sees."""
    return tmp_path
