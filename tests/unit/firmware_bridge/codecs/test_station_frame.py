"""Our own serial frame, and the bare messages of links that add nothing."""

from __future__ import annotations

import pytest

from firmware_bridge.codecs.station_frame import StationFrameCodec, pack_station_frame
from shared.errors import FrameError

SHORT = bytes.fromhex("930e00b95569c46694fe025641160600")


def test_the_header_is_version_eui_port_rssi_and_snr_in_quarters() -> None:
    frame = pack_station_frame("0102030405060708", 13, -101, -6.25, SHORT)
    assert frame.hex() == "01" + "0102030405060708" + "0d" + "9b" + "e7" + SHORT.hex()
    assert frame == pack_station_frame(bytes(range(1, 9)), 13, -101, -6.25, SHORT)


def test_a_frame_names_its_device_and_how_it_was_heard() -> None:
    (uplink,) = StationFrameCodec().decode(pack_station_frame("AABBCCDDEEFF0001", 13, -101, -6.25, SHORT))
    assert (uplink.device, uplink.port) == ("eui:aabbccddeeff0001", 13)
    assert (uplink.rssi_dbm, uplink.snr_db) == (-101.0, -6.25)
    assert uplink.fixes[0].lat_deg == -2.3828796


def test_a_station_that_knows_no_port_sends_zero() -> None:
    (uplink,) = StationFrameCodec().decode(pack_station_frame(bytes(8), 0, -101, 0, SHORT))
    assert uplink.port == 13


def test_a_bare_message_is_of_the_links_own_device() -> None:
    (uplink,) = StationFrameCodec().decode(SHORT)
    assert (uplink.device, uplink.rssi_dbm, uplink.port) == ("", None, 13)


def test_strength_is_cut_to_what_a_byte_holds() -> None:
    (uplink,) = StationFrameCodec().decode(pack_station_frame(bytes(8), 13, -157, -99, SHORT))
    assert (uplink.rssi_dbm, uplink.snr_db) == (-128.0, -32.0)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b"\x01\x02", "too few for a station frame"),
        (pack_station_frame(bytes(8), 13, -1, 1, b""), "too few for an OpenCollar message"),
        (b"\x02" + bytes(30), "unknown OpenCollar message 02"),
    ],
)
def test_what_cannot_be_read_says_why(payload: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        StationFrameCodec().decode(payload)


@pytest.mark.parametrize(("eui", "port"), [("01", 1), (bytes(9), 1), (bytes(8), 256), ("zz", 1)])
def test_a_frame_needs_a_whole_eui_and_a_port(eui: str | bytes, port: int) -> None:
    with pytest.raises(ValueError, match=r"EUI|hexadecimal"):
        pack_station_frame(eui, port, 0, 0, b"")
