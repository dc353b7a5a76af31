"""What a payload says, before anyone knows how it arrived: the form in which envelopes and payload readers meet."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from firmware_bridge.frames import DecodedFix, DeviceStatus, Uplink


class Message(NamedTuple):
    """What one message says, before anyone knows how it arrived."""

    port: int | None
    details: dict[str, Any]
    fixes: tuple[DecodedFix, ...] = ()
    status: DeviceStatus | None = None
    device_time: datetime | None = None


def uplinks_of(
    messages: Iterable[Message],
    format_name: str,
    *,
    device: str = "",
    network_time: datetime | None = None,
    rssi_dbm: float | None = None,
    snr_db: float | None = None,
    gateway: str | None = None,
) -> list[Uplink]:
    """Return one uplink per message, all of which arrived in the same way."""
    return [
        Uplink(
            format=format_name,
            device=device,
            port=message.port,
            fixes=message.fixes,
            status=message.status,
            network_time=network_time,
            device_time=message.device_time,
            rssi_dbm=rssi_dbm,
            snr_db=snr_db,
            gateway=gateway,
            details=message.details,
        )
        for message in messages
    ]


def with_details(messages: Iterable[Message], more: dict[str, Any]) -> list[Message]:
    """Return ``messages`` with the facts of what carried them added to their own."""
    return [message._replace(details={**message.details, **more}) for message in messages]
