"""A test run that is killed leaves no station behind that would read another's line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.station_process import GUARD_S, until
from tests.tied import tied

pytestmark = pytest.mark.faults


def is_gone(pid: int) -> bool:
    """Say whether a process has ended, though its new parent may not have taken note of it."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0] == "Z"
        )
    except FileNotFoundError:
        return True


def test_a_station_ends_with_the_test_run_that_started_it_also_where_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults.orphan_process", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as run:
        tied(run)
        assert run.stdout is not None
        station = int(run.stdout.readline())
        assert not is_gone(station)
        run.kill()
    until(lambda: is_gone(station), "the end of the station", GUARD_S)


def test_what_a_station_has_started_ends_with_it(tmp_path: Path) -> None:
    script = (
        "import signal, subprocess; from tests.tied import tied;"
        "shell = ['sh', '-c', 'sleep 600 & echo $!; wait'];"
        "p = tied(subprocess.Popen(shell, stdout=subprocess.PIPE, start_new_session=True));"
        # only once it is tied: one that is killed before that has told nobody of it
        "print(p.stdout.readline().decode(), end='', flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True) as run:
        tied(run)
        assert run.stdout is not None
        child = int(run.stdout.readline())
        assert not is_gone(child)
        run.kill()
    until(lambda: is_gone(child), "the end of what it had started", GUARD_S)
