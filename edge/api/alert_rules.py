"""/api/v1/alerts/rules at the station: what rings, when it may, and what a person has silenced for a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from litestar import Controller, delete, get, put
from litestar.di import Dependency
from litestar.params import FromPath, JSONBody, QueryParameter, SkipValidationMarker
from msgspec import Struct

from edge.alerts.keeper import Keeper
from edge.alerts.rules import CATEGORIES, RULES, RuleName
from edge.alerts.schedule import Schedule
from edge.alerts.seen import Mute
from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.inject import ClockGiven, ViewGiven
from shared.errors import Invalid, NotFound
from shared.movement.kinds import Category
from shared.sync.records import from_ms, to_ms
from shared.wire.reading import instant

#: Longer than this nobody remembers that a rule is silent.
MAX_MUTE: Final = timedelta(days=90)

AlarmsGiven = Annotated[Keeper, Dependency(kind="named"), SkipValidationMarker()]


class MuteOut(Struct, frozen=True, kw_only=True):
    """A silence: of one animal, or (null) of all."""

    animal: str | None
    until: datetime
    made_at: datetime
    made_by: str | None


class RuleOut(Struct, frozen=True, kw_only=True):
    """A rule: its numbers by kind of animal, when it may ring, and who silenced it until when."""

    rule: RuleName
    numbers: dict[Category, dict[str, Any]]
    schedule: Schedule | None
    mutes: list[MuteOut]


class MuteIn(Struct, kw_only=True):
    """Until when (RFC 3339 with its offset) a rule is silent, and for which animal; without one for all."""

    until: str
    animal: str | None = None


class AlertRules(Controller):
    """The rules of the station's alarms."""

    path = "/api/v1/alerts/rules"
    tags = ("alerts",)
    return_dto = None

    @get("/", summary="List the rules of the alarms", responses=documented())
    async def list_rules(
        self,
        alarms: AlarmsGiven,
        clock: ClockGiven,
        view: ViewGiven,  # asking for it is what refuses callers who may not see alerts
    ) -> list[RuleOut]:
        """List every rule with its numbers, its schedule and the silences that last."""
        mutes = _lasting(await alarms.mutes(), clock)
        return [_rule_out(alarms, rule, mutes) for rule in RULES]

    @put("/{rule:str}/mute", summary="Silence a rule for a while", dto=JsonBody, responses=documented(404))
    async def mute(
        self, alarms: AlarmsGiven, clock: ClockGiven, view: ViewGiven, rule: FromPath[str], data: JSONBody[MuteIn]
    ) -> RuleOut:
        """Silence a rule until then, for one animal or for all; what still holds then rings."""
        name = _named(rule)
        until, now = instant("until", data.until), clock.now()
        if not now < until <= now + MAX_MUTE:
            raise Invalid(f"until: must lie ahead, at most {MAX_MUTE.days} days")
        await alarms.mute(
            Mute(
                rule=name,
                until_ms=to_ms(until),
                animal_id=data.animal or None,
                made_ms=to_ms(now),
                author=view.principal.user_id,
            )
        )
        return _rule_out(alarms, name, _lasting(await alarms.mutes(), clock))

    @delete("/{rule:str}/mute", summary="Let a rule ring again", responses=documented(404))
    async def unmute(
        self,
        alarms: AlarmsGiven,
        view: ViewGiven,  # asking for it is what refuses callers who may not see alerts
        rule: FromPath[str],
        animal: Annotated[str | None, QueryParameter(description="The animal; without one the silence of all.")] = None,
    ) -> None:
        """Take a silence back before its end."""
        await alarms.unmute(_named(rule), animal or None)


def _named(rule: str) -> RuleName:
    for name in RULES:
        if name == rule:
            return name
    raise NotFound(f"there is no rule {rule}; the rules are {', '.join(RULES)}")


def _lasting(mutes: Sequence[Mute], clock: ClockGiven) -> list[Mute]:
    """Return the mutes that are not over; on a clock that is not sure none is."""
    now_ms, is_sure = to_ms(clock.now()), clock.state.is_sure
    return [mute for mute in mutes if not is_sure or mute.until_ms > now_ms]


def _rule_out(alarms: Keeper, rule: RuleName, mutes: Sequence[Mute]) -> RuleOut:
    book = alarms.engine.book
    numbers: dict[Category, Mapping[str, Any]] = {
        category: msgspec.to_builtins(book.by_category[category].of(rule)) for category in CATEGORIES
    }
    return RuleOut(
        rule=rule,
        numbers=msgspec.convert(numbers, dict[Category, dict[str, Any]]),
        schedule=book.schedules.get(rule),
        mutes=[
            MuteOut(
                animal=mute.animal_id, until=from_ms(mute.until_ms), made_at=from_ms(mute.made_ms), made_by=mute.author
            )
            for mute in mutes
            if mute.rule == rule
        ],
    )
