"""What the alarms keep in the station's database. Every function runs inside its caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from edge.store.driver import Connection
from shared.domain import AlertStatus, AnimalStatus

_SPANS: Final = msgspec.json.Decoder(list[tuple[int, int]])


class WatchedAnimal(msgspec.Struct, frozen=True, kw_only=True):
    """A living animal with the collar that it wears now, as the alarms ask for it."""

    animal_id: str
    name: str
    species: str
    status: AnimalStatus
    collar_id: str | None
    fix_interval_s: int | None
    heard_ms: int | None


class KeptMute(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that a person silenced; ``animal_id`` None is all."""

    rule: str
    animal_id: str | None
    until_ms: int
    made_ms: int
    author: str | None


def watch_body(db: Connection, animal_id: str) -> bytes | None:
    """Return what is remembered of an animal; None where nothing is."""
    row = db.execute("SELECT body FROM watches WHERE animal_id = ?", (animal_id,)).fetchone()
    return None if row is None else bytes(row[0])


def judged_ms(db: Connection, animal_id: str) -> int | None:
    """Return the newest fix of an animal that was judged; None before the first."""
    row = db.execute("SELECT judged_ms FROM watches WHERE animal_id = ?", (animal_id,)).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def put_watch(db: Connection, animal_id: str, judged_ms: int | None, body: bytes) -> None:
    """Keep what is remembered of an animal."""
    db.execute(
        "INSERT INTO watches (animal_id, judged_ms, body) VALUES (?, ?, ?)"
        " ON CONFLICT (animal_id) DO UPDATE SET judged_ms = excluded.judged_ms, body = excluded.body",
        (animal_id, judged_ms, body),
    )


def alert_statuses(db: Connection, alert_ids: Iterable[str]) -> dict[str, AlertStatus]:
    """Return the status of each alert that is not deleted."""
    these = msgspec.json.encode(list(alert_ids)).decode()
    found = db.execute(
        "SELECT id, status FROM alerts WHERE deleted_ms IS NULL AND id IN (SELECT value FROM json_each(?))", (these,)
    )
    return dict(found.fetchall())


def existing_alerts(db: Connection, alert_ids: Iterable[str]) -> set[str]:
    """Return which ids are taken, by deleted alerts too."""
    these = msgspec.json.encode(list(alert_ids)).decode()
    found = db.execute("SELECT id FROM alerts WHERE id IN (SELECT value FROM json_each(?))", (these,))
    return {identity for (identity,) in found.fetchall()}


def watched_animals(db: Connection, animal_id: str | None = None) -> list[WatchedAnimal]:
    """Return the animals that something is remembered of, or the one that is named, whether or not."""
    which = "a.id IN (SELECT animal_id FROM watches)" if animal_id is None else "a.id = ?"
    found = db.execute(
        "SELECT a.id, a.name, a.species, a.status, c.id, c.fix_interval_s, c.last_heard_ms FROM animals a"
        " LEFT JOIN collars c ON c.pk = (SELECT d.collar_pk FROM deployments d WHERE d.animal_pk = a.pk"
        " AND d.ended_ms IS NULL AND d.deleted_ms IS NULL ORDER BY d.started_ms DESC LIMIT 1)"
        f" WHERE a.deleted_ms IS NULL AND {which} ORDER BY a.id",
        () if animal_id is None else (animal_id,),
    )
    return [
        WatchedAnimal(
            animal_id=row[0], name=row[1], species=row[2], status=row[3], collar_id=row[4], fix_interval_s=row[5],
            heard_ms=row[6],
        )
        for row in found.fetchall()
    ]  # fmt: skip


def mutes(db: Connection) -> list[KeptMute]:
    """Return every mute that was not taken back, also those that are over."""
    found = db.execute("SELECT rule, animal_id, until_ms, made_ms, author FROM alert_mutes ORDER BY rule, animal_id")
    return [
        KeptMute(rule=rule, animal_id=animal_id or None, until_ms=until_ms, made_ms=made_ms, author=author)
        for rule, animal_id, until_ms, made_ms, author in found.fetchall()
    ]


def put_mute(db: Connection, mute: KeptMute) -> None:
    """Silence a rule in the place of what was said before."""
    db.execute(
        "INSERT OR REPLACE INTO alert_mutes (rule, animal_id, until_ms, made_ms, author) VALUES (?, ?, ?, ?, ?)",
        (mute.rule, mute.animal_id or "", mute.until_ms, mute.made_ms, mute.author),
    )


def delete_mute(db: Connection, rule: str, animal_id: str | None) -> bool:
    """Take a mute back; return whether there was one."""
    return bool(
        db.execute("DELETE FROM alert_mutes WHERE rule = ? AND animal_id = ?", (rule, animal_id or "")).rowcount
    )


def listening(db: Connection) -> tuple[int | None, list[tuple[int, int]]]:
    """Return the last tick, None before the first, and the spans in which the station did not run."""
    row = db.execute("SELECT ticked_ms, deaf FROM listening").fetchone()
    return (None, []) if row is None else (row[0], _SPANS.decode(row[1]))


def put_listening(db: Connection, ticked_ms: int, deaf: list[tuple[int, int]]) -> None:
    """Keep the last tick and those spans."""
    db.execute(
        "INSERT OR REPLACE INTO listening (pk, ticked_ms, deaf) VALUES (1, ?, ?)",
        (ticked_ms, msgspec.json.encode(deaf).decode()),
    )
