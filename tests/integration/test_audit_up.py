"""Audit logs off the box: a station's goes up to the cloud, either home's into a file, and what was altered shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from cloud.accounts.secret import make_secret
from cloud.app import accounts_of, running
from cloud.config import AccountsSection, Config, DatabaseSection
from cloud.store.database import Database
from cloud.store.stations import new_code
from edge.store import outbox
from edge.store.outbox import Enrolment
from edge.store.store import SpatialiteStore
from edge.sync.audit_up import tell_audit
from edge.sync.client import CloudClient, enrol
from edge.sync.meter import Meter
from edge.sync.profiles import profile_of
from shared.accounts import audit
from shared.accounts.audit import Entry, Line
from shared.accounts.service import Accounts
from shared.accounts.users import Job
from shared.errors import Invalid
from shared.privacy import OPERATOR
from shared.sync.records import to_ms
from shared.wire.signatures import new_key
from tests.access import accounts_over
from tests.commands import CLOUD, STATION, StationFolder
from tests.fakes import START, FakeClock

pytestmark = pytest.mark.integration


class Post:
    """A station, as far as its audit log goes up, and an administrator's look at it in the cloud."""

    def __init__(self, url: str, here: Enrolment, store: SpatialiteStore, admin: str) -> None:
        self.accounts: Accounts = accounts_over(store, FakeClock())
        self.store, self.here, self.client = store, here, CloudClient(url, here.station_id, here.private_key)
        self._url, self._admin = url, admin

    async def did(self, *actions: str) -> None:
        await self.accounts.note([Entry(to_ms(START), "u-1", action) for action in actions])

    async def ran(self, statement: str) -> None:
        def job() -> Job[None]:
            yield statement, ()

        await self.accounts.tables.write(job())

    async def tell(self, profile: str = "lan") -> int:
        meter = Meter(self.store, profile_of(profile), FakeClock(), "boot")
        return await tell_audit(self.client, self.here, self.accounts, meter)

    async def seen(self) -> tuple[list[str], int | None]:
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {self._admin}"}) as admin:
            path = f"{self._url}/api/v1/stations/{self.here.station_id}/audit/"
            answer = (await admin.get(path, params={"page_size": 500})).raise_for_status().json()
        assert answer["count"] == len(answer["results"])
        return [line["action"] for line in reversed(answer["results"])], answer["broken_at"]


@asynccontextmanager
async def enrolled(database_url: str, folder: Path) -> AsyncIterator[Post]:
    clock = FakeClock()
    make_secret(folder / "cloud.key")
    config = Config(
        database=DatabaseSection(url=database_url, pool_min=1, pool_max=4),
        accounts=AccountsSection(key_file=folder / "cloud.key"),
    )
    async with running(config, clock=clock, port=0) as (url, _), Database.open(database_url, pool_max=2) as database:
        async with database.transaction() as connection:
            code = await new_code(connection, "north", "north", to_ms(clock.now()), 600_000)
        private_key, public_key = new_key()
        found = await enrol(url, code, public_key)
        store = SpatialiteStore(folder / "station.db", None, now=clock.now, readers=1)
        await store.write(
            lambda db: outbox.enrol(
                db, url=url, station_id=found.station_id, private_key=private_key, cloud_epoch=found.cloud_epoch,
                epoch="e1" * 8, now_ms=0,
            )
        )  # fmt: skip
        people = accounts_of(config, database, clock)
        await people.use_keys()
        token = people.signer.access_token(OPERATOR.user_id, "", people.moments())
        post = Post(url, await store.read(outbox.enrolled), store, token)
        try:
            yield post
        finally:
            await post.client.close()
            await store.close()


