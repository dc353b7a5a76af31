"""What the Iridium gateway, RockBLOCK and The Things Stack deliver, made from the layouts that they publish."""

from __future__ import annotations

import base64
import json
import struct
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from firmware_bridge.codecs.opencollar import PORT_SHORT, encode_short
from firmware_bridge.framing.directip import HEADER, PAYLOAD, encode_directip
from shared.sync.records import to_ms
from tests.fakes import START

IMEI = "300434061234560"
EUI = "0101010101010101"
DEVICE = f"imei:{IMEI}"


def position(at: datetime = START, lon_deg: float = 37.5, lat_deg: float = -2.5) -> bytes:
    """Return the short message of an OpenCollar."""
    return encode_short(recorded_at=at, lat_deg=lat_deg, lon_deg=lon_deg, h_acc_m=6)


def directip(data: bytes | None, *, momsn: int = 1, imei: str = IMEI, at: datetime = START) -> bytes:
    """Return a message of the gateway about one session."""
    header = struct.pack(">I15sBHHI", momsn, imei.encode(), 0, momsn, 0, to_ms(at) // 1000)
    return encode_directip({HEADER: header, **({} if data is None else {PAYLOAD: data})})


def rockblock(data: bytes, *, momsn: int = 1, at: datetime = START, is_json: bool = False) -> bytes:
    """Return the body of a delivery to the hook."""
    said: dict[str, Any] = {
        "imei": IMEI, "serial": "12345", "momsn": str(momsn), "iridium_cep": "5", "iridium_latitude": "-2.4",
        "iridium_longitude": "37.4", "transmit_time": f"{at.astimezone(UTC):%y-%m-%d %H:%M:%S}", "data": data.hex(),
    }  # fmt: skip
    return json.dumps(said).encode() if is_json else urlencode(said).encode()


def things_stack(data: bytes, *, at: datetime = START, eui: str = EUI) -> tuple[str, bytes]:
    """Return topic and body of an uplink."""
    body = {
        "end_device_ids": {"device_id": "collar-1", "dev_eui": eui.upper()},
        "received_at": at.isoformat(),
        "uplink_message": {
            "f_port": PORT_SHORT, "f_cnt": 1, "frm_payload": base64.b64encode(data).decode(),
            "received_at": at.isoformat(),
        },
    }  # fmt: skip
    return "v3/reserve@tenant/devices/collar-1/up", json.dumps(body).encode()
