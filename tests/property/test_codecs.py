"""Laws of the codecs: what an encoder wrote is read back, a cut costs only what it cut, and nothing but FrameError."""

from __future__ import annotations

import os
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from firmware_bridge.codecs import opencollar
from firmware_bridge.codecs.explain import explain, formats
from firmware_bridge.codecs.opencollar import FlashRecord
from firmware_bridge.codecs.outpost_json import encode_fix
from firmware_bridge.codecs.registry import FORMATS, decode_frame
from firmware_bridge.codecs.station_frame import pack_station_frame
from firmware_bridge.frames import DecodedFix, Frame, Uplink
from firmware_bridge.framing.nmea import encode_sentence
from firmware_bridge.framing.ubx import encode_ubx
from shared.errors import FrameError

NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))

UP = "application/a/device/0101010101010101/event/up"
MESH = "msh/EU_868/2/json/LongFast/!7efeee00"
TOPICS = [
    "", UP, UP.replace("/up", "/status"), "outpost/s/g/fix", "outpost/s", "/", "v3/a@t/devices/d/up", MESH,
    MESH.replace("/json/", "/e/"),
]  # fmt: skip
OPENCOLLAR = FORMATS["opencollar"]


def examples(n: int) -> settings:
    return settings(max_examples=n * 10 if NIGHTLY else n, deadline=None, derandomize=True, database=None)


instants = st.integers(0, 2**32 - 1).map(lambda unix_s: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=unix_s))
any_instants = st.integers(-62_135_000_000, 253_402_000_000).map(
    lambda unix_s: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=unix_s, microseconds=unix_s % 1_000_000)
)
lat_e7 = st.integers(-900_000_000, 900_000_000)
lon_e7 = st.integers(-1_800_000_000, 1_800_000_000)


@st.composite
def messages(draw: st.DrawFn) -> tuple[int, bytes]:
    """Return the port and bytes of a message that can be read."""
    at, lat_deg, lon_deg = draw(instants), draw(lat_e7) / 1e7, draw(lon_e7) / 1e7
    kind = draw(st.sampled_from([2, 4, 13, 16, 18, 31]))
    if kind == opencollar.PORT_LONG:
        is_success = draw(st.booleans())
        return kind, opencollar.encode_long(
            recorded_at=at,
            lat_deg=lat_deg,
            lon_deg=lon_deg,
            alt_m=draw(st.integers(-500, 9000)),
            is_success=is_success,
            heading_deg=draw(st.none() | st.floats(0, 359)),
        )
    if kind == opencollar.PORT_STATUS:
        return kind, opencollar.encode_status(
            battery_mv=draw(st.integers(2500, 5050)), temperature_c=draw(st.floats(-100, 100))
        )
    if kind == opencollar.PORT_SHORT:
        return kind, opencollar.encode_short(recorded_at=at, lat_deg=lat_deg, lon_deg=lon_deg)
    if kind == opencollar.PORT_RESEND:
        return kind, opencollar.encode_resend(recorded_at=at, lat_deg=lat_deg, lon_deg=lon_deg)
    if kind == opencollar.PORT_DEVICE_TIME:
        return kind, opencollar.encode_device_time(at)
    return kind, opencollar.encode_last_position(recorded_at=at, lat_deg=lat_deg, lon_deg=lon_deg)


records = st.tuples(messages(), instants).map(lambda drawn: FlashRecord(*drawn[0], drawn[1]))


def only_fix(uplinks: list[Uplink]) -> DecodedFix:
    ((fix,),) = [uplink.fixes for uplink in uplinks]
    return fix


@examples(100)
@given(at=instants, lat=lat_e7, lon=lon_e7, alt_mm=st.integers(-(2**31), 2**31 - 1), h_acc_m=st.integers(0, 65535))
def test_a_long_message_is_read_back(at: datetime, lat: int, lon: int, alt_mm: int, h_acc_m: int) -> None:
    wire = opencollar.encode_long(
        recorded_at=at, lat_deg=lat / 1e7, lon_deg=lon / 1e7, alt_m=alt_mm / 1000, h_acc_m=h_acc_m, sats=9, pdop=2
    )
    fix = only_fix(OPENCOLLAR.decode(wire, port=2))
    assert (fix.recorded_at, fix.lat_deg, fix.lon_deg) == (at, lat / 1e7, lon / 1e7)
    assert (fix.alt_m, fix.h_acc_m, fix.sats, fix.pdop) == (alt_mm / 1000, h_acc_m, 9, 2.0)
    assert (fix.speed_mps, fix.heading_deg) == (None, None)


