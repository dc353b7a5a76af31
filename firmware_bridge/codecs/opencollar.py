"""OpenCollar Edge: the messages of an open collar firmware (Smart Parks and IRNAS, version 7).

Every message is ``id | length | length bytes``; all numbers are little-endian. The fPort says which message to expect::

    port  id  length  message
       2  F2      30  long: the receiver's whole answer, sent also when the fix failed
       4  F4      14  status
      13  93      14  short: a fix that succeeded
      16  95      14  re-send of the last fix that succeeded
      18  97       4  device time
      29   -       -  flash log: (u8 port | message | u32 stored-at) again and again
      31  FD FE F3    MAC, last position, acknowledgement of a command

Layouts: SmartParksOrg/smartparks-opencollar-edge-fw-public, app/src/communication/communication.c and
settings/generated_settings/messages_def; facts of the wire only.

What the field taught:

- altitude is above the ellipsoid, not above the sea;
- the course over ground is little-endian like all else, although published decoders read it big-endian. While active
  tracking is off its bytes, and those of the speed, are left over from an earlier message;
- a long message is sent for a failed fix too. ``success`` alone decides: a fix refused for its accuracy still has
  fixType 3 and coordinates. It becomes a fix without position; what was refused stays in the details;
- the clock starts at 2020-11-25T14:29:35Z and only moves forward, so a time soon after that means it was never set;
- one fix comes several times, over ports 2, 13, 16, 29 and 31, and the whole flash log comes again on every visit to a
  base station. Storing twice is storing once: nothing is filtered here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from firmware_bridge.codecs.instants import is_clock_unset, iso_text, utc
from firmware_bridge.codecs.messages import Message, uplinks_of
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import DecodedFix, DeviceStatus, Uplink
from shared.errors import FrameError

PORT_LONG = 2
PORT_STATUS = 4
PORT_SHORT = 13
PORT_RESEND = 16
PORT_DEVICE_TIME = 18
PORT_FLASH_LOG = 29
PORT_MESSAGES = 31

_LONG, _STATUS, _SHORT, _RESEND, _DEVICE_TIME = 0xF2, 0xF4, 0x93, 0x95, 0x97
_MAC, _LAST_POSITION, _COMMAND_ACK = 0xFD, 0xFE, 0xF3

_HEADER_BYTES = 2
_STORED_AT = struct.Struct("<I")
_LONG_BODY = struct.Struct("<BBBHiiiBBHBIBHB")
_SHORT_BODY = struct.Struct("<IiiH")
_LAST_POSITION_BODY = struct.Struct("<iiiI")
_STATUS_BODY = struct.Struct("<14B")
_DEVICE_TIME_BODY = struct.Struct("<I")

#: Bits of the status message's error byte, from the lowest.
ERROR_NAMES = ("lr", "ble", "ublox", "acc", "bat", "ublox_fix", "flash")

_IDS_OF_PORT: Mapping[int, frozenset[int]] = MappingProxyType(
    {
        PORT_LONG: frozenset({_LONG}),
        PORT_STATUS: frozenset({_STATUS}),
        PORT_SHORT: frozenset({_SHORT}),
        PORT_RESEND: frozenset({_RESEND}),
        PORT_DEVICE_TIME: frozenset({_DEVICE_TIME}),
        PORT_MESSAGES: frozenset({_MAC, _LAST_POSITION, _COMMAND_ACK}),
    }
)


class OpenCollarCodec:
    """The codec of a bare payload, whose device is the link's own."""

    format = "opencollar"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per message; raises FrameError with the reason."""
        return uplinks_of(read_messages(payload, port), self.format)


ROUTES = (Route(OpenCollarCodec()),)


def read_messages(payload: bytes, port: int | None) -> list[Message]:
    """Return the messages of ``payload``; without a port the id decides, which a flash log does not have.

    Raises FrameError where any message cannot be read; a flash log gives what is readable.
    """
    if port == PORT_FLASH_LOG:
        return [_read_flash_log(payload)]
    if port and port not in _IDS_OF_PORT:
        raise FrameError(f"no OpenCollar message on port {port} is read here")
    messages = []
    position = 0
    while True:
        message, position = _read_message(payload, position, port)
        messages.append(message)
        if position == len(payload):
            return messages


def _read_message(payload: bytes, position: int, port: int | None) -> tuple[Message, int]:
    """Return the message at ``position`` and where the next one begins."""
    start = position + _HEADER_BYTES
    if len(payload) < start:
        raise FrameError(f"{len(payload) - position} bytes are too few for an OpenCollar message")
    message_id, length = payload[position], payload[position + 1]
    if port and message_id not in _IDS_OF_PORT.get(port, ()):
        raise FrameError(f"message {message_id:02X} does not belong on port {port}")
    reader = _READERS.get(message_id)
    if reader is None:
        raise FrameError(f"unknown OpenCollar message {message_id:02X}")
    if length != reader.length:
        raise FrameError(f"message {message_id:02X} says length {length} instead of {reader.length}")
    end = start + length
    if len(payload) < end:
        raise FrameError(f"message {message_id:02X} was cut short: {len(payload) - start} of {length} bytes")
    return reader.read(payload, start, port or reader.port), end


def _read_long(payload: bytes, start: int, port: int) -> Message:
    (
        flags,
        hot_retry,
        cold_retry,
        ttf_s,
        lat_e7,
        lon_e7,
        alt_mm,
        fix_type,
        siv,
        h_acc_m,
        pdop,
        unix_s,
        active,
        cog,
        sog_mps,
    ) = _LONG_BODY.unpack_from(payload, start)
    success = flags & 1
    instant = utc(unix_s)
    is_unset = is_clock_unset(unix_s)
    # deg * 100 + 18000; the receiver counts headings from 0 to 360, the firmware allows for -180 to 180.
    heading_deg = (cog - 18_000) / 100 % 360.0 if active else None
    speed_mps = float(sog_mps) if active else None
    details = {
        "message": "long",
        "success": success,
        "hot_retry": hot_retry,
        "cold_retry": cold_retry,
        "ttf_s": ttf_s,
        "lat": lat_e7 / 1e7,
        "lon": lon_e7 / 1e7,
        "alt_hae_m": alt_mm / 1000,
        "fix_type": fix_type,
        "siv": siv,
        "h_acc_m": h_acc_m,
        "pdop": pdop,
        "time": iso_text(instant),
        "active": active,
        "cog": heading_deg,
        "sog_m_s": speed_mps,
        "quality": "fix" if success else "no_fix",
        "clock": "never_synced" if is_unset else "set",
    }
    if success:
        fix = DecodedFix(
            recorded_at=instant,
            lon_deg=lon_e7 / 1e7,
            lat_deg=lat_e7 / 1e7,
            alt_m=alt_mm / 1000,
            speed_mps=speed_mps,
            heading_deg=heading_deg,
            pdop=float(pdop),
            sats=siv,
            h_acc_m=float(h_acc_m),
            is_clock_unset=is_unset,
        )
    else:
        fix = DecodedFix(recorded_at=instant, lon_deg=None, lat_deg=None, sats=siv, is_clock_unset=is_unset)
    return Message(port, details, (fix,))


def _read_short(payload: bytes, start: int, port: int) -> Message:
    return _short(payload, start, port, "short")


def _read_resend(payload: bytes, start: int, port: int) -> Message:
    return _short(payload, start, port, "resend")


def _short(payload: bytes, start: int, port: int, name: str) -> Message:
    unix_s, lat_e7, lon_e7, h_acc_m = _SHORT_BODY.unpack_from(payload, start)
    instant = utc(unix_s)
    lat_deg = lat_e7 / 1e7
    lon_deg = lon_e7 / 1e7
    is_unset = is_clock_unset(unix_s)
    details = {
        "message": name,
        "time": iso_text(instant),
        "lat": lat_deg,
        "lon": lon_deg,
        "h_acc_m": h_acc_m,
        "clock": "never_synced" if is_unset else "set",
    }
    fix = DecodedFix(
        recorded_at=instant,
        lon_deg=lon_deg,
        lat_deg=lat_deg,
        h_acc_m=float(h_acc_m),
        is_clock_unset=is_unset,
    )
    return Message(port, details, (fix,))


def _read_last_position(payload: bytes, start: int, port: int) -> Message:
    lat_e7, lon_e7, alt_mm, unix_s = _LAST_POSITION_BODY.unpack_from(payload, start)
    instant = utc(unix_s)
    is_unset = is_clock_unset(unix_s)
    # The firmware answers with zeros while it has no position to tell.
    has_position = bool(lat_e7 or lon_e7 or alt_mm)
    details = {
        "message": "last_position",
        "lat": lat_e7 / 1e7,
        "lon": lon_e7 / 1e7,
        "alt_hae_m": alt_mm / 1000,
        "time": iso_text(instant),
        "quality": "fix" if has_position else "no_fix",
        "clock": "never_synced" if is_unset else "set",
    }
    if not has_position:
        return Message(port, details)
    fix = DecodedFix(
        recorded_at=instant,
        lon_deg=lon_e7 / 1e7,
        lat_deg=lat_e7 / 1e7,
        alt_m=alt_mm / 1000,
        is_clock_unset=is_unset,
    )
    return Message(port, details, (fix,))


def _read_status(payload: bytes, start: int, port: int) -> Message:
    (
        reset_cause,
        error_bits,
        battery,
        operation_bits,
        temperature,
        uptime,
        acc_x,
        acc_y,
        acc_z,
        hardware,
        firmware,
        kinds,
        charge,
        features,
    ) = _STATUS_BODY.unpack_from(payload, start)
    temperature_c = round(_signed_hundred(temperature), 2)
    details: dict[str, Any] = {
        "message": "status",
        "reset_cause": reset_cause,
        **{f"err_{name}": error_bits >> bit & 1 for bit, name in enumerate(ERROR_NAMES)},
        "battery_mv": 2500 + 10 * battery,
        "op_bits": operation_bits,
        "temp_c": temperature_c,
        "uptime": uptime,
        "acc": [round(_signed_hundred(axis), 2) for axis in (acc_x, acc_y, acc_z)],
        "hw": f"{hardware >> 4}.{hardware & 0x0F}",
        "fw": f"v{firmware >> 4}.{firmware & 0x0F}",
        "fw_type": kinds >> 4,
        "hw_type": kinds & 0x0F,
        "charge_mv": 5000 + 100 * charge if charge else 0,
        "features": features,
    }
    status = DeviceStatus(
        battery_mv=details["battery_mv"],
        temperature_c=temperature_c,
        firmware=details["fw"],
        hardware=details["hw"],
        uptime_raw=uptime,
        errors=tuple(name for bit, name in enumerate(ERROR_NAMES) if error_bits >> bit & 1),
    )
    return Message(port, details, status=status)


def _signed_hundred(raw: int) -> float:
    """Return -100 to 100 for 0 to 255, the scale of temperatures (Celsius) and accelerations."""
    return raw * 200 / 255 - 100


def _read_device_time(payload: bytes, start: int, port: int) -> Message:
    (unix_s,) = _DEVICE_TIME_BODY.unpack_from(payload, start)
    instant = utc(unix_s)
    clock = "never_synced" if is_clock_unset(unix_s) else "set"
    details = {"message": "device_time", "time": iso_text(instant), "clock": clock}
    return Message(port, details, device_time=instant)


def _read_mac(payload: bytes, start: int, port: int) -> Message:
    return Message(port, {"message": "mac", "mac": payload[start : start + 6].hex(":")})


def _read_command_ack(payload: bytes, start: int, port: int) -> Message:
    return Message(port, {"message": "command_ack", "ack": payload[start : start + 2].hex()})


class _Reader(NamedTuple):
    length: int
    port: int
    read: Callable[[bytes, int, int], Message]


_READERS: Mapping[int, _Reader] = MappingProxyType(
    {
        _LONG: _Reader(_LONG_BODY.size, PORT_LONG, _read_long),
        _STATUS: _Reader(_STATUS_BODY.size, PORT_STATUS, _read_status),
        _SHORT: _Reader(_SHORT_BODY.size, PORT_SHORT, _read_short),
        _RESEND: _Reader(_SHORT_BODY.size, PORT_RESEND, _read_resend),
        _DEVICE_TIME: _Reader(_DEVICE_TIME_BODY.size, PORT_DEVICE_TIME, _read_device_time),
        _MAC: _Reader(6, PORT_MESSAGES, _read_mac),
        _LAST_POSITION: _Reader(_LAST_POSITION_BODY.size, PORT_MESSAGES, _read_last_position),
        _COMMAND_ACK: _Reader(2, PORT_MESSAGES, _read_command_ack),
    }
)


def _read_flash_log(payload: bytes) -> Message:
    """Return all readable records as one message of port 29.

    A record that is framed well but not understood costs only itself; from one whose length runs over the end nothing
    more can be read. Status is that of the record stored last, as a collar may tell it nowhere else.
    """
    records: list[dict[str, Any]] = []
    unread: list[dict[str, Any]] = []
    fixes: list[DecodedFix] = []
    latest: tuple[int, DeviceStatus] | None = None
    position = 0
    while position < len(payload):
        stored = _stored_record(payload, position)
        if stored is None:
            unread.append({"offset": position, "hex": payload[position:].hex(), "reason": "the record was cut short"})
            break
        port, message_bytes, stored_at_s, end = stored
        try:
            message, _ = _read_message(message_bytes, 0, port)
        except FrameError as error:
            unread.append({"offset": position, "hex": payload[position:end].hex(), "reason": error.detail})
        else:
            records.append({"port": port, "stored_at": stored_at_s, **message.details})
            fixes += message.fixes
            if message.status is not None and (latest is None or stored_at_s >= latest[0]):
                latest = stored_at_s, message.status
        position = end
    if not records:
        raise FrameError(unread[0]["reason"] if unread else "the flash log is empty")
    details = {
        "message": "flash_log",
        "records": records,
        "unique_fixes": len({(fix.recorded_at, fix.lon_deg, fix.lat_deg) for fix in fixes}),
        "unread": unread,
    }
    return Message(PORT_FLASH_LOG, details, tuple(fixes), latest[1] if latest else None)


def _stored_record(payload: bytes, position: int) -> tuple[int, bytes, int, int] | None:
    """Return port, message, stored-at and end of the record at ``position``; None where it runs over the end."""
    start = position + 1
    if len(payload) < start + _HEADER_BYTES:
        return None
    stop = start + _HEADER_BYTES + payload[start + 1]
    end = stop + _STORED_AT.size
    if len(payload) < end:
        return None
    return payload[position], payload[start:stop], _STORED_AT.unpack_from(payload, stop)[0], end


class FlashRecord(NamedTuple):
    """One entry of a collar's flash memory: a message as it was sent on ``port``."""

    port: int
    message: bytes
    stored_at: datetime


