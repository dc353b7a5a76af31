"""What comes before a change of the schema: room for all of it, and then a proved copy of what was there.

A start that finds no room says what it takes and changes nothing, so the former program starts on the same file. A
station on trial goes back to it by itself after three such starts (``deploy/outpost-release``).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edge.store.driver import connect, translated
from edge.store.migrate import migrations, schema_version
from edge.store.snapshot import before_migration
from shared.errors import StoreFull

#: What a change of the schema may write into the log, as a share of the database. The last one wrote nothing to speak
#: of on three million fixes; one that writes a column of every fix would come near.
LOG_SHARE: Final = 0.25
_MIB: Final = 2**20


def prepare(path: Path, key: bytes | None, usage: Callable[[Path], Any] = shutil.disk_usage) -> Path | None:
    """Keep a proved copy of a database that this program is about to change, and return where; None if it will not.

    Raises StoreFull before anything is written where there is no room for the copy and the change.
    """
    if not _is_older(path, key):
        return None
    taken = sum(each.stat().st_size for each in (path, path.with_name(f"{path.name}-wal")) if each.exists())
    wanted, free = round(taken * (1 + LOG_SHARE)), usage(path.parent).free
    if free < wanted:
        former = sorted(each.name for each in path.parent.glob(f"{path.name}.schema-*"))
        also = f", remove what is of older schemas ({', '.join(former)})" if former else ""
        raise StoreFull(
            f"{path}: this version changes the database and keeps a copy of it first, which takes"
            f" {wanted // _MIB + 1} MiB; {free // _MIB} MiB are free. Nothing was changed: make room"
            f" (move backup.dir to another medium{also}) and start again, or start the former version"
        )
    return before_migration(path, key)


def _is_older(path: Path, key: bytes | None) -> bool:
    connection = connect(path, key, is_spatial=False, is_readonly=True)
    try:
        with translated(path):
            return 0 < schema_version(connection) < len(migrations())
    finally:
        connection.close()
