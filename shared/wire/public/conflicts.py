"""Conflicts for a person, as the API shows them. Columns are in stored form: ``lon_e7``, ``recorded_ms``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from shared.sync.clashes import Clash, ClashKind, ClashStatus, Resolution
from shared.sync.records import EntityName, from_ms


class ConflictOut(Struct, frozen=True, kw_only=True):
    """One conflict: ``server`` is what stands, ``client`` what lost; both are columns by name.

    ``can_resolve`` says whether this home may; what the cloud found is resolved in the cloud.
    """

    id: str
    kind: ClashKind
    entity: EntityName
    row_id: str
    other_id: str | None
    server: dict[str, Any]
    client: dict[str, Any]
    author: str | None
    origin: str
    made_at: datetime
    noted_at: datetime
    needs_person: bool
    status: ClashStatus
    resolution: Resolution | None
    merged: dict[str, Any] | None
    note: str | None
    resolved_by: str | None
    resolved_at: datetime | None
    can_resolve: bool

    @classmethod
    def of(cls, clash: Clash) -> ConflictOut:
        """Return the public form of ``clash``."""
        return cls(
            id=clash.id,
            kind=clash.kind,
            entity=clash.entity,
            row_id=clash.row_id,
            other_id=clash.other_id,
            server=_object(clash.ours),
            client=_object(clash.theirs),
            author=clash.author,
            origin=clash.origin,
            made_at=from_ms(clash.made_ms),
            noted_at=from_ms(clash.noted_ms),
            needs_person=clash.needs_person,
            status=clash.status,
            resolution=clash.resolution,
            merged=None if clash.merged is None else _object(clash.merged),
            note=clash.note,
            resolved_by=clash.resolved_by,
            resolved_at=None if clash.resolved_ms is None else from_ms(clash.resolved_ms),
            can_resolve=clash.status == "open" and not clash.is_from_above,
        )


class ConflictDetail(Struct, frozen=True, kw_only=True):
    """One conflict with everything that was ever in conflict about its record, oldest first."""

    conflict: ConflictOut
    history: list[ConflictOut]


class ResolveConflictIn(Struct, kw_only=True, forbid_unknown_fields=True):
    """A person's decision; ``columns`` with ``merge``: what the record should hold, in stored form."""

    resolution: Resolution
    columns: dict[str, Any] = {}
    note: Annotated[str, Meta(max_length=10_000)] | None = None


def _object(text: str) -> dict[str, Any]:
    return msgspec.json.decode(text, type=dict[str, Any])
