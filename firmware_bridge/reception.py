"""What a frame that was received says, ready for a store: the same at a station and in the cloud.

Pure, and between the codecs and the homes: an uplink becomes fixes with the times of its reception beside them, and
what its device said of itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from firmware_bridge.codecs.opencollar import PORT_FLASH_LOG
from firmware_bridge.codecs.registry import decode_frame
from firmware_bridge.codecs.timing import recorded_at
from firmware_bridge.frames import DecodedFix, Frame, Framing, Uplink
from shared.domain import HeardDevice, NewFix
from shared.errors import FrameError
from shared.sync.records import to_ms

#: So much of a frame that cannot be read is shown beside the reason.
HEAD_BYTES: Final = 64


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A frame as a ledger keeps it. ``device`` is the link's own, for payloads that name none."""

    link: str
    framing: Framing
    topic: str
    device: str
    payload: bytes
    received_at: datetime
    is_clock_sure: bool


def facts_of(received: Received) -> tuple[list[NewFix], list[HeardDevice]]:
    """Return the fixes of a frame and the devices that it came from; raises FrameError with the reason."""
    uplinks = decode_frame(Frame(received.framing, received.payload, received.topic))
    heard_ms = to_ms(received.received_at)
    fixes: list[NewFix] = []
    heard: list[HeardDevice] = []
    for uplink in uplinks:
        device = uplink.device or received.device or f"link:{received.link}"
        fixes += _fixes(received, uplink, device)
        heard.append(_heard(uplink, device, heard_ms))
    return fixes, heard


def _fixes(received: Received, uplink: Uplink, device: str) -> Sequence[NewFix]:
    clock = received.received_at if received.is_clock_sure else None
    fixes = []
    for fix in uplink.fixes:
        at, reason = recorded_at(fix, network_time=uplink.network_time, received_at=clock)
        if at is not None:
            fixes.append(_new_fix(fix, at, uplink, device, received))
        elif fix.lon_deg is not None:
            raise FrameError(reason)
        # neither time nor place: the receiver said only that it is there
    return fixes


def _heard(uplink: Uplink, device: str, heard_ms: int) -> HeardDevice:
    if uplink.port == PORT_FLASH_LOG:
        return HeardDevice(device, heard_ms)  # what it says of itself may be weeks old
    status = uplink.status
    battery_mv = next((fix.battery_mv for fix in reversed(uplink.fixes) if fix.battery_mv is not None), None)
    if status is None:
        return HeardDevice(device, heard_ms, battery_mv)
    battery_mv = battery_mv if status.battery_mv is None else status.battery_mv
    return HeardDevice(device, heard_ms, battery_mv, status.battery_pct, status.firmware)


def _new_fix(fix: DecodedFix, at: datetime, uplink: Uplink, device: str, received: Received) -> NewFix:
    return NewFix(
        device=device,
        recorded_at=at,
        lon_deg=fix.lon_deg,
        lat_deg=fix.lat_deg,
        received_at=received.received_at,
        is_clock_sure=received.is_clock_sure,
        network_time=uplink.network_time,
        alt_m=fix.alt_m,
        speed_mps=fix.speed_mps,
        heading_deg=fix.heading_deg,
        hdop=fix.hdop,
        pdop=fix.pdop,
        sats=fix.sats,
        h_acc_m=fix.h_acc_m,
        seq=fix.seq,
        battery_mv=fix.battery_mv,
        temperature_c=fix.temperature_c,
        rssi_dbm=uplink.rssi_dbm,
        snr_db=uplink.snr_db,
        is_clock_unset=fix.is_clock_unset,
        link=received.link,
    )
