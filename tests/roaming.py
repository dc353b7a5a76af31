"""Three phones, a station and the cloud for tests of laws: what a phone does, and what can go wrong between them.

``PhoneModel`` does what WatermelonDB 0.28 does with one table as ``shared/web/client`` uses it: whole rows, ``_status``
and ``_changed``, server rows under the phone's own changed columns, tombstones that destroy, rows refused for later.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast

import httpx
import msgspec

from cloud.store.stations import new_code
from edge.store import outbox
from edge.store.driver import Connection
from edge.store.snapshot import begin_anew
from edge.store.store import SpatialiteStore
from edge.sync.client import CloudClient
from edge.sync.session import new_epoch, sync_once
from shared.errors import LinkError, PullFirst
from shared.privacy import OPERATOR, view_for
from shared.store import Store
from shared.sync.phone.cursor import Cursor
from shared.sync.phone.pull import PullAsk
from shared.sync.phone.push import PushAsk
from shared.sync.records import observation_of
from shared.wire.phone.incoming import read_push
from shared.wire.phone.outgoing import observation_row
from shared.wire.signatures import new_key
from tests.clouds import START_MS, VIEW, Cloud
from tests.fakes import START, FakeClock
from tests.phones import Phone as Client

TABLE: Final = "observations"
#: Columns that people edit here; every value that is written is another one.
COLUMNS: Final = ("description", "photo_url")

Fault = Literal["", "pull", "push", "answer"]
HomeName = Literal["station", "cloud"]


class Home(Protocol):
    """Where a phone syncs."""

    name: HomeName

    @property
    def store(self) -> Store:
        """Its store as it is now: a restored station has another one."""


class Phone(Protocol):
    """What the laws do with a phone; the model and the real client."""

    name: str

    async def create(self, value: str) -> str:
        """Enter a row and return its id."""

    async def update(self, identity: str, column: str, value: str) -> None:
        """Edit a column."""

    async def delete(self, identity: str) -> None:
        """Remove a row."""

    async def seen(self) -> dict[str, dict[str, Any]]:
        """Return the rows that its user sees."""

    async def is_dirty(self) -> bool:
        """Say whether anything waits."""

    async def sync(self, home: Home, fault: Fault) -> None:
        """Sync once; ``fault`` is where the connection ends."""


class PhoneModel:
    """A phone with rows of one table."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: dict[str, dict[str, Any]] = {}
        self.gone: set[str] = set()
        self.cursor: int | None = None
        self._made = 0

    async def create(self, value: str) -> str:
        """Enter a row and return its id."""
        self._made += 1
        identity = f"{self.name}{self._made}"
        self.rows[identity] = {
            "id": identity, "description": value, "photo_url": None, "observation_type": "sighting",
            "timestamp": START_MS, "animal_id": "", "_status": "created", "_changed": "",
        }  # fmt: skip
        return identity

    async def update(self, identity: str, column: str, value: str) -> None:
        """Edit a column as ``edited`` does."""
        row = self.rows[identity]
        changed = set(row["_changed"].split(",")) - {""}
        if row["_status"] == "synced":
            row["base_rev"] = row.get("rev") or 0
            changed.add("base_rev")
            row["_status"] = "updated"
        row[column] = value
        row["_changed"] = ",".join(sorted(changed | {column}))

    async def delete(self, identity: str) -> None:
        """Remove a row."""
        self.rows.pop(identity)
        self.gone.add(identity)

    async def seen(self) -> dict[str, dict[str, Any]]:
        """Return the rows that its user sees."""
        return self.rows

    async def is_dirty(self) -> bool:
        """Say whether anything waits."""
        return bool(self.gone) or any(row["_status"] != "synced" for row in self.rows.values())

    async def sync(self, home: Home, fault: Fault) -> None:
        """Pull and push once, and once more after a true race."""
        try:
            await self._once(home, fault)
        except PullFirst:
            await self._once(home, fault)

    async def _once(self, home: Home, fault: Fault) -> None:
        before = self.cursor
        since = None if before is None else Cursor.of(before)
        page = await home.store.pull_phone(VIEW, PullAsk(since=since, origin=f"phone:{self.name}"))
        if fault == "pull":
            return
        self._apply(page)
        self.cursor = page.until.packed()
        dirty = {identity: dict(row) for identity, row in self.rows.items() if row["_status"] != "synced"}
        gone = sorted(self.gone)
        if fault == "push" or not (dirty or gone):
            return
        later = await self._push(home, page.until, since, list(dirty.values()), gone)
        if fault == "answer":
            return
        self.gone -= set(gone) - later
        for identity, sent in dirty.items():
            if identity not in later and self.rows.get(identity) == sent:
                self.rows[identity] |= {"_status": "synced", "_changed": ""}

    async def _push(
        self, home: Home, until: Cursor, since: Cursor | None, rows: list[dict[str, Any]], gone: list[str]
    ) -> set[str]:
        body = msgspec.json.encode({TABLE: {"created": [], "updated": rows, "deleted": gone}})
        result = await home.store.push_phone(
            view_for(OPERATOR),
            PushAsk(
                rows=read_push(body), since=until, before=since, origin=f"phone:{self.name}", author="ann",
                role="conservation_manager", home=home.name, now=START, is_clock_sure=True,
            ),
        )  # fmt: skip
        return set(result.later.get(TABLE, ()))

    def _apply(self, page: Any) -> None:
        for identity in page.deleted.get(TABLE, ()):
            if identity in self.rows and self.rows[identity]["_status"] == "updated":
                continue  # spared: the home rules on the edit, and takes the row away with the next pull
            self.rows.pop(identity, None)
            self.gone.discard(identity)
        for record, _ in page.records.get(TABLE, ()):
            remote = observation_row(observation_of(record), page.until.epoch)
            identity = record.id
            if identity in self.gone:
                if (TABLE, identity) not in page.revived:
                    continue
                self.gone.discard(identity)
            local = self.rows.get(identity)
            if local is None or local["_status"] == "synced":
                self.rows[identity] = {**remote, "_status": "synced", "_changed": ""}
                continue
            kept = {name: local[name] for name in local["_changed"].split(",") if name}
            self.rows[identity] = {
                **local, **remote, **kept, "_status": local["_status"], "_changed": local["_changed"],
            }  # fmt: skip


