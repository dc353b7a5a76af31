"""The one integer that a phone keeps between two syncs, and which home it is of.

WatermelonDB stores a single number for the whole database and hands it to whichever home it finds, so the number says
whose it is::

    13 bits  number of the home's life (1 to 4095: the cloud's; 4096 to 8191: a station's, drawn at random)
    40 bits  number of the last change that the phone has

Together 53 bits: JavaScript keeps them exactly. A number of another life is answered with everything in scope and all
tombstones, never with silence. A home draws another number when it begins another life, as after a restore.
"""

from __future__ import annotations

import secrets
from typing import Final

import msgspec

SEQ_BITS: Final = 40
MAX_EPOCH: Final = 8_191
#: Numbers from here on are drawn by stations.
FIRST_OF_STATIONS: Final = 4_096
_SEQ_MASK: Final = (1 << SEQ_BITS) - 1


class Cursor(msgspec.Struct, frozen=True):
    """How far a phone has come in one life of one home."""

    epoch: int
    seq: int

    def packed(self) -> int:
        """Return the integer that the phone keeps; at least 1, below 2**53."""
        return self.epoch << SEQ_BITS | self.seq

    @classmethod
    def of(cls, packed: int) -> Cursor:
        """Return what an integer of a phone says, also where it never was one of ours."""
        return cls(packed >> SEQ_BITS, packed & _SEQ_MASK)


def drawn_epoch(*, is_station: bool, but: int | None = None) -> int:
    """Return a number for a new life of a home, another one than ``but``."""
    first, last = (FIRST_OF_STATIONS, MAX_EPOCH) if is_station else (1, FIRST_OF_STATIONS - 1)
    while (drawn := first + secrets.randbelow(last - first + 1)) == but:
        pass
    return drawn
