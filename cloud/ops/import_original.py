"""The original platform's database into ours: people, animals, positions, observations, zones, corridors, alerts,
rangers with their teams, positions, logs and planned patrols, and what its models said.

Repeatable. Ids stay what they were, so a row that came once is known and left as people have made it since; positions
have ids of their own that follow from what they say. A second run changes nothing but for what the original has got
meanwhile. Passwords, sessions and codes are not read at all: people log in by a code that is sent to them, or set a new
password.

The original knows only which collar an animal has now. It is deployed from the first position that was stored with it,
or from the last that another animal has of it, so no position changes its animal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal, LiteralString

import msgspec

from cloud.ops.original_patrols import (
    patrol_log_columns,
    patrol_route_columns,
    prediction_of,
    ranger_columns,
    ranger_position_columns,
    team_columns,
)
from cloud.ops.original_rows import (
    alert_columns,
    animal_columns,
    collar_of,
    corridor_row_columns,
    fix,
    observation_columns,
    zone_row_columns,
)
from cloud.store.original import Original, known_ids, open_original
from cloud.store.store import PostgresStore
from shared.accounts import audit, users
from shared.accounts.service import Accounts
from shared.accounts.users import ALL_STATIONS, Job
from shared.domain import NewFix
from shared.errors import Conflict, Invalid, RequestError
from shared.ids import derived_id
from shared.privacy import OPERATOR, Role
from shared.sync.operations import Operation
from shared.sync.predictions import MOST_KEPT
from shared.sync.records import ENTITIES, EntityName, stored_columns, to_ms

SHOWN_PROBLEMS: Final = 50
_BATCH: Final = 2_000
#: So many positions of rangers are one transaction.
_POSITIONS: Final = 500
#: So many answers of its models are taken, the newest.
MOST_PREDICTIONS: Final = MOST_KEPT // 2
_AFTER: Final = timedelta(milliseconds=1)

Kept = Literal["new", "known", "refused"]
Reader = Callable[[Mapping[str, Any]], dict[str, Any]]


class Taken(msgspec.Struct):
    """What became of the rows of one table."""

    rows: int = 0
    new: int = 0
    known: int = 0
    refused: int = 0


class ImportedOriginal(msgspec.Struct, kw_only=True):
    """What an import did. ``left`` are tables that are not read, with their rows."""

    users: Taken = msgspec.field(default_factory=Taken)
    animals: Taken = msgspec.field(default_factory=Taken)
    deployments: Taken = msgspec.field(default_factory=Taken)
    conflict_zones: Taken = msgspec.field(default_factory=Taken)
    corridors: Taken = msgspec.field(default_factory=Taken)
    tracking: Taken = msgspec.field(default_factory=Taken)
    observations: Taken = msgspec.field(default_factory=Taken)
    wildlife_alerts: Taken = msgspec.field(default_factory=Taken)
    rangers_rangerteam: Taken = msgspec.field(default_factory=Taken)
    rangers_ranger: Taken = msgspec.field(default_factory=Taken)
    rangers_rangertracking: Taken = msgspec.field(default_factory=Taken)
    rangers_patrollog: Taken = msgspec.field(default_factory=Taken)
    rangers_patrolroute: Taken = msgspec.field(default_factory=Taken)
    predictions: Taken = msgspec.field(default_factory=Taken)
    left: dict[str, int] = {}
    problems: list[str] = []


class _Import:
    def __init__(
        self, original: Original, store: PostgresStore, accounts: Accounts, told: Callable[[str, int, int], None],
        refused: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._original = original
        self._store = store
        self._accounts = accounts
        self._told = told
        self._refused = refused
        self._wears: dict[str, str] = {}
        self.done = ImportedOriginal()

    # --- people

    async def people(self, *, keeps_roles: bool) -> None:
        """Enter people without passwords; everybody is a viewer, unless roles are kept."""
        async for row in self._rows("users", "email, id"):
            try:
                is_new = await self._accounts.tables.write(self._person(row, keeps_roles=keeps_roles))
            except RequestError as error:
                self._refuse("users", row["id"], error.detail)
                continue
            self._count("users", "new" if is_new else "known")

    def _person(self, row: Mapping[str, Any], *, keeps_roles: bool) -> Job[bool]:
        now_ms = self._accounts.moments().ms
        if (yield from users.find(str(row["id"]))) is not None:
            return False
        role: Role = users.check_role(str(row["role"])) if keeps_roles else "viewer"
        try:
            phone = users.plain_phone(row.get("phone"))
        except Invalid:
            phone = None  # no number: a person can enter a right one
        made = users.new_user(
            email=str(row["email"] or ""), name=str(row["name"] or row["email"] or ""), role=role, now_ms=now_ms,
            phone=phone, organization=row.get("organization") or None, is_active=row.get("is_active") is not False,
            is_email_verified=bool(row.get("is_email_verified")), stations=(ALL_STATIONS,) if role != "viewer" else (),
            is_phone_verified=phone is not None and bool(row.get("is_phone_verified")),
        )  # fmt: skip
        yield from users.insert(msgspec.structs.replace(made, id=str(row["id"])))
        yield from audit.write([audit.Entry(now_ms, OPERATOR.user_id, "user.import", f"{row['id']} {role}")])
        return True

    # --- animals and what they wear

    async def animals(self) -> None:
        """Enter animals, and the collars that they have now."""
        worn = await self._original.worn()
        async for row in self._rows("animals", "created_at, id"):
            identity = str(row["id"])
            outcome = await self._record("animals", "animal", row, animal_columns)
            if outcome == "refused" or not row.get("collar_id"):
                continue
            self.done.deployments.rows += 1
            try:
                collar = collar_of(row["collar_id"])
            except Invalid as error:
                self._refuse("deployments", identity, error.detail)
                continue
            if collar is None:
                continue
            if collar != row["collar_id"]:
                self._refused(f"animals {identity}: collar_id is kept as {collar}")
            self._wears[identity] = collar
            await self._deploy(
                identity,
                collar,
                _since(identity, row["collar_id"].strip(), worn, row.get("created_at") or self._store.now()),
            )

    async def _deploy(self, animal_id: str, collar_id: str, started_at: datetime) -> None:
        identity = derived_id(animal_id, f"wears {collar_id}")
        columns = stored_columns(
            ENTITIES["deployment"], {"animal_id": animal_id, "collar_id": collar_id, "started_at": started_at}
        )
        await self._edit("deployments", "deployment", identity, columns, to_ms(started_at))

    # --- positions

    async def positions(self) -> None:
        """Enter positions, thousands at a time."""
        batch: list[NewFix] = []
        async for row in self._rows("tracking", "timestamp, id"):
            try:
                batch.append(fix(row, self._wears.get(str(row["animal_id"]))))
            except Invalid as error:
                self._refuse("tracking", row["id"], error.detail)
            if len(batch) >= _BATCH:
                await self._add(batch)
                batch = []
        await self._add(batch)

    async def _add(self, batch: list[NewFix]) -> None:
        added = await self._store.add_fixes(self._accounts.view(OPERATOR), batch)
        for each in added:
            self._count("tracking", "new" if each.outcome == "new" else "known")

    # --- rangers and what models said

    async def rangers(self) -> None:
        """Enter teams, rangers, where these were, what they wrote down and what was planned for them."""
        await self.records("rangers_rangerteam", "team", team_columns, "created_at, id")
        names = await self._original.names()
        await self.records(
            "rangers_ranger",
            "ranger",
            lambda row: ranger_columns(row, names.get(str(row["user_id"]))),
            "created_at, id",
        )
        await self._ranger_positions()
        await self.records("rangers_patrollog", "patrol_log", patrol_log_columns, "timestamp, id")
        going: dict[str, list[str]] = {}
        for route, ranger in await self._original.assigned():
            going.setdefault(route, []).append(ranger)
        await self.records(
            "rangers_patrolroute",
            "patrol_route",
            lambda row: patrol_route_columns(row, going.get(str(row["id"]), [])),
            "created_at, id",
        )

    async def _ranger_positions(self) -> None:
        table = "rangers_rangertracking"
        if not self._original.has(table):
            return
        there: dict[str, bool] = {}
        batch: list[dict[str, Any]] = []
        async for row in self._rows(table, "timestamp, id"):
            try:
                columns = ranger_position_columns(row)
                if (ranger := columns["ranger_id"]) not in there:
                    there[ranger] = await self._is_known("rangers", ranger)
                if not there[ranger]:
                    raise Invalid("ranger: is not here")
            except Invalid as error:
                self._refuse(table, row["id"], error.detail)
                continue
            batch.append(columns)
            if len(batch) >= _POSITIONS:
                await self._add_ranger_positions(table, batch)
                batch = []
        await self._add_ranger_positions(table, batch)

    async def _add_ranger_positions(self, table: str, batch: list[dict[str, Any]]) -> None:
        for each in await self._store.add_ranger_positions(self._accounts.view(OPERATOR), batch):
            self._count(table, "new" if each.outcome == "new" else "known")

    async def predictions(self) -> None:
        """Keep what its models said last: of all that a home keeps, half, so that its own keep their place."""
        if not self._original.has("predictions"):
            return
        view = self._accounts.view(OPERATOR)
        passed_over = await self._original.count("predictions") - MOST_PREDICTIONS
        number = 0
        async for row in self._rows("predictions", "created_at, id"):
            number += 1
            try:
                if number <= passed_over:
                    raise Invalid(f"created_at: it is none of the newest {MOST_PREDICTIONS}")
                _, is_new = await self._store.keep_prediction(view, prediction_of(row), f"original {row['id']}")
            except Invalid as error:
                self._refuse("predictions", row["id"], error.detail)
                continue
            self._count("predictions", "new" if is_new else "known")

    # --- records

    async def records(
        self,
        table: str,
        entity: EntityName,
        columns: Reader,
        order: LiteralString,
    ) -> None:
        """Enter the rows of a table as records."""
        if self._original.has(table):
            async for row in self._rows(table, order):
                await self._record(table, entity, row, columns)

    async def _record(
        self, table: str, entity: EntityName, row: Mapping[str, Any],
        columns: Reader,
    ) -> Kept:  # fmt: skip
        try:
            stored = stored_columns(ENTITIES[entity], columns(row))
        except Invalid as error:
            return self._refuse(table, row["id"], error.detail)
        made = row.get("created_at") or self._store.now()
        return await self._edit(table, entity, str(row["id"]), stored, to_ms(made))

    async def _edit(self, table: str, entity: EntityName, identity: str, columns: dict[str, Any], made_ms: int) -> Kept:
        if await self._is_known(ENTITIES[entity].table, identity):
            return self._count(table, "known")
        try:
            await self._store.edit(
                Operation(
                    id=derived_id(identity, "import"), entity=entity, row_id=identity, kind="insert", columns=columns,
                    author=OPERATOR.user_id, made_ms=made_ms,
                )
            )  # fmt: skip
        except (Conflict, Invalid) as error:
            return self._refuse(table, identity, error.detail)
        return self._count(table, "new")

    async def _is_known(self, table: str, identity: str) -> bool:
        async with self._store.database.snapshot() as connection:
            return bool(await known_ids(connection, table, [identity]))

    # --- keeping count

    async def _rows(self, table: str, order: LiteralString) -> AsyncIterator[Mapping[str, Any]]:
        total = await self._original.count(table)
        taken: Taken = getattr(self.done, table)
        async for row in self._original.rows(table, order):
            taken.rows += 1
            yield row
            self._told(table, taken.rows, total)

    def _count(self, table: str, outcome: Kept) -> Kept:
        taken: Taken = getattr(self.done, table)
        setattr(taken, outcome, getattr(taken, outcome) + 1)
        return outcome

    def _refuse(self, table: str, identity: object, why: str) -> Kept:
        problem = f"{table} {identity}: {why}"
        self._refused(problem)
        if len(self.done.problems) < SHOWN_PROBLEMS:
            self.done.problems.append(problem)
        return self._count(table, "refused")


async def import_original(
    url: str,
    store: PostgresStore,
    accounts: Accounts,
    *,
    keeps_roles: bool = False,
    told: Callable[[str, int, int], None] = lambda *_: None,
    refused: Callable[[str], None] = lambda _: None,
) -> ImportedOriginal:
    """Copy what the database at ``url`` holds into ours, and say what became of each table.

    ``told`` hears of table, rows read and rows in all; ``refused`` of each row that was not taken, by id and reason,
    without a position. Raises Invalid where the database is another program's.
    """
    async with open_original(url) as original:
        importing = _Import(original, store, accounts, told, refused)
        await importing.people(keeps_roles=keeps_roles)
        await importing.animals()
        await importing.records("conflict_zones", "zone", zone_row_columns, "created_at, id")
        await importing.records("corridors", "corridor", corridor_row_columns, "created_at, id")
        await importing.positions()
        await importing.records("observations", "observation", observation_columns, "timestamp, id")
        await importing.records("wildlife_alerts", "alert", alert_columns, "detected_at, id")
        await importing.rangers()
        await importing.predictions()
        importing.done.left = await original.left()
        return importing.done


def _since(animal_id: str, collar: str, worn: list[tuple[str, str | None, Any, Any]], made: datetime) -> datetime:
    """Return from when an animal has worn its collar: no position of it that another animal has comes later."""
    own = [first for animal, worn_collar, first, _ in worn if (animal, worn_collar) == (animal_id, collar)]
    others = [last + _AFTER for animal, worn_collar, _, last in worn if worn_collar == collar and animal != animal_id]
    return max([*own, *others], default=made)
