"""Receivers for tests: EarthRanger, Gundi and Movebank over a real loopback connection, well and badly behaved."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

TOKEN = "a-token-of-forty-characters-0123456789ab"
#: Of Movebank, whose people have a name and a password.
LOGIN = f"outpost:{TOKEN}"
#: What the double does with one request: its status, before which it may store, or a lost answer.
Script = Callable[[int], str]


class Double(http.server.ThreadingHTTPServer):
    """Keeps observations as EarthRanger does (by source and second), as Gundi does (by a hash of each one's JSON).

    As Movebank it keeps them by tag and instant.

    ``script`` says what becomes of the n-th request: ``ok``, ``500``, ``429``, ``dropped`` (stored, then no answer),
    ``cut`` (no answer, nothing stored), ``page`` (a login page with 200), ``409`` (stored already by somebody).
    ``poison`` names sources of which a row refuses its whole list.
    """

    daemon_threads = True

    def __init__(self, kind: str, script: Script = lambda _: "ok", poison: frozenset[str] = frozenset()) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.kind = kind
        self.script = script
        self.poison = poison
        self.kept: dict[Any, dict[str, Any]] = {}
        self.bodies: list[bytes] = []
        self.paths: set[str] = set()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def key_of(self, row: dict[str, Any]) -> Any:
        if self.kind == "gundi":
            return hashlib.md5(json.dumps(row).encode()).hexdigest()
        if self.kind == "movebank":
            return row["tag_id"], row["recorded_at"]
        return row["manufacturer_id"], row["recorded_at"][:19]

    def keep(self, rows: list[dict[str, Any]]) -> int:
        new = {self.key_of(row): row for row in rows if self.key_of(row) not in self.kept}
        self.kept |= new
        return len(new)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that were cut on purpose."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Double

    def do_POST(self) -> None:
        double = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        act = double.script(len(double.bodies))
        double.bodies.append(body)
        double.paths.add(self.path)
        rows = json.loads(_file_of(body) if double.kind == "movebank" else body)
        if not self._is_let_in():
            self._answer(401, {"detail": "no"})
        elif act == "cut":
            self.close_connection = True
        elif act in ("500", "429", "404"):
            self._answer(int(act), {"detail": "later"}, {"Retry-After": "7"})
        elif act == "page":
            self._answer(200, None)
        elif any(row.get("manufacturer_id", row.get("source", row.get("tag_id"))) in double.poison for row in rows):
            self._answer(400, {"detail": "one row is wrong"})
        else:
            new = double.keep(rows)
            if act == "dropped":
                self.close_connection = True
            elif act == "409":
                self._answer(409, {"detail": "an observation for this source and second already exists"})
            else:
                self._answer(201 if new else 200, [{"object_id": "x"} for _ in rows])

    def do_GET(self) -> None:
        self.server.paths.add(self.path)
        self._answer(200 if self._is_let_in() else 403, {"api-token": "x"})

    def _is_let_in(self) -> bool:
        if self.server.kind == "gundi":
            return self.headers["apikey"] == TOKEN
        if self.server.kind == "movebank":
            return self.headers["Authorization"] == f"Basic {base64.b64encode(LOGIN.encode()).decode()}"
        return self.headers["Authorization"] == f"Bearer {TOKEN}"

    def _answer(self, status: int, said: Any, headers: dict[str, str] | None = None) -> None:
        content = b"<html>sign in</html>" if said is None else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Keep the tests' output clean."""


def _file_of(form: bytes) -> bytes:
    """Return the file in a form, having seen that its tag is that of each row."""
    names = re.findall(rb'name="(\w+)"', form)
    assert names == [b"operation", b"feed", b"tag", b"data"], names
    fields = dict(re.findall(rb'name="(\w+)"\r\n\r\n(.*?)\r\n--', form))
    found = re.search(rb"application/json\r\n\r\n(.*?)\r\n--", form)
    assert found is not None
    assert {row["tag_id"] for row in json.loads(found[1])} == {fields[b"tag"].decode()}
    assert fields[b"operation"] == b"add-data"
    return found[1]


@contextlib.contextmanager
def receivers() -> Iterator[Callable[..., Double]]:
    """Give what starts receivers; all end with the block."""
    running: list[tuple[Double, threading.Thread]] = []

    def start(kind: str, **options: Any) -> Double:
        double = Double(kind, **options)
        thread = threading.Thread(target=double.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((double, thread))
        return double

    try:
        yield start
    finally:
        for double, thread in running:
            double.shutdown()
            thread.join()
            double.server_close()
