"""Distances, headings and turning angles on the WGS 84 ellipsoid.

The vectorised functions solve the geodesic inverse problem (Karney 2013, doi:10.1007/s00190-012-0578-z, through
pyproj). ``haversine_m`` is for one pair at a time, where a call into pyproj costs more than the answer is worth.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from shared.symbols import own_symbols

with own_symbols():
    from pyproj import Geod

FloatArray: TypeAlias = npt.NDArray[np.float64]

#: The mean radius of WGS 84, (2a + b) / 3, in metres.
MEAN_RADIUS_M = 6_371_008.8

_GEOD = Geod(ellps="WGS84")


def step_lengths_m(lon_deg: FloatArray, lat_deg: FloatArray) -> FloatArray:
    """Return the distance between consecutive fixes, in metres.

    Shapes: inputs (n,) float64, WGS 84, ordered by time; result (n - 1,) float64, empty for n < 2.
    Raises ValueError if the inputs differ in length.
    """
    return _inverse(lon_deg, lat_deg)[2]


def headings_deg(lon_deg: FloatArray, lat_deg: FloatArray) -> FloatArray:
    """Return the heading of each step at its start, in degrees clockwise from north, 0 <= heading < 360.

    Shapes: inputs (n,), result (n - 1,). A step of length zero has no heading: NaN.
    Raises ValueError if the inputs differ in length.
    """
    forward, _, length_m = _inverse(lon_deg, lat_deg)
    heading = np.mod(forward, 360.0)
    # np.mod of a tiny negative angle rounds to 360 itself.
    return np.where(length_m > 0, np.where(heading >= 360.0, 0.0, heading), np.nan)


def step_between(lon_a: float, lat_a: float, lon_b: float, lat_b: float) -> tuple[float, float | None]:
    """Return length in metres and heading at its start of one step: what the two above say, without their arrays."""
    forward, _, length_m = _GEOD.inv(lon_a, lat_a, lon_b, lat_b)
    heading = float(forward) % 360.0
    return float(length_m), (0.0 if heading >= 360.0 else heading) if length_m > 0 else None


def turning_angles_rad(lon_deg: FloatArray, lat_deg: FloatArray) -> FloatArray:
    """Return the change of direction at each inner fix, in radians, -pi < angle <= pi, positive to the left.

    Shapes: inputs (n,), result (n - 2,), empty for n < 3. The angle lies between the arriving and the leaving geodesic
    at the fix itself; NaN where either has length zero. Raises ValueError if the inputs differ in length.
    """
    return steps_and_turns(lon_deg, lat_deg)[1]


def steps_and_turns(lon_deg: FloatArray, lat_deg: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ``step_lengths_m`` and ``turning_angles_rad``, with the inverse problem solved once."""
    forward, back, length_m = _inverse(lon_deg, lat_deg)
    arriving = back[:-1] + 180.0
    left_deg = arriving - forward[1:]
    angle = np.radians(180.0 - np.mod(180.0 - left_deg, 360.0))
    return length_m, np.where((length_m[:-1] > 0) & (length_m[1:] > 0), angle, np.nan)


def haversine_m(lon1_deg: float, lat1_deg: float, lon2_deg: float, lat2_deg: float) -> float:
    """Return the great-circle distance on a sphere of the mean radius, in metres.

    Against the geodesic on the ellipsoid the error is below 0.6 % everywhere.
    """
    phi1, phi2 = math.radians(lat1_deg), math.radians(lat2_deg)
    half_chord = (
        math.sin((phi2 - phi1) / 2) ** 2
        + math.cos(phi1) * math.cos(phi2) * math.sin(math.radians(lon2_deg - lon1_deg) / 2) ** 2
    )
    return 2 * MEAN_RADIUS_M * math.asin(min(1.0, math.sqrt(half_chord)))


def _inverse(lon_deg: FloatArray, lat_deg: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    lon = np.asarray(lon_deg, dtype=np.float64)
    lat = np.asarray(lat_deg, dtype=np.float64)
    if lon.ndim != 1 or lon.shape != lat.shape:
        raise ValueError(f"longitudes {lon.shape} and latitudes {lat.shape} must be two rows of one length")
    if lon.size < 2:
        return np.empty(0), np.empty(0), np.empty(0)
    forward, back, length = _GEOD.inv(lon[:-1], lat[:-1], lon[1:], lat[1:])
    return np.asarray(forward), np.asarray(back), np.asarray(length)
