"""What a simulated collar puts on the air, and how gateways wrap it.

One transmission is one radio message. A serial base station forwards it in our station frame; a LoRaWAN network server
publishes it as ChirpStack's uplink event; a gateway that decodes by itself publishes each fix as our own JSON.
"""

from __future__ import annotations

import uuid
from base64 import b64encode
from datetime import UTC, datetime

import msgspec
import numpy as np

from firmware_bridge.codecs.outpost_json import encode_fix
from firmware_bridge.codecs.station_frame import pack_station_frame
from firmware_bridge.framing.cobs import encode_frame

#: The application that the simulated network server keeps its collars in.
APPLICATION_ID = "00000000-0000-4000-8000-000000000001"


class SimulatedFix(msgspec.Struct, frozen=True, kw_only=True):
    """A position as a gateway that decodes by itself would publish it; no position is a failed fix."""

    recorded_at: datetime
    lon_deg: float | None
    lat_deg: float | None
    alt_m: float | None = None
    sats: int | None = None
    battery_mv: int | None = None


class Transmission(msgspec.Struct, frozen=True, kw_only=True):
    """One radio message of one collar.

    ``message`` is what OpenCollar sends on ``port``; None where OpenCollar cannot say it (a time with a fraction of a
    second), and only a gateway's JSON can. ``fixes`` are the positions inside.
    """

    at: datetime
    eui: str
    name: str
    counter: int
    port: int
    message: bytes | None
    fixes: tuple[SimulatedFix, ...] = ()


class Signal(msgspec.Struct, frozen=True):
    """How well a gateway heard it."""

    rssi_dbm: int
    snr_db: float


def signal_from(rng: np.random.Generator) -> Signal:
    """Return a plausible LoRa signal: weak and often below the noise."""
    return Signal(int(rng.integers(-122, -60)), float(rng.integers(-60, 44)) / 4)


def serial_bytes(transmission: Transmission, signal: Signal) -> bytes:
    """Return the transmission as a base station writes it on its serial line."""
    assert transmission.message is not None
    frame = pack_station_frame(
        transmission.eui, transmission.port, signal.rssi_dbm, signal.snr_db, transmission.message
    )
    return encode_frame(frame)


def chirpstack_event(
    transmission: Transmission, signal: Signal, gateway: str, rng: np.random.Generator
) -> tuple[str, bytes]:
    """Return topic and body of ChirpStack's uplink event; as in proto3 JSON, default values are absent."""
    assert transmission.message is not None
    received = {"gatewayId": gateway, "uplinkId": int(rng.integers(1, 2**32)), "rssi": signal.rssi_dbm}
    if signal.snr_db:
        received["snr"] = signal.snr_db
    body = {
        "deduplicationId": str(uuid.UUID(bytes=rng.bytes(16), version=4)),
        "time": transmission.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "000+00:00"),
        "deviceInfo": {
            "applicationId": APPLICATION_ID,
            "applicationName": "Collars",
            "deviceProfileName": "OpenCollar Edge",
            "deviceName": transmission.name,
            "devEui": transmission.eui,
        },
        "devAddr": transmission.eui[:8],
        "dr": 3,
        "fPort": transmission.port,
        "data": b64encode(transmission.message).decode(),
        "rxInfo": [received],
        "txInfo": {
            "frequency": 868_100_000,
            "modulation": {"lora": {"bandwidth": 125_000, "spreadingFactor": 9, "codeRate": "CR_4_5"}},
        },
    }
    if transmission.counter:
        body["fCnt"] = transmission.counter
    return f"application/{APPLICATION_ID}/device/{transmission.eui}/event/up", msgspec.json.encode(body)


def outpost_messages(transmission: Transmission, station: str, gateway: str) -> list[tuple[str, bytes]]:
    """Return topic and body of one JSON fix per position in the transmission; a status alone gives none."""
    return [
        (
            f"outpost/{station}/{gateway}/fix",
            encode_fix(
                # The radio id in the place of a collar's name: the station knows both as one collar.
                collar_id=f"eui:{transmission.eui}",
                recorded_at=fix.recorded_at,
                lon_deg=fix.lon_deg,
                lat_deg=fix.lat_deg,
                seq=transmission.counter,
                alt_m=fix.alt_m,
                sats=fix.sats,
                battery_mv=fix.battery_mv,
            ),
        )
        for fix in transmission.fixes
    ]
