"""OpenCollar's offload: a collar that passes an offload station sends its whole flash memory, again on every visit.

The station writes a line of JSON for each packet, to its memory card and from there to whoever reads it::

    {"gatewayEui": "...", "rxpk": {"time": "2026-01-01T00:00:00Z", "rssi": -90, "lsnr": 5, "data": "BASE64", ...}}

``data`` is the packet as the radio heard it: see ``lora_packet``. ``time`` is the offload station's clock. Nothing is
confirmed to the collar yet, so thousands of fixes come that are stored already; storing twice is storing once.

Layout: SmartParksOrg/smartparks-opencollar-edge-fw-public, app/src/lp0/lp0_offload; facts of the wire only.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Annotated

import msgspec

from firmware_bridge.codecs.instants import instant_of
from firmware_bridge.codecs.json_body import decode_json
from firmware_bridge.codecs.lora_packet import LP0_SYNC, read_packet
from firmware_bridge.codecs.messages import uplinks_of
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import Uplink
from shared.errors import FrameError


class _Packet(msgspec.Struct):
    data: str
    time: str = ""
    rssi: Annotated[float, msgspec.Meta(ge=-200, le=50)] | None = None
    lsnr: Annotated[float, msgspec.Meta(ge=-100, le=100)] | None = None


class _Line(msgspec.Struct):
    gatewayEui: str  # noqa: N815  the station's own name for it
    rxpk: _Packet


_DECODER = msgspec.json.Decoder(_Line)


class OpenCollarLp0Codec:
    """Read a line of an offload station, or an LP0 packet by itself."""

    format = "opencollar_lp0"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per message inside; raises FrameError with the reason."""
        if payload.startswith(LP0_SYNC):
            device, messages = read_packet(payload)
            return uplinks_of(messages, self.format, device=device)
        line = decode_json(_DECODER, payload)
        try:
            data = b64decode(line.rxpk.data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise FrameError(f"the data is not base64: {error}") from error
        device, messages = read_packet(data)
        return uplinks_of(
            messages,
            self.format,
            device=device,
            network_time=instant_of(line.rxpk.time),
            rssi_dbm=line.rxpk.rssi,
            snr_db=line.rxpk.lsnr,
            gateway=line.gatewayEui.lower() or None,
        )


ROUTES = (Route(OpenCollarLp0Codec(), "lp0"),)
