"""What the API takes to answer, at one size of the store: one client, one request after the other."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

import msgspec

from tests.benchmarks.herd import COLLARS, device_of, position_e7, recorded_at
from tests.benchmarks.station import Station

_BOX_DEG: Final = 0.02
_LONGEST_S: Final = 5.0


class Read(msgspec.Struct, frozen=True):
    """One question: how long each answer took, and how many rows the list has behind the page."""

    name: str
    took_ms: list[float]
    rows: int


def measure(running: Station, fixes: int, times: int) -> list[Read]:
    """Ask each question up to ``times`` times, or for five seconds, on a store with ``fixes`` fixes."""
    animals = running.api.get("/api/v1/animals/", params={"page_size": "1"}).raise_for_status().json()
    lon_e7, lat_e7 = position_e7(fixes - COLLARS)
    lon, lat = lon_e7 / 1e7, lat_e7 / 1e7
    box = f"{lon - _BOX_DEG},{lat - _BOX_DEG},{lon + _BOX_DEG},{lat + _BOX_DEG}"
    week_ago = (recorded_at(fixes) - timedelta(days=7)).strftime("%Y-%m-%dT%H:%M:%SZ")
    tracking = "/api/v1/tracking/"
    questions: list[tuple[str, str, dict[str, str]]] = [
        ("newest fixes, 20", tracking, {}),
        ("newest fixes, 500", tracking, {"page_size": "500"}),
        ("page 100 of the newest", tracking, {"page": "100"}),
        ("one collar's", tracking, {"collar_id": device_of(0)}),
        ("one animal's, last week", tracking, {"animal": animals["results"][0]["id"], "since": week_ago}),
        ("in a box of 4 km", tracking, {"bbox": box}),
        ("in that box, last week", tracking, {"bbox": box, "since": week_ago}),
        ("live status, 200 animals", "/api/v1/animals/live_status/", {}),
        ("health in detail", "/health/detail", {}),
        ("health, alive", "/health/live", {}),
    ]
    return [_asked(running, name, path, params, times) for name, path, params in questions]


def _asked(running: Station, name: str, path: str, params: dict[str, str], times: int) -> Read:
    took_ms: list[float] = []
    body: object = None
    ends = time.perf_counter() + _LONGEST_S
    while len(took_ms) < times and (len(took_ms) < 3 or time.perf_counter() < ends):
        began = time.perf_counter()
        answer = running.api.get(path, params=params).raise_for_status()
        took_ms.append((time.perf_counter() - began) * 1e3)
        body = answer.json()
    rows = 1
    if isinstance(body, list):
        rows = len(body)
    elif isinstance(body, dict):
        rows = int(body.get("count", 1))
    if rows == 0:
        raise RuntimeError(f"{path} with {params} found nothing: the figure would be of an empty list")
    return Read(name, took_ms, rows)
