"""Our own JSON fix over MQTT, for base stations and gateways that decode their collars themselves.

::

    topic   outpost/{station}/{gateway}/fix
    body    {"collar_id": "COL001", "recorded_at": "2026-01-01T00:00:00Z", "lon_deg": 37.338061, "lat_deg": -2.3828796}
    more    seq, alt_m, hdop, sats, battery_mv, temperature_c, speed_mps, heading_deg
    receipt outpost/{station}/{gateway}/ack, once the fix is on disk

Types are strict: a number in quotes, a time without zone, a position off the globe are refused with the reason.
``lon_deg`` and ``lat_deg`` both null tell of an attempt that failed. Fields that are not known here are ignored, so
that a newer gateway can speak to an older station.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from firmware_bridge.codecs.instants import is_clock_unset, iso_text
from firmware_bridge.codecs.json_body import decode_json
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import DecodedFix, Uplink
from shared.errors import FrameError

TOPIC = "outpost/+/+/fix"
_TOPIC_LEVELS = 4

_Degrees180 = Annotated[float, msgspec.Meta(ge=-180, le=180)]
_Degrees90 = Annotated[float, msgspec.Meta(ge=-90, le=90)]
_NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class _Body(msgspec.Struct):
    collar_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}\Z")]
    recorded_at: Annotated[datetime, msgspec.Meta(tz=True)]
    lon_deg: _Degrees180 | None
    lat_deg: _Degrees90 | None
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    alt_m: Annotated[float, msgspec.Meta(ge=-12_000, le=100_000)] | None = None
    hdop: _NotNegative | None = None
    sats: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    battery_mv: Annotated[int, msgspec.Meta(ge=0, le=100_000)] | None = None
    temperature_c: Annotated[float, msgspec.Meta(ge=-273.15, le=1000)] | None = None
    speed_mps: _NotNegative | None = None
    heading_deg: Annotated[float, msgspec.Meta(ge=-360, le=360)] | None = None


_DECODER = msgspec.json.Decoder(_Body)


class OutpostJsonCodec:
    """Read the fixes of gateways that speak our own JSON."""

    format = "outpost_json"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink; raises FrameError with the reason."""
        body = decode_json(_DECODER, payload)
        if (body.lon_deg is None) != (body.lat_deg is None):
            raise FrameError("lon_deg and lat_deg must both be there, or both be null for a failed fix")
        try:
            recorded_at = body.recorded_at.astimezone(UTC)
        except OverflowError as error:
            raise FrameError("recorded_at is beyond the calendar") from error
        fix = DecodedFix(
            recorded_at=recorded_at,
            lon_deg=body.lon_deg,
            lat_deg=body.lat_deg,
            alt_m=body.alt_m,
            speed_mps=body.speed_mps,
            heading_deg=None if body.heading_deg is None else body.heading_deg % 360.0,
            hdop=body.hdop,
            sats=body.sats,
            seq=body.seq,
            battery_mv=body.battery_mv,
            temperature_c=body.temperature_c,
            is_clock_unset=is_clock_unset(recorded_at.timestamp()),
        )
        details: dict[str, Any] = msgspec.structs.asdict(body)
        details["recorded_at"] = iso_text(recorded_at)
        return [
            Uplink(
                format=self.format,
                device="collar:" + body.collar_id,
                fixes=(fix,),
                receipt_topic=_receipt_topic(topic),
                details=details,
            )
        ]


ROUTES = (Route(OutpostJsonCodec(), "mqtt", TOPIC),)


def encode_fix(
    *,
    collar_id: str,
    recorded_at: datetime,
    lon_deg: float | None,
    lat_deg: float | None,
    **optional: float | None,
) -> bytes:
    """Return the body of a fix; raises ValueError for what ``decode`` would refuse.

    ``optional`` takes the further fields by their names; None leaves one out.
    """
    body = {
        "collar_id": collar_id,
        "recorded_at": iso_text(recorded_at),
        "lon_deg": lon_deg,
        "lat_deg": lat_deg,
        **{name: value for name, value in optional.items() if value is not None},
    }
    msgspec.convert(body, _StrictBody)
    return msgspec.json.encode(body)


class _StrictBody(_Body, forbid_unknown_fields=True):
    """What our own encoder may write."""


def _receipt_topic(topic: str) -> str | None:
    levels = topic.split("/")
    return "/".join((*levels[:3], "ack")) if len(levels) == _TOPIC_LEVELS else None
