"""/metrics in Prometheus's text format: for a collector on this machine, or one with an API key of ``metrics:read``.

No label names an animal, a collar or a place, so that who reads the figures learns nothing of where anything is. What a
home counts of itself is asked for when somebody looks; only requests are counted as they come.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Final

from litestar import Response, get
from litestar.di import Dependency
from litestar.params import SkipValidationMarker
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0)

#: What a home tells of itself now.
Told = Callable[[], Awaitable[Iterable[Metric]]]


async def nothing_told() -> Iterable[Metric]:
    """Tell nothing."""
    return ()


class Metrics:
    """The figures of one home."""

    def __init__(self, told: Told = nothing_told) -> None:
        self._told = told
        self._registry = CollectorRegistry()
        ProcessCollector(namespace="outpost", registry=self._registry)
        self._requests = Counter(
            "outpost_http_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "outpost_http_request_seconds", "Until an answer began.", ("method", "route"), buckets=_BUCKETS,
            registry=self._registry,
        )  # fmt: skip

    def served(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count an answer; ``route`` is a template, so there are as many as there are routes."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(took_s)

    async def text(self) -> bytes:
        """Return all figures."""
        now = CollectorRegistry()
        now.register(_Now(tuple(await self._told())))
        return generate_latest(self._registry) + generate_latest(now)


class _Now(Collector):
    """Hands on figures that were asked for before."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._metrics


def gauge(name: str, help_: str, value: float | None) -> Iterable[Metric]:
    """Return a figure that goes up and down; nothing where it is not known."""
    return () if value is None else (GaugeMetricFamily(f"outpost_{name}", help_, value=value),)


def gauges(name: str, help_: str, label: str, values: Mapping[str, float]) -> Iterable[Metric]:
    """Return a figure for each value of a label."""
    family = GaugeMetricFamily(f"outpost_{name}", help_, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return (family,)


def counters(name: str, help_: str, label: str, values: Mapping[str, float]) -> Iterable[Metric]:
    """Return a figure that only goes up, for each value of a label."""
    family = CounterMetricFamily(f"outpost_{name}", help_, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return (family,)


MetricsGiven = Annotated[Metrics, Dependency(kind="named"), SkipValidationMarker()]


@get("/metrics", include_in_schema=False)
async def read_metrics(metrics: MetricsGiven) -> Response[bytes]:
    """Return the home's figures."""
    return Response(await metrics.text(), media_type=CONTENT_TYPE)
