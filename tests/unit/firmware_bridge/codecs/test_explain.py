"""What ``decode`` prints: plain facts, for payloads as for framings and checksums."""

from __future__ import annotations

from typing import Any

import pytest

from firmware_bridge.codecs.explain import explain, formats
from firmware_bridge.framing.cobs import encode_frame
from shared.errors import FrameError

LONG = bytes.fromhex("f21e0100011b00c46694fe02564116b81c1200030906000100b9556900000000")
NO_FIX = bytes.fromhex("f21e00030ac8000000000000000000000000000000000063f76bbe5f00000000")


def details(name: str, data: bytes | str | dict[str, Any], port: int | None = None) -> dict[str, Any]:
    found = explain(name, data=data, port=port)["details"]
    assert isinstance(found, dict)
    return found


def test_a_fix_is_told_with_its_time_in_words() -> None:
    facts: dict[str, Any] = explain("opencollar", data=LONG, port=2)
    assert (facts["format"], facts["device"], facts["port"], facts["status"]) == ("opencollar", "", 2, None)
    (fix,) = facts["fixes"]
    assert (fix["recorded_at"], fix["lat_deg"], fix["store_as"]) == ("2026-01-01T00:00:00Z", -2.3828796, "fix")
    assert (facts["details"]["ttf_s"], facts["details"]["siv"]) == (27, 9)


def test_a_failed_fix_is_told_as_an_event() -> None:
    facts: dict[str, Any] = explain("opencollar", data=NO_FIX, port=2)
    (fix,) = facts["fixes"]
    assert (fix["lat_deg"], fix["is_clock_unset"]) == (None, True)
    assert fix["store_as"] == "failed_fix_event_without_geometry"
    assert facts["details"]["clock"] == "never_synced"


def test_several_messages_are_told_one_by_one() -> None:
    facts: dict[str, Any] = explain("opencollar", data=LONG + NO_FIX)
    assert [message["details"]["success"] for message in facts["messages"]] == [1, 0]


def test_a_status_is_told() -> None:
    facts: dict[str, Any] = explain("opencollar", data=bytes.fromhex("f40e00207301a70580808a1872110000"), port=4)
    assert facts["status"]["errors"] == ["ublox_fix"]
    assert facts["details"]["err_ublox_fix"] == 1


def test_cobs_goes_both_ways() -> None:
    assert details("cobs", {"raw": "11220033"}) == {
        "raw": "11220033",
        "encoded": "0311220233",
        "decoded": "11220033",
    }
    wire = details("cobs", encode_frame(b"abc"))
    assert (wire["payload"], wire["crc_ok"]) == (b"abc".hex(), True)
    assert details("cobs", b"\x03\x11\x22\x02\x33")["crc_ok"] is False


def test_slip_goes_both_ways() -> None:
    assert details("slip", {"raw": "c0db"})["encoded"] == "c0dbdcdbddc0"
    assert details("slip", bytes.fromhex("c0dbdcdbddc0"))["decoded"] == "c0db"


def test_kiss_tells_port_command_and_data() -> None:
    assert details("kiss", bytes.fromhex("c023dbdcdbddc0")) == {"data": "c0db", "port": 2, "cmd": 3}


def test_a_checksum_is_told_in_every_variant() -> None:
    for data in ({"check_input": "123456789"}, "123456789", b"123456789"):
        assert details("crc16", data)["CCITT_FALSE"] == "29b1"


def test_text_formats_take_text_and_objects() -> None:
    sentence = "$GNRMC,000000.00,A,0222.972776,S,03720.283660,E,1.4,123.4,010126,,,A,V*25"
    assert details("nmea0183", sentence)["sog_kn"] == 1.4
    fix = {"collar_id": "C", "recorded_at": "2026-01-01T00:00:00Z", "lon_deg": 1, "lat_deg": 2}
    assert explain("outpost_json", data=fix)["device"] == "collar:C"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("modbus", b"", "unknown format 'modbus'.*opencollar"),
        ("opencollar", "f21e", "hex digits"),
        ("opencollar", {}, "not a JSON object"),
        ("cobs", {"raw": "0"}, "not hex"),
        ("cobs", {}, "raw"),
        ("cobs", b"\x05\x11", "not COBS"),
        ("slip", b"\xc0a\xc0b\xc0", "2 frames"),
        ("kiss", b"\xc0\xc0", "command byte"),
        ("kiss", {}, "hex digits"),
        ("crc16", {}, "check_input"),
        ("nmea0183", {}, "not an RMC"),
        ("nmea0183", "\ud800", "half a character"),
        ("outpost_json", {"collar_id": "\ud800"}, "JSON object"),
        ("outpost_station_frame", b"", "empty"),
    ],
)
def test_what_cannot_be_told_says_why(name: str, data: bytes | str | dict[str, Any], reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        explain(name, data=data)


def test_the_names_are_listed() -> None:
    assert {"opencollar", "crc16", "cobs", "slip", "kiss", "chirpstack_v4"} <= set(formats())
