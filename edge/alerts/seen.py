"""What the rules look at: one animal, its usable fixes with what lies near and what the models say, and the time."""

from __future__ import annotations

from typing import Final

import msgspec

from shared.domain import AnimalStatus
from shared.insight import Ahead
from shared.movement.areas import Nearby

#: How far corridors are looked for: an animal that has left one must still be seen to have.
CORRIDOR_REACH_M: Final = 10_000.0
COMPANY_REACH_M: Final = 2_000.0


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The animal that is watched; ``heard_ms``: when its collar was last heard at all, with or without a position."""

    animal_id: str
    name: str
    species: str
    collar_id: str | None = None
    fix_interval_s: int | None = None
    heard_ms: int | None = None
    status: AnimalStatus = "active"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A usable fix. ``state`` and what follows speak of the step that ends at it; None where there is none yet.
    ``model`` names what said so: likelihoods of two models are not compared. ``ahead`` are the zones that it may walk
    into; None where nobody looked.

    ``n_failed``: attempts of the collar without a usable position since the fix before. ``n_clock_faults``: frames in
    which its clock had never been set, or lay in the future.
    """

    recorded_ms: int
    received_ms: int
    lon_deg: float
    lat_deg: float
    is_clock_sure: bool = True
    speed_mps: float | None = None
    battery_mv: int | None = None
    battery_pct: float | None = None
    rssi_dbm: float | None = None
    h_acc_m: float | None = None
    nearby: tuple[Nearby, ...] = ()
    ahead: tuple[Ahead, ...] | None = None
    state: str | None = None
    state_confidence: float | None = None
    is_state_settled: bool = False
    log_likelihood: float | None = None
    model: str | None = None
    n_failed: int = 0
    n_clock_faults: int = 0


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """When a slow tick happens, and what the station knows of its own hearing.

    ``deaf`` are spans (from, to) in which it could not have heard a collar because it was not running.
    """

    now_ms: int
    is_clock_sure: bool
    deaf: tuple[tuple[int, int], ...] = ()

    def deaf_ms(self, since_ms: int) -> int:
        """Return for how long the station was deaf since then."""
        return sum(max(0, min(end, self.now_ms) - max(begin, since_ms)) for begin, end in self.deaf)


class Mute(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that a person silenced, for one animal or (None) for all, until then."""

    rule: str
    until_ms: int
    animal_id: str | None = None
    made_ms: int = 0
    author: str | None = None
