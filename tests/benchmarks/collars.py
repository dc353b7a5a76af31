"""The herd's fixes as the field's other collars would send them, and what a library does with the same bytes."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import construct
import msgspec
from pynmeagps import NMEAReader
from pyubx2 import UBXReader

from firmware_bridge.codecs.lora_packet import pack_lp0
from firmware_bridge.codecs.opencollar import PORT_SHORT, encode_flash_log, encode_long, encode_short
from firmware_bridge.codecs.registry import FORMATS
from firmware_bridge.framing.directip import HEADER, PAYLOAD, encode_directip
from firmware_bridge.framing.kiss import encode_kiss
from firmware_bridge.framing.meshtastic import encode_mesh_frame
from firmware_bridge.framing.nmea import encode_sentence
from firmware_bridge.framing.rnode import encode_rnode
from tests.benchmarks.herd import COLLARS, position_e7, recorded_at

_IMEI: Final = b"300434061234560"


class Kind(msgspec.Struct, frozen=True):
    """Payloads of one format; ``port`` is the LoRaWAN fPort."""

    name: str
    format: str
    payloads: list[bytes]
    port: int | None = None


class Peer(msgspec.Struct, frozen=True):
    """A library's reading of the same bytes: values of the fields, without a fix made of them."""

    kind: Kind
    library: str
    parse: Callable[[bytes], Any]


def kinds(numbers: Sequence[int]) -> list[Kind]:
    """Return every format beyond those of our own station, with a payload for each number."""
    return [
        Kind(
            "The Things Stack uplink, OpenCollar short", "the_things_stack_v3", [_the_things_stack(n) for n in numbers]
        ),
        Kind("OpenCollar satellite buffer of 14 records", "opencollar_buffer", [_buffer(n) for n in numbers]),
        Kind("OpenCollar LP0, offload line", "opencollar_lp0", [_offload(n) for n in numbers]),
        Kind("OpenCollar generation 1, position", "opencollar_gen1", [_gen1(n) for n in numbers], 1),
        Kind("Oyster", "digital_matter_oyster", [_oyster(n) for n in numbers], 1),
        Kind("Cayenne LPP, position and temperature", "cayenne_lpp", [_lpp(n) for n in numbers]),
        Kind(
            "RAK line, OpenCollar short", "rak_at", [b"+EVT:RXP2P:-94:-6:" + _short(n).hex().encode() for n in numbers]
        ),
        Kind("RN2483 line, OpenCollar short", "rn2483", [b"radio_rx  " + _short(n).hex().encode() for n in numbers]),
        Kind("RNode, OpenCollar short", "rnode", [encode_rnode(_short(n), -94, -6) for n in numbers]),
        Kind("Meshtastic serial", "meshtastic_serial", [encode_mesh_frame(_block(2, _mesh(n))) for n in numbers]),
        Kind("Meshtastic MQTT, protobuf", "meshtastic_mqtt", [_block(1, _mesh(n)) for n in numbers]),
        Kind("Meshtastic MQTT, JSON", "meshtastic_mqtt", [_mesh_json(n) for n in numbers]),
        Kind("NMEA waypoint", "nmea_wpl", [_waypoint(n) for n in numbers]),
        Kind("APRS line", "aprs", [b"COLLAR-7>APRS,WIDE1-1:" + _aprs(n) for n in numbers]),
        Kind("AX.25, APRS", "kiss_ax25", [_ax25(n) for n in numbers]),
        Kind("Iridium DirectIP, OpenCollar short", "iridium_directip", [_directip(n) for n in numbers]),
        Kind("RockBLOCK hook, OpenCollar short", "rockblock_http", [_rockblock(n) for n in numbers]),
        Kind("Sigfox", "sigfox_rhino_v1", [_sigfox(n) for n in numbers]),
        Kind("Vectronic JSON", "vectronic_json", [_vectronic(n) for n in numbers]),
        Kind("Lotek JSON", "lotek_json", [_lotek(n) for n in numbers]),
    ]


