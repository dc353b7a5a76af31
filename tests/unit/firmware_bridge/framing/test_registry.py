"""Framings by name."""

from __future__ import annotations

import pytest

from firmware_bridge.codecs.registry import ROUTES
from firmware_bridge.framing.registry import DECODERS, decoder_for
from firmware_bridge.framing.ubx import NAV_PVT, encode_ubx
from shared.errors import ConfigError


def test_every_framing_has_a_decoder_of_its_own() -> None:
    assert sorted(DECODERS) == [
        "aprs", "ax25", "cobs", "directip", "kiss", "lp0", "meshtastic", "mixed", "nmea", "rak", "rn2483", "rnode",
        "slip", "ubx", "wpl",
    ]  # fmt: skip
    assert all(decoder_for(name) is not decoder_for(name) for name in DECODERS)


def test_an_unknown_framing_is_a_configuration_error_that_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'modbus'.*cobs, slip, kiss, nmea, ubx, mixed, rnode, rak"):
        decoder_for("modbus")


@pytest.mark.parametrize("name", ["ubx", "mixed"])
def test_receivers_pass_on_positions_only(name: str) -> None:
    decoder = decoder_for(name)
    (frame,) = decoder.feed(encode_ubx(0x01, 0x35, bytes(20)) + encode_ubx(*NAV_PVT, bytes(92)))
    assert frame.payload[2:4] == bytes(NAV_PVT)


def test_every_framing_of_a_wire_has_a_codec_and_every_serial_codec_a_framing() -> None:
    of_wires = {name for name in DECODERS if name != "mixed"}
    assert {route.framing for route in ROUTES if route.framing} - {"mqtt", "rockblock"} == of_wires
