"""The station's clock on this machine: wall and monotonic time, and the kernel's word on NTP."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from typing import Final

import structlog

from edge import RELEASED_AT
from shared.clock import StationClock

log = structlog.get_logger()

POLL_S: Final = 10.0
_STA_UNSYNC: Final = 0x0040
_TIME_ERROR: Final = 5


class _Timex(ctypes.Structure):
    """``struct timex`` of adjtimex(2), as far as ``status``; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def system_clock() -> StationClock:
    """Return a station clock over this machine's wall and monotonic clocks."""
    return StationClock(time.time, time.monotonic, built_at=RELEASED_AT)


def is_kernel_synchronised() -> bool:
    """Say whether an NTP client disciplines the kernel's clock (adjtimex(2); reading needs no privilege)."""
    libc = ctypes.CDLL(None, use_errno=True)
    timex = _Timex()
    state = libc.adjtimex(ctypes.byref(timex))
    if state < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return state != _TIME_ERROR and not timex.status & _STA_UNSYNC


async def follow_kernel(clock: StationClock) -> None:
    """Ask the kernel every few seconds, for ever; says so when the state of the clock changes."""
    was = None
    while True:
        clock.kernel_says(is_synchronised=is_kernel_synchronised())
        if clock.state != was:
            log.info("clock.state", state=str(clock.state))
            was = clock.state
        await asyncio.sleep(POLL_S)
