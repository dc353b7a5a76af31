"""What LoRa modems hand over, and what an offload station writes."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from datetime import UTC, datetime

import pytest

from firmware_bridge.codecs.lora_packet import PORT_PING, pack_lp0, read_packet
from firmware_bridge.codecs.opencollar import encode_flash_log, encode_short
from firmware_bridge.codecs.registry import FORMATS, decode_frame
from firmware_bridge.codecs.station_frame import pack_station_frame
from firmware_bridge.frames import Frame
from firmware_bridge.framing.rnode import encode_rnode
from shared.errors import FrameError

AT = datetime(2026, 1, 1, tzinfo=UTC)
SHORT = encode_short(recorded_at=AT, lat_deg=-2.5, lon_deg=37.5, h_acc_m=6)
LP0 = pack_lp0(0x0A0B0C0D, 13, SHORT)


def test_each_kind_of_packet_names_its_device_or_none() -> None:
    station = pack_station_frame("0101010101010101", 13, -90, 5, SHORT)
    devices = [read_packet(packet)[0] for packet in (SHORT, LP0, station)]
    assert devices == ["", "lp0:0a0b0c0d", "eui:0101010101010101"]


@pytest.mark.parametrize("framing", ["rak", "rn2483", "rnode"])
def test_a_collars_own_address_comes_through_every_modem(framing: str) -> None:
    wires = {
        "rak": b"+EVT:RXP2P:-94:-6:" + LP0.hex().encode(),
        "rn2483": b"radio_rx  " + LP0.hex().upper().encode(),
        "rnode": encode_rnode(LP0),
    }
    (uplink,) = decode_frame(Frame(framing, wires[framing]))  # type: ignore[arg-type]
    assert uplink.device == "lp0:0a0b0c0d"
    assert uplink.fixes[0].recorded_at == AT


def test_an_offload_of_the_flash_gives_each_fix_as_often_as_it_comes() -> None:
    log = encode_flash_log([(13, SHORT, AT), (13, SHORT, AT)])
    line = {"gatewayEui": "00", "rxpk": {"data": b64encode(pack_lp0(1, 29, log)).decode(), "time": "?"}}
    (uplink,) = FORMATS["opencollar_lp0"].decode(json.dumps(line).encode())
    assert len(uplink.fixes) == 2
    assert (uplink.details["unique_fixes"], uplink.port, uplink.network_time) == (1, 29, None)


def test_a_ping_of_a_collar_without_a_position_has_no_fix() -> None:
    empty = pack_lp0(1, PORT_PING, struct.pack("<BBIii", 3, 14, 0, 0, 0))
    _, (message,) = read_packet(empty)
    assert (message.fixes, message.details["quality"]) == ((), "no_fix")
    _, (control,) = read_packet(pack_lp0(1, PORT_PING, b"\x04\x00"))
    assert control.details["message"] == "lp0_control"


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", "empty"),
        (LP0[:5], "header of eight bytes"),
        (LP0[:-1], "says 16 bytes and there are 15"),
        (b"\x40" + bytes(20), "LoRaWAN frame"),
        (b"\x01\x02", "too few for a station frame"),
        (b"\x77\x00", "unknown OpenCollar message"),
    ],
)
def test_a_packet_that_nobody_reads_is_refused_with_the_reason(packet: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        read_packet(packet)


@pytest.mark.parametrize(
    "line", [b"{}", b'{"gatewayEui":"","rxpk":{"data":"*"}}', b'{"gatewayEui":"","rxpk":{"data":"","rssi":1e9}}']
)
def test_a_line_that_is_not_an_offload_stations_is_refused(line: bytes) -> None:
    with pytest.raises(FrameError):
        FORMATS["opencollar_lp0"].decode(line)
