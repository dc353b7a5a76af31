"""The newest fixes of many animals at once, as columns: what models are asked about a whole herd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from cloud.store.arrays import numbers_array, texts_array
from cloud.store.database import Connection
from shared.sync.listing import USABLE

#: Numbers of a track come as one text each: an array would be read element by element, here and in the driver.
_COLUMNS: Final = ("recorded_ms", "lon_e7", "lat_e7", "h_acc_m", "hdop")
_TEXTS: Final = ", ".join(
    f"string_agg(coalesce(f.{name}::text, 'nan'), ',' ORDER BY f.recorded_ms)" for name in _COLUMNS
)
_TRACKS: Final = (
    f"SELECT w.id, {_TEXTS} FROM unnest(%s::text[], %s::bigint[]) w (id, since_ms) JOIN animals a ON a.id = w.id"
    f" CROSS JOIN LATERAL (SELECT DISTINCT ON (f.recorded_ms) {', '.join(f'f.{name}' for name in _COLUMNS)}"
    f" FROM fixes f WHERE f.animal_pk = a.pk AND {USABLE} AND f.lon_e7 IS NOT NULL"
    " AND f.recorded_ms >= least(w.since_ms, (SELECT min(m.recorded_ms) FROM (SELECT f.recorded_ms FROM fixes f"
    f" WHERE f.animal_pk = a.pk AND {USABLE} ORDER BY f.recorded_ms DESC LIMIT %s) m))"
    " ORDER BY f.recorded_ms, f.id) f GROUP BY w.id"
)

FloatArray = npt.NDArray[np.float64]


class Track(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Usable, placed fixes of one animal by time, one at each instant; arrays (n,), NaN where nothing was stated."""

    times_s: FloatArray
    lon_deg: FloatArray
    lat_deg: FloatArray
    h_acc_m: FloatArray
    hdop: FloatArray


async def newest_tracks(connection: Connection, since_ms: Sequence[tuple[str, int]], at_least: int) -> dict[str, Track]:
    """Return of animals, by id, their fixes since an instant of each, and at least so many; exact ones."""
    found = await connection.execute(
        _TRACKS.encode(),
        (
            texts_array([identity for identity, _ in since_ms]), numbers_array([ms for _, ms in since_ms]), at_least,
        ),
    )  # fmt: skip
    return {row[0]: _track(row[1:]) for row in await found.fetchall()}


def _track(texts: Sequence[str]) -> Track:
    times_ms, lon_e7, lat_e7, h_acc_m, hdop = (np.array(text.split(","), dtype=np.float64) for text in texts)
    return Track(times_s=times_ms / 1000.0, lon_deg=lon_e7 / 1e7, lat_deg=lat_e7 / 1e7, h_acc_m=h_acc_m, hdop=hdop)
