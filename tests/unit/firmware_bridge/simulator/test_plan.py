from __future__ import annotations

import itertools
import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from firmware_bridge.codecs.chirpstack import ChirpStackCodec
from firmware_bridge.codecs.opencollar import encode_short
from firmware_bridge.codecs.outpost_json import OutpostJsonCodec
from firmware_bridge.codecs.station_frame import StationFrameCodec
from firmware_bridge.framing.cobs import CobsDecoder
from firmware_bridge.simulator.plan import Faults, Outgoing, Plan, Wrapping
from firmware_bridge.simulator.transmission import SimulatedFix, Transmission
from shared.errors import FrameError, Invalid

pytestmark = pytest.mark.unit

START = datetime(2026, 1, 1, tzinfo=UTC)
LINKS: list[Wrapping] = ["serial", "serial", "chirpstack", "outpost"]
ROUGH = Faults(duplicate=0.3, reorder=20, corrupt=0.2, noise=0.2)


def transmissions(count: int) -> list[Transmission]:
    sent = []
    for number in range(count):
        at = START + timedelta(seconds=number)
        lon_deg, lat_deg = round(37.3 + number / 1e4, 7), -2.4
        sent.append(
            Transmission(
                at=at,
                eui="0101010101010101",
                name="Ann",
                counter=number,
                port=13,
                message=encode_short(recorded_at=at, lat_deg=lat_deg, lon_deg=lon_deg),
                fixes=(SimulatedFix(recorded_at=at, lon_deg=lon_deg, lat_deg=lat_deg),),
            )
        )
    return sent


def planned(faults: Faults, *, count: int = 400, seed: int = 1, links: list[Wrapping] | None = None) -> list[Outgoing]:
    return list(Plan(links or LINKS, faults=faults, seed=seed).outgoing(transmissions(count)))


def heard_times(outgoing: list[Outgoing], links: list[Wrapping]) -> Counter[datetime | None]:
    """Return the times of all fixes that a station would decode, however the links deliver them."""
    heard: Counter[datetime | None] = Counter()
    for number, wrapping in enumerate(links):
        mine = [each for each in outgoing if each.link == number]
        uplinks = []
        if wrapping == "serial":
            for frame in CobsDecoder().feed(b"".join(each.data for each in mine)):
                uplinks += StationFrameCodec().decode(frame.payload)
        else:
            codec = ChirpStackCodec() if wrapping == "chirpstack" else OutpostJsonCodec()
            for each in mine:
                try:
                    uplinks += codec.decode(each.data, topic=each.topic)
                except FrameError:
                    assert each.kind == "damaged"
        heard.update(fix.recorded_at for uplink in uplinks for fix in uplink.fixes)
        assert {uplink.device.removeprefix("collar:") for uplink in uplinks} <= {"eui:0101010101010101"}
    return heard


def test_without_faults_each_transmission_goes_out_once_over_one_of_the_links() -> None:
    outgoing = planned(Faults())
    assert [each.at for each in outgoing] == [START + timedelta(seconds=n) for n in range(400)]
    assert {each.kind for each in outgoing} == {"frame"}
    per_link = Counter(each.link for each in outgoing)
    assert min(per_link[link] for link in range(4)) > 60
    assert set(heard_times(outgoing, LINKS).values()) == {1}


@pytest.mark.parametrize("seed", range(5))
def test_with_faults_no_fix_is_lost_and_none_is_invented(seed: int) -> None:
    plan = Plan(LINKS, faults=ROUGH, seed=seed)
    outgoing = list(plan.outgoing(transmissions(400)))
    heard = heard_times(outgoing, LINKS)
    assert set(heard) == {START + timedelta(seconds=n) for n in range(400)}
    assert sum(heard.values()) == 400 + plan.duplicates
    assert plan.duplicates > 60
    assert plan.corrupted > 40
    assert {each.kind for each in outgoing} == {"frame", "duplicate", "damaged", "noise"}


def test_one_seed_gives_the_same_bytes_twice() -> None:
    assert planned(ROUGH) == planned(ROUGH)
    assert planned(ROUGH) != planned(ROUGH, seed=2)


def test_nothing_goes_out_before_its_time_and_few_may_pass() -> None:
    outgoing = planned(Faults(reorder=5), links=["serial"])
    assert [each.at for each in outgoing] == sorted(each.at for each in outgoing)
    decoder = CobsDecoder()
    order = []
    for each in outgoing:
        [frame] = decoder.feed(each.data)
        [uplink] = StationFrameCodec().decode(frame.payload)
        recorded_at = uplink.fixes[0].recorded_at
        assert recorded_at is not None
        assert each.at >= recorded_at
        order.append(int((recorded_at - START).total_seconds()))
    assert sorted(order) == list(range(400))
    assert order != sorted(order)
    passed = [sum(later > value for later in order[:index]) for index, value in enumerate(order)]
    assert 0 < max(passed) <= 5


def test_only_where_it_may_a_frame_is_lost() -> None:
    plan = Plan(["serial"], faults=Faults(corrupt=0.2, may_lose=True), seed=1)
    heard = heard_times(list(plan.outgoing(transmissions(400))), ["serial"])
    assert plan.lost > 10
    assert len(heard) == 400 - plan.lost


def test_damage_to_json_is_never_valid_json() -> None:
    for each in planned(Faults(corrupt=1.0), links=["chirpstack", "outpost"]):
        if each.kind == "damaged":
            with pytest.raises(json.JSONDecodeError):
                json.loads(each.data)


def test_a_time_that_only_json_can_carry_goes_to_a_broker() -> None:
    at = START + timedelta(milliseconds=500)
    fix = SimulatedFix(recorded_at=at, lon_deg=37.3, lat_deg=-2.4)
    sent = Transmission(at=at, eui="0101010101010101", name="Ann", counter=0, port=13, message=None, fixes=(fix,))
    plan = Plan(["serial", "chirpstack"], faults=Faults(), seed=1, station="post")
    for each in itertools.chain.from_iterable(plan.outgoing([sent]) for _ in range(20)):
        assert (each.link, each.topic) == (1, "outpost/post/gateway-2/fix")
        [uplink] = OutpostJsonCodec().decode(each.data, topic=each.topic)
        assert uplink.fixes[0].recorded_at == at
    with pytest.raises(Invalid, match="needs a broker"):
        list(Plan(["serial"], faults=Faults(), seed=1).outgoing([sent]))
