"""UBX-NAV-PVT: position, velocity and time of u-blox receivers in one message.

A fix counts when the receiver vouches for date, time and solution, and has a 2D or 3D one. ``nano`` is signed: the time
may be just before its own second. An accuracy of 0xFFFFFFFF mm means that it is not known.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pyubx2 import UBXReader
from pyubx2.exceptions import UBXMessageError, UBXParseError, UBXTypeError

from firmware_bridge.codecs.instants import is_clock_unset, iso_text
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import DecodedFix, Uplink
from shared.errors import FrameError

_NAV_PVT = b"\x01\x07"
_OVERHEAD = 8
#: Receivers of generation 7 send 84 bytes, later ones 92.
_LENGTHS = frozenset({84, 92})
_UNKNOWN = 0xFFFF_FFFF
_FIX_TYPES = frozenset({2, 3})


class NavPvtCodec:
    """Read complete NAV-PVT messages, sync word and checksum included."""

    format = "ubx_nav_pvt"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink; raises FrameError with the reason."""
        message = _parsed(payload)
        instant = _instant(message)
        reason = _reason(message, instant)
        is_unset = instant is not None and is_clock_unset(instant.timestamp())
        h_acc_m = None if message.hAcc == _UNKNOWN else message.hAcc / 1000
        details: dict[str, Any] = {
            "valid": not reason,
            "reason": reason,
            "time": None if instant is None else iso_text(instant),
            "lat": message.lat,
            "lon": message.lon,
            "validDate": message.validDate,
            "validTime": message.validTime,
            "fixType": message.fixType,
            "gnssFixOk": message.gnssFixOk,
            "numSV": message.numSV,
            "height_m": message.height / 1000,
            "hMSL_m": message.hMSL / 1000,
            "hAcc_m": h_acc_m,
            "vAcc_m": None if message.vAcc == _UNKNOWN else message.vAcc / 1000,
            "gSpeed_m_s": message.gSpeed / 1000,
            "headMot": message.headMot,
            "pDOP": message.pDOP,
        }
        if reason:
            fix = DecodedFix(
                recorded_at=instant,
                lon_deg=None,
                lat_deg=None,
                sats=message.numSV,
                is_clock_unset=is_unset,
            )
        else:
            fix = DecodedFix(
                recorded_at=instant,
                lon_deg=message.lon,
                lat_deg=message.lat,
                alt_m=message.hMSL / 1000,
                speed_mps=message.gSpeed / 1000,
                heading_deg=message.headMot % 360.0,
                pdop=message.pDOP,
                sats=message.numSV,
                h_acc_m=h_acc_m,
                is_clock_unset=is_unset,
            )
        return [Uplink(format=self.format, fixes=(fix,), details=details)]


ROUTES = (Route(NavPvtCodec(), "ubx"),)


def _parsed(payload: bytes) -> Any:
    if payload[2:4] != _NAV_PVT:
        raise FrameError(f"UBX message {payload[2:4].hex('-') or 'without class'} is not NAV-PVT (01-07)")
    # The library reads what is missing as zero.
    if len(payload) - _OVERHEAD not in _LENGTHS:
        raise FrameError(f"a NAV-PVT message of {len(payload)} bytes does not exist")
    try:
        return UBXReader.parse(payload)
    except (UBXParseError, UBXMessageError, UBXTypeError) as error:
        raise FrameError(str(error)) from error


def _instant(message: Any) -> datetime | None:
    """Return the receiver's time; None where it does not vouch for it."""
    if not (message.validDate and message.validTime):
        return None
    try:
        day = datetime(message.year, message.month, message.day, tzinfo=UTC)
        # Added up, as a leap second has number 60.
        return day + timedelta(
            hours=message.hour, minutes=message.min, seconds=message.second, microseconds=round(message.nano / 1000)
        )
    except (ValueError, OverflowError) as error:
        raise FrameError(f"the date {message.year}-{message.month}-{message.day} does not exist") from error


def _reason(message: Any, instant: datetime | None) -> str:
    """Return why this is no fix: the first failing flag of the time and of the solution; empty for a fix."""
    failed = []
    if instant is None:
        failed.append("validTime=0" if message.validDate else "validDate=0")
    if message.fixType not in _FIX_TYPES:
        failed.append(f"fixType={message.fixType}")
    elif not message.gnssFixOk:
        failed.append("gnssFixOk=0")
    elif message.invalidLlh:
        failed.append("invalidLlh=1")
    return ",".join(failed)
