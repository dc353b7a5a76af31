"""Backups of the cloud: PostgreSQL's own dump of one snapshot, proved by restoring it and comparing every table.

::

    DIR/000007-20261128T020000Z/   manifest.json  database.dump.sealed  cloud.toml.sealed

Tables are counted and hashed in the transaction whose snapshot pg_dump reads, so that the two speak of one instant
while the service goes on. The proof restores the dump into a database of its own on the same server, compares and drops
it.
Dump and configuration are sealed to the public half of a recovery key (``cloud.store.sealed_files``), where the
configuration names one: the server itself cannot open them again. The manifest stays readable: how many rows of what
there are, and what the files must hash to.
The secret (``accounts.key_file``) is not in a backup: whoever finds one must not open TOTP seeds with it.

A restored database is another past. It gets a new epoch: stations see that their cursors are of another life, and send
again what they kept for ninety days, and records that they know and it does not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
from psycopg import conninfo, sql

from cloud.store.database import parameters, translated
from cloud.store.sealed_files import SUFFIX, open_file, seal_file
from shared.errors import Conflict, DatabaseCorrupt, StoreError, StoreFull, WrongKey

KEPT: Final = 30
#: More revisions than one life gives any record.
_LIFE_REVISIONS: Final = 1 << 32
_NUMBERED: Final = re.compile(r"(\d{6,})-\d{8}T\d{6}Z")
_DUMP: Final = "database.dump"
_CONFIG: Final = "cloud.toml"
_BINARIES: Final = Path("/usr/lib/postgresql")
#: What libpq reads from the environment, which no list of processes shows.
_VARIABLES: Final = {
    "host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT",
}  # fmt: skip
#: Ordinary tables, leaves of partitions among them, that no extension owns.
_TABLES: Final = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""


class Table(msgspec.Struct, frozen=True, array_like=True):
    """How many rows a table holds, and a sum of their hashes, whatever their order."""

    rows: int
    digest: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds."""

    made_at: str
    program: str
    #: of the file as it lies there
    sha256: str
    size_bytes: int
    tables: dict[str, Table]
    is_sealed: bool = False

    @property
    def rows(self) -> int:
        """How many rows of all tables."""
        return sum(table.rows for table in self.tables.values())


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was made, and proved unless that was not asked for."""

    path: str
    size_bytes: int
    tables: int
    rows: int
    is_proved: bool
    is_sealed: bool


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was looked at again: its files are those that were made, and ``is_restored`` that they go in."""

    path: str
    made_at: str
    tables: int
    rows: int
    is_restored: bool


def backup(
    url: str,
    folder: Path,
    now: datetime,
    *,
    config: Path | None,
    is_proving: bool,
    kept: int = KEPT,
    recovery_public: str = "",
) -> Made:
    """Dump the database at ``url`` into a new folder in ``folder``; older ones beyond ``kept`` are forgotten.

    ``recovery_public`` is for whom it is sealed; "": for nobody, whoever finds it reads it.
    Raises StoreError where it cannot be made or proved; nothing with a backup's name is left then.
    """
    part = folder / ".part"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        final = folder / f"{_next(folder):06d}-{now:%Y%m%dT%H%M%SZ}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        file = part / _DUMP
        with translated("the database"), psycopg.connect(**parameters(url, "outpost-cloud backup")) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            tables = contents(connection)
            (snapshot,) = connection.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
            _run("pg_dump", url, f"--snapshot={snapshot}", "--format=custom", "--no-owner", "--no-privileges",
                 f"--file={file}")  # fmt: skip
        if is_proving:
            with _scratch(url) as scratch:
                _restore(file, tables, scratch)
        if config is not None and config.exists():
            shutil.copyfile(config, part / _CONFIG)
            (part / _CONFIG).chmod(0o600)
        if recovery_public:
            file = seal_file(file, recovery_public)
            if (part / _CONFIG).exists():
                seal_file(part / _CONFIG, recovery_public)
        manifest = Manifest(
            made_at=f"{now:%Y-%m-%dT%H:%M:%SZ}", program=version("outpost"), sha256=_sha256(file),
            size_bytes=file.stat().st_size, tables=tables, is_sealed=bool(recovery_public),
        )  # fmt: skip
        (part / "manifest.json").write_bytes(msgspec.json.encode(manifest))
        for each in part.iterdir():
            _sync(each)
        part.rename(final)
        _sync(folder)
    except OSError as error:
        raise StoreFull(f"{folder}: {error.strerror or error}; no backup was made") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for old in newest(folder)[kept:]:
        shutil.rmtree(old)
    return Made(
        path=str(final), size_bytes=manifest.size_bytes, tables=len(tables), rows=manifest.rows, is_proved=is_proving,
        is_sealed=manifest.is_sealed,
    )  # fmt: skip


