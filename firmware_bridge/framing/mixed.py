"""NMEA sentences, UBX messages and noise on one line, as u-blox receivers send them; ``scanner`` has the search."""

from __future__ import annotations

from firmware_bridge.framing.scanner import GnssScanner


class MixedDecoder(GnssScanner):
    """Give epochs and messages in the order in which they stood on the line; ``messages`` as in UbxDecoder."""

    def __init__(self, messages: frozenset[tuple[int, int]] | None = None) -> None:
        super().__init__(takes_nmea=True, takes_ubx=True, ubx_messages=messages)
