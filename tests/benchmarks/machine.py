"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edge.store.driver import connect

_BLOCK: Final = b"\xa5" * 4096


def facts(folder: Path, fsync_s: float) -> list[tuple[str, str]]:
    """Return (what, value) of this machine, the software and the disk under ``folder``, measured for ``fsync_s``."""
    probe = folder / "probe.db"
    connection = connect(probe, bytes(32), is_spatial=True)
    (sqlite,) = connection.execute("SELECT sqlite_version()").fetchone()
    (spatialite,) = connection.execute("SELECT spatialite_version()").fetchone()
    (cipher,) = connection.execute("PRAGMA cipher_version").fetchone()
    connection.close()
    for path in folder.glob("probe.db*"):
        path.unlink()
    memory = _field("/proc/meminfo", "MemTotal")
    return [
        ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("CPU", _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()),
        ("cores", f"{len(os.sched_getaffinity(0))}"),
        ("memory", f"{int(memory.split()[0]) * 1024 / 1e9:.1f} GB" if memory else "unknown"),
        ("load when it began", f"{os.getloadavg()[0]:.2f}"),
        ("kernel", f"{platform.system()} {platform.release()}"),
        ("Python", platform.python_version()),
        ("SQLite", f"{sqlite}, SQLCipher {cipher}, SpatiaLite {spatialite}"),
        ("file system", file_system(folder)),
        ("syncs of 4 KiB appended", f"{syncs_per_s(folder, fsync_s):,.0f} a second"),
    ]


def syncs_per_s(folder: Path, seconds: float) -> float:
    """Return how often a second 4 KiB are appended to a file and synced."""
    path = folder / "probe.sync"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        count = 0
        began = time.perf_counter()
        while (took_s := time.perf_counter() - began) < seconds:
            os.write(descriptor, _BLOCK)
            os.fdatasync(descriptor)
            count += 1
    finally:
        os.close(descriptor)
        path.unlink()
    return count / took_s


def file_system(folder: Path) -> str:
    """Return the kind of file system under ``folder``; tmpfs makes every figure about durability worthless."""
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, point, kind, *_ = line.split()
        if folder.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def _field(file: str, name: str) -> str:
    for line in Path(file).read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