def wires(numbers: Sequence[int]) -> list[tuple[str, bytes]]:
    """Return the framings beyond our own station's, each with a frame on the wire for each number."""
    short = [_short(number) for number in numbers]
    return [
        ("rnode", b"".join(encode_rnode(message, -94, -6) for message in short)),
        ("rak", b"".join(b"+EVT:RXP2P:-94:-6:" + message.hex().encode() + b"\r\n" for message in short)),
        ("rn2483", b"".join(b"radio_rx  " + message.hex().encode() + b"\r\n" for message in short)),
        ("lp0", b"".join(_offload(number) + b"\n" for number in numbers)),
        ("meshtastic", b"".join(encode_mesh_frame(_block(2, _mesh(number))) for number in numbers)),
        ("wpl", b"".join(_waypoint(number) + b"\r\n" for number in numbers)),
        ("ax25", b"".join(encode_kiss(_ax25(number)) for number in numbers)),
        ("aprs", b"".join(b"COLLAR-7>APRS,WIDE1-1:" + _aprs(number) + b"\r\n" for number in numbers)),
        ("directip", b"".join(map(_directip, numbers))),
    ]


def decoder_of(kind: Kind) -> Callable[[], int]:
    """Return a function that decodes every payload of ``kind`` and returns how many fixes there were."""
    codec = FORMATS[kind.format]
    payloads, port = kind.payloads, kind.port

    def once() -> int:
        return sum(len(uplink.fixes) for payload in payloads for uplink in codec.decode(payload, port=port))

    return once


_LONG = construct.Struct(
    "id" / construct.Int8ul, "length" / construct.Int8ul, "flags" / construct.Int8ul, "hot" / construct.Int8ul,
    "cold" / construct.Int8ul, "ttf" / construct.Int16ul, "lat" / construct.Int32sl, "lon" / construct.Int32sl,
    "alt" / construct.Int32sl, "fix_type" / construct.Int8ul, "siv" / construct.Int8ul, "h_acc" / construct.Int16ul,
    "pdop" / construct.Int8ul, "time" / construct.Int32ul, "active" / construct.Int8ul, "cog" / construct.Int16ul,
    "sog" / construct.Int8ul,
)  # fmt: skip
_OYSTER = construct.Struct(
    "lat" / construct.Int32sl, "lon" / construct.Int32sl, "bits" / construct.Int8ul, "speed" / construct.Int8ul,
    "battery" / construct.Int8ul,
)  # fmt: skip
_DIRECTIP = construct.Struct(
    "version" / construct.Int8ub,
    "length" / construct.Int16ub,
    "elements" / construct.GreedyRange(
        construct.Struct("id" / construct.Int8ub, "data" / construct.Prefixed(construct.Int16ub, construct.GreedyBytes))
    ),
)  # fmt: skip


def peers(epochs: list[bytes], messages: list[bytes], numbers: Sequence[int]) -> list[Peer]:
    """Return the libraries that read the same bytes; ``epochs`` and ``messages`` are NMEA's and UBX's."""
    oyster = Kind("Oyster", "digital_matter_oyster", [_oyster(n) for n in numbers], 1)
    iridium = Kind("Iridium DirectIP, OpenCollar short", "iridium_directip", [_directip(n) for n in numbers])
    return [
        Peer(Kind("NMEA epoch, RMC and GGA", "nmea0183", epochs), "pynmeagps", _parse_sentences),
        Peer(Kind("UBX NAV-PVT", "ubx_nav_pvt", messages), "pyubx2", UBXReader.parse),
        Peer(Kind("OpenCollar long", "opencollar", [_long(n) for n in numbers], 2), "construct", _LONG.parse),
        Peer(oyster, "construct", _OYSTER.parse),
        Peer(iridium, "construct", _DIRECTIP.parse),
    ]


def _parse_sentences(epoch: bytes) -> list[Any]:
    return [NMEAReader.parse(line) for line in epoch.splitlines(keepends=True)]


