"""A test run that is to be killed: ``python -m tests.faults.orphan_process FOLDER`` starts a station and waits."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from tests.faults.station_process import StationProcess


def main(folder: Path) -> None:
    """Start a station, print its process, and wait to be killed."""
    station = StationProcess(folder)
    station.start()
    print(station.pid, flush=True)
    signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
