"""What a link may carry: how much a day, how fast, in which batches, which channels, when.

===== ============ ========= ======== =============================== ======= =====
name  bytes a day  bytes a s fixes a  channels                        files   fixes
                             batch                                            down
===== ============ ========= ======== =============================== ======= =====
lan   no limit     no limit  4,000    all                             yes     yes
cell  50,000,000   64,000    2,000    all but frames                  yes     yes
sat   200,000      1,000     200      alerts, newest, records         no      no
===== ============ ========= ======== =============================== ======= =====

What models said, and frames, may use half of the bytes of a day. Outside its windows (UTC, on a sure clock) a link
carries alerts alone. What a day is: ``edge.sync.meter``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from shared.errors import ConfigError
from shared.wire.link import CHANNELS, MAX_CHANGES, Channel
from shared.wire.raw import FRAMES

_WINDOW: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What a link may carry; None is no limit. ``windows`` are minutes of a day (UTC) from and to; none: always."""

    name: str
    bytes_a_day: int | None = None
    bytes_a_second: int | None = None
    batch_fixes: int = 4_000
    batch_records: int = 200
    channels: tuple[Channel, ...] = CHANNELS
    sends_files: bool = True
    takes_fixes: bool = True
    max_changes: int = MAX_CHANGES
    windows: tuple[tuple[int, int], ...] = ()

    def channels_at(self, now: datetime, *, is_sure: bool) -> tuple[Channel, ...]:
        """Return what may be sent now; outside the windows alerts alone."""
        minute = now.hour * 60 + now.minute
        is_open = not self.windows or not is_sure or any(_is_in(minute, window) for window in self.windows)
        return self.channels if is_open else ("alerts",)


_NO_FRAMES: Final = tuple(channel for channel in CHANNELS if channel != FRAMES)
LAN: Final = Profile(name="lan")
PROFILES: Final[Mapping[str, Profile]] = {
    "lan": LAN,
    "cell": Profile(name="cell", bytes_a_day=50_000_000, bytes_a_second=64_000, batch_fixes=2_000, channels=_NO_FRAMES),
    "sat": Profile(
        name="sat",
        bytes_a_day=200_000,
        bytes_a_second=1_000,
        batch_fixes=200,
        batch_records=20,
        channels=("alerts", "newest", "records"),
        sends_files=False,
        takes_fixes=False,
        max_changes=20,
    ),
}


def profile_of(
    name: str, bytes_a_day: int | None = None, windows: tuple[str, ...] = (), *, frames: bool | None = None
) -> Profile:
    """Return a profile by its name, with another cap or windows like ``01:00-05:30``; raises ConfigError.

    ``frames`` says whether frames go up as they were heard; None: as the profile has it.
    """
    found = PROFILES.get(name)
    if found is None:
        raise ConfigError(f"cloud.profile: must be one of {', '.join(PROFILES)}")
    if bytes_a_day is not None and bytes_a_day < 1:
        raise ConfigError("cloud.bytes_a_day: must be at least 1")
    spans = []
    for window in windows:
        parts = _WINDOW.fullmatch(window)
        if parts is None:
            raise ConfigError(f"cloud.windows: {window}: a window is like 01:00-05:30, in UTC")
        first, second, third, fourth = map(int, parts.groups())
        spans.append((first * 60 + second, third * 60 + fourth))
    channels = found.channels
    if frames is not None:
        if frames and name == "sat":
            raise ConfigError("cloud.frames: the profile sat carries no frames")
        channels = (*(channel for channel in channels if channel != FRAMES), *((FRAMES,) if frames else ()))
    return msgspec.structs.replace(
        found, bytes_a_day=bytes_a_day or found.bytes_a_day, windows=tuple(spans), channels=channels
    )


def _is_in(minute: int, window: tuple[int, int]) -> bool:
    begin, end = window
    return begin <= minute < end if begin < end else minute >= begin or minute < end