def encode_long(
    *,
    recorded_at: datetime,
    lat_deg: float | None,
    lon_deg: float | None,
    alt_m: float = 0.0,
    is_success: bool = True,
    fix_type: int = 3,
    sats: int = 0,
    h_acc_m: float = 0.0,
    pdop: float = 0.0,
    ttf_s: int = 0,
    hot_retries: int = 0,
    cold_retries: int = 0,
    heading_deg: float | None = None,
    speed_mps: float | None = None,
) -> bytes:
    """Return a long message (port 2); no position is a failed fix, a heading or speed switches active tracking on.

    What a field cannot hold is cut to its largest value, as the firmware does. Raises ValueError for a time or
    position that no field can hold.
    """
    has_position = lat_deg is not None and lon_deg is not None
    is_active = heading_deg is not None or speed_mps is not None
    # The receiver's heading is -180 to 180 here, shifted so that it fits an unsigned number.
    shifted = round((((heading_deg or 0.0) + 180.0) % 360.0 - 180.0) * 100) + 18_000
    return _message(
        _LONG,
        _LONG_BODY,
        int(is_success and has_position),
        _clip(hot_retries, 8),
        _clip(cold_retries, 8),
        _clip(ttf_s, 16),
        _e7(lat_deg),
        _e7(lon_deg),
        round(alt_m * 1000) if has_position else 0,
        fix_type if has_position else 0,
        _clip(sats, 8),
        _clip(int(h_acc_m), 16),
        _clip(int(pdop), 8),
        _unix_s(recorded_at),
        int(is_active),
        shifted if is_active else 0,
        _clip(round(speed_mps or 0.0), 8),
    )


