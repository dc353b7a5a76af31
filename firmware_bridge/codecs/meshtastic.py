"""Meshtastic positions: of rangers, vehicles and dogs, and of collars built from its radios.

::

    serial   94 C3 | length | FromRadio { packet 2: MeshPacket }
    MQTT     msh/REGION/2/e/CHANNEL/!gateway       ServiceEnvelope { packet 1, channel_id 2, gateway_id 3 }
             msh/REGION/2/json/CHANNEL/!gateway    {"from", "id", "type": "position", "payload": {...}, "timestamp"}

The region may have several levels (``msh/US/CA/2/...``). Layout: meshtastic/protobufs, mesh.proto; the JSON keys of
meshtastic/firmware, MeshPacketSerializer.

What it does to a reader:

- ``timestamp`` is the receiver's own time of the solution, ``time`` the sender's clock. The first is the fix's time
  where it is there. The packet's ``rx_time`` is the clock of the node that heard it: ``network_time``;
- several gateways publish the same packet, and JSON and protobuf of it come side by side: one device, one time, one
  place are one fix;
- a channel may blur positions: of ``precision_bits`` only so many bits of a coordinate are true. The radius of what was
  cut off becomes the fix's accuracy;
- speed and course have changed their units between firmware versions. They stay in the details as they came;
- JSON of firmware before 2.2 has negative node numbers. A packet of another kind (text, telemetry) has no fix, and
  none of its content is passed on;
- an encrypted packet may be a position. It is refused with a reason, so that somebody sees why a ranger is not on the
  map.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from firmware_bridge.codecs.instants import is_clock_unset, iso_or_none, utc
from firmware_bridge.codecs.json_body import decode_json
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import DecodedFix, Uplink
from firmware_bridge.framing.meshtastic import body_of
from firmware_bridge.framing.protobuf import Fields, read_fields
from shared.errors import FrameError

_POSITION_APP = 3
_U32 = 0xFFFF_FFFF
_FULL_PRECISION = 32
_I32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_Unsigned = Annotated[int, msgspec.Meta(ge=0, le=_U32)]
_M_PER_E7 = 0.011_132  # of a degree at the equator, and of latitude everywhere

#: How many levels a region may have in a topic: ``msh/EU_868``, ``msh/US/CA``, ``msh/US/CA/Bay``.
_REGIONS = ("+", "+/+", "+/+/+")


class _Position(msgspec.Struct):
    """What a position says, from either form; the names are those of the JSON."""

    latitude_i: _I32 | None = None
    longitude_i: _I32 | None = None
    altitude: _I32 | None = None
    time: _Unsigned | None = None
    timestamp: _Unsigned | None = None
    PDOP: _Unsigned | None = None
    HDOP: _Unsigned | None = None
    VDOP: _Unsigned | None = None
    ground_speed: _Unsigned | None = None
    ground_track: _Unsigned | None = None
    sats_in_view: _Unsigned | None = None
    seq_number: _Unsigned | None = None
    precision_bits: _Unsigned | None = None
    gps_accuracy: _Unsigned | None = None


class _Packet(msgspec.Struct):
    """What stands around a position, from either form."""

    sender: int
    packet_id: int | None
    rx_time: int | None
    rssi_dbm: int | None
    snr_db: float | None
    gateway: str | None = None


class _Json(msgspec.Struct, rename={"sender_node": "from"}):
    sender_node: Annotated[int, msgspec.Meta(ge=-(2**31), le=_U32)]
    type: str = ""
    id: _Unsigned | None = None
    payload: msgspec.Raw = msgspec.Raw()
    sender: str = ""
    timestamp: _Unsigned | None = None
    rssi: _I32 | None = None
    snr: float | None = None


_JSON = msgspec.json.Decoder(_Json)
_JSON_POSITION = msgspec.json.Decoder(_Position)


class MeshtasticSerialCodec:
    """Read complete frames of a node's serial line, start and length included."""

    format = "meshtastic_serial"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink, or none for what is no mesh packet; raises FrameError with the reason."""
        packet = read_fields(body_of(payload)).message(2)
        if packet is None:
            raise FrameError("the node speaks of itself: this is no packet of the mesh")
        return [_of_packet(packet, self.format)]


class MeshtasticMqttCodec:
    """Read what gateways publish, as JSON or as protobuf; without a topic the first byte tells which."""

    format = "meshtastic_mqtt"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink; raises FrameError with the reason."""
        is_json = "/json/" in topic or (not topic and payload.lstrip()[:1] == b"{")
        return [self._json(payload) if is_json else self._envelope(payload)]

    def _envelope(self, payload: bytes) -> Uplink:
        envelope = read_fields(payload)
        packet = envelope.message(1)
        if packet is None:
            raise FrameError("the envelope is empty")
        return _of_packet(packet, self.format, gateway=envelope.text(3) or None)

    def _json(self, payload: bytes) -> Uplink:
        body = decode_json(_JSON, payload)
        packet = _Packet(
            sender=body.sender_node & _U32,
            packet_id=body.id,
            rx_time=body.timestamp,
            rssi_dbm=body.rssi,
            snr_db=body.snr,
            gateway=body.sender or None,
        )
        if body.type != "position":
            return _uplink(packet, None, self.format, kind=body.type or "unknown")
        return _uplink(packet, decode_json(_JSON_POSITION, bytes(body.payload)), self.format)


