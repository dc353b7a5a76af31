"""Certificates of the cloud: certbot gets and renews them, nginx takes the new one, and nobody's request is lost."""

from __future__ import annotations

import http.client
import http.server
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tests.authority import Authority
from tests.e2e.test_cloud_deploy import DEPLOY, Proxy, serving
from tests.services import free_port, require

pytestmark = pytest.mark.integration

NAME = "cloud.example.org"
READERS = 4


class Box:
    """A server with nginx and certbot, each with files of its own below ``folder``."""

    def __init__(self, folder: Path, behind: int) -> None:
        self.standalone = free_port()
        self.authority = Authority(self._where)
        self.proxy: Proxy | None = None
        self._folder, self._behind = folder, behind
        self._webroot = folder / "www"
        self._webroot.mkdir()
        self._live = folder / "certbot" / "live" / NAME
        programs = folder / "programs"
        programs.mkdir()
        for name, does in (
            ("nginx", f'exec {shutil.which("nginx")} -p {folder} -e stderr -c {folder}/nginx.conf "$@"'),
            ("systemctl", '[ "$*" = "reload nginx" ] && exec nginx -s reload'),
        ):
            (programs / name).write_text(f"#!/bin/sh\n{does}\n")
            (programs / name).chmod(0o755)
        self.path = f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin"
        hooks = folder / "certbot" / "renewal-hooks" / "deploy"
        hooks.mkdir(parents=True)
        shutil.copy(DEPLOY / "certbot-reload", hooks / "outpost-cloud")

    def certbot(self, *words: str, must_work: bool = True) -> str:
        """Run certbot and return what it said."""
        folder = self._folder / "certbot"
        done = subprocess.run(
            [
                "certbot", *words, "--non-interactive", "--config-dir", folder, "--work-dir", folder / "work",
                "--logs-dir", folder / "logs",
            ],
            capture_output=True, text=True, timeout=300, check=False,
            env={"PATH": self.path, "HOME": str(self._folder)},
        )  # fmt: skip
        assert (done.returncode == 0) is must_work, done.stdout + done.stderr
        return done.stdout + done.stderr

    def begin(self) -> None:
        """As README.md says: a first certificate before nginx is there, from then on through nginx."""
        account = ("--server", self.authority.directory, "--agree-tos", "--no-eff-email", "-m", "it@example.org")
        self.certbot("certonly", "--standalone", "--http-01-port", str(self.standalone), "-d", NAME, *account)
        self.proxy = Proxy(self._folder, self._behind, certificate=self._live, webroot=self._webroot)
        self.proxy.wait()
        self.certbot(
            "certonly", "--webroot", "-w", str(self._webroot), "-d", NAME, "--force-renewal",
            "--server", self.authority.directory,
        )  # fmt: skip
        subprocess.run([DEPLOY / "certbot-reload"], check=True, env={"PATH": self.path}, timeout=60)

    def connection(self) -> http.client.HTTPSConnection:
        """Return a new connection that believes the authority alone, for this name."""
        assert self.proxy is not None
        trusting = ssl.create_default_context(cadata=self.authority.root_pem)
        return _Named("127.0.0.1", self.proxy.tls, timeout=60, context=trusting)

    def serial(self) -> int:
        """Return the number of the certificate that is served, after a request that went well."""
        with closing(self.connection()) as connection:
            connection.request("GET", "/api/v1/animals/", headers={"Host": NAME})
            assert isinstance(connection.sock, ssl.SSLSocket)
            shown = connection.sock.getpeercert(binary_form=True)
            assert shown is not None
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, f"/api/v1/animals/ None https {NAME}".encode())
        return x509.load_der_x509_certificate(shown).serial_number

    def serves(self, serial: int) -> None:
        """Wait until new connections get this certificate."""
        deadline = time.monotonic() + 60
        while self.serial() != serial:
            assert time.monotonic() < deadline, "nginx goes on with the old certificate"
            time.sleep(0.02)

    def close(self) -> None:
        if self.proxy is not None:
            self.proxy.close()
        self.authority.close()

    def _where(self, name: str) -> tuple[str, int]:
        assert name == NAME
        return "127.0.0.1", self.standalone if self.proxy is None else self.proxy.plain


