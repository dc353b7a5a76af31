"""Laws of phones that sync with a station: whatever is lost on the way, all end with what the station has."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from edge.store.driver import Connection
from edge.store.store import SpatialiteStore
from shared.errors import PullFirst
from shared.privacy import OPERATOR, view_for
from shared.sync.phone.cursor import Cursor
from shared.sync.phone.pull import PullAsk
from shared.sync.phone.push import PushAsk
from shared.sync.records import observation_of
from shared.wire.phone.incoming import read_push
from shared.wire.phone.outgoing import observation_row
from tests.clouds import START_MS, VIEW
from tests.fakes import START

pytestmark = [pytest.mark.integration, pytest.mark.sync]

NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))
COLUMNS = ("description", "observation_type")
WORDS = ("sighting", "behavior", "health")


class PhoneModel:
    """What WatermelonDB does with rows of one table, as ``shared/web/client`` uses it."""

    def __init__(self, store: SpatialiteStore, name: str) -> None:
        self._store = store
        self.name = name
        self.rows: dict[str, dict[str, Any]] = {}
        self.gone: set[str] = set()
        self.cursor: int | None = None
        self._made = 0

    def create(self, word: str) -> str:
        self._made += 1
        identity = f"{self.name}{self._made}"
        self.rows[identity] = {
            "id": identity, "description": word, "observation_type": "sighting", "timestamp": START_MS,
            "animal_id": "", "_status": "created", "_changed": "",
        }  # fmt: skip
        return identity

    def update(self, identity: str, column: str, value: str) -> None:
        row = self.rows[identity]
        changed = set(row["_changed"].split(",")) - {""}
        if row["_status"] == "synced":
            row["base_rev"] = row.get("rev") or 0
            row["_status"] = "updated"
            changed.add("base_rev")
        row[column] = value
        if row["_status"] == "updated":
            row["_changed"] = ",".join(sorted(changed | {column}))

    def delete(self, identity: str) -> None:
        self.rows.pop(identity)
        self.gone.add(identity)

    def is_dirty(self) -> bool:
        return bool(self.gone) or any(row["_status"] != "synced" for row in self.rows.values())

    async def sync(self, fault: str) -> None:
        """Pull and push once; ``fault`` is where the connection ends: "pull", "push", "answer" or nowhere."""
        before = self.cursor
        since = None if before is None else Cursor.of(before)
        page = await self._store.pull_phone(VIEW, PullAsk(since=since, origin=f"phone:{self.name}"))
        if fault == "pull":
            return
        self._apply(page)
        self.cursor = page.until.packed()
        dirty = {
            identity: msgspec.json.encode(row) for identity, row in self.rows.items() if row["_status"] != "synced"
        }  # fmt: skip
        gone = sorted(self.gone)
        if fault == "push" or not (dirty or gone):
            return
        body = msgspec.json.encode(
            {"observations": {"created": [], "updated": [msgspec.Raw(row) for row in dirty.values()], "deleted": gone}}
        )
        try:
            await self._store.push_phone(
                view_for(OPERATOR),
                PushAsk(
                    rows=read_push(body), since=page.until, before=since, origin=f"phone:{self.name}", author="ann",
                    role="conservation_manager", home="station", now=START, is_clock_sure=True,
                )
            )  # fmt: skip
        except PullFirst:
            return
        if fault == "answer":
            return
        self.gone -= set(gone)
        for identity in dirty:
            self.rows[identity] |= {"_status": "synced", "_changed": ""}

    def _apply(self, page: Any) -> None:
        for identity in page.deleted.get("observations", ()):
            self.rows.pop(identity, None)
            self.gone.discard(identity)
        for record, _ in page.records.get("observations", ()):
            remote = observation_row(observation_of(record), page.until.epoch)
            identity = record.id
            if identity in self.gone:
                if ("observations", identity) not in page.revived:
                    continue
                self.gone.discard(identity)
            local = self.rows.get(identity)
            kept = {} if local is None else {n: local[n] for n in local["_changed"].split(",") if n}
            status = "synced" if local is None else local["_status"]
            self.rows[identity] = {**remote, **kept, "_status": status, "_changed": (local or {}).get("_changed", "")}


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SpatialiteStore, asyncio.Runner]]:
    path = tmp_path_factory.mktemp("phones") / "station.db"
    with asyncio.Runner() as runner:
        store = SpatialiteStore(Path(path), None, now=lambda: START, synchronous="NORMAL", readers=1)
        yield store, runner
        runner.run(store.close())


acts = st.sampled_from(["create", "update", "update", "update", "delete", "sync", "sync", "sync", "restore"])
steps = st.lists(
    st.tuples(st.integers(0, 2), acts, st.integers(0, 5), st.sampled_from(WORDS), st.sampled_from(COLUMNS),
              st.sampled_from(["", "", "", "pull", "push", "answer"])),
    min_size=5, max_size=40,
)  # fmt: skip


@settings(
    max_examples=300 if NIGHTLY else 30, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=tuple(Phase) if NIGHTLY else (Phase.explicit, Phase.generate),
)  # fmt: skip
@example(
    [
        (0, "create", 0, "sighting", "description", ""),
        (0, "sync", 0, "health", "description", ""),
        (1, "sync", 0, "health", "description", ""),
        (0, "update", 0, "behavior", "description", ""),
        (1, "update", 0, "health", "description", ""),
        (0, "sync", 0, "health", "description", ""),
        (1, "sync", 0, "health", "description", ""),
    ]
)  # the same column of the same row on two phones
@given(steps)
def test_phones_end_with_what_the_station_has_and_nothing_unsent(
    station: tuple[SpatialiteStore, asyncio.Runner], said: list[tuple[int, str, int, str, str, str]]
) -> None:
    store, runner = station

    def empty(db: Connection) -> None:
        for table in ("observations", "changes", "phone_ids", "phone_rulings", "conflicts", "outbox"):
            db.execute(f"DELETE FROM {table}")

    async def play() -> None:
        await store.write(empty)
        phones = [PhoneModel(store, name) for name in "abc"]
        for n, act, which, word, column, fault in said:
            phone = phones[n]
            identity = sorted(phone.rows)[which % len(phone.rows)] if phone.rows else None
            if act == "create":
                phone.create(word)
            elif act == "sync":
                await phone.sync(fault)
            elif act == "restore":  # the station begins another life: nobody's cursor means anything
                await store.write(
                    lambda db: db.execute(
                        "UPDATE facts SET value = 4096 + (value - 4095) % 4096 WHERE name = 'phone_epoch'"
                    )
                )
            elif identity is not None and act == "update":
                phone.update(identity, column, word)
            elif identity is not None:
                phone.delete(identity)
        for _ in range(4):
            for phone in phones:
                await phone.sync("")
        assert not any(phone.is_dirty() for phone in phones)
        page = await store.pull_phone(VIEW, PullAsk(since=None))
        home = {
            record.id: {column: record.columns[column] for column in COLUMNS}
            for record, _ in page.records.get("observations", ())
        }
        for phone in phones:
            seen = {identity: {column: row[column] for column in COLUMNS} for identity, row in phone.rows.items()}
            assert seen == home, phone.name

    runner.run(play())
