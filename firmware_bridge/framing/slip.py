"""SLIP (RFC 1055): a frame ends with C0; C0 inside is DB DC, DB inside is DB DD.

There is no checksum: a flipped bit gives a wrong payload, which the codec may or may not notice. Base stations of our
own use COBS with a checksum; SLIP is for those that exist.
"""

from __future__ import annotations

from firmware_bridge.frames import Frame
from firmware_bridge.framing.delimited import DelimitedDecoder
from shared.errors import FrameError

END = b"\xc0"
_ESC = b"\xdb"
_ESCAPED_END = b"\xdb\xdc"
_ESCAPED_ESC = b"\xdb\xdd"
_MEANING = {0xDC: END, 0xDD: _ESC}


def escape(data: bytes) -> bytes:
    """Return ``data`` without C0, as it stands between two delimiters."""
    return data.replace(_ESC, _ESCAPED_ESC).replace(END, _ESCAPED_END)


def unescape(segment: bytes) -> bytes:
    """Return what ``escape`` was given; raises FrameError where an escape means nothing."""
    if _ESC not in segment:
        return segment
    first, *rest = segment.split(_ESC)
    parts = [first]
    for part in rest:
        meaning = _MEANING.get(part[0]) if part else None
        if meaning is None:
            raise FrameError(f"escape DB {part[:1].hex().upper() or 'at the end'} means nothing")
        parts += (meaning, part[1:])
    return b"".join(parts)


def encode_slip(payload: bytes) -> bytes:
    """Return ``payload`` as it goes on the wire, with a delimiter at both ends."""
    return END + escape(payload) + END


class SlipDecoder(DelimitedDecoder):
    """Read SLIP frames; a frame at the very start of the stream needs no delimiter before it."""

    delimiter = END

    def _frame_of(self, segment: bytes) -> Frame | None:
        try:
            return Frame("slip", unescape(segment))
        except FrameError:
            self._refuse(segment)
            return None
