"""An animal that rests, feeds and walks, and its positions as they are uploaded."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import httpx
import numpy as np

from tests.fakes import START

#: Which way and how far an animal goes for four hours each: it rests, feeds, walks.
LEGS = ((10.0, 2.8), (250.0, 1.9), (1_400.0, 0.1))


def walk(hours: int, *, collar_id: str = "COL001", seed: int = 1) -> list[dict[str, Any]]:
    """Return hourly positions from noon on."""
    rng = np.random.default_rng(seed)
    lon, lat, heading = 37.5, -2.5, 0.0
    items = []
    for hour in range(hours):
        mean_m, turn = LEGS[hour // 4 % 3]
        step = rng.gamma(4.0, mean_m / 4)
        heading += rng.normal(0, turn)
        lon += step * math.sin(heading) / 111_000
        lat += step * math.cos(heading) / 111_000
        at = START + timedelta(hours=hour)
        items.append({"collar_id": collar_id, "timestamp": at.isoformat(), "lat": round(lat, 6), "lon": round(lon, 6)})
    return items


async def upload(client: httpx.AsyncClient, items: list[dict[str, Any]]) -> None:
    answer = await client.post("/api/v1/tracking/bulk_upload/", json={"tracking_points": items})
    assert answer.status_code in (200, 201), answer.text
    assert answer.json()["created"] == len(items)
