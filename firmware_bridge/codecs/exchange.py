"""What other systems take and give: EarthRanger, Gundi and Movebank.

No collar speaks these; they are here so that ``outpost-station decode`` can say what such a body means, on its way out
or in. None has a route. Layouts: PADAS/er-server, das/sensors/handlers; PADAS/gundi-core, schemas/v2; cran/move2,
inst/extdata; PADAS/movebank-client.

- EarthRanger reads 0, 0 as no location, and its own key of a fix is (source, recorded_at);
- Movebank's failed fixes are rows with a time and no coordinates; outliers are marked and never deleted.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from firmware_bridge.codecs.instants import instant_of_utc, is_clock_unset, iso_text
from firmware_bridge.codecs.json_body import decode_json
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import DecodedFix, Uplink
from shared.errors import FrameError

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_TRUE = frozenset({"true", "1"})
_MOVEBANK_TIME = ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S")
_MARKS = ("manually-marked-outlier", "import-marked-outlier", "algorithm-marked-outlier")


class _Location(msgspec.Struct):
    lat: float
    lon: float
    alt: float | None = None


class _Sensor(msgspec.Struct):
    manufacturer_id: _Name
    recorded_at: str
    location: _Location
    subject_name: str | None = None
    model_name: str | None = None


class _Observation(msgspec.Struct):
    source: _Name
    recorded_at: str
    location: _Location
    source_name: str | None = None
    subject_type: str | None = None


class _FeedItem(msgspec.Struct):
    recorded_at: str
    tag_id: _Name
    lon: str | float
    lat: str | float
    tag_manufacturer_name: str | None = None


_SENSOR = msgspec.json.Decoder(_Sensor | list[_Sensor])
_OBSERVATION = msgspec.json.Decoder(_Observation | list[_Observation])
_FEED = msgspec.json.Decoder(_FeedItem | list[_FeedItem])


class EarthRangerCodec:
    """Read the body of EarthRanger's sensor endpoint, one object or a list."""

    format = "earthranger"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per object; raises FrameError with the reason."""
        body = decode_json(_SENSOR, payload)
        return [self._uplink(each) for each in _some(body)]

    def _uplink(self, said: _Sensor) -> Uplink:
        place = said.location
        is_empty = not place.lat and not place.lon
        return _uplink(
            self.format,
            f"collar:{said.manufacturer_id}",
            _fix(said.recorded_at, None if is_empty else place),
            {
                "method": "POST /api/v1.0/sensors/generic/{provider_key}/status/",
                "subject": said.subject_name,
                "model": said.model_name,
            },
        )


class GundiCodec:
    """Read the observations of Gundi v2, one object or a list."""

    format = "gundi_v2"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per object; raises FrameError with the reason."""
        body = decode_json(_OBSERVATION, payload)
        return [self._uplink(each) for each in _some(body)]

    def _uplink(self, said: _Observation) -> Uplink:
        return _uplink(
            self.format,
            f"collar:{said.source}",
            _fix(said.recorded_at, said.location),
            {
                "method": "POST {SENSORS_API_BASE_URL}/v2/observations header apikey",
                "response": '[{"object_id":uuid,"created_at":iso}]',
                "subject": said.source_name,
                "subject_type": said.subject_type,
            },
        )


