"""Codecs and framing alone: no port, no disk, one thread."""

from __future__ import annotations

import gc
import statistics
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np

from firmware_bridge.codecs.opencollar import PORT_FLASH_LOG, PORT_LONG, PORT_SHORT, encode_flash_log, encode_long
from firmware_bridge.codecs.opencollar import encode_short as encode_short_message
from firmware_bridge.codecs.outpost_json import encode_fix
from firmware_bridge.codecs.registry import decode_frame
from firmware_bridge.codecs.station_frame import pack_station_frame
from firmware_bridge.frames import Frame, FrameDecoder
from firmware_bridge.framing.cobs import CobsDecoder
from firmware_bridge.framing.nmea import NmeaDecoder, encode_sentence
from firmware_bridge.framing.registry import DECODERS
from firmware_bridge.framing.ubx import NAV_PVT, UbxDecoder, encode_ubx
from firmware_bridge.simulator.transmission import Transmission, chirpstack_event, signal_from
from tests.benchmarks import collars
from tests.benchmarks.herd import COLLARS, device_of, frame_of, payload_of, position_e7, recorded_at

#: Different payloads of each kind, so that nothing is measured that only remembers the last one.
PAYLOADS: Final = 500
#: Fewer where each is read twice over: the libraries take their time.
PEER_PAYLOADS: Final = 100
RUNS: Final = 5
FLASH_RECORDS: Final = 50
_CHUNK_BYTES: Final = 4_096
# iTOW, date and time, valid, tAcc, nano, fixType, flags, flags2, numSV, lon, lat, height, hMSL, hAcc, vAcc, velocities,
# gSpeed, headMot, sAcc, headAcc, pDOP, flags3, reserved, headVeh, magDec, magAcc: the order of the u-blox manual.
_NAV_PVT: Final = struct.Struct("<IHBBBBBBIiBBBBiiiiIIiiiiiIIHHIihH")


class Speed(msgspec.Struct, frozen=True):
    """Median of the runs: a second's frames, fixes and megabytes (10**6 bytes)."""

    name: str
    frame_bytes: float
    frames: float
    fixes: float
    megabytes: float


class Beside(msgspec.Struct, frozen=True):
    """Frames a second of a codec and of a library that reads the same bytes."""

    name: str
    library: str
    frames: float
    theirs: float


def codecs(run_s: float) -> list[Speed]:
    """Return how fast ``decode_frame`` is on each kind of frame, over runs of ``run_s``."""
    rng = np.random.default_rng(1)
    numbers = range(PAYLOADS)
    kinds: list[tuple[str, list[Frame]]] = [
        ("OpenCollar short, our station frame", [Frame("cobs", payload_of(number)) for number in numbers]),
        ("OpenCollar long, our station frame", [Frame("cobs", _station(n, PORT_LONG, _long(n))) for n in numbers]),
        (
            f"OpenCollar flash log of {FLASH_RECORDS} records",
            [Frame("cobs", _station(n, PORT_FLASH_LOG, _flash_log(n))) for n in range(0, PAYLOADS, 10)],
        ),
        ("ChirpStack uplink, OpenCollar short", [_chirpstack(number, rng) for number in numbers]),
        ("NMEA epoch, RMC and GGA", [Frame("nmea", _epoch(number)) for number in numbers]),
        ("UBX NAV-PVT", [Frame("ubx", _nav_pvt(number)) for number in numbers]),
        ("own JSON over MQTT", [Frame("mqtt", _json(number), "outpost/station/gateway/fix") for number in numbers]),
    ]
    ours = [_speed(name, frames, run_s) for name, frames in kinds]
    return ours + [_kind_speed(kind, run_s) for kind in collars.kinds(numbers)]


def peers(run_s: float) -> list[Beside]:
    """Return how fast libraries read the same bytes; theirs gives the fields of a message, ours a fix of it."""
    numbers = range(PEER_PAYLOADS)
    epochs, messages = [_epoch(number) for number in numbers], [_nav_pvt(number) for number in numbers]
    measured = []
    for peer in collars.peers(epochs, messages, numbers):
        ours = _kind_speed(peer.kind, run_s)
        theirs = _rounds_per_s(lambda peer=peer: [peer.parse(each) for each in peer.kind.payloads], run_s)  # type: ignore[misc]
        measured.append(Beside(peer.kind.name, peer.library, ours.frames, theirs * len(peer.kind.payloads)))
    return measured


def framings(run_s: float) -> list[Speed]:
    """Return how fast the stream decoders are, fed with 4,096 bytes at a time."""
    numbers = range(PAYLOADS)
    kinds: list[tuple[str, Callable[[], FrameDecoder], bytes, int]] = [
        ("COBS, short messages", CobsDecoder, b"".join(map(frame_of, numbers)), PAYLOADS),
        ("NMEA, RMC and GGA", NmeaDecoder, b"".join(map(_epoch, numbers)), PAYLOADS),
        ("UBX, NAV-PVT", lambda: UbxDecoder(frozenset({NAV_PVT})), b"".join(map(_nav_pvt, numbers)), PAYLOADS),
        *((name, DECODERS[name], wire, PAYLOADS) for name, wire in collars.wires(numbers)),
    ]
    return [_framing_speed(name, make, stream, count, run_s) for name, make, stream, count in kinds]


