"""Fixes that the cloud took itself, sent down to stations: each once, whatever the pages, scopes and lives."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from cloud.app import running
from cloud.config import AccountsSection, Config, DatabaseSection, IngestSection, ThingsStackSection
from cloud.ingest.directip import KEPT
from cloud.store.database import Database
from cloud.store.stations import follow, new_code
from edge.ops.verify_cloud import verify_cloud
from edge.store import outbox
from edge.store.store import SpatialiteStore
from edge.sync.client import CloudClient, enrol
from edge.sync.session import new_epoch, sync_once
from shared.domain import NewFix
from shared.store import FixQuery
from shared.sync.records import to_ms
from shared.wire.batch import decode_fixes
from shared.wire.link import HeardFixes
from shared.wire.signatures import new_key
from tests.clouds import START_MS, VIEW, Station, fix_row, rows_of
from tests.fakes import START, FakeClock
from tests.integration.intakes import HOOK, KEY, Intake, converse, keyed
from tests.satellites import DEVICE, directip, position, rockblock
from tests.services import Broker, free_port
from tests.waiting import DEADLINE_S

pytestmark = [pytest.mark.integration, pytest.mark.tracking]


@pytest.fixture
def accounts(tmp_path: Path) -> AccountsSection:
    return keyed(tmp_path)


async def heard(station: Station, since: int = 0, limit: int = 5_000) -> list[dict[str, Any]]:
    """Return every fix that the cloud took itself, page after page, and no page longer than ``limit``."""
    found: list[dict[str, Any]] = []
    query = f"since={since}"
    while True:
        answer = await station.send("GET", "/heard", f"{query}&limit={limit}")
        assert answer.status_code == 200, answer.text
        page = msgspec.msgpack.decode(answer.content, type=HeardFixes)
        rows = rows_of(decode_fixes(page.batch))
        assert len(rows) <= limit
        found += rows
        if not page.is_more:
            return found
        query = f"since={page.next}&epoch={page.epoch}" + (f"&after={page.after}" if page.after else "")


def by_time(count: int, device: str = "K9") -> list[NewFix]:
    times = [START + timedelta(minutes=n) for n in range(count)]
    return [NewFix(device=device, recorded_at=at, received_at=at, lon_deg=37.0, lat_deg=-2.0) for at in times]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_pages_of_any_length_bring_every_fix_once(intake: Intake, limit: int) -> None:
    await intake.store.add_fixes(VIEW, by_time(5))
    await intake.store.add_fixes(VIEW, [*by_time(1, "K8"), *by_time(6)[5:]])
    await intake.store.add_fixes(VIEW, by_time(6))  # nothing new
    station = intake.station()
    found = [(row["collar_id"], row["raw_ms"]) for row in await heard(station, limit=limit)]
    assert sorted(found) == sorted([("K8", START_MS), *(("K9", START_MS + 60_000 * n) for n in range(6))])


async def test_what_stations_brought_is_not_sent_down_and_neither_is_a_collar_that_is_renamed(intake: Intake) -> None:
    station = intake.station()
    await station.bring_fixes(fix_row(collar_id="K1"), fix_row(collar_id="eui:07", minutes=5))
    assert await heard(intake.station("post-2")) == []
    await intake.store.put_collar(VIEW, "K1", {"aliases": ("eui:07",)})
    assert await heard(intake.station("post-2")) == []


async def test_a_collar_that_got_another_name_is_sent_under_that(intake: Intake) -> None:
    assert await intake.say(directip(position())) == KEPT
    await intake.decoded()
    await intake.store.put_collar(VIEW, "K1", {"aliases": (DEVICE,)})
    assert [row["collar_id"] for row in await heard(intake.station())] == ["K1"]


async def test_a_station_reads_the_collars_that_it_follows_and_later_ones_from_their_beginning(intake: Intake) -> None:
    for name in ("K8", "K9"):
        await intake.store.add_fixes(VIEW, by_time(2, name))
    station = intake.station()
    async with intake.database.transaction() as connection:
        await follow(connection, station.id, ["K8"])
    assert {row["collar_id"] for row in await heard(station)} == {"K8"}
    (last,) = intake.ask("SELECT value FROM counters WHERE name = 'change'")[0]
    async with intake.database.transaction() as connection:
        await follow(connection, station.id, ["K8", "K9"])
    answer = await station.send("GET", "/heard", f"since={last}&epoch={(await station.changes()).epoch}")
    rows = rows_of(decode_fixes(msgspec.msgpack.decode(answer.content, type=HeardFixes).batch))
    assert sorted(row["collar_id"] for row in rows) == ["K8", "K8", "K9", "K9"]


async def test_what_no_page_can_hold_is_passed_over_alone(intake: Intake) -> None:
    await intake.store.add_fixes(VIEW, by_time(4))
    intake.ask("UPDATE fixes SET notes = repeat(md5(raw_ms::text) || md5(id::text), 60000) WHERE raw_ms = %s", START_MS)
    intake.ask("UPDATE fixes SET snr_db = 'NaN' WHERE raw_ms = %s", START_MS + 60_000)
    found = [row["raw_ms"] for row in await heard(intake.station())]
    assert found[-2:] == [START_MS + 120_000, START_MS + 180_000]
    assert START_MS + 60_000 not in found


async def test_a_cursor_of_another_life_is_refused(intake: Intake) -> None:
    station = intake.station()
    epoch = (await station.changes()).epoch
    for query in ("since=5", "since=1&epoch=another", f"since=99&epoch={epoch}"):
        assert (await station.send("GET", "/heard", query)).status_code == 410
    assert (await station.send("GET", "/heard", "after=zz")).status_code == 400


async def test_a_fix_from_the_internet_is_at_the_station_after_its_next_session(
    database_url: str, broker: Broker, accounts: AccountsSection, tmp_path: Path
) -> None:
    clock = FakeClock()
    gateway = free_port()
    config = Config(
        database=DatabaseSection(url=database_url, pool_min=1, pool_max=4),
        accounts=accounts,
        ingest=IngestSection(
            rockblock_keys=(KEY,), directip_host="127.0.0.1", directip_port=gateway, directip_peers=("127.0.0.1",),
            things_stack=(ThingsStackSection(name="ttn", host=broker.host, port=broker.port, tls_ca=""),),
        ),
    )  # fmt: skip
    store = SpatialiteStore(tmp_path / "station.db", None, now=clock.now, readers=1)
    private_key, public_key = new_key()
    async with running(config, clock=clock, port=0) as (url, _), Database.open(database_url, pool_max=2) as database:
        async with database.transaction() as connection:
            code = await new_code(connection, "post-1", "Post", to_ms(START), 600_000)
        made = await enrol(url, code, public_key)
        await store.write(
            lambda db: outbox.enrol(
                db, url=url, station_id=made.station_id, private_key=private_key, cloud_epoch=made.cloud_epoch,
                epoch=new_epoch(), now_ms=to_ms(clock.now()),
            )
        )  # fmt: skip
        assert await converse(gateway, directip(position())) == KEPT
        async with httpx.AsyncClient() as client, asyncio.timeout(DEADLINE_S):
            later = rockblock(position(START + timedelta(hours=1)))
            assert (await client.post(f"{url}{HOOK}", content=later)).status_code == 200
            while (seen := (await client.get(f"{url}/health/detail")).json())["database"]["fixes"] < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert (seen["database"]["frames"], seen["database"]["frames_waiting"]) == (2, 0)
        assert {name: each["frames"] for name, each in seen["taken"].items()} == {"directip": 1, "rockblock": 1}
        assert [each["name"] for each in seen["brokers"]] == ["ttn"]
        cloud = CloudClient(url, "post-1", private_key, now=clock.now)
        done = await sync_once(store, cloud, clock)
        assert (done.heard, done.new_fixes, done.fixes) == (2, 2, 0)
        page = await store.fixes(VIEW, FixQuery())
        assert sorted(fix.recorded_at for fix in page.results) == [START, START + timedelta(hours=1)]
        assert {fix.collar_id for fix in page.results} == {DEVICE}
        compared = await verify_cloud(store, cloud)
        assert (compared.fixes, compared.matching, compared.differences) == (2, 2, 0)
        again = await sync_once(store, cloud, clock)
        assert (again.heard, again.fixes, again.records) == (0, 0, 0)
        await cloud.close()
    await store.close()