class MovebankFeedCodec:
    """Read the items of Movebank's live feed, one object or a list."""

    format = "movebank_live_feed"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per item; raises FrameError with the reason."""
        body = decode_json(_FEED, payload)
        return [self._uplink(each) for each in _some(body)]

    def _uplink(self, said: _FeedItem) -> Uplink:
        place = _Location(_number(str(said.lat), "lat"), _number(str(said.lon), "lon"))
        return _uplink(
            self.format,
            f"collar:{said.tag_id}",
            _fix(said.recorded_at, place),
            {"endpoint": "POST {base}/movebank/service/external-feed", "manufacturer": said.tag_manufacturer_name},
        )


class MovebankCsvCodec:
    """Read a track file as Movebank publishes it."""

    format = "movebank_csv"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per tag, in the order of the file; raises FrameError with the reason and the row."""
        try:
            rows = list(csv.DictReader(io.StringIO(payload.decode("utf-8-sig"), newline=""), strict=True))
        except UnicodeDecodeError as error:
            raise FrameError(f"the file is not UTF-8: byte {error.start}") from error
        except csv.Error as error:
            raise FrameError(f"not a CSV file: {error}") from error
        tags: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for number, row in enumerate(rows, 1):
            tag = row.get("tag-local-identifier")
            if not tag or not row.get("timestamp"):
                raise FrameError(f"row {number} has no timestamp or no tag-local-identifier")
            tags.setdefault(tag, []).append((number, row))
        if not tags:
            raise FrameError("the file has no rows")
        return [self._uplink(tag, found) for tag, found in tags.items()]

    def _uplink(self, tag: str, rows: list[tuple[int, dict[str, Any]]]) -> Uplink:
        fixes = tuple(self._fix(number, row) for number, row in rows)
        details = {
            "rows": len(rows),
            "failed_fix_rows": [number for (number, _), fix in zip(rows, fixes, strict=True) if fix.lon_deg is None],
            "outlier_rows": [number for number, row in rows if _is_outlier(row)],
            "individual": rows[0][1].get("individual-local-identifier"),
        }
        return Uplink(format=self.format, device=f"collar:{tag}", fixes=fixes, details=details)

    def _fix(self, number: int, row: dict[str, Any]) -> DecodedFix:
        recorded_at = _movebank_time(row["timestamp"])
        if recorded_at is None:
            raise FrameError(f"row {number}: the timestamp {row['timestamp']!r} is not yyyy-MM-dd HH:mm:ss.SSS")
        lon, lat = row.get("location-long"), row.get("location-lat")
        is_unset = is_clock_unset(recorded_at.timestamp())
        if not lon or not lat:
            return DecodedFix(recorded_at=recorded_at, lon_deg=None, lat_deg=None, is_clock_unset=is_unset)
        height, dop = row.get("height-above-ellipsoid"), row.get("gps:dop")
        return DecodedFix(
            recorded_at=recorded_at,
            lon_deg=_number(lon, f"row {number}: location-long"),
            lat_deg=_number(lat, f"row {number}: location-lat"),
            alt_m=_number(height, f"row {number}: height-above-ellipsoid") if height else None,
            pdop=_number(dop, f"row {number}: gps:dop") if dop else None,
            is_clock_unset=is_unset,
        )


ROUTES = (
    Route(EarthRangerCodec()),
    Route(GundiCodec()),
    Route(MovebankFeedCodec()),
    Route(MovebankCsvCodec()),
)


def _uplink(format_name: str, device: str, fix: DecodedFix, more: dict[str, Any]) -> Uplink:
    details = {
        "lat": fix.lat_deg,
        "lon": fix.lon_deg,
        "alt_m": fix.alt_m,
        "time": None if fix.recorded_at is None else iso_text(fix.recorded_at),
        **more,
    }
    return Uplink(format=format_name, device=device, fixes=(fix,), details=details)


def _fix(recorded_at: str, place: _Location | None) -> DecodedFix:
    instant = instant_of_utc(recorded_at)
    if instant is None:
        raise FrameError(f"recorded_at {recorded_at[:40]!r} is no time")
    return DecodedFix(
        recorded_at=instant,
        lon_deg=None if place is None else place.lon,
        lat_deg=None if place is None else place.lat,
        alt_m=None if place is None else place.alt,
        is_clock_unset=is_clock_unset(instant.timestamp()),
    )


def _some(body: Any) -> Iterable[Any]:
    items: list[Any] = body if isinstance(body, list) else [body]
    if not items:
        raise FrameError("the list is empty")
    return items


def _number(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise FrameError(f"{name} {text[:40]!r} is no number") from error
    if not math.isfinite(value):
        raise FrameError(f"{name} {text[:40]!r} is no number")
    return value


def _movebank_time(text: str) -> datetime | None:
    for form in _MOVEBANK_TIME:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def _is_outlier(row: dict[str, Any]) -> bool:
    is_hidden = str(row.get("visible") or "true").lower() not in _TRUE
    return is_hidden or any(str(row.get(mark) or "").lower() in _TRUE for mark in _MARKS)
