"""What is left of a LoRaWAN payload that is cut, empty or of another kind."""

from __future__ import annotations

import pytest

from firmware_bridge.codecs.registry import FORMATS
from firmware_bridge.frames import Uplink
from shared.errors import FrameError

PLACE = "01881706c0fa4b4c000000"


def decode(name: str, payload: str, port: int | None = None) -> Uplink:
    (uplink,) = FORMATS[name].decode(bytes.fromhex(payload), port=port)
    return uplink


@pytest.mark.parametrize("rest", ["02", "0267", "026701", "02880000"])
def test_a_value_that_was_cut_short_costs_only_itself(rest: str) -> None:
    uplink = decode("cayenne_lpp", PLACE + rest)
    assert len(uplink.fixes) == 1
    assert uplink.details["unread"]["hex"] == rest


def test_every_position_of_a_payload_is_a_fix_and_the_first_names_the_place() -> None:
    uplink = decode("cayenne_lpp", PLACE + PLACE.replace("0188", "0788", 1))
    assert len(uplink.fixes) == 2
    assert uplink.details["gps"] == uplink.details["ch1_gps"] == uplink.details["ch7_gps"]


def test_a_clock_that_nobody_set_is_known_by_its_time() -> None:
    assert decode("cayenne_lpp", "098500000010" + PLACE).fixes[0].is_clock_unset
    assert decode("opencollar_gen1", "7c9c6b9a8d2fa304911b0c2c000000000000", 1).fixes[0].is_clock_unset


@pytest.mark.parametrize(
    ("name", "payload", "port", "reason"),
    [
        ("cayenne_lpp", "", None, "no value"),
        ("cayenne_lpp", "0188", None, "cut short"),
        ("cayenne_lpp", "01", None, "no type"),
        ("digital_matter_oyster", "00" * 11, 7, "port 7"),
        ("digital_matter_oyster", "00" * 5, None, "port None"),
        ("opencollar_gen1", "00" * 17, 1, "18 bytes, not 17"),
        ("opencollar_gen1", "00" * 11, 11, "records of 10 bytes"),
        ("opencollar_gen1", "", 11, "records of 10 bytes"),
        ("opencollar_gen1", "00" * 25, 12, "26 bytes, not 25"),
        ("opencollar_gen1", "00", 3, "port 3"),
        ("opencollar_buffer", "", None, "empty"),
    ],
)
def test_what_no_device_sends_is_refused_with_the_reason(
    name: str, payload: str, port: int | None, reason: str
) -> None:
    with pytest.raises(FrameError, match=reason):
        decode(name, payload, port)


@pytest.mark.parametrize(("payload", "port"), [("81070c", 2), ("00" * 11, 3)])
def test_an_oysters_other_messages_hold_no_fix(payload: str, port: int) -> None:
    uplink = decode("digital_matter_oyster", payload, port)
    assert (uplink.fixes, uplink.details["raw"]) == ((), payload)


def test_a_first_generation_status_without_a_position_has_no_fix() -> None:
    uplink = decode("opencollar_gen1", "00" * 26, 12)
    assert uplink.fixes == ()
    assert uplink.status is not None
    assert uplink.status.battery_mv == 2500
