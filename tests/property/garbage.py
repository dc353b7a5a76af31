"""What decoders are fed that no device sent: seeded bytes, and frames with something wrong in them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from firmware_bridge.codecs.registry import FORMATS
from firmware_bridge.frames import Uplink
from firmware_bridge.framing.registry import DECODERS
from shared.errors import FrameError

VECTORS: Final[list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[1] / "golden" / "vectors_constructed.json").read_text()
)
#: The ports on which any of the formats has a message, and some on which none has.
PORTS: Final = (None, 1, 2, 3, 4, 11, 12, 13, 16, 18, 29, 31, 255)
_LONGEST: Final = 400


def payloads_of(name: str) -> list[tuple[bytes, int | None]]:
    """Return the committed vectors of a codec's format, as bytes, with their ports."""
    return [(payload_of(vector), vector.get("port")) for vector in VECTORS if vector["format"] == name]


def payload_of(vector: dict[str, Any]) -> bytes:
    """Return what a vector's device sends."""
    if "hex" in vector:
        return bytes.fromhex(vector["hex"])
    return vector["text"].encode() if "text" in vector else json.dumps(vector["json"], separators=(",", ":")).encode()


def decodes_or_refuses(name: str, payload: bytes, port: int | None = None, topic: str = "") -> bool:
    """Decode, and return whether there was something to read; anything but uplinks or a FrameError goes through."""
    try:
        uplinks = FORMATS[name].decode(payload, port=port, topic=topic)
    except FrameError:
        return False
    msgspec.json.encode([uplink.details for uplink in uplinks])
    assert all(isinstance(uplink, Uplink) for uplink in uplinks)
    for uplink in uplinks:
        for fix in uplink.fixes:
            assert (fix.lon_deg is None) == (fix.lat_deg is None)
            assert fix.recorded_at is None or fix.recorded_at.tzinfo is not None
    return bool(uplinks)


def garbage(rng: random.Random, total_bytes: int, starts: list[bytes]) -> Iterator[bytes]:
    """Give ``total_bytes`` of noise in pieces; every other one begins like something real, to get further in."""
    given = 0
    while given < total_bytes:
        piece = rng.randbytes(min(rng.randrange(1, _LONGEST), total_bytes - given))
        given += len(piece)
        if starts and rng.random() < 0.5:
            real = rng.choice(starts)
            piece = real[: rng.randrange(len(real) + 1)] + piece
        yield piece


def mutations(payload: bytes, values: int, rng: random.Random) -> Iterator[bytes]:
    """Give ``payload`` with one byte changed, each byte to ``values`` others (255: to every other)."""
    for index, byte in enumerate(payload):
        others = range(1, 256) if values >= 255 else rng.sample(range(1, 256), values)
        for other in others:
            yield payload[:index] + bytes((byte ^ other,)) + payload[index + 1 :]


def fuzz_one(target: str, data: bytes) -> None:
    """Feed a codec or a framing with what a fuzzer thought of; for a codec the first byte picks a port."""
    kind, _, name = target.partition("-")
    if kind == "framing":
        decoder = DECODERS[name]()
        for frame in [*decoder.feed(data), *decoder.flush()]:
            assert frame.payload or name in {"cobs", "kiss", "slip", "ax25"}
        return
    port = PORTS[data[0] % len(PORTS)] if data else None
    decodes_or_refuses(name, data[1:], port)


#: Everything that reads bytes; some codecs and framings share a name.
TARGETS: Final = tuple(sorted((*(f"codec-{name}" for name in FORMATS), *(f"framing-{name}" for name in DECODERS))))
