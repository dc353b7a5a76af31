"""A photograph without what its camera wrote beside the picture: place, time, device, former versions.

Nothing is decoded or compressed anew; the parts that hold the picture are copied and all others are left out, because a
list of what may tell of a place would never be whole (Exif, XMP, IPTC, comments, a film behind the picture)::

    JPEG   segments up to the end of image; of APPn the colour profile, JFIF and Adobe's; orientation is written anew
    PNG    the critical chunks and those of colour, size and animation, up to IEND
    WebP   the picture, its alpha, animation and colour profile

Of other files no part can be named that tells of nothing: they are given whole or not at all.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from shared.errors import Invalid

_SOI: Final = b"\xff\xd8"
_EOI: Final = b"\xff\xd9"
_SOS: Final = 0xDA
_APP0, _APP1, _APP2, _APP14, _APP15, _COM = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE
_EXIF: Final = b"Exif\0\0"
_ICC: Final = b"ICC_PROFILE\0"
_ORIENTATION: Final = 0x0112
_SHORT: Final = 3

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT: Final = frozenset(
    (b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"pHYs", b"bKGD", b"sBIT", b"acTL", b"fcTL", b"fdAT")
)
_WEBP_KEPT: Final = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ICCP", b"ANIM", b"ANMF", b"ALPH"))
#: Bits of VP8X that say that Exif and XMP follow.
_WEBP_TOLD: Final = 0x08 | 0x04


def plain(data: bytes, media_type: str) -> bytes:
    """Return the picture alone; raises Invalid for a kind of file that cannot be taken apart, and for a damaged one."""
    take = _TAKERS.get(media_type)
    if take is None:
        raise Invalid(f"what a {media_type} tells of its place cannot be taken out")
    try:
        return take(data)
    except (struct.error, IndexError) as error:
        raise Invalid(f"the file ends in the middle: it is no whole {media_type}") from error


def _jpeg(data: bytes) -> bytes:
    kept = [_SOI]
    orientation = 1
    for marker, segment in _segments(data):
        body = segment[4:]
        if marker == _APP1 and body.startswith(_EXIF):
            orientation = _orientation(body[len(_EXIF) :]) or orientation
        is_told = _APP0 <= marker <= _APP15 or marker == _COM
        is_of_picture = marker in (_APP0, _APP14) or (marker == _APP2 and body.startswith(_ICC))
        if not is_told or is_of_picture:
            kept.append(segment)
    if orientation != 1:
        kept.insert(1, _oriented(orientation))
    return b"".join([*kept, _EOI])


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and bytes of each segment, a scan with what it holds, up to the end of image."""
    if data[:2] != _SOI:
        raise Invalid("this is no JPEG")
    at = 2
    while True:
        if data[at] != 0xFF:
            raise Invalid("this JPEG is damaged: no marker where one should be")
        while data[at + 1] == 0xFF:  # fill bytes
            at += 1
        marker = data[at + 1]
        if marker == _EOI[1]:
            return
        (size,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + size
        if size < 2 or end > len(data):
            raise Invalid("this JPEG is damaged: a segment goes beyond its end")
        if marker == _SOS:
            end = _scan_end(data, end)
        yield marker, data[at:end]
        at = end


def _scan_end(data: bytes, at: int) -> int:
    """Return where the coded data of a scan ends: at a marker that is neither a stuffed byte nor a restart."""
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            raise Invalid("this JPEG is not whole: it has no end of image")
        if data[at + 1] != 0 and not 0xD0 <= data[at + 1] <= 0xD7 and data[at + 1] != 0xFF:
            return at
        at += 1 if data[at + 1] == 0xFF else 2


def _orientation(tiff: bytes) -> int:
    """Return the orientation that Exif tells, 0 where it tells none that there is."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 0
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, first)
        for n in range(count):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, first + 2 + 12 * n)
            if (tag, kind) == (_ORIENTATION, _SHORT):
                return int(value) if 1 <= value <= 8 else 0
    except struct.error:
        return 0
    return 0


def _oriented(orientation: int) -> bytes:
    """Return a segment of Exif that tells the orientation and nothing else."""
    entry = struct.pack(">HHIHH", _ORIENTATION, _SHORT, 1, orientation, 0)
    tiff = b"MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    body = _EXIF + tiff
    return struct.pack(">BBH", 0xFF, _APP1, len(body) + 2) + body


def _png(data: bytes) -> bytes:
    if not data.startswith(_PNG):
        raise Invalid("this is no PNG")
    kept, at = [_PNG], len(_PNG)
    while True:
        size, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + size
        if end > len(data):
            raise Invalid("this PNG is damaged: a chunk goes beyond its end")
        is_critical = not kind[0] & 0x20
        if is_critical or kind in _PNG_KEPT:
            kept.append(data[at:end])
        if kind == b"IEND":
            return b"".join(kept)
        at = end


def _webp(data: bytes) -> bytes:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise Invalid("this is no WebP")
    (whole,) = struct.unpack_from("<I", data, 4)
    end, at = 8 + whole, 12
    if end > len(data):
        raise Invalid("this WebP is not whole")
    kept = []
    while at + 8 <= end:
        kind, size = struct.unpack_from("<4sI", data, at)
        after = at + 8 + size + size % 2
        if at + 8 + size > end:
            raise Invalid("this WebP is damaged: a chunk goes beyond its end")
        if kind in _WEBP_KEPT:
            chunk = bytearray(data[at:after])
            if kind == b"VP8X":
                chunk[8] &= ~_WEBP_TOLD & 0xFF
            kept.append(bytes(chunk))
        at = after
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


_TAKERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/webp": _webp,
}
