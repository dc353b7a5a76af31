"""Framings by the name that a configuration file gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from firmware_bridge.frames import FrameDecoder
from firmware_bridge.framing.cobs import CobsDecoder
from firmware_bridge.framing.directip import DirectIpDecoder
from firmware_bridge.framing.kiss import Ax25Decoder, KissDecoder
from firmware_bridge.framing.lines import AprsDecoder, OffloadDecoder, RakDecoder, Rn2483Decoder, WaypointDecoder
from firmware_bridge.framing.meshtastic import MeshtasticDecoder
from firmware_bridge.framing.mixed import MixedDecoder
from firmware_bridge.framing.nmea import NmeaDecoder
from firmware_bridge.framing.rnode import RNodeDecoder
from firmware_bridge.framing.slip import SlipDecoder
from firmware_bridge.framing.ubx import NAV_PVT, UbxDecoder
from shared.errors import ConfigError

# A receiver that also reports satellites and noise every second would fill the ledger with what holds no position.
_POSITIONS = frozenset({NAV_PVT})

DECODERS: Mapping[str, Callable[[], FrameDecoder]] = MappingProxyType(
    {
        "cobs": CobsDecoder,
        "slip": SlipDecoder,
        "kiss": KissDecoder,
        "nmea": NmeaDecoder,
        "ubx": lambda: UbxDecoder(_POSITIONS),
        "mixed": lambda: MixedDecoder(_POSITIONS),
        "rnode": RNodeDecoder,
        "rak": RakDecoder,
        "rn2483": Rn2483Decoder,
        "lp0": OffloadDecoder,
        "meshtastic": MeshtasticDecoder,
        "wpl": WaypointDecoder,
        "ax25": Ax25Decoder,
        "aprs": AprsDecoder,
        "directip": DirectIpDecoder,
    }
)


def decoder_for(name: str) -> FrameDecoder:
    """Return a new decoder of the framing ``name``; raises ConfigError, with the names, for any other."""
    try:
        return DECODERS[name]()
    except KeyError:
        raise ConfigError(f"unknown framing {name!r}: choose one of {', '.join(DECODERS)}") from None
