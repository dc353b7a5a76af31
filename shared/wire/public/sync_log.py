"""What synchronisation did and what waits, in the original platform's shapes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from shared.sync.log import Item, Session, Status, Totals
from shared.sync.records import from_ms


class SyncLogOut(Struct, frozen=True, kw_only=True):
    """One session."""

    id: str
    device_id: str
    total_items: int
    synced_items: int
    conflict_items: int
    failed_items: int
    started_at: datetime
    completed_at: datetime
    duration_seconds: float

    @classmethod
    def of(cls, session: Session) -> SyncLogOut:
        """Return the public form of ``session``."""
        return cls(
            id=session.id,
            device_id=session.device_id,
            total_items=session.total,
            synced_items=session.synced,
            conflict_items=session.conflicts,
            failed_items=session.failed,
            started_at=from_ms(session.started_ms),
            completed_at=from_ms(session.completed_ms),
            duration_seconds=max(session.completed_ms - session.started_ms, 0) / 1000,
        )


class SyncStatsOut(Struct, frozen=True, kw_only=True):
    """Sums over sessions; rates in percent, 0 where there was nothing."""

    total_syncs: int
    successful_syncs: int
    failed_syncs: int
    success_rate: float
    total_items: int
    synced_items: int
    conflict_items: int
    failed_items: int
    sync_efficiency: float

    @classmethod
    def of(cls, totals: Totals) -> SyncStatsOut:
        """Return the public form of ``totals``."""
        successful = totals.syncs - totals.failed_syncs
        return cls(
            total_syncs=totals.syncs,
            successful_syncs=successful,
            failed_syncs=totals.failed_syncs,
            success_rate=_percent(successful, totals.syncs),
            total_items=totals.items,
            synced_items=totals.synced,
            conflict_items=totals.conflicts,
            failed_items=totals.failed,
            sync_efficiency=_percent(totals.synced, totals.items),
        )


class QueueItemOut(Struct, frozen=True, kw_only=True):
    """One item that waits, failed or was in conflict."""

    id: str
    device_id: str
    data_type: str
    local_id: str | None
    server_id: str | None
    data: dict[str, Any]
    status: Status
    conflict_data: dict[str, Any] | None
    error_message: str | None
    attempts: int
    offline_since: datetime | None
    created_at: datetime
    synced_at: datetime | None

    @classmethod
    def of(cls, item: Item) -> QueueItemOut:
        """Return the public form of ``item``."""
        return cls(
            id=item.id,
            device_id=item.device_id,
            data_type=item.data_type,
            local_id=item.local_id,
            server_id=item.server_id,
            data=_object(item.data),
            status=item.status,
            conflict_data=None if item.conflict_data is None else _object(item.conflict_data),
            error_message=item.error_message,
            attempts=item.attempts,
            offline_since=None if item.offline_since_ms is None else from_ms(item.offline_since_ms),
            created_at=from_ms(item.created_ms),
            synced_at=None if item.synced_ms is None else from_ms(item.synced_ms),
        )


class RetriedOut(Struct, frozen=True, kw_only=True):
    """How many items were tried again."""

    message: str
    retry_count: int


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def _object(text: str) -> dict[str, Any]:
    return msgspec.json.decode(text, type=dict[str, Any])