class _Unreliable(httpx.AsyncBaseTransport):
    """Carries requests to the cloud until ``left`` have gone, and then loses the answer, or the request before it."""

    def __init__(self, app: Any) -> None:
        self._inner = httpx.ASGITransport(cast("Any", app))
        self.left: int | None = None
        self.is_answer_lost = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.left is not None:
            self.left -= 1
            if self.left < 0 and not self.is_answer_lost:
                raise httpx.ConnectError("partition", request=request)
        answer = await self._inner.handle_async_request(request)
        if self.left is not None and self.left < 0:
            raise httpx.ReadError("partition", request=request)
        return answer


class CloudHome:
    """The cloud as a phone's home; ``begin_another_life`` is what a restore does to every cursor."""

    name: HomeName = "cloud"

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    @property
    def store(self) -> Store:
        """Its store."""
        return self.cloud.store

    def begin_another_life(self) -> None:
        """Be restored from a copy that misses nothing."""
        self.cloud.ask("UPDATE facts SET value = %s WHERE name = 'cloud_epoch'", new_epoch())

    def conflicts(self) -> list[str]:
        """Return what the log of conflicts holds."""
        return [text for pair in self.cloud.ask("SELECT ours, theirs FROM conflicts") for text in pair]


class StationHome:
    """A station enrolled at a cloud, over a file of its own."""

    name: HomeName = "station"

    def __init__(self, path: Path, cloud: Cloud, clock: FakeClock) -> None:
        self._path = path
        self._cloud = cloud
        self._clock = clock
        self._transport = _Unreliable(cloud.app)
        self._store: SpatialiteStore | None = None
        self._client: CloudClient | None = None
        self._has_copy = False
        #: conflicts of lives that ended with a restore
        self._former: list[str] = []

    @property
    def store(self) -> SpatialiteStore:
        """Its store."""
        assert self._store is not None
        return self._store

    async def open(self) -> None:
        """Begin as a new station that has just enrolled."""
        self._store = self._opened()
        seed, public = new_key()
        async with self._cloud.database.transaction() as connection:
            code = await new_code(connection, "post", "post", START_MS, 600_000)
        answer = await self._cloud.client.post(
            "/api/v1/stations/enrol", json={"code": code, "public_key": public.hex()}
        )
        assert answer.is_success, answer.text
        epoch = self._cloud.ask("SELECT value FROM facts WHERE name = 'cloud_epoch'")[0][0]
        await self.store.write(
            lambda db: outbox.enrol(
                db, url="http://127.0.0.1", station_id="post", private_key=seed, cloud_epoch=epoch, epoch=new_epoch(),
                now_ms=START_MS,
            )
        )  # fmt: skip
        self._client = CloudClient("http://127.0.0.1", "post", seed, now=self._clock.now)
        self._client._http = httpx.AsyncClient(transport=self._transport)

    async def close(self) -> None:
        """End it."""
        await self.store.close()
        if self._client is not None:
            await self._client.close()

    async def meet(self, left: int | None = None, *, is_answer_lost: bool = False) -> None:
        """Meet the cloud; the link ends after ``left`` requests, None: it holds."""
        assert self._client is not None
        self._transport.left, self._transport.is_answer_lost = left, is_answer_lost
        try:
            await sync_once(self.store, self._client, self._clock)
        except LinkError:
            assert left is not None
        finally:
            self._transport.left = None

    async def keep_copy(self) -> None:
        """Make a backup."""
        await self.store.close()
        shutil.copyfile(self._path, self._copy)
        self._store = self._opened()
        self._has_copy = True

    async def restore(self) -> None:
        """Come back from the backup, once the cloud has all that it misses: what nobody has is lost and no law's."""
        if not self._has_copy:
            return
        for _ in range(2):
            await self.meet()
        self._former += await self.conflicts()
        await self.store.close()
        shutil.copyfile(self._copy, self._path)
        begin_anew(self._path, None, new_epoch())
        self._store = self._opened()

    async def conflicts(self) -> list[str]:
        """Return what the log of conflicts holds, and held in lives that were restored away."""

        def job(db: Connection) -> list[str]:
            return [text for pair in db.execute("SELECT ours, theirs FROM conflicts").fetchall() for text in pair]

        return [*self._former, *await self.store.read(job)]

    @property
    def _copy(self) -> Path:
        return self._path.with_suffix(".copy")

    def _opened(self) -> SpatialiteStore:
        return SpatialiteStore(self._path, None, now=self._clock.now, synchronous="NORMAL", readers=1)


