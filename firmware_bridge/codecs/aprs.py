"""APRS positions, as text of a monitor (TNC2) and as AX.25 frames of a packet radio.

::

    SOURCE>DESTINATION,PATH:INFORMATION
    AX.25   destination, source, up to 8 digipeaters (7 bytes each: 6 letters << 1, 0x60 | SSID << 1 | last) | 03 F0 |
            information                                      the checksum is gone: the modem has checked it
    ! =     position without a time                          / @ position with one: DDHHMMz, HHMMSSh, or DDHHMM/ in
                                                             somebody's local time
    text    DDMM.mmN T DDDMM.mmE C                           18 m; blanks for digits are on purpose
    packed  T yyyy xxxx C cs t                               base 91; T and C are the symbol, cs course and speed

Then 123/001 (course, knots) and a comment with /A=003894 (feet) somewhere in it.

A time has no month and no year, so the fix carries ``time_of_day`` for whoever knows the date. A position without a
time is the sender's place now, but says nothing about when now is: gateways and digipeaters pass it on later. No codec
gives it the time of its arrival. Position reports of other shapes (Mic-E, objects, items, raw NMEA, third-party
traffic) are refused with a reason; what is no position has no fix.

Layout: APRS Protocol Reference 1.0.1, chapters 5 to 9; AX.25 2.2, chapter 3.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from firmware_bridge.codecs.routes import Route
from firmware_bridge.codecs.sexagesimal import lat_deg, lon_deg
from firmware_bridge.frames import DecodedFix, TimeOfDay, Uplink
from firmware_bridge.framing.checksums import CRC16_VARIANTS
from firmware_bridge.framing.kiss import decode_kiss
from firmware_bridge.framing.slip import END
from shared.errors import FrameError

_MPS_PER_KNOT = 1852 / 3600
_M_PER_FOOT = 0.3048
_M_PER_MINUTE = 1852
_KMH_PER_KNOT = 1.852

_LINE = re.compile(
    r"([A-Z0-9]{1,6}(?:-[0-9A-Z]{1,2})?)>([A-Z0-9]{1,6}(?:-[0-9A-Z]{1,2})?)((?:,[A-Za-z0-9*-]+)*):(.+)", re.DOTALL
)
_TIME = re.compile(r"(\d{2})(\d{2})(\d{2})([zh/])", re.ASCII)
_PLAIN = re.compile(r"([\d .]{7})([NS])(.)([\d .]{8})([EW])(.)", re.ASCII | re.DOTALL)
_PACKED = re.compile(r"([/\\A-Za-j])([!-{]{4})([!-{]{4})(.)([ -{])(.)(.)", re.DOTALL)
_COURSE_SPEED = re.compile(r"(\d{3})/(\d{3})", re.ASCII)
_ALTITUDE = re.compile(r"/A=(-?\d{5,6})", re.ASCII)
_UNREAD_POSITIONS = {
    "`": "Mic-E", "'": "Mic-E", "\x1c": "Mic-E", "\x1d": "Mic-E", ";": "an object", ")": "an item", "$": "raw NMEA",
    "}": "third-party traffic",
}  # fmt: skip
_AX25_ADDRESS_BYTES = 7
_MOST_ADDRESSES = 10
_UI, _NO_LAYER_3 = 0x03, 0xF0
#: Of the byte that says how a packed position was made.
_IS_CURRENT, _FROM, _FROM_GGA = 0x20, 0x18, 0x10


class _Packet(NamedTuple):
    source: str
    destination: str
    path: list[str]
    info: str


class AprsCodec:
    """Read packets as monitors print them."""

    format = "aprs"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink; raises FrameError with the reason."""
        # Information is bytes of no declared encoding; a position in it is ASCII.
        match = _LINE.fullmatch(payload.decode("latin-1").strip("\r\n"))
        if match is None:
            raise FrameError("not a packet SOURCE>DESTINATION,PATH:INFORMATION")
        path = match[3].split(",")[1:]
        return [_uplink(_Packet(match[1], match[2], path, match[4]), self.format)]


