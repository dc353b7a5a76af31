"""NMEA 0183: ASCII sentences with a checksum, joined to epochs because no single sentence says it all.

RMC has the date and no altitude, GGA has the altitude and no date; they belong together by their time of day. A
sentence without a checksum, or with a wrong one, is damaged. The search itself is in ``scanner``.
"""

from __future__ import annotations

from firmware_bridge.framing.checksums import nmea_xor
from firmware_bridge.framing.scanner import GnssScanner


def encode_sentence(content: str) -> bytes:
    """Return the sentence of ``content`` (what stands between ``$`` and ``*``), with checksum and CR LF."""
    raw = content.encode("ascii")
    return b"$%b*%02X\r\n" % (raw, nmea_xor(raw))


class NmeaDecoder(GnssScanner):
    """Give one frame per epoch of RMC, GGA and GNS; ``ignored`` counts sentences without position and time.

    An epoch is complete when the next one begins or the line falls silent.
    """

    def __init__(self) -> None:
        super().__init__(takes_nmea=True, takes_ubx=False)
