"""From fixes to what a bridge needs: metres, seconds and the error of each position.

A frame is metric: UTM while all fixes lie in one zone, and otherwise Lambert's equal-area projection about the middle
of the track, so that areas stay areas for an animal that crosses zones. Both are kept as PROJ text, so that a stored
result can be put back on the map by a later run.
"""

from __future__ import annotations

import functools
import math
from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from shared.symbols import own_symbols

with own_symbols():
    from pyproj import Transformer

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

_ZONE_DEG: Final = 6.0
#: UTM is defined between these latitudes.
_UTM_SOUTH_DEG: Final = -80.0
_UTM_NORTH_DEG: Final = 84.0
# An equal-area frame is left when shapes are bent by more than 1 %: 1 + (d / 2R)^2 / 2 at the distance d.
_EQUAL_AREA_REACH_M: Final = 1_700_000.0


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """A metric plane; ``zone`` is the UTM zone, negative in the south, or None for an equal-area frame."""

    proj: str
    zone: int | None

    def to_metres(self, lon_deg: FloatArray, lat_deg: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return eastings and northings in metres, of the shape of the inputs."""
        x_m, y_m = _transformer(self.proj).transform(lon_deg, lat_deg)
        return np.asarray(x_m, dtype=np.float64), np.asarray(y_m, dtype=np.float64)

    def to_degrees(self, x_m: FloatArray, y_m: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return longitudes and latitudes in degrees, of the shape of the inputs."""
        lon_deg, lat_deg = _transformer(self.proj).transform(x_m, y_m, direction="INVERSE")
        return np.asarray(lon_deg, dtype=np.float64), np.asarray(lat_deg, dtype=np.float64)

    def holds(self, lon_deg: FloatArray, lat_deg: FloatArray) -> bool:
        """Whether this frame serves for the positions; where not, a new one is chosen for the whole track."""
        lon, lat = np.atleast_1d(lon_deg), np.atleast_1d(lat_deg)
        if self.zone is not None:
            in_band = bool(((lat >= _UTM_SOUTH_DEG) & (lat <= _UTM_NORTH_DEG)).all())
            return in_band and bool((_zones(lon) == abs(self.zone)).all())
        x_m, y_m = self.to_metres(lon, lat)
        return bool((np.hypot(x_m, y_m) <= _EQUAL_AREA_REACH_M).all())


def frame_for(lon_deg: FloatArray, lat_deg: FloatArray) -> Frame:
    """Return the frame for a track: its UTM zone, or an equal-area frame where it has no single one.

    Raises ValueError for a track without positions.
    """
    lon, lat = np.asarray(lon_deg, dtype=np.float64), np.asarray(lat_deg, dtype=np.float64)
    if lon.size == 0:
        raise ValueError("a track without positions has no frame")
    zones = _zones(lon)
    zone = int(zones.flat[0])
    if bool((zones == zone).all()) and lat.min() >= _UTM_SOUTH_DEG and lat.max() <= _UTM_NORTH_DEG:
        is_south = float(np.median(lat)) < 0
        proj = f"+proj=utm +zone={zone}{' +south' if is_south else ''} +datum=WGS84 +units=m +type=crs"
        return Frame(proj=proj, zone=-zone if is_south else zone)
    # The mean of the unit vectors: longitudes of 179 and -179 have their middle at 180.
    lon_rad, lat_rad = np.radians(lon), np.radians(lat)
    east = float((np.cos(lat_rad) * np.sin(lon_rad)).mean())
    front = float((np.cos(lat_rad) * np.cos(lon_rad)).mean())
    lon_0 = math.degrees(math.atan2(east, front))
    lat_0 = math.degrees(math.atan2(float(np.sin(lat_rad).mean()), math.hypot(east, front)))
    proj = f"+proj=laea +lat_0={lat_0:.4f} +lon_0={lon_0:.4f} +datum=WGS84 +units=m +type=crs"
    return Frame(proj=proj, zone=None)


def _zones(lon_deg: FloatArray) -> IntArray:
    turned = np.mod(np.asarray(lon_deg, dtype=np.float64) + 180.0, 360.0)
    return np.minimum(np.floor(turned / _ZONE_DEG), 59).astype(np.int64) + 1


@functools.lru_cache(maxsize=64)
def _transformer(proj: str) -> Transformer:
    return Transformer.from_crs("EPSG:4326", proj, always_xy=True)


class LocationErrors(msgspec.Struct, frozen=True, kw_only=True):
    """How the error of a position follows from what its receiver said, as standard deviation along one axis.

    A stated accuracy is the radius that the receiver's error does not exceed in two of three cases, which is the
    standard deviation along each axis times the square root of ln 3 * 2. Without it the error is ``per_hdop_m`` times
    the HDOP, and ``unstated_m`` where the receiver said neither.
    """

    unstated_m: float = 20.0
    per_hdop_m: float | None = None
    floor_m: float = 1.0


_RADIUS_68_OVER_SD: Final = math.sqrt(-2 * math.log(1 - 0.6827))


def location_errors_m(
    count: int,
    errors: LocationErrors,
    *,
    h_acc_m: FloatArray | None = None,
    hdop: FloatArray | None = None,
) -> FloatArray:
    """Return the standard deviation of each position along one axis; shape (count,). NaN is *not stated*."""
    error_m = np.full(count, errors.unstated_m)
    if hdop is not None and errors.per_hdop_m is not None:
        error_m = np.where(np.isfinite(hdop) & (hdop > 0), hdop * errors.per_hdop_m, error_m)
    if h_acc_m is not None:
        error_m = np.where(np.isfinite(h_acc_m) & (h_acc_m > 0), h_acc_m / _RADIUS_68_OVER_SD, error_m)
    return np.asarray(np.maximum(error_m, errors.floor_m))


class Track(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Fixes of one animal in time order, in metres; every array has the shape (n,). ``dropped`` were not usable."""

    times_s: FloatArray
    x_m: FloatArray
    y_m: FloatArray
    error_m: FloatArray
    dropped: int = 0

    def __len__(self) -> int:
        return int(self.times_s.size)

    def part(self, fixes: slice) -> Track:
        """Return some of the fixes as a track of their own."""
        return Track(
            times_s=self.times_s[fixes],
            x_m=self.x_m[fixes],
            y_m=self.y_m[fixes],
            error_m=self.error_m[fixes],
        )


def track_of(
    times_s: FloatArray,
    lon_deg: FloatArray,
    lat_deg: FloatArray,
    frame: Frame,
    errors: LocationErrors | None = None,
    *,
    h_acc_m: FloatArray | None = None,
    hdop: FloatArray | None = None,
    is_usable: BoolArray | None = None,
) -> Track:
    """Return the fixes in time order and in metres, without those that cannot be used; the order of arrival is free.

    Shapes: all (n,). Dropped and counted are fixes without a finite time or position, those that ``is_usable``
    refuses, and of several at one instant all but the one with the smallest error. Raises ValueError if the shapes
    differ.
    """
    times, lon, lat = (np.asarray(row, dtype=np.float64) for row in (times_s, lon_deg, lat_deg))
    if not (times.ndim == 1 and times.shape == lon.shape == lat.shape):
        raise ValueError(
            f"times {times.shape}, longitudes {lon.shape}, latitudes {lat.shape} must be rows of one length"
        )
    error_m = location_errors_m(times.size, errors or LocationErrors(), h_acc_m=h_acc_m, hdop=hdop)
    is_kept = np.isfinite(times) & np.isfinite(lon) & np.isfinite(lat) & (np.abs(lat) <= 90) & (np.abs(lon) <= 180)
    if is_usable is not None:
        is_kept &= is_usable
    rows = np.flatnonzero(is_kept)
    rows = rows[np.lexsort((lat[rows], lon[rows], error_m[rows], times[rows]))]
    if rows.size:
        rows = rows[np.concatenate(([True], np.diff(times[rows]) > 0))]
    x_m, y_m = frame.to_metres(lon[rows], lat[rows])
    return Track(times_s=times[rows], x_m=x_m, y_m=y_m, error_m=error_m[rows], dropped=int(times.size - rows.size))
