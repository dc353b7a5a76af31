"""What two people said of the same thing: kept with both values, shown, and resolved by a person in the cloud."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from shared.domain import Observation
from shared.store import ObservationQuery
from shared.sync.operations import Operation
from shared.sync.records import Record
from shared.wire.batch import decode_records
from shared.wire.link import Clashes
from tests.clouds import START_MS, VIEW, Cloud, Station, fix_row, operation

pytestmark = [pytest.mark.integration, pytest.mark.sync, pytest.mark.asyncio(loop_scope="module")]

HOUR_MS = 3_600_000


@pytest.fixture
def one(cloud: Cloud) -> Station:
    return cloud.station("post-1")


@pytest.fixture
def two(cloud: Cloud) -> Station:
    return cloud.station("post-2")


def animal(identity: str, name: str, **columns: Any) -> Operation:
    return operation("animal", identity, {"name": name, "species": "elephant", **columns})


async def listed(cloud: Cloud, **asked: str) -> list[dict[str, Any]]:
    answer = await cloud.client.get("/api/v1/conflicts/", params=asked)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


async def resolve(cloud: Cloud, conflict: dict[str, Any], resolution: str, **more: Any) -> httpx.Response:
    body = {"resolution": resolution, **more}
    return await cloud.client.post(f"/api/v1/conflicts/{conflict['id']}/resolve/", json=body)


async def below(station: Station, since: int = 0, epoch: str | None = None) -> Clashes:
    answer = await station.send("GET", "/conflicts", f"since={since}" + (f"&epoch={epoch}" if epoch else ""))
    assert answer.status_code == 200, answer.text
    return msgspec.msgpack.decode(answer.content, type=Clashes)


async def sent_down(station: Station) -> list[Record]:
    return decode_records((await station.changes()).batch, Record)


async def same_column(one: Station, two: Station) -> None:
    """Both stations know revision 1; both change the status."""
    await one.bring_operations(animal("a1", "Alpha"))
    for station, status in ((one, "missing"), (two, "deceased")):
        edit = operation(
            "animal", "a1", {"status": status}, id=f"edit of {station.id}", kind="update", base_rev=1, author="r1"
        )
        await station.bring_operations(edit)


async def test_a_column_that_two_stations_changed_shows_both_values_and_who_said_them(
    cloud: Cloud, one: Station, two: Station
) -> None:
    await same_column(one, two)
    (found,) = await listed(cloud)
    assert (found["kind"], found["entity"], found["row_id"], found["status"]) == ("same_column", "animal", "a1", "open")
    assert (found["server"], found["client"]) == ({"status": "missing"}, {"status": "deceased"})
    assert (found["author"], found["origin"], found["needs_person"]) == ("r1", "post-2", True)
    assert await listed(cloud, status="resolved") == []
    told = (await cloud.client.get(f"/api/v1/conflicts/{found['id']}/")).json()
    assert [each["id"] for each in told["history"]] == [found["id"]]
    assert (await cloud.client.get("/api/v1/conflicts/none/")).status_code == 404


async def test_a_collar_at_two_places_at_once_is_listed_once_and_both_fixes_stay(
    cloud: Cloud, one: Station, two: Station
) -> None:
    await one.bring_fixes(*(fix_row(minute) for minute in (0, 10, 20)))
    elsewhere = fix_row(10, lon_e7=376_000_000)
    for _ in range(2):
        await two.bring_fixes(elsewhere)
    (found,) = await listed(cloud, kind="position_disagreement")
    assert (found["entity"], found["row_id"], found["origin"], found["needs_person"]) == (
        "collar",
        "K1",
        "post-2",
        False,
    )
    assert {found["server"]["lon_e7"], found["client"]["lon_e7"]} == {375_000_000, 376_000_000}
    assert cloud.count("fixes") == 4
    assert [len((await below(station)).clashes) for station in (one, two)] == [0, 1]
    assert (await resolve(cloud, found, "keep_server")).status_code == 400
    assert (await resolve(cloud, found, "keep_both")).status_code == 200
    assert await listed(cloud, status="open") == []


@pytest.mark.parametrize(
    ("resolution", "more", "status"),
    [
        ("keep_server", {}, "missing"),
        ("keep_client", {}, "deceased"),
        ("merge", {"columns": {"status": "inactive", "notes": "seen"}}, "inactive"),
    ],
)
async def test_a_resolution_is_an_edit_that_goes_down_with_its_word(
    cloud: Cloud, one: Station, two: Station, resolution: str, more: dict[str, Any], status: str
) -> None:
    await same_column(one, two)
    (found,) = await listed(cloud)
    for station in (one, two):
        assert [each.status for each in (await below(station)).clashes] == ["open"]
    before = await below(one)
    answer = await resolve(cloud, found, resolution, note="asked on the radio", **more)
    assert (answer.status_code, answer.json()["status"]) == (200, "resolved"), answer.text
    assert (await cloud.store.animal(VIEW, "a1")).status == status
    for station in (two, one):
        (told,) = (await below(station, before.next, before.epoch)).clashes
        assert msgspec.json.decode(told.theirs) == {"status": "deceased"}  # the loser stays readable
        assert (told.status, told.resolution, told.note) == ("resolved", resolution, "asked on the radio")
        assert [record.columns["status"] for record in await sent_down(station)] == [status]
    again = await resolve(cloud, found, resolution, **more)
    assert (again.status_code, again.json()["code"]) == (409, "conflict")


async def test_what_a_resolution_may_not_say_is_refused_and_leaves_it_open(
    cloud: Cloud, one: Station, two: Station
) -> None:
    await same_column(one, two)
    (found,) = await listed(cloud)
    for resolution, more in (
        ("merge", {}), ("keep_both", {}), ("keep_client", {"columns": {"status": "active"}}),
        ("merge", {"columns": {"wings": 2}}), ("merge", {"columns": {"status": "asleep"}}), ("win", {}),
    ):  # fmt: skip
        assert (await resolve(cloud, found, resolution, **more)).status_code == 400
    assert [each["status"] for each in await listed(cloud)] == ["open"]
    assert (await cloud.store.animal(VIEW, "a1")).status == "missing"


async def test_an_edit_of_what_was_deleted_can_bring_it_back(cloud: Cloud, one: Station, two: Station) -> None:
    await one.bring_operations(animal("a1", "Alpha", weight=3_000.0))
    await one.bring_operations(operation("animal", "a1", {}, id="gone", kind="delete", base_rev=1))
    await two.bring_operations(operation("animal", "a1", {"notes": "lives"}, id="e", kind="update", base_rev=1))
    (found,) = await listed(cloud)
    assert (found["kind"], found["client"], found["needs_person"]) == ("edit_after_delete", {"notes": "lives"}, True)
    assert (await resolve(cloud, found, "keep_client")).status_code == 200
    back = await cloud.store.animal(VIEW, "a1")
    assert (back.notes, back.weight, back.rev) == ("lives", 3_000.0, 3)
    (record,) = await sent_down(two)
    assert (record.is_deleted, record.columns["notes"]) == (False, "lives")


async def test_a_deletion_that_lost_to_an_edit_can_be_done_after_all(cloud: Cloud, one: Station, two: Station) -> None:
    await one.bring_operations(animal("a1", "Alpha"))
    await one.bring_operations(operation("animal", "a1", {"notes": "n"}, id="e", kind="update", base_rev=1))
    await two.bring_operations(operation("animal", "a1", {}, id="gone", kind="delete", base_rev=1))
    (found,) = await listed(cloud)
    assert (found["kind"], await listed(cloud, kind="same_column")) == ("delete_after_edit", [])
    assert (await cloud.store.animal(VIEW, "a1")).notes == "n"
    assert (await resolve(cloud, found, "keep_client")).status_code == 200
    (record,) = await sent_down(one)
    assert record.is_deleted


async def one_collar_on_two(cloud: Cloud, one: Station, two: Station) -> dict[str, Any]:
    for station, identity, started_ms in ((one, "a1", START_MS), (two, "a2", START_MS + HOUR_MS)):
        worn = {"collar_id": "K1", "animal_id": identity, "started_ms": started_ms}
        await station.bring_operations(
            animal(identity, f"of {station.id}"),
            operation("observation", f"o {identity}", {"animal_id": identity, "description": identity}),
            operation("deployment", f"d {identity}", worn),
        )
    (found,) = await listed(cloud)
    assert (found["kind"], found["row_id"], found["other_id"]) == ("duplicate_collar", "d a2", "d a1")
    assert (found["server"]["animal_id"], found["client"]["animal_id"]) == ("a1", "a2")
    return found


async def worn(cloud: Cloud) -> dict[str, str | None]:
    return {identity: (await cloud.store.animal(VIEW, identity)).collar_id for identity in ("a1", "a2")}


async def test_a_collar_on_two_animals_is_for_a_person_and_stays_on_the_first(
    cloud: Cloud, one: Station, two: Station
) -> None:
    found = await one_collar_on_two(cloud, one, two)
    assert await worn(cloud) == {"a1": "K1", "a2": None}
    assert (await resolve(cloud, found, "keep_server")).status_code == 200
    assert await worn(cloud) == {"a1": "K1", "a2": None}
    records = await sent_down(two)
    (theirs,) = [record for record in records if record.id == "d a2"]
    assert theirs.is_deleted  # so that the station that has it learns that it is not so


async def test_a_collar_can_be_given_to_the_second_animal(cloud: Cloud, one: Station, two: Station) -> None:
    found = await one_collar_on_two(cloud, one, two)
    assert (await resolve(cloud, found, "keep_client")).status_code == 200
    assert await worn(cloud) == {"a1": None, "a2": "K1"}
    assert (await cloud.store.deployment(VIEW, "d a1")).ended_at == (
        await cloud.store.deployment(VIEW, "d a2")
    ).started_at


async def test_two_animals_that_are_one_become_one_with_all_that_hangs_on_them(
    cloud: Cloud, one: Station, two: Station
) -> None:
    found = await one_collar_on_two(cloud, one, two)
    assert (await resolve(cloud, found, "merge", columns={"name": "Beta"})).status_code == 200
    kept = await cloud.store.animal(VIEW, "a1")
    assert (kept.name, kept.collar_id) == ("Beta", "K1")
    seen = (await cloud.store.observations(VIEW, ObservationQuery())).results
    assert {each.animal_id for each in seen} == {"a1"}
    records = {record.id: record for record in await sent_down(two)}
    assert (records["a2"].is_deleted, records["d a2"].is_deleted) == (True, True)


async def observations(cloud: Cloud) -> list[Observation]:
    return (await cloud.store.observations(VIEW, ObservationQuery())).results


@pytest.mark.parametrize(
    ("resolution", "left"),
    [("keep_both", {"o1", "o2"}), ("keep_server", {"o1"}), ("keep_client", {"o2"}), ("merge", {"o1"})],
)
async def test_an_observation_that_was_probably_told_twice_is_kept_twice_until_a_person_says(
    cloud: Cloud, one: Station, resolution: str, left: set[str]
) -> None:
    said = {"observation_type": "sighting", "observer": "r1", "lon_e7": 370_000_000, "lat_e7": -20_000_000}
    for identity, at_ms, lon_e7 in (("o1", 0, 0), ("o2", 60_000, 5_000), ("o3", 60_000, 50_000), ("o4", HOUR_MS, 0)):
        columns = {**said, "recorded_ms": START_MS + at_ms, "lon_e7": said["lon_e7"] + lon_e7}  # type: ignore[operator]
        await one.bring_operations(operation("observation", identity, columns))
    found = [each for each in await listed(cloud) if each["row_id"] == "o2"]
    assert [(each["kind"], each["other_id"]) for each in found] == [("duplicate_observation", "o1")]
    more = {"columns": {"description": "one herd"}} if resolution == "merge" else {}
    assert (await resolve(cloud, found[0], resolution, **more)).status_code == 200
    now = {each.id: each.description for each in await observations(cloud)}
    assert now.keys() == left | {"o3", "o4"}
    assert now.get("o1") == ("one herd" if resolution == "merge" else now.get("o1"))


async def test_a_station_hears_of_conflicts_that_concern_it_alone(cloud: Cloud, one: Station, two: Station) -> None:
    for identity, at_ms in (("o1", 0), ("o2", 1)):
        columns = {"recorded_ms": START_MS + at_ms, "lon_e7": 1, "lat_e7": 1}
        await one.bring_operations(operation("observation", identity, columns))
    assert [each.kind for each in (await below(one)).clashes] == ["duplicate_observation"]
    assert [each.row_id for each in (await below(two)).clashes] == ["o2"]  # the observations come down to it, too
