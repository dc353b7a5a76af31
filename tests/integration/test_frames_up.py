"""Frames as they were heard go up last of all, once, and stay for a time: real ledger, SpatiaLite and PostgreSQL."""

from __future__ import annotations

import functools
import random
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud.store.station_frames import KEPT_MS
from cloud.store.tidying import tidy
from edge.store import frames_up, outbox, unsent
from edge.store.ledger import Entry, Ledger
from edge.store.store import SpatialiteStore
from edge.sync.frames import Frames
from edge.sync.profiles import LAN, PROFILES, profile_of
from edge.sync.session import sync_once
from shared.errors import ConfigError
from shared.sync.records import to_ms
from shared.sync.streams import GENESIS, Action, Batch, Head, Receipt, ResumeFrom, SendNext, StartOver
from shared.wire.batch import decode_records, encode_records
from shared.wire.raw import DAY_MS, RawFrame
from tests.access import logged_in, person
from tests.clouds import Cloud, serving, wipe
from tests.fakes import START, FakeClock
from tests.integration.station_store import VIEW, enrol
from tests.unit.edge.sync.fake_cloud import InMemoryCloud

pytestmark = [pytest.mark.integration, pytest.mark.sync]

START_MS = to_ms(START)


@pytest.fixture
async def store(store: SpatialiteStore) -> SpatialiteStore:
    await store.write(functools.partial(enrol, epoch="e1" * 8))
    return store


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger", None, boot="b", synchronous="NORMAL")
    yield ledger
    ledger.close()


@pytest.fixture
async def frames(tmp_path: Path) -> AsyncIterator[Frames]:
    frames = Frames(tmp_path / "ledger", None)
    yield frames
    await frames.aclose()


@pytest.fixture
async def cloud(database_url: str) -> AsyncIterator[Cloud]:
    """Give an empty cloud."""
    wipe(database_url)
    async with serving(database_url) as cloud:
        yield cloud


def hear(ledger: Ledger, count: int, *, first: int = 0, at_ms: int = START_MS) -> int:
    """Hear frames; each is of other bytes."""
    entries = [
        Entry(
            link="radio", framing="native", topic=f"t{number % 3}", payload=f"frame {number}".encode(),
            received_ms=at_ms + number, monotonic_ns=number, clock="ntp", device="K1",
        )
        for number in range(first, first + count)
    ]  # fmt: skip
    return ledger.append(entries)


async def decoded(store: SpatialiteStore, seq: int) -> None:
    """Be as far as the decoder is that has read everything up to ``seq``."""
    await store.write(
        lambda db: db.execute(
            "INSERT INTO cursors VALUES ('decode', ?)"
            " ON CONFLICT (consumer) DO UPDATE SET position = excluded.position",
            (seq,),
        )
    )


def sent_of(cloud: InMemoryCloud) -> list[RawFrame]:
    return [frame for batch in cloud.payloads if batch.channel == "frames" for frame in frames_in(batch)]


def frames_in(batch: Batch) -> list[RawFrame]:
    found: list[RawFrame] = decode_records(batch.payload, RawFrame)
    return found


async def test_they_go_after_all_else_over_a_link_that_costs_nothing_and_no_further_than_the_decoder(
    store: SpatialiteStore, ledger: Ledger, frames: Frames, clock: FakeClock
) -> None:
    cloud = InMemoryCloud()
    hear(ledger, 7)
    await decoded(store, 5)
    await store.create_animal(VIEW, {"name": "Saba", "species": "elephant"})
    for profile in (PROFILES["sat"], PROFILES["cell"]):
        await sync_once(store, cloud, clock, profile=profile, frames=frames)
    assert sent_of(cloud) == []
    assert (await store.read(unsent.waiting))["frames"].items == 0  # a station that sends none does not wait for any
    done = await sync_once(store, cloud, clock, profile=LAN, frames=frames, batch_fixes=2)
    assert [frame.seq for frame in sent_of(cloud)] == [1, 2, 3, 4, 5]
    assert (done.frames, [request[1] for request in cloud.requests if request[0] == "put"][-1]) == (5, "frames")
    await decoded(store, 7)
    assert (await store.read(unsent.waiting))["frames"].items == 2
    await sync_once(store, cloud, clock, profile=LAN, frames=frames)
    assert [frame.payload for frame in sent_of(cloud)] == [f"frame {number}".encode() for number in range(7)]
    assert (await store.read(unsent.waiting))["frames"].items == 0
    assert (await sync_once(store, cloud, clock, profile=LAN)).frames == 0


