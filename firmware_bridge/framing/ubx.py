"""UBX: the binary messages of u-blox receivers. The search itself is in ``scanner``.

A frame is the complete message, sync word and checksum included, as the receiver's manual prints it.
"""

from __future__ import annotations

from firmware_bridge.framing.checksums import ubx_fletcher
from firmware_bridge.framing.scanner import GnssScanner

NAV_PVT = (0x01, 0x07)


def encode_ubx(message_class: int, message_id: int, payload: bytes) -> bytes:
    """Return the complete message, sync word and checksum included."""
    body = bytes((message_class, message_id)) + len(payload).to_bytes(2, "little") + payload
    return b"\xb5\x62" + body + ubx_fletcher(body)


class UbxDecoder(GnssScanner):
    """Give one frame per message; ``messages`` limits them to these (class, id), and ``ignored`` counts the others."""

    def __init__(self, messages: frozenset[tuple[int, int]] | None = None) -> None:
        super().__init__(takes_nmea=False, takes_ubx=True, ubx_messages=messages)
