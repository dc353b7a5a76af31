"""Work that would hold up ingestion, done in a process of its own, which can step back behind all others.

The process ends with what it was asked, with the task that asked, and with the station.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import connection, parent_process
from typing import Any, Final, TypeVar

NICE: Final = 10

T = TypeVar("T")


async def done_aside(work: Callable[..., T], *given: Any) -> T:
    """Do ``work``, a function of a module, in a process that is started for it; all that goes in and out is pickled.

    Raises BrokenProcessPool where the process was ended by somebody else.
    """
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        asked = await asyncio.to_thread(pool.submit, work, *given)  # starting a process takes a while
        return await asyncio.wrap_future(asked)
    finally:
        processes = list((pool._processes or {}).values())  # there is no public way before Python 3.14
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


def step_back() -> None:
    """Let everything else on this machine go first from here on; for work that holds nothing that others wait for."""
    os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the keyboard speaks to the station
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
