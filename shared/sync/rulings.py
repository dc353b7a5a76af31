"""What a person's resolution of a conflict means, as ordinary operations; ``shared.sync.clashes`` keeps conflicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from shared.accounts.users import Job
from shared.errors import Invalid
from shared.ids import derived_id
from shared.sync.clashes import Clash, Resolution
from shared.sync.operations import Kind, Operation
from shared.sync.records import ENTITIES, EntityName, check_columns, kept_form

_OWNER: Final = "SELECT c.id FROM collar_aliases a JOIN collars c ON c.pk = a.collar_pk WHERE a.alias = ?"


def ruling(
    clash: Clash, resolution: Resolution, columns: Mapping[str, Any], by: str, now_ms: int
) -> Job[list[Operation]]:
    """Return the operations that make a resolution so; raises Invalid for one that this kind has not.

    ``columns`` are what a person put together, in stored form; with ``merge`` alone.
    """
    if columns and resolution != "merge":
        raise Invalid("columns: belong to the resolution merge alone")
    if resolution == "merge" and not columns and clash.kind not in ("duplicate_collar", "duplicate_observation"):
        raise Invalid("columns: say what the record should hold")
    check_columns(ENTITIES["animal" if clash.kind == "duplicate_collar" else clash.entity], columns)
    if clash.kind == "position_disagreement":
        if resolution != "keep_both":
            raise Invalid("resolution: both places are kept; take the wrong fix out by hand, then keep_both")
        return []
    act = _Acts(clash, resolution, by, now_ms)
    if clash.kind == "duplicate_collar":
        return (yield from _on_collar(clash, resolution, columns, act))
    if clash.kind == "duplicate_observation":
        return _on_twins(clash, resolution, columns, act)
    if resolution == "keep_both":
        raise Invalid("resolution: one record cannot hold both; keep_server, keep_client or merge")
    if resolution == "keep_server":
        return []
    return (yield from _on_record(clash, resolution, columns, act))


class _Acts:
    """Makes the operations of one resolution; the same resolution makes the same ones."""

    def __init__(self, clash: Clash, resolution: Resolution, by: str, now_ms: int) -> None:
        self._of = f"{clash.id} {resolution}"
        self._by = by
        self._now_ms = now_ms

    def __call__(
        self, kind: Kind, entity: EntityName, row_id: str, columns: Mapping[str, Any], base_rev: int | None = None
    ) -> Operation:
        return Operation(
            id=derived_id(self._of, f"{kind} {entity} {row_id}"), entity=entity, row_id=row_id, kind=kind,
            made_ms=self._now_ms, columns=dict(columns), author=self._by, base_rev=base_rev,
        )  # fmt: skip


def _on_record(clash: Clash, resolution: Resolution, columns: Mapping[str, Any], act: _Acts) -> Job[list[Operation]]:
    """Take what lost, or what was put together, over what stands."""
    wanted = dict(columns) if resolution == "merge" else kept_form(_object(clash.theirs))
    if clash.kind == "collar_renamed":
        rows = yield _OWNER, (clash.row_id,)
        return [act("insert", "collar", str(rows[0][0]) if rows else clash.row_id, wanted)]
    if clash.kind == "delete_after_edit":
        is_merge = resolution == "merge"
        return [act("update" if is_merge else "delete", clash.entity, clash.row_id, wanted if is_merge else {})]
    if clash.kind == "edit_after_delete":
        rows = yield f"SELECT rev FROM {ENTITIES[clash.entity].table} WHERE id = ?", (clash.row_id,)
        return [act("insert", clash.entity, clash.row_id, wanted, int(rows[0][0]) if rows else None)]
    return [act("insert" if clash.entity == "collar" else "update", clash.entity, clash.row_id, wanted)]


def _on_twins(clash: Clash, resolution: Resolution, columns: Mapping[str, Any], act: _Acts) -> list[Operation]:
    """Leave both observations, or one of them; ``merge`` keeps the first with what was put together."""
    assert clash.other_id is not None
    if resolution == "keep_both":
        return []
    gone = clash.other_id if resolution == "keep_client" else clash.row_id
    merged = [act("update", "observation", clash.other_id, columns)] if columns else []
    return [*merged, act("delete", "observation", gone, {})]


def _on_collar(clash: Clash, resolution: Resolution, columns: Mapping[str, Any], act: _Acts) -> Job[list[Operation]]:
    """Say whose a collar is: the first animal's, the second one's, or that both are one animal (``merge``)."""
    assert clash.other_id is not None
    theirs, ours = _object(clash.theirs), _object(clash.ours)
    if resolution == "keep_both":
        raise Invalid("resolution: a collar is on one animal at a time")
    if resolution == "keep_client":
        ended_ms = theirs.get("started_ms")
        if ended_ms is not None and ended_ms > ours["started_ms"]:
            end = act("update", "deployment", clash.other_id, {"ended_ms": ended_ms})
        else:
            end = act("delete", "deployment", clash.other_id, {})
        return [end, act("insert", "deployment", clash.row_id, theirs)]
    # the home that brought it has it: a tombstone tells it that it is not so
    gone = [act("delete", "deployment", clash.row_id, theirs)]
    kept_id, other_id = ours["animal_id"], theirs["animal_id"]
    if resolution == "keep_server" or kept_id == other_id:
        return gone
    moved: list[Operation] = []
    children: tuple[EntityName, ...] = ("observation", "alert", "deployment")
    for entity in children:
        key = "animal_pk = (SELECT pk FROM animals WHERE id = ?)" if entity == "deployment" else "animal_id = ?"
        rows = yield (
            f"SELECT id FROM {ENTITIES[entity].table} WHERE {key} AND deleted_ms IS NULL ORDER BY id",
            (other_id,),
        )
        moved += [act("update", entity, str(identity), {"animal_id": kept_id}) for (identity,) in rows]
    merged = [act("update", "animal", kept_id, columns)] if columns else []
    return [*gone, *moved, *merged, act("delete", "animal", other_id, {})]


def _object(text: str) -> dict[str, Any]:
    return msgspec.json.decode(text, type=dict[str, Any])
