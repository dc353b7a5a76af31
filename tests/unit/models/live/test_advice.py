"""Advice on animals by the packaged int8 policy: what it says, on what grounds, and when it says nothing."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.artifact import PACKAGED
from models.live.advice import AROUND_M, SIDE, Advisor, Asked
from models.live.ahead import Shape, shape_within
from shared.domain import RiskLevel, ZoneType
from shared.insight import Advice, Ahead

pytestmark = [pytest.mark.unit, pytest.mark.ml, pytest.mark.corridors]

LON, LAT = 37.05, -2.0
KM = 1 / 111.195


def corridor(species: str | None = "elephant", identity: str = "c1") -> Shape:
    """Return a corridor 2 km wide that runs west to east through (LON, LAT)."""
    line = {"type": "LineString", "coordinates": [[LON - 20 * KM, LAT], [LON + 20 * KM, LAT]]}
    ahead = Ahead(kind="corridor", id=identity, name="north path")
    return shape_within(ahead, json.dumps(line), width_m=2_000.0, species=species)


def zone(east_km: float, north_km: float, kind: ZoneType, risk: RiskLevel = "high", half_km: float = 0.8) -> Shape:
    x, y, r = LON + east_km * KM, LAT + north_km * KM, half_km * KM
    ring = [[x - r, y - r], [x + r, y - r], [x + r, y + r], [x - r, y + r], [x - r, y - r]]
    ahead = Ahead(kind="zone", id=f"{kind} {east_km} {north_km}", name=kind, zone_type=kind, risk_level=risk)
    area = json.dumps({"type": "Polygon", "coordinates": [ring]})
    return msgspec.structs.replace(shape_within(ahead, area), buffer_m=500.0)


def asked(
    heading_deg: float | None, *shapes: Shape, north_km: float = 0.0, species: str = "African elephant",
    suitability: float | None = None,
) -> Asked:  # fmt: skip
    return Asked(
        species=species, lon_deg=LON, lat_deg=LAT + north_km * KM, heading_deg=heading_deg, suitability=suitability,
        shapes=shapes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def advisor() -> Advisor:
    return Advisor()


def one(advisor: Advisor, animal: Asked) -> Advice:
    (said,) = advisor.advise([animal])
    assert isinstance(said, Advice), said
    return said


def turned(one_deg: float, other_deg: float) -> float:
    return abs((one_deg - other_deg + 180) % 360 - 180)


@pytest.mark.parametrize(
    ("animal", "recommendation", "bearing_deg"),
    [
        (asked(90, corridor()), "stay_course", 90),
        (asked(270, corridor()), "stay_course", 270),
        (asked(None, corridor()), "stay_course", None),
        (asked(0, corridor()), "return_to_corridor", None),
        (asked(0, corridor(), north_km=4), "return_to_corridor", 180),
        (asked(None, corridor(), north_km=-6), "return_to_corridor", 0),
        (asked(45, zone(2, 2, "settlement")), "avoid_settlement", None),
        (asked(90, corridor(), zone(2, 0, "agriculture")), "avoid_risk_zone", None),
        (asked(None, zone(0, 0, "settlement")), "avoid_settlement", None),
        (asked(60), "continue", 60),
        (asked(60, zone(0, 0, "protected_area")), "continue", 60),
        (asked(60, zone(-4, -4, "settlement")), "continue", 60),
    ],
)
def test_each_recommendation_is_given_for_its_own_reason(
    advisor: Advisor, animal: Asked, recommendation: str, bearing_deg: float | None
) -> None:
    said = one(advisor, animal)
    assert said.recommendation == recommendation
    assert bearing_deg is None or turned(said.bearing_deg, bearing_deg) <= 23  # a cell's eight directions
    assert said.model == "ppo 1"
    assert said.reward == pytest.approx(sum(said.terms.values()), abs=2e-3)
    assert said.reward < 0
    assert said.corridor_id == ("c1" if any(each.ahead.kind == "corridor" for each in animal.shapes) else None)


def test_the_walk_leads_around_what_straight_on_leads_into(advisor: Advisor) -> None:
    free = one(advisor, asked(90))
    town = one(advisor, asked(90, zone(1.5, 0.2, "settlement")))
    assert town.recommendation == "avoid_settlement"
    assert turned(town.bearing_deg, free.bearing_deg) > 5
    assert town.terms["settlement"] > -1.0  # it does not lead through houses


def test_a_corridor_of_another_species_is_none_and_one_for_all_is(advisor: Advisor) -> None:
    assert one(advisor, asked(90, corridor("wildebeest"))).corridor_id is None
    assert one(advisor, asked(90, corridor(None))).corridor_id == "c1"
    both = one(advisor, asked(90, corridor("elephant", "b"), corridor("elephant", "a")))
    assert both.corridor_id == "a"  # of two that are as near always the same


def test_there_is_none_for_a_species_that_the_policy_was_not_trained_for(advisor: Advisor) -> None:
    said = advisor.advise([asked(90, species="plains zebra"), asked(90)])
    assert isinstance(said[0], str)
    assert "no corridor policy was trained for plains zebra" in said[0]
    assert isinstance(said[1], Advice)


def test_there_is_none_where_nothing_says_where_to_go(advisor: Advisor) -> None:
    (said,) = advisor.advise([asked(None)])
    assert isinstance(said, str)
    assert "nowhere to lead it" in said
    (far,) = advisor.advise([asked(None, corridor(), north_km=AROUND_M / 1000 + 2)])
    assert isinstance(far, str)


def test_one_animal_that_fails_costs_no_other_its_advice(advisor: Advisor) -> None:
    broken = msgspec.structs.replace(asked(90), lat_deg=math.nan, shapes=(corridor(),))
    said = advisor.advise([asked(90), broken, asked(60)])
    assert isinstance(said[0], Advice)
    assert isinstance(said[2], Advice)


def test_many_animals_get_what_each_would_get_alone(advisor: Advisor) -> None:
    rng = np.random.default_rng(3)
    herd = [
        asked(float(rng.uniform(0, 360)), corridor(), zone(2, 1, "settlement"), north_km=float(rng.uniform(-5, 5)))
        for _ in range(20)
    ]
    assert advisor.advise(herd) == [advisor.advise([each])[0] for each in herd]
    assert SIDE == 81


def test_an_altered_policy_is_refused_and_the_one_before_it_serves(tmp_path: Path) -> None:
    for version in ("1", "2"):
        shutil.copytree(PACKAGED / "corridor" / "1", tmp_path / "corridor" / version)
    place = tmp_path / "corridor" / "2" / "ppo.json"
    place.write_text(place.read_text().replace('"version": 1', '"version": 2'))
    advisor = Advisor(tmp_path)
    assert one(advisor, asked(90)).model == "ppo 2"
    data = (tmp_path / "corridor" / "2" / "ppo.bin").read_bytes()
    (tmp_path / "corridor" / "2" / "ppo.bin").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    advisor.turn_to(tmp_path)
    assert one(advisor, asked(90)).model == "ppo 1"
    assert advisor.status().status == "degraded"
    for version in ("1", "2"):
        (tmp_path / "corridor" / version / "ppo.bin").write_bytes(b"")
    advisor.turn_to(tmp_path)
    (said,) = advisor.advise([asked(90)])
    assert isinstance(said, str)
    assert advisor.status().status == "unavailable"
