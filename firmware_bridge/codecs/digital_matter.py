"""Digital Matter Oyster: positions of a LoRaWAN asset tracker that is also glued to animals.

::

    port 1, 11 bytes   i32 latitude, i32 longitude in 1e-7 degree | bit 0 in trip, bit 1 fix failed, bits 2-7 heading in
                       5.625 degrees | u8 km/h | u8 battery in 25 mV
    port 4, 9 bytes    i24 latitude, i24 longitude in 256e-7 degree | bits 0-2 heading in 45 degrees, bits 3-7 speed in
                       5 km/h | u8 battery in 25 mV | bit 0 in trip, bit 1 fix failed, bit 2 man down
    port 2, 3 bytes    answer to a downlink
    port 3, 11 bytes   statistics

All numbers are little-endian. ``fix failed`` means that the coordinates are the last known ones: they stay in the
details, and the uplink tells of a fix that failed. There is no device time in any message.

Layout: TheThingsNetwork/lorawan-devices, vendor/digital-matter/oyster.js.
"""

from __future__ import annotations

from typing import Any

from firmware_bridge.codecs.messages import Message, uplinks_of
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import DecodedFix, DeviceStatus, Uplink
from shared.errors import FrameError

PORT_POSITION, PORT_ANSWER, PORT_STATISTICS, PORT_SMALL_POSITION = 1, 2, 3, 4

_LENGTHS = {PORT_POSITION: 11, PORT_ANSWER: 3, PORT_STATISTICS: 11, PORT_SMALL_POSITION: 9}
#: Without a port the length decides between the two positions.
_PORTS = {11: PORT_POSITION, 9: PORT_SMALL_POSITION}
_IN_TRIP, _FIX_FAILED, _MAN_DOWN = 1, 2, 4
_MV_PER_STEP = 25
_KMH_PER_MPS = 3.6


class OysterCodec:
    """The codec of a bare payload, whose device is the link's own."""

    format = "digital_matter_oyster"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink; raises FrameError with the reason."""
        return uplinks_of(read_oyster(payload, port), self.format)


ROUTES = (Route(OysterCodec()),)


def read_oyster(payload: bytes, port: int | None) -> list[Message]:
    """Return the message of ``payload``; raises FrameError with the reason."""
    port = port or _PORTS.get(len(payload))
    if port is None or port not in _LENGTHS:
        raise FrameError(f"no Oyster message on port {port} is read here")
    if len(payload) != _LENGTHS[port]:
        raise FrameError(f"an Oyster message on port {port} has {_LENGTHS[port]} bytes, not {len(payload)}")
    if port == PORT_POSITION:
        return [_position(payload, port)]
    if port == PORT_SMALL_POSITION:
        return [_small_position(payload, port)]
    name = "answer" if port == PORT_ANSWER else "statistics"
    return [Message(port, {"message": name, "raw": payload.hex()})]


def _position(payload: bytes, port: int) -> Message:
    return _message(
        port,
        lat_deg=_signed(payload[0:4]) / 1e7,
        lon_deg=_signed(payload[4:8]) / 1e7,
        heading_deg=(payload[8] >> 2) * 5.625,
        speed_kmh=payload[9],
        battery_mv=payload[10] * _MV_PER_STEP,
        bits=payload[8] & (_IN_TRIP | _FIX_FAILED),
        man_down=None,
    )


def _small_position(payload: bytes, port: int) -> Message:
    return _message(
        port,
        lat_deg=_signed(payload[0:3]) * 256 / 1e7,
        lon_deg=_signed(payload[3:6]) * 256 / 1e7,
        heading_deg=(payload[6] & 7) * 45.0,
        speed_kmh=(payload[6] >> 3) * 5,
        battery_mv=payload[7] * _MV_PER_STEP,
        bits=payload[8],
        man_down=bool(payload[8] & _MAN_DOWN),
    )


def _message(
    port: int,
    *,
    lat_deg: float,
    lon_deg: float,
    heading_deg: float,
    speed_kmh: int,
    battery_mv: int,
    bits: int,
    man_down: bool | None,
) -> Message:
    has_failed = bool(bits & _FIX_FAILED)
    details: dict[str, Any] = {
        "message": "position",
        "lat": None if has_failed else lat_deg,
        "lon": None if has_failed else lon_deg,
        "time": None,
        "heading": heading_deg,
        "speed_kmh": speed_kmh,
        "bat_v": battery_mv / 1000,
        "in_trip": bool(bits & _IN_TRIP),
        "fix_failed": has_failed,
        "man_down": man_down,
        "quality": "no_fix" if has_failed else "fix",
    }
    status = DeviceStatus(battery_mv=battery_mv)
    if has_failed:
        details["cached"] = {"lat": lat_deg, "lon": lon_deg}
        failed = DecodedFix(recorded_at=None, lon_deg=None, lat_deg=None, battery_mv=battery_mv)
        return Message(port, details, (failed,), status)
    fix = DecodedFix(
        recorded_at=None,
        lon_deg=lon_deg,
        lat_deg=lat_deg,
        speed_mps=speed_kmh / _KMH_PER_MPS,
        # Who stands still faces nowhere.
        heading_deg=heading_deg if speed_kmh else None,
        battery_mv=battery_mv,
    )
    return Message(port, details, (fix,), status)


def _signed(raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True)
