"""The fixes of every benchmark: 200 collars in turn, each on its interval, numbered from 0 for ever.

A number gives one fix and always the same one, so that a store can be grown to any size, left, and grown on, and what
comes over the line afterwards is new to it. Collars circle in home ranges of some 20 km, about 150 m a step.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final

from firmware_bridge.codecs.opencollar import encode_short
from firmware_bridge.codecs.station_frame import pack_station_frame
from firmware_bridge.framing.cobs import encode_frame
from shared.ids import fix_id, id_text

#: Five million fixes end 260 days later, in the past: a fix that lies in the future is flagged and judged less.
START: Final = datetime(2025, 1, 1, tzinfo=UTC)
COLLARS: Final = 200
INTERVAL: Final = timedelta(minutes=15)
SPECIES: Final = "Loxodonta africana"

_RANGE_DEG: Final = 0.1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


def device_of(collar: int) -> str:
    """Return the radio id of the ``collar``-th collar, as the store knows it."""
    return f"eui:{collar + 1:016x}"


def recorded_at(number: int) -> datetime:
    """Return when the ``number``-th fix was taken."""
    return START + number // COLLARS * INTERVAL


def position_e7(number: int) -> tuple[int, int]:
    """Return longitude and latitude of the ``number``-th fix, in 1e-7 degree."""
    turn, collar = divmod(number, COLLARS)
    lon_deg = 37.0 + collar % 20 * 0.1 + _RANGE_DEG * math.sin(math.tau * turn / (389 + collar))
    lat_deg = -2.0 + collar // 20 * 0.1 + _RANGE_DEG * math.sin(math.tau * turn / (521 - collar) + collar)
    return round(lon_deg * 1e7), round(lat_deg * 1e7)


def payload_of(number: int) -> bytes:
    """Return the payload of the frame that carries the ``number``-th fix: a short message in our station frame."""
    lon_e7, lat_e7 = position_e7(number)
    message = encode_short(
        recorded_at=recorded_at(number), lon_deg=lon_e7 / 1e7, lat_deg=lat_e7 / 1e7, h_acc_m=4 + number % 7
    )
    return pack_station_frame(f"{number % COLLARS + 1:016x}", 13, -70 - number % 40, 7.5, message)


def frame_of(number: int) -> bytes:
    """Return the bytes on the wire of the ``number``-th fix."""
    return encode_frame(payload_of(number))


def id_of(number: int) -> str:
    """Return the id under which the API shows the ``number``-th fix."""
    raw_ms = (recorded_at(number) - _EPOCH) // _MS
    return id_text(fix_id(device_of(number % COLLARS), raw_ms, *position_e7(number)))