def _degrees(number: int) -> tuple[float, float]:
    lon_e7, lat_e7 = position_e7(number)
    return lon_e7 / 1e7, lat_e7 / 1e7


def _unix_s(number: int) -> int:
    return int(recorded_at(number).timestamp())


def _naive(at: datetime) -> str:
    return at.replace(tzinfo=None).isoformat()


def _short(number: int) -> bytes:
    lon_deg, lat_deg = _degrees(number)
    return encode_short(recorded_at=recorded_at(number), lat_deg=lat_deg, lon_deg=lon_deg, h_acc_m=6)


def _long(number: int) -> bytes:
    lon_deg, lat_deg = _degrees(number)
    return encode_long(recorded_at=recorded_at(number), lat_deg=lat_deg, lon_deg=lon_deg, alt_m=1187.0, sats=9)


def _buffer(number: int) -> bytes:
    of_collar = range(number, number + 14 * COLLARS, COLLARS)
    return encode_flash_log((PORT_SHORT, _short(each), recorded_at(each)) for each in of_collar)


def _offload(number: int) -> bytes:
    data = b64encode(pack_lp0(number % COLLARS, PORT_SHORT, _short(number))).decode()
    packet = {"time": recorded_at(number).isoformat(), "rssi": -90, "lsnr": 5, "size": 24, "data": data}
    return json.dumps({"gatewayEui": "0102030405060708", "rxpk": packet}).encode()


def _the_things_stack(number: int) -> bytes:
    at = recorded_at(number).isoformat()
    return json.dumps(
        {
            "end_device_ids": {
                "device_id": f"oc-{number % COLLARS}",
                "application_ids": {"application_id": "collars"},
                "dev_eui": f"{number % COLLARS + 1:016X}",
            },
            "received_at": at,
            "uplink_message": {
                "f_port": PORT_SHORT,
                "f_cnt": number,
                "frm_payload": b64encode(_short(number)).decode(),
                "rx_metadata": [
                    {"gateway_ids": {"gateway_id": "g", "eui": "9C5C8E00001A05C4"}, "rssi": -101, "snr": -6}
                ],
                "settings": {"frequency": "868300000", "time": at},
                "received_at": at,
            },
        }
    ).encode()


def _gen1(number: int) -> bytes:
    lon_deg, lat_deg = _degrees(number)
    lat = round((lat_deg + 90) * 0xFFFFFF / 180).to_bytes(3, "big")
    lon = round((lon_deg + 180) * 0xFFFFFF / 360).to_bytes(3, "big")
    return lat + lon + struct.pack("<HBBBBBBI", 1187, 0x91, 27, 12, 44, 0, 0, _unix_s(number))


def _oyster(number: int) -> bytes:
    lon_e7, lat_e7 = position_e7(number)
    return struct.pack("<iiBBB", lat_e7, lon_e7, 16 << 2 | 1, 4, 160)