def verify(source: Path, url: str, recovery_key: bytes | None) -> Verified:
    """Look at a backup, or the newest of a folder, again: each byte, and what it restores to where it can be opened.

    Raises DatabaseCorrupt for one that is not what was made, WrongKey for one that was sealed for somebody else.
    """
    folder, manifest = _found_in(source)
    is_restoring = recovery_key is not None or not manifest.is_sealed
    if is_restoring:
        with _plain(folder, manifest, recovery_key) as file, _scratch(url) as scratch:
            _restore(file, manifest.tables, scratch)
    return Verified(
        path=str(folder), made_at=manifest.made_at, tables=len(manifest.tables), rows=manifest.rows,
        is_restored=is_restoring,
    )  # fmt: skip


def restore(source: Path, url: str, recovery_key: bytes | None = None) -> tuple[Manifest, str]:
    """Fill the empty database at ``url`` from a backup, compare it, and begin a new epoch; return it with the manifest.

    ``recovery_key`` opens one that is sealed. Raises Conflict where the database holds something, DatabaseCorrupt where
    the backup is not what was made, WrongKey where it does not open.
    """
    folder, manifest = _found_in(source)
    with _plain(folder, manifest, recovery_key) as file:
        with translated("the database"), psycopg.connect(**parameters(url, "outpost-cloud restore")) as connection:
            if contents(connection):
                raise Conflict("the database holds tables already: make an empty one, restore into it, and switch over")
        _restore(file, manifest.tables, url)
    epoch = secrets.token_hex(8)
    with translated("the database"), psycopg.connect(**parameters(url, "outpost-cloud restore")) as connection:
        begin_life(connection, epoch, time.time_ns() // 1_000_000)
    return manifest, epoch


def _found_in(source: Path) -> tuple[Path, Manifest]:
    """Return the backup at ``source`` or the newest in it, once its files are what was made."""
    folder = source if (source / "manifest.json").exists() else next(iter(newest(source)), source)
    try:
        manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
    except OSError as error:
        raise StoreError(f"{source}: is no backup of a cloud and holds none") from error
    except msgspec.DecodeError as error:
        raise DatabaseCorrupt(f"{folder}: its manifest is damaged") from error
    file = folder / (_DUMP + (SUFFIX if manifest.is_sealed else ""))
    if not file.exists() or _sha256(file) != manifest.sha256:
        raise DatabaseCorrupt(f"{file}: is not the file that was made")
    return folder, manifest


@contextlib.contextmanager
def _plain(folder: Path, manifest: Manifest, recovery_key: bytes | None) -> Iterator[Path]:
    """The dump of a backup as pg_restore reads it, as a context; one that was sealed is opened in a private folder."""
    if not manifest.is_sealed:
        yield folder / _DUMP
        return
    if recovery_key is None:
        raise WrongKey(f"{folder}: is sealed: bring the recovery key that was printed when its public half was made")
    with tempfile.TemporaryDirectory(prefix="outpost-restore-") as private:
        opened = Path(private) / _DUMP
        open_file(folder / (_DUMP + SUFFIX), opened, recovery_key)
        yield opened


def begin_life(connection: psycopg.Connection[Any], epoch: str, now_ms: int) -> None:
    """Begin another life of a database that was put back: its epoch, and revisions that no earlier life has given.

    Stations and phones bring edits that name revisions of the life that was lost. Two lives that come of one backup are
    told apart by the time, where the clock is right; from the one before it each is told apart in any case.
    """
    connection.execute("UPDATE facts SET value = %s WHERE name = 'cloud_epoch'", (epoch,))
    connection.execute(
        "INSERT INTO counters (name, value) VALUES ('life', %s) ON CONFLICT (name) DO UPDATE"
        " SET value = greatest(counters.value + %s, excluded.value)",
        (now_ms, _LIFE_REVISIONS),
    )


def contents(connection: psycopg.Connection[Any]) -> dict[str, Table]:
    """Count and hash every table in the transaction of ``connection``."""
    connection.execute("SET LOCAL extra_float_digits = 3; SET LOCAL timezone = 'UTC'; SET LOCAL bytea_output = 'hex'")
    connection.execute("SET LOCAL search_path = public")
    found: dict[str, Table] = {}
    for schema, name in connection.execute(_TABLES).fetchall():
        row = connection.execute(
            sql.SQL(
                "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM {} AS t"
            ).format(sql.Identifier(schema, name))
        ).fetchone()
        assert row is not None
        found[f"{schema}.{name}"] = Table(row[0], row[1])
    return found


def newest(folder: Path) -> list[Path]:
    """Return the backups in ``folder``, the newest first, by their number."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NUMBERED.fullmatch(path.name)), reverse=True)


def _restore(file: Path, tables: Mapping[str, Table], url: str) -> None:
    _run("pg_restore", url, "--exit-on-error", "--no-owner", "--no-privileges", "--dbname", _name(url), str(file))
    with translated("the restored database"), psycopg.connect(**parameters(url, "outpost-cloud backup")) as connection:
        found = contents(connection)
    if found != tables:
        differing = [name for name in found.keys() | tables.keys() if found.get(name) != tables.get(name)]
        raise DatabaseCorrupt(f"{file}: restored, these tables differ: {', '.join(sorted(differing))}")


@contextlib.contextmanager
def _scratch(url: str) -> Iterator[str]:
    name = f"outpost_proof_{secrets.token_hex(4)}"
    with (
        translated("the database"),
        psycopg.connect(**parameters(url, "outpost-cloud backup"), autocommit=True) as server,
    ):
        try:
            server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except psycopg.errors.InsufficientPrivilege as error:
            raise StoreError(
                "a backup is proved in a database of its own, which this user may not make: ALTER ROLE ... CREATEDB,"
                " or --unproved"
            ) from error
        try:
            yield conninfo.make_conninfo(url, dbname=name)
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _run(program: str, url: str, *arguments: str) -> None:
    """Run a program of PostgreSQL's; its last words come back as StoreError."""
    given = parameters(url, "outpost-cloud")
    environment = {**os.environ, **{_VARIABLES[key]: str(given[key]) for key in _VARIABLES if given.get(key)}}
    try:
        done = subprocess.run(
            [_found(program), *arguments], env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise StoreError(f"{program} is not installed: apt-get install postgresql-client") from error
    if done.returncode:
        raise StoreError(f"{program}: {' '.join(done.stderr.split()[-60:])}")


def _found(program: str) -> str:
    """Return the newest release's program: one that is older than the server refuses to dump it."""
    known = sorted(_BINARIES.glob(f"*/bin/{program}"), key=lambda path: _release(path.parts[4]))
    return str(known[-1]) if known else program


def _release(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _name(url: str) -> str:
    given: Mapping[str, Any] = parameters(url, "")
    return str(given.get("dbname", ""))


def _next(folder: Path) -> int:
    return max((int(path.name.partition("-")[0]) for path in newest(folder)), default=0) + 1


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
