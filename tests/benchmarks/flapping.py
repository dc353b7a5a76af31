"""The shipped cloud behind a link that comes and goes, for a station that has other things to do besides."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from edge.config import Config
from tests.faults.cloud_process import CloudProcess
from tests.faults.proxy import FaultProxy

#: How a station is told to send here: often, so that the link is cut in sessions and not only between them.
CONFIG: Final = "[cloud]\ninterval_s = 10\n"
READY_S: Final = 120.0
#: A pause after a session that failed, a session, and what waits.
DRAIN_S: Final = 180.0
#: The link is whole, and then in two parts, for so many seconds.
WHOLE_S: Final = (20.0, 60.0)
PARTED_S: Final = (5.0, 40.0)
_SEED: Final = 12


class FlappingCloud:
    """A cloud in processes of its own, over a durable PostgreSQL, and the only way to it."""

    def __init__(self, cloud: CloudProcess, proxy: FaultProxy) -> None:
        self._cloud = cloud
        self._proxy = proxy
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._flap, daemon=True)
        #: how often the link was cut
        self.cuts = 0

    def enrol(self, config: Config, file: Path) -> None:
        """Have the station, which does not run yet, know this cloud and be known to it."""
        code = self._cloud.command("station", "add", config.station.id)["code"]
        program = Path(sys.executable).with_name("outpost-station")
        subprocess.run([program, "enrol", self._proxy.url, code, "--config", file], check=True, capture_output=True)

    def begin(self) -> None:
        """Cut the link and join it, for times that are the same in each run."""
        self._thread.start()

    def fixes(self) -> int:
        """Return how many fixes the cloud has."""
        ((count,),) = self._cloud.rows("SELECT value FROM counters WHERE name = 'fixes'")
        return int(count)

    def drained(self, fixes: int) -> int:
        """Leave the link whole, wait until all ``fixes`` are in the cloud, and return how many are still missing."""
        self._is_over.set()
        self._thread.join()
        self._proxy.join()
        ends = time.monotonic() + DRAIN_S
        while (missing := fixes - self.fixes()) > 0 and time.monotonic() < ends:
            time.sleep(0.5)
        return missing

    def _flap(self) -> None:
        rng = random.Random(_SEED)
        while not self._is_over.wait(rng.uniform(*WHOLE_S)):
            self._proxy.part()
            self.cuts += 1
            self._is_over.wait(rng.uniform(*PARTED_S))
            self._proxy.join()


@contextmanager
def flapping_cloud() -> Iterator[FlappingCloud]:
    """A cloud as a context; its data is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="outpost-flapping-"))
    cloud = CloudProcess(folder)
    try:
        cloud.create()
        cloud.start(READY_S)
        proxy = FaultProxy(cloud.port)
        try:
            yield FlappingCloud(cloud, proxy)
        finally:
            proxy.close()
    finally:
        cloud.close()
        shutil.rmtree(folder)
