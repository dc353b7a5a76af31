"""A machine as small as the smallest that a station is promised on: one core, 512 MB of memory, no swap.

Memory is held by a control group of the kernel, version 2 or 1, which takes root. Where none can be made, nothing is
held: then what the station had at most is measured all the same, and the verdict says so.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

MEMORY_MB: Final = 512
_GROUPS: Final = Path("/sys/fs/cgroup")


class SmallBox:
    """What stands before a command to run it on one core and, with a ``group``, in so much memory."""

    def __init__(self, group: Path | None) -> None:
        self._group = group
        core = min(os.sched_getaffinity(0))
        joining = [] if group is None else ["sh", "-c", f'echo $$ >"{group}/cgroup.procs" && exec "$@"', "join"]
        #: before the command
        self.prefix: Sequence[str] = ["taskset", "-c", str(core), *joining]

    @property
    def is_held(self) -> bool:
        """Say whether the kernel holds the limit, and would kill what goes beyond it."""
        return self._group is not None

    def peak_mb(self) -> float | None:
        """Return the most that was in use in the group, page cache included, in MB (10**6 bytes)."""
        if self._group is None:
            return None
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            with contextlib.suppress(OSError):
                return int((self._group / name).read_text(encoding="ascii")) / 1e6
        return None


@contextlib.contextmanager
def small_box() -> Iterator[SmallBox]:
    """A small machine as a context; its group is gone afterwards, once its processes are."""
    group = _made()
    try:
        yield SmallBox(group)
    finally:
        if group is not None:
            with contextlib.suppress(OSError):
                group.rmdir()


def _made() -> Path | None:
    name = f"outpost-soak-{os.getpid()}"
    for parent, limits in (
        (_GROUPS / "memory", ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")),
        (_GROUPS, ("memory.max", "memory.swap.max")),
    ):
        group = parent / name
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limits[0]).write_text(str(MEMORY_MB * 1_000_000), encoding="ascii")
        except OSError:
            group.rmdir()
            continue
        with contextlib.suppress(OSError):  # a kernel without accounts of swap
            (group / limits[1]).write_text(
                "0" if limits[1].endswith("max") else str(MEMORY_MB * 1_000_000), encoding="ascii"
            )
        return group
    return None
