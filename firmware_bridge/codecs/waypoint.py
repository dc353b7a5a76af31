"""NMEA waypoints (WPL): the nodes that a Meshtastic radio in its NMEA or CalTopo mode knows.

::

    $GPWPL,0222.97,S,03720.28,E,NAME*hh          one sentence a node, again and again, however old the position is

There is no time in it, and the radio repeats what it heard days ago: a waypoint has a place and no moment. It is never
given the time of its arrival, so it cannot become a fix of the store; the same radio in its PROTO mode tells the time.
"""

from __future__ import annotations

import re

from firmware_bridge.codecs.routes import Route
from firmware_bridge.codecs.sexagesimal import lat_deg, lon_deg
from firmware_bridge.frames import DecodedFix, Uplink
from firmware_bridge.framing.checksums import nmea_xor
from shared.errors import FrameError

# What no id may hold.
_BLANKS = re.compile(r"[\s/]+")
_SENTENCE = re.compile(rb"\$(([A-Z]{2})WPL,([\d.]*),([NS]?),([\d.]*),([EW]?),([^,*]{0,64}))\*([0-9A-Fa-f]{2})\s*")


class WaypointCodec:
    """Read one waypoint sentence."""

    format = "nmea_wpl"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink; raises FrameError with the reason."""
        sentence = _SENTENCE.fullmatch(payload)
        if sentence is None:
            raise FrameError("not a sentence $..WPL,latitude,N,longitude,E,name with a checksum")
        if nmea_xor(sentence[1]) != int(sentence[8], 16):
            raise FrameError(f"the checksum is {nmea_xor(sentence[1]):02X}, not {sentence[8].decode()}")
        _, _, lat, north, lon, east, raw_name, _ = (part.decode(errors="replace") for part in sentence.groups())
        name = raw_name.strip()
        if not name:
            raise FrameError("the waypoint has no name, so nobody knows whose place it is")
        fix = DecodedFix(recorded_at=None, lon_deg=lon_deg(lon, east), lat_deg=lat_deg(lat, north))
        details = {
            "name": name,
            "lat": round(fix.lat_deg or 0.0, 6),
            "lon": round(fix.lon_deg or 0.0, 6),
            "time": None,
        }
        return [
            Uplink(format=self.format, device="waypoint:" + _BLANKS.sub("_", name)[:48], fixes=(fix,), details=details)
        ]


ROUTES = (Route(WaypointCodec(), "wpl"),)
