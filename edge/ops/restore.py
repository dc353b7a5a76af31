"""From a backup to a station: on the same box, or on a new one. Nothing that lies there is removed, only set aside.

What is restored lies beside its place until it is proved, and is renamed into it then. It begins a new epoch: the cloud
sees that this is another past and is told everything retained once more, which it knows. Frames that the box heard
meanwhile stay: where its own ledger opens with the same key, its segments stay in use and all of it is decoded again,
which stores nothing twice.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from edge.ops.archive import Opener, unpack
from edge.ops.backup import DATABASE, LEDGER, MANIFEST, located, newest, prove, read_manifest
from edge.store.ledger import is_key_proven
from edge.store.snapshot import begin_anew, decode_all_again, segments_of, set_aside, sync
from shared.errors import Conflict, DatabaseCorrupt, StoreError, StoreFull

_PART: Final = ".restore"

Progress = Callable[[int], None]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a station lies. ``key`` is None where there is none yet, or the files are not encrypted."""

    database: Path
    ledger: Path
    config: Path
    key_file: Path
    key: bytes | None
    is_encrypted: bool = True


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What was restored, and what lay there before, under its new name."""

    source: str
    station: str
    made_at: str
    rows: int
    epoch: str
    set_aside: list[str]
    files_made: list[str]


def restore(
    source: Path, place: Place, opener: Opener, *, epoch: str, is_replacing: bool, progress: Progress = lambda _: None
) -> Restored:
    """Put the backup at ``source`` into ``place``: an archive, a copy, or a folder of copies, of which the newest good.

    Raises Conflict where data lies there and ``is_replacing`` is not said, WrongKey, DatabaseCorrupt or StoreError.
    """
    has_data = place.database.exists() or bool(segments_of(place.ledger))
    if has_data and not is_replacing:
        raise Conflict(f"{place.database.parent}: holds a station's data; --replace sets it aside and keeps it")
    part = place.database.parent / _PART
    shutil.rmtree(part, ignore_errors=True)
    try:
        place.database.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir(mode=0o700)
        found = _brought(source, part, opener, progress)
        key = _key_of(part, place)
        manifest = read_manifest(part)
        prove(part, manifest, key)
        begin_anew(part / DATABASE, key, epoch)
        aside, made = _put(part, place, key)
    except OSError as error:
        raise StoreFull(f"{part}: {error.strerror}; nothing was changed") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Restored(
        source=str(found), station=manifest.station, made_at=manifest.made_at, rows=manifest.rows, epoch=epoch,
        set_aside=[str(path) for path in aside], files_made=[str(path) for path in made],
    )  # fmt: skip


def newest_good(folder: Path, key: bytes | None) -> Path | None:
    """Return the newest hourly copy in ``folder`` that proves itself; None where there is none."""
    for copy in newest(folder / "hourly"):
        try:
            prove(copy, read_manifest(copy), key)
        except StoreError:
            continue
        return copy
    return None


def copy_into(copy: Path, part: Path) -> None:
    """Copy an hourly copy with its closed segments into ``part``."""
    manifest = read_manifest(copy)
    shutil.copyfile(copy / MANIFEST, part / MANIFEST)
    (part / LEDGER).mkdir(exist_ok=True)
    for name in manifest.files:
        shutil.copyfile(located(copy, name), part / name)
        (part / name).chmod(0o600)
        sync(part / name)


def _brought(source: Path, part: Path, opener: Opener, progress: Progress) -> Path:
    if source.is_file():
        unpack(source, part, opener, progress)
        return source
    if (source / MANIFEST).exists():
        copy_into(source, part)
        return source
    good = newest_good(source, opener.station_key)
    if good is None:
        raise StoreError(f"{source}: is no backup and holds none that is whole")
    copy_into(good, part)
    return good


def _key_of(part: Path, place: Place) -> bytes | None:
    """Return the key of the restored files: an archive brings it along."""
    brought = part / "station.key"
    if not brought.exists():
        return place.key
    try:
        return bytes.fromhex(brought.read_text(encoding="ascii").strip())
    except ValueError as error:
        raise DatabaseCorrupt(f"{brought}: the key in the backup is damaged") from error


def _put(part: Path, place: Place, key: bytes | None) -> tuple[list[Path], list[Path]]:
    mark = _free_mark(place)
    aside: list[Path] = []
    made: list[Path] = []
    is_other_key = place.is_encrypted and place.key is not None and place.key != key
    local = segments_of(place.ledger)
    if local and (is_other_key or not is_key_proven(place.ledger, key)):
        aside += [set_aside(segment, mark) for segment in local]
        local = []
    if place.database.exists():
        aside.append(set_aside(place.database, mark))
    place.ledger.mkdir(parents=True, exist_ok=True)
    names = {segment.name for segment in local}
    for segment in segments_of(part / LEDGER):
        target = place.ledger / segment.name
        if segment.name in names:  # this box's own one goes on; what the other held is in the restored database
            target = place.ledger / f"{segment.name}.{mark}.from-backup"
        _move(segment, target)
    if local:
        decode_all_again(part / DATABASE, key)
    made += _put_key(part, place, key, mark, aside)
    if not place.config.exists() and (part / "station.toml").exists():
        place.config.parent.mkdir(parents=True, exist_ok=True)
        _move(part / "station.toml", place.config)
        made.append(place.config)
    tls = place.database.parent / "tls"
    if (part / "tls").is_dir():  # the authority that the phones of the post believe
        if tls.exists():
            aside.append(tls.rename(tls.with_name(f"tls.{mark}")))
        (part / "tls").rename(tls)
    _move(part / DATABASE, place.database)  # last: until then there is no station here
    _give_to_owner(place.database.parent)
    return aside, made


def _put_key(part: Path, place: Place, key: bytes | None, mark: str, aside: list[Path]) -> list[Path]:
    if key is None or not (part / "station.key").exists() or key == place.key:
        return []
    if place.key_file.exists():
        former = place.key_file.with_name(f"{place.key_file.name}.{mark}")
        place.key_file.rename(former)
        aside.append(former)
    place.key_file.parent.mkdir(parents=True, exist_ok=True)
    _move(part / "station.key", place.key_file)
    return [place.key_file]


def _move(source: Path, target: Path) -> None:
    """Move a file, also to another medium; it has its name there when all of it is there."""
    try:
        source.rename(target)
    except OSError:
        fresh = target.with_name(f"{target.name}.part")
        shutil.copyfile(source, fresh)
        fresh.chmod(0o600)
        sync(fresh)
        fresh.rename(target)
    sync(target.parent)


def _free_mark(place: Place) -> str:
    taken = {
        path.name for folder in (place.database.parent, place.ledger) if folder.is_dir() for path in folder.iterdir()
    }
    number = 1
    while any(f".before-restore-{number}" in name for name in taken):
        number += 1
    return f"before-restore-{number}"


def _give_to_owner(folder: Path) -> None:
    """Give what root made to whom the folder belongs, so that the station can write it."""
    if os.geteuid() != 0:
        return
    owner = folder.stat()
    for path in folder.rglob("*"):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
