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
    """One item: what it says, or ``why`` it cannot be read. ``animal`` is whom it names, ``hash`` of its bytes.

    Of a position ``said`` are the columns (``shared.wire.public.tracking.SAID``) and ``collar`` is its collar's name.
    """

    local_id: str
    hash: str
    animal: str | None = None
    columns: dict[str, Any] = {}
    said: tuple[Any, ...] = ()
    collar: str | None = None
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
    _kept("device_id", envelope.device_id)
    _kept("batch_id", envelope.batch_id)
    n = len(envelope.animals) + len(envelope.tracking) + len(envelope.observations)
    if n > MAX_ITEMS:
        raise TooLarge(f"the upload has {n} items; at most {MAX_ITEMS} are taken at once: send the rest in another")
    return Upload(
        device_id=envelope.device_id,
        key=key or envelope.batch_id,
        animals=[_item(bytes(raw), AnimalIn) for raw in envelope.animals],
        tracking=[_position(bytes(raw)) for raw in envelope.tracking],
        observations=[_item(bytes(raw), ObservationIn) for raw in envelope.observations],
    )


def _item(raw: bytes, shape: type[Any]) -> Item:
    hashed = _hash(raw)
    local_id = ""
    try:
        local_id = _kept("local_id", read_json(raw, _Named).local_id) or ""
        body = read_json(raw, shape)
        columns = body.columns()
        animal = _kept("animal", columns.pop("animal_id", None))
        return Item(local_id=local_id, hash=hashed, columns=columns, animal=animal, raw=raw)
    except Invalid as error:
        return Item(local_id=local_id, hash=hashed, why=error.detail, raw=raw)


def _position(raw: bytes) -> Item:
    local_id = ""
    try:
        body = read_json(raw, TrackingIn)
        local_id = _kept("local_id", body.local_id) or ""
        animal = _kept("animal", body.animal_reference)
        return Item(local_id=local_id, hash=_hash(raw), said=body.said(), collar=body.collar_id, animal=animal, raw=raw)
    except Invalid as error:
        return Item(local_id=local_id, hash=_hash(raw), why=error.detail, raw=raw)


def _hash(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=12).hexdigest()


def _kept(field: str, name: str | None) -> str | None:
    """Return a name; raises Invalid for one that PostgreSQL cannot even be asked for."""
    if name and "\0" in name:
        raise Invalid(f"{field}: must not contain control characters")
    return name


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
