"""Uploads of positions at the cloud: those that come at once share a commit, and what is wrong with one is its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any

import httpx
import pytest
import pytest_asyncio

from shared.sync.records import to_ms
from shared.wire.phone.uploads import read_upload
from tests.clouds import Cloud, serving
from tests.fakes import START

pytestmark = [pytest.mark.integration, pytest.mark.sync]

PATH = "/api/v1/sync/upload/"
#: A rule of the database's own, which no check of ours knows.
REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN IF NEW.lat_e7 = -10000000 THEN RAISE check_violation; END IF; RETURN NEW; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON fixes FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@pytest_asyncio.fixture
async def cloud(database_url: str) -> AsyncIterator[Cloud]:
    async with serving(database_url) as cloud:
        yield cloud


def fixes_of(collar: str, n: int, **fields: Any) -> list[dict[str, Any]]:
    said = {"collar_id": collar, "lon": 37.5, "lat": -2.5}
    return [
        {**said, "local_id": f"{collar}-{k}", "timestamp": to_ms(START) - 86_400_000 + k * 600_000, **fields}
        for k in range(n)
    ]


async def send(cloud: Cloud, device: str, tracking: list[dict[str, Any]], key: str = "") -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return await cloud.client.post(PATH, json={"device_id": device, "tracking": tracking}, headers=headers)


def counts(answer: httpx.Response) -> tuple[int, int, int]:
    assert answer.status_code == 200, answer.text
    summary = answer.json()["summary"]
    return summary["synced"], summary["conflicts"], summary["failed"]


async def test_uploads_that_come_at_once_share_a_commit_and_are_answered_after_it(cloud: Cloud) -> None:
    answers = await asyncio.gather(*(send(cloud, f"d{n}", fixes_of(f"K{n}", 5)) for n in range(12)))
    assert [counts(answer) for answer in answers] == [(5, 0, 0)] * 12
    assert (cloud.count("fixes"), cloud.count("phone_fixes"), cloud.count("sync_log")) == (60, 60, 12)
    ((commits,),) = cloud.ask("SELECT count(DISTINCT xmin::text) FROM sync_log")
    assert commits < 12
    for n, answer in enumerate(answers):
        told = answer.json()["id_map"]["tracking"]
        assert set(told) == {f"K{n}-{k}" for k in range(5)}
        stored = cloud.ask("SELECT f.id::text, f.local_id FROM fixes f JOIN collars c ON c.pk = f.collar_pk"
                           " WHERE c.id = %s", f"K{n}")  # fmt: skip
        assert {local_id: identity for identity, local_id in stored} == told


async def test_the_same_upload_sent_twice_at_once_is_stored_once_and_synced_twice(cloud: Cloud) -> None:
    answers = await asyncio.gather(*(send(cloud, "d1", fixes_of("K1", 5)) for _ in range(4)))
    assert [counts(answer) for answer in answers] == [(5, 0, 0)] * 4
    assert len({str(answer.json()["id_map"]) for answer in answers}) == 1
    assert cloud.count("fixes") == 5


async def test_one_fix_from_two_devices_at_once_is_one_row_and_a_conflict_that_names_it(cloud: Cloud) -> None:
    first, other = await asyncio.gather(
        *(send(cloud, device, fixes_of("K1", 3, local_id=None) + fixes_of("K2", 1)) for device in ("d1", "d2"))
    )
    assert sorted([counts(first), counts(other)]) == [(0, 4, 0), (4, 0, 0)]
    assert first.json()["id_map"]["tracking"] == other.json()["id_map"]["tracking"]
    assert cloud.count("fixes") == 4


async def test_a_key_that_was_used_refuses_its_own_upload_alone(cloud: Cloud) -> None:
    first = await send(cloud, "d1", fixes_of("K1", 1), key="k")
    again, reused, other = await asyncio.gather(
        send(cloud, "d1", fixes_of("K1", 1), key="k"),
        send(cloud, "d2", fixes_of("K2", 1), key="k"),
        send(cloud, "d3", fixes_of("K3", 1), key="another"),
    )
    assert again.content == first.content
    assert (reused.status_code, reused.json()["code"]) == (422, "key_reused")
    assert counts(other) == (1, 0, 0)
    assert cloud.count("fixes") == 2


async def test_what_the_database_refuses_is_told_to_its_sender_and_costs_nobody_else_anything(cloud: Cloud) -> None:
    await send(cloud, "d0", fixes_of("K0", 1))  # the months' partition
    cloud.ask(REFUSE)
    bad = {"local_id": "bad", "collar_id": "K1", "lon": 37.5, "lat": -1.0, "timestamp": to_ms(START)}
    answers = await asyncio.gather(
        send(cloud, "d1", [*fixes_of("K1", 4), bad]), *(send(cloud, f"d{n}", fixes_of(f"K{n}", 5)) for n in (2, 3, 4))
    )
    assert [counts(answer) for answer in answers] == [(4, 0, 1), (5, 0, 0), (5, 0, 0), (5, 0, 0)]
    (error,) = answers[0].json()["errors"]
    assert (error["local_id"], error["code"]) == ("bad", "invalid")
    assert cloud.count("fixes") == 20
    # it waits for a person, with what was sent
    ((status, said),) = cloud.ask("SELECT status, data FROM sync_items")
    assert status == "failed"
    assert '"local_id":"bad"' in said.replace(" ", "")


async def test_names_that_no_database_keeps_are_told_and_cost_no_neighbour_anything(cloud: Cloud) -> None:
    good = fixes_of("K1", 2)
    bad = [{**good[0], "local_id": "a\0b"}, {**good[0], "local_id": "c", "animal": "a\0b"}]
    assert counts(await send(cloud, "d1", [*good, *bad])) == (2, 0, 2)
    assert cloud.count("fixes") == 2


async def test_positions_that_an_earlier_version_noted_are_still_known(cloud: Cloud) -> None:
    first = await send(cloud, "dév", fixes_of("K1", 3))
    before = cloud.ask("SELECT key, fix_id, said FROM phone_fixes ORDER BY key")
    # back to what that version had
    sent = {item["local_id"]: raw for item, raw in zip(fixes_of("K1", 3), _raw(first), strict=True)}
    cloud.ask("DELETE FROM phone_fixes")
    for local_id, server_id in first.json()["id_map"]["tracking"].items():
        cloud.ask(
            "INSERT INTO phone_ids VALUES (%s, 'tracking', %s, %s, %s, NULL)",
            "dév",
            local_id,
            server_id,
            sent[local_id],
        )
    folder = files("cloud.store.migrations")
    (script,) = [each.read_text() for each in folder.iterdir() if each.name.endswith("_phone_fixes.sql")]
    for statement in script[script.index("INSERT INTO") : script.index("-- Only ids")].split(";")[:2]:
        cloud.ask(statement)
    assert cloud.ask("SELECT key, fix_id, said FROM phone_fixes ORDER BY key") == before
    assert cloud.count("phone_ids") == 0
    assert counts(await send(cloud, "dév", fixes_of("K1", 3))) == (3, 0, 0)


def _raw(answer: httpx.Response) -> list[str]:
    """Return the hashes of the positions of an upload, as an earlier version kept them."""
    return [item.hash for item in read_upload(answer.request.content, None).tracking]
