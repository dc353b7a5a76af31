"""An animal or a zone that a body names must exist: a wrong name is the body's fault (400), not the path's (404)."""

from __future__ import annotations

from shared.domain import Animal, Zone
from shared.errors import Invalid, NotFound
from shared.privacy import View
from shared.store import Store


async def named_animal(store: Store, view: View, animal_id: str) -> Animal:
    """Return the animal that a body names; raises Invalid where there is none."""
    try:
        return await store.animal(view, animal_id)
    except NotFound as error:
        raise Invalid(f"animal: there is no animal {animal_id}") from error


async def named_zone(store: Store, view: View, zone_id: str) -> Zone:
    """Return the zone that a body names; raises Invalid where there is none."""
    try:
        return await store.zone(view, zone_id)
    except NotFound as error:
        raise Invalid(f"conflict_zone: there is no zone {zone_id}") from error