def encode_short(*, recorded_at: datetime, lat_deg: float, lon_deg: float, h_acc_m: float = 0.0) -> bytes:
    """Return a short message (port 13), which exists only for a fix that succeeded."""
    return _encode_short(_SHORT, recorded_at, lat_deg, lon_deg, h_acc_m)


def encode_resend(*, recorded_at: datetime, lat_deg: float, lon_deg: float, h_acc_m: float = 0.0) -> bytes:
    """Return a re-send of the last good fix (port 16)."""
    return _encode_short(_RESEND, recorded_at, lat_deg, lon_deg, h_acc_m)


def encode_status(
    *,
    battery_mv: int,
    temperature_c: float,
    uptime_raw: int = 0,
    errors: Iterable[str] = (),
    reset_cause: int = 0,
    firmware: tuple[int, int] = (7, 2),
    hardware: tuple[int, int] = (1, 8),
) -> bytes:
    """Return a status message (port 4); ``errors`` are names of ERROR_NAMES, versions are (major, minor)."""
    at_rest = 128
    return _message(
        _STATUS,
        _STATUS_BODY,
        reset_cause,
        sum(1 << ERROR_NAMES.index(name) for name in set(errors)),
        _clip(round((battery_mv - 2500) / 10), 8),
        0,
        _clip(round((temperature_c + 100) * 255 / 200), 8),
        _clip(uptime_raw, 8),
        at_rest,
        at_rest,
        at_rest,
        hardware[0] << 4 | hardware[1],
        firmware[0] << 4 | firmware[1],
        0x11,
        0,
        0,
    )


