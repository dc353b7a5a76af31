"""Cayenne LPP: a row of values, each with its channel and type, as many trackers for makers send it.

::

    u8 channel | u8 type | value          big-endian; a position is i24 latitude, i24 longitude in 1e-4 degree,
                                          i24 altitude in cm: a grid of 11 m

A position has no time of its own; a Unix time among the values is the device's. A type of unknown length ends the
reading, as nobody can say where the next value begins: what stood before counts, the rest is named in the details. So
does a value that was cut short.

Layout: the LPP data types, numbered as in the IPSO registry less 3200.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from firmware_bridge.codecs.instants import is_clock_unset, iso_text, utc
from firmware_bridge.codecs.messages import Message, uplinks_of
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import DecodedFix, Uplink
from shared.errors import FrameError

_HEADER_BYTES = 2


class _Kind(NamedTuple):
    """A type of value: one number of ``size`` bytes, or ``axes`` of them, each in ``scale``."""

    name: str
    size: int
    per_unit: int = 1
    is_signed: bool = False
    axes: int = 1


_GPS = 136
_UNIX_TIME = 133
_TEMPERATURE = 103
_KINDS: Mapping[int, _Kind] = MappingProxyType(
    {
        0: _Kind("din", 1),
        1: _Kind("dout", 1),
        2: _Kind("analog", 2, 100, is_signed=True),
        3: _Kind("aout", 2, 100, is_signed=True),
        100: _Kind("generic", 4),
        101: _Kind("lux", 2),
        102: _Kind("presence", 1),
        _TEMPERATURE: _Kind("temp_c", 2, 10, is_signed=True),
        104: _Kind("humidity_pct", 1, 2),
        113: _Kind("acc_g", 2, 1000, is_signed=True, axes=3),
        115: _Kind("baro_hpa", 2, 10),
        116: _Kind("voltage_v", 2, 100),
        117: _Kind("current_a", 2, 1000),
        118: _Kind("frequency_hz", 4),
        120: _Kind("percentage", 1),
        121: _Kind("altitude_m", 2, is_signed=True),
        125: _Kind("concentration_ppm", 2),
        128: _Kind("power_w", 2),
        130: _Kind("distance_m", 4, 1000),
        131: _Kind("energy_kwh", 4, 1000),
        132: _Kind("direction_deg", 2),
        _UNIX_TIME: _Kind("unix_time", 4),
        134: _Kind("gyro_deg_s", 2, 100, is_signed=True, axes=3),
        135: _Kind("colour", 1, axes=3),
        _GPS: _Kind("gps", 3, is_signed=True, axes=3),
        142: _Kind("switch", 1),
    }
)
#: Values of which a device has one a channel; the others stand under their plain name too, for the first of each.
_NUMBERED = frozenset({0, 1, 2, 3})


class CayenneLppCodec:
    """The codec of a bare payload, whose device is the link's own."""

    format = "cayenne_lpp"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink; raises FrameError with the reason."""
        return uplinks_of(read_lpp(payload, port), self.format)


ROUTES = (Route(CayenneLppCodec()),)


def read_lpp(payload: bytes, port: int | None) -> list[Message]:
    """Return what a payload says, in one message; raises FrameError where not one value can be read."""
    details: dict[str, Any] = {"message": "cayenne_lpp"}
    positions: list[tuple[float, float, float]] = []
    unix_s: int | None = None
    temperature_c: float | None = None
    position = 0
    unread = ""
    while position < len(payload):
        unread, stop = _unread(payload, position)
        if unread:
            break
        channel, kind = payload[position], payload[position + 1]
        numbers = _numbers(payload[position + _HEADER_BYTES : stop], _KINDS[kind])
        value: Any = numbers[0] if len(numbers) == 1 else list(numbers)
        if kind == _GPS:
            value = [numbers[0] / 10_000, numbers[1] / 10_000, numbers[2] / 100]
            positions.append((value[0], value[1], value[2]))
        elif kind == _UNIX_TIME:
            unix_s = int(value)
        elif kind == _TEMPERATURE and temperature_c is None:
            temperature_c = float(value)
        _name(details, _KINDS[kind].name, channel, value, is_numbered=kind in _NUMBERED)
        position = stop
    if not position:
        raise FrameError(unread or "there is no value")
    if unread:
        details["unread"] = {"offset": position, "hex": payload[position:].hex(), "reason": unread}
    instant = None if unix_s is None else utc(unix_s)
    details["time"] = None if instant is None else iso_text(instant)
    fixes = tuple(
        DecodedFix(
            recorded_at=instant,
            lon_deg=lon_deg,
            lat_deg=lat_deg,
            alt_m=alt_m,
            temperature_c=temperature_c,
            is_clock_unset=unix_s is not None and is_clock_unset(unix_s),
        )
        for lat_deg, lon_deg, alt_m in positions
    )
    return [Message(port, details, fixes, device_time=instant)]


def _unread(payload: bytes, position: int) -> tuple[str, int]:
    """Return why the value at ``position`` cannot be read, or nothing, and where the next one begins."""
    start = position + _HEADER_BYTES
    if len(payload) < start:
        return "the last value has no type", position
    kind = _KINDS.get(payload[position + 1])
    if kind is None:
        return f"type {payload[position + 1]} is not known, nor how long it is", position
    stop = start + kind.size * kind.axes
    if len(payload) < stop:
        return f"the value of type {payload[position + 1]} was cut short", position
    return "", stop


def _numbers(raw: bytes, kind: _Kind) -> list[float]:
    whole = (
        int.from_bytes(raw[start : start + kind.size], "big", signed=kind.is_signed)
        for start in range(0, len(raw), kind.size)
    )
    return [number if kind.per_unit == 1 else number / kind.per_unit for number in whole]


def _name(details: dict[str, Any], name: str, channel: int, value: Any, *, is_numbered: bool) -> None:
    details[f"ch{channel}_{name}"] = value
    details.setdefault(f"{name}{channel}" if is_numbered else name, value)