@examples(60)
@given(at=instants, lat=lat_e7, lon=lon_e7, cog=st.integers(0, 35_999), speed_mps=st.integers(0, 255))
@example(at=datetime(2026, 1, 1, tzinfo=UTC), lat=0, lon=0, cog=18_000, speed_mps=0)
def test_course_and_speed_of_active_tracking_are_read_back(
    at: datetime, lat: int, lon: int, cog: int, speed_mps: int
) -> None:
    wire = opencollar.encode_long(
        recorded_at=at, lat_deg=lat / 1e7, lon_deg=lon / 1e7, heading_deg=cog / 100, speed_mps=speed_mps
    )
    fix = only_fix(OPENCOLLAR.decode(wire))
    assert fix.heading_deg == pytest.approx(cog / 100, abs=1e-9)
    assert fix.speed_mps == speed_mps


@examples(60)
@given(at=instants, lat=lat_e7, lon=lon_e7, h_acc_m=st.integers(0, 65535), is_resend=st.booleans())
def test_short_and_resent_messages_are_read_back(
    at: datetime, lat: int, lon: int, h_acc_m: int, is_resend: bool
) -> None:
    encode = opencollar.encode_resend if is_resend else opencollar.encode_short
    wire = encode(recorded_at=at, lat_deg=lat / 1e7, lon_deg=lon / 1e7, h_acc_m=h_acc_m)
    (uplink,) = OPENCOLLAR.decode(wire, port=16 if is_resend else 13)
    fix = only_fix([uplink])
    assert (fix.recorded_at, fix.lat_deg, fix.lon_deg, fix.h_acc_m) == (at, lat / 1e7, lon / 1e7, h_acc_m)
    assert uplink.port == (16 if is_resend else 13)


@examples(60)
@given(battery_mv=st.integers(2500, 5050), temperature_c=st.floats(-100, 100), bits=st.integers(0, 127))
def test_a_status_is_read_back_within_its_resolution(battery_mv: int, temperature_c: float, bits: int) -> None:
    errors = tuple(name for i, name in enumerate(opencollar.ERROR_NAMES) if bits >> i & 1)
    wire = opencollar.encode_status(battery_mv=battery_mv, temperature_c=temperature_c, errors=errors)
    (uplink,) = OPENCOLLAR.decode(wire)
    assert uplink.status is not None
    assert uplink.status.battery_mv == pytest.approx(battery_mv, abs=5)
    assert uplink.status.temperature_c == pytest.approx(temperature_c, abs=0.4)
    assert uplink.status.errors == errors


@examples(60)
@given(sent=st.lists(records, min_size=1, max_size=8), cut=st.integers(0, 10_000), tail=st.binary(max_size=3))
def test_a_flash_log_gives_every_record_that_is_whole(sent: list[FlashRecord], cut: int, tail: bytes) -> None:
    wire = opencollar.encode_flash_log(sent)
    stop = cut % (len(wire) + 1)
    ends = [len(opencollar.encode_flash_log(sent[: i + 1])) for i in range(len(sent))]
    whole = [record for record, end in zip(sent, ends, strict=True) if end <= stop]
    cut_log = wire[:stop] + (tail if stop == len(wire) else b"")
    if not whole:
        with pytest.raises(FrameError):
            OPENCOLLAR.decode(cut_log, port=29)
        return
    (uplink,) = OPENCOLLAR.decode(cut_log, port=29)
    assert [record["port"] for record in uplink.details["records"]] == [record.port for record in whole]
    alone = [fix for r in whole for u in OPENCOLLAR.decode(r.message, port=r.port) for fix in u.fixes]
    assert list(uplink.fixes) == alone
    is_clean = len(cut_log) == len(opencollar.encode_flash_log(whole))
    assert bool(uplink.details["unread"]) is not is_clean


