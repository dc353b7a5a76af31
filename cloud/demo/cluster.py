"""A PostgreSQL server that belongs to one program: own data, own socket, no TCP, ended with the program.

The server refuses to run as root, so under root it runs as Debian's user ``postgres``. Whoever can enter the socket's
folder is let in without a password, and only the server's user (and root) can enter it.

The data lies in the folder that is asked for. Where the server's user cannot reach it (a checkout in ``/root``), it
lies in ``/var/lib/outpost-demo`` under a name made from that folder's path: the next start finds it again, two
checkouts do not meet, and a reboot does not take it away as it would in ``/tmp``. ``notice`` then says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from cloud.store.database import create_database, drop_database, has_database
from shared.errors import ConfigError

FALLBACK: Final = Path("/var/lib/outpost-demo")
SUPERUSER: Final = "outpost"
SERVER_USER: Final = "postgres"
OLDEST_VERSION: Final = 15
START_S: Final = 60.0
STOP_S: Final = 30.0
#: With TCP off it only names the socket's file.
_PORT: Final = 5432
_DEBIAN: Final = Path("/usr/lib/postgresql")
#: A test's cluster is thrown away: a crash of the machine may take it.
_NOT_DURABLE: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # it would hold up CREATE DATABASE from a template that it is just looking through
    "autovacuum": "off",
}


class PrivateCluster:
    """One server over the data in ``folder``; a context manager that starts and stops it."""

    def __init__(self, folder: Path, *, is_durable: bool = True, fallback: Path = FALLBACK) -> None:
        """Find the programs and the folder; raises ConfigError naming the packages that are missing."""
        self._user = _server_user()
        self._is_durable = is_durable
        #: where the data really lies, and a sentence about it where that is not what was asked for
        self.folder, self.notice = _reachable(folder.absolute(), fallback, self._user)
        self._data = self.folder / "data"
        self._log = self.folder / "server.log"
        self._bin = _programs(_version_of(self._data))
        self._socket: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        """Say whether the server's first process lives."""
        return self._server is not None and self._server.poll() is None

    @property
    def pid(self) -> int | None:
        """The server's first process; None when it does not run."""
        return self._server.pid if self._server is not None and self.is_running else None

    def start(self) -> None:
        """Start the server, making its data at the first start and recovering after an unclean end.

        Returns when it takes connections. Raises ConfigError with the end of its log where it does not.
        """
        if self.is_running:
            return
        self._claim()
        try:
            if not self._data.exists():
                self._initialise()
            self._end_orphan()
            self._make_socket_folder()
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server in order: sessions are ended, everything is on disk. The socket's folder goes."""
        if self._server is not None:
            # SIGINT is its "fast" shutdown, SIGQUIT the "immediate" one, which leaves recovery to the next start
            for how, patience_s in ((signal.SIGINT, STOP_S), (signal.SIGQUIT, 5.0)):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._server.send_signal(how)
                    self._server.wait(patience_s)
                    break
            else:
                self.kill()
            self._server = None
        if self._socket is not None:
            shutil.rmtree(self._socket, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def kill(self) -> None:
        """End every process of the server at once, as a power cut would; ``start`` recovers, at the same address."""
        if self._server is None:
            return
        # held still, it can neither start another process nor notice that one has gone
        self._server.send_signal(signal.SIGSTOP)
        children = _children(self._server.pid)
        self._server.kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._server.wait()
        self._server = None
        _wait(lambda: not any(_is_alive(child) for child in children), STOP_S, "the server's processes do not end")

    def url(self, database: str = "postgres") -> str:
        """Return the DATABASE_URL of ``database``; it stays the same as long as this object lives."""
        return f"postgresql://{SUPERUSER}@/{database}?host={self._socket_folder()}&port={_PORT}"

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database, as a copy of ``template`` if one is named."""
        create_database(self.url(), name, template)

    def has_database(self, name: str) -> bool:
        """Say whether there is a database of that name."""
        return has_database(self.url(), name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        drop_database(self.url(), name)

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of the server's log."""
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def _claim(self) -> None:
        """Take the folder for this program; the kernel gives it back however the program ends."""
        if self._lock is not None:
            return
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise ConfigError(
                f"{self.folder}: another program runs the database in this folder; end it first"
            ) from error
        self._lock = lock

    def _initialise(self) -> None:
        # under another name until it is whole: an initdb that was cut short leaves something that no server starts from
        unfinished = self.folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        options = ["--encoding=UTF8", f"--locale={_locale()}", f"--username={SUPERUSER}", "--no-instructions"]
        options += ["--auth-local=trust", "--auth-host=reject"]
        if not self._is_durable:
            options.append("--no-sync")
        done = self._run([self._bin / "initdb", "-D", unfinished, *options])
        if done.returncode != 0:
            raise ConfigError(f"initdb failed in {self.folder}:\n{done.stdout.decode(errors='replace').strip()}")
        unfinished.rename(self._data)

    def _end_orphan(self) -> None:
        """End a server that outlived the program it belonged to; the folder is ours, so nobody else needs it."""
        file = self._data / "postmaster.pid"
        try:
            pid = int(file.read_text(encoding="ascii").splitlines()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return
        if not _is_alive(pid):
            return  # the server itself clears what a dead one left
        if not _serves(pid, self._data):
            # another process has got the number since; a server would take it for one of its own and refuse to start
            file.unlink()
            return
        os.kill(pid, signal.SIGINT)
        try:
            _wait(lambda: not _is_alive(pid), STOP_S, "")
        except ConfigError:
            os.kill(pid, signal.SIGQUIT)
            _wait(lambda: not _is_alive(pid), STOP_S, f"the server {pid} of {self._data} does not end")

    def _socket_folder(self) -> Path:
        if self._socket is None:
            # short, whatever the data's path is: the kernel takes 107 bytes
            self._socket = Path(tempfile.mkdtemp(prefix="outpost-pg-", dir="/tmp"))
        return self._socket

    def _make_socket_folder(self) -> None:
        folder = self._socket_folder()
        if folder.exists():
            for left in folder.iterdir():  # of a server that was killed
                left.unlink()
        else:
            folder.mkdir(mode=0o700)
        _give(folder, self._user)

    def _launch(self) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_folder()),
            "unix_socket_permissions": "0700",
            "port": str(_PORT),
            "max_connections": "60",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_destination": "stderr",
            "logging_collector": "off",
            **({} if self._is_durable else _NOT_DURABLE),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,  # Ctrl-C reaches only us
                **_as(self._user),
            )
        _wait(self._is_ready, START_S, f"PostgreSQL does not answer; see {self._log}", pause_s=0.01)

    def _is_ready(self) -> bool:
        assert self._server is not None
        if self._server.poll() is not None:
            raise ConfigError(f"PostgreSQL has stopped while starting:\n{self.log_tail()}")
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        # line 1 is the process, line 8 its state: what pg_ctl --wait reads
        return len(lines) >= 8 and lines[0] == str(self._server.pid) and lines[7].strip() == "ready"

    def _run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            command,
            check=False,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **_as(self._user),
        )


