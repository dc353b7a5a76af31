"""ChirpStack v4: the JSON events that a LoRaWAN network server publishes over MQTT.

::

    application/{application id}/device/{devEui}/event/up        an uplink: base64 data, fPort, one rxInfo per gateway
    application/{application id}/device/{devEui}/event/status    battery as the network asked for it

Layout: chirpstack/chirpstack, api/proto/integration/integration.proto. What it does to a reader:

- it is proto3 JSON: a value that equals its default (fCnt 0, rssi 0, battery 0, false) is absent;
- times have nine decimals;
- ``time`` is the gateway's only while that is within 30 s of the server's clock, otherwise the server's own: what a
  gateway had buffered carries the time of delivery. So it is ``network_time`` and never replaces the device's;
- the payload is OpenCollar's unless the device has the tag ``payload`` with the name of another format, or its profile
  is called like one;
- an uplink without ``data`` carries commands of the network and says nothing of the animal; one with only ``object``
  has been through somebody's decoder, whose fields nobody here knows.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import Any

import msgspec

from firmware_bridge.codecs.instants import instant_of, iso_or_none
from firmware_bridge.codecs.json_body import decode_json
from firmware_bridge.codecs.lorawan import payload_format, read_payload
from firmware_bridge.codecs.messages import Message, uplinks_of
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import DeviceStatus, Uplink
from shared.errors import FrameError

_UP = "application/+/device/+/event/up"
_STATUS = "application/+/device/+/event/status"
_TOPIC_LEVELS = 6
#: The tag of a device, or of its profile, that names the format of its payload.
PAYLOAD_TAG = "payload"
_ABSENT = frozenset({b"", b"null"})
_EUI = re.compile(r"[0-9A-Fa-f]{16}")


class _DeviceInfo(msgspec.Struct, rename="camel"):
    dev_eui: str = ""
    device_name: str = ""
    device_profile_name: str = ""
    tags: dict[str, Any] | None = None


class _RxInfo(msgspec.Struct, rename="camel"):
    gateway_id: str = ""
    rssi: int = 0
    # A float that is not a number is a string in proto3 JSON.
    snr: float | str = 0.0


class _Event(msgspec.Struct, rename="camel"):
    deduplication_id: str = ""
    time: str = ""
    device_info: _DeviceInfo = msgspec.field(default_factory=_DeviceInfo)
    f_cnt: int = 0
    f_port: int = 0
    data: str | None = None
    # Left undecoded: it has any shape, and only its presence matters.
    object: msgspec.Raw = msgspec.Raw()
    rx_info: list[_RxInfo] = msgspec.field(default_factory=list)
    margin: int | None = None
    external_power_source: bool | None = None
    battery_level_unavailable: bool | None = None
    battery_level: float | None = None


_DECODER = msgspec.json.Decoder(_Event)


class ChirpStackCodec:
    """Read the uplink and status events of ChirpStack v4."""

    format = "chirpstack_v4"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per message inside; raises FrameError with the reason.

        Without a topic the fields tell the kind of event. ``port`` is not needed: the event names it.
        """
        event = decode_json(_DECODER, payload)
        device = "eui:" + _dev_eui(event, topic)
        if topic.endswith("/status") or (not topic and _has_status(event)):
            return [self._status(event, device)]
        return self._uplinks(event, device)

    def _uplinks(self, event: _Event, device: str) -> list[Uplink]:
        network_time = instant_of(event.time)
        best = max(event.rx_info, key=lambda rx: rx.rssi, default=None)
        snr_db = best.snr if best is not None and isinstance(best.snr, float) else None
        envelope: dict[str, Any] = {
            "deduplicationId": event.deduplication_id,
            "deviceName": event.device_info.device_name,
            "devEui": device.removeprefix("eui:"),
            "fCnt": event.f_cnt,
            "fPort": event.f_port,
            "network_time": iso_or_none(network_time),
            "gateways": len(event.rx_info),
        }
        messages = [message._replace(details={**message.details, "envelope": envelope}) for message in _messages(event)]
        return uplinks_of(
            messages,
            self.format,
            device=device,
            network_time=network_time,
            rssi_dbm=None if best is None else float(best.rssi),
            snr_db=snr_db,
            gateway=None if best is None else best.gateway_id or None,
        )

    def _status(self, event: _Event, device: str) -> Uplink:
        network_time = instant_of(event.time)
        has_level = not (event.external_power_source or event.battery_level_unavailable)
        battery_pct = (event.battery_level or 0.0) if has_level else None
        return Uplink(
            format=self.format,
            device=device,
            status=DeviceStatus(battery_pct=battery_pct),
            network_time=network_time,
            details={
                "message": "network_status",
                "margin": event.margin or 0,
                "externalPowerSource": bool(event.external_power_source),
                "batteryLevel": battery_pct,
                "deduplicationId": event.deduplication_id,
                "network_time": iso_or_none(network_time),
            },
        )


_CODEC = ChirpStackCodec()

ROUTES = (Route(_CODEC, "mqtt", _UP), Route(_CODEC, "mqtt", _STATUS))


def _messages(event: _Event) -> list[Message]:
    if event.data is None:
        if bytes(event.object) not in _ABSENT:
            raise FrameError("the uplink carries only a decoded object: switch the codec of its device profile off")
        return [Message(event.f_port or None, {"message": "network_commands"})]
    try:
        data = b64decode(event.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FrameError(f"the data is not base64: {error}") from error
    if not data:
        return [Message(event.f_port or None, {"message": "empty"})]
    info = event.device_info
    return read_payload(
        data, event.f_port or None, payload_format((info.tags or {}).get(PAYLOAD_TAG), [info.device_profile_name])
    )


def _dev_eui(event: _Event, topic: str) -> str:
    """Return the device's EUI in lower case; body and topic must agree where both name one."""
    levels = topic.split("/")
    named = {event.device_info.dev_eui.lower(), levels[3].lower() if len(levels) == _TOPIC_LEVELS else ""} - {""}
    if len(named) > 1:
        raise FrameError(f"topic and body name different devices: {' and '.join(sorted(named))}")
    eui = named.pop() if named else ""
    if _EUI.fullmatch(eui) is None:
        raise FrameError(f"the device EUI {eui!r} is not sixteen hex digits")
    return eui


def _has_status(event: _Event) -> bool:
    status = (event.margin, event.external_power_source, event.battery_level_unavailable, event.battery_level)
    return any(value is not None for value in status)
