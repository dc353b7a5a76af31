"""What a body names (an animal, a zone, a team, a ranger) must exist: a wrong name is its fault (400), no 404."""

from __future__ import annotations

from shared.domain import Animal, Ranger, Team, Zone
from shared.errors import Invalid, NotFound
from shared.privacy import View
from shared.store import RangerQuery, Store


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


async def named_team(store: Store, view: View, team_id: str) -> Team:
    """Return the team that a body names; raises Invalid where there is none."""
    try:
        return await store.team(view, team_id)
    except NotFound as error:
        raise Invalid(f"team: there is no team {team_id}") from error


async def named_ranger(store: Store, view: View, ranger_id: str) -> Ranger:
    """Return the ranger that a body names; raises Invalid where there is none."""
    try:
        return await store.ranger(view, ranger_id)
    except NotFound as error:
        raise Invalid(f"ranger: there is no ranger {ranger_id}") from error


async def caller_as_ranger(store: Store, view: View) -> Ranger | None:
    """Return the ranger that the caller's account is of; None where it is of none."""
    found = (await store.rangers(view, RangerQuery(user_id=view.principal.user_id, limit=1))).results
    return found[0] if found else None
