"""Positions as the clouds of Vectronic and Lotek give them: what their collars say over satellites is not published.

::

    Vectronic   {"idPosition", "idCollar", "acquisitionTime", "scts", "latitude", "longitude", "height", "dop", ...}
    Lotek       {"DeviceID", "RecDateTime", "UploadTimeStamp", "Latitude", "Longitude", "Altitude", "PDOP", ...}

Either comes alone or in a list, newest first, seconds to many hours late. Times without a zone are UTC. ``scts`` (the
satellite's service centre) and ``UploadTimeStamp`` are ``network_time``. Coordinates that are null, and Lotek's that
are 0, tell of a fix that failed. Lotek's voltage and temperature count only with ``bHasTempVoltage``.

Layout: PADAS/er-server, das/tracking/models/vectronics; PADAS/gundi-integration-lotek, app/actions/client.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from firmware_bridge.codecs.instants import instant_of_utc, is_clock_unset, iso_or_none, iso_text
from firmware_bridge.codecs.json_body import decode_json
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import DecodedFix, DeviceStatus, Uplink
from shared.errors import FrameError

_Number = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
_Volts = Annotated[float, msgspec.Meta(ge=0, le=100)]
_Celsius = Annotated[float, msgspec.Meta(ge=-273.15, le=1000)]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,48}\Z")]


class _Vectronic(msgspec.Struct, rename="camel"):
    id_collar: _Number | _Name
    acquisition_time: str
    id_position: _Number | None = None
    scts: str | None = None
    origin_code: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    height: float | None = None
    dop: float | None = None
    id_fix_type: _Number | str | None = None
    sat_count: _Number | None = None
    id_mortality_status: _Number | None = None
    main_voltage: _Volts | None = None
    backup_voltage: _Volts | None = None
    temperature: _Celsius | None = None


class _Lotek(msgspec.Struct, rename="pascal"):
    device_id: _Number | _Name = msgspec.field(name="DeviceID")
    rec_date_time: str = ""
    upload_time_stamp: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None
    pdop: float | None = msgspec.field(name="PDOP", default=None)
    fix_type: _Number | str | None = None
    fix_duration: float | None = None
    main_v: _Volts | None = None
    bk_up_v: _Volts | None = None
    temperature: _Celsius | None = None
    has_voltage: bool = msgspec.field(name="bHasTempVoltage", default=True)
    dev_name: str | None = None


_VECTRONIC = msgspec.json.Decoder(_Vectronic | list[_Vectronic])
_LOTEK = msgspec.json.Decoder(_Lotek | list[_Lotek])


class VectronicCodec:
    """Read positions of Vectronic's cloud."""

    format = "vectronic_json"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per position; raises FrameError with the reason."""
        body = decode_json(_VECTRONIC, payload)
        return [self._uplink(each) for each in _some(body if isinstance(body, list) else [body])]

    def _uplink(self, said: _Vectronic) -> Uplink:
        has_failed = said.latitude is None or said.longitude is None
        return _uplink(
            self.format,
            f"vectronic:{said.id_collar}",
            recorded_at=_device_time(said.acquisition_time, "acquisitionTime"),
            network_time=instant_of_utc(said.scts),
            place=None if has_failed else (said.latitude, said.longitude, said.height),
            pdop=said.dop,
            sats=said.sat_count,
            volts=said.main_voltage,
            temperature_c=said.temperature,
            more={
                "position_id": said.id_position,
                "origin": said.origin_code,
                "fix_type": said.id_fix_type,
                "mortality_status": said.id_mortality_status,
                "backup_v": said.backup_voltage,
            },
        )


class LotekCodec:
    """Read positions of Lotek's cloud."""

    format = "lotek_json"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per position; raises FrameError with the reason."""
        body = decode_json(_LOTEK, payload)
        return [self._uplink(each) for each in _some(body if isinstance(body, list) else [body])]

    def _uplink(self, said: _Lotek) -> Uplink:
        has_failed = not said.latitude or not said.longitude
        return _uplink(
            self.format,
            f"lotek:{said.device_id}",
            recorded_at=_device_time(said.rec_date_time, "RecDateTime"),
            network_time=instant_of_utc(said.upload_time_stamp),
            place=None if has_failed else (said.latitude, said.longitude, said.altitude),
            pdop=said.pdop or None,
            sats=None,
            volts=said.main_v if said.has_voltage else None,
            temperature_c=said.temperature if said.has_voltage else None,
            more={
                "name": said.dev_name,
                "fix_type": said.fix_type,
                "fix_duration_s": said.fix_duration,
                "backup_v": said.bk_up_v if said.has_voltage else None,
            },
        )


ROUTES = (Route(VectronicCodec()), Route(LotekCodec()))


def _uplink(
    format_name: str,
    device: str,
    *,
    recorded_at: datetime,
    network_time: datetime | None,
    place: tuple[float | None, float | None, float | None] | None,
    pdop: float | None,
    sats: int | None,
    volts: float | None,
    temperature_c: float | None,
    more: dict[str, Any],
) -> Uplink:
    lat_deg, lon_deg, alt_m = place or (None, None, None)
    battery_mv = None if volts is None else round(volts * 1000)
    fix = DecodedFix(
        recorded_at=recorded_at,
        lon_deg=lon_deg,
        lat_deg=lat_deg,
        alt_m=alt_m,
        pdop=pdop if place else None,
        sats=sats,
        battery_mv=battery_mv,
        temperature_c=temperature_c,
        is_clock_unset=is_clock_unset(recorded_at.timestamp()),
    )
    details = {
        "message": "position",
        "lat": lat_deg,
        "lon": lon_deg,
        "alt_m": alt_m,
        "time": iso_text(recorded_at),
        "network_time": iso_or_none(network_time),
        "quality": "fix" if place else "no_fix",
        "pdop": pdop,
        "battery_mv": battery_mv,
        "temp_c": temperature_c,
        **more,
    }
    status = DeviceStatus(battery_mv=battery_mv, temperature_c=temperature_c)
    return Uplink(
        format=format_name, device=device, fixes=(fix,), status=status, network_time=network_time, details=details
    )


def _some(items: list[Any]) -> list[Any]:
    if not items:
        raise FrameError("the list holds no position")
    return items


def _device_time(text: str, name: str) -> datetime:
    instant = instant_of_utc(text)
    if instant is None:
        raise FrameError(f"{name} {text[:40]!r} is no time")
    return instant
