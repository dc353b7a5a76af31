"""Bodies about destinations: other systems that the cloud sends fixes to. A token goes in and never comes out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from shared.wire.public.fields import Name, given
from shared.wire.reading import text

DestinationKind = Literal["earthranger", "gundi", "movebank"]
Precision = Literal["exact", "reduced"]
Url = Annotated[str, Meta(min_length=1, max_length=500, description="Such as https://reserve.pamdas.org.")]
Token = Annotated[
    str,
    Meta(min_length=1, max_length=4_000, description="Its bearer token or API key; of Movebank USER:PASSWORD."),
]
Provider = Annotated[
    str, Meta(max_length=200, description="EarthRanger's provider, the feed's name at Movebank; of Gundi none.")
]
Scope = Annotated[list[Name], Meta(min_length=1, max_length=1_000)]
IntervalS = Annotated[int, Meta(ge=60, le=86_400, description="How often it is looked whether there is something.")]
_FIELDS = (
    "name", "kind", "url", "token", "provider", "species", "animals", "precision", "is_enabled", "interval_s",
)  # fmt: skip


class DestinationIn(Struct, kw_only=True):
    """A system that fixes shall go to. Without ``species`` and ``animals`` (ids or names) those of all animals do.

    ``reduced`` is what a viewer sees of a species: coarse, late, or not at all.
    """

    name: Name
    kind: DestinationKind
    url: Url
    token: Token
    provider: Provider = ""
    species: Scope | None = None
    animals: Scope | None = None
    precision: Precision = "exact"
    is_enabled: bool = True
    interval_s: IntervalS = 300

    def columns(self) -> dict[str, Any]:
        """Return the columns to store, the token in clear."""
        return _cleaned({name: getattr(self, name) for name in _FIELDS})


class DestinationPatch(Struct, kw_only=True):
    """What changes of a destination; what is not named stays. Another address needs its token again."""

    name: Name | UnsetType = UNSET
    kind: DestinationKind | UnsetType = UNSET
    url: Url | UnsetType = UNSET
    token: Token | UnsetType = UNSET
    provider: Provider | UnsetType = UNSET
    species: Scope | UnsetType | None = UNSET
    animals: Scope | UnsetType | None = UNSET
    precision: Precision | UnsetType = UNSET
    is_enabled: bool | UnsetType = UNSET
    interval_s: IntervalS | UnsetType = UNSET

    def columns(self) -> dict[str, Any]:
        """Return the columns to store, the token in clear."""
        return _cleaned(given(self, *_FIELDS))


class DestinationOut(Struct, frozen=True, kw_only=True):
    """A destination and how it stands.

    ``waiting`` fixes are on their way, ``held`` ones wait for a rule, a deployment or their age, ``refused`` ones were
    not taken there. ``changes_waiting`` is how far it is behind this home's changes; ``is_beginning`` while it is being
    sent what there was before.
    """

    id: str
    name: str
    kind: DestinationKind
    url: str
    provider: str
    species: list[str] | None
    animals: list[str] | None
    precision: Precision
    is_enabled: bool
    interval_s: int
    created_by: str
    created_at: datetime
    is_beginning: bool
    sent: int
    waiting: int
    held: int
    refused: int
    changes_waiting: int
    last_sent_at: datetime | None
    failures: int
    error_code: str | None
    error: str | None
    failed_at: datetime | None
    due_at: datetime
    job_id: str | None

    @classmethod
    def of(cls, there: Struct) -> DestinationOut:
        """Return a destination of the store as it is told: without its token."""
        return msgspec.convert(there, cls, from_attributes=True)


def _cleaned(columns: dict[str, Any]) -> dict[str, Any]:
    cleaned = dict(columns)
    for name in ("name", "provider", "url"):
        if cleaned.get(name):
            cleaned[name] = text(name, cleaned[name])
    for name in ("species", "animals"):
        if cleaned.get(name) is not None:
            cleaned[name] = sorted({text(name, each) for each in cleaned[name]})
    return cleaned