_MQTT = MeshtasticMqttCodec()

#: Where gateways publish JSON, for subscriptions. Protobuf is encrypted unless somebody switched that off, and what is
#: encrypted would fill the list of frames that nobody can read: who wants it subscribes to it by hand.
JSON_TOPICS = tuple(f"msh/{region}/2/json/+/+" for region in _REGIONS)
PROTOBUF_TOPICS = tuple(f"msh/{region}/2/e/+/+" for region in _REGIONS)
ROUTES = (
    Route(MeshtasticSerialCodec(), "meshtastic"),
    *(Route(_MQTT, "mqtt", topic) for topic in (*JSON_TOPICS, *PROTOBUF_TOPICS)),
)


def _of_packet(packet: Fields, format_name: str, gateway: str | None = None) -> Uplink:
    sender = packet.fixed32(1)
    if not sender:
        raise FrameError("the packet names no sender")
    about = _Packet(
        sender=sender,
        packet_id=packet.fixed32(6),
        rx_time=packet.fixed32(7),
        rssi_dbm=packet.signed(12),
        snr_db=packet.float32(8),
        gateway=gateway,
    )
    data = packet.message(4)
    if data is None:
        if packet.raw(5) is not None:
            raise FrameError(
                f"the packet of node !{sender:08x} is encrypted: give the gateway the channel's key and switch the"
                " encryption of MQTT off, or have it publish JSON"
            )
        raise FrameError("the packet is empty")
    portnum = data.unsigned(1) or 0
    if portnum != _POSITION_APP:
        return _uplink(about, None, format_name, kind=f"application {portnum}")
    return _uplink(about, _position(read_fields(data.raw(2) or b"")), format_name)


def _position(fields: Fields) -> _Position:
    return _Position(
        latitude_i=fields.sfixed32(1),
        longitude_i=fields.sfixed32(2),
        altitude=fields.signed(3),
        time=fields.fixed32(4),
        timestamp=fields.fixed32(7),
        PDOP=fields.unsigned(11),
        HDOP=fields.unsigned(12),
        VDOP=fields.unsigned(13),
        gps_accuracy=fields.unsigned(14),
        ground_speed=fields.unsigned(15),
        ground_track=fields.unsigned(16),
        sats_in_view=fields.unsigned(19),
        seq_number=fields.unsigned(22),
        precision_bits=fields.unsigned(23),
    )


