"""Our own serial frame: what a base station adds to the message that it heard.

The payload of a COBS frame::

    u8 version = 1 | 8 bytes device EUI-64, as printed | u8 fPort | i8 RSSI, dBm | i8 SNR, 0.25 dB | OpenCollar message

A payload whose first byte is not 1 is a bare OpenCollar message of the link's own device: a tag on a cable, or a radio
modem that adds nothing. No OpenCollar message has the id 1, so the two cannot be confused.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from firmware_bridge.codecs.messages import uplinks_of
from firmware_bridge.codecs.opencollar import read_messages
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import Uplink
from shared.errors import FrameError

VERSION = 1

_HEADER = struct.Struct(">B8sBbb")
_EUI_BYTES = 8
_QUARTER_DB = 0.25


def pack_station_frame(eui: bytes | str, port: int, rssi_dbm: float, snr_db: float, message: bytes) -> bytes:
    """Return the payload of one COBS frame; ``eui`` is eight bytes or their sixteen hex digits.

    RSSI and SNR are cut to what a byte holds (-128 to 127 dBm, -32 to 31.75 dB). Raises ValueError for any other EUI or
    a port beyond 0 to 255.
    """
    raw = bytes.fromhex(eui) if isinstance(eui, str) else bytes(eui)
    if len(raw) != _EUI_BYTES or not 0 <= port <= 0xFF:
        raise ValueError(f"EUI {raw.hex()} needs {_EUI_BYTES} bytes and port {port} one")
    return _HEADER.pack(VERSION, raw, port, _signed_byte(rssi_dbm), _signed_byte(snr_db / _QUARTER_DB)) + message


class StationFrame(NamedTuple):
    """A message and what the base station added to it."""

    device: str
    port: int
    rssi_dbm: float
    snr_db: float
    message: bytes


def split_station_frame(payload: bytes) -> StationFrame:
    """Return the parts of a payload whose first byte is the version; raises FrameError where it is too short."""
    if len(payload) < _HEADER.size:
        raise FrameError(f"{len(payload)} bytes are too few for a station frame")
    # Port 0 is the radio network's own and carries no message: a station that knows no port sends it.
    _, eui, port, rssi_dbm, snr_quarters = _HEADER.unpack_from(payload)
    return StationFrame("eui:" + eui.hex(), port, float(rssi_dbm), snr_quarters * _QUARTER_DB, payload[_HEADER.size :])


class StationFrameCodec:
    """Read station frames, and bare OpenCollar messages from links without them."""

    format = "outpost_station_frame"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per message; raises FrameError with the reason."""
        if not payload:
            raise FrameError("the frame is empty")
        if payload[0] != VERSION:
            return uplinks_of(read_messages(payload, port), self.format)
        frame = split_station_frame(payload)
        return uplinks_of(
            read_messages(frame.message, frame.port),
            self.format,
            device=frame.device,
            rssi_dbm=frame.rssi_dbm,
            snr_db=frame.snr_db,
        )


_CODEC = StationFrameCodec()

ROUTES = (Route(_CODEC, "cobs"), Route(_CODEC, "kiss"), Route(_CODEC, "slip"))


def _signed_byte(value: float) -> int:
    return min(max(round(value), -128), 127)
