"""The first generation of OpenCollar, on rhinos and lions before the Edge firmware.

::

    port 1, 18 bytes    u24 latitude, u24 longitude | u16 altitude in m, LE | satellites << 4 | HDOP | time to fix |
                        EPE | SNR | lux | motion | u32 unix time, LE
    port 11, n * 10     u24 latitude, u24 longitude | u24 minutes since 1600000000 | bit 7 motion, bits 4-6 EPE / 12,
                        bits 0-3 time to fix / 5
    port 12, 26 bytes   status, with the last position and its time

Coordinates are big-endian shares of 180 degrees from -90 and of 360 degrees from -180: a grid of 1.2 and 2.4 m. A raw
latitude or longitude of 0 means that there was no fix. The log of port 11 knows minutes only: the same fix over port 1
has another second, and is told to be a near copy by the rules that judge fixes, not here.

Layout: IRNAS/smartparks-rhino-tracker-firmware, decoder.js and gps_tracker.h; facts of the wire only.
"""

from __future__ import annotations

import struct
from datetime import datetime
from typing import Any

from firmware_bridge.codecs.instants import is_clock_unset, iso_text, utc
from firmware_bridge.codecs.messages import Message, uplinks_of
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import DecodedFix, DeviceStatus, Uplink
from shared.errors import FrameError

PORT_POSITION, PORT_LOG, PORT_STATUS = 1, 11, 12

_POSITION = struct.Struct("<3s3sHBBBBBBI")
_RECORD = struct.Struct(">3s3s3sB")
_STATUS_BYTES = 26
_LOG_EPOCH_S = 1_600_000_000
_FULL_SCALE = 0xFF_FF_FF
_RESET_CAUSES = ("power on", "external", "software", "watchdog", "firewall", "other", "standby")
_ERRORS = ("gps_periodic", "gps_triggered", "gps_fix", "accelerometer", "light")


class OpenCollarGen1Codec:
    """The codec of a bare payload, whose device is the link's own."""

    format = "opencollar_gen1"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink; raises FrameError with the reason."""
        return uplinks_of(read_gen1(payload, port), self.format)


ROUTES = (Route(OpenCollarGen1Codec()),)


def read_gen1(payload: bytes, port: int | None) -> list[Message]:
    """Return the message of ``payload``; without a port it is a position. Raises FrameError with the reason."""
    port = port or PORT_POSITION
    if port == PORT_POSITION:
        return [_position(payload)]
    if port == PORT_LOG:
        return [_log(payload)]
    if port == PORT_STATUS:
        return [_status(payload)]
    raise FrameError(f"no message of a first-generation collar on port {port} is read here")


def _position(payload: bytes) -> Message:
    if len(payload) != _POSITION.size:
        raise FrameError(f"a position has {_POSITION.size} bytes, not {len(payload)}")
    lat, lon, alt_m, signal, ttf_s, epe_m, snr, lux, motion, unix_s = _POSITION.unpack(payload)
    instant = utc(unix_s)
    sats, hdop = signal >> 4, signal & 0x0F
    fix = _fix(
        lat, lon, instant, alt_m=float(alt_m), sats=sats, hdop=float(hdop), h_acc_m=float(epe_m) if epe_m else None
    )
    details = {
        "message": "position",
        **_place(fix),
        "alt_m": alt_m,
        "sats": sats,
        "hdop": hdop,
        "ttf_s": ttf_s,
        "epe": epe_m,
        "snr": snr,
        "lux": lux,
        "motion": motion,
        "time": iso_text(instant),
    }
    return Message(PORT_POSITION, details, (fix,))


def _log(payload: bytes) -> Message:
    if not payload or len(payload) % _RECORD.size:
        raise FrameError(f"a log has records of {_RECORD.size} bytes, not {len(payload)} bytes")
    fixes = []
    records: list[dict[str, Any]] = []
    for lat, lon, minutes, bits in _RECORD.iter_unpack(payload):
        instant = utc(_LOG_EPOCH_S + 60 * int.from_bytes(minutes, "big"))
        epe_m = 12 * (bits >> 4 & 7)
        fix = _fix(lat, lon, instant, h_acc_m=float(epe_m) if epe_m else None)
        fixes.append(fix)
        records.append(
            {
                **_place(fix),
                "time": iso_text(instant),
                "motion": bits >> 7,
                "epe": epe_m,
                "ttf_s": 5 * (bits & 0x0F),
            }
        )
    return Message(PORT_LOG, {"message": "log", "records": records}, tuple(fixes))


def _status(payload: bytes) -> Message:
    if len(payload) != _STATUS_BYTES:
        raise FrameError(f"a status has {_STATUS_BYTES} bytes, not {len(payload)}")
    temperature_c = round(payload[2] * 100 / 255 - 20, 1)
    errors = tuple(name for bit, name in enumerate(_ERRORS) if payload[3] >> bit & 1)
    instant = utc(int.from_bytes(payload[18:22], "little"))
    fix = _fix(payload[4:7], payload[7:10], instant)
    cause = payload[0] & 7
    details = {
        "message": "status",
        "reset_cause": _RESET_CAUSES[cause] if cause < len(_RESET_CAUSES) else cause,
        "battery_mv": 2500 + 10 * payload[1],
        "temp_c": temperature_c,
        "errors": list(errors),
        "charging": payload[3] >> 5,
        **_place(fix),
        "resend": payload[10],
        "time": iso_text(instant),
    }
    status = DeviceStatus(battery_mv=details["battery_mv"], temperature_c=temperature_c, errors=errors)
    # The last position is told again and again; where there is none, nothing was tried.
    fixes = (fix,) if fix.lat_deg is not None else ()
    return Message(PORT_STATUS, details, fixes, status)


def _fix(
    lat: bytes,
    lon: bytes,
    instant: datetime,
    *,
    alt_m: float | None = None,
    sats: int | None = None,
    hdop: float | None = None,
    h_acc_m: float | None = None,
) -> DecodedFix:
    is_unset = is_clock_unset(instant.timestamp())
    raw_lat, raw_lon = int.from_bytes(lat, "big"), int.from_bytes(lon, "big")
    if not (raw_lat and raw_lon):
        return DecodedFix(recorded_at=instant, lon_deg=None, lat_deg=None, sats=sats, is_clock_unset=is_unset)
    return DecodedFix(
        recorded_at=instant,
        lon_deg=raw_lon * 360 / _FULL_SCALE - 180,
        lat_deg=raw_lat * 180 / _FULL_SCALE - 90,
        alt_m=alt_m,
        sats=sats,
        hdop=hdop,
        h_acc_m=h_acc_m,
        is_clock_unset=is_unset,
    )


def _place(fix: DecodedFix) -> dict[str, Any]:
    return {
        "lat": None if fix.lat_deg is None else round(fix.lat_deg, 5),
        "lon": None if fix.lon_deg is None else round(fix.lon_deg, 5),
        "quality": "no_fix" if fix.lat_deg is None else "fix",
        "clock": "never_synced" if fix.is_clock_unset else "set",
    }
