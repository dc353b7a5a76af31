"""Fixes to EarthRanger and Gundi over a real loopback connection: each arrives once, whatever the answers are."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.store import outgoing
from edge.store.store import SpatialiteStore
from edge.sync.outgoing import TRIES, Sent, send
from shared.domain import FixFlag, NewFix
from shared.errors import Forbidden, Invalid, LinkError
from shared.exchange import earthranger, gundi
from shared.exchange.rows import TrackFix
from shared.exchange.sites import MOST, Site, body_of
from shared.privacy import OPERATOR, Principal, View, view_for
from tests.fakes import START, FakeClock
from tests.receivers import TOKEN, Double, receivers

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
VIEW = view_for(OPERATOR)
HOUR = timedelta(hours=1)


@pytest.fixture
def serve() -> Iterator[Callable[..., Double]]:
    with receivers() as start:
        yield start


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SpatialiteStore]:
    store = SpatialiteStore(tmp_path / "station.db", None, now=FakeClock().now, synchronous="NORMAL")
    yield store
    await store.close()


def site(double: Double, token: str = TOKEN) -> Site:
    return gundi.site(double.url, token) if double.kind == "gundi" else earthranger.site(double.url, "outpost", token)


async def wear(store: SpatialiteStore, collar_id: str, name: str) -> None:
    animal = await store.create_animal(VIEW, {"name": name, "species": "Loxodonta africana"})
    span = {"animal_id": animal.id, "collar_id": collar_id, "started_at": START - 9 * HOUR, "ended_at": None}
    await store.create_deployment(VIEW, span)


def heard(hour: float, collar_id: str = "K1", lon: float | None = 37.5, **more: Any) -> NewFix:
    at = START + hour * HOUR
    lat = None if lon is None else -2.5
    return NewFix(device=f"collar:{collar_id}", recorded_at=at, received_at=at, lon_deg=lon, lat_deg=lat, **more)


async def fill(store: SpatialiteStore, n: int) -> None:
    await wear(store, "K1", "Ayo")
    await store.add_fixes(VIEW, [heard(k / 10, lon=37.5 + k * 1e-5, battery_mv=3_600 - k) for k in range(n)])


class Pauses:
    """Waits for nothing and remembers for how long it should have."""

    def __init__(self) -> None:
        self.waited_s: list[float] = []

    async def __call__(self, wait_s: float) -> None:
        self.waited_s.append(wait_s)


async def run(store: SpatialiteStore, double: Double, pauses: Pauses | None = None, **options: Any) -> Sent:
    return await send(store, VIEW, site(double), pause=pauses or Pauses(), **options)


KINDS = ("earthranger", "gundi")
N = 3 * MOST + 17


@pytest.mark.parametrize("kind", KINDS)
async def test_each_fix_arrives_exactly_once_and_the_next_run_sends_only_what_is_new(
    kind: str, store: SpatialiteStore, serve: Callable[..., Double]
) -> None:
    double = serve(kind)
    await fill(store, N)
    done = await run(store, double)
    assert (done.sent, done.refused, done.held) == (N, 0, 0)
    assert len(double.kept) == N
    assert len(double.bodies) == 4
    assert (await run(store, double)).sent == 0
    await store.add_fixes(VIEW, [heard(99)])
    assert (await run(store, double)).sent == 1
    assert len(double.bodies) == 5
    path = "/v2/observations" if kind == "gundi" else "/api/v1.0/sensors/generic/outpost/status/"
    assert double.paths == {path}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["dropped", "cut", "500", "429", "page"])
async def test_a_fault_is_followed_by_the_same_bytes_until_they_are_there(
    kind: str, fault: str, store: SpatialiteStore, serve: Callable[..., Double]
) -> None:
    double = serve(kind, script=lambda n: fault if n % 3 else "ok")
    await fill(store, N)
    pauses = Pauses()
    done = await run(store, double, pauses)
    assert (done.sent, done.refused) == (N, 0)
    assert len(double.kept) == N
    sent = Counter(double.bodies)
    assert len(sent) == 4
    assert max(sent.values()) > 1
    assert done.retries == len(double.bodies) - 4 == len(pauses.waited_s)
    if fault == "429":
        assert min(pauses.waited_s) >= 0.75  # and where the receiver asks for seven seconds, the second wait is longer
        assert max(pauses.waited_s) >= 7 * 0.75


async def test_a_conflict_means_that_it_is_there(store: SpatialiteStore, serve: Callable[..., Double]) -> None:
    double = serve("earthranger", script=lambda _: "409")
    await fill(store, 5)
    done = await run(store, double)
    assert (done.sent, done.retries, len(double.kept)) == (5, 0, 5)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_receiver_that_never_answers_ends_the_run_and_the_next_begins_with_the_same_bytes(
    kind: str, store: SpatialiteStore, serve: Callable[..., Double]
) -> None:
    double = serve(kind, script=lambda n: "dropped" if n < TRIES else "ok")
    await fill(store, 5)
    pauses = Pauses()
    with pytest.raises(LinkError, match="the next run goes on from here"):
        await run(store, double, pauses)
    assert pauses.waited_s == sorted(pauses.waited_s)
    # What is known of the fixes, and whose they are, changes before the next run; what was frozen does not.
    await store.add_fixes(VIEW, [heard(k / 10, lon=37.5 + k * 1e-5, temperature_c=30.0) for k in range(5)])
    done = await run(store, double)
    assert done.sent == 5
    assert len(set(double.bodies)) == 1
    assert len(double.kept) == 5


async def test_one_row_that_is_refused_costs_no_other(store: SpatialiteStore, serve: Callable[..., Double]) -> None:
    double = serve("earthranger", poison=frozenset({"K2"}))
    await fill(store, 40)
    await wear(store, "K2", "Bo")
    await store.add_fixes(VIEW, [heard(1, "K2"), heard(20, "K2"), *(heard(50 + k) for k in range(9))])
    done = await run(store, double)
    assert (done.sent, done.refused) == (49, 2)
    assert len(double.kept) == 49
    assert (await run(store, double)).refused == 0  # it is not tried for ever


async def test_a_receiver_that_refuses_everything_ends_the_run_and_costs_no_fix(
    store: SpatialiteStore, serve: Callable[..., Double]
) -> None:
    double = serve("earthranger", poison=frozenset({"K1"}))
    await fill(store, MOST + 20)
    with pytest.raises(Invalid, match="refuses one fix after the other"):
        await run(store, double)
    double.poison = frozenset()
    done = await run(store, double)
    assert (done.sent, done.refused, len(double.kept)) == (MOST + 20, 0, MOST + 20)


async def test_what_a_rule_or_a_missing_deployment_holds_back_is_sent_when_it_is_cleared(
    store: SpatialiteStore, serve: Callable[..., Double]
) -> None:
    double = serve("earthranger")
    await wear(store, "K1", "Ayo")
    far = [heard(0), heard(1), heard(2, lon=39.5), heard(3, lon=None), heard(4, lon=0.0)]
    stored = await store.add_fixes(VIEW, [*far[:4], heard(1, "K9")])
    assert (await store.fix(VIEW, stored[2].id)).flags == FixFlag.IMPOSSIBLE_SPEED
    done = await run(store, double)
    assert (done.sent, done.held) == (2, 2)
    # It went there after all, and the collar without an animal was Bo's.
    await store.add_fixes(VIEW, [heard(3 + k, lon=39.5) for k in range(1, 5)])
    await wear(store, "K9", "Bo")
    done = await run(store, double)
    assert (done.sent, done.held) == (6, 0)
    assert len(double.kept) == 8


async def test_to_begin_again_is_to_send_all_and_to_store_nothing_twice(
    store: SpatialiteStore, serve: Callable[..., Double]
) -> None:
    double = serve("earthranger")
    await fill(store, 20)
    await run(store, double)
    done = await run(store, double, is_again=True)
    assert (done.sent, len(double.kept)) == (20, 20)
    assert double.bodies[0] == double.bodies[1]


async def test_a_wrong_token_and_a_wrong_address_end_the_run_with_a_word_and_no_token(
    store: SpatialiteStore, serve: Callable[..., Double]
) -> None:
    double = serve("earthranger")
    await fill(store, 3)
    with pytest.raises(Forbidden, match="refuses the token") as refusal:
        await send(store, VIEW, site(double, "another"), pause=Pauses())
    assert "another" not in refusal.value.detail
    lost = serve("earthranger", script=lambda _: "404")
    with pytest.raises(Invalid, match="there is nothing at"):
        await run(store, lost)
    ranger = View(principal=Principal(user_id="r", role="ranger"))
    with pytest.raises(Forbidden, match="may not export"):
        await send(store, ranger, site(double), pause=Pauses())
    assert (await run(store, double)).sent == 3


async def test_more_held_fixes_than_can_be_kept_are_counted(store: SpatialiteStore) -> None:
    await store.add_fixes(VIEW, [heard(k, "K9") for k in range(5)])
    state = await store.write(lambda db: outgoing.freeze(db, "x", earthranger.observation, most_held=3))
    assert (len(state.held), state.given_up) == (3, 2)


@pytest.mark.slow
async def test_the_command_sends_to_the_system_of_its_configuration_with_the_token_of_its_environment(
    tmp_path: Path, serve: Callable[..., Double]
) -> None:
    double = serve("earthranger")
    config = tmp_path / "station.toml"
    config.write_text(
        f'[station]\ndata_dir = "{tmp_path}"\n\n[store]\nis_encrypted = false\n\n'
        f'[earthranger]\nurl = "{double.url}"\nprovider = "outpost"\n'
    )
    store = SpatialiteStore(tmp_path / "station.db", None, now=FakeClock().now, synchronous="NORMAL")
    await fill(store, 5)
    await store.close()
    command = [sys.executable, "-m", "edge", "export", "--to", "earthranger", "--json", "--config", str(config)]

    def run_it(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, cwd=ROOT, env={**os.environ, **environment}
        )

    without = await asyncio.to_thread(run_it)
    assert (without.returncode, without.stdout) == (1, "")
    assert "OUTPOST_EARTHRANGER_TOKEN" in without.stderr
    done = await asyncio.to_thread(run_it, OUTPOST_EARTHRANGER_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"sent": 5, "refused": 0, "held": 0, "given_up": 0, "retries": 0}
    assert len(double.kept) == 5
    again = await asyncio.to_thread(run_it, OUTPOST_EARTHRANGER_TOKEN=TOKEN)
    assert json.loads(again.stdout)["sent"] == 0


FIX = TrackFix(
    animal_id="1", individual="Ayo", species="Loxodonta africana", collar_id="K1", recorded_ms=1_780_315_200_250,
    lon_e7=375_000_001, lat_e7=-25_000_000, flags=0, alt_m=1200.5, hdop=1.0, sats=7, battery_mv=3_600,
)  # fmt: skip


def test_the_bytes_of_an_observation_are_these() -> None:
    assert body_of([earthranger.observation(FIX)]) == (
        b'[{"manufacturer_id":"K1","source_type":"tracking-device","subject_name":"Ayo","subject_type":"wildlife",'
        b'"subject_subtype":"elephant","recorded_at":"2026-06-01T12:00:00.250Z","location":{"lat":-2.5,"lon":37.5000001},'
        b'"additional":{"alt_m":1200.5,"hdop":1,"sats":7,"battery_mv":3600}}]'
    )
    assert body_of([gundi.observation(FIX)]) == (
        b'[{"source":"K1","source_name":"Ayo","type":"tracking-device","subject_type":"elephant",'
        b'"recorded_at":"2026-06-01T12:00:00.250Z","location":{"lat":-2.5,"lon":37.5000001,"alt":1200.5},'
        b'"additional":{"hdop":1,"sats":7,"battery_mv":3600}}]'
    )


@pytest.mark.parametrize(
    ("species", "word"),
    [
        ("Connochaetes taurinus", "wildebeest"), ("African wild dog", "african_wild_dog"), ("Panthera leo", "lion"),
        ("plains zebra", "zebra"), ("Canis latrans", "canis_latrans"), ("", "unassigned"),
    ],
)  # fmt: skip
def test_an_animal_is_drawn_by_its_species(species: str, word: str) -> None:
    assert earthranger.subtype(species) == word