def _server_user() -> pwd.struct_passwd | None:
    """Return whom the server runs as; None is ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SERVER_USER)
    except KeyError as error:
        raise ConfigError(
            f"there is no user {SERVER_USER}, and PostgreSQL refuses to run as root: {_install()}"
        ) from error


def _as(user: pwd.struct_passwd | None) -> dict[str, Any]:
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _install(version: int | None = None) -> str:
    if version is None:
        return "sudo apt-get install --no-install-recommends postgresql postgresql-postgis"
    return f"sudo apt-get install --no-install-recommends postgresql-{version} postgresql-{version}-postgis-3"


def _version_of(data: Path) -> int | None:
    """Return the major version that made ``data``; None where there is none yet."""
    try:
        return int((data / "PG_VERSION").read_text(encoding="ascii"))
    except FileNotFoundError:
        return None


def _programs(version: int | None) -> Path:
    """Return the folder of the newest server that has PostGIS, or of ``version``, which made the data."""
    found: dict[int, Path] = {}
    for folder in (*_DEBIAN.glob("*/bin"), *(Path(entry) for entry in os.get_exec_path())):
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            said = subprocess.run(
                [folder / "postgres", "--version"], capture_output=True, text=True, check=False
            ).stdout
            if match := re.search(r"\b(\d+)(?:\.|devel|beta|rc)", said):
                found.setdefault(int(match[1]), folder)
    if version is not None:
        if version not in found:
            raise ConfigError(f"the data was made by PostgreSQL {version}, which is not installed: {_install(version)}")
        found = {version: found[version]}
    if not found:
        raise ConfigError(f"PostgreSQL is not installed: {_install()}")
    newest = max(found)
    if newest < OLDEST_VERSION:
        raise ConfigError(f"PostgreSQL {newest} is too old: at least {OLDEST_VERSION}")
    spatial = [number for number, folder in found.items() if number >= OLDEST_VERSION and _has_postgis(number, folder)]
    if not spatial:
        raise ConfigError(f"PostGIS is not installed for PostgreSQL {newest}: {_install(newest)}")
    return found[max(spatial)]


def _has_postgis(version: int, folder: Path) -> bool:
    shares = [Path("/usr/share/postgresql") / str(version)]
    if (folder / "pg_config").exists():
        said = subprocess.run([folder / "pg_config", "--sharedir"], capture_output=True, text=True, check=False).stdout
        shares.insert(0, Path(said.strip()))
    return any((share / "extension" / "postgis.control").exists() for share in shares)


def _locale() -> str:
    """Return the locale that knows all letters and orders by code point, or plain C where it is not built."""
    try:
        said = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return "C"
    return "C.UTF-8" if {"C.UTF-8", "C.utf8"} & set(said.split()) else "C"


def _reachable(wanted: Path, fallback: Path, user: pwd.struct_passwd | None) -> tuple[Path, str | None]:
    """Return a folder that the server's user owns and can enter, and why it is not ``wanted`` if it is not."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    if _may_enter(wanted.parent, user):
        _own(wanted, user)
        return wanted, None
    assert user is not None
    fallback.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not _may_enter(fallback, user):
        raise ConfigError(f"the user {user.pw_name} can enter neither {wanted.parent} nor {fallback}")
    folder = fallback / hashlib.sha256(os.fsencode(wanted.resolve())).hexdigest()[:12]
    _own(folder, user)
    return folder, f"The database's files are in {folder}: the user {user.pw_name} may not enter {wanted.parent}."


