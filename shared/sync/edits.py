"""The writes of a Store's records, all in terms of one: ``edit`` an operation. Every store inherits them."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from shared.domain import AddedFix, Alert, Animal, Collar, Corridor, Deployment, Observation, Patrol, Zone
from shared.ids import derived_id, random_id
from shared.privacy import View
from shared.store import RecordEdit
from shared.sync.operations import Kind, Operation, Outcome
from shared.sync.records import ENTITIES, EntityName, stored_columns, to_ms
from shared.sync.reduced import after_edit


class RecordEdits(abc.ABC):
    """What ``shared.store.Store`` says of creating, changing and deleting records."""

    @abc.abstractmethod
    async def edit(self, operation: Operation) -> object:
        """Decide and apply ``operation`` in one transaction; return its record afterwards, None if it is deleted."""

    @abc.abstractmethod
    async def edit_all(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Decide and apply ``operations`` in one transaction, all or none; return what each did."""

    @abc.abstractmethod
    def now(self) -> datetime:
        """Return the time by which edits are dated."""

    async def create_animal(self, view: View, columns: dict[str, Any]) -> Animal:
        """Store a new animal."""
        return cast("Animal", await self._edit(view, "animal", "insert", None, columns))

    async def update_animal(self, view: View, animal_id: str, columns: dict[str, Any]) -> Animal:
        """Change the given columns."""
        return cast("Animal", await self._edit(view, "animal", "update", animal_id, columns))

    async def delete_animal(self, view: View, animal_id: str) -> None:
        """Leave a tombstone."""
        await self._edit(view, "animal", "delete", animal_id, {})

    async def put_collar(self, view: View, collar_id: str, columns: dict[str, Any]) -> Collar:
        """Create or change a collar."""
        return cast("Collar", await self._edit(view, "collar", "insert", collar_id, columns))

    async def delete_collar(self, view: View, collar_id: str) -> None:
        """Leave a tombstone."""
        await self._edit(view, "collar", "delete", collar_id, {})

    async def create_deployment(self, view: View, columns: dict[str, Any]) -> Deployment:
        """Store a deployment, also in the past."""
        return cast("Deployment", await self._edit(view, "deployment", "insert", None, columns))

    async def update_deployment(self, view: View, deployment_id: str, columns: dict[str, Any]) -> Deployment:
        """Change a deployment."""
        given = {name: value for name, value in columns.items() if value is not None or name not in _KEPT}
        return cast("Deployment", await self._edit(view, "deployment", "update", deployment_id, given))

    async def delete_deployment(self, view: View, deployment_id: str) -> None:
        """Leave a tombstone."""
        await self._edit(view, "deployment", "delete", deployment_id, {})

    async def create_observation(self, view: View, columns: dict[str, Any]) -> Observation:
        """Store an observation."""
        return cast("Observation", await self._edit(view, "observation", "insert", None, columns))

    async def update_observation(self, view: View, observation_id: str, columns: dict[str, Any]) -> Observation:
        """Change the given columns."""
        return cast("Observation", await self._edit(view, "observation", "update", observation_id, columns))

    async def delete_observation(self, view: View, observation_id: str) -> None:
        """Leave a tombstone."""
        await self._edit(view, "observation", "delete", observation_id, {})

    async def create_zone(self, view: View, columns: dict[str, Any]) -> Zone:
        """Store a zone."""
        return cast("Zone", await self._edit(view, "zone", "insert", None, columns))

    async def update_zone(self, view: View, zone_id: str, columns: dict[str, Any]) -> Zone:
        """Change the given columns."""
        return cast("Zone", await self._edit(view, "zone", "update", zone_id, columns))

    async def delete_zone(self, view: View, zone_id: str) -> None:
        """Leave a tombstone."""
        await self._edit(view, "zone", "delete", zone_id, {})

    async def create_corridor(self, view: View, columns: dict[str, Any]) -> Corridor:
        """Store a corridor."""
        return cast("Corridor", await self._edit(view, "corridor", "insert", None, columns))

    async def update_corridor(self, view: View, corridor_id: str, columns: dict[str, Any]) -> Corridor:
        """Change the given columns."""
        return cast("Corridor", await self._edit(view, "corridor", "update", corridor_id, columns))

    async def delete_corridor(self, view: View, corridor_id: str) -> None:
        """Leave a tombstone."""
        await self._edit(view, "corridor", "delete", corridor_id, {})

    async def create_alert(self, view: View, columns: dict[str, Any]) -> Alert:
        """Store an alert."""
        return cast("Alert", await self._edit(view, "alert", "insert", None, columns))

    async def update_alert(
        self, view: View, alert_id: str, columns: dict[str, Any], *, if_rev: int | None = None
    ) -> Alert:
        """Change the given columns, if nobody has changed the alert since revision ``if_rev``."""
        return cast("Alert", await self._edit(view, "alert", "update", alert_id, columns, if_rev))

    async def edit_together(self, view: View, edits: Sequence[RecordEdit]) -> None:
        """Do several edits in one transaction."""
        await self.edit_all(
            [
                self._operation(
                    view,
                    cast("EntityName", edit.entity),
                    "insert" if edit.is_new else "update",
                    edit.row_id,
                    edit.columns,
                )
                for edit in edits
            ]
        )

    async def delete_record(self, view: View, entity: str, row_id: str) -> None:
        """Leave a tombstone."""
        await self._edit(view, cast("EntityName", entity), "delete", row_id, {})

    async def add_ranger_positions(self, view: View, positions: Sequence[dict[str, Any]]) -> list[AddedFix]:
        """Store positions of rangers, once each for ever."""
        if not positions:
            return []
        operations = []
        for columns in positions:
            stored = stored_columns(ENTITIES["ranger_position"], columns)
            said = f"{stored['recorded_ms']} {stored['lon_e7']} {stored['lat_e7']}"
            row_id = derived_id(stored["ranger_id"], said)
            operations.append(self._operation(view, "ranger_position", "insert", row_id, columns))
        outcomes = await self.edit_all(operations)
        return [
            AddedFix(id=operation.row_id, outcome="new" if outcome == "applied" else "duplicate")
            for operation, outcome in zip(operations, outcomes, strict=True)
        ]

    async def create_patrol(self, view: View, columns: dict[str, Any]) -> Patrol:
        """Store a patrol."""
        return cast("Patrol", await self._edit(view, "patrol", "insert", None, columns))

    async def update_patrol(self, view: View, patrol_id: str, columns: dict[str, Any]) -> Patrol:
        """Change the given columns."""
        return cast("Patrol", await self._edit(view, "patrol", "update", patrol_id, columns))

    async def delete_patrol(self, view: View, patrol_id: str) -> None:
        """Leave a tombstone."""
        await self._edit(view, "patrol", "delete", patrol_id, {})

    async def _edit(
        self,
        view: View,
        entity: EntityName,
        kind: Kind,
        row_id: str | None,
        given: Mapping[str, Any],
        if_rev: int | None = None,
    ) -> object:
        operation = self._operation(view, entity, kind, row_id, given, if_rev)
        return after_edit(view, await self.edit(operation))

    def _operation(
        self,
        view: View,
        entity: EntityName,
        kind: Kind,
        row_id: str | None,
        given: Mapping[str, Any],
        if_rev: int | None = None,
    ) -> Operation:
        if kind == "insert" and entity != "collar":  # nothing said leaves the default, which may not be None
            given = {name: value for name, value in given.items() if value is not None}
        columns = stored_columns(ENTITIES[entity], given)
        if entity == "animal" and "collar_id" in given:
            columns["collar_id"] = given["collar_id"]
        return Operation(
            id=random_id(),
            entity=entity,
            row_id=(given.get("id") or random_id()) if row_id is None else row_id,
            kind=kind,
            columns=columns,
            author=view.principal.user_id,
            made_ms=to_ms(self.now()),
            base_rev=if_rev,
        )


#: Of a deployment nobody takes these away: None leaves them as they are.
_KEPT = frozenset({"collar_id", "animal_id", "started_at"})
