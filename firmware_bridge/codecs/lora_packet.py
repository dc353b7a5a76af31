"""A packet of a LoRa radio without a network: what modems hand over that know nothing of its content.

Three kinds are told apart by their first byte, which no OpenCollar message shares::

    42 69 | u32 device, LE | u8 port | u8 length | message      OpenCollar's own header (LP0), with the collar's address
    01 | ...                                                    our station frame, of a base station behind the modem
    id | length | ...                                           a bare OpenCollar message of the link's own device

A LoRaWAN frame is encrypted for a network server; it is refused as such.

Layout of LP0: SmartParksOrg/smartparks-opencollar-edge-fw-public, app/src/lp0; facts of the wire only.
"""

from __future__ import annotations

import struct
from typing import Any

from firmware_bridge.codecs.instants import is_clock_unset, iso_text, utc
from firmware_bridge.codecs.messages import Message, with_details
from firmware_bridge.codecs.opencollar import read_messages
from firmware_bridge.codecs.station_frame import VERSION, split_station_frame
from firmware_bridge.frames import DecodedFix
from shared.errors import FrameError

LP0_SYNC = b"\x42\x69"
PORT_PING = 33

_LP0_HEADER = struct.Struct("<2sIBB")
_PING_ID = 0x03
_PING = struct.Struct("<BBIii")
_UPLINK_HEADERS = frozenset({0x00, 0x40, 0x80})


def pack_lp0(device: int, port: int, message: bytes) -> bytes:
    """Return an LP0 packet; raises ValueError for what its header cannot hold."""
    try:
        return _LP0_HEADER.pack(LP0_SYNC, device, port, len(message)) + message
    except struct.error as error:
        raise ValueError(f"device {device}, port {port}, {len(message)} bytes: {error}") from error


def read_packet(packet: bytes) -> tuple[str, list[Message]]:
    """Return the device, empty where the packet names none, and its messages; raises FrameError with the reason."""
    if not packet:
        raise FrameError("the packet is empty")
    if packet.startswith(LP0_SYNC):
        return read_lp0(packet)
    if packet[0] == VERSION:
        frame = split_station_frame(packet)
        return frame.device, read_messages(frame.message, frame.port)
    try:
        return "", read_messages(packet, None)
    except FrameError:
        if packet[0] in _UPLINK_HEADERS:
            raise FrameError("this is a LoRaWAN frame: only its network server can read it") from None
        raise


def read_lp0(packet: bytes) -> tuple[str, list[Message]]:
    """Return the device and the messages of an LP0 packet; raises FrameError with the reason."""
    if len(packet) < _LP0_HEADER.size or not packet.startswith(LP0_SYNC):
        raise FrameError("an LP0 packet begins with 42 69 and has a header of eight bytes")
    _, device, port, length = _LP0_HEADER.unpack_from(packet)
    message = packet[_LP0_HEADER.size :]
    if len(message) != length:
        raise FrameError(f"the LP0 header says {length} bytes and there are {len(message)}")
    messages = [_ping(message)] if port == PORT_PING else read_messages(message, port)
    return f"lp0:{device:08x}", with_details(messages, {"dev_addr": f"{device:08x}"})


def _ping(message: bytes) -> Message:
    """Read a collar's call for an offload station: it tells the last position, as zeros where it has none."""
    if len(message) < _PING.size or message[0] != _PING_ID:
        return Message(PORT_PING, {"message": "lp0_control", "raw": message.hex()})
    _, _, unix_s, lat_e7, lon_e7 = _PING.unpack_from(message)
    instant = utc(unix_s)
    is_unset = is_clock_unset(unix_s)
    has_position = bool(lat_e7 or lon_e7)
    details: dict[str, Any] = {
        "message": "lp0_ping",
        "lat": lat_e7 / 1e7 if has_position else None,
        "lon": lon_e7 / 1e7 if has_position else None,
        "time": iso_text(instant),
        "quality": "fix" if has_position else "no_fix",
        "clock": "never_synced" if is_unset else "set",
    }
    if not has_position:
        return Message(PORT_PING, details)
    fix = DecodedFix(recorded_at=instant, lon_deg=lon_e7 / 1e7, lat_deg=lat_e7 / 1e7, is_clock_unset=is_unset)
    return Message(PORT_PING, details, (fix,))
