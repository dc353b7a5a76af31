"""A disk that can be filled: a file system in memory of a few megabytes, which only a test sees."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path


class SmallDisk:
    """A file system in memory at ``folder``, which only this holder and what is started with ``prefix`` see."""

    def __init__(self, folder: Path, size_mib: int) -> None:
        folder.mkdir()
        self.folder = folder
        mount = f"mount -t tmpfs -o size={size_mib}m outpost '{folder}' && echo mounted && exec sleep 3600"
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._holder.stdout is not None
        self.answer = self._holder.stdout.readline().decode().strip()
        self.prefix = ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt")
        #: the same files, for this process
        self.seen_at = Path(f"/proc/{self._holder.pid}/root{folder}")

    @property
    def is_mounted(self) -> bool:
        """Whether this machine let us mount one."""
        return self.answer == "mounted"

    def fill(self) -> None:
        """Leave no free block."""
        with (self.seen_at / "filler").open("ab", buffering=0) as filler:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        filler.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def make_room(self) -> None:
        """Take away what ``fill`` left."""
        (self.seen_at / "filler").unlink()

    def close(self) -> None:
        """End the holder, and the disk with it."""
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()
