"""The models of a home: which versions are there, which one is taken, and who said so. Values and one protocol.

Versions that came with the program are always there; others are brought by people whose keys the home knows, and serve
from when they are chosen, everywhere or at one station. A choice can be taken back to the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol

import msgspec

from shared.errors import ModelUnavailable

#: Where a choice holds that is of no one station.
EVERYWHERE: Final = ""
#: The version of a choice that takes a former one back: whatever came with the program.
NONE_CHOSEN: Final = 0
#: What a model file is sent as. Only administrators bring one.
MODEL_FILE: Final = "application/vnd.outpost.model"
MAX_MANIFEST_BYTES: Final = 256 << 10


class Artefact(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one model file.

    ``species`` are those that it speaks of, empty for one that serves every species. ``chosen_at`` names the stations
    that were told to take it, ``EVERYWHERE`` among them. ``problem``: why it is not used although it was chosen.
    """

    model: str
    name: str
    version: int
    sha256: str
    size: int
    species: tuple[str, ...]
    metrics: Mapping[str, float]
    datasets: tuple[str, ...]
    licence: str
    is_packaged: bool
    is_active: bool
    is_forced: bool
    chosen_at: tuple[str, ...] = ()
    signed_by: str | None = None
    brought_by: str | None = None
    brought_at: datetime | None = None
    problem: str | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a choice did: the version before it and after it, 0 for whatever came with the program."""

    station: str
    model: str
    name: str
    before: int
    after: int


class Shelf(Protocol):
    """The models of a home."""

    async def artefacts(self, *, model: str | None, species: str | None, station: str | None) -> list[Artefact]:
        """List artefacts by model, name and version; ``is_active`` is as seen from ``station``, or from this home."""
        ...

    async def bring(self, manifest: str, *, key: str, signature: str, user_id: str) -> Artefact:
        """Take a model whose file has come; raises Forbidden, Invalid, Conflict or NotFound."""
        ...

    async def activate(
        self, model: str, version: int, name: str | None, station: str, user_id: str
    ) -> Sequence[Change]:
        """Choose a version, of one file of a model or of all that it has; raises NotFound, Conflict."""
        ...

    async def roll_back(self, model: str, name: str | None, station: str, user_id: str) -> Sequence[Change]:
        """Take the choice back to the one before it; raises Conflict where there is none."""
        ...


class NoShelf:
    """Implements ``Shelf`` where only what came with the program is there, and nobody lists it."""

    _SAID: Final = "this home keeps no models of its own"

    async def artefacts(self, *, model: str | None, species: str | None, station: str | None) -> list[Artefact]:
        """Raise ModelUnavailable."""
        raise ModelUnavailable(self._SAID)

    async def bring(self, manifest: str, *, key: str, signature: str, user_id: str) -> Artefact:
        """Raise ModelUnavailable."""
        raise ModelUnavailable(self._SAID)

    async def activate(
        self, model: str, version: int, name: str | None, station: str, user_id: str
    ) -> Sequence[Change]:
        """Raise ModelUnavailable."""
        raise ModelUnavailable(self._SAID)

    async def roll_back(self, model: str, name: str | None, station: str, user_id: str) -> Sequence[Change]:
        """Raise ModelUnavailable."""
        raise ModelUnavailable(self._SAID)
