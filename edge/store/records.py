"""Writes to what people edit: animals, collars, deployments, observations.

Each row has rev, author and tombstone; each write leaves its outbox row in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from edge.store.driver import Connection
from edge.store.fixes import FixWriter, to_ms
from shared.errors import Conflict, Invalid, NotFound
from shared.ids import random_id

_FAR_MS: Final = 2**62

_ANIMAL_COLUMNS: Final[tuple[str, ...]] = (
    "name",
    "species",
    "status",
    "health_status",
    "gender",
    "age",
    "weight",
    "notes",
    "created_by",
)
_COLLAR_COLUMNS: Final[tuple[str, ...]] = ("model", "fix_interval_s", "notes")
_OBSERVATION_COLUMNS: Final[tuple[str, ...]] = (
    "observation_type", "description", "photo_url", "observer", "local_id",
)  # fmt: skip


class RecordWriter:
    """Owns the writes to mutable records; lives in the writer thread, inside its transactions."""

    def __init__(self, connection: Connection, fixes: FixWriter) -> None:
        self._connection = connection
        self._fixes = fixes

    # --- animals

    def create_animal(self, columns: Mapping[str, Any], author: str, now_ms: int) -> str:
        """Store an animal and, if a collar is named, its deployment from now; return the id."""
        given = dict(columns)
        collar_id = given.pop("collar_id", None)
        identity = given.pop("id", None) or random_id()
        row = {"status": "active", "health_status": "unknown", "gender": "unknown", "created_by": author}
        row |= {name: given[name] for name in _ANIMAL_COLUMNS if given.get(name) is not None}
        for name in ("name", "species"):
            if not row.get(name):
                raise Invalid(f"{name}: is required")
        if self._connection.execute("SELECT 1 FROM animals WHERE id = ?", (identity,)).fetchone():
            raise Conflict(f"animal {identity} exists")
        pk = self._insert("animals", {"id": identity, **row}, author, now_ms)
        if collar_id:
            self._wear(collar_id, pk, author, now_ms)
        self._post("animal", pk, "insert", {**row, "id": identity, "collar_id": collar_id})
        return str(identity)

    def update_animal(self, animal_id: str, columns: Mapping[str, Any], author: str, now_ms: int) -> None:
        """Change the given columns; ``collar_id`` moves the open deployment."""
        pk = self._pk("animals", animal_id, "animal")
        given = dict(columns)
        has_collar = "collar_id" in given
        collar_id = given.pop("collar_id", None)
        changed = {name: given[name] for name in _ANIMAL_COLUMNS if name in given}
        for name in ("name", "species", "status", "health_status", "gender"):
            if name in changed and not changed[name]:
                raise Invalid(f"{name}: must not be empty")
        (species,) = self._connection.execute("SELECT species FROM animals WHERE pk = ?", (pk,)).fetchone()
        self._update("animals", pk, changed, author, now_ms)
        if has_collar:
            self._wear(collar_id, pk, author, now_ms)
        if changed.get("species", species) != species:  # other limits of speed
            self._readopt_collars_of(pk, now_ms)
        self._post("animal", pk, "update", dict(columns))

    def delete_animal(self, animal_id: str, author: str, now_ms: int) -> None:
        """Leave a tombstone and end its deployments; the fixes stay under their collars."""
        pk = self._pk("animals", animal_id, "animal")
        worn = self._connection.execute(
            "SELECT DISTINCT collar_pk FROM deployments WHERE animal_pk = ? AND deleted_ms IS NULL", (pk,)
        ).fetchall()
        self._update("animals", pk, {"deleted_ms": now_ms}, author, now_ms)
        for row in self._connection.execute(
            "SELECT pk FROM deployments WHERE animal_pk = ? AND deleted_ms IS NULL", (pk,)
        ).fetchall():
            self._update("deployments", row[0], {"deleted_ms": now_ms}, author, now_ms)
            self._post("deployment", row[0], "delete", {})
        for (collar_pk,) in worn:
            self._readopt(collar_pk, now_ms)
        self._post("animal", pk, "delete", {})

    # --- collars

    def put_collar(self, collar_id: str, columns: Mapping[str, Any], author: str, now_ms: int) -> None:
        """Create or change a collar; ``aliases`` replaces its radio ids and re-keys what was heard under them."""
        row = self._connection.execute(
            "SELECT pk, deleted_ms FROM collars WHERE id = ? AND stands_for_animal_pk IS NULL", (collar_id,)
        ).fetchone()
        if row is None:
            alias = self._connection.execute(
                "SELECT c.id FROM collar_aliases a JOIN collars c ON c.pk = a.collar_pk WHERE a.alias = ?", (collar_id,)
            ).fetchone()
            if alias is not None:
                raise Conflict(f"{collar_id} is an alias of collar {alias[0]}")
            if collar_id.startswith("animal:"):
                raise Invalid("id: animal: stands for an animal without a collar")
            pk = self._insert("collars", {"id": collar_id}, author, now_ms)
            self._fixes.forget()
        else:
            pk = row[0]
        changed = {name: columns[name] for name in _COLLAR_COLUMNS if name in columns}
        self._update("collars", pk, {**changed, "deleted_ms": None}, author, now_ms)
        if "aliases" in columns:
            aliases = list(dict.fromkeys(str(alias) for alias in columns["aliases"] or () if alias != collar_id))
            self._set_aliases(pk, collar_id, aliases, author, now_ms)
        self._post("collar", pk, "insert" if row is None else "update", dict(columns))

    def delete_collar(self, collar_id: str, author: str, now_ms: int) -> None:
        """Leave a tombstone; Conflict while fixes or deployments hang on the collar."""
        pk = self._pk("collars", collar_id, "collar")
        for table in ("fixes", "deployments"):
            alive = " AND deleted_ms IS NULL" if table == "deployments" else ""
            if self._connection.execute(f"SELECT 1 FROM {table} WHERE collar_pk = ?{alive} LIMIT 1", (pk,)).fetchone():
                raise Conflict(f"collar {collar_id} has {table}")
        self._connection.execute("DELETE FROM collar_aliases WHERE collar_pk = ?", (pk,))
        self._update("collars", pk, {"deleted_ms": now_ms}, author, now_ms)
        self._fixes.forget()
        self._post("collar", pk, "delete", {})

    def heard(self, device: str, status: Mapping[str, Any], heard_ms: int, now_ms: int) -> None:
        """Note when a collar was heard and what it said of itself, unless something newer is known.

        What a clock that ran ahead has noted, an instant later than now, is not newer.
        """
        collar = self._fixes.collar(device, now_ms)
        said = {name: value for name, value in status.items() if value is not None}
        sets = "".join(f", {name} = ?" for name in said)
        self._connection.execute(
            f"UPDATE collars SET last_heard_ms = ?{sets} WHERE pk = ?"
            " AND (coalesce(last_heard_ms, 0) <= ? OR last_heard_ms > ?)",
            (heard_ms, *said.values(), collar.pk, heard_ms, now_ms),
        )

    # --- deployments

    def create_deployment(self, columns: Mapping[str, Any], author: str, now_ms: int) -> str:
        """Store a deployment; its fixes are adopted, also past ones."""
        animal_pk = self._pk("animals", str(columns["animal_id"]), "animal")
        collar = self._fixes.collar(str(columns["collar_id"]), now_ms)
        started_ms = _instant_ms(columns.get("started_at"))
        started_ms = now_ms if started_ms is None else started_ms
        ended_ms = _instant_ms(columns.get("ended_at"))
        identity = self._deploy(collar.pk, animal_pk, started_ms, ended_ms, columns.get("notes"), author, now_ms)
        self._readopt(collar.pk, now_ms)
        return identity

    def update_deployment(self, deployment_id: str, columns: Mapping[str, Any], author: str, now_ms: int) -> None:
        """Change a deployment and give its collar's fixes to whoever wears it now."""
        pk = self._pk("deployments", deployment_id, "deployment")
        collar_pk, animal_pk, started_ms, ended_ms, notes = self._connection.execute(
            "SELECT collar_pk, animal_pk, started_ms, ended_ms, notes FROM deployments WHERE pk = ?", (pk,)
        ).fetchone()
        old_collar_pk = collar_pk
        if columns.get("collar_id"):
            collar_pk = self._fixes.collar(str(columns["collar_id"]), now_ms).pk
        if columns.get("animal_id"):
            animal_pk = self._pk("animals", str(columns["animal_id"]), "animal")
        if columns.get("started_at") is not None:
            started_ms = to_ms(columns["started_at"])
        if "ended_at" in columns:
            ended_ms = _instant_ms(columns["ended_at"])
        notes = columns.get("notes", notes)
        self._check_interval(collar_pk, animal_pk, started_ms, ended_ms, except_pk=pk)
        changed = {
            "collar_pk": collar_pk, "animal_pk": animal_pk, "started_ms": started_ms, "ended_ms": ended_ms,
            "notes": notes,
        }  # fmt: skip
        self._update("deployments", pk, changed, author, now_ms)
        self._post("deployment", pk, "update", changed)
        for touched in {old_collar_pk, collar_pk}:
            self._readopt(touched, now_ms)

    def delete_deployment(self, deployment_id: str, author: str, now_ms: int) -> None:
        """Leave a tombstone; the fixes go back to the collar alone."""
        pk = self._pk("deployments", deployment_id, "deployment")
        (collar_pk,) = self._connection.execute("SELECT collar_pk FROM deployments WHERE pk = ?", (pk,)).fetchone()
        self._update("deployments", pk, {"deleted_ms": now_ms}, author, now_ms)
        self._post("deployment", pk, "delete", {})
        self._readopt(collar_pk, now_ms)

    # --- observations

    def create_observation(self, columns: Mapping[str, Any], author: str, now_ms: int) -> str:
        """Store an observation and return its id."""
        row = self._observation_row(columns)
        identity = str(columns.get("id") or random_id())
        if self._connection.execute("SELECT 1 FROM observations WHERE id = ?", (identity,)).fetchone():
            raise Conflict(f"observation {identity} exists")
        row = {"observation_type": "sighting", "description": "", "recorded_ms": now_ms, "observer": author, **row}
        pk = self._insert("observations", {"id": identity, **row}, author, now_ms)
        self._post("observation", pk, "insert", {"id": identity, **row})
        return identity

    def update_observation(self, observation_id: str, columns: Mapping[str, Any], author: str, now_ms: int) -> None:
        """Change the given columns."""
        pk = self._pk("observations", observation_id, "observation")
        row = self._observation_row(columns)
        self._update("observations", pk, row, author, now_ms)
        self._post("observation", pk, "update", row)

    def delete_observation(self, observation_id: str, author: str, now_ms: int) -> None:
        """Leave a tombstone."""
        pk = self._pk("observations", observation_id, "observation")
        self._update("observations", pk, {"deleted_ms": now_ms}, author, now_ms)
        self._post("observation", pk, "delete", {})

    # --- what they share

    def fix_pk(self, fix_id: bytes, text: str) -> int:
        """Return the row of a fix; raises NotFound."""
        row = self._connection.execute("SELECT pk FROM fixes WHERE id = ?", (fix_id,)).fetchone()
        if row is None:
            raise NotFound(f"there is no fix {text}")
        return int(row[0])

    def _observation_row(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        row = {name: columns[name] for name in _OBSERVATION_COLUMNS if name in columns}
        if columns.get("animal_id"):
            row["animal_pk"] = self._pk("animals", str(columns["animal_id"]), "animal")
        elif "animal_id" in columns:
            row["animal_pk"] = None
        if columns.get("recorded_at") is not None:
            row["recorded_ms"] = to_ms(columns["recorded_at"])
        for name, column in (("lon_deg", "lon_e7"), ("lat_deg", "lat_e7")):
            if name in columns:
                row[column] = None if columns[name] is None else round(columns[name] * 1e7)
        return row

    def _wear(self, collar_id: str | None, animal_pk: int, author: str, now_ms: int) -> None:
        """End the animal's open deployment unless it is of this collar already, and open one from now."""
        wanted_pk = self._fixes.collar(collar_id, now_ms).pk if collar_id else None
        for pk, collar_pk, started_ms in self._connection.execute(
            "SELECT pk, collar_pk, started_ms FROM deployments"
            " WHERE animal_pk = ? AND ended_ms IS NULL AND deleted_ms IS NULL",
            (animal_pk,),
        ).fetchall():
            if collar_pk == wanted_pk:
                return
            if started_ms < now_ms:
                self._update("deployments", pk, {"ended_ms": now_ms}, author, now_ms)
                self._post("deployment", pk, "update", {"ended_ms": now_ms})
            else:  # it had not begun
                self._update("deployments", pk, {"deleted_ms": now_ms}, author, now_ms)
                self._post("deployment", pk, "delete", {})
            self._readopt(collar_pk, now_ms)
        if wanted_pk is not None:
            self._deploy(wanted_pk, animal_pk, now_ms, None, None, author, now_ms)
            self._readopt(wanted_pk, now_ms)

    def _deploy(
        self, collar_pk: int, animal_pk: int, started_ms: int, ended_ms: int | None, notes: str | None, author: str,
        now_ms: int,
    ) -> str:  # fmt: skip
        self._check_interval(collar_pk, animal_pk, started_ms, ended_ms, except_pk=-1)
        identity = random_id()
        row = {
            "id": identity, "collar_pk": collar_pk, "animal_pk": animal_pk, "started_ms": started_ms,
            "ended_ms": ended_ms, "notes": notes,
        }  # fmt: skip
        pk = self._insert("deployments", row, author, now_ms)
        self._post("deployment", pk, "insert", row)
        return identity

    def _check_interval(
        self, collar_pk: int, animal_pk: int, started_ms: int, ended_ms: int | None, *, except_pk: int
    ) -> None:
        if ended_ms is not None and ended_ms <= started_ms:
            raise Invalid("ended_at: must be later than started_at")
        for column, pk, what in (("collar_pk", collar_pk, "collar"), ("animal_pk", animal_pk, "animal")):
            row = self._connection.execute(
                f"SELECT d.id, c.id, a.name FROM deployments d JOIN collars c ON c.pk = d.collar_pk"
                f" JOIN animals a ON a.pk = d.animal_pk WHERE d.{column} = ? AND d.deleted_ms IS NULL AND d.pk <> ?"
                f" AND d.started_ms < ? AND coalesce(d.ended_ms, {_FAR_MS}) > ? LIMIT 1",
                (pk, except_pk, _FAR_MS if ended_ms is None else ended_ms, started_ms),
            ).fetchone()
            if row is not None:
                raise Conflict(f"the {what} is taken then: deployment {row[0]}, collar {row[1]} on {row[2]}")

    def _set_aliases(self, pk: int, collar_id: str, aliases: list[str], author: str, now_ms: int) -> None:
        for alias in aliases:
            taken = self._connection.execute(
                "SELECT c.id FROM collar_aliases a JOIN collars c ON c.pk = a.collar_pk"
                " WHERE a.alias = ? AND c.pk <> ?",
                (alias, pk),
            ).fetchone()
            if taken is not None:
                raise Conflict(f"aliases: {alias} belongs to collar {taken[0]}")
        self._connection.execute("DELETE FROM collar_aliases WHERE collar_pk = ?", (pk,))
        self._connection.executemany(
            "INSERT INTO collar_aliases (alias, collar_pk) VALUES (?, ?)", [(alias, pk) for alias in aliases]
        )
        self._fixes.forget()
        for alias in aliases:
            heard = self._connection.execute(
                "SELECT pk FROM collars WHERE id = ? AND pk <> ? AND stands_for_animal_pk IS NULL", (alias, pk)
            ).fetchone()
            if heard is not None:
                self._absorb(heard[0], pk, author, now_ms)
                self._fixes.forget()
                self._fixes.rekey(heard[0], self._fixes.collar(collar_id, now_ms), now_ms)

    def _absorb(self, heard_pk: int, pk: int, author: str, now_ms: int) -> None:
        """Make ``pk`` of the collar that was known as ``heard_pk``: its deployments, radio ids and last words."""
        for deployment_pk, animal_pk, started_ms, ended_ms, deleted_ms in self._connection.execute(
            "SELECT pk, animal_pk, started_ms, ended_ms, deleted_ms FROM deployments WHERE collar_pk = ?", (heard_pk,)
        ).fetchall():
            if deleted_ms is None:
                self._check_interval(pk, animal_pk, started_ms, ended_ms, except_pk=deployment_pk)
            self._update("deployments", deployment_pk, {"collar_pk": pk}, author, now_ms)
            self._post("deployment", deployment_pk, "update", {"collar_pk": pk})
        self._connection.execute("UPDATE collar_aliases SET collar_pk = ? WHERE collar_pk = ?", (pk, heard_pk))
        self._connection.execute("UPDATE collars SET id = id || '~' || pk WHERE pk = ?", (heard_pk,))
        self._update("collars", heard_pk, {"deleted_ms": now_ms}, author, now_ms)
        self._post("collar", heard_pk, "delete", {"collar_pk": pk})
        for name in ("battery_mv", "battery_pct", "firmware"):
            self._connection.execute(
                f"UPDATE collars SET {name} = coalesce(h.{name}, collars.{name}) FROM collars h WHERE collars.pk = ?"
                f" AND h.pk = ? AND (collars.{name} IS NULL OR h.last_heard_ms > collars.last_heard_ms)",
                (pk, heard_pk),
            )
        self._connection.execute(
            "UPDATE collars SET last_heard_ms = nullif(max(coalesce(last_heard_ms, 0),"
            " (SELECT coalesce(last_heard_ms, 0) FROM collars WHERE pk = ?)), 0) WHERE pk = ?",
            (heard_pk, pk),
        )

    def _readopt_collars_of(self, animal_pk: int, now_ms: int) -> None:
        for (collar_pk,) in self._connection.execute(
            "SELECT collar_pk FROM deployments WHERE animal_pk = ?1 AND deleted_ms IS NULL"
            " UNION SELECT pk FROM collars WHERE stands_for_animal_pk = ?1",
            (animal_pk,),
        ).fetchall():
            self._readopt(collar_pk, now_ms)

    def _readopt(self, collar_pk: int, now_ms: int) -> None:
        self._fixes.forget()
        (collar_id,) = self._connection.execute("SELECT id FROM collars WHERE pk = ?", (collar_pk,)).fetchone()
        self._fixes.readopt(self._fixes.collar(collar_id, now_ms))

    def _pk(self, table: str, identity: str, what: str) -> int:
        row = self._connection.execute(
            f"SELECT pk FROM {table} WHERE id = ? AND deleted_ms IS NULL", (identity,)
        ).fetchone()
        if row is None:
            raise NotFound(f"there is no {what} {identity}")
        return int(row[0])

    def _insert(self, table: str, row: Mapping[str, Any], author: str, now_ms: int) -> int:
        full = {**row, "author": author, "created_ms": now_ms, "updated_ms": now_ms}
        cursor = self._connection.execute(
            f"INSERT INTO {table} ({', '.join(full)}) VALUES ({', '.join('?' * len(full))})", list(full.values())
        )
        return int(cursor.lastrowid)

    def _update(self, table: str, pk: int, row: Mapping[str, Any], author: str, now_ms: int) -> None:
        full = {**row, "author": author, "updated_ms": now_ms}
        sets = ", ".join(f"{name} = ?" for name in full)
        self._connection.execute(f"UPDATE {table} SET {sets}, rev = rev + 1 WHERE pk = ?", [*full.values(), pk])

    def _post(self, entity: str, pk: int, operation: str, body: Mapping[str, Any]) -> None:
        self._connection.execute(
            "INSERT INTO outbox (entity, first_pk, last_pk, operation, body) VALUES (?, ?, ?, ?, ?)",
            (entity, pk, pk, operation, msgspec.json.encode(body)),
        )


def _instant_ms(instant: datetime | None) -> int | None:
    return None if instant is None else to_ms(instant)
