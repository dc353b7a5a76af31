"""The check at the start of a station, and what follows where its database does not pass it.

A small database is checked page by page at each start, a large one where the check in the background has found
something (a mark beside the file says so): a start must not take minutes. A database that does not add up is renamed
and kept, the newest copy that proves itself takes its place, and the ledger, which has every frame, is decoded from
where that copy had come. Without a copy a database that still opens stays in use, because half of one is more than
none; one that does not open is set aside and the whole ledger fills a new one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from edge.ops.restore import copy_into, newest_good
from edge.store.driver import connect, quick_check
from edge.store.ledger import is_key_proven
from edge.store.migrate import schema_version
from edge.store.snapshot import begin_anew, set_aside, sync
from shared.errors import DatabaseCorrupt, StoreError, WrongKey

log = structlog.get_logger()

#: A database up to this size is checked at each start: two seconds on a slow card.
CHECKED_AT_START_BYTES: Final = 128 * 2**20
_PART: Final = ".heal"


class Healed(msgspec.Struct, frozen=True, kw_only=True):
    """What the check at the start found and did."""

    reason: str
    #: where the damaged file lies now; None where it is still in use
    kept: Path | None
    #: the copy that took its place; None where there was none
    copy: Path | None


def mark_of(database: Path) -> Path:
    """Return the file that asks the next start for a check of every page."""
    return database.with_name(f"{database.name}.suspect")


def heal(database: Path, ledger: Path, key: bytes | None, backups: Path, *, epoch: Callable[[], str]) -> Healed | None:
    """Check the database at ``database`` and put the newest good copy in its place where it is damaged; None if sound.

    Raises WrongKey where the key fits nothing here: then nothing is damaged, and nothing is touched.
    """
    mark = mark_of(database)
    if not database.exists():
        mark.unlink(missing_ok=True)
        return None
    is_whole = mark.exists() or database.stat().st_size <= CHECKED_AT_START_BYTES
    reason, is_usable = _judged(database, ledger, key, is_whole=is_whole)
    if reason is None:
        mark.unlink(missing_ok=True)
        return None
    copy = newest_good(backups, key)
    if copy is None and is_usable:
        log.critical("store.damaged", reason=reason, copy=None)
        return Healed(reason=reason, kept=None, copy=None)
    part = database.parent / _PART
    shutil.rmtree(part, ignore_errors=True)
    try:
        if copy is not None:
            part.mkdir(mode=0o700)
            copy_into(copy, part)
            begin_anew(part / "station.db", key, epoch())
        kept = set_aside(database, _free_mark(database))
        if copy is not None:
            (part / "station.db").rename(database)
            sync(database.parent)
    except OSError as error:
        raise StoreError(f"{database}: is damaged ({reason}) and its copy could not be brought: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    mark.unlink(missing_ok=True)
    log.critical("store.quarantined", reason=reason, kept=str(kept), copy=None if copy is None else str(copy))
    return Healed(reason=reason, kept=kept, copy=copy)


def _judged(database: Path, ledger: Path, key: bytes | None, *, is_whole: bool) -> tuple[str | None, bool]:
    """Return what is wrong with a database, and whether it can still be used."""
    try:
        connection = connect(database, key, is_spatial=False)
    except WrongKey:
        if not is_key_proven(ledger, key):
            raise
        return "its first page is damaged", False
    except DatabaseCorrupt as error:
        return error.detail, False
    try:
        schema_version(connection)
        if is_whole:
            quick_check(connection, database)
    except (DatabaseCorrupt, WrongKey) as error:
        return error.detail, True
    finally:
        connection.close()
    return None, True


def _free_mark(database: Path) -> str:
    number = 1
    while any(database.parent.glob(f"{database.name}.corrupt-{number}*")):
        number += 1
    return f"corrupt-{number}"
