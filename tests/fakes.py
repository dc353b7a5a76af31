"""Doubles of our own protocols: small classes, no mocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from edge.api.health import ClockHealth, DiskHealth, HealthDetail, LedgerHealth, Status, StoreHealth
from shared.accounts.service import Channel
from shared.clock import ClockState

START = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


class FakeClock:
    """A clock that a test sets."""

    def __init__(self, now: datetime = START, state: ClockState = ClockState.NTP) -> None:
        self.at = now
        self.seconds = 0.0
        self._state = state

    def now(self) -> datetime:
        """Return the time that was set."""
        return self.at

    def monotonic(self) -> float:
        """Return seconds that never step."""
        return self.seconds

    @property
    def state(self) -> ClockState:
        """Return how far ``now`` can be trusted."""
        return self._state

    def set_state(self, state: ClockState) -> None:
        """Change how far ``now`` can be trusted."""
        self._state = state

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)
        self.seconds += seconds


class FakeMessenger:
    """Takes codes in place of a network; ``sent`` holds (channel, address, code)."""

    def __init__(self) -> None:
        self.sent: list[tuple[Channel, str, str]] = []

    def channel(self, phone: str | None) -> Channel | None:
        """Say that mail is set up."""
        return "mail"

    async def send_code(self, channel: Channel, to: str, code: str, minutes: int) -> None:
        """Keep a code."""
        self.sent.append((channel, to, code))


class FakeHealth:
    """A station that is as well as a test says."""

    def __init__(self) -> None:
        self.is_up = True
        self.word: Status = "ok"

    def is_ready(self) -> bool:
        """Say what the test said."""
        return self.is_up

    def status(self) -> Status:
        """Say what the test said."""
        return self.word

    async def detail(self) -> HealthDetail:
        """Return a detail with that word."""
        return HealthDetail(
            status=self.word,
            reasons=[],
            version="0",
            uptime_s=1.0,
            clock=ClockHealth(now=START, state=ClockState.NTP, is_sure=True, uncertainty_s=1.0),
            disk=DiskHealth(path="/var/lib/outpost", free_bytes=1, total_bytes=2),
            ledger=LedgerHealth(frames=0, pending=0, undecoded=0),
            store=StoreHealth(schema=1, fixes=0, animals=0, size_bytes=0, is_encrypted=True, check=None),
            links=[],
        )
