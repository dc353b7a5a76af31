"""The processes around a demo station: started in order, ended in reverse order."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from shared.errors import ConfigError

GRACE_S: Final = 10.0


class Processes:
    """A context in which programs run; each one's output goes to ``NAME.log`` in the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, process in reversed(self._running):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
            if process.poll() is None:
                process.kill()
                process.wait()

    def start(self, name: str, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Start ``command`` in a process group of its own, so that Ctrl-C reaches only us; it does not outlive us.

        A demo that is killed leaves a station behind otherwise, which takes the next demo's terminals away from it.
        """
        tied = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
        with self.log_of(name).open("wb") as log:
            process = subprocess.Popen(
                [*tied, *(str(part) for part in command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append((name, process))
        return process

    def log_of(self, name: str) -> Path:
        """Return where a program's output goes."""
        return self._folder / f"{name}.log"

    def fallen(self) -> str | None:
        """Return the name of a program that has ended with an error, or None."""
        return next((name for name, process in self._running if process.poll()), None)

    def tail(self, name: str, lines: int = 15) -> str:
        """Return the last lines of a program's output."""
        text = self.log_of(name).read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_broker(processes: Processes, folder: Path) -> int:
    """Start Mosquitto on a free loopback port and return the port; raises ConfigError where it is not installed."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise ConfigError("mosquitto is not installed: sudo apt-get install --no-install-recommends mosquitto")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "mosquitto.conf"
    # without autosave_on_changes a killed broker forgets what it has acknowledged
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {folder}/\n"
        "autosave_interval 1\nautosave_on_changes true\nmax_queued_messages 0\nmax_inflight_messages 0\n"
        f"user {'root' if _is_root() else 'nobody'}\n",
        encoding="utf-8",
    )
    processes.start("mosquitto", [program, "-c", config])
    return port


def program(name: str) -> Path:
    """Return one of our programs beside this interpreter."""
    return Path(sys.executable).parent / name


def _is_root() -> bool:

    return os.geteuid() == 0
