"""The Things Stack v3: the JSON uplinks of a LoRaWAN network server, over MQTT.

::

    v3/{application}@{tenant}/devices/{device id}/up        the open-source server has no @tenant

Layout: TheThingsIndustries/lorawan-stack-docs, data formats. What it does to a reader:

- empty strings, zeros and false are absent, and times have nine decimals;
- ``uplink_message.received_at`` is when the network took the uplink in; ``settings.time`` is the gateway's clock, which
  may be anything and is not used. The first is ``network_time`` and never replaces the device's own;
- ``locations`` holds what somebody entered in a registry, or somebody's decoder found: never a fix;
- an uplink with ``simulated`` was typed in at the console. It is refused: no animal was there;
- every server that relays it publishes it again, and the device id is the network's word: the EUI is the device's name.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import Annotated, Any

import msgspec

from firmware_bridge.codecs.instants import instant_of, iso_or_none
from firmware_bridge.codecs.json_body import decode_json
from firmware_bridge.codecs.lorawan import payload_format, read_payload
from firmware_bridge.codecs.messages import Message, uplinks_of, with_details
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import Uplink
from shared.errors import FrameError

_UP = "v3/+/devices/+/up"
_TOPIC_LEVELS = 5
_EUI = re.compile(r"[0-9A-Fa-f]{16}")
#: Brand and model of the network's device repository. Makers have other formats for their other models.
_MODELS = {("digital-matter", "oyster"): "digital_matter_oyster"}


class _ApplicationIds(msgspec.Struct):
    application_id: str = ""


class _DeviceIds(msgspec.Struct):
    device_id: str = ""
    dev_eui: str = ""
    application_ids: _ApplicationIds = msgspec.field(default_factory=_ApplicationIds)


class _GatewayIds(msgspec.Struct):
    gateway_id: str = ""
    eui: str = ""


class _RxMetadata(msgspec.Struct):
    gateway_ids: _GatewayIds = msgspec.field(default_factory=_GatewayIds)
    rssi: float = 0.0
    snr: float | None = None


class _VersionIds(msgspec.Struct):
    brand_id: str = ""
    model_id: str = ""


class _UplinkMessage(msgspec.Struct):
    f_port: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    f_cnt: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] = 0
    frm_payload: str = ""
    rx_metadata: list[_RxMetadata] = msgspec.field(default_factory=list)
    received_at: str = ""
    version_ids: _VersionIds = msgspec.field(default_factory=_VersionIds)


class _Event(msgspec.Struct):
    end_device_ids: _DeviceIds = msgspec.field(default_factory=_DeviceIds)
    received_at: str = ""
    uplink_message: _UplinkMessage | None = None
    simulated: bool = False
    # Attributes that an owner gave the device, where the server passes them on.
    attributes: dict[str, Any] | None = None


_DECODER = msgspec.json.Decoder(_Event)


class TheThingsStackCodec:
    """Read the uplinks of The Things Stack v3."""

    format = "the_things_stack_v3"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per message inside; raises FrameError with the reason.

        ``port`` is not needed: the event names it.
        """
        event = decode_json(_DECODER, payload)
        if event.simulated:
            raise FrameError("the uplink is simulated: it was typed in at the network's console, no device sent it")
        if event.uplink_message is None:
            raise FrameError("this is no uplink: uplink_message is absent")
        uplink = event.uplink_message
        network_time = instant_of(uplink.received_at) or instant_of(event.received_at)
        best = max(uplink.rx_metadata, key=lambda rx: rx.rssi, default=None)
        eui = _dev_eui(event, topic)
        envelope: dict[str, Any] = {
            "devEui": eui,
            "deviceName": event.end_device_ids.device_id,
            "fCnt": uplink.f_cnt,
            "fPort": uplink.f_port,
            "network_time": iso_or_none(network_time),
            "gateways": len(uplink.rx_metadata),
        }
        return uplinks_of(
            with_details(_messages(event, uplink), {"envelope": envelope}),
            self.format,
            device="eui:" + eui,
            network_time=network_time,
            rssi_dbm=None if best is None else best.rssi,
            snr_db=None if best is None else best.snr,
            gateway=None if best is None else (best.gateway_ids.eui.lower() or best.gateway_ids.gateway_id or None),
        )


ROUTES = (Route(TheThingsStackCodec(), "mqtt", _UP),)


def _messages(event: _Event, uplink: _UplinkMessage) -> list[Message]:
    try:
        data = b64decode(uplink.frm_payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FrameError(f"frm_payload is not base64: {error}") from error
    port = uplink.f_port or None
    if not data:
        return [Message(port, {"message": "empty"})]
    model = uplink.version_ids.brand_id, uplink.version_ids.model_id
    names = [_MODELS.get(model, ""), event.end_device_ids.application_ids.application_id]
    return read_payload(data, port, payload_format((event.attributes or {}).get("payload"), names))


def _dev_eui(event: _Event, topic: str) -> str:
    """Return the device's EUI in lower case; body and topic must mean the same device where both name one."""
    ids = event.end_device_ids
    levels = topic.split("/")
    if len(levels) == _TOPIC_LEVELS and ids.device_id and ids.device_id != levels[3]:
        raise FrameError(f"topic and body name different devices: {levels[3]} and {ids.device_id}")
    if _EUI.fullmatch(ids.dev_eui) is None:
        raise FrameError(f"the device EUI {ids.dev_eui!r} is not sixteen hex digits")
    return ids.dev_eui.lower()
