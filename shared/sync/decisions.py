"""What a person decided of a fix, as it travels: taken out by hand, or reinstated against the rules."""

from __future__ import annotations

import msgspec

from shared.ids import fix_id


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One decision. The fix is named by what its id is made of: the other home may call its collar otherwise."""

    id: str
    collar_id: str
    raw_ms: int
    lon_e7: int | None
    lat_e7: int | None
    is_excluded: bool

    def fix_id(self, collar_id: str) -> bytes:
        """Return the id of the fix where its collar is called ``collar_id``."""
        return fix_id(collar_id, self.raw_ms, self.lon_e7, self.lat_e7)
