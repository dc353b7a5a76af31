"""A frame as a station heard it, for whoever has to find out later what a collar, a receiver or an attacker sent.

Frames go in batches of records (``shared.wire.batch``). The same frame of one link and UTC day is one frame at the
station, with a count, and in the cloud whatever it is sent in: ``digest`` names it.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

DAY_MS: Final = 86_400_000
#: The channel that carries them.
FRAMES: Final = "frames"


class RawFrame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A frame of the ledger. ``received_ms`` is the station's clock, whose state was ``clock``; ``seq`` its place.

    ``copies`` were heard on that day until it was sent.
    """

    seq: int
    link: str
    framing: str
    payload: bytes
    received_ms: int
    topic: str = ""
    device: str = ""
    clock: str = ""
    copies: int = 1

    @property
    def digest(self) -> bytes:
        """What names the frame at its station: its day, whence it came and its bytes."""
        day = str(self.received_ms // DAY_MS).encode()
        parts = (day, self.link.encode(), self.framing.encode(), self.topic.encode(), self.payload)
        lengths = b" ".join(str(len(part)).encode() for part in parts)
        return hashlib.blake2b(b"\0".join((lengths, *parts)), digest_size=16).digest()