class KissAx25Codec:
    """Read AX.25 frames, bare or as they stand on the line of a KISS modem."""

    format = "kiss_ax25"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink; raises FrameError with the reason."""
        frame = payload
        # No letter of a call sign gives the byte C0.
        if payload.startswith(END):
            _, command, frame = decode_kiss(_one_segment(payload))
            if command:
                raise FrameError(f"KISS command {command} is the modem's, not data from the air")
        packet = _ax25(frame)
        more = {"fcs_on_air_le": CRC16_VARIANTS["X25_HDLC"](frame).to_bytes(2, "little").hex()}
        return [_uplink(packet, self.format, more)]


ROUTES = (Route(AprsCodec(), "aprs"), Route(KissAx25Codec(), "ax25"))


def _uplink(packet: _Packet, format_name: str, more: dict[str, Any] | None = None) -> Uplink:
    details: dict[str, Any] = {
        "src": packet.source,
        "dst": packet.destination,
        "path": packet.path,
        "info": packet.info,
        **(more or {}),
    }
    fixes: tuple[DecodedFix, ...] = ()
    kind = packet.info[:1]
    if kind in {"!", "=", "/", "@"}:
        found, fixes = _report(packet.info)
        details |= found
    elif kind in _UNREAD_POSITIONS:
        raise FrameError(f"a position as {_UNREAD_POSITIONS[kind]} is not read here")
    else:
        details["message"] = "no position"
    return Uplink(format=format_name, device=f"aprs:{packet.source}", fixes=fixes, details=details)


def _report(info: str) -> tuple[dict[str, Any], tuple[DecodedFix, ...]]:
    """Return the facts and the fix of a position report."""
    said: TimeOfDay | None = None
    text = info[1:]
    if info[0] in "/@":
        said = _time_of_day(text[:7])
        text = text[7:]
    place = _plain_place(text) or _packed_place(text)
    if place is None:
        raise FrameError(f"neither a plain nor a packed position: {text[:20]!r}")
    if altitude := _ALTITUDE.search(place.comment):
        place = place._replace(alt_m=int(altitude[1]) * _M_PER_FOOT)
    details: dict[str, Any] = {
        "message": "position",
        "lat": round(place.lat_deg, 6),
        "lon": round(place.lon_deg, 6),
        "cog": place.course_deg,
        "speed_kmh": None if place.speed_kn is None else round(place.speed_kn * _KMH_PER_KNOT, 3),
        "alt_m": None if place.alt_m is None else round(place.alt_m, 2),
        "time": None,
        "time_of_day": _time_text(said),
        "is_current": place.is_current,
        "comment": place.comment,
    }
    if not place.is_current:
        return details, (DecodedFix(recorded_at=None, lon_deg=None, lat_deg=None, time_of_day=said),)
    fix = DecodedFix(
        recorded_at=None,
        lon_deg=place.lon_deg,
        lat_deg=place.lat_deg,
        alt_m=place.alt_m,
        speed_mps=None if place.speed_kn is None else place.speed_kn * _MPS_PER_KNOT,
        heading_deg=None if place.course_deg is None else place.course_deg % 360.0,
        h_acc_m=place.h_acc_m,
        time_of_day=said,
    )
    return details, (fix,)


class _Place(NamedTuple):
    lat_deg: float
    lon_deg: float
    comment: str
    course_deg: float | None = None
    speed_kn: float | None = None
    alt_m: float | None = None
    h_acc_m: float | None = None
    is_current: bool = True


def _time_of_day(text: str) -> TimeOfDay | None:
    """Return what a time says; None where it is somebody's local time. Raises FrameError for no time."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise FrameError(f"{text!r} is no time")
    first, second, third = int(match[1]), int(match[2]), int(match[3])
    if match[4] == "/":
        return None
    said = TimeOfDay(first, second, third) if match[4] == "h" else TimeOfDay(second, third, day_of_month=first)
    if said.hour > 23 or said.minute > 59 or said.second > 59 or said.day_of_month in {0, *range(32, 100)}:
        raise FrameError(f"{text!r} is no time")
    return said


def _time_text(said: TimeOfDay | None) -> str | None:
    if said is None:
        return None
    clock = f"{said.hour:02}:{said.minute:02}:{said.second:02}Z"
    return f"{clock} (no date)" if said.day_of_month is None else f"{clock} (day {said.day_of_month}, no month)"


