"""Patrols over every store."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from shared.errors import Conflict, Invalid, NotFound
from shared.privacy import Principal, View, species_listed
from shared.store import PatrolQuery, Store
from tests.fakes import START, FakeClock
from tests.memory_store import InMemoryStore

pytestmark = pytest.mark.api

TRACK = '{"type":"LineString","coordinates":[[37.0,-2.0],[37.1,-2.1]]}'
AREA = '{"type":"Polygon","coordinates":[[[37.0,-2.0],[38.0,-2.0],[38.0,-3.0],[37.0,-2.0]]]}'
PATROL = {"started_at": START, "note": "fence line", "track": TRACK}


async def test_a_patrol_comes_back_as_it_was_stored(store: Store, view: View, clock: FakeClock) -> None:
    made = await store.create_patrol(view, {**PATROL, "ended_at": START + timedelta(hours=2)})
    assert made == await store.patrol(view, made.id)
    assert (made.note, made.track, made.started_at) == ("fence line", TRACK, START)
    assert made.ended_at == START + timedelta(hours=2)
    assert made.created_by == view.principal.user_id
    assert made.rev == 1


async def test_a_patrol_ends_later(store: Store, view: View, clock: FakeClock) -> None:
    made = await store.create_patrol(view, PATROL)
    clock.tick(3_600)
    ended = await store.update_patrol(view, made.id, {"ended_at": clock.now()})
    assert ended == replace(made, ended_at=clock.now(), rev=2, updated_at=clock.now())
    assert (await store.patrols(view, PatrolQuery(created_by=view.principal.user_id))).results == [ended]
    assert (await store.patrols(view, PatrolQuery(since=clock.now()))).count == 0


async def test_what_is_no_patrol_is_refused(store: Store, view: View) -> None:
    for columns in (
        {"note": "when?"},
        {**PATROL, "ended_at": START - timedelta(minutes=1)},
        {**PATROL, "track": AREA},
        {**PATROL, "track": "here and there"},
    ):
        with pytest.raises(Invalid):
            await store.create_patrol(view, columns)
    made = await store.create_patrol(view, PATROL)
    with pytest.raises(Invalid, match="ended_at"):
        await store.update_patrol(view, made.id, {"ended_at": START - timedelta(minutes=1)})
    with pytest.raises(Conflict):
        await store.create_patrol(view, {**PATROL, "id": made.id})
    assert (await store.patrols(view, PatrolQuery())).results == [made]


async def test_a_deleted_patrol_is_gone_from_every_read(store: Store, view: View) -> None:
    made = await store.create_patrol(view, PATROL)
    await store.delete_patrol(view, made.id)
    assert (await store.patrols(view, PatrolQuery())).count == 0
    with pytest.raises(NotFound):
        await store.patrol(view, made.id)


async def test_where_rangers_are_is_told_to_no_reduced_view(store: Store, view: View, clock: FakeClock) -> None:
    if isinstance(store, InMemoryStore):
        pytest.skip("the double has no reduced views")
    now_ms = round(clock.now().timestamp() * 1000)
    reduced = View(
        principal=Principal(user_id="v", role="viewer"), stations=(), now_ms=now_ms, species=species_listed()
    )
    ended = await store.create_patrol(
        view, {**PATROL, "started_at": START - timedelta(days=9), "ended_at": START - timedelta(days=8)}
    )
    for columns in (PATROL, {**PATROL, "ended_at": START}):
        under_way = await store.create_patrol(view, columns)
        with pytest.raises(NotFound):
            await store.patrol(reduced, under_way.id)
    (seen,) = (await store.patrols(reduced, PatrolQuery())).results
    assert seen == replace(ended, note="", track=None, created_by=None)
    assert (await store.patrols(replace(reduced, now_ms=None), PatrolQuery())).count == 0
