"""What a record that the cloud sent down does at a station, and one that left the station's scope."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from shared.sync.operations import Change, Effects, Rows, consequences
from shared.sync.records import EntityName, Mark, Record, kept_form


def take(theirs: Record, rows: Rows, pending: Iterable[str], now_ms: int) -> Effects:
    """Return what a record that the cloud sent down does here; ``pending`` columns have edits that it does not know.

    Where such an edit stands against something that its author did not know either, ``cloud_rev`` stays, so that the
    edit is sent as what it is, a clash; the cloud sends the record again with its ruling.
    """
    mine = rows.get(theirs.entity, theirs.id)
    if mine is not None and mine.cloud_rev >= theirs.rev:
        return Effects(outcome="duplicate")
    kept = set(pending)
    theirs = replace(theirs, columns=kept_form(theirs.columns))
    if mine is None:
        record = replace(theirs, rev=1, cloud_rev=theirs.rev, marks={}, updated_ms=now_ms)
        columns = dict(theirs.columns)
    else:
        others = {name: value for name, value in theirs.columns.items() if mine.columns.get(name) != value}
        columns = {name: value for name, value in others.items() if name not in kept}
        unmarked = Mark(1 if theirs.marks else theirs.rev)
        is_clash = any(theirs.marks.get(name, unmarked).rev > mine.cloud_rev for name in others.keys() - columns.keys())
        is_clash = is_clash or bool(kept and theirs.is_deleted != mine.is_deleted)
        if not (columns or is_clash or kept) and theirs.is_deleted == mine.is_deleted:  # as it was sent from here
            echo = replace(mine, cloud_rev=theirs.rev, author=theirs.author)
            return Effects(outcome="duplicate", changes=(Change(before=mine, record=echo, columns={}),))
        rev = mine.rev + 1
        record = replace(
            mine,
            columns={**mine.columns, **columns},
            rev=rev,
            cloud_rev=mine.cloud_rev if is_clash else theirs.rev,
            author=theirs.author,
            updated_ms=now_ms,
            deleted_ms=mine.deleted_ms if kept else theirs.deleted_ms,
            marks={**mine.marks, **dict.fromkeys(columns, Mark(rev, "cloud"))},
        )
    changes = [Change(before=mine, record=record, columns=columns)]
    if record.entity == "collar" and not record.is_deleted:
        changes += _yielded(record, mine, rows, now_ms)
    rekeyed, moved = consequences(changes, rows)
    return Effects(outcome="applied", changes=tuple(changes), rekeyed=rekeyed, moved=moved)


def leave(entity: EntityName, identity: str, rows: Rows, pending: Collection[str], now_ms: int) -> Effects:
    """Return what the leaving of a record from this station's scope does: it goes from here, and nobody is told.

    Its tombstone knows no revision of the cloud, so that the record comes back whole should it enter again. One with
    ``pending`` edits stays until the cloud has ruled on them: it tells of the leaving again then.
    """
    mine = rows.get(entity, identity)
    if mine is None or mine.is_deleted or pending:
        return Effects(outcome="duplicate")
    record = replace(mine, rev=mine.rev + 1, cloud_rev=0, updated_ms=now_ms, deleted_ms=now_ms)
    columns: dict[str, Any] = {}
    if entity == "collar" and mine.columns["aliases"]:  # what is heard under these is not known to be this one any more
        columns = {"aliases": ()}
        record = replace(record, columns={**mine.columns, **columns})
    changes = [Change(before=mine, record=record, columns=columns)]
    rekeyed, moved = consequences(changes, rows)
    return Effects(outcome="applied", changes=tuple(changes), rekeyed=rekeyed, moved=moved)


def _yielded(collar: Record, before: Record | None, rows: Rows, now_ms: int) -> list[Change]:
    """Return what the radio ids that the cloud gave to ``collar`` take from others here.

    The cloud sends the tombstone of a collar that became this one earlier, later or never.
    """
    changes: dict[tuple[EntityName, str], Change] = {}

    def give_up(record: Record, columns: Mapping[str, Any], deleted_ms: int | None = None) -> None:
        earlier = changes.get((record.entity, record.id))
        now = record if earlier is None else earlier.record
        rev = record.rev + 1
        after = replace(
            now,
            columns={**now.columns, **columns},
            rev=rev,
            updated_ms=now_ms,
            deleted_ms=deleted_ms or now.deleted_ms,
            marks={**now.marks, **dict.fromkeys(columns, Mark(rev, "cloud"))},
        )
        changes[record.entity, record.id] = Change(before=record, record=after, columns=columns)

    known = () if before is None else before.columns["aliases"]
    for alias in collar.columns["aliases"]:
        if alias in known:
            continue
        owner = rows.get("collar", rows.canonical(alias))
        if owner is not None and owner.id not in (alias, collar.id):
            change = changes.get(("collar", owner.id))
            held = (owner if change is None else change.record).columns["aliases"]
            give_up(owner, {"aliases": tuple(each for each in held if each != alias)})
        heard = rows.get("collar", alias)
        if heard is not None and not heard.is_deleted:
            give_up(heard, {"aliases": ()}, now_ms)
        for wearing in rows.worn("collar_id", alias):
            give_up(wearing, {"collar_id": collar.id})
    return list(changes.values())