def _plain_place(text: str) -> _Place | None:
    match = _PLAIN.match(text)
    if match is None:
        return None
    lat, blanks = _unblurred(match[1])
    lon, _ = _unblurred(match[4])
    comment = text[match.end() :]
    course_deg = speed_kn = None
    if motion := _COURSE_SPEED.match(comment):
        # 000 is an unknown course, 360 is north.
        course_deg = float(motion[1]) if 1 <= int(motion[1]) <= 360 else None
        speed_kn = float(motion[2])
        comment = comment[motion.end() :]
    return _Place(
        lat_deg(lat, match[2]),
        lon_deg(lon, match[5]),
        comment,
        course_deg,
        speed_kn,
        # Half of what the blanks leave open, along the longer side.
        h_acc_m=_M_PER_MINUTE * 10**blanks / 200 if blanks else None,
    )


def _unblurred(text: str) -> tuple[str, int]:
    """Return a coordinate with the middle of what its blanks leave open, and how many digits they are."""
    digits = text.replace(".", "", 1)
    blanks = len(digits) - len(digits.rstrip(" "))
    if not blanks:
        return text, 0
    if blanks > 4 or "." not in text:
        raise FrameError(f"{text!r} leaves too much open")
    # The tens of minutes go to 6 only; everywhere else the middle of ten is 5.
    middle = "3000" if blanks == 4 else "5" + "0" * (blanks - 1)
    filled = digits[: len(digits) - blanks] + middle
    return filled[:-2] + "." + filled[-2:], blanks


def _packed_place(text: str) -> _Place | None:
    match = _PACKED.match(text)
    if match is None:
        return None
    lat = 90 - _base91(match[2]) / 380_926
    lon = -180 + _base91(match[3]) / 190_463
    if lat < -90 or lon > 180:
        raise FrameError(f"the packed position {lat:.1f}, {lon:.1f} is not on the globe")
    place = _Place(lat, lon, text[match.end() :])
    if match[5] == " ":
        return place  # the two behind it mean nothing then
    first, second, made = (ord(match[index]) - 33 for index in (5, 6, 7))
    if not (0 <= second <= 90 and 0 <= made <= 90):
        return None
    place = place._replace(is_current=bool(made & _IS_CURRENT))
    if made & _FROM == _FROM_GGA:
        return place._replace(alt_m=1.002 ** (first * 91 + second) * _M_PER_FOOT)
    if first < 90:
        return place._replace(course_deg=first * 4.0 or 360.0, speed_kn=1.08**second - 1)
    return place  # the range of a fixed station


def _base91(text: str) -> int:
    value = 0
    for letter in text:
        value = value * 91 + ord(letter) - 33
    return value


def _ax25(frame: bytes) -> _Packet:
    addresses: list[str] = []
    position = 0
    is_last = False
    while not is_last:
        raw = frame[position : position + _AX25_ADDRESS_BYTES]
        if len(raw) < _AX25_ADDRESS_BYTES or len(addresses) == _MOST_ADDRESSES:
            raise FrameError("the addresses of the AX.25 frame do not end")
        addresses.append(_call_sign(raw))
        position += _AX25_ADDRESS_BYTES
        is_last = bool(raw[-1] & 1)
    if len(addresses) < 2:
        raise FrameError("an AX.25 frame has two addresses at least")
    if frame[position : position + 2] != bytes((_UI, _NO_LAYER_3)):
        raise FrameError("only AX.25 frames of unnumbered information without a layer 3 carry APRS")
    info = frame[position + 2 :].decode("latin-1").rstrip("\r\n")
    if not info:
        raise FrameError("the AX.25 frame has no information")
    destination, source, *path = addresses
    return _Packet(source, destination, path, info)


def _call_sign(raw: bytes) -> str:
    letters = bytes(byte >> 1 for byte in raw[:-1]).decode("latin-1").rstrip(" ")
    if any(byte & 1 for byte in raw[:-1]) or not letters.isascii() or not letters.isalnum() or letters.islower():
        raise FrameError(f"{raw.hex()} is no call sign")
    ssid = raw[-1] >> 1 & 0x0F
    return f"{letters}-{ssid}" if ssid else letters


def _one_segment(wire: bytes) -> bytes:
    segment = wire.strip(END)
    if END in segment:
        raise FrameError(f"these are {len(segment.split(END))} KISS frames, not one")
    return segment
