"""Traces: a collector gets a span for each request, by its route, and nothing of what was asked."""

from __future__ import annotations

import gzip
import http.server
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud.accounts.secret import make_secret
from cloud.app import running
from cloud.config import AccountsSection, Config, DatabaseSection, TracesSection, load
from shared.errors import ConfigError
from tests.fakes import FakeClock
from tests.services import free_port

pytestmark = pytest.mark.integration

sdk = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """Takes OTLP over HTTP, as a collector does; what came is in ``spans``."""

    def __init__(self) -> None:
        self.spans: queue.Queue[Any] = queue.Queue()
        self.raw: list[bytes] = []
        outer = self

        class Taking(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                outer.raw.append(body)
                for resource in sdk.ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        for span in scope.spans:
                            outer.spans.put(span)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Taking)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@asynccontextmanager
async def traced_cloud(database_url: str, folder: Path, url: str) -> AsyncIterator[httpx.AsyncClient]:
    make_secret(folder / "cloud.key")
    config = Config(
        database=DatabaseSection(url=database_url, pool_min=1, pool_max=2),
        accounts=AccountsSection(key_file=folder / "cloud.key"), traces=TracesSection(url=url),
    )  # fmt: skip
    async with (
        running(config, clock=FakeClock(), port=0) as (at, _),
        httpx.AsyncClient(base_url=at) as client,
    ):
        yield client


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_a_span_has_route_status_and_request_and_nothing_of_what_was_asked(
    database_url: str, tmp_path: Path, collector: Collector
) -> None:
    async with traced_cloud(database_url, tmp_path, collector.url) as client:
        first = await client.get("/api/v1/animals/mkubwa-77/", params={"search": "37.26063"})
        second = await client.get("/health/live", headers={"traceparent": CALLER})
        assert (first.status_code, second.status_code) == (401, 200)
    found = {span.name: span for span in (collector.spans.get(timeout=120) for _ in range(2))}
    assert set(found) == {"GET /api/v1/animals/{animal_id}", "GET /health/live"}
    span = found["GET /api/v1/animals/{animal_id}"]
    assert attributes(span) == {
        "http.request.method": "GET", "http.route": "/api/v1/animals/{animal_id}", "http.response.status_code": 401,
        "outpost.request_id": first.headers["X-Request-ID"],
    }  # fmt: skip
    assert span.end_time_unix_nano >= span.start_time_unix_nano > 0
    assert found["GET /health/live"].trace_id.hex() in CALLER, "it goes on in what the caller began"
    assert all(secret not in body for body in collector.raw for secret in (b"mkubwa", b"37.26"))


async def test_a_collector_that_is_not_there_costs_no_answer(database_url: str, tmp_path: Path) -> None:
    async with traced_cloud(database_url, tmp_path, f"http://127.0.0.1:{free_port()}/v1/traces") as client:
        assert (await client.get("/health/ready")).status_code == 200


@pytest.mark.parametrize(("said", "word"), [("url = 'collector:4318'", "traces.url"), ("share = 2.0", "traces.share")])
def test_a_collector_that_cannot_be_is_refused(tmp_path: Path, said: str, word: str) -> None:
    (tmp_path / "cloud.toml").write_text(f"[traces]\n{said}\n")
    with pytest.raises(ConfigError, match=word):
        load(tmp_path / "cloud.toml")
