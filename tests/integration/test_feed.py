"""The change feed down to a station: every page can be taken as it comes."""

from __future__ import annotations

import pytest

from cloud.store import feed
from cloud.store.database import Database
from cloud.store.store import PostgresStore
from shared.privacy import OPERATOR, view_for
from tests.fakes import START

pytestmark = [pytest.mark.integration, pytest.mark.sync]

VIEW = view_for(OPERATOR)


async def test_a_page_brings_what_its_records_refer_to_even_if_that_is_newer(database_url: str) -> None:
    async with Database.open(database_url, pool_min=1, pool_max=2) as database:
        store = PostgresStore(database, now=lambda: START)
        first = await store.create_animal(VIEW, {"name": "Alpha", "species": "elephant"})
        deployment = await store.create_deployment(
            VIEW, {"animal_id": first.id, "collar_id": "K1", "started_at": START}
        )
        second = await store.create_animal(VIEW, {"name": "Beta", "species": "elephant"})
        await store.update_deployment(VIEW, deployment.id, {"animal_id": second.id, "collar_id": "K2"})
        seen: set[tuple[str, str]] = set()
        cursor, is_more = 0, True
        while is_more:
            async with database.snapshot() as connection:
                page = await feed.changed_records(connection, "post-1", cursor, 1)
            cursor, is_more = page.next, page.is_more
            known = seen | {(record.entity, record.id) for record in page.records}
            for record in page.records:
                if record.entity == "deployment":
                    assert ("animal", record.columns["animal_id"]) in known
                    assert ("collar", record.columns["collar_id"]) in known
            seen = known
        assert seen == {
            ("animal", first.id), ("animal", second.id), ("deployment", deployment.id), ("collar", "K1"),
            ("collar", "K2"),
        }  # fmt: skip