def _speed(name: str, frames: Sequence[Frame], run_s: float) -> Speed:
    fixes = sum(len(uplink.fixes) for frame in frames for uplink in decode_frame(frame))
    if fixes < len(frames):
        raise RuntimeError(f"{name}: {len(frames)} frames gave {fixes} fixes")

    def once() -> None:
        for frame in frames:
            decode_frame(frame)

    rounds = _rounds_per_s(once, run_s)
    size = sum(len(frame.payload) for frame in frames)
    return Speed(name, size / len(frames), rounds * len(frames), rounds * fixes, rounds * size / 1e6)


def _kind_speed(kind: collars.Kind, run_s: float) -> Speed:
    once = collars.decoder_of(kind)
    count, fixes = len(kind.payloads), once()
    if fixes < count:
        raise RuntimeError(f"{kind.name}: {count} payloads gave {fixes} fixes")
    rounds = _rounds_per_s(once, run_s)
    size = sum(map(len, kind.payloads))
    return Speed(kind.name, size / count, rounds * count, rounds * fixes, rounds * size / 1e6)


def _framing_speed(name: str, make: Callable[[], FrameDecoder], stream: bytes, count: int, run_s: float) -> Speed:
    chunks = [stream[start : start + _CHUNK_BYTES] for start in range(0, len(stream), _CHUNK_BYTES)]

    def once() -> int:
        decoder = make()
        found = sum(len(decoder.feed(chunk)) for chunk in chunks)
        return found + len(decoder.flush())

    if once() != count:
        raise RuntimeError(f"{name}: {once()} of {count} frames")
    rounds = _rounds_per_s(once, run_s)
    return Speed(name, len(stream) / count, rounds * count, rounds * count, rounds * len(stream) / 1e6)


def _rounds_per_s(once: Callable[[], object], run_s: float) -> float:
    """Return the median over the runs; the collector is emptied before each and works during it, as it does always."""
    speeds = []
    for _ in range(RUNS):
        gc.collect()
        rounds = 0
        began = time.perf_counter()
        while (took_s := time.perf_counter() - began) < run_s or not rounds:
            once()
            rounds += 1
        speeds.append(rounds / took_s)
    return statistics.median(speeds)


def _station(number: int, port: int, message: bytes) -> bytes:
    return pack_station_frame(f"{number % COLLARS + 1:016x}", port, -90, 7.5, message)


def _degrees(number: int) -> tuple[float, float]:
    lon_e7, lat_e7 = position_e7(number)
    return lon_e7 / 1e7, lat_e7 / 1e7


def _short(number: int) -> bytes:
    lon_deg, lat_deg = _degrees(number)
    return encode_short_message(recorded_at=recorded_at(number), lat_deg=lat_deg, lon_deg=lon_deg, h_acc_m=6)


def _long(number: int) -> bytes:
    lon_deg, lat_deg = _degrees(number)
    return encode_long(
        recorded_at=recorded_at(number), lat_deg=lat_deg, lon_deg=lon_deg, alt_m=1187.0, sats=9, h_acc_m=6, pdop=1.0,
        ttf_s=27, heading_deg=123.45, speed_mps=2.0,
    )  # fmt: skip


def _flash_log(number: int) -> bytes:
    of_collar = range(number, number + FLASH_RECORDS * COLLARS, COLLARS)
    return encode_flash_log((PORT_SHORT, _short(each), recorded_at(each)) for each in of_collar)


def _chirpstack(number: int, rng: np.random.Generator) -> Frame:
    eui = device_of(number % COLLARS).removeprefix("eui:")
    sent = Transmission(
        at=recorded_at(number), eui=eui, name=eui, counter=number, port=PORT_SHORT, message=_short(number)
    )
    topic, body = chirpstack_event(sent, signal_from(rng), "0016c001f153a14c", rng)
    return Frame("mqtt", body, topic)


def _json(number: int) -> bytes:
    lon_deg, lat_deg = _degrees(number)
    return encode_fix(
        collar_id=f"COL{number % COLLARS:03}", recorded_at=recorded_at(number), lon_deg=lon_deg, lat_deg=lat_deg,
        seq=number, alt_m=1187.0, hdop=1.1, sats=9, battery_mv=3900,
    )  # fmt: skip


def _epoch(number: int) -> bytes:
    # one epoch a second: the next one's time of day is what ends an epoch
    second = number % 86_400
    at = f"{second // 3600:02}{second // 60 % 60:02}{second % 60:02}.00"
    lon_deg, lat_deg = _degrees(number)
    lat = f"{int(-lat_deg):02}{-lat_deg % 1 * 60:09.6f},S"
    lon = f"{int(lon_deg):03}{lon_deg % 1 * 60:09.6f},E"
    return encode_sentence(f"GNRMC,{at},A,{lat},{lon},1.4,123.4,010125,,,A,V") + encode_sentence(
        f"GNGGA,{at},{lat},{lon},1,09,1.1,1187.0,M,-17.0,M,,"
    )


def _nav_pvt(number: int) -> bytes:
    at = recorded_at(number)
    lon_e7, lat_e7 = position_e7(number)
    body = _NAV_PVT.pack(
        number * 1000, at.year, at.month, at.day, at.hour, at.minute, at.second, 0x07, 20, 0, 3, 0x01, 0, 9, lon_e7,
        lat_e7, 1_170_000, 1_187_000, 6_000, 9_000, 100, 100, 0, 141, 4_500_000, 300, 100_000, 120, 0, 0, 0, 0, 0,
    )  # fmt: skip
    return encode_ubx(*NAV_PVT, body)
