"""Our own serial frame: consistent overhead byte stuffing with a checksum inside.

::

    COBS( payload | CRC-16/IBM-3740 of payload, big-endian ) | 00

COBS (Cheshire and Baker, 1999) removes every zero at a cost of one byte in 254, so the zero is free to end the frame. A
base station may also send a zero before a frame: it ends whatever noise came first.
"""

from __future__ import annotations

from cobs import cobs

from firmware_bridge.frames import Frame
from firmware_bridge.framing.checksums import crc16_ibm_3740
from firmware_bridge.framing.delimited import DelimitedDecoder
from shared.errors import FrameError

_CRC_BYTES = 2


def encode_cobs(data: bytes) -> bytes:
    """Return ``data`` stuffed, without checksum and delimiter."""
    stuffed: bytes = cobs.encode(data)
    return stuffed


def decode_cobs(stuffed: bytes) -> bytes:
    """Return the data of ``encode_cobs``; raises FrameError for bytes that it never gives."""
    try:
        data: bytes = cobs.decode(stuffed)
    except cobs.DecodeError as error:
        raise FrameError(f"not COBS: {error}") from error
    return data


def encode_frame(payload: bytes) -> bytes:
    """Return ``payload`` as it goes on the wire, checksum and delimiter included."""
    return encode_cobs(payload + crc16_ibm_3740(payload).to_bytes(_CRC_BYTES, "big")) + b"\x00"


class CobsDecoder(DelimitedDecoder):
    """Read the frames of ``encode_frame``."""

    delimiter = b"\x00"

    def _frame_of(self, segment: bytes) -> Frame | None:
        frame = _verified(segment)
        if frame is None:
            self._refuse(segment)
        return frame

    def _frames_at_silence(self, segment: bytes) -> list[Frame]:
        # The delimiter may be what the noise ate; the checksum says whether the rest is whole.
        frame = self._frame_of(segment)
        return [] if frame is None else [frame]


def _verified(segment: bytes) -> Frame | None:
    try:
        data: bytes = cobs.decode(segment)
    except cobs.DecodeError:
        return None
    if len(data) < _CRC_BYTES or crc16_ibm_3740(data):
        return None
    return Frame("cobs", data[:-_CRC_BYTES])
