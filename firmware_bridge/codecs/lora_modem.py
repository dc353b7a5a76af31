"""LoRa modems on a cable: RNode, RAK and RN2483, each with its own way to say what it heard and how.

The lines and frames themselves are found by ``framing.lines`` and ``framing.rnode``; ``lora_packet`` reads what is in
them. RSSI and SNR are the modem's; an RN2483 tells neither.
"""

from __future__ import annotations

import re

from firmware_bridge.codecs.lora_packet import read_packet
from firmware_bridge.codecs.messages import uplinks_of, with_details
from firmware_bridge.codecs.routes import Route
from firmware_bridge.frames import Uplink
from firmware_bridge.framing.rnode import Heard, decode_rnode
from shared.errors import FrameError

_HEX = rb"((?:[0-9A-Fa-f]{2}){1,255})\s*"
_RAK = re.compile(rb"\+EVT:RXP2P:(-?\d{1,3}):(-?\d{1,3}):" + _HEX)
_RN2483 = re.compile(rb"radio_rx +" + _HEX)


class RNodeCodec:
    """Read a packet as an RNode tells it: the KISS frames of its RSSI, its SNR and its data."""

    format = "rnode"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per message inside; raises FrameError with the reason."""
        return _uplinks(decode_rnode(payload), self.format)


class RakCodec:
    """Read a reception event of a RAK modem."""

    format = "rak_at"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per message inside; raises FrameError with the reason."""
        event = _RAK.fullmatch(payload)
        if event is None:
            raise FrameError("not a line +EVT:RXP2P:RSSI:SNR:HEX")
        return _uplinks(Heard(bytes.fromhex(event[3].decode()), float(event[1]), float(event[2])), self.format)


class Rn2483Codec:
    """Read a reception of an RN2483 modem."""

    format = "rn2483"

    def decode(self, payload: bytes, *, port: int | None = None, topic: str = "") -> list[Uplink]:
        """Return one uplink per message inside; raises FrameError with the reason."""
        reception = _RN2483.fullmatch(payload)
        if reception is None:
            raise FrameError("not a line radio_rx HEX")
        return _uplinks(Heard(bytes.fromhex(reception[1].decode())), self.format)


ROUTES = (Route(RNodeCodec(), "rnode"), Route(RakCodec(), "rak"), Route(Rn2483Codec(), "rn2483"))


def _uplinks(heard: Heard, format_name: str) -> list[Uplink]:
    device, messages = read_packet(heard.data)
    how = {"data": heard.data.hex(), "rssi_dbm": heard.rssi_dbm, "snr_db": heard.snr_db}
    return uplinks_of(
        with_details(messages, how), format_name, device=device, rssi_dbm=heard.rssi_dbm, snr_db=heard.snr_db
    )