@examples(40)
@given(sent=st.lists(records, min_size=2, max_size=5), victim=st.integers(0, 100))
def test_an_unknown_record_in_a_flash_log_costs_only_itself(sent: list[FlashRecord], victim: int) -> None:
    i = victim % len(sent)
    unknown = sent[i]._replace(message=bytes((0xF6, len(sent[i].message) - 2)) + sent[i].message[2:])
    (uplink,) = OPENCOLLAR.decode(opencollar.encode_flash_log([*sent[:i], unknown, *sent[i + 1 :]]), port=29)
    assert len(uplink.details["records"]) == len(sent) - 1
    assert len(uplink.details["unread"]) == 1


@examples(60)
@given(
    message=messages(),
    eui=st.binary(min_size=8, max_size=8),
    rssi_dbm=st.integers(-128, 127),
    quarters=st.integers(-128, 127),
)
def test_a_station_frame_adds_only_how_it_was_heard(
    message: tuple[int, bytes], eui: bytes, rssi_dbm: int, quarters: int
) -> None:
    port, body = message
    wire = pack_station_frame(eui, port, rssi_dbm, quarters / 4, body)
    (uplink,) = decode_frame(Frame("cobs", wire))
    (bare,) = decode_frame(Frame("cobs", body))
    assert (uplink.device, uplink.rssi_dbm, uplink.snr_db) == (f"eui:{eui.hex()}", rssi_dbm, quarters / 4)
    assert (uplink.port, uplink.fixes, uplink.status) == (bare.port, bare.fixes, bare.status)
    assert bare.device == ""


@examples(60)
@given(message=messages(), bits=st.integers(0, 10_000), is_cut=st.booleans())
def test_damage_that_no_checksum_caught_is_a_value_or_a_frame_error(
    message: tuple[int, bytes], bits: int, is_cut: bool
) -> None:
    port, body = message
    wire = bytearray(pack_station_frame(bytes(8), port, -100, 5, body))
    if is_cut:
        del wire[bits % len(wire) :]
    else:
        wire[bits // 8 % len(wire)] ^= 1 << bits % 8
    assert is_value_or_frame_error("outpost_station_frame", bytes(wire))


@examples(60)
@given(
    collar_id=st.text("abcXYZ019._:-", min_size=1, max_size=64),
    at=any_instants,
    position=st.none() | st.tuples(st.floats(-180, 180), st.floats(-90, 90)),
    seq=st.none() | st.integers(0, 2**63 - 1),
    heading_deg=st.none() | st.floats(0, 359.9),
)
def test_a_json_fix_is_read_back(
    collar_id: str,
    at: datetime,
    position: tuple[float, float] | None,
    seq: int | None,
    heading_deg: float | None,
) -> None:
    lon_deg, lat_deg = position or (None, None)
    body = encode_fix(
        collar_id=collar_id, recorded_at=at, lon_deg=lon_deg, lat_deg=lat_deg, seq=seq, heading_deg=heading_deg
    )
    (uplink,) = decode_frame(Frame("mqtt", body, "outpost/s/g/fix"))
    fix = only_fix([uplink])
    assert (uplink.device, uplink.receipt_topic) == (f"collar:{collar_id}", "outpost/s/g/ack")
    assert (fix.recorded_at, fix.lon_deg, fix.lat_deg, fix.seq) == (at, lon_deg, lat_deg, seq)
    assert fix.heading_deg == heading_deg


def is_value_or_frame_error(name: str, payload: bytes, port: int | None = None, topic: str = "") -> bool:
    """Decode; anything but uplinks or a FrameError with a reason fails the test by itself."""
    try:
        uplinks = FORMATS[name].decode(payload, port=port, topic=topic)
    except FrameError as error:
        return bool(error.detail)
    msgspec.json.encode([uplink.details for uplink in uplinks])
    return all(isinstance(uplink, Uplink) for uplink in uplinks)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    "time", "deviceInfo", "devEui", "fPort", "data", "object", "rxInfo", "rssi", "snr", "gatewayId", "margin",
    "batteryLevel", "externalPowerSource", "collar_id", "recorded_at", "lon_deg", "lat_deg", "seq", "alt_m", "fCnt",
    "end_device_ids", "uplink_message", "simulated", "from", "type", "payload", "timestamp", "imei", "transmit_time",
    "deviceId", "computedLocation", "idCollar", "acquisitionTime", "latitude", "longitude", "DeviceID", "RecDateTime",
    "manufacturer_id", "location", "source", "tag_id", "gatewayEui", "rxpk",
]  # fmt: skip
objects = st.dictionaries(
    st.sampled_from(KEYS),
    json_values
    | st.sampled_from(["0101010101010101", "2026-01-01T00:00:00Z", b64encode(b"\xf4\x0e" + bytes(14)).decode()])
    | st.just({"devEui": "0101010101010101"}),
)


