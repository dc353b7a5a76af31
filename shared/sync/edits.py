"""The writes of a Store's records, all in terms of one: ``edit`` an operation. Every store inherits them."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from shared.domain import Alert, Animal, Collar, Corridor, Deployment, Observation, Patrol, Zone
from shared.ids import random_id
from shared.privacy import View
from shared.sync.operations import Kind, Operation
from shared.sync.records import ENTITIES, EntityName, stored_columns, to_ms
from shared.sync.reduced import after_edit


class RecordEdits(abc.ABC):
    """What ``shared.store.Store`` says of creating, changing and deleting records."""

    @abc.abstractmethod
    async def edit(self, operation: Operation) -> object:
        """Decide and apply ``operation`` in one transaction; return its record afterwards, None if it is deleted."""

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

    async def update_alert(self, view: View, alert_id: str, columns: dict[str, Any]) -> Alert:
        """Change the given columns."""
        return cast("Alert", await self._edit(view, "alert", "update", alert_id, columns))

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
        self, view: View, entity: EntityName, kind: Kind, row_id: str | None, given: Mapping[str, Any]
    ) -> object:
        if kind == "insert" and entity != "collar":  # nothing said leaves the default, which may not be None
            given = {name: value for name, value in given.items() if value is not None}
        columns = stored_columns(ENTITIES[entity], given)
        if entity == "animal" and "collar_id" in given:
            columns["collar_id"] = given["collar_id"]
        operation = Operation(
            id=random_id(),
            entity=entity,
            row_id=(given.get("id") or random_id()) if row_id is None else row_id,
            kind=kind,
            columns=columns,
            author=view.principal.user_id,
            made_ms=to_ms(self.now()),
        )
        return after_edit(view, await self.edit(operation))


#: Of a deployment nobody takes these away: None leaves them as they are.
_KEPT = frozenset({"collar_id", "animal_id", "started_at"})
