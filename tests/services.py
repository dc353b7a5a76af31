"""Real services that a test starts for itself and that end with it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from cloud.demo.cluster import PrivateCluster
from cloud.store.migrate import migrate
from shared.errors import ConfigError
from tests.tied import tied


def require(condition: object, reason: str) -> None:
    """Skip the test where ``condition`` does not hold; fail it where REQUIRE_SERVICES=1 says that it must."""
    if condition:
        return
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """Return a TCP port of the loopback that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Broker:
    """A Mosquitto on a free port of the loopback, with its files in ``folder``.

    ``is_persistent`` writes every change to disk, so that sessions survive ``kill``; otherwise a killed broker forgets.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        *,
        is_persistent: bool = True,
        has_tls: bool = False,
        options: tuple[str, ...] = (),
        is_anonymous: bool = True,
    ) -> None:
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        require(program, "mosquitto is not installed: apt-get install mosquitto")
        assert program is not None
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"listener {self.port} {self.host}",
            f"allow_anonymous {'true' if is_anonymous else 'false'}",
            "max_queued_messages 0",
            "set_tcp_nodelay true",
            *options,
        ]
        #: the certificate that signs itself, and so the authority to believe
        self.certificate = folder / "broker.pem"
        if has_tls:
            self._make_certificate()
            lines += [f"certfile {self.certificate}", f"keyfile {folder / 'broker.key'}"]
        if is_persistent:
            lines += [
                "persistence true",
                f"persistence_location {folder}/",
                "autosave_on_changes true",
                "autosave_interval 1",
            ]
        if os.geteuid() == 0:
            lines.append("user root")
        self._config = folder / "mosquitto.conf"
        self._config.write_text("\n".join(lines) + "\n")

    @property
    def is_running(self) -> bool:
        """Say whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it listens."""
        log = (self._folder / "mosquitto.log").open("ab")
        try:
            command = [self._program, "-c", str(self._config)]
            self._process = tied(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        finally:
            log.close()
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self._folder / "mosquitto.log").read_text()
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        pytest.fail("mosquitto does not listen")

    def kill(self) -> None:
        """End it as a power cut would: no goodbye, nothing saved."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order: what it holds is saved where it is persistent."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Have it stand still with its connections open, until ``thaw``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on after ``freeze``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop and start on the same port."""
        self.stop()
        self.start()

    def _make_certificate(self) -> None:
        openssl = shutil.which("openssl")
        require(openssl, "openssl is not installed: apt-get install openssl")
        key = self._folder / "broker.key"
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-days", "1", "-subj", "/CN=broker", "-addext", f"subjectAltName=IP:{self.host}",
                "-keyout", str(key), "-out", str(self.certificate),
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip
        # A broker that starts as root may read its key as another user.
        key.chmod(0o644)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=120)
            self._process = None


class Postgres:
    """A PostgreSQL with PostGIS on a socket of its own, for as many databases as tests ask for; nothing of it stays.

    A database with the cloud's schema is a copy of a template that is migrated once, when the first one is wanted.
    """

    _TEMPLATE = "template_cloud"

    def __init__(self) -> None:
        # not in pytest's folder, which the server's user may not enter
        self._folder = Path(tempfile.mkdtemp(prefix="outpost-test-pg-"))
        self._folder.chmod(0o755)
        try:
            self.cluster = PrivateCluster(self._folder / "cluster", is_durable=False)
        except ConfigError as error:
            self._folder.rmdir()
            require(False, error.detail)
        self._made = 0
        self._has_template = False

    def start(self) -> None:
        """Start it."""
        self.cluster.start()

    def stop(self) -> None:
        """End it and remove all it held."""
        self.cluster.stop()
        shutil.rmtree(self._folder)

    def create(self, *, is_migrated: bool = True) -> str:
        """Make a database, with the cloud's schema or with nothing at all, and return its URL."""
        if is_migrated and not self._has_template:
            self.cluster.create_database(self._TEMPLATE)
            migrate(self.cluster.url(self._TEMPLATE))
            self._has_template = True
        self._made += 1
        name = f"test_{self._made}"
        self.cluster.create_database(name, self._TEMPLATE if is_migrated else None)
        return self.cluster.url(name)

    def copy(self, url: str) -> str:
        """Make a database that is what the one at ``url`` is, to which nobody may be connected; return its URL."""
        self._made += 1
        name = f"test_{self._made}"
        self.cluster.create_database(name, _name_in(url))
        return self.cluster.url(name)

    def drop(self, url: str) -> None:
        """Remove a database that ``create`` or ``copy`` made, whoever is still connected."""
        self.cluster.drop_database(_name_in(url))


def _name_in(url: str) -> str:
    return url.partition("@/")[2].partition("?")[0]
