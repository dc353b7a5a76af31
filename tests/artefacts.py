"""Models for tests: a later version of one that comes with the program, signed as a publisher signs it."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import msgspec

from models.artifact import PACKAGED, Manifest
from shared.shelf import MODEL_FILE
from shared.wire.manifests import sign_manifest
from shared.wire.signatures import new_key

PUBLISHER, PUBLIC = new_key()
#: What a home names that takes the models of these tests.
PUBLISHERS = (PUBLIC.hex(),)


def later(model: str = "hmm", name: str = "elephant", version: int = 2) -> tuple[str, bytes]:
    """Return manifest and file of a version that differs from the program's own by its number and a figure."""
    place = PACKAGED / model / "1"
    manifest = msgspec.json.decode((place / f"{name}.json").read_bytes(), type=Manifest)
    text = msgspec.json.encode(
        msgspec.structs.replace(manifest, version=version, metrics={**manifest.metrics, "made_for_a_test": version})
    ).decode()
    return text, (place / f"{name}.bin").read_bytes()


def body_of(manifest: str, seed: bytes = PUBLISHER) -> dict[str, str]:
    """Return what brings a model, signed."""
    key, signature = sign_manifest(seed, manifest)
    return {"manifest": manifest, "key": key, "signature": signature}


async def put_file(client: httpx.AsyncClient, data: bytes, part_bytes: int = 40_000) -> httpx.Response:
    """Bring a file in parts and return the last answer."""
    url = f"/api/v1/blobs/{hashlib.sha256(data).hexdigest()}/"
    answer = None
    for offset in range(0, len(data), part_bytes):
        answer = await client.put(
            url, params={"offset": offset, "size": len(data)}, content=data[offset : offset + part_bytes],
            headers={"Content-Type": MODEL_FILE},
        )  # fmt: skip
    assert answer is not None
    return answer


async def brought(client: httpx.AsyncClient, manifest: str, data: bytes) -> dict[str, Any]:
    """Bring a model and return what the home says of it."""
    assert (await put_file(client, data)).json()["is_whole"] is True
    answer = await client.post("/api/v1/models/", json=body_of(manifest))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made
