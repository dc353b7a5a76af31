"""Backups of a station: hourly copies on a second medium, daily archives that may leave it, each proved when made.

::

    DIR/hourly/000123-20261128T010000Z/   manifest.json  station.db  ledger/ledger-...db (the open segment)
    DIR/ledger/ledger-000000000001.db     closed segments, copied once
    DIR/daily/000007-20261128T020000Z.outpost   everything, sealed (archive.py)

The number before the date counts up for ever: a station's clock may be wrong, the order of its backups must not be.
The database is copied before the ledger, so a copy's ledger never ends before what its database has read of it. An
hourly copy is compared row by row with its source, of the same instant; a daily archive is read back from the medium,
unpacked, opened and compared. What cannot be proved is not kept. The newest thirty archives stay, by number.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
import structlog

from edge.ops.archive import SUFFIX, Opener, unpack, write_archive
from edge.store.snapshot import Contents, contents_of, copied, file_digest, prove_copy, segments_of, sync
from shared.errors import Conflict, DatabaseCorrupt, StoreError, StoreFull, WrongKey

log = structlog.get_logger()

MANIFEST: Final = "manifest.json"
DATABASE: Final = "station.db"
LEDGER: Final = "ledger"
HOURLY_KEPT: Final = 6
DAILY_KEPT: Final = 30
_NUMBERED: Final = re.compile(rf"(\d{{6,}})-\d{{8}}T\d{{6}}Z(?:{re.escape(SUFFIX)})?")

Progress = Callable[[int], None]


def _nothing(_: int = 0) -> None:
    """What is done where nobody asked for more."""


class FileFacts(msgspec.Struct, frozen=True):
    """A file of a backup."""

    sha256: str
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds; ``contents`` by database, none of a segment whose pages did not add up at its source."""

    station: str
    made_at: str
    program: str
    files: dict[str, FileFacts]
    contents: dict[str, Contents]

    @property
    def rows(self) -> int:
        """How many rows of all tables it holds."""
        return sum(table.rows for tables in self.contents.values() for table in tables.values())


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The station that is backed up; ``beside`` are small files by their name in the archive."""

    station: str
    database: Path
    ledger: Path
    key: bytes | None
    recovery_public: str = ""
    beside: Mapping[str, Path] = {}


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was made and proved."""

    path: Path
    made_at: str
    size_bytes: int
    databases: int
    rows: int


