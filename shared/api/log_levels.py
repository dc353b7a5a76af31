"""/api/v1/logs/levels: what the program logs, package by package, changed while it runs; until its next start."""

from __future__ import annotations

from litestar import Controller, get, put
from litestar.params import JSONBody
from msgspec import Struct

from shared.accounts.audit import Entry
from shared.api.access import AccountsGiven, CallerGiven
from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.logs import LEVELS_NOW


class LevelIn(Struct, frozen=True):
    """A package like ``edge.sync`` ("": everything else) and its level; null takes its own away."""

    package: str
    level: str | None


class LevelsOut(Struct, frozen=True):
    """The level of each package that has one; ``""`` is everything else."""

    levels: dict[str, str]


class LogLevels(Controller):
    """What is logged."""

    path = "/logs/levels"
    tags = ("health",)
    return_dto = None

    @get("/", summary="Levels of the log by package")
    async def levels(self) -> LevelsOut:
        """Return the levels of the process that answers."""
        return LevelsOut(LEVELS_NOW.told())

    @put("/", summary="Change the level of a package", dto=JsonBody, responses=documented())
    async def change(self, accounts: AccountsGiven, caller: CallerGiven, data: JSONBody[LevelIn]) -> LevelsOut:
        """Change what the process that answers logs, until it ends; who did so stands in the audit log."""
        LEVELS_NOW.set(data.package, data.level)
        said = f"{data.package or 'everything else'} {data.level or 'as the rest'}"
        await accounts.note([Entry(accounts.moments().ms, caller.principal.user_id, "log.level", said)])
        return LevelsOut(LEVELS_NOW.told())
