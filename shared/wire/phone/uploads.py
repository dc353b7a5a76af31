"""A bulk upload, read item by item, and its answer with the original platform's keys."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from shared.errors import Invalid, TooLarge
from shared.wire.public import AnimalIn, ObservationIn, TrackingIn
from shared.wire.reading import read_json

#: So many items are taken in one upload.
MAX_ITEMS: Final = 1_000
Kind = Literal["animals", "tracking", "observations"]
_LocalId = Annotated[str, Meta(min_length=1, max_length=100)]


class Item(Struct, frozen=True, kw_only=True):
    """One item: what it says, or ``why`` it cannot be read. ``animal`` is whom it names, ``hash`` of its bytes."""

    local_id: str
    hash: str
    animal: str | None = None
    columns: dict[str, Any] = {}
    fix: TrackingIn | None = None
    why: str = ""
    raw: bytes = b""


class _Envelope(Struct):
    device_id: Annotated[str, Meta(min_length=1, max_length=100)]
    batch_id: Annotated[str, Meta(max_length=200)] | None = None
    animals: list[msgspec.Raw] = []
    tracking: list[msgspec.Raw] = []
    observations: list[msgspec.Raw] = []


class _Named(Struct):
    local_id: _LocalId | None = None


class Upload(Struct, frozen=True, kw_only=True):
    """An upload as it came; ``key`` is what its sender calls it."""

    device_id: str
    key: str | None
    animals: list[Item]
    tracking: list[Item]
    observations: list[Item]


def read_upload(body: bytes, key: str | None) -> Upload:
    """Return an upload; raises Invalid for what is none, TooLarge for too many items."""
    envelope = read_json(body, _Envelope)
    n = len(envelope.animals) + len(envelope.tracking) + len(envelope.observations)
    if n > MAX_ITEMS:
        raise TooLarge(f"the upload has {n} items; at most {MAX_ITEMS} are taken at once: send the rest in another")
    return Upload(
        device_id=envelope.device_id,
        key=key or envelope.batch_id,
        animals=[_item(bytes(raw), AnimalIn) for raw in envelope.animals],
        tracking=[_item(bytes(raw), TrackingIn) for raw in envelope.tracking],
        observations=[_item(bytes(raw), ObservationIn) for raw in envelope.observations],
    )


def _item(raw: bytes, shape: type[Any]) -> Item:
    hashed = hashlib.blake2b(raw, digest_size=12).hexdigest()
    local_id = ""
    try:
        if shape is TrackingIn:
            fix = read_json(raw, TrackingIn)
            return Item(local_id=fix.local_id or "", hash=hashed, fix=fix, animal=fix.animal_reference, raw=raw)
        local_id = read_json(raw, _Named).local_id or ""
        body = read_json(raw, shape)
        columns = body.columns()
        animal = columns.pop("animal_id", None)
        return Item(local_id=local_id, hash=hashed, columns=columns, animal=animal, raw=raw)
    except Invalid as error:
        return Item(local_id=local_id, hash=hashed, why=error.detail, raw=raw)


class Told(Struct, kw_only=True):
    """An item of which something must be told."""

    type: Kind
    local_id: str | None
    code: str
    message: str


class Conflicted(Struct, kw_only=True):
    """An item that is there already, under another id; the row that is kept."""

    type: Kind
    local_id: str | None
    reason: str
    server_id: str
    server_record: dict[str, Any] | None
    resolution: str = "server_kept"


class Counts(Struct, frozen=True):
    """Of one kind of item."""

    synced: int
    failed: int
    conflicts: int


class Summary(Struct, frozen=True):
    """Of all items."""

    total_items: int
    synced: int
    conflicts: int
    failed: int
    success_rate: str
    duration_seconds: float


class UploadOut(Struct, kw_only=True, frozen=True):
    """What became of an upload; conflicts are kept as they are here, ``id_map`` names the rows by local id."""

    sync_id: str
    animals: Counts
    tracking: Counts
    observations: Counts
    summary: Summary
    errors: list[Told]
    conflicts: list[Conflicted]
    warnings: list[Told]
    id_map: dict[str, dict[str, str]]