async def test_lines_go_up_once_each_and_over_a_thin_link_none(database_url: str, tmp_path: Path) -> None:
    async with enrolled(database_url, tmp_path) as post:
        assert await post.tell() == 0
        await post.did("login", "animal.read")
        assert await post.tell("sat") == 0
        assert (await post.tell(), await post.tell()) == (2, 0)
        await post.did(*[f"read {n}" for n in range(450)])
        assert await post.tell() == 450, "in parts of two hundred"
        actions, torn_at = await post.seen()
        assert (actions[:3], len(actions), torn_at) == (["login", "animal.read", "read 0"], 452, None)
        # a cloud that was put back has lost them: its next life is told again
        post.here = msgspec.structs.replace(post.here, cloud_epoch="another")
        assert await post.tell() == 452
        assert (await post.seen())[1] is None


async def test_what_was_taken_back_or_altered_afterwards_shows(database_url: str, tmp_path: Path) -> None:
    async with enrolled(database_url, tmp_path) as post:
        await post.did("login", "export", "user.revoke")
        await post.tell()
        await post.ran("DELETE FROM audit WHERE seq > 1")  # whoever has the box cuts the end off and goes on
        await post.ran("UPDATE facts SET value = replace(value, ' 3', ' 1') WHERE name = 'audit.told'")
        await post.did("login again")
        assert await post.accounts.audit_page(0, 1) is not None
        assert (await post.accounts.audit_page(0, 1))[2] is None, "at the station nothing can be seen"
        await post.tell()
        actions, torn_at = await post.seen()
        assert torn_at == 2
        assert {"export", "login again"} <= set(actions), "both are kept"


async def test_a_line_that_is_not_what_it_says_is_refused(database_url: str, tmp_path: Path) -> None:
    async with enrolled(database_url, tmp_path) as post:
        await post.did("login")
        (line,) = await post.accounts.tables.read(audit.after(0, 10))
        for wrong in (
            msgspec.structs.replace(line, action="nothing"), msgspec.structs.replace(line, seq=2),
            "no line",
        ):  # fmt: skip
            with pytest.raises(Invalid):
                await post.client.tell_audit(msgspec.msgpack.encode([wrong]))
        assert await post.seen() == ([], None)


# --- into a file
def _lines(file: Path) -> list[Line]:
    return [msgspec.json.decode(text, type=Line) for text in file.read_bytes().splitlines()]


def test_a_stations_log_goes_into_a_file_that_grows_and_shows_what_was_altered(tmp_path: Path) -> None:
    station = StationFolder(tmp_path)
    station.init()
    at = ("--config", station.config)
    file = tmp_path / "audit.jsonl"
    STATION.run("user", "add", "a@example.org", "--role", "admin", "--generate", *at)
    first = STATION.facts("audit", "export", file, *at)
    assert first["added"] == first["lines"] == len(_lines(file)) > 0
    STATION.run("user", "add", "b@example.org", "--role", "ranger", "--generate", *at)
    second = STATION.facts("audit", "export", file, *at)
    assert second["lines"] == first["lines"] + second["added"] > first["lines"]
    assert STATION.facts("audit", "verify", file) == {"lines": second["lines"], "last": _lines(file)[-1].hash}
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"user.add", b"user.see", 1))
    assert "does not follow" in STATION.run("audit", "verify", file, code=1).stderr
    file.write_bytes(whole)
    # a log that was begun anew does not fit to the file of before
    other = StationFolder(tmp_path / "other")
    other.init()
    assert "not in this log any more" in STATION.run("audit", "export", file, "--config", other.config, code=1).stderr
    assert file.read_bytes() == whole


def test_the_clouds_log_goes_into_a_file_too(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_secret(tmp_path / "cloud.key")
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("OUTPOST_ACCOUNTS_KEY_FILE", str(tmp_path / "cloud.key"))
    monkeypatch.chdir(tmp_path)
    CLOUD.run("user", "add", "a@example.org", "--role", "admin", "--generate")
    said: Any = CLOUD.facts("audit", "export", tmp_path / "audit.jsonl")
    assert said["added"] == len(_lines(tmp_path / "audit.jsonl")) > 0
    assert CLOUD.facts("audit", "verify", tmp_path / "audit.jsonl")["lines"] == said["lines"]