def newest(folder: Path) -> list[Path]:
    """Return the backups in ``folder``, the newest first, by their number."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _number(path) is not None), key=_number_of, reverse=True)


def hourly(
    source: Source, folder: Path, now: datetime, *, kept: int = HOURLY_KEPT, then: Callable[[], None] = _nothing
) -> Made:
    """Copy database and ledger as they stand, prove the copies and forget older ones; raises StoreError.

    ``then`` is called once no log of the station's is held any more, with the longer half of the work still to do.
    """
    with _made_in(folder / "hourly", now) as (part, final):
        (part / LEDGER).mkdir()
        held = copied(source.database, part / DATABASE, source.key)
        segments = segments_of(source.ledger)
        targets = ((part / LEDGER / segment.name, segment) for segment in segments[-1:])
        openly = [(copy, segment, _segment_copied(segment, copy, source.key)) for copy, segment in targets]
        then()
        prove_copy(part / DATABASE, source.key, held)
        files = {DATABASE: _facts(part / DATABASE)}
        found = {DATABASE: held}
        _share_closed(segments[:-1], folder, source.key, files, found)
        for copy, segment, holds in openly:
            name = f"{LEDGER}/{segment.name}"
            files[name] = _segment_proved(segment, copy, source.key, holds, name, found)
        manifest = Manifest(
            station=source.station, made_at=_stamp(now), program=version("outpost"), files=files, contents=found
        )
        (part / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        sync(part / MANIFEST)
        sync(part)
    _forget(folder, kept)
    return Made(
        path=final, made_at=manifest.made_at, size_bytes=sum(each.size_bytes for each in files.values()),
        databases=len(found), rows=manifest.rows,
    )  # fmt: skip


def daily(
    source: Source,
    folder: Path,
    now: datetime,
    *,
    kept: int = DAILY_KEPT,
    progress: Progress = _nothing,
    then: Callable[[], None] = _nothing,
) -> Made:
    """Seal a copy of this moment into one file, read it back and prove it; of older ones ``kept`` files stay."""
    copy = hourly(source, folder, now, then=then).path
    manifest = read_manifest(copy)
    target = folder / "daily"
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"{copy.name}{SUFFIX}"
    named = [(MANIFEST, copy / MANIFEST), *((name, located(copy, name)) for name in manifest.files)]
    named += [(name, file) for name, file in source.beside.items() if file.exists()]
    write_archive(
        path, named, station=source.station, made_at=manifest.made_at, station_key=source.key,
        recovery_public=source.recovery_public, progress=progress,
    )  # fmt: skip
    try:
        prove_archive(path, folder, Opener(station_key=source.key), source.key, manifest, progress)
    except (DatabaseCorrupt, WrongKey):
        path.unlink()
        raise
    for old in newest(target)[kept:]:
        old.unlink()
    return Made(
        path=path, made_at=manifest.made_at, size_bytes=path.stat().st_size, databases=len(manifest.contents),
        rows=manifest.rows,
    )  # fmt: skip


def prove_archive(
    path: Path, scratch: Path, opener: Opener, key: bytes | None, expected: Manifest, progress: Progress
) -> None:
    """Restore an archive into a folder of its own in ``scratch`` and compare; raises DatabaseCorrupt or WrongKey."""
    folder = scratch / f".prove-{path.stem}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    try:
        if opener.station_key is None:  # without encryption the station holds nothing that opens its archives
            return
        unpack(path, folder, opener, progress)
        found = read_manifest(folder)
        if found != expected:
            raise DatabaseCorrupt(f"{path}: holds another manifest than it was made with")
        prove(folder, found, key)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def prove(folder: Path, manifest: Manifest, key: bytes | None) -> None:
    """Compare files with their digests and databases with their contents; raises DatabaseCorrupt, WrongKey."""
    for name, facts in manifest.files.items():
        path = located(folder, name)
        if not path.exists():
            raise DatabaseCorrupt(f"{path}: is missing in the backup")
        if file_digest(path) != facts.sha256:
            raise DatabaseCorrupt(f"{path}: is not the file that was backed up")
        if name in manifest.contents and contents_of(path, key) != manifest.contents[name]:
            raise DatabaseCorrupt(f"{path}: does not hold what was backed up")
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def read_manifest(folder: Path) -> Manifest:
    """Return what a copy holds; raises StoreError."""
    path = folder / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; this is no backup") from error
    except msgspec.DecodeError as error:
        raise DatabaseCorrupt(f"{path}: {error}") from error


def located(folder: Path, name: str) -> Path:
    """Return where a file of a copy lies: in it, or, a closed segment, beside the copies."""
    own = folder / name
    return own if own.exists() or not name.startswith(f"{LEDGER}/") else folder.parent.parent / name


def _share_closed(
    closed: list[Path], folder: Path, key: bytes | None, files: dict[str, FileFacts], found: dict[str, Contents]
) -> None:
    """Have each closed segment beside the copies, which share it; what a former copy has proved is not read again."""
    shared = folder / LEDGER
    shared.mkdir(exist_ok=True)
    known = _known(folder)
    for segment in closed:
        name = f"{LEDGER}/{segment.name}"
        if name in known and (shared / segment.name).exists():
            files[name] = known[name].files[name]
            if name in known[name].contents:
                found[name] = known[name].contents[name]
            continue
        fresh = shared / f"{segment.name}.part"
        fresh.unlink(missing_ok=True)
        held = _segment_copied(segment, fresh, key)
        files[name] = _segment_proved(segment, fresh, key, held, name, found)
        fresh.replace(shared / segment.name)
        sync(shared)


def _segment_copied(segment: Path, target: Path, key: bytes | None) -> Contents | None:
    """Copy a segment and return what it held; one whose pages do not add up is evidence, copied byte by byte: None."""
    try:
        return copied(segment, target, key)
    except (DatabaseCorrupt, WrongKey):
        _copy_bytes(segment, target)
        return None


def _segment_proved(
    segment: Path, target: Path, key: bytes | None, held: Contents | None, name: str, found: dict[str, Contents]
) -> FileFacts:
    if held is not None:
        try:
            prove_copy(target, key, held)
            found[name] = held
        except (DatabaseCorrupt, WrongKey):
            _copy_bytes(segment, target)
    return _facts(target)


def _copy_bytes(segment: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    shutil.copyfile(segment, target)
    sync(target)


def _facts(path: Path) -> FileFacts:
    return FileFacts(file_digest(path), path.stat().st_size)


def _known(folder: Path) -> dict[str, Manifest]:
    """Return, by name of a segment, a former copy's manifest that names it."""
    found: dict[str, Manifest] = {}
    for path in reversed(newest(folder / "hourly")):
        try:
            manifest = read_manifest(path)
        except StoreError:
            continue
        # one that lies in the copy itself was still written then
        closed = (name for name in manifest.files if name.startswith(LEDGER) and not (path / name).exists())
        found |= dict.fromkeys(closed, manifest)
    return found


def _forget(folder: Path, kept: int) -> None:
    copies = newest(folder / "hourly")
    for old in copies[kept:]:
        shutil.rmtree(old, ignore_errors=True)
    with contextlib.suppress(StoreError):
        named = {name for copy in copies[:kept] for name in read_manifest(copy).files}
        for segment in segments_of(folder / LEDGER):
            if f"{LEDGER}/{segment.name}" not in named:
                segment.unlink()


@contextlib.contextmanager
def _made_in(folder: Path, now: datetime) -> Iterator[tuple[Path, Path]]:
    """Give a new folder and the name that it gets when all went well; half a copy never has a copy's name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}: is the medium for backups there?") from error
    part = folder / ".part"
    try:
        with (folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise Conflict(f"{folder}: another backup is being made") from error
            last = max((_number_of(path) for path in newest(folder) + newest(folder.parent / "daily")), default=0)
            final = folder / f"{last + 1:06d}-{now:%Y%m%dT%H%M%SZ}"
            try:
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(mode=0o700)
                yield part, final
                part.rename(final)
                sync(folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise StoreFull(f"{folder}: {error.strerror}; no backup was made") from error


def _stamp(now: datetime) -> str:
    return f"{now:%Y-%m-%dT%H:%M:%SZ}"


def _number(path: Path) -> int | None:
    match = _NUMBERED.fullmatch(path.name)
    return None if match is None else int(match[1])


def _number_of(path: Path) -> int:
    return _number(path) or 0
