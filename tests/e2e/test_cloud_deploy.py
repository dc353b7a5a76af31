"""What runs a cloud on a server: units that expose little, a proxy that passes on what the service needs."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import re
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import free_port, require

pytestmark = pytest.mark.integration

DEPLOY = Path(__file__).resolve().parents[2] / "cloud" / "deploy"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", ["outpost-cloud", "outpost-cloud-worker", "outpost-cloud-backup"])
def test_a_unit_is_exposed_less_than_3(name: str) -> None:
    require(shutil.which("systemd-analyze"), "systemd-analyze is not installed: apt-get install systemd")
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=30", DEPLOY / f"{name}.service")
    assert done.returncode == 0, done.stdout + done.stderr


class Behind(http.server.BaseHTTPRequestHandler):
    """In the place of the service: says what reached it, in parts where it is asked for a stream."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/api/v1/events"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nfirst\r\n")
            self.wfile.flush()
            self.server.release.wait(20)  # type: ignore[attr-defined] # a server of ours
            self.wfile.write(b"4\r\nlast\r\n0\r\n\r\n")
            return
        self._say(f"{self.path} {self.headers['Range']} {self.headers['X-Forwarded-Proto']} {self.headers['Host']}")

    def do_POST(self) -> None:
        taken = len(self.rfile.read(int(self.headers["Content-Length"])))
        self._say(str(taken))

    def _say(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Proxy:
    """nginx with the shipped configuration, on ports and with a certificate of the test's own."""

    def __init__(
        self, folder: Path, behind: int, *, certificate: Path | None = None, webroot: Path = Path("/var/www/certbot")
    ) -> None:
        """``certificate`` is a folder of certbot's; without one nginx gets a certificate that signs itself."""
        self.tls, self.plain = free_port(), free_port()
        if certificate is None:
            certificate = folder
            made = run(
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-days", "1", "-subj", "/CN=cloud.example.org", "-keyout", folder / "privkey.pem", "-out",
                folder / "fullchain.pem",
            )  # fmt: skip
            assert made.returncode == 0, made.stderr
        text = (DEPLOY / "nginx.conf").read_text()
        for pattern, to in (
            (r"\t*listen \[::\].*\n", ""), ("listen 80;", f"listen 127.0.0.1:{self.plain};"),
            ("listen 443 ", f"listen 127.0.0.1:{self.tls} "), ("127.0.0.1:8000", f"127.0.0.1:{behind}"),
            ("/etc/letsencrypt/live/cloud.example.org/", f"{certificate}/"),
            ("root /var/www/certbot;", f"root {webroot};"),
        ):  # fmt: skip
            text, changed = re.subn(pattern, to, text)
            assert changed, pattern
        temporary = "".join(
            f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        self._config = folder / "nginx.conf"
        self._config.write_text(
            f"pid {folder}/pid;\nerror_log stderr;\ndaemon off;\n{'user root;' if os.geteuid() == 0 else ''}\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{text}}}\n"
        )
        self._process = subprocess.Popen(
            ["nginx", "-p", folder, "-e", "stderr", "-c", self._config], stderr=subprocess.PIPE
        )

    def ask(self) -> http.client.HTTPSConnection:
        unchecked = ssl.create_default_context()
        unchecked.check_hostname = False
        unchecked.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.tls, timeout=120, context=unchecked)

    def wait(self) -> None:
        deadline = time.monotonic() + 10
        while True:
            assert self._process.poll() is None, self._process.stderr and self._process.stderr.read().decode()
            try:
                connection = self.ask()
                connection.connect()
                connection.close()
            except OSError:
                assert time.monotonic() < deadline, "nginx does not listen"
                time.sleep(0.02)
            else:
                return

    @contextlib.contextmanager
    def spoilt(self) -> Iterator[None]:
        """Its configuration does not parse, as a context."""
        sound = self._config.read_text()
        self._config.write_text(f"{sound}nonsense {{\n")
        try:
            yield
        finally:
            self._config.write_text(sound)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=120)
        assert self._process.stderr is not None
        self._process.stderr.close()


def serving() -> Iterator[http.server.ThreadingHTTPServer]:
    """Run ``Behind`` on a free port; its ``release`` ends the stream."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Behind)
    server.release = threading.Event()  # type: ignore[attr-defined] # asked for by the handler
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.release.set()  # type: ignore[attr-defined] # as above
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def behind() -> Iterator[http.server.ThreadingHTTPServer]:
    yield from serving()


@pytest.fixture
def proxy(tmp_path: Path, behind: http.server.ThreadingHTTPServer) -> Iterator[Proxy]:
    require(shutil.which("nginx"), "nginx is not installed: apt-get install nginx-light")
    proxy = Proxy(tmp_path, behind.server_address[1])
    try:
        proxy.wait()
        yield proxy
    finally:
        proxy.close()


def told(proxy: Proxy, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    connection = proxy.ask()
    connection.request("GET", path, headers={"Host": "cloud.example.org", **(headers or {})})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_the_proxy_passes_range_and_scheme_on_and_keeps_the_inside_in(proxy: Proxy) -> None:
    assert told(proxy, "/api/v1/tiles/a", {"Range": "bytes=0-9"}) == (
        200, "/api/v1/tiles/a bytes=0-9 https cloud.example.org",
    )  # fmt: skip
    assert told(proxy, "/health/detail")[0] == 404
    assert told(proxy, "/metrics")[0] == 404
    plain = http.client.HTTPConnection("127.0.0.1", proxy.plain, timeout=120)
    plain.request("GET", "/a?b=1", headers={"Host": "cloud.example.org"})
    answer = plain.getresponse()
    assert (answer.status, answer.headers["Location"]) == (308, "https://cloud.example.org/a?b=1")
    plain.close()


def test_the_proxy_holds_no_event_back(proxy: Proxy, behind: http.server.ThreadingHTTPServer) -> None:
    connection = proxy.ask()
    connection.request("GET", "/api/v1/events")
    answer = connection.getresponse()
    assert answer.read(5) == b"first", "before the stream ends"
    behind.release.set()  # type: ignore[attr-defined] # a server of ours
    assert answer.read() == b"last"
    connection.close()


def test_the_proxy_takes_bodies_of_a_hundred_megabytes_and_no_more(proxy: Proxy) -> None:
    for size, status in ((90 * 2**20, 200), (101 * 2**20, 413)):
        connection = proxy.ask()
        connection.request("POST", "/api/v1/blobs/x", body=None, headers={"Content-Length": str(size)})
        try:
            for _ in range(size // 2**20):
                connection.send(bytes(2**20))
        except OSError:
            assert status == 413
        assert connection.getresponse().status == status
        connection.close()


def test_the_proxy_slows_down_who_tries_passwords(proxy: Proxy) -> None:
    statuses = [told(proxy, "/api/v1/auth/login/")[0] for _ in range(30)]
    assert statuses[:5] == [200] * 5
    assert 429 in statuses
