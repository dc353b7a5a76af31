"""Iridium DirectIP, mobile originated: how the Iridium gateway delivers short burst data over TCP.

::

    01 | u16 length of the rest | element | element | ...          element: u8 id | u16 length | bytes
         01 header, 28 bytes    02 payload, up to 1960    03 location, 11    05 confirmation, 1

All numbers are big-endian. The order of the elements is not fixed, and elements of other ids are stepped over by their
length. There is no checksum; ``claimed`` has the search, and a message is believed when its elements fill it exactly
and one of them is the header or the confirmation.

Layout: SBD Developers Guide 3.0, section 6.2, as shipped in gadomski/sbd-rs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from firmware_bridge.frames import Frame
from firmware_bridge.framing.claimed import ClaimedDecoder
from shared.errors import FrameError

VERSION = 1
HEADER, PAYLOAD, LOCATION, CONFIRMATION = 0x01, 0x02, 0x03, 0x05
MAX_PAYLOAD = 1960

#: Version and length: as much as tells how long a message is.
PREFIX_BYTES = 3
MAX_MESSAGE = 2400

#: The guide prints 20 for the location, the gateway sends 11; its own length field decides.
_LENGTHS: Mapping[int, range] = MappingProxyType(
    {HEADER: range(28, 29), PAYLOAD: range(1, MAX_PAYLOAD + 1), LOCATION: range(11, 21), CONFIRMATION: range(1, 2)}
)


def encode_directip(elements: Mapping[int, bytes]) -> bytes:
    """Return the message of these elements, in their order."""
    body = b"".join(bytes((kind,)) + len(data).to_bytes(2, "big") + data for kind, data in elements.items())
    return bytes((VERSION,)) + len(body).to_bytes(2, "big") + body


def message_length(prefix: bytes) -> int:
    """Return how long the message that begins with these three bytes is; raises FrameError where none can be."""
    if prefix[0] != VERSION:
        raise FrameError(f"a DirectIP message begins with 01, not with {prefix[0]:02X}")
    length = PREFIX_BYTES + int.from_bytes(prefix[1:PREFIX_BYTES], "big")
    if not PREFIX_BYTES < length <= MAX_MESSAGE:
        raise FrameError(f"no DirectIP message has {length} bytes")
    return length


def elements_of(message: bytes) -> dict[int, bytes]:
    """Return the elements of a complete message by their ids; raises FrameError."""
    if len(message) < PREFIX_BYTES or message[0] != VERSION:
        raise FrameError("a DirectIP message begins with 01 and its length")
    length = int.from_bytes(message[1:PREFIX_BYTES], "big")
    if length != len(message) - PREFIX_BYTES:
        raise FrameError(f"the message says {length} bytes and has {len(message) - PREFIX_BYTES}")
    elements: dict[int, bytes] = {}
    position = PREFIX_BYTES
    while position < len(message):
        start = position + PREFIX_BYTES
        kind = message[position]
        size = int.from_bytes(message[position + 1 : start], "big")
        data = message[start : start + size]
        if start > len(message) or len(data) < size:
            raise FrameError(f"element {kind:02X} was cut short")
        if size not in _LENGTHS.get(kind, range(len(message))):
            raise FrameError(f"element {kind:02X} cannot have {size} bytes")
        if kind in elements:
            raise FrameError(f"element {kind:02X} is there twice")
        elements[kind] = data
        position = start + size
    if HEADER not in elements and CONFIRMATION not in elements:
        raise FrameError("the message has neither a header nor a confirmation")
    return elements


class DirectIpDecoder(ClaimedDecoder):
    """Give complete messages, version and length included."""

    start = re.compile(rb"\x01")
    start_bytes = 1
    header_bytes = PREFIX_BYTES
    max_frame = MAX_MESSAGE

    def _length(self, header: bytes) -> int:
        return PREFIX_BYTES + int.from_bytes(header[1:], "big")

    def _frame_of(self, whole: bytes) -> Frame:
        elements_of(whole)
        return Frame("directip", whole)