def _uplink(packet: _Packet, position: _Position | None, format_name: str, kind: str = "position") -> Uplink:
    node = f"!{packet.sender:08x}"
    rx_s = _unix_s(packet.rx_time, "rx_time")
    details: dict[str, Any] = {
        "message": kind,
        "from_": node,
        "packet_id": packet.packet_id,
        "rx_time": packet.rx_time,
        "rssi": packet.rssi_dbm,
        "snr": _finite(packet.snr_db),
    }
    fixes: tuple[DecodedFix, ...] = ()
    if position is not None:
        details |= _position_details(position)
        fixes = _fixes(position)
    return Uplink(
        format=format_name,
        device=f"mesh:{node}",
        fixes=fixes,
        network_time=_network_time(rx_s, fixes),
        rssi_dbm=None if packet.rssi_dbm is None else float(packet.rssi_dbm),
        snr_db=_finite(packet.snr_db),
        gateway=packet.gateway,
        details=details,
    )


def _network_time(rx_s: int | None, fixes: tuple[DecodedFix, ...]) -> datetime | None:
    """Return the clock of the node that heard the packet, where it may be told.

    A node whose clock nobody has set counts from 1970. And wrong clocks spread through a mesh: no position without a
    time of its own may get one from a peer.
    """
    if rx_s is None or is_clock_unset(rx_s) or any(fix.recorded_at is None for fix in fixes):
        return None
    return utc(rx_s)


def _fixes(position: _Position) -> tuple[DecodedFix, ...]:
    if position.latitude_i is None or position.longitude_i is None:
        return ()  # the node told its time, not that a fix failed
    unix_s = _fix_time_s(position)
    fix = DecodedFix(
        recorded_at=None if unix_s is None else utc(unix_s),
        lon_deg=position.longitude_i / 1e7,
        lat_deg=position.latitude_i / 1e7,
        alt_m=None if position.altitude is None else float(position.altitude),
        hdop=_hundredths(position.HDOP),
        pdop=_hundredths(position.PDOP),
        sats=position.sats_in_view,
        h_acc_m=_blur_m(position.precision_bits),
        is_clock_unset=unix_s is not None and is_clock_unset(unix_s),
    )
    return (fix,)


def _position_details(position: _Position) -> dict[str, Any]:
    unix_s = _fix_time_s(position)
    return {
        "lat": None if position.latitude_i is None else position.latitude_i / 1e7,
        "lon": None if position.longitude_i is None else position.longitude_i / 1e7,
        "alt_m": position.altitude,
        "time": position.time,
        "timestamp": position.timestamp,
        "fix_time": iso_or_none(None if unix_s is None else utc(unix_s)),
        "PDOP": _hundredths(position.PDOP),
        "HDOP": _hundredths(position.HDOP),
        "VDOP": _hundredths(position.VDOP),
        "sats": position.sats_in_view,
        "seq": position.seq_number,
        "precision_bits": position.precision_bits,
        "ground_speed": position.ground_speed,
        "ground_track": position.ground_track,
        "gps_accuracy": position.gps_accuracy,
    }


def _fix_time_s(position: _Position) -> int | None:
    return _unix_s(position.timestamp, "timestamp") or _unix_s(position.time, "time")


def _unix_s(value: int | None, name: str) -> int | None:
    """Return a time that was told; 0 is the wire's word for none."""
    if value is None or 0 <= value <= _U32:
        return value or None
    raise FrameError(f"{name} {value} is no time of a Meshtastic node")


def _hundredths(value: int | None) -> float | None:
    # 0 is no dilution that a receiver can have.
    return value / 100 if value else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) < 1000 else None


def _blur_m(precision_bits: int | None) -> float | None:
    """Return how far the true place may lie from what a channel let through; None where nothing was cut off."""
    if not precision_bits or precision_bits >= _FULL_PRECISION:
        return None
    return (1 << (_FULL_PRECISION - precision_bits)) * _M_PER_E7 / 2
