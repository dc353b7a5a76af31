"""A browser that keeps a test waiting ends with it, and the run goes on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.web import homes

pytestmark = [pytest.mark.web, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
#: The first waits while what pytest-timeout raises is swallowed, the second closes a browser that answers no more.
WAITING = """
import os, signal, time
from tests.web import leash
from tests.web.conftest import LEASH

leash.CLOSE_S = 2.0
NEVER = "() => new Promise(() => {})"

def let_time_pass():
    signal.setitimer(signal.ITIMER_REAL, 1)  # pytest-timeout's own
    LEASH.give(3)

def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    for each in leash.children_of(pid):
        stop(each)

class Home:
    url = "http://127.0.0.1"
    def context(self, browser, role):
        return browser.new_context()

def test_waits_while_the_signal_is_swallowed(browser):
    page = browser.new_page()
    let_time_pass()
    page._loop.call_soon(time.sleep, 2)
    page.evaluate(NEVER)

def test_waits_for_a_browser_that_has_stopped(look):
    page = look(Home(), None).new_page()
    for driver in leash.children_of(os.getpid()):
        for chromium in leash.children_of(driver):
            stop(chromium)
    let_time_pass()
    page.evaluate(NEVER)

def test_has_a_browser_of_its_own(browser):
    assert browser.new_page().evaluate("1 + 1") == 2
"""


def test_a_test_that_waits_for_ever_fails_and_its_worker_goes_on_with_the_next(tmp_path: Path) -> None:
    homes.require_browser()
    (tmp_path / "test_waiting.py").write_text(WAITING, encoding="utf-8")
    command = [
        sys.executable, "-m", "pytest", "-p", "tests.web.conftest", "-p", "no:cacheprovider", "-n", "1",
        "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), str(tmp_path / "test_waiting.py"),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert re.search(r"2 failed, 1 passed in", run.stdout), run.stdout + run.stderr
    assert "crashed" not in run.stdout
