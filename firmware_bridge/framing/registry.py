"""Framings by the name that a configuration file gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from firmware_bridge.frames import FrameDecoder
from firmware_bridge.framing.cobs import CobsDecoder
from firmware_bridge.framing.kiss import KissDecoder
from firmware_bridge.framing.mixed import MixedDecoder
from firmware_bridge.framing.nmea import NmeaDecoder
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
    }
)


def decoder_for(name: str) -> FrameDecoder:
    """Return a new decoder of the framing ``name``; raises ConfigError, with the names, for any other."""
    try:
        return DECODERS[name]()
    except KeyError:
        raise ConfigError(f"unknown framing {name!r}: choose one of {', '.join(DECODERS)}") from None
