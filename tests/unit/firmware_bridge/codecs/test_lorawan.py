"""Which payload a LoRaWAN device sends is named, never guessed; and The Things Stack's envelope."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest

from firmware_bridge.codecs.chirpstack import ChirpStackCodec
from firmware_bridge.codecs.lorawan import READERS, payload_format
from firmware_bridge.codecs.registry import FORMATS
from firmware_bridge.codecs.the_things_stack import TheThingsStackCodec
from firmware_bridge.frames import Uplink
from shared.errors import FrameError

EUI = "0004a30b001c0530"
TOPIC = "v3/collars@ttn/devices/oc-0042/up"
SHORT = bytes.fromhex("930e00b95569c46694fe025641160600")
#: An Oyster's position and, read as Cayenne LPP, one in another hemisphere.
ELEVEN = bytes.fromhex("0188ff9e5805b8d801cfac")


def up(payload: bytes, port: int = 13, *, ids: dict[str, Any] | None = None, **uplink: Any) -> bytes:
    return json.dumps(
        {
            "end_device_ids": {"device_id": "oc-0042", "dev_eui": EUI.upper(), **(ids or {})},
            "received_at": "2026-01-01T00:00:33Z",
            "uplink_message": {
                "f_port": port,
                "frm_payload": b64encode(payload).decode(),
                "received_at": "2026-01-01T00:00:32.5Z",
                "settings": {"time": "2031-01-01T00:00:00Z"},
                **uplink,
            },
        }
    ).encode()


def decode(body: bytes, topic: str = TOPIC) -> Uplink:
    (uplink,) = TheThingsStackCodec().decode(body, topic=topic)
    return uplink


def test_every_payload_that_can_be_named_is_a_format() -> None:
    assert set(READERS) <= set(FORMATS)


@pytest.mark.parametrize(
    ("tag", "names", "format_name"),
    [
        (None, [], "opencollar"),
        ("", ["My collars"], "opencollar"),
        (None, ["Cayenne LPP"], "cayenne_lpp"),
        (None, ["something", "digital-matter-oyster"], "digital_matter_oyster"),
        ("OpenCollar-Gen1", ["cayenne_lpp"], "opencollar_gen1"),
    ],
)
def test_a_tag_outranks_a_profile_and_opencollar_is_what_is_left(
    tag: str | None, names: list[str], format_name: str
) -> None:
    assert payload_format(tag, names) == format_name


@pytest.mark.parametrize("tag", ["morse", 5, ["cayenne_lpp"]])
def test_a_tag_that_names_no_format_is_refused_with_the_names(tag: object) -> None:
    with pytest.raises(FrameError, match=r"names the payload .*cayenne_lpp"):
        payload_format(tag, ["opencollar"])


@pytest.mark.parametrize("tags", [None, {"subject": 5}])
def test_what_else_a_device_is_tagged_with_costs_no_uplink(tags: object) -> None:
    body = {"deviceInfo": {"devEui": EUI, "tags": tags}, "fPort": 13, "data": b64encode(SHORT).decode()}
    (uplink,) = ChirpStackCodec().decode(json.dumps(body).encode())
    assert len(uplink.fixes) == 1


def test_bytes_that_two_formats_can_read_are_read_by_the_named_one_only() -> None:
    body = {"deviceInfo": {"devEui": EUI}, "fPort": 1, "data": b64encode(ELEVEN).decode()}
    with pytest.raises(FrameError, match="port 1"):
        ChirpStackCodec().decode(json.dumps(body).encode())
    found = []
    for name in ("cayenne_lpp", "digital_matter_oyster"):
        body["deviceInfo"] = {"devEui": EUI, "tags": {"payload": name}}
        (uplink,) = ChirpStackCodec().decode(json.dumps(body).encode())
        found.append(uplink.fixes[0].lat_deg)
    assert found[0] == -2.5
    assert found[1] is None or abs(found[1] + 2.5) > 1


def test_the_networks_own_clock_is_the_network_time_and_the_gateways_is_not() -> None:
    uplink = decode(up(SHORT))
    assert uplink.network_time == datetime(2026, 1, 1, 0, 0, 32, 500_000, tzinfo=UTC)
    assert uplink.fixes[0].recorded_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert uplink.device == f"eui:{EUI}"


def test_absent_defaults_are_defaults() -> None:
    body = json.loads(up(SHORT))
    del body["received_at"], body["uplink_message"]["received_at"]
    body["uplink_message"]["rx_metadata"] = [{"gateway_ids": {"gateway_id": "gtw1"}}]
    uplink = decode(json.dumps(body).encode())
    assert (uplink.network_time, uplink.gateway, uplink.rssi_dbm, uplink.snr_db) == (None, "gtw1", 0.0, None)


def test_a_registered_place_is_never_a_fix() -> None:
    uplink = decode(up(b"", locations={"user": {"latitude": 37.9, "longitude": 23.7}}))
    assert uplink.fixes == ()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (up(SHORT)[:-1] + b',"simulated":true}', "simulated"),
        (b'{"end_device_ids":{}}', "no uplink"),
        (up(SHORT, ids={"dev_eui": "12"}), "sixteen hex digits"),
        (up(SHORT, ids={"device_id": "another"}), "different devices"),
        (up(SHORT, frm_payload="*"), "base64"),
        (up(SHORT, port=300), "255"),
    ],
)
def test_what_no_animal_sent_or_nobody_can_place_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        decode(body)


def test_a_device_may_carry_its_payloads_name_as_an_attribute() -> None:
    body = json.loads(up(ELEVEN, port=1))
    body["attributes"] = {"payload": "cayenne_lpp"}
    assert decode(json.dumps(body).encode()).fixes[0].lat_deg == -2.5
