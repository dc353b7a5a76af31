"""Framings by name."""

from __future__ import annotations

import pytest

from firmware_bridge.framing.registry import DECODERS, decoder_for
from firmware_bridge.framing.ubx import NAV_PVT, encode_ubx
from shared.errors import ConfigError


def test_every_framing_has_a_decoder_of_its_own() -> None:
    assert sorted(DECODERS) == ["cobs", "kiss", "mixed", "nmea", "slip", "ubx"]
    assert all(decoder_for(name) is not decoder_for(name) for name in DECODERS)


def test_an_unknown_framing_is_a_configuration_error_that_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'modbus'.*cobs, slip, kiss, nmea, ubx, mixed"):
        decoder_for("modbus")


@pytest.mark.parametrize("name", ["ubx", "mixed"])
def test_receivers_pass_on_positions_only(name: str) -> None:
    decoder = decoder_for(name)
    (frame,) = decoder.feed(encode_ubx(0x01, 0x35, bytes(20)) + encode_ubx(*NAV_PVT, bytes(92)))
    assert frame.payload[2:4] == bytes(NAV_PVT)
