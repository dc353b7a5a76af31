"""Positions of phones on their way into a store: rows of what was said, turned into a batch of columns at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Final

from shared.sync.records import to_ms
from shared.wire.public.fields import ANIMAL_DEVICE, collar_id
from shared.wire.public.tracking import SAID, default_source

_NAMES: Final = ("collar_id", "said_animal_id", *SAID)
#: What a phone does not say of a position.
_UNSAID: Final = ("network_ms", "pdop", "h_acc_m", "snr_db", "seq")

Columns = Mapping[str, Sequence[Any]]


class Positions:
    """The positions that one phone brings at one moment."""

    def __init__(self, received_at: datetime, *, is_clock_sure: bool, link: str) -> None:
        self._received_ms = to_ms(received_at)
        self._is_clock_sure = is_clock_sure
        self._link = link
        self._rows: list[tuple[Any, ...]] = []
        self._devices: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def device(self, collar: str | None, named: str | None) -> str | None:
        """Return what made a position: its collar, else the animal ``named``; raises Invalid for no collar's name."""
        if collar is None or not collar.strip():
            return ANIMAL_DEVICE + named if named else None
        if (device := self._devices.get(collar)) is None:
            device = self._devices[collar] = collar_id("collar_id", collar)
        return device

    def add(self, device: str, animal_id: str | None, said: Sequence[Any]) -> None:
        """Add a position that ``device`` made; ``said`` are its columns (``SAID``)."""
        self._rows.append((device, animal_id, *said))

    def columns(self) -> dict[str, Sequence[Any]]:
        """Return all of them as a batch."""
        n = len(self._rows)
        columns: dict[str, Sequence[Any]] = dict(zip(_NAMES, zip(*self._rows, strict=True), strict=True)) if n else {}
        if not n:
            columns = dict.fromkeys(_NAMES, ())
        columns["source"] = [
            source or default_source(device)
            for source, device in zip(columns["source"], columns["collar_id"], strict=True)
        ]
        columns["received_ms"] = [self._received_ms] * n
        columns["sure_received_ms"] = [self._received_ms if self._is_clock_sure else None] * n
        columns["link"] = [self._link] * n
        columns["is_clock_unset"] = [0] * n
        nothing = [None] * n
        return columns | dict.fromkeys(_UNSAID, nothing)


def together(batches: Iterable[Columns]) -> Columns:
    """Return batches as one, in their order."""
    some = list(batches)
    if len(some) == 1:
        return some[0]
    return {name: list(chain.from_iterable(batch[name] for batch in some)) for name in some[0]}
