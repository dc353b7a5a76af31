"""ChirpStack events, with the absent defaults of proto3 JSON."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest

from firmware_bridge.codecs.chirpstack import ChirpStackCodec
from firmware_bridge.codecs.opencollar import encode_flash_log
from firmware_bridge.frames import Uplink
from shared.errors import FrameError

EUI = "0a01010101010101"
UP = f"application/17c82e96/device/{EUI}/event/up"
STATUS = f"application/17c82e96/device/{EUI}/event/status"
SHORT = bytes.fromhex("930e00b95569c46694fe025641160600")
AT = datetime(2026, 1, 1, tzinfo=UTC)


def event(**fields: Any) -> bytes:
    body = {"deviceInfo": {"devEui": EUI}, "fPort": 13, "data": b64encode(SHORT).decode()} | fields
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def decode(payload: bytes, topic: str = UP) -> Uplink:
    (uplink,) = ChirpStackCodec().decode(payload, topic=topic)
    return uplink


def test_the_time_of_the_envelope_is_never_the_time_of_the_fix() -> None:
    uplink = decode(event(time="2026-01-08T09:34:15.775023242+02:00"))
    assert uplink.fixes[0].recorded_at == AT
    assert uplink.network_time == datetime(2026, 1, 8, 7, 34, 15, 775023, tzinfo=UTC)


@pytest.mark.parametrize("time", [None, "", "yesterday", "2026-01-08T09:34:15", "0001-01-01T00:00:00+14:00"])
def test_an_envelope_without_a_usable_time_costs_no_fix(time: str | None) -> None:
    uplink = decode(event(time=time))
    assert uplink.network_time is None
    assert len(uplink.fixes) == 1


def test_the_gateway_that_heard_best_speaks_for_all() -> None:
    heard = [
        {"gatewayId": "far", "rssi": -120, "snr": -9.5},
        {"gatewayId": "near", "rssi": -60},
        {"gatewayId": "middle", "rssi": -90, "snr": 5},
    ]
    uplink = decode(event(rxInfo=heard))
    # An absent value is its default: the nearest heard it at 0 dB.
    assert (uplink.gateway, uplink.rssi_dbm, uplink.snr_db) == ("near", -60.0, 0.0)


def test_a_signal_that_is_no_number_is_unknown() -> None:
    assert decode(event(rxInfo=[{"gatewayId": "g", "rssi": -60, "snr": "NaN"}])).snr_db is None
    assert decode(event()).rssi_dbm is None


def test_the_device_is_that_of_the_body_or_of_the_topic_in_lower_case() -> None:
    assert decode(event(deviceInfo={"devEui": EUI.upper()})).device == f"eui:{EUI}"
    assert decode(event(deviceInfo=None)).device == f"eui:{EUI}"
    assert decode(event(), topic="").device == f"eui:{EUI}"


def test_the_port_picks_the_message() -> None:
    log = b64encode(encode_flash_log([(13, SHORT, AT)])).decode()
    uplink = decode(event(fPort=29, data=log))
    assert uplink.port == 29
    assert uplink.fixes[0].recorded_at == AT


def test_somebodys_decoded_object_beside_the_data_changes_nothing() -> None:
    assert decode(event(object={"lat": 1, "deep": [{"x": None}]})) == decode(event())


def test_an_uplink_of_the_networks_own_holds_no_fix_and_is_no_error() -> None:
    uplink = decode(event(fPort=None, data=None))
    assert (uplink.fixes, uplink.status, uplink.device) == ((), None, f"eui:{EUI}")
    assert decode(event(data="")).fixes == ()
    assert decode(b'{"deviceInfo":{"devEui":"%b"},"object":null}' % EUI.encode()).fixes == ()


def test_a_status_gives_the_battery_in_percent() -> None:
    status = decode(event(fPort=None, data=None, margin=10, batteryLevel=73.5), STATUS).status
    assert status is not None
    assert (status.battery_pct, status.battery_mv) == (73.5, None)


def test_a_battery_at_zero_is_absent_from_the_event() -> None:
    status = decode(event(fPort=None, data=None, margin=10), STATUS).status
    assert status is not None
    assert status.battery_pct == 0.0


@pytest.mark.parametrize("field", ["externalPowerSource", "batteryLevelUnavailable"])
def test_a_battery_that_nobody_measured_is_unknown(field: str) -> None:
    status = decode(event(fPort=None, data=None, margin=10, **{field: True}), STATUS).status
    assert status is not None
    assert status.battery_pct is None


def test_without_a_topic_the_fields_tell_the_kind() -> None:
    assert decode(event(fPort=None, data=None, batteryLevel=50), topic="").status is not None
    assert decode(event(), topic="").fixes != ()


@pytest.mark.parametrize(
    ("payload", "topic", "reason"),
    [
        (event(data=None, object={"lat": 1}), UP, "only a decoded object"),
        (event(data="!!!"), UP, "not base64"),
        (event(data="ab"), UP, "not base64"),
        (event(fPort=30), UP, "port 30"),
        (event(deviceInfo=None), "", "EUI"),
        (event(deviceInfo={"devEui": "12"}), "", "EUI"),
        (event(deviceInfo={"devEui": "ffffffffffffffff"}), UP, "different devices"),
        (event(fPort="13"), UP, "fPort"),
        (b"[]", UP, "Expected `object`"),
        (b"\xff{}", UP, "UTF-8"),
        (b'{"x":' * 100_000, UP, "nested too deeply"),
    ],
)
def test_what_cannot_be_read_says_why(payload: bytes, topic: str, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        ChirpStackCodec().decode(payload, topic=topic)
