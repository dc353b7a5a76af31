"""``outpost-cloud run`` as a process of its own over a durable PostgreSQL, both to be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from cloud.accounts.secret import make_secret
from cloud.demo.cluster import PrivateCluster
from cloud.store.migrate import migrate
from tests.access import operator_of_cloud
from tests.faults.station_process import GUARD_S, until
from tests.services import free_port
from tests.tied import tied


class CloudProcess:
    """The cloud's program at a ``host`` and on a port that stay the same, its database in ``folder``."""

    def __init__(self, folder: Path, *, host: str = "127.0.0.1", **settings: object) -> None:
        self.host = host
        self._settings = {f"OUTPOST_{name.upper()}": str(value) for name, value in settings.items()}
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._log = folder / "cloud.log"
        # pytest's own folders may not be entered by the server's user
        self._base = Path(tempfile.mkdtemp(prefix="outpost-cloud-"))
        self._base.chmod(0o755)
        self.cluster = PrivateCluster(self._base / "postgres")
        self.port = free_port()
        self.url = f"http://{host}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._worker: subprocess.Popen[bytes] | None = None
        self.key_file = folder / "cloud.key"
        make_secret(self.key_file)
        #: makes a client its operator
        self.auth = operator_of_cloud(self.key_file)

    def create(self) -> None:
        """Start the database and bring it to the schema."""
        self.cluster.start()
        self.cluster.create_database("outpost")
        migrate(self.database_url)

    @property
    def database_url(self) -> str:
        """The address of its database."""
        return self.cluster.url("outpost")

    def start(self, within_s: float = GUARD_S) -> None:
        """Start the program and wait until it answers."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [_program(), "run", "--port", str(self.port)], env=self._environment(), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._process = tied(process)
        until(self._is_ready, "the cloud's readiness", within_s)

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(20)
            self._process = None

    def start_worker(self) -> None:
        """Start a worker of its own, to be killed."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [_program(), "worker"], env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._worker = tied(process)

    def kill_both(self) -> None:
        """End program and worker with SIGKILL, neither before the other is hit."""
        for process in (self._worker, self._process):
            if process is not None:
                process.send_signal(signal.SIGKILL)
        for process in (self._worker, self._process):
            if process is not None:
                process.wait(20)
        self._worker = self._process = None

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Run a worker of its own while the block lasts."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [_program(), "worker"], env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        tied(process)
        try:
            yield
        finally:
            process.terminate()
            process.wait(GUARD_S)

    def close(self) -> None:
        """End all of it."""
        self.kill_both()
        self.cluster.stop()
        shutil.rmtree(self._base)

    def command(self, *words: str) -> Any:
        """Run another command of the program and return the facts that it prints."""
        done = subprocess.run(
            [_program(), *words, "--json"], env=self._environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(statement.encode()).fetchall()

    def tail(self, lines: int = 20) -> str:
        """Return the last lines of the program's log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DATABASE_URL": self.database_url,
            "OUTPOST_ACCOUNTS_KEY_FILE": str(self.key_file),
            "OUTPOST_API_HOST": self.host,
            **self._settings,
        }

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.tail()
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=2).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


def _program() -> Path:
    return Path(sys.executable).parent / "outpost-cloud"
