"""The alarms over the station's real store: records, outbox, events, kills, people, mutes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest

from edge.alerts.engine import Engine
from edge.alerts.keeper import Keeper
from edge.alerts.rules import RULES, RuleBook
from edge.alerts.seen import Seen, Subject
from edge.api.app import create_app
from edge.api.events import EventHub
from edge.app import running
from edge.config import AlertsSection, ApiSection, Config, StationSection, StoreSection
from edge.store.driver import Connection
from edge.store.store import SpatialiteStore
from shared.clock import ClockState
from shared.domain import Alert
from shared.errors import ConfigError
from shared.store import AlertQuery
from shared.sync.records import from_ms
from shared.wire.events import Told
from tests.access import accounts_over, operator_of, operator_of_station
from tests.alarms import NOON_MS, by_farm, fix, late
from tests.fakes import FakeClock, FakeHealth
from tests.integration.station_store import VIEW, add, ask, deploy, elephant, fix_of

pytestmark = pytest.mark.integration


class Killed(Exception):
    """The process ended here."""


class LoneKeeper(Keeper):
    """A keeper without a pipeline: it judges in a transaction of its own and publishes what comes of it."""

    async def judge_animal(self, subject: Subject, seen: Sequence[Seen]) -> list[Told]:
        """Judge new fixes of an animal in one transaction, and publish what comes of it."""
        told = await self._store.write(lambda db: self.judge_within(db, subject, seen))
        self.announce(told)
        return told

    async def judge_animal_late(self, subject: Subject, stretch: Sequence[Seen]) -> list[Told]:
        """Judge a stretch of the past in which fixes were found later."""
        told = await self._store.write(lambda db: self.judge_late_within(db, subject, stretch))
        self.announce(told)
        return told


@pytest.fixture
def heard() -> list[Told]:
    return []


@pytest.fixture
def keeper(store: SpatialiteStore, clock: FakeClock, heard: list[Told]) -> LoneKeeper:
    return LoneKeeper(store, Engine(RuleBook()), clock, heard.append)


@pytest.fixture
async def alpha(store: SpatialiteStore) -> Subject:
    return Subject(animal_id=await elephant(store), name="Alpha", species="elephant", collar_id="C1")


@pytest.fixture
async def client(store: SpatialiteStore, keeper: LoneKeeper, clock: FakeClock) -> AsyncIterator[httpx.AsyncClient]:
    accounts = accounts_over(store, clock)
    app = create_app(store, health=FakeHealth(), events=EventHub(), clock=clock, accounts=accounts, alarms=keeper)
    transport = httpx.ASGITransport(cast("Any", app))
    async with httpx.AsyncClient(transport=transport, base_url="http://station", auth=operator_of(app)) as client:
        yield client


VISIT = [by_farm(0, 1600), by_farm(10, 900), by_farm(20, -100), by_farm(30, 700), by_farm(40, 1600), by_farm(90, 1700)]


async def alerts(store: SpatialiteStore) -> list[Alert]:
    return (await store.alerts(VIEW, AlertQuery(ordering="detected_at"))).results


async def outbox(store: SpatialiteStore) -> list[str]:
    return [op for (op,) in await ask(store, "SELECT operation FROM outbox WHERE entity = 'alert' ORDER BY oseq")]


async def test_a_visit_is_one_alert_with_its_outbox_rows_and_events(
    store: SpatialiteStore, keeper: LoneKeeper, alpha: Subject, heard: list[Told]
) -> None:
    for each in VISIT:
        await keeper.judge_animal(alpha, [each])
    (alert,) = await alerts(store)
    assert (alert.alert_type, alert.severity, alert.status) == ("high_risk_zone", "critical", "resolved")
    assert alert.animal_id == alpha.animal_id
    assert alert.zone_id == "farm"
    assert alert.resolved_at == from_ms(VISIT[-1].recorded_ms)
    assert await outbox(store) == ["insert", "update", "update"]
    assert [(told.alert_type, told.status, told.rings) for told in heard] == [
        ("zone_warning", "active", True), ("high_risk_zone", "active", True), ("high_risk_zone", "resolved", True),
    ]  # fmt: skip
    assert {told.id for told in heard} == {alert.id}
    assert alert.lon_deg is not None


async def test_a_kill_at_any_commit_neither_loses_nor_doubles_an_alarm(
    store: SpatialiteStore, clock: FakeClock, alpha: Subject, heard: list[Told]
) -> None:
    for each in VISIT:
        keeper = LoneKeeper(store, Engine(RuleBook()), clock, heard.append)

        def killed(db: Connection, keeper: LoneKeeper = keeper, each: Seen = each) -> None:
            keeper.judge_within(db, alpha, [each])
            raise Killed

        with pytest.raises(Killed):
            await store.write(killed)
        committed = await store.write(lambda db, keeper=keeper, each=each: keeper.judge_within(db, alpha, [each]))  # type: ignore[misc]
        again = LoneKeeper(store, Engine(RuleBook()), clock, heard.append)
        assert await again.judge_animal(alpha, [each]) == []
        heard += committed
    assert len(await alerts(store)) == 1
    assert await outbox(store) == ["insert", "update", "update"]
    assert [told.status for told in heard] == ["active", "active", "resolved"]


async def test_a_watch_that_was_lost_tells_no_event_twice(
    store: SpatialiteStore, keeper: LoneKeeper, alpha: Subject, heard: list[Told]
) -> None:
    await keeper.judge_animal(alpha, VISIT[:3])
    await store.write(lambda db: db.execute("DELETE FROM watches"))
    count = len(heard)
    await keeper.judge_animal(alpha, VISIT)
    assert len(await alerts(store)) == 1
    assert [told.status for told in heard[count:]] == ["resolved"]


async def test_a_watch_that_cannot_be_read_is_begun_anew(
    store: SpatialiteStore, keeper: LoneKeeper, alpha: Subject, heard: list[Told]
) -> None:
    await keeper.judge_animal(alpha, VISIT[:2])
    await store.write(lambda db: db.execute("UPDATE watches SET body = x'c1'"))
    await keeper.judge_animal(alpha, VISIT[2:])
    assert [told.alert_type for told in heard] == ["zone_warning", "high_risk_zone", "high_risk_zone"]


async def test_a_tick_closes_nothing_and_doubles_nothing_after_a_person_did(
    store: SpatialiteStore, keeper: LoneKeeper, alpha: Subject, client: httpx.AsyncClient, heard: list[Told]
) -> None:
    await keeper.judge_animal(alpha, VISIT[:3])
    (alert,) = await alerts(store)
    await client.post(f"/api/v1/alerts/{alert.id}/resolve")
    count = len(heard)
    await keeper.tick()
    await keeper.tick()
    assert heard[count:] == []
    assert len(await alerts(store)) == 1


@pytest.mark.parametrize("act", ["resolve", "false_alarm"])
async def test_what_a_person_closed_stays_closed(
    store: SpatialiteStore, keeper: LoneKeeper, alpha: Subject, client: httpx.AsyncClient, act: str
) -> None:
    await keeper.judge_animal(alpha, VISIT[:3])
    (alert,) = await alerts(store)
    assert (await client.post(f"/api/v1/alerts/{alert.id}/{act}")).status_code == 200
    closed = (await alerts(store))[0]
    assert await keeper.judge_animal(alpha, [by_farm(25, -100), *VISIT[3:]]) == []
    assert await alerts(store) == [closed]


async def test_the_all_clear_closes_what_was_acknowledged(
    store: SpatialiteStore, keeper: LoneKeeper, alpha: Subject, client: httpx.AsyncClient
) -> None:
    await keeper.judge_animal(alpha, VISIT[:3])
    (alert,) = await alerts(store)
    await client.post(f"/api/v1/alerts/{alert.id}/acknowledge", json={"notes": "on our way"})
    await keeper.judge_animal(alpha, VISIT[3:])
    (closed,) = await alerts(store)
    assert (closed.status, closed.note, closed.acknowledged_by) == ("resolved", "on our way", "operator")


async def test_late_data_are_written_down_in_silence(
    store: SpatialiteStore, keeper: LoneKeeper, alpha: Subject, heard: list[Told]
) -> None:
    await keeper.judge_animal(alpha, [late(each, 40) for each in VISIT])
    (alert,) = await alerts(store)
    assert (alert.is_late, alert.status) == (True, "resolved")
    assert not any(told.rings for told in heard)


async def test_a_visit_that_is_found_later_is_one_late_alert(
    store: SpatialiteStore, keeper: LoneKeeper, alpha: Subject, heard: list[Told]
) -> None:
    await keeper.judge_animal(alpha, [by_farm(-60, 1700), by_farm(600, 1700)])
    stretch = [late(each, 20) for each in VISIT]
    await keeper.judge_animal_late(alpha, stretch)
    await keeper.judge_animal_late(alpha, stretch)
    (alert,) = await alerts(store)
    assert (alert.alert_type, alert.is_late, alert.status) == ("high_risk_zone", True, "resolved")
    assert [told.rings for told in heard] == [False]


async def test_a_silent_collar_is_told_by_the_tick_once_over_a_restart(
    store: SpatialiteStore, keeper: LoneKeeper, alpha: Subject, clock: FakeClock, heard: list[Told]
) -> None:
    await keeper.judge_animal(alpha, [fix(60 * n, 900 * n) for n in range(24)])
    await add(store, fix_of("C1", from_ms(NOON_MS)))
    await deploy(store, alpha.animal_id, "C1")
    clock.at = from_ms(NOON_MS + 23 * 3_600_000)
    assert await keeper.tick() == []
    for _ in range(10):
        clock.at = from_ms(round(clock.at.timestamp() * 1000) + 3_600_000)
        await keeper.tick()
    assert [(told.alert_type, told.status) for told in heard] == [("silent_collar", "active")]
    restarted = LoneKeeper(store, Engine(RuleBook()), clock, heard.append)
    assert await restarted.tick() == []
    await restarted.judge_animal(alpha, [fix(60 * 34, 30_000)])
    assert [(told.alert_type, told.status) for told in heard][1:] == [("silent_collar", "resolved")]


async def test_a_station_that_was_off_calls_no_collar_silent_at_its_start(
    store: SpatialiteStore, keeper: LoneKeeper, alpha: Subject, clock: FakeClock, heard: list[Told]
) -> None:
    await keeper.judge_animal(alpha, [fix(60 * n, 900 * n) for n in range(24)])
    await add(store, fix_of("C1", from_ms(NOON_MS)))
    await deploy(store, alpha.animal_id, "C1")
    clock.at = from_ms(NOON_MS + 23 * 3_600_000)
    await keeper.tick()
    clock.at = from_ms(NOON_MS + 23 * 3_600_000 + 5 * 86_400_000)
    restarted = LoneKeeper(store, Engine(RuleBook()), clock, heard.append)
    await restarted.tick()
    assert heard == []
    clock.at = from_ms(NOON_MS + 30 * 3_600_000 + 5 * 86_400_000)
    await restarted.tick()
    assert [told.alert_type for told in heard] == ["silent_collar"]


async def test_on_an_unsure_clock_the_tick_calls_nothing_silent(
    store: SpatialiteStore, keeper: LoneKeeper, alpha: Subject, clock: FakeClock, heard: list[Told]
) -> None:
    await keeper.judge_animal(alpha, [fix(60 * n, 900 * n) for n in range(24)])
    await deploy(store, alpha.animal_id, "C1")
    clock.set_state(ClockState.HELD)
    clock.at = from_ms(NOON_MS + 100 * 86_400_000)
    await keeper.tick()
    assert heard == []


async def test_a_tick_without_news_writes_no_watch(store: SpatialiteStore, keeper: LoneKeeper, alpha: Subject) -> None:
    await keeper.judge_animal(alpha, VISIT[:1])
    before = await ask(store, "SELECT * FROM watches")
    await keeper.tick()
    assert await ask(store, "SELECT * FROM watches") == before


async def test_the_keeper_ticks_at_once_when_it_runs(
    store: SpatialiteStore, keeper: LoneKeeper, alpha: Subject, clock: FakeClock, heard: list[Told]
) -> None:
    await keeper.judge_animal(alpha, [by_farm(0, -100, is_clock_sure=False)])
    assert [told.rings for told in heard] == [False]
    rang = asyncio.Event()

    def hear(told: Told) -> None:
        heard.append(told)
        rang.set()

    running = asyncio.create_task(LoneKeeper(store, Engine(RuleBook()), clock, hear).run())
    await asyncio.wait_for(rang.wait(), 120)
    running.cancel()
    assert heard[1].rings is True


# --- the whole station


def config_of(folder: Path, alarms: AlertsSection) -> Config:
    (folder / "station.key").write_text("0f" * 32)
    return Config(
        station=StationSection(data_dir=folder / "data"),
        store=StoreSection(key_file=folder / "station.key"),
        api=ApiSection(port=0),
        alerts=alarms,
    )


async def test_a_running_station_shows_the_rules_as_configured(tmp_path: Path) -> None:
    alarms = AlertsSection(rules={"zone_entry": {"elephant": {"margin_m": 75.0}}})
    config = config_of(tmp_path, alarms)
    auth = operator_of_station(config.database, config.key(), config.station.id)
    async with running(config) as url, httpx.AsyncClient(base_url=url, auth=auth) as client:
        (rule, *_) = (await client.get("/api/v1/alerts/rules/")).json()
    assert (rule["numbers"]["elephant"]["margin_m"], rule["numbers"]["rhino"]["margin_m"]) == (75.0, 50.0)


async def test_a_station_does_not_start_with_rules_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"alerts\.toml"):
        async with running(config_of(tmp_path, AlertsSection(file=str(tmp_path / "alerts.toml")))):
            pass


async def test_an_event_on_the_stream_holds_no_position(
    store: SpatialiteStore, clock: FakeClock, alpha: Subject
) -> None:
    hub = EventHub()
    listener = hub.listen()
    keeper = LoneKeeper(store, Engine(RuleBook()), clock, lambda told: hub.publish("alert", told))
    await keeper.judge_animal(alpha, [by_farm(0, -100)])
    (line,) = await listener.take(1.0) or []
    assert b"event: alert" in line
    said = msgspec.json.decode(line.split(b"data: ")[1])
    assert said.keys() == {"id", "animal", "alert_type", "severity", "title", "status", "is_late", "rings"}
    assert (said["animal"], said["alert_type"], said["status"]) == (alpha.animal_id, "high_risk_zone", "active")


# --- the routes


async def test_the_rules_are_listed_with_their_numbers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/alerts/rules/")
    assert answer.status_code == 200
    rules = answer.json()
    assert [rule["rule"] for rule in rules] == list(RULES)
    assert rules[0]["numbers"]["elephant"]["margin_m"] == 50.0
    assert rules[0]["mutes"] == []


async def test_a_mute_is_kept_shown_and_taken_back(
    store: SpatialiteStore, keeper: LoneKeeper, alpha: Subject, client: httpx.AsyncClient
) -> None:
    until = "2026-06-01T20:00:00+03:00"
    path = "/api/v1/alerts/rules/zone_entry/mute"
    answer = await client.put(path, json={"until": until, "animal": alpha.animal_id})
    assert answer.status_code == 200
    (mute,) = answer.json()["mutes"]
    assert (mute["animal"], mute["until"], mute["made_by"]) == (alpha.animal_id, "2026-06-01T17:00:00Z", "operator")
    assert await keeper.judge_animal(alpha, VISIT[:3]) == []
    assert (await client.delete(path, params={"animal": alpha.animal_id})).status_code == 204
    assert [told.alert_type for told in await keeper.judge_animal(alpha, [by_farm(25, -100)])] == ["high_risk_zone"]
    assert (await client.delete(path, params={"animal": alpha.animal_id})).status_code == 404


@pytest.mark.parametrize(
    ("rule", "body", "status"),
    [
        ("nonsense", {"until": "2026-06-01T20:00:00Z"}, 404),
        ("zone_entry", {"until": "2026-06-01T20:00:00Z", "animal": "nobody"}, 404),
        ("zone_entry", {"until": "2026-05-01T20:00:00Z"}, 400),
        ("zone_entry", {"until": "2036-05-01T20:00:00Z"}, 400),
        ("zone_entry", {"until": "tomorrow"}, 400),
        ("zone_entry", {}, 400),
    ],
)
async def test_a_mute_that_means_nothing_is_refused(
    store: SpatialiteStore, client: httpx.AsyncClient, rule: str, body: dict[str, str], status: int
) -> None:
    answer = await client.put(f"/api/v1/alerts/rules/{rule}/mute", json=body)
    assert answer.status_code == status, answer.text
    assert await ask(store, "SELECT * FROM alert_mutes") == []


async def test_a_mute_that_is_over_is_not_shown(client: httpx.AsyncClient, clock: FakeClock) -> None:
    await client.put("/api/v1/alerts/rules/zone_entry/mute", json={"until": "2026-06-01T13:00:00Z"})
    clock.at = from_ms(NOON_MS + 2 * 3_600_000)
    assert (await client.get("/api/v1/alerts/rules/")).json()[0]["mutes"] == []
    clock.set_state(ClockState.HELD)
    assert len((await client.get("/api/v1/alerts/rules/")).json()[0]["mutes"]) == 1
