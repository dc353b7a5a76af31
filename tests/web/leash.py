"""A browser on a leash: a test that it keeps waiting ends all the same.

pytest-timeout raises from a signal, once. Where the signal finds the browser's library in a callback of its own event
loop, the loop swallows what is raised; where it does not, the test fails, and closing a browser that answers no more
waits without an end. In both cases nothing is left that would end the wait, and a worker of the run never comes back.

So a thread counts as well. At its first deadline it kills the library's driver and every browser below it: whatever
waits for them is told that the connection is closed, the test fails, and the next one gets a browser of its own. At the
second one it ends the process, of which pytest-xdist says which test it was in and begins another.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Error, Playwright, sync_playwright

from tests.web import homes

#: Beyond the test's own time until the browser is killed, and from there until the process is.
BEYOND_S = 30.0
STUCK_S = 120.0
#: To close a browser, or a page in it.
CLOSE_S = 30.0
LOOK_S = 0.2


class Leash:
    """Kills all that was started below this process by a browser's library when a deadline passes."""

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._changed = threading.Condition()
        self._driver = 0
        self.is_killed = False
        threading.Thread(target=self._watch, name="leash", daemon=True).start()

    def give(self, patience_s: float | None) -> None:
        """Let that much time pass before the browser is killed; None: any."""
        with self._changed:
            self._deadline = None if patience_s is None else time.monotonic() + patience_s

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Let something of a browser be closed, soon; of one that has been killed it is closed."""
        with self._changed:
            before, was_killed = self._deadline, self.is_killed
            soon = time.monotonic() + CLOSE_S
            self._deadline = soon if before is None else min(soon, before)
        try:
            yield
        except Error:
            if not self.is_killed:
                raise
        finally:
            with self._changed:
                if self.is_killed == was_killed:
                    self._deadline = before

    def hold(self, driver: int) -> None:
        """Be told the process below which browsers are started; 0: there is none."""
        with self._changed:
            self._driver, self.is_killed = driver, False

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_S)
            with self._changed:
                if self._deadline is None or time.monotonic() < self._deadline:
                    continue
                if self._driver and not self.is_killed:
                    self.is_killed = True
                    self._deadline = time.monotonic() + STUCK_S
                    print("the browser kept a test waiting and is killed", file=sys.__stderr__)
                    kill_tree(self._driver)
                    continue
            faulthandler.dump_traceback()
            os._exit(1)


class Engine:
    """Debian's browser, started when it is asked for, and once more after it was killed."""

    def __init__(self, leash: Leash) -> None:
        self._leash = leash
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None

    def browser(self) -> Browser:
        """Return the browser."""
        if self._leash.is_killed:
            self.close()
        if self._browser is None:
            before = children_of(os.getpid())
            self._playwright = sync_playwright().start()
            (driver,) = (each for each in children_of(os.getpid()) - before if "driver" in command_of(each))
            self._leash.hold(driver)
            self._browser = homes.open_browser(self._playwright)
        return self._browser

    def close(self) -> None:
        """End browser and driver; while they are open their loop is the thread's, and no other test may need one."""
        playwright, browser = self._playwright, self._browser
        self._playwright = self._browser = None
        with self._leash.closing():
            if browser is not None:
                browser.close()
        with self._leash.closing():
            if playwright is not None:
                playwright.stop()
        self._leash.hold(0)


def children_of(pid: int) -> set[int]:
    """Return the processes that a process has started."""
    found: set[int] = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for each in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.update(int(child) for child in (each / "children").read_text(encoding="ascii").split())
    return found


def command_of(pid: int) -> str:
    """Return how a process was called; nothing of one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def kill_tree(pid: int) -> None:
    """Kill a process and all that it has started, the youngest last: each is found before its parent is gone."""
    below = children_of(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for each in below:
        kill_tree(each)
