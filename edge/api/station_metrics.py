"""What a station's figures are, out of what it tells of its health."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from prometheus_client.core import Metric

from edge.api.health import HealthDetail, HealthSource
from shared.api.metrics import Told, counters, gauge, gauges

_STATES = ("ok", "degraded", "failing")


def station_metrics(health: HealthSource) -> Told:
    """Return what tells a station's figures."""

    async def told() -> Iterable[Metric]:
        return tuple(_of(await health.detail()))

    return told


def _of(detail: HealthDetail) -> Iterable[Metric]:
    now = detail.clock.now
    yield from gauges(
        "health", "1 for the state that the station is in.", "state",
        {state: float(state == detail.status) for state in _STATES},
    )  # fmt: skip
    yield from gauge("uptime_seconds", "Since the start.", detail.uptime_s)
    yield from gauge("clock_sure", "1 where the clock is sure.", float(detail.clock.is_sure))
    yield from gauge("clock_uncertainty_seconds", "Error to expect of the clock.", detail.clock.uncertainty_s)
    yield from gauge("disk_free_bytes", "Room on the medium of the data.", detail.disk.free_bytes)
    yield from gauge("disk_total_bytes", "Size of the medium of the data.", detail.disk.total_bytes)
    yield from gauge("ledger_frames", "Frames kept.", detail.ledger.frames)
    yield from gauge("ledger_pending", "Frames that wait to be decoded.", detail.ledger.pending)
    yield from gauge("ledger_undecoded", "Frames that no codec can read.", detail.ledger.undecoded)
    yield from gauge("store_fixes", "Fixes stored.", detail.store.fixes)
    yield from gauge("store_bytes", "Size of database and ledger.", detail.store.size_bytes)
    yield from gauges("link_up", "1 where a link is up.", "link", {e.name: float(e.is_up) for e in detail.links})
    for name, help_, of in (
        ("link_frames", "Frames heard since the start.", "frames"),
        ("link_damaged_frames", "Frames whose sum was wrong.", "damaged_frames"),
        ("link_skipped_bytes", "Bytes of noise between frames.", "skipped_bytes"),
        ("link_reconnects", "Times that a link was opened again.", "reconnects"),
    ):
        yield from counters(name, help_, "link", {each.name: getattr(each, of) for each in detail.links})
    if detail.pipeline is not None:
        yield from gauge("pipeline_owed", "Animals that the models owe something to.", detail.pipeline.owed)
        yield from gauge("pipeline_refused_models", "Models that were refused.", len(detail.pipeline.refused))
    if detail.cloud is not None:
        waiting = {channel: float(each.items) for channel, each in detail.cloud.waiting.items()}
        yield from gauges("cloud_waiting", "What waits for the cloud.", "channel", waiting)
        yield from gauge("cloud_receipt_age_seconds", "Since the last receipt.", detail.cloud.last_receipt_age_s)
    if detail.backup is not None:
        made = {"hourly": detail.backup.last_hourly_at, "daily": detail.backup.last_daily_at}
        ages = {kind: _age_s(now, at) for kind, at in made.items() if at is not None}
        yield from gauges("backup_age_seconds", "Since the last proved backup.", "kind", ages)
        yield from gauge(
            "backup_failing", "1 where the last round failed.", float(detail.backup.last_error is not None)
        )


def _age_s(now: datetime, at: datetime) -> float:
    return (now - at).total_seconds()
