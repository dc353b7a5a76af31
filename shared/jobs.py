"""Long work that a home does for somebody: what a job says of itself, and the wish for a corridor.

A job is ``queued``, then ``running``, and ends as ``succeeded``, ``failed`` or ``cancelled``. It may go from running
back to queued: when its worker was stopped or killed, or when what failed is worth another try.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal, Protocol

import msgspec

from shared.errors import ModelUnavailable
from shared.privacy import Principal

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
ENDED: Final[frozenset[JobState]] = frozenset({"succeeded", "failed", "cancelled"})

Goal = Literal["balanced", "shortest", "safest", "most_connected"]
Algorithm = Literal["auto", "ppo", "dqn", "least_cost"]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of work. ``parameters``, ``best`` and ``result`` are JSON; ``best`` is the best answer so far.

    ``attempts`` counts how often it was begun. ``due_at`` is when a job that failed once is tried again.
    """

    id: str
    kind: str
    owner: str
    state: JobState
    parameters: msgspec.Raw
    percent: float
    message: str
    best: msgspec.Raw | None
    result: msgspec.Raw | None
    error_code: str | None
    error: str | None
    attempts: int
    is_cancel_asked: bool
    made_at: datetime
    due_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def has_ended(self) -> bool:
        """Say whether nothing more will happen to it."""
        return self.state in ENDED


class CorridorWish(msgspec.Struct, frozen=True, kw_only=True):
    """What a corridor shall be: for whom, from where, to where.

    ``model_version`` forces a version, ``seed`` repeats a run. ``region`` is a GeoJSON area that it must not leave.
    """

    name: str | None = None
    species: str
    start_lon_deg: float
    start_lat_deg: float
    end_lon_deg: float
    end_lat_deg: float
    steps: int = 50
    goal: Goal = "balanced"
    algorithm: Algorithm = "auto"
    seed: int | None = None
    model_version: str | None = None
    region: str | None = None


class Optimiser(Protocol):
    """What a home does with the wish for a corridor."""

    async def optimise(self, principal: Principal, wish: CorridorWish, key: str | None) -> Job:
        """Queue the search and return its job; the same ``key`` again is the same job. Raises ModelUnavailable."""
        ...


class NoOptimiser:
    """A home that searches no corridors, and says why."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def optimise(self, principal: Principal, wish: CorridorWish, key: str | None) -> Job:
        """Raise ModelUnavailable with the reason."""
        raise ModelUnavailable(self._reason)