class Ledger:
    """Every value that people wrote, what each of them saw before, and what they saw of rows that they removed."""

    def __init__(self) -> None:
        self.written: dict[str, tuple[str, str]] = {}
        self._seen: set[str] = set()
        self._n = 0

    def value(self, identity: str, column: str, before: dict[str, Any] | None = None) -> str:
        """Return another value for a column of a row that looked like ``before``."""
        self._n += 1
        value = f"/v{self._n}"
        self.written[value] = (identity, column)
        if before is not None and before.get(column):
            self._seen.add(before[column])
        return value

    def named(self, value: str, identity: str) -> None:
        """Note of which row a value is that was written before its row had an id."""
        self.written[value] = (identity, self.written[value][1])

    def removed(self, before: dict[str, Any]) -> None:
        """Note what somebody saw who removed a row."""
        self._seen |= {before[column] for column in COLUMNS if before.get(column)}

    def lost(self, rows: dict[str, dict[str, Any]], conflicts: list[str]) -> list[str]:
        """Return the values that are neither there, nor were replaced by someone who saw them, nor in a log."""
        logged = {value for text in conflicts for value in _texts(json.loads(text))}
        return [
            value
            for value, (identity, column) in self.written.items()
            if value not in self._seen
            and value not in logged
            and (identity not in rows or rows[identity][column] != value)
        ]


