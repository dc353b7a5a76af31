"""The serial line of a Meshtastic node.

::

    94 C3 | u16 length, big-endian, up to 512 | FromRadio

Whatever stands between two frames is the node's log in plain text. There is no checksum; ``claimed`` has the search. A
frame is passed on complete, start and length included, when it is a mesh packet that may hold a position: one of the
position application, or an encrypted one. Everything else that a node tells (its configuration, its list of nodes with
positions of any age, other people's messages) is counted as ignored and never reaches the disk.

Layout: meshtastic/meshtastic, docs/development/device/client-api; meshtastic/protobufs, mesh.proto.
"""

from __future__ import annotations

import re

from firmware_bridge.frames import Frame
from firmware_bridge.framing.claimed import ClaimedDecoder
from firmware_bridge.framing.protobuf import read_fields
from shared.errors import FrameError

START = b"\x94\xc3"
HEADER_BYTES = 4
MAX_BODY = 512

_PACKET = 2
_DECODED, _ENCRYPTED = 4, 5
_PORTNUM = 1
_POSITION_APP = 3


def encode_mesh_frame(body: bytes) -> bytes:
    """Return ``body`` as it goes on the wire; raises ValueError where it is too long."""
    if len(body) > MAX_BODY:
        raise ValueError(f"{len(body)} bytes do not fit into a frame of {MAX_BODY}")
    return START + len(body).to_bytes(2, "big") + body


def body_of(frame: bytes) -> bytes:
    """Return what a complete frame carries; raises FrameError."""
    if len(frame) < HEADER_BYTES or not frame.startswith(START):
        raise FrameError("a Meshtastic frame begins with 94 C3 and its length")
    body = frame[HEADER_BYTES:]
    length = int.from_bytes(frame[2:HEADER_BYTES], "big")
    if len(body) != length or length > MAX_BODY:
        raise FrameError(f"the frame says {length} bytes and has {len(body)}")
    return body


class MeshtasticDecoder(ClaimedDecoder):
    """Give mesh packets that may hold a position."""

    start = re.compile(rb"\x94(?:\xc3|\Z)")
    start_bytes = len(START)
    header_bytes = HEADER_BYTES
    max_frame = HEADER_BYTES + MAX_BODY

    def _length(self, header: bytes) -> int:
        return HEADER_BYTES + int.from_bytes(header[2:], "big")

    def _frame_of(self, whole: bytes) -> Frame | None:
        packet = read_fields(whole[HEADER_BYTES:]).message(_PACKET)
        if packet is None:
            return None
        data = packet.message(_DECODED)
        is_position = data is not None and data.unsigned(_PORTNUM) == _POSITION_APP
        return Frame("meshtastic", whole) if is_position or packet.raw(_ENCRYPTED) is not None else None