def _may_enter(folder: Path, user: pwd.struct_passwd | None) -> bool:
    """Ask the kernel, which also knows access lists."""
    return subprocess.run(["test", "-x", folder], check=False, cwd="/", **_as(user)).returncode == 0


def _own(folder: Path, user: pwd.struct_passwd | None) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    # a folder of somebody else's, or a link put there by one, would hand them the data
    if folder.is_symlink() or folder.stat().st_uid not in {os.geteuid(), *(() if user is None else (user.pw_uid,))}:
        raise ConfigError(f"{folder} belongs to somebody else")
    folder.chmod(0o700)
    _give(folder, user)


def _give(folder: Path, user: pwd.struct_passwd | None) -> None:
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)


def _wait(condition: Callable[[], bool], patience_s: float, otherwise: str, *, pause_s: float = 0.02) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise ConfigError(otherwise)
        time.sleep(pause_s)


def _children(parent: int) -> list[int]:
    processes = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return [pid for pid in processes if _parent_and_state(pid)[0] == parent]


def _parent_and_state(pid: int) -> tuple[int, str]:
    """Return a process's parent and the letter of its state; (0, "") where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0, ""
    state, parent = text.rpartition(")")[2].split()[:2]  # the name in brackets may hold anything
    return int(parent), state


def _is_alive(pid: int) -> bool:
    return _parent_and_state(pid)[1] not in ("", "Z", "X")


def _serves(pid: int, data: Path) -> bool:
    """Say whether process ``pid`` is a server over ``data``."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return os.fsencode(data) in words and Path(os.fsdecode(words[0])).name in ("postgres", "postmaster")