def _texts(found: Any) -> list[str]:
    if isinstance(found, dict):
        return [text for each in found.values() for text in _texts(each)]
    return [found] if isinstance(found, str) else []


async def rows_of(store: Store) -> dict[str, dict[str, Any]]:
    """Return the rows that a home has."""
    page = await store.pull_phone(VIEW, PullAsk(since=None))
    return {
        record.id: {column: record.columns[column] for column in COLUMNS} for record, _ in page.records.get(TABLE, ())
    }


Step = tuple[int, str, int, str, Fault]


async def play(
    steps: list[Step], phones: Sequence[Phone], station: StationHome, cloud: CloudHome, note: Callable[[str], None]
) -> None:
    """Do what was drawn, let everybody meet, and hold the laws against what is there."""
    ledger = Ledger()
    at: dict[str, Home] = {phone.name: station for phone in phones}
    for n, act, which, column, fault in steps:
        phone = phones[n]
        seen = await phone.seen()
        identity = sorted(seen)[which % len(seen)] if seen else None
        if act == "create":
            value = ledger.value("", "description")
            made = await phone.create(value)
            ledger.named(value, made)
        elif act == "sync":
            await phone.sync(at[phone.name], fault)
        elif act == "roam":
            at[phone.name] = cloud if at[phone.name] is station else station
        elif act == "meet":
            await station.meet(None if fault == "" else which, is_answer_lost=fault == "answer")
        elif act == "keep copy":
            await station.keep_copy()
        elif act == "restore":
            await station.restore()
        elif act == "restore cloud":
            cloud.begin_another_life()
        elif identity is not None and act == "update":
            await phone.update(identity, column, ledger.value(identity, column, seen[identity]))
        elif identity is not None:
            ledger.removed(seen[identity])
            await phone.delete(identity)
    for _ in range(4):
        for phone in phones:
            await phone.sync(at[phone.name], "")
        await station.meet()
    here, above = await rows_of(station.store), await rows_of(cloud.store)
    assert here == above
    for phone in phones:
        assert not await phone.is_dirty(), phone.name
        shown = {identity: {name: row[name] for name in COLUMNS} for identity, row in (await phone.seen()).items()}
        assert shown == here, phone.name
    conflicts = [*await station.conflicts(), *cloud.conflicts()]
    note(f"{len(conflicts)} texts of conflicts, {len(here)} rows")
    assert ledger.lost(here, conflicts) == []


class RealPhone:
    """The real client as a phone of these laws; ``urls`` are where the homes answer."""

    def __init__(self, name: str, client: Client, urls: Callable[[HomeName], tuple[str, str]]) -> None:
        self.name = name
        self._client = client
        self._urls = urls

    async def create(self, value: str) -> str:
        """Enter a row and return its id."""
        row = {"animal_id": "", "observation_type": "sighting", "description": value, "timestamp": START_MS}
        identity: str = await self._client.do("create", table=TABLE, row=row)
        return identity

    async def update(self, identity: str, column: str, value: str) -> None:
        """Edit a column."""
        await self._client.do("update", table=TABLE, id=identity, changes={column: value})

    async def delete(self, identity: str) -> None:
        """Remove a row."""
        await self._client.do("delete", table=TABLE, id=identity)

    async def seen(self) -> dict[str, dict[str, Any]]:
        """Return the rows that its user sees."""
        return await self._client.rows(TABLE)

    async def is_dirty(self) -> bool:
        """Say whether anything waits."""
        return bool(await self._client.do("unsynced"))

    async def sync(self, home: Home, fault: Fault) -> None:
        """Sync once."""
        url, token = self._urls(home.name)
        await self._client.do("roam", url=url, token=token)
        faults = {"pull": ("pull", "lost"), "push": ("push", "cut"), "answer": ("push", "lost")}
        await self._client.do(
            "faults", list=[dict(zip(("path", "fault"), faults[fault], strict=True))] if fault else []
        )
        told = await self._client.do("sync")
        assert fault or "error" not in told, told