class _Named(http.client.HTTPSConnection):
    """Connects to the loopback and asks for the name, as who typed it does."""

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        # it closes the plain socket where the handshake fails
        self.sock = self._context.wrap_socket(self.sock, server_hostname=NAME)  # type: ignore[attr-defined]


class Reader:
    """Asks for something without a pause, each time over a new connection, and keeps what it saw and what failed."""

    def __init__(self, box: Box) -> None:
        self.serials: list[int] = []
        self.failures: list[BaseException] = []
        self._box = box
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._is_over.is_set():
            try:
                self.serials.append(self._box.serial())
            except (AssertionError, OSError, http.client.HTTPException) as error:
                self.failures.append(error)


@pytest.fixture(scope="module")
def behind() -> Iterator[http.server.ThreadingHTTPServer]:
    yield from serving()


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, behind: http.server.ThreadingHTTPServer) -> Iterator[Box]:
    """Give a server that has begun, the same one to all: certbot waits for seconds each time that it is run."""
    require(shutil.which("nginx"), "nginx is not installed: apt-get install nginx-light")
    require(shutil.which("certbot"), "certbot is not installed: apt-get install certbot")
    box = Box(tmp_path_factory.mktemp("box"), behind.server_address[1])
    try:
        box.authority.lifetime = timedelta(days=20)  # certbot renews what ends within thirty
        box.begin()
        box.serves(box.authority.issued[-1])
        yield box
    finally:
        box.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_certificate_is_renewed_while_it_serves_and_no_request_and_no_stream_is_lost(
    box: Box, behind: http.server.ThreadingHTTPServer
) -> None:
    with closing(box.connection()) as stream:
        renew_while_it_is_read(box, stream, behind)


def renew_while_it_is_read(
    box: Box, stream: http.client.HTTPSConnection, behind: http.server.ThreadingHTTPServer
) -> None:
    """Renew with readers and a stream under way: all of them get what they asked for."""
    first, second = box.authority.issued[-2:]
    stream.request("GET", "/api/v1/events", headers={"Host": NAME})
    events = stream.getresponse()
    assert events.read(5) == b"first"

    # the rehearsal proves the way and changes nothing
    said = box.certbot("renew", "--dry-run", "--no-random-sleep-on-renew", "--server", box.authority.directory)
    assert "all simulated renewals succeeded" in said
    assert box.serial() == second

    box.authority.lifetime = timedelta(days=90)
    readers = [Reader(box) for _ in range(READERS)]
    try:
        box.certbot("renew", "--no-random-sleep-on-renew")
        renewed = box.authority.issued[-1]
        assert renewed not in {first, second}
        box.serves(renewed)
    finally:
        for reader in readers:
            reader.stop()
    assert [failure for reader in readers for failure in reader.failures] == []
    seen = [serial for reader in readers for serial in reader.serials]
    assert {second, renewed} <= set(seen) <= {second, renewed}
    # a stream that began under the old certificate goes on to its end
    behind.release.set()  # type: ignore[attr-defined] # a server of ours
    assert events.read() == b"last"
    assert "not yet due" in box.certbot("renew", "--no-random-sleep-on-renew")
    assert box.authority.issued[-1] == renewed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_name_that_does_not_answer_is_given_no_certificate_and_the_old_one_serves_on(box: Box) -> None:
    served = box.serial()
    assert box.proxy is not None
    there, box.proxy.plain = box.proxy.plain, free_port()  # nobody listens where the authority looks
    box.certbot("renew", "--force-renewal", "--no-random-sleep-on-renew", must_work=False)
    assert box.serial() == served == box.authority.issued[-1]
    # a configuration that does not parse is not taken by the hook either
    box.proxy.plain = there
    with box.proxy.spoilt(), pytest.raises(subprocess.CalledProcessError):
        subprocess.run([DEPLOY / "certbot-reload"], check=True, env={"PATH": box.path}, capture_output=True, timeout=60)
    assert box.serial() == served
