"""Iridium, Sigfox and the clouds of collar makers: the network's estimate is never a fix."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from typing import Any

import pytest

from firmware_bridge.codecs.opencollar import encode_flash_log, encode_short
from firmware_bridge.codecs.registry import FORMATS
from firmware_bridge.frames import Uplink
from firmware_bridge.framing.directip import HEADER, LOCATION, PAYLOAD, encode_directip
from shared.errors import FrameError

AT = datetime(2026, 1, 1, tzinfo=UTC)
T = 1_767_225_600
IMEI = b"300434061234560"
SHORT = encode_short(recorded_at=AT, lat_deg=-2.5, lon_deg=37.5, h_acc_m=6)
BUFFER = encode_flash_log([(13, SHORT, AT)])
NORTH_WEST = struct.pack(">BBHBHI", 0b1111_0001, 37, 30_000, 110, 45_000, 9)


def directip(payload: bytes | None, *, imei: bytes = IMEI, location: bytes = NORTH_WEST) -> Uplink:
    elements = {LOCATION: location, HEADER: struct.pack(">I15sBHHI", 7, imei, 0, 42, 0, T + 60)}
    if payload is not None:
        elements[PAYLOAD] = payload
    (uplink,) = FORMATS["iridium_directip"].decode(encode_directip(elements))
    return uplink


def rockblock(**fields: Any) -> Uplink:
    body = {"imei": IMEI.decode(), "data": BUFFER.hex(), "transmit_time": "26-01-01 00:01:00", **fields}
    (uplink,) = FORMATS["rockblock_http"].decode(json.dumps(body).encode())
    return uplink


def test_where_the_network_thinks_the_modem_is_stays_in_the_details() -> None:
    uplink = directip(None)
    assert uplink.fixes == ()
    # Reserved bits are no reason to refuse.
    assert (uplink.details["loc"], uplink.details["cep_km"]) == ([37.5, -110.75], 9)


def test_a_buffer_and_a_lone_message_are_both_read() -> None:
    for payload, inner in ((BUFFER, "opencollar buffer"), (SHORT, "opencollar message")):
        uplink = directip(payload)
        assert uplink.details["inner"] == inner
        assert [fix.recorded_at for fix in uplink.fixes] == [AT]
        assert uplink.network_time == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
        assert uplink.device == "imei:300434061234560"


def test_the_hook_gives_what_directip_gives() -> None:
    assert rockblock().fixes == directip(BUFFER).fixes
    assert rockblock().device == directip(BUFFER).device
    assert rockblock(iridium_latitude=-2.0, iridium_longitude="37.0", data="").fixes == ()


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("26-01-01 00:01:00", datetime(2026, 1, 1, 0, 1, tzinfo=UTC)),
        ("2026-01-01T00:01:00Z", datetime(2026, 1, 1, 0, 1, tzinfo=UTC)),
        ("26-13-01 00:01:00", None),
        ("", None),
    ],
)
def test_a_session_time_is_read_or_unknown_and_costs_no_fix(text: str, at: datetime | None) -> None:
    uplink = rockblock(transmit_time=text)
    assert uplink.network_time == at
    assert len(uplink.fixes) == 1


def test_an_imei_of_other_than_fifteen_digits_is_refused() -> None:
    with pytest.raises(FrameError, match="fifteen digits"):
        directip(None, imei=b"30043406123456x")
    with pytest.raises(FrameError, match="fifteen digits"):
        rockblock(imei="1")


def test_data_that_is_not_hex_is_refused() -> None:
    with pytest.raises(FrameError, match="hex digits"):
        rockblock(data="0")


def sigfox(**fields: Any) -> Uplink:
    body = {"deviceId": "0c0ffe", "time": T, "data": "802205e00237ab706071e200", **fields}
    (uplink,) = FORMATS["sigfox_rhino_v1"].decode(json.dumps(body).encode())
    return uplink


def test_sigfox_gives_no_device_time_and_its_estimate_no_fix() -> None:
    uplink = sigfox()
    assert (uplink.fixes[0].recorded_at, uplink.network_time) == (None, AT)
    assert sigfox(data="", computedLocation={"lat": 1.0, "lng": 2.0}).fixes == ()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"deviceId": "tracker"}, "hex digits"),
        ({"data": "80aed3"}, "has 12 bytes"),
        ({"data": "0098967f" + "0237ab706071e200"}, "no coordinate"),
        ({"data": ""}, "no data"),
        ({"data": "zz"}, "hex digits"),
        ({"time": -1}, "time"),
    ],
)
def test_a_callback_that_is_no_trackers_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        sigfox(**fields)


def cloud(name: str, body: Any) -> list[Uplink]:
    return FORMATS[name].decode(json.dumps(body).encode())


def test_a_makers_times_are_utc_and_late_ones_stay_in_order() -> None:
    rows = [
        {"idCollar": 5, "acquisitionTime": f"2026-01-01T0{hour}:00:00", "latitude": -2.5, "longitude": 37.5}
        for hour in (4, 2, 0)
    ]
    uplinks = cloud("vectronic_json", rows)
    times = [fix.recorded_at for uplink in uplinks for fix in uplink.fixes]
    assert times == [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in (4, 2, 0)]
    assert {uplink.device for uplink in uplinks} == {"vectronic:5"}


def test_lotek_s_zeros_are_a_failed_fix_and_its_voltage_needs_its_flag() -> None:
    row = {"DeviceID": "9001", "RecDateTime": "2026-01-01T00:00:00", "Latitude": 0.0, "Longitude": 0.0, "MainV": 3.6}
    (uplink,) = cloud("lotek_json", row | {"bHasTempVoltage": False, "Temperature": 20.0})
    assert (uplink.fixes[0].lat_deg, uplink.fixes[0].battery_mv, uplink.fixes[0].temperature_c) == (None, None, None)
    (uplink,) = cloud("lotek_json", row | {"Latitude": -2.5, "Longitude": 37.5})
    assert (uplink.fixes[0].lat_deg, uplink.fixes[0].battery_mv) == (-2.5, 3600)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("vectronic_json", []),
        ("vectronic_json", {"idCollar": 5, "acquisitionTime": "yesterday"}),
        ("vectronic_json", {"idCollar": "5 6", "acquisitionTime": "2026-01-01T00:00:00"}),
        ("lotek_json", {"DeviceID": 1}),
        ("lotek_json", {"DeviceID": 1, "RecDateTime": "2026-01-01T00:00:00", "Latitude": "-2"}),
    ],
)
def test_what_no_maker_sends_is_refused(name: str, body: Any) -> None:
    with pytest.raises(FrameError):
        cloud(name, body)
