"""Bodies of EarthRanger, Gundi and Movebank, told and never stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from firmware_bridge.codecs.registry import FORMATS, ROUTES
from firmware_bridge.frames import Uplink
from shared.errors import FrameError

HEADER = "event-id,visible,timestamp,location-long,location-lat,algorithm-marked-outlier,tag-local-identifier\n"
AT = "2026-01-01T00:00:00Z"


def told(name: str, body: Any) -> list[Uplink]:
    payload = body if isinstance(body, str) else json.dumps(body)
    return FORMATS[name].decode(payload.encode())


def test_none_of_them_has_a_route() -> None:
    names = {"earthranger", "gundi_v2", "movebank_csv", "movebank_live_feed"}
    assert {route.framing for route in ROUTES if route.codec.format in names} == {None}


def test_earthranger_reads_null_island_as_no_location() -> None:
    body = {"manufacturer_id": "K1", "recorded_at": AT, "location": {"lat": 0, "lon": 0}}
    (uplink,) = told("earthranger", body)
    assert (uplink.fixes[0].lat_deg, uplink.details["lat"]) == (None, None)


def test_a_list_of_observations_is_as_many_uplinks() -> None:
    body = [{"source": f"K{n}", "recorded_at": AT, "location": {"lat": -2.5, "lon": 37.5}} for n in range(3)]
    assert [uplink.device for uplink in told("gundi_v2", body)] == ["collar:K0", "collar:K1", "collar:K2"]


def test_a_track_file_has_an_uplink_for_each_tag_with_failed_and_outlying_rows_named() -> None:
    rows = [
        "1,true,2026-01-01 00:00:00.000,37.5,-2.5,,A",
        "2,true,2026-01-01 01:00:00.000,,,,B",
        "3,true,2026-01-01 02:00:00.000,37.9,-2.1,true,A",
        "4,false,2026-01-01 03:00:00,37.9,-2.1,,A",
    ]
    first, second = told("movebank_csv", HEADER + "\n".join(rows))
    assert (first.device, first.details["rows"], first.details["outlier_rows"]) == ("collar:A", 3, [3, 4])
    assert (second.device, second.details["failed_fix_rows"]) == ("collar:B", [2])
    assert len(first.fixes) == 3


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("movebank_csv", HEADER, "no rows"),
        ("movebank_csv", HEADER + "1,true,01.01.2026 00:00,37.5,-2.5,,A", "row 1: the timestamp"),
        ("movebank_csv", HEADER + "1,true,2026-01-01 00:00:00,east,-2.5,,A", "row 1: location-long 'east'"),
        ("movebank_csv", HEADER + "1,true,2026-01-01 00:00:00,nan,-2.5,,A", "no number"),
        ("movebank_csv", HEADER + "1,true,,37.5,-2.5,,A", "row 1 has no timestamp"),
        ("movebank_live_feed", {"recorded_at": AT, "tag_id": "A", "lon": "x", "lat": "1"}, "lon 'x' is no number"),
        ("earthranger", [], "empty"),
        ("earthranger", {"manufacturer_id": "K1", "recorded_at": "now", "location": {"lat": 1, "lon": 1}}, "no time"),
    ],
)
def test_what_they_would_not_take_is_refused_with_the_reason(name: str, body: Any, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        told(name, body)
