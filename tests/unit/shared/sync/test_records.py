"""Records: one shape for what people edit, and the values that the Store's callers see."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from shared import domain
from shared.errors import Invalid
from shared.sync.records import (
    ALERT,
    ANIMAL,
    COLLAR,
    CORRIDOR,
    DEPLOYMENT,
    ENTITIES,
    OBSERVATION,
    WORDS,
    ZONE,
    Mark,
    Record,
    alert_of,
    aliases_of,
    animal_of,
    check_columns,
    check_instant,
    check_text,
    collar_of,
    corridor_of,
    degrees,
    deployment_of,
    from_ms,
    kept_form,
    observation_of,
    stored_columns,
    to_ms,
    zone_of,
)

pytestmark = [pytest.mark.unit, pytest.mark.sync]

AT = datetime(2026, 6, 1, 12, 0, 0, 250_000, tzinfo=UTC)
MS = 1_780_315_200_250
AREA = '{"type":"Polygon","coordinates":[[[37,-2],[38,-2],[38,-3],[37,-2]]]}'
COMMON: dict[str, Any] = {"id": "x", "created_ms": MS, "updated_ms": MS + 1, "rev": 7}
SHOWN: dict[str, Any] = {"id": "x", "created_at": AT, "updated_at": AT + timedelta(milliseconds=1), "rev": 7}


def test_instants_are_whole_milliseconds() -> None:
    assert to_ms(AT) == MS
    assert from_ms(MS) == AT
    assert to_ms(AT + timedelta(microseconds=999)) == MS
    assert to_ms(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1
    for edge in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        check_instant("at", to_ms(edge))
        assert from_ms(to_ms(edge)) <= edge


def test_every_word_of_the_domain_is_taken_and_no_other() -> None:
    for (entity, column), words in WORDS.items():
        assert set(get_args(get_type_hints(getattr(domain, entity.title().replace("_", "")))[column])) == words
        assert ENTITIES[entity].columns[column] in words | {None}


@pytest.mark.parametrize("entity", ENTITIES.values(), ids=ENTITIES)
def test_an_entity_names_its_own_columns(entity: Any) -> None:
    assert entity.required <= entity.columns.keys()
    assert entity.references.keys() <= entity.columns.keys()
    assert entity.held <= entity.references.keys()
    assert set(entity.references.values()) <= ENTITIES.keys()
    check_columns(entity, {name: value for name, value in entity.columns.items() if value is not None})


def test_what_a_caller_gives_is_kept_in_stored_form() -> None:
    given = {
        "observation_type": "health", "recorded_at": AT, "lon_deg": 37.12345678, "lat_deg": None, "description": None,
        "unknown": 1, "id": "x",
    }  # fmt: skip
    assert stored_columns(OBSERVATION, given) == {
        "observation_type": "health", "recorded_ms": MS, "lon_e7": 371_234_568, "lat_e7": None, "description": "",
    }  # fmt: skip
    assert stored_columns(DEPLOYMENT, {"started_at": AT, "ended_at": None}) == {"started_ms": MS, "ended_ms": None}
    assert stored_columns(COLLAR, {"aliases": ["b", "a", "b"]}) == {"aliases": ("a", "b")}
    assert stored_columns(COLLAR, {"aliases": None, "notes": None}) == {"aliases": (), "notes": None}
    assert stored_columns(ZONE, {"buffer_m": None, "is_active": None}) == {"buffer_m": 0.0, "is_active": True}


@pytest.mark.parametrize(
    ("entity", "given"),
    [
        (ANIMAL, {"gender": "M"}),
        (ANIMAL, {"name": None}),
        (ANIMAL, {"species": ""}),
        (ZONE, {"geometry": "nowhere"}),
        (ALERT, {"severity": "mild"}),
        (OBSERVATION, {"lat_deg": 91.0}),
    ],
)
def test_what_a_column_does_not_take_is_refused(entity: Any, given: dict[str, Any]) -> None:
    (column,) = given
    with pytest.raises(Invalid, match=column.replace("_deg", "_e7")):
        stored_columns(entity, given)


def test_columns_that_came_from_elsewhere_get_the_form_in_which_they_are_compared() -> None:
    assert aliases_of(["b", "a", "b"]) == ("a", "b")
    assert kept_form({"aliases": ["b", "a"], "notes": "n"}) == {"aliases": ("a", "b"), "notes": "n"}
    assert kept_form({"is_active": 0, "is_late": 1})["is_active"] is False
    assert kept_form({"is_late": 1})["is_late"] is True


@pytest.mark.parametrize("value", ["", None, 5, "a\0", b"a", ["a"]])
def test_a_name_is_text(value: object) -> None:
    with pytest.raises(Invalid, match="id: must be text"):
        check_text("id", value)


@pytest.mark.parametrize("value", [2**53, -(2**53), 1.0, True, "1", None])
def test_an_instant_is_of_a_year_that_can_be_told(value: object) -> None:
    with pytest.raises(Invalid, match="at: must be a whole number"):
        check_instant("at", value)


def test_records_are_shown_as_the_domain_has_them() -> None:
    animal = {**ANIMAL.columns, "name": "Tembo", "species": "elephant"}
    assert animal_of(Record(entity="animal", columns=animal, **COMMON), "K1") == domain.Animal(
        name="Tembo", species="elephant", collar_id="K1", **SHOWN
    )
    collar = Record(entity="collar", columns={**COLLAR.columns, "aliases": ("eui:1",)}, **COMMON)
    said: dict[str, Any] = {"battery_mv": 3600, "battery_pct": None, "firmware": "1.2"}
    assert collar_of(collar, last_heard_ms=MS, **said) == domain.Collar(
        aliases=("eui:1",), last_heard_at=AT, **said, **SHOWN
    )
    deployment = {**DEPLOYMENT.columns, "collar_id": "K1", "animal_id": "a", "started_ms": MS}
    shown = domain.Deployment(collar_id="K1", animal_id="a", started_at=AT, ended_at=None, **SHOWN)
    assert deployment_of(Record(entity="deployment", columns=deployment, **COMMON)) == shown
    observation = {**OBSERVATION.columns, "recorded_ms": MS, "lon_e7": 375_000_000, "lat_e7": 0}
    seen = observation_of(Record(entity="observation", columns=observation, **COMMON))
    assert seen == domain.Observation(observation_type="sighting", recorded_at=AT, lon_deg=37.5, lat_deg=0.0, **SHOWN)
    zone = {**ZONE.columns, "name": "Z", "zone_type": "road", "geometry": AREA, "is_active": 0}
    assert zone_of(Record(entity="zone", columns=zone, **COMMON)) == domain.Zone(
        name="Z", zone_type="road", geometry=AREA, is_active=False, **SHOWN
    )
    alert = {**ALERT.columns, "alert_type": "proximity", "title": "t", "detected_ms": MS, "resolved_ms": MS}
    assert alert_of(Record(entity="alert", columns=alert, **COMMON)) == domain.Alert(
        alert_type="proximity", title="t", detected_at=AT, resolved_at=AT, **SHOWN
    )
    corridor = {**CORRIDOR.columns, "name": "C", "start_lon_e7": 375_000_000, "end_lat_e7": -25_000_000}
    places: dict[str, Any] = {"start_lon_deg": 37.5, "end_lat_deg": -2.5}
    assert corridor_of(Record(entity="corridor", columns=corridor, **COMMON)) == domain.Corridor(
        name="C", width_m=2_000.0, **places, **SHOWN
    )
    assert corridor_of(Record(entity="corridor", columns={**corridor, "geometry": AREA}, **COMMON)).width_m == 0
    assert degrees(None) is None


def test_a_record_goes_through_json_and_back() -> None:
    record = Record(entity="zone", columns={"is_active": True}, marks={"is_active": Mark(2, "s")}, **COMMON)
    text = msgspec.json.encode(record)
    assert b'"marks":{"is_active":[2,"s"]}' in text
    assert msgspec.json.decode(text, type=Record) == record
    assert not record.is_deleted