def encode_device_time(device_time: datetime) -> bytes:
    """Return a device time message (port 18)."""
    return _message(_DEVICE_TIME, _DEVICE_TIME_BODY, _unix_s(device_time))


def encode_last_position(*, recorded_at: datetime, lat_deg: float, lon_deg: float, alt_m: float = 0.0) -> bytes:
    """Return a last position message (port 31)."""
    body = _e7(lat_deg), _e7(lon_deg), round(alt_m * 1000), _unix_s(recorded_at)
    return _message(_LAST_POSITION, _LAST_POSITION_BODY, *body)


def encode_flash_log(records: Iterable[FlashRecord | tuple[int, bytes, datetime]]) -> bytes:
    """Return a flash log payload (port 29) of (port, message, stored at)."""
    return b"".join(
        bytes((port,)) + message + _STORED_AT.pack(_unix_s(stored_at)) for port, message, stored_at in records
    )


def _encode_short(message_id: int, recorded_at: datetime, lat_deg: float, lon_deg: float, h_acc_m: float) -> bytes:
    body = _unix_s(recorded_at), _e7(lat_deg), _e7(lon_deg), _clip(int(h_acc_m), 16)
    return _message(message_id, _SHORT_BODY, *body)


def _message(message_id: int, body: struct.Struct, *values: int) -> bytes:
    try:
        return bytes((message_id, body.size)) + body.pack(*values)
    except struct.error as error:
        raise ValueError(f"message {message_id:02X} cannot hold {values}: {error}") from error


def _e7(degrees: float | None) -> int:
    return 0 if degrees is None else round(degrees * 1e7)


def _clip(value: int, bits: int) -> int:
    return min(max(value, 0), (1 << bits) - 1)


def _unix_s(instant: datetime) -> int:
    if instant.tzinfo is None:
        raise ValueError("the time has no zone")
    return int(instant.timestamp())
