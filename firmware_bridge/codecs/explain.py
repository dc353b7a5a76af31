"""What a frame means, in plain values: the facts behind ``outpost-station decode``.

Beside the formats of the codecs it knows the framings and checksums by name: ``crc16``, ``cobs``, ``slip``, ``kiss``.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from firmware_bridge.codecs.instants import iso_text
from firmware_bridge.codecs.registry import FORMATS
from firmware_bridge.frames import DecodedFix, Uplink
from firmware_bridge.framing.checksums import CRC16_VARIANTS, crc16_ibm_3740
from firmware_bridge.framing.cobs import decode_cobs, encode_cobs
from firmware_bridge.framing.kiss import decode_kiss
from firmware_bridge.framing.slip import END, encode_slip, unescape
from shared.errors import FrameError

Data = bytes | str | dict[str, Any] | list[Any]
_ToolData = bytes | str | dict[str, Any]

_CRC_BYTES = 2


def explain(format: str, *, data: Data, port: int | None = None) -> dict[str, object]:  # noqa: A002  (the option's name)
    """Return the facts of ``data`` as values that JSON can hold; raises FrameError with the reason.

    ``data`` is the bytes of a payload (of a whole message for ``ubx_nav_pvt``, ``meshtastic_serial`` and
    ``iridium_directip``, of what stands on the wire for ``cobs``, ``slip``, ``kiss``, ``kiss_ax25`` and ``rnode``), the
    text of a sentence or body, or a JSON object or list. For ``cobs`` and ``slip`` an object
    ``{"raw": HEX}`` is encoded, for ``crc16`` an object ``{"check_input": TEXT}`` is summed. ``port`` is the LoRaWAN
    fPort.
    """
    if (tool := _TOOLS.get(format)) is not None:
        if isinstance(data, list):
            raise FrameError("give an object, not a list")
        return {"format": format, **tool(data)}
    codec = FORMATS.get(format)
    if codec is None:
        raise FrameError(f"unknown format {format!r}: choose one of {', '.join(formats())}")
    uplinks = codec.decode(_payload(data, is_text=format in _TEXT_FORMATS), port=port)
    if len(uplinks) == 1:
        return _facts(uplinks[0])
    return {"format": format, "messages": [_facts(uplink) for uplink in uplinks]}


def formats() -> list[str]:
    """Return the names that ``explain`` takes, sorted."""
    return sorted({*FORMATS, *_TOOLS})


_TEXT_FORMATS = frozenset(
    {
        "nmea0183", "nmea_wpl", "aprs", "rak_at", "rn2483", "chirpstack_v4", "the_things_stack_v3", "outpost_json",
        "opencollar_lp0", "meshtastic_mqtt", "rockblock_http", "sigfox_rhino_v1", "vectronic_json", "lotek_json",
        "earthranger", "gundi_v2", "movebank_csv", "movebank_live_feed",
    }
)  # fmt: skip


def _payload(data: Data, *, is_text: bool) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        if not is_text:
            raise FrameError("this format is binary: give it as hex digits")
        return _encoded(data)
    if not is_text:
        raise FrameError("this format is binary, not a JSON object")
    try:
        return msgspec.json.encode(data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise FrameError(f"not a JSON object: {error}") from error


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise FrameError("the text holds half a character") from error


def _facts(uplink: Uplink) -> dict[str, object]:
    status = None
    if uplink.status is not None:
        status = {**msgspec.structs.asdict(uplink.status), "errors": list(uplink.status.errors)}
    return {
        "format": uplink.format,
        "device": uplink.device,
        "port": uplink.port,
        "fixes": [_fix_facts(fix) for fix in uplink.fixes],
        "status": status,
        "network_time": None if uplink.network_time is None else iso_text(uplink.network_time),
        "device_time": None if uplink.device_time is None else iso_text(uplink.device_time),
        "rssi_dbm": uplink.rssi_dbm,
        "snr_db": uplink.snr_db,
        "gateway": uplink.gateway,
        "details": uplink.details,
    }


def _fix_facts(fix: DecodedFix) -> dict[str, object]:
    return {
        **msgspec.structs.asdict(fix),
        "recorded_at": None if fix.recorded_at is None else iso_text(fix.recorded_at),
        "time_of_day": None if fix.time_of_day is None else msgspec.structs.asdict(fix.time_of_day),
        "store_as": "fix" if fix.lon_deg is not None else "failed_fix_event_without_geometry",
    }


def _explain_crc16(data: _ToolData) -> dict[str, object]:
    if isinstance(data, dict):
        text = data.get("check_input")
        if not isinstance(text, str):
            raise FrameError('crc16 takes {"check_input": TEXT}')
        data = text
    raw = _encoded(data) if isinstance(data, str) else data
    return {"details": {name: f"{crc(raw):04x}" for name, crc in CRC16_VARIANTS.items()}}


def _explain_cobs(data: _ToolData) -> dict[str, object]:
    if isinstance(data, dict):
        raw = _hex(data, "raw")
        encoded = encode_cobs(raw)
        return {"details": {"raw": raw.hex(), "encoded": encoded.hex(), "decoded": decode_cobs(encoded).hex()}}
    stuffed = _wire(data).strip(b"\x00")
    decoded = decode_cobs(stuffed)
    is_whole = len(decoded) >= _CRC_BYTES and crc16_ibm_3740(decoded) == 0
    payload = decoded[:-_CRC_BYTES].hex() if is_whole else None
    return {"details": {"encoded": stuffed.hex(), "decoded": decoded.hex(), "crc_ok": is_whole, "payload": payload}}


def _explain_slip(data: _ToolData) -> dict[str, object]:
    if isinstance(data, dict):
        raw = _hex(data, "raw")
        encoded = encode_slip(raw)
        decoded = unescape(encoded.strip(END))
        return {"details": {"raw": raw.hex(), "encoded": encoded.hex(), "decoded": decoded.hex()}}
    wire = _wire(data)
    return {"details": {"encoded": wire.hex(), "decoded": unescape(_one_segment(wire)).hex()}}


def _explain_kiss(data: _ToolData) -> dict[str, object]:
    if isinstance(data, dict):
        raise FrameError("kiss takes the bytes of one frame as hex digits")
    port, command, content = decode_kiss(_one_segment(_wire(data)))
    return {"details": {"data": content.hex(), "port": port, "cmd": command}}


def _wire(data: bytes | str) -> bytes:
    return _payload(data, is_text=False)


def _one_segment(wire: bytes) -> bytes:
    segment = wire.strip(END)
    if END in segment:
        raise FrameError(f"these are {len(segment.split(END))} frames, not one")
    return segment


def _hex(data: dict[str, Any], key: str) -> bytes:
    text = data.get(key)
    if not isinstance(text, str):
        raise FrameError(f'give {{"{key}": HEX}}')
    try:
        return binascii.unhexlify(text)
    except (binascii.Error, ValueError) as error:
        raise FrameError(f"{key} is not hex digits") from error


_TOOLS: Mapping[str, Callable[[_ToolData], dict[str, object]]] = MappingProxyType(
    {"crc16": _explain_crc16, "cobs": _explain_cobs, "slip": _explain_slip, "kiss": _explain_kiss}
)
