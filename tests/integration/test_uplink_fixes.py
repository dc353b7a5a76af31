"""Fixes that stations bring to the cloud: once each, whatever they hold; one that cannot be stored costs no other."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shared.domain import FixFlag
from shared.ids import fix_id, id_text
from shared.movement.quality import ROLLOVER_MS
from tests.clouds import START_MS, VIEW, Cloud, Station, columns_of, fix_row, noise, operation

pytestmark = [pytest.mark.integration, pytest.mark.sync, pytest.mark.asyncio(loop_scope="module")]


async def test_fixes_are_counted_as_new_enriched_or_duplicate_and_have_the_stations_ids(
    cloud: Cloud, station: Station
) -> None:
    receipt = await station.bring_fixes(fix_row(0), fix_row(10), fix_row(10, link="base"))
    assert receipt.counts == {"applied": 2, "duplicate": 1}
    receipt = await station.bring_fixes(fix_row(0, battery_mv=3600), fix_row(10, link="base"), fix_row(20))
    assert receipt.counts == {"applied": 2, "duplicate": 1}
    assert (receipt.exceptions, receipt.n) == ((), 2)
    ids = [id_text(fix_id("K1", START_MS + ms, 375_000_000, -25_000_000)) for ms in (0, 600_000, 1_200_000)]
    assert [str(identity) for (identity,) in cloud.ask("SELECT id FROM fixes ORDER BY id")] == ids
    assert cloud.ask("SELECT battery_mv, link FROM fixes ORDER BY id") == [(3600, None), (None, "base"), (None, None)]


async def test_fixes_hang_on_animals_that_the_sender_named_and_on_stand_ins(cloud: Cloud, station: Station) -> None:
    await station.bring_operations(
        operation("animal", "a1", {"name": "Alpha", "species": "elephant"}),
        operation("animal", "a2", {"name": "Beta", "species": "lion"}),
        operation("deployment", "d1", {"collar_id": "K2", "animal_id": "a2", "started_ms": START_MS}),
    )
    receipt = await station.bring_fixes(
        fix_row(0, said_animal_id="a1"),
        fix_row(0, "K2", said_animal_id="a1"),
        fix_row(0, "animal:a1", source="manual"),
        fix_row(0, "K3", said_animal_id="nobody"),
    )
    assert receipt.counts == {"applied": 4}
    wearers = cloud.ask(
        "SELECT c.id, a.id FROM fixes f JOIN collars c ON c.pk = f.collar_pk LEFT JOIN animals a ON a.pk = f.animal_pk"
        " ORDER BY 1"
    )
    assert wearers == [("K1", "a1"), ("K2", "a2"), ("K3", None), ("animal:a1", "a1")]
    page = await cloud.store.collars(VIEW, search=None, offset=0, limit=10)
    assert [collar.id for collar in page.results] == ["K1", "K2", "K3"]


async def test_a_stand_in_that_comes_before_its_animal_is_that_animals_once_it_comes(
    cloud: Cloud, station: Station
) -> None:
    await station.bring_fixes(fix_row(0, "animal:a1", source="manual"))
    await station.bring_operations(operation("animal", "a1", {"name": "Alpha", "species": "elephant"}))
    assert cloud.ask("SELECT a.id FROM fixes f JOIN animals a ON a.pk = f.animal_pk") == [("a1",)]
    assert (await cloud.store.collars(VIEW, search=None, offset=0, limit=10)).count == 0
    assert [record.entity for record in await station.all_changes(limit=10)] == ["animal"]


async def test_text_keeps_all_but_the_character_zero(cloud: Cloud, station: Station) -> None:
    receipt = await station.bring_fixes(fix_row(0, "K\0", notes="a\0b", link="\0", local_id="ÿ\u2028'\"\\\t"))
    assert receipt.counts == {"applied": 1}
    row = cloud.ask("SELECT c.id, notes, link, local_id FROM fixes f JOIN collars c ON c.pk = f.collar_pk".replace(
        "notes", "f.notes"))  # fmt: skip
    assert row == [("K\ufffd", "a\ufffdb", "\ufffd", "ÿ\u2028'\"\\\t")]
    assert cloud.count("station_collars") == 1


async def test_whatever_numbers_a_fix_holds_it_is_stored_or_kept_and_can_be_read(
    cloud: Cloud, station: Station
) -> None:
    big = 2**63 - 1
    last_ms = 253_402_128_000_000  # 9999-12-30
    rows = [
        fix_row(0, "N", lon_e7=big, lat_e7=-big),
        fix_row(0, "N", lon_e7=1_800_000_001, lat_e7=0),
        fix_row(0, "N", lon_e7=None, lat_e7=None, sats=big, seq=-big, battery_mv=big),
        fix_row(1, "N", alt_m=1.7e308, hdop=1.7e308, speed_mps=-1.7e308, rssi_dbm=big),
        fix_row(0, "T", raw_ms=last_ms), fix_row(0, "T", raw_ms=0), fix_row(0, "T", raw_ms=-62_135_596_800_000),
        fix_row(0, "T", received_ms=last_ms, sure_received_ms=last_ms),
    ]  # fmt: skip
    assert (await station.bring_fixes(*rows)).counts == {"applied": len(rows)}
    beyond = [
        fix_row(0, "B", raw_ms=big), fix_row(0, "B", raw_ms=-big), fix_row(0, "B", raw_ms=last_ms + 1),
        fix_row(0, "B", received_ms=big), fix_row(0, "B", received_ms=None, sure_received_ms=None),
        fix_row(1, "B", sure_received_ms=-big), fix_row(2, "B", network_ms=big),
    ]  # fmt: skip
    receipt = await station.bring_fixes(*beyond)
    assert receipt.counts == {"quarantined": len(beyond)}
    assert {each.code for each in receipt.exceptions} == {"invalid"}
    assert sorted(each.place for each in receipt.exceptions) == list(range(len(beyond)))
    assert (cloud.count("quarantine"), cloud.count("fixes")) == (len(beyond), len(rows))
    answer = await cloud.client.get("/api/v1/tracking/?page_size=100")
    assert (answer.status_code, answer.json()["count"]) == (200, len(rows))
    out_of_range = cloud.ask("SELECT count(*) FROM fixes WHERE flags & %s <> 0 AND geom IS NULL",
                             int(FixFlag.OUT_OF_RANGE))  # fmt: skip
    assert out_of_range == [(2,)]
    for collar_id in ("N", "T"):
        sent = sorted(map(repr, (row for row in rows if row["collar_id"] == collar_id)))
        found = [{name: row[name] for name in row if row[name] is not None} for row in await station.fixes(collar_id)]
        assert len(found) == len(sent)


POISONS: dict[str, dict[str, Any]] = {
    "an animal's id with the character 0": {"said_animal_id": "\0"},
    "a collar's id that no index holds": {"collar_id": noise(1)},
    "no time of reception": {"received_ms": None},
    "a time that no calendar has": {"raw_ms": 2**62},
    "a collar without a name": {"collar_id": ""},
    "a collar whose name is a prefix": {"collar_id": "collar:"},
}  # fmt: skip


@pytest.mark.parametrize("poison", POISONS)
async def test_one_fix_that_cannot_be_stored_is_kept_alone_with_all_that_it_held(
    cloud: Cloud, station: Station, poison: str
) -> None:
    rows = [fix_row(minutes, notes=f"n{minutes}") for minutes in range(200)]
    rows[77] |= {"alt_m": 12.5, **POISONS[poison]}
    receipt = await station.bring_fixes(*rows)
    assert receipt.counts == {"applied": 199, "quarantined": 1}
    assert len(receipt.exceptions) == 1
    ((channel, n, body),) = cloud.ask("SELECT channel, n, body FROM quarantine")
    assert (channel, n) == ("fixes", 1)
    assert msgspec.msgpack.decode(body) == columns_row(rows[77])
    flags = cloud.ask("SELECT DISTINCT flags FROM fixes")
    assert flags == [(0,)]
    assert (await station.bring_fixes(fix_row(300))).counts == {"applied": 1}


def columns_row(row: dict[str, Any]) -> dict[str, Any]:
    return {name: values[0] for name, values in columns_of([row]).items()}


async def test_every_fix_of_a_batch_may_be_unfit_and_the_batch_is_still_answered(
    cloud: Cloud, station: Station
) -> None:
    receipt = await station.bring_fixes(*(fix_row(minutes, said_animal_id="\0") for minutes in range(9)))
    assert receipt.counts == {"quarantined": 9}
    assert (cloud.count("collars"), cloud.count("changes")) == (0, 0)
    assert (await station.bring_fixes()).counts == {}


async def test_a_station_reads_the_fixes_of_collars_that_it_brought_and_of_no_others(
    cloud: Cloud, station: Station
) -> None:
    rows = [fix_row(minutes, link="base", alt_m=minutes / 10) for minutes in range(11)]
    rows += [fix_row(0, raw_ms=START_MS - ROLLOVER_MS, link="base", alt_m=9.0)]  # corrected: time and id disagree
    await station.bring_fixes(*rows)
    other = cloud.station("post-2")
    assert await other.fixes("K1") == []
    await other.bring_fixes(fix_row(0, "K2"), fix_row(0))
    for limit in (1, 2, 3, 11, 12, 13, 5_000):
        found = await station.fixes("K1", limit=limit)
        key = lambda row: (row["raw_ms"], row["lon_e7"])  # noqa: E731  three words, used twice
        assert sorted(found, key=key) == sorted(map(columns_row, rows), key=key)
    assert len(await other.fixes("K1")) == 12
    assert await station.fixes("K2") == []
    assert await station.fixes("nobody") == []
    for query in ("collar_id=K1&after=zz", "collar_id=K1&limit=0", "collar_id=K1&limit=5001", "limit=1"):
        assert (await station.send("GET", "/fixes", query)).status_code == 400
    assert (await station.send("GET", "/fixes", "collar_id=%00")).status_code in (200, 400)


async def test_a_station_reads_the_fixes_of_a_collar_that_its_own_became(cloud: Cloud, station: Station) -> None:
    await station.bring_fixes(fix_row(0, "eui:01"), fix_row(1, "eui:01"))
    await cloud.store.put_collar(VIEW, "K1", {"aliases": ["eui:01"]})
    found = await station.fixes("K1")
    assert [(row["collar_id"], row["raw_ms"]) for row in found] == [("K1", START_MS), ("K1", START_MS + 60_000)]