def test_who_sends_frames_is_told_by_the_configuration() -> None:
    assert "frames" in profile_of("lan").channels
    assert "frames" not in profile_of("lan", frames=False).channels
    assert "frames" not in profile_of("cell").channels
    assert profile_of("cell", frames=True).channels[-1] == "frames"
    with pytest.raises(ConfigError, match=r"cloud\.frames"):
        profile_of("sat", frames=True)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_lost_put_back_or_begun_anew_every_frame_arrives(
    store: SpatialiteStore, ledger: Ledger, frames: Frames, seed: int
) -> None:
    rng = random.Random(seed)
    there: set[int] = set()
    heads: list[Head] = [GENESIS]
    arrived: list[set[int]] = [set()]
    epochs = 1
    heard = 0

    async def send(limit: int, *, is_heard: bool = True) -> bool:
        place = await store.write(frames_up.position)
        rows = [row for row in await frames.read(place.after_seq, limit) if row.seq <= place.last_seq]
        batch = await store.write(functools.partial(outbox.freeze_frames, rows=rows, now_ms=START_MS))
        if batch is None:
            return False
        if batch.n >= len(heads):
            there.update(frame.seq for frame in frames_in(batch))
            heads.append(batch.head)
            arrived.append(set(there))
        if is_heard:
            await apply(store, SendNext(Receipt(n=batch.n, hash=batch.hash)), f"{epochs:016x}")
        return True

    for _ in range(45):
        act = rng.choice(["hear", "send", "send", "lose", "restore", "anew"])
        if act == "hear":
            heard += 3
            await decoded(store, hear(ledger, 3, first=heard))
        elif act in ("send", "lose"):
            await send(rng.choice([1, 2, 9]), is_heard=act == "send")
        elif act == "restore":
            place_of = rng.randrange(len(heads))
            del heads[place_of + 1 :], arrived[place_of + 1 :]
            there.clear()
            there.update(arrived[-1])
            await apply(store, ResumeFrom(heads[-1]), f"{epochs:016x}")
        elif rng.random() < 0.3:
            epochs += 1
            heads[:], arrived[:] = [GENESIS], [set(there)]
            await apply(store, StartOver(), f"{epochs:016x}")
    while await send(9):
        pass
    assert there == set(range(1, heard + 1))


async def apply(store: SpatialiteStore, action: Action, epoch: str) -> None:
    await store.write(lambda db: outbox.apply_answer(db, "frames", action, now_ms=START_MS, new_epoch=epoch))


async def test_what_was_removed_from_the_ledger_holds_nothing_up(
    store: SpatialiteStore, frames: Frames, clock: FakeClock, tmp_path: Path
) -> None:
    (tmp_path / "ledger").mkdir()
    await decoded(store, 9)
    cloud = InMemoryCloud()
    await sync_once(store, cloud, clock, frames=frames)
    assert (await store.read(unsent.waiting))["frames"].items == 0


async def test_the_cloud_keeps_each_once_with_its_copies_shows_them_to_administrators_alone_and_forgets_them(
    cloud: Cloud,
) -> None:
    station = cloud.station()

    def said(number: int, copies: int = 1) -> RawFrame:
        return RawFrame(
            seq=number,
            link="radio",
            framing="native",
            payload=bytes([number, 0, 255]),
            topic="t",
            device="K1",
            received_ms=START_MS + number,
            clock="ntp",
            copies=copies,
        )

    async def bring(*frames: RawFrame) -> dict[Any, int]:
        return (await station.bring("frames", encode_records(frames))).counts

    assert await bring(said(1), said(2), said(2, 3)) == {"applied": 2, "duplicate": 1}
    assert await bring(said(1, 5), said(3)) == {"applied": 1, "duplicate": 1}
    assert await bring(msgspec.structs.replace(said(4), link="nul\0"), said(4, 0), said(5)) == {
        "applied": 1, "quarantined": 2,
    }  # fmt: skip
    path = "/api/v1/stations/post-1/frames/"
    shown = (await cloud.client.get(path, params={"limit": 2})).json()
    assert [(each["seq"], each["copies"], each["payload"]) for each in shown["frames"]] == [
        (1, 5, "0100ff"), (2, 3, "0200ff"),
    ]  # fmt: skip
    rest = (await cloud.client.get(path, params={"limit": 9, "after": shown["next"]})).json()
    assert ([each["seq"] for each in rest["frames"]], rest["next"]) == ([3, 5], None)
    span = {
        "since": (START + timedelta(milliseconds=3)).isoformat(),
        "until": (START + timedelta(milliseconds=4)).isoformat(),
    }
    assert [each["seq"] for each in (await cloud.client.get(path, params=span)).json()["frames"]] == [3]
    assert (await cloud.client.get("/api/v1/stations/nobody/frames/")).status_code == 404
    manager, _ = await logged_in(cloud.accounts, await person(cloud.accounts, "conservation_manager"))
    assert (await cloud.client.get(path, headers={"Authorization": f"Bearer {manager}"})).status_code == 403

    taken_ms = to_ms(cloud.clock.now())
    assert (await tidy(cloud.database, taken_ms + KEPT_MS)).frames == 0
    assert (await tidy(cloud.database, None)).frames == 0  # on a clock that is not sure nothing goes
    assert (await tidy(cloud.database, taken_ms + KEPT_MS + DAY_MS)).frames == 4
    assert cloud.count("station_frames") == 0
