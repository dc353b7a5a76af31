"""A program that a test starts ends with the test's own process, also where that is ended by SIGKILL.

A station that outlives its test goes on reading from a pseudo-terminal that is no longer its own: the number of one
that is closed is given to the next who asks, and a later test's station then shares its line with a stranger. Nothing
in a process that is killed can prevent that, so one small process beside it watches: it is told each program's id, and
when the test's process is no more it kills those that are left, with all that they have started. ``PR_SET_PDEATHSIG``
would be shorter, but it fires as well when only the thread has ended that started the program, and a program behind a
prefix that forks does not inherit it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

_watchers: dict[int, subprocess.Popen[bytes]] = {}


def tied(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Return a program once it is sure to end with this process, and all of its session where it leads one."""
    owner = os.getpid()
    if owner not in _watchers:
        command = [sys.executable, "-S", "-E", __file__, str(owner)]
        _watchers[owner] = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        atexit.register(_leave, owner)
    told = _watchers[owner].stdin
    assert told is not None
    with contextlib.suppress(FileNotFoundError):  # it has ended already
        told.write(f"{process.pid} {_began(process.pid)}\n".encode())
        told.flush()
    return process


def _leave(owner: int) -> None:
    if owner == os.getpid():  # not in a fork of it
        _watchers[owner].communicate()


def _began(pid: int) -> str:
    """Return when a process began, in ticks since the machine's start: with the id, it names one process for ever."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]


def watch(owner: int) -> None:
    """Read ids until ``owner`` has ended or wants no more, then kill whichever of them still runs."""
    told = b""
    waiting = [0]
    with contextlib.suppress(ProcessLookupError):  # it has ended already: its pipe can be read to the end
        waiting.append(os.pidfd_open(owner))
    while ready := select.select(waiting, [], [])[0]:
        if 0 not in ready:  # a fork of the owner may hold the pipe open, but the owner is no more
            break
        more = os.read(0, 65_536)
        if not more:
            break
        told += more
    for line in told.decode("ascii").splitlines():
        pid, began = line.split()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if _began(int(pid)) != began:
                continue
            if os.getpgid(int(pid)) == int(pid):
                os.killpg(int(pid), signal.SIGKILL)
            os.kill(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    watch(int(sys.argv[1]))
