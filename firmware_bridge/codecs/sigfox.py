"""Sigfox callbacks with the twelve bytes of the first rhino trackers.

::

    1 bit south | 31 bits latitude | 1 bit west | 31 bits longitude | 2 bits HDOP class | 2 bits (satellites - 2) / 2 |
    4 bits unknown | 4 bits acquisition in 5 s | 4 bits speed in 5 | u8 battery in 15 mV | u8 alert

A coordinate is a whole number that reads DDMMmmmmmm, degrees and minutes. Both zero is no fix. There is no device time:
``time`` is when the network took the message in. ``computedLocation`` is the network's own estimate, tens of kilometres
wide, and never a fix. The unit of the speed is written nowhere, so it stays in the details.

Layout: PADAS/er-server, das/sensors/sigfox_foundation_push_handler.
"""

from __future__ import annotations

import binascii
import re
from typing import Annotated, Any

import msgspec

from firmware_bridge.codecs.instants import iso_text, utc
from firmware_bridge.codecs.json_body import decode_json
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import DecodedFix, DeviceStatus, Uplink
from shared.errors import FrameError

_BYTES = 12
_DEVICE = re.compile(r"[0-9A-Fa-f]{1,8}")
_E6 = 1_000_000


class _Reception(msgspec.Struct):
    id: str = ""
    RSSI: float | None = None
    SNR: float | None = None


class _Callback(msgspec.Struct):
    deviceId: str  # noqa: N815  Sigfox's own name for it
    time: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
    data: str = ""
    seqNumber: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] | None = None  # noqa: N815 - its name there
    reception: list[_Reception] = msgspec.field(default_factory=list)
    computedLocation: dict[str, float] | None = None  # noqa: N815 - its name there


_DECODER = msgspec.json.Decoder(_Callback)


class SigfoxRhinoCodec:
    """Read Sigfox callbacks of rhino trackers, version 1."""

    format = "sigfox_rhino_v1"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink; raises FrameError with the reason."""
        callback = decode_json(_DECODER, payload)
        if _DEVICE.fullmatch(callback.deviceId) is None:
            raise FrameError(f"the device {callback.deviceId!r} is not up to eight hex digits")
        try:
            data = binascii.unhexlify(callback.data)
        except (binascii.Error, ValueError) as error:
            raise FrameError(f"data is not hex digits: {error}") from error
        network_time = utc(callback.time)
        best = max(callback.reception, key=lambda each: -1e9 if each.RSSI is None else each.RSSI, default=None)
        details: dict[str, Any] = {
            "seq": callback.seqNumber,
            "network_time": iso_text(network_time),
            "network_estimate": callback.computedLocation,
        }
        fix: DecodedFix | None = None
        if data:
            facts, fix = _read(data)
            details |= facts
        elif callback.computedLocation is None:
            raise FrameError("the callback has no data")
        return [
            Uplink(
                format=self.format,
                device=f"sigfox:{callback.deviceId.upper()}",
                fixes=() if fix is None else (fix,),
                status=None if fix is None else DeviceStatus(battery_mv=fix.battery_mv),
                network_time=network_time,
                rssi_dbm=None if best is None else best.RSSI,
                snr_db=None if best is None else best.SNR,
                gateway=None if best is None else best.id or None,
                details=details,
            )
        ]


ROUTES = (Route(SigfoxRhinoCodec()),)


def _read(data: bytes) -> tuple[dict[str, Any], DecodedFix]:
    if len(data) != _BYTES:
        raise FrameError(f"a tracker's message has {_BYTES} bytes, not {len(data)}")
    raw_lat, raw_lon = int.from_bytes(data[0:4], "big"), int.from_bytes(data[4:8], "big")
    signal, motion, battery, alert = data[8:]
    battery_mv = battery * 15
    sats = 2 * (signal >> 4 & 3) + 2
    has_position = bool(raw_lat & 0x7FFF_FFFF or raw_lon & 0x7FFF_FFFF)
    lat_deg = _degrees(raw_lat) if has_position else None
    lon_deg = _degrees(raw_lon) if has_position else None
    details = {
        "message": "position",
        "lat": None if lat_deg is None else round(lat_deg, 6),
        "lon": None if lon_deg is None else round(lon_deg, 6),
        "time": None,
        "quality": "fix" if has_position else "no_fix",
        "hdop_class": signal >> 6,
        "sats": sats,
        "acq_s": 5 * (motion >> 4),
        "speed": 5 * (motion & 0x0F),
        "batt_v": battery_mv / 1000,
        "alert": alert,
    }
    fix = DecodedFix(recorded_at=None, lon_deg=lon_deg, lat_deg=lat_deg, sats=sats, battery_mv=battery_mv)
    return details, fix


def _degrees(raw: int) -> float:
    degrees, minutes_e6 = divmod(raw & 0x7FFF_FFFF, _E6)
    minutes = minutes_e6 / 10_000
    if minutes >= 60:
        raise FrameError(f"{degrees} degrees and {minutes} minutes are no coordinate")
    return (degrees + minutes / 60) * (-1 if raw >> 31 else 1)
