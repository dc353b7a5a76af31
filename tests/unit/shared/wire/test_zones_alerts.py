"""Zones and alerts between their public and their stored form."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from shared.domain import Alert, AlertStatus, AlertType, Severity, Zone
from shared.errors import Invalid, TooLarge
from shared.store import AlertCount
from shared.wire.geojson import check_area
from shared.wire.public import (
    AlertOut,
    AlertStats,
    Area,
    ZoneFeature,
    ZoneOut,
    ZonePatch,
    added_note,
    upload_of,
    zone_columns,
)
from shared.wire.public.alerts import MAX_NOTE
from shared.wire.public.features import MAX_FEATURES
from shared.wire.reading import read_json
from tests.fakes import START

pytestmark = pytest.mark.unit

AREA = '{"type":"Polygon","coordinates":[[[37.0,-2.0],[38.0,-2.0],[38.0,-3.0],[37.0,-2.0]]]}'
ZONE = Zone(id="z1", name="Fields", zone_type="road", geometry=AREA, created_at=START, updated_at=START)
UNSAID = {"name": "Fields", "zone_type": "road"}

degrees = st.floats(-90, 90)
corners = st.lists(st.tuples(degrees, degrees), min_size=3, max_size=6, unique=True)


@given(rings=st.lists(corners, min_size=1, max_size=3), spaces=st.integers(0, 4))
def test_any_area_is_stored_compact_and_comes_back_to_the_last_digit(rings: list[Any], spaces: int) -> None:
    shape = {"type": "Polygon", "coordinates": [[list(corner) for corner in (*ring, ring[0])] for ring in rings]}
    columns = zone_columns(Raw(json.dumps(shape, indent=spaces).encode()), UNSAID)
    check_area(columns["geometry"])
    assert " " not in columns["geometry"]
    assert json.loads(msgspec.json.encode(Area.of(columns["geometry"]))) == shape
    assert zone_columns(Raw(columns["geometry"].encode()), UNSAID) == columns


def test_of_a_geometry_type_and_coordinates_are_kept() -> None:
    odd = AREA[:-1] + ',"bbox":[37,-3,38,-2],"crs":{"huge":123456789012345678901234567890}}'
    assert zone_columns(Raw(odd.encode()), UNSAID)["geometry"] == AREA
    stored = msgspec.structs.replace(ZONE, geometry=odd)  # as another home may have sent it
    assert json.loads(msgspec.json.encode(ZoneOut.of(stored)))["geometry"] == json.loads(AREA)
    assert json.loads(msgspec.json.encode(ZoneFeature.of(stored)))["geometry"] == json.loads(AREA)


@pytest.mark.parametrize(
    ("inside", "detail"),
    [
        (b'["\xff"]', "geometry: is no GeoJSON"),
        (b'["\\ud800"]', "the body is not JSON"),
        (b"[[[37,-2],[38,-2],[38,-3,[[0]]],[37,-2]]]", r"geometry: a corner is \[longitude, latitude\]"),
        *((b"[" * depth + b"]" * depth, "geometry: |the body is nested") for depth in range(850, 1050, 3)),
    ],
)
def test_what_is_no_geometry_inside_is_refused(inside: bytes, detail: str) -> None:
    body = Raw(b'{"type":"Polygon","coordinates":' + inside + b"}")
    with pytest.raises(Invalid, match=detail):
        check_area(zone_columns(body, UNSAID)["geometry"])


def test_what_a_zone_says_of_itself_outranks_what_it_leaves_unsaid() -> None:
    feature = f'{{"type":"Feature","geometry":{AREA},"properties":{{"name":"Village","risk_level":null}}}}'
    columns = zone_columns(Raw(feature.encode()), {**UNSAID, "risk_level": "high"})
    assert columns == {"name": "Village", "zone_type": "road", "risk_level": "medium", "geometry": AREA}


@pytest.mark.parametrize("body", [b"{}", b'{"type": 7}', b'{"type": "farm"}', AREA.encode(), b'{"type":"Feature"}'])
def test_all_but_a_collection_is_one_zone(body: bytes) -> None:
    upload = upload_of(body)
    assert (upload.is_collection, [bytes(item) for item in upload.items]) == (False, [body])


def test_a_collection_is_taken_apart_unread() -> None:
    upload = upload_of(b'{"features": [7, {"type": "Feature"}, null], "type": "FeatureCollection"}')
    assert (upload.is_collection, [bytes(item) for item in upload.items]) == (
        True,
        [b"7", b'{"type": "Feature"}', b"null"],
    )
    full = b'{"type": "FeatureCollection", "features": [' + b"7," * MAX_FEATURES
    assert len(upload_of(full[:-1] + b"]}").items) == MAX_FEATURES
    with pytest.raises(TooLarge, match="features: must have at most 1000 items"):
        upload_of(full + b"7]}")


@given(metres=st.integers(0, 1_000_000))
def test_a_buffer_is_the_same_metres_again(metres: int) -> None:
    shown = ZoneOut.of(msgspec.structs.replace(ZONE, buffer_m=float(metres))).buffer_distance_km
    assert read_json(json.dumps({"buffer_distance_km": shown}).encode(), ZonePatch).columns() == {"buffer_m": metres}


def test_only_a_late_alert_has_metadata() -> None:
    alert = Alert(
        id="1", alert_type="proximity", title="A", detected_at=START, created_at=START, updated_at=START, zone_id="z1"
    )
    late = msgspec.structs.replace(alert, is_late=True)
    shown = [json.loads(msgspec.json.encode(AlertOut.of(row))) for row in (alert, late)]
    assert [row["metadata"] for row in shown] == [{}, {"is_late": True}]
    assert {row["conflict_zone"] for row in shown} == {"z1"}


@pytest.mark.parametrize(
    ("note", "more", "expected"),
    [
        (None, None, None),
        (None, " ", None),
        ("seen", None, "seen"),
        ("seen", "", "seen"),
        (None, " here ", "here"),
        ("seen", "here", "seen\nhere"),
        ("seen\nhere", "here", "seen\nhere"),
        ("here", "here", "here"),
        ("not here", "here", "not here\nhere"),
        ("here\nseen", "here", "here\nseen\nhere"),
        ("a\nb\nc", "b\nc", "a\nb\nc"),
    ],
)
def test_a_note_grows_by_what_was_not_said_last(note: str | None, more: str | None, expected: str | None) -> None:
    assert added_note("notes", note, more) == expected
    assert added_note("notes", expected, more) == expected


def test_a_note_does_not_grow_without_end() -> None:
    assert added_note("notes", "A" * (MAX_NOTE - 2), "B") == "A" * (MAX_NOTE - 2) + "\nB"
    with pytest.raises(Invalid, match=r"^notes: the note would have more than"):
        added_note("notes", "A" * (MAX_NOTE - 1), "B")


counts = st.builds(
    AlertCount,
    st.sampled_from(get_args(AlertType)),
    st.sampled_from(get_args(Severity)),
    st.sampled_from(get_args(AlertStatus)),
    st.integers(1, 1000),
)


@given(rows=st.lists(counts))
def test_each_way_of_counting_adds_up_to_all(rows: list[AlertCount]) -> None:
    stats = AlertStats.of(rows)
    assert stats.total == sum(row.count for row in rows)
    for by in (stats.by_severity, stats.by_type, stats.by_status):
        assert sum(by.values()) == stats.total
    assert tuple(stats.by_type) == get_args(AlertType)
