"""Work in a process of its own that is started when it is needed: maps are read there, and nothing else waits or falls.

::

    home ---- questions ----> another process: rasterio, maps, what is heavy
         <---- answers -----  (ends by itself with the home, and is ended when nobody asked for a while)

A map that hangs or a library that falls takes that process along and nothing else: the question is answered with
ModelUnavailable, and the next one starts another.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import Final, ParamSpec, TypeVar

import structlog

from models.live.habitat_child import begin
from shared.errors import ModelUnavailable

log = structlog.get_logger()

#: A question that takes longer has met a map that hangs.
LONGEST_S: Final = 60.0
#: The process is ended when nobody asked for so long: its libraries hold a third of what a station may take.
IDLE_S: Final = 120.0

P = ParamSpec("P")
T = TypeVar("T")


class Apart:
    """Answers one question after another in a process of its own; ``close`` ends it."""

    def __init__(self, name: str, *, idle_s: float = IDLE_S, longest_s: float = LONGEST_S) -> None:
        self._name = name
        self._idle_s = idle_s
        self._longest_s = longest_s
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()

    @property
    def is_running(self) -> bool:
        """Whether the process runs."""
        return self._pool is not None

    @property
    def pids(self) -> list[int]:
        """The process, where it runs."""
        # there is no public way before Python 3.14
        return [] if self._pool is None else list(self._pool._processes or {})

    async def ask(self, work: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
        """Return what ``work`` gives there; raises what it raises, and ModelUnavailable where it cannot be answered."""
        async with self._turn:
            if self._ending is not None:
                self._ending.cancel()
                self._ending = None
            try:
                if self._pool is None:
                    self._pool = concurrent.futures.ProcessPoolExecutor(
                        1, mp_context=multiprocessing.get_context("spawn"), initializer=begin
                    )
                pool = self._pool
                # the first question starts the process, which takes a while
                asked = await asyncio.to_thread(lambda: pool.submit(work, *values, **named))
                async with asyncio.timeout(self._longest_s):
                    return await asyncio.wrap_future(asked)
            except BrokenProcessPool as error:
                log.error("apart.fell", process=self._name)
                self.close()
                raise ModelUnavailable(
                    "the process that reads the maps fell; the next question starts another"
                ) from error
            except TimeoutError as error:
                log.error("apart.hung", process=self._name, after_s=self._longest_s)
                self.close()
                raise ModelUnavailable(f"the maps gave no answer within {self._longest_s:g} s") from error
            finally:
                if self._pool is not None:
                    self._ending = asyncio.get_running_loop().call_later(self._idle_s, self.close)

    def close(self) -> None:
        """End the process without waiting for what it does."""
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        pool, self._pool = self._pool, None
        if pool is None:
            return
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
