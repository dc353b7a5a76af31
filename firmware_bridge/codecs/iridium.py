"""Iridium short burst data: the DirectIP message of the Iridium gateway, and RockBLOCK's HTTP hook.

::

    DirectIP header    u32 CDR | 15 digits IMEI | u8 session status | u16 MOMSN | u16 MTMSN | u32 session time, UTC
             payload   up to 1960 bytes; absent where the session failed or was empty
             location  u8 flags, bit 1 south, bit 0 west | u8 degrees, u16 thousandths of a minute, twice | u32 CEP, km
    RockBLOCK          imei, serial, momsn, transmit_time "26-01-01 01:01:00", iridium_latitude, iridium_longitude,
                       iridium_cep, data in hex; as a form or as JSON

Location is where the network thinks the modem is, within ten kilometres or so: it stays in the details and is never a
fix. The session's time is ``network_time``. What is inside is an OpenCollar buffer or message.

Layout: SBD Developers Guide 3.0 and docs.groundcontrol.com, RockBLOCK. The signature (``JWT``) of the hook is for
whoever receives it over the internet to check; a station never does.
"""

from __future__ import annotations

import binascii
import re
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any
from urllib.parse import parse_qsl

import msgspec

from firmware_bridge.codecs.instants import instant_of_utc, iso_or_none, iso_text, utc
from firmware_bridge.codecs.json_body import decode_json
from firmware_bridge.codecs.messages import Message, uplinks_of, with_details
from firmware_bridge.codecs.opencollar_buffer import read_satellite
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import Uplink
from firmware_bridge.framing.directip import CONFIRMATION, HEADER, LOCATION, PAYLOAD, elements_of
from shared.errors import FrameError

_HEADER = struct.Struct(">I15sBHHI")
_LOCATION = struct.Struct(">BBHBHI")
_SOUTH, _WEST = 2, 1
_IMEI = re.compile(r"\d{15}")
#: What the status of a session means; from 10 on nothing was transferred.
STATUSES: Mapping[int, str] = MappingProxyType(
    {
        0: "ok", 1: "ok, the answer was too big", 2: "ok, the location was refused", 10: "timed out",
        12: "too big", 13: "radio link lost", 14: "protocol failure", 15: "modem prohibited",
    }
)  # fmt: skip


class DirectIpCodec:
    """Read complete DirectIP messages, version and length included."""

    format = "iridium_directip"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per message inside; raises FrameError with the reason."""
        elements = elements_of(payload)
        header = elements.get(HEADER)
        if header is None:
            confirm = elements[CONFIRMATION][0]
            return [Uplink(format=self.format, details={"message": "confirmation", "confirm": confirm})]
        cdr, raw_imei, status, momsn, mtmsn, session_s = _HEADER.unpack(header)
        imei = _imei(raw_imei.decode("ascii", errors="replace"))
        network_time = utc(session_s)
        data = elements.get(PAYLOAD)
        envelope: dict[str, Any] = {
            "imei": imei,
            "cdr": cdr,
            "status": status,
            "status_text": STATUSES.get(status, "unknown"),
            "momsn": momsn,
            "mtmsn": mtmsn,
            "session": iso_text(network_time),
            "payload": None if data is None else data.hex(),
            **_location(elements.get(LOCATION)),
        }
        return _uplinks(self.format, imei, network_time, data, envelope)


_Number = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]


class _Hook(msgspec.Struct):
    imei: str | _Number
    data: str = ""
    transmit_time: str = ""
    momsn: str | _Number | None = None
    serial: str | _Number | None = None
    iridium_latitude: str | float | None = None
    iridium_longitude: str | float | None = None
    iridium_cep: str | float | None = None


_HOOK = msgspec.json.Decoder(_Hook)
_SHORT_TIME = re.compile(r"\d{2}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}")


class RockBlockCodec:
    """Read the body of RockBLOCK's hook, form or JSON."""

    format = "rockblock_http"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per message inside; raises FrameError with the reason."""
        hook = _hook(payload)
        imei = _imei(str(hook.imei))
        network_time = _transmit_time(hook.transmit_time)
        try:
            data = binascii.unhexlify(hook.data)
        except (binascii.Error, ValueError) as error:
            raise FrameError(f"data is not hex digits: {error}") from error
        envelope: dict[str, Any] = {
            "imei": imei,
            "serial": _text(hook.serial),
            "momsn": _text(hook.momsn),
            "session": iso_or_none(network_time),
            "payload": data.hex() or None,
            "loc": [_text(hook.iridium_latitude), _text(hook.iridium_longitude)],
            "cep_km": _text(hook.iridium_cep),
        }
        return _uplinks(self.format, imei, network_time, data or None, envelope)


ROUTES = (Route(DirectIpCodec(), "directip"), Route(RockBlockCodec(), "rockblock"))


def _uplinks(
    format_name: str, imei: str, network_time: datetime | None, data: bytes | None, envelope: dict[str, Any]
) -> list[Uplink]:
    messages = [Message(None, {"message": "empty_session"})] if data is None else read_satellite(data)
    return uplinks_of(with_details(messages, envelope), format_name, device=f"imei:{imei}", network_time=network_time)


def _location(element: bytes | None) -> dict[str, Any]:
    if element is None:
        return {"loc": None, "cep_km": None}
    flags, lat, lat_milli_minutes, lon, lon_milli_minutes, cep_km = _LOCATION.unpack_from(element)
    lat_deg = (lat + lat_milli_minutes / 60_000) * (-1 if flags & _SOUTH else 1)
    lon_deg = (lon + lon_milli_minutes / 60_000) * (-1 if flags & _WEST else 1)
    return {"loc": [round(lat_deg, 6), round(lon_deg, 6)], "cep_km": cep_km}


def _imei(text: str) -> str:
    if _IMEI.fullmatch(text) is None or not text.isascii():
        raise FrameError(f"the IMEI {text!r} is not fifteen digits")
    return text


def _hook(payload: bytes) -> _Hook:
    if payload.lstrip()[:1] == b"{":
        return decode_json(_HOOK, payload)
    try:
        form = dict(parse_qsl(payload.decode(), max_num_fields=64))
        return msgspec.convert(form, _Hook)
    except UnicodeDecodeError as error:
        raise FrameError(f"the body is not UTF-8: byte {error.start}") from error
    except (ValueError, msgspec.ValidationError) as error:
        raise FrameError(f"neither a form nor JSON of RockBLOCK: {error}") from error


def _transmit_time(text: str) -> datetime | None:
    """Return the time of the session: UTC, with a year of two digits in the hook that most accounts have."""
    if _SHORT_TIME.fullmatch(text) and text.isascii():
        try:
            return datetime.strptime(text, "%y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        except ValueError:
            return None
    return instant_of_utc(text)


def _text(value: str | float | None) -> str | None:
    return None if value is None else str(value)
