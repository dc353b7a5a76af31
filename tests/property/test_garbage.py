"""No bytes, however wrong, bring a decoder to anything but values or a FrameError.

Counts stand at a tenth where ``OUTPOST_NIGHTLY`` is not set.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from firmware_bridge.codecs.registry import FORMATS
from firmware_bridge.framing.registry import DECODERS
from tests.property.garbage import PORTS, VECTORS, decodes_or_refuses, garbage, mutations, payload_of, payloads_of

NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))
GARBAGE_BYTES = 10_000_000 if NIGHTLY else 1_000_000
VALUES = 255 if NIGHTLY else 25
_CHUNK = 4_096


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_codec_survives_garbage(name: str) -> None:
    rng = random.Random(name)
    starts = [payload for payload, _ in payloads_of(name)]
    for piece in garbage(rng, GARBAGE_BYTES, starts):
        decodes_or_refuses(name, piece, rng.choice(PORTS))


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_a_framing_survives_garbage_and_accounts_for_it(name: str) -> None:
    rng = random.Random(name)
    decoder = DECODERS[name]()
    frame_bytes = 0
    for _ in range(0, GARBAGE_BYTES, _CHUNK):
        frame_bytes += sum(len(frame.payload) for frame in decoder.feed(rng.randbytes(_CHUNK)))
    frame_bytes += sum(len(frame.payload) for frame in decoder.flush())
    assert decoder.skipped <= GARBAGE_BYTES + _CHUNK
    # Noise is no frame, but for framings that have neither a checksum nor a shape.
    if name not in {"slip", "kiss", "ax25", "rnode"}:
        assert frame_bytes < GARBAGE_BYTES // 100


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector["format"] in FORMATS], ids=lambda vector: vector["id"]
)
def test_no_mutation_of_a_vector_is_more_than_a_frame_error(vector: dict[str, Any]) -> None:
    name = str(vector["format"])
    rng = random.Random(str(vector["id"]))
    for changed in mutations(payload_of(vector), VALUES, rng):
        decodes_or_refuses(name, changed, vector.get("port"))