@pytest.mark.parametrize("name", sorted(FORMATS))
@examples(60)
@given(
    payload=st.binary(max_size=120),
    port=st.none() | st.sampled_from([0, 1, 2, 4, 13, 16, 18, 29, 31, 255, -1]),
    topic=st.sampled_from(TOPICS),
)
@example(payload=b"[" * 100_000, port=None, topic="")
@example(payload=b'{"object":' + b"[" * 100_000, port=None, topic=UP)
@example(payload=b'{"collar_id":"\xff"}', port=None, topic="")
@example(payload=b'{"x":"\\ud800"}', port=None, topic="")
@example(
    payload=b'{"collar_id":"a","recorded_at":"0001-01-01T00:00:00+14:00","lon_deg":0,"lat_deg":0}', port=None, topic=""
)
def test_random_bytes_are_a_value_or_a_frame_error(name: str, payload: bytes, port: int | None, topic: str) -> None:
    assert is_value_or_frame_error(name, payload, port, topic)


JSON_FORMATS = [
    "chirpstack_v4", "outpost_json", "the_things_stack_v3", "meshtastic_mqtt", "rockblock_http", "sigfox_rhino_v1",
    "vectronic_json", "lotek_json", "earthranger", "gundi_v2", "movebank_live_feed", "opencollar_lp0",
]  # fmt: skip


@pytest.mark.parametrize("name", JSON_FORMATS)
@examples(60)
@given(body=objects, topic=st.sampled_from(TOPICS))
def test_random_json_is_a_value_or_a_frame_error(name: str, body: dict[str, Any], topic: str) -> None:
    assert is_value_or_frame_error(name, msgspec.json.encode(body), topic=topic)


FIELDS = [
    "", "A", "V", "N", "S", "E", "W", "M", "AN", "000000.00", "235960.00", "0222.972776", "9999.9", "-1.5", "010126",
    "320126", "1e400", "nan", "inf", "-inf", "1_0", "0", "1", "99",
]  # fmt: skip


@examples(100)
@given(
    kind=st.sampled_from(["RMC", "GGA", "GNS"]),
    fields=st.lists(st.sampled_from(FIELDS), max_size=16),
)
def test_any_fields_of_a_sentence_are_a_value_or_a_frame_error(kind: str, fields: list[str]) -> None:
    assert is_value_or_frame_error("nmea0183", encode_sentence(",".join([f"GN{kind}", *fields])))


@examples(100)
@given(payload=st.binary(min_size=92, max_size=92), flags=st.booleans())
def test_any_navigation_message_is_a_value_or_a_frame_error(payload: bytes, flags: bool) -> None:
    if flags:
        payload = payload[:11] + b"\x07" + payload[12:20] + b"\x03\x01" + payload[22:]
    assert is_value_or_frame_error("ubx_nav_pvt", encode_ubx(0x01, 0x07, payload))


@pytest.mark.parametrize("name", formats())
@examples(40)
@given(
    data=st.binary(max_size=60)
    | st.text(max_size=40)
    | objects
    | st.dictionaries(st.sampled_from(["raw", "check_input"]), st.text(max_size=8) | st.just("11220033") | json_values),
    port=st.none() | st.integers(-1, 256),
)
@example(data={"raw": "é"}, port=None)
@example(data={"check_input": "\ud800"}, port=None)
@example(data="\ud800", port=None)
def test_explaining_gives_plain_json_or_a_frame_error(
    name: str, data: bytes | str | dict[str, Any], port: int | None
) -> None:
    try:
        facts = explain(name, data=data, port=port)
    except FrameError:
        return
    assert facts["format"] == name
    assert msgspec.json.decode(msgspec.json.encode(facts)) == facts
