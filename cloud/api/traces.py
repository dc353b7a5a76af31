"""Traces for an OpenTelemetry collector, where one is named: a span for each request, and nothing of what it asked.

A span has the method, the route with its {names}, the status and the id that the log's lines of the request carry. No
path, query, address or body: an id or a box on the map is nobody's business there. The libraries are an extra of the
distribution and are imported when a collector is named; one that is not reached costs spans and no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

#: The last spans are handed over as the service ends, for so long at most.
_FLUSH_MS: Final = 3_000
_EXPORT_S: Final = 5
_FIRST_FAULT: Final = 500
_REQUEST_ID: Final = b"x-request-id"


@contextlib.asynccontextmanager
async def traced(app: ASGIApp, url: str, share: float) -> AsyncIterator[ASGIApp]:
    """The application with a span around each request, as a context; as it is where no collector is named.

    ``share`` of the requests of which nobody else has decided are traced.
    """
    if not url:
        yield app
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"traces.url: {error.name} is not installed; pip install opentelemetry-sdk"
            " opentelemetry-exporter-otlp-proto-http, or leave traces.url empty"
        ) from error
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(share)),
        resource=Resource({"service.name": "outpost-cloud", "service.version": version("outpost")}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url, timeout=_EXPORT_S)))
    try:
        yield _Traced(app, provider.get_tracer("outpost"))
    finally:
        await asyncio.to_thread(provider.force_flush, _FLUSH_MS)
        await asyncio.to_thread(provider.shutdown)


class _Traced:
    """An application with a span around each request; what a proxy began goes on in it (``traceparent``)."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        began = TraceContextTextMapPropagator().extract(headers)
        method = str(scope.get("method", ""))
        with self._tracer.start_as_current_span(
            method, context=began, kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:

            async def send_noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    span.set_attribute("http.response.status_code", status)
                    names: dict[bytes, Any] = {name.lower(): value for name, value in message["headers"]}
                    span.set_attribute("outpost.request_id", names.get(_REQUEST_ID, b"").decode("latin-1"))
                    if status >= _FIRST_FAULT:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, send_noted)
            finally:
                # known once the request has been routed
                route = str(scope.get("path_template") or "")
                span.set_attribute("http.request.method", method)
                span.set_attribute("http.route", route)
                span.update_name(f"{method} {route}".rstrip())