def _lpp(number: int) -> bytes:
    lon_e7, lat_e7 = position_e7(number)
    place = b"".join(value.to_bytes(3, "big", signed=True) for value in (lat_e7 // 1000, lon_e7 // 1000, 118_700))
    return b"\x01\x88" + place + b"\x02\x67\x01\x2c"


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    return bytes((number & 0x7F | 0x80,)) + _varint(number >> 7) if number >> 7 else bytes((number,))


def _fixed(field: int, value: int) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<I", value & 0xFFFF_FFFF)


def _block(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _count(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _mesh(number: int) -> bytes:
    lon_e7, lat_e7 = position_e7(number)
    at = _unix_s(number)
    place = _fixed(1, lat_e7) + _fixed(2, lon_e7) + _count(3, 1187) + _fixed(4, at + 5) + _fixed(7, at)
    data = _count(1, 3) + _block(2, place + _count(11, 120) + _count(19, 9) + _count(23, 32))
    return _fixed(1, number % COLLARS + 1) + _block(4, data) + _fixed(6, number) + _fixed(7, at + 6) + _count(12, -60)


def _mesh_json(number: int) -> bytes:
    lon_e7, lat_e7 = position_e7(number)
    at = _unix_s(number)
    place = {
        "latitude_i": lat_e7, "longitude_i": lon_e7, "altitude": 1187, "time": at + 5, "timestamp": at, "PDOP": 120,
        "sats_in_view": 9, "precision_bits": 32,
    }  # fmt: skip
    body = {"from": number % COLLARS + 1, "id": number, "type": "position", "payload": place, "timestamp": at + 6}
    return json.dumps(body).encode()


def _minutes(number: int) -> tuple[str, str]:
    lon_deg, lat_deg = _degrees(number)
    north, east = "NS"[lat_deg < 0], "EW"[lon_deg < 0]
    lat, lon = abs(lat_deg), abs(lon_deg)
    return f"{int(lat):02}{lat % 1 * 59.99:05.2f}{north}", f"{int(lon):03}{lon % 1 * 59.99:05.2f}{east}"


def _waypoint(number: int) -> bytes:
    lat, lon = _minutes(number)
    name = number % COLLARS
    return encode_sentence(f"GPWPL,{lat[:-1]},{lat[-1]},{lon[:-1]},{lon[-1]},N{name}").rstrip()


def _aprs(number: int) -> bytes:
    lat, lon = _minutes(number)
    return f"/{recorded_at(number):%H%M%S}h{lat}/{lon}[123/001/A=003894".encode()


def _ax25(number: int) -> bytes:
    letters = [(b"APRS  ", 0x60), (b"COLLAR", 0x60 | 7 << 1), (b"WIDE1 ", 0x60 | 1 << 1 | 1)]
    addresses = b"".join(bytes(letter << 1 for letter in name) + bytes((last,)) for name, last in letters)
    return addresses + b"\x03\xf0" + _aprs(number)


def _directip(number: int) -> bytes:
    header = struct.pack(">I15sBHHI", number, _IMEI, 0, number & 0xFFFF, 0, _unix_s(number) + 60)
    record = encode_flash_log([(PORT_SHORT, _short(number), recorded_at(number))])
    return encode_directip({HEADER: header, PAYLOAD: record})


def _rockblock(number: int) -> bytes:
    record = encode_flash_log([(PORT_SHORT, _short(number), recorded_at(number))])
    at = f"{recorded_at(number):%y-%m-%d %H:%M:%S}"
    return json.dumps({"imei": _IMEI.decode(), "momsn": number, "transmit_time": at, "data": record.hex()}).encode()


def _sigfox(number: int) -> bytes:
    raw = b""
    for degrees in reversed(_degrees(number)):
        whole, part = divmod(abs(degrees), 1)
        raw += ((degrees < 0) << 31 | int(whole) * 1_000_000 + int(part * 599_999)).to_bytes(4, "big")
    data = (raw + b"\x34\x70\xe2\x00").hex()
    return json.dumps({"deviceId": f"{number % COLLARS + 1:06X}", "time": _unix_s(number), "data": data}).encode()


def _vectronic(number: int) -> bytes:
    lon_deg, lat_deg = _degrees(number)
    at = _naive(recorded_at(number))
    body = {
        "idPosition": number, "idCollar": number % COLLARS + 1, "acquisitionTime": at, "scts": at, "originCode": "I",
        "latitude": lat_deg, "longitude": lon_deg, "height": 1187.0, "dop": 1.8, "idFixType": 13, "mainVoltage": 3.65,
        "temperature": 31.0,
    }  # fmt: skip
    return json.dumps(body).encode()


def _lotek(number: int) -> bytes:
    lon_deg, lat_deg = _degrees(number)
    at = _naive(recorded_at(number))
    body = {
        "DeviceID": number % COLLARS + 1, "RecDateTime": at, "UploadTimeStamp": at, "Latitude": lat_deg, "MainV": 3.65,
        "Longitude": lon_deg, "Altitude": 1187.0, "PDOP": 1.8, "bHasTempVoltage": True, "Temperature": 31.0,
    }  # fmt: skip
    return json.dumps(body).encode()
