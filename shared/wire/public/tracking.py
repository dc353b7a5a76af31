"""Positions in public form, one and many."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from shared.domain import Fix, FixFlag, FixSource, NewFix, is_usable
from shared.errors import Invalid
from shared.wire.public.fields import ANIMAL_DEVICE, Latitude, Longitude, Notes, Reference, When
from shared.wire.reading import instant, instant_ms, optional_text

KMH_PER_MPS = 3.6
#: What ``TrackingIn.said`` returns: columns of a batch (``shared.wire.batch``) that follow from the body alone.
SAID: Final = (
    "raw_ms", "lon_e7", "lat_e7", "source", "alt_m", "speed_mps", "heading_deg", "hdop", "sats", "battery_mv",
    "battery_pct", "temperature_c", "rssi_dbm", "local_id", "activity_type", "notes",
)  # fmt: skip

_PERCENT = re.compile(r"^(\d+(?:\.\d+)?)\s*%?$")
_VOLTS = re.compile(r"^(\d+(?:\.\d+)?)\s*V$", re.IGNORECASE)
_DBM = re.compile(r"^(-?\d+(?:\.\d+)?)\s*(?:dBm)?$", re.IGNORECASE)


class TrackingOut(Struct, frozen=True, kw_only=True):
    """A position as stored and judged; ``flags`` name what the quality rules found.

    ``area`` is the name of the protected area that stands for a place which the caller may not see.
    """

    id: str
    local_id: str | None
    animal: str | None
    collar_id: str | None
    timestamp: datetime
    lat: float | None
    lon: float | None
    altitude: float | None
    speed_kmh: float | None
    directional_angle: float | None
    battery_level: str | None
    signal_strength: float | None
    temperature: float | None
    activity_type: str | None
    source: FixSource
    notes: str | None
    flags: list[str]
    is_usable: bool
    received_at: datetime
    hdop: float | None
    sats: int | None
    area: str | None = None

    @classmethod
    def of(cls, fix: Fix) -> TrackingOut:
        """Return the public form of ``fix``."""
        return cls(
            id=fix.id,
            local_id=fix.local_id,
            animal=fix.animal_id,
            collar_id=None if fix.collar_id.startswith(ANIMAL_DEVICE) else fix.collar_id,
            timestamp=fix.recorded_at,
            lat=fix.lat_deg,
            lon=fix.lon_deg,
            altitude=fix.alt_m,
            speed_kmh=speed_kmh(fix.speed_mps),
            directional_angle=fix.heading_deg,
            battery_level=battery_level(fix.battery_pct, fix.battery_mv),
            signal_strength=fix.rssi_dbm,
            temperature=fix.temperature_c,
            activity_type=fix.activity_type,
            source=fix.source,
            notes=fix.notes,
            flags=flag_names(fix.flags),
            is_usable=is_usable(fix.flags),
            received_at=fix.received_at,
            hdop=fix.hdop,
            sats=fix.sats,
            area=fix.area,
        )


class TrackingIn(Struct, kw_only=True):
    """A position that a person, a phone or a program posts; one of ``animal`` and ``collar_id`` is needed."""

    timestamp: When
    lat: Latitude
    lon: Longitude
    animal: Reference | None = None
    animal_id: Reference | None = None
    collar_id: Reference | None = None
    local_id: Annotated[str, Meta(max_length=100)] | None = None
    altitude: Annotated[float, Meta(ge=-12_000, le=100_000, description="Metres.")] | None = None
    speed_kmh: Annotated[float, Meta(le=2_000)] | None = None
    directional_angle: Annotated[float, Meta(le=360, description="Degrees from north, clockwise.")] | None = None
    heading: Annotated[float, Meta(le=360, description="The same, as phones call it.")] | None = None
    battery_level: Annotated[str | float, Meta(description="Percent (75 or 75%) or voltage (3.65 V).")] | None = None
    signal_strength: Annotated[str | float, Meta(description="dBm.")] | None = None
    temperature: Annotated[float, Meta(ge=-100, le=150, description="Degrees Celsius.")] | None = None
    activity_type: Annotated[str, Meta(max_length=50)] | None = None
    source: FixSource | None = None
    notes: Notes | None = None
    hdop: Annotated[float, Meta(ge=0, le=1_000)] | None = None
    sats: Annotated[int, Meta(ge=0, le=255)] | None = None

    @property
    def animal_reference(self) -> str | None:
        """The animal that was named, under either key."""
        return self.animal or self.animal_id or None

    def fix(self, *, device: str, animal_id: str | None, received_at: datetime, is_clock_sure: bool) -> NewFix:
        """Return the fix to store, made by ``device``; raises Invalid."""
        battery_pct, battery_mv = _battery(self.battery_level)
        return NewFix(
            device=device,
            recorded_at=instant("timestamp", self.timestamp),
            lon_deg=self.lon,
            lat_deg=self.lat,
            received_at=received_at,
            is_clock_sure=is_clock_sure,
            alt_m=self.altitude,
            speed_mps=self._speed_mps(),
            heading_deg=self._heading_deg(),
            hdop=self.hdop,
            sats=self.sats,
            battery_mv=battery_mv,
            battery_pct=battery_pct,
            temperature_c=self.temperature,
            rssi_dbm=_dbm(self.signal_strength),
            source=self.source or default_source(device),
            animal_id=animal_id,
            link="api",
            local_id=optional_text("local_id", self.local_id),
            activity_type=optional_text("activity_type", self.activity_type),
            notes=optional_text("notes", self.notes),
        )

    def said(self) -> tuple[Any, ...]:
        """Return the same as columns (``SAID``), for thousands at a time; raises Invalid.

        Where there is no ``source``, ``default_source`` of its device is meant.
        """
        battery_pct, battery_mv = (None, None) if self.battery_level is None else _battery(self.battery_level)
        return (
            instant_ms("timestamp", self.timestamp), round(self.lon * 1e7), round(self.lat * 1e7), self.source,
            self.altitude, self._speed_mps(), self._heading_deg(), self.hdop, self.sats, battery_mv, battery_pct,
            self.temperature, None if self.signal_strength is None else _dbm(self.signal_strength),
            None if self.local_id is None else optional_text("local_id", self.local_id),
            None if self.activity_type is None else optional_text("activity_type", self.activity_type),
            None if self.notes is None else optional_text("notes", self.notes),
        )  # fmt: skip

    def _speed_mps(self) -> float | None:
        return None if self.speed_kmh is None or self.speed_kmh < 0 else self.speed_kmh / KMH_PER_MPS

    def _heading_deg(self) -> float | None:
        heading = self.directional_angle if self.directional_angle is not None else self.heading
        return None if heading is None or heading < 0 else heading % 360.0


def default_source(device: str) -> FixSource:
    """Return where a position comes from that says nothing of it."""
    return "manual" if device.startswith(ANIMAL_DEVICE) else "gps"


def flag_names(flags: int) -> list[str]:
    """Return the public names of quality flags, in their stored order."""
    return [flag.name.lower() for flag in FixFlag if flags & flag and flag.name]


def speed_kmh(speed_mps: float | None) -> float | None:
    """Return km/h, to a hundredth, which is finer than any receiver."""
    return None if speed_mps is None else round(speed_mps * KMH_PER_MPS, 2)


def battery_level(battery_pct: float | None, battery_mv: int | None) -> str | None:
    """Return the public text of a battery: percent where known, else volts."""
    if battery_pct is not None:
        return f"{battery_pct:g}%"
    return None if battery_mv is None else f"{battery_mv / 1000:.2f} V"


def _battery(level: str | float | None) -> tuple[float | None, int | None]:
    """Return (percent, millivolts) of a battery level as clients write it; raises Invalid."""
    if level is None or (isinstance(level, str) and not level.strip()):
        return None, None
    if isinstance(level, str):
        if volts := _VOLTS.match(level.strip()):
            millivolts = float(volts[1]) * 1000
            if millivolts > 100_000:
                raise Invalid("battery_level: must be at most 100 V")
            return None, round(millivolts)
        percent = _PERCENT.match(level.strip())
        if percent is None:
            raise Invalid("battery_level: must be a percentage such as 75% or a voltage such as 3.65 V")
        level = float(percent[1])
    if not 0 <= level <= 100:
        raise Invalid("battery_level: must be between 0 and 100 percent")
    return level, None


def _dbm(signal: str | float | None) -> float | None:
    if signal is None or (isinstance(signal, str) and not signal.strip()):
        return None
    if isinstance(signal, str):
        found = _DBM.match(signal.strip())
        if found is None:
            raise Invalid("signal_strength: must be a number of dBm")
        signal = float(found[1])
    if not -200 <= signal <= 200:
        raise Invalid("signal_strength: must be between -200 and 200")
    return signal


# --- bulk upload ------------------------------------------------------------------------------------------------------
class BulkTrackingIn(Struct, kw_only=True):
    """Many positions; ``tracking`` and a bare array are read too."""

    tracking_points: Annotated[list[TrackingIn], Meta(max_length=10_000)]


class BulkResult(Struct, kw_only=True, omit_defaults=True):
    """What became of one item: an outcome with the id, or the reasons for refusing it."""

    index: int
    id: str | None = None
    local_id: str | None = None
    outcome: Literal["new", "enriched", "duplicate"] | None = None
    errors: list[str] = []


class BulkOut(Struct, kw_only=True):
    """What became of an upload: an item that is refused takes none of its neighbours with it."""

    received: int
    created: int
    duplicates: int
    failed: int
    results: list[BulkResult]
