"""A model's file and its manifest: what the numbers are, where they come from, and a check before they are trusted.

``artifacts/<model>/<version>/<name>.bin`` holds arrays one after another in C order, little-endian, in the order of the
manifest's ``arrays``; ``<name>.json`` beside it is the ``Manifest``. Versions are whole numbers. ``load_newest`` goes
from the newest version down: one that is missing, altered or of the wrong shape is refused and the one before it stays.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from shared.errors import ArtifactError, ModelUnavailable

NumberFormat: TypeAlias = Literal["int8", "uint8", "int16", "int32", "float32", "float64"]

#: Where the artefacts that travel with the program lie.
PACKAGED: Final = Path(__file__).parent / "artifacts"

#: The layout of manifests that this program reads.
FORMAT: Final = 1

T = TypeVar("T")


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """One number that the model is given, and its unit."""

    name: str
    unit: str


class ArraySpec(msgspec.Struct, frozen=True, kw_only=True):
    """One array of the file. A stored number times ``scale`` is the quantity, in ``unit``."""

    name: str
    shape: tuple[int, ...]
    number_format: NumberFormat
    scale: float = 1.0
    unit: str = "1"

    @property
    def size_bytes(self) -> int:
        """The room it takes in the file."""
        return math.prod(self.shape) * np.dtype(self.number_format).itemsize


class TrainingSet(msgspec.Struct, frozen=True, kw_only=True):
    """What a model was trained on, by name; never a row of it."""

    dataset: str
    individuals: tuple[str, ...]
    rows: int
    licence: str
    citation: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The description of one artefact.

    ``metrics`` are measured values by name. ``settings`` are what the model's own runtime needs beside the arrays.
    """

    format: int
    model: str
    name: str
    version: int
    sha256: str
    inputs: tuple[Input, ...]
    arrays: tuple[ArraySpec, ...]
    metrics: dict[str, float]
    trained_on: tuple[TrainingSet, ...]
    licence: str
    settings: dict[str, Any]


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A verified artefact, and why newer versions were refused."""

    manifest: Manifest
    arrays: dict[str, npt.NDArray[Any]]
    refused: tuple[str, ...] = ()


def verify(manifest: Manifest, data: bytes) -> None:
    """Raise ArtifactError unless ``data`` is, bit for bit and in shape, what ``manifest`` describes."""
    title = f"{manifest.model}/{manifest.version}/{manifest.name}"
    if manifest.format != FORMAT:
        raise ArtifactError(f"{title}: its manifest has format {manifest.format}, this program reads {FORMAT}")
    if any(length < 1 for array in manifest.arrays for length in array.shape):
        raise ArtifactError(f"{title}: an array has an impossible shape")
    if len({array.name for array in manifest.arrays}) != len(manifest.arrays):
        raise ArtifactError(f"{title}: two arrays have one name")
    expected = sum(array.size_bytes for array in manifest.arrays)
    if len(data) != expected:
        raise ArtifactError(f"{title}: the file has {len(data)} bytes, its arrays need {expected}")
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise ArtifactError(f"{title}: the file is not the one its manifest was written for (sha256 differs)")
    for array, values in arrays_of(manifest, data).items():
        if values.dtype.kind == "f" and not bool(np.isfinite(values).all()):
            raise ArtifactError(f"{title}: {array} has values that are no numbers")


def load(folder: Path, model: str, version: int, name: str) -> Loaded:
    """Read and verify one version; raises ArtifactError."""
    place = folder / model / str(version)
    try:
        text = (place / f"{name}.json").read_bytes()
        data = (place / f"{name}.bin").read_bytes()
    except OSError as error:
        raise ArtifactError(f"{model}/{version}/{name}: {error.strerror}") from error
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.DecodeError as error:
        raise ArtifactError(f"{model}/{version}/{name}: its manifest is not readable: {error}") from error
    if (manifest.model, manifest.version, manifest.name) != (model, version, name):
        raise ArtifactError(f"{model}/{version}/{name}: its manifest belongs to another artefact")
    verify(manifest, data)
    return Loaded(manifest=manifest, arrays=arrays_of(manifest, data))


def versions(folder: Path, model: str) -> list[int]:
    """Return the versions that ``folder`` has of a model, newest first."""
    place = folder / model
    if not place.is_dir():
        return []
    names = [entry.name for entry in place.iterdir() if entry.is_dir()]
    return sorted((int(name) for name in names if name.isascii() and name.isdigit()), reverse=True)


def load_newest(folder: Path, model: str, name: str, build: Callable[[Loaded], T]) -> tuple[T, Loaded]:
    """Return what ``build`` makes of the newest good version, and the artefact itself.

    A version that does not verify, or of which ``build`` raises ArtifactError, is refused and the one before it is
    tried. A version that never had ``name`` is passed over. Raises ModelUnavailable where none is left.
    """
    refused: list[str] = []
    for version in versions(folder, model):
        place = folder / model / str(version)
        if not (place / f"{name}.json").exists() and not (place / f"{name}.bin").exists():
            continue
        try:
            loaded = load(folder, model, version, name)
            built = build(loaded)
        except ArtifactError as error:
            refused.append(error.detail)
            continue
        return built, msgspec.structs.replace(loaded, refused=tuple(refused))
    reasons = "; ".join(refused) or f"no version of it is in {folder / model}"
    raise ModelUnavailable(f"no usable {model} model for {name}: {reasons}")


def save(
    folder: Path,
    *,
    model: str,
    name: str,
    version: int,
    inputs: tuple[Input, ...],
    arrays: Mapping[str, tuple[npt.NDArray[Any], float, str]],
    metrics: Mapping[str, float],
    trained_on: tuple[TrainingSet, ...],
    licence: str,
    settings: Mapping[str, Any],
) -> Manifest:
    """Write an artefact with its manifest and return the manifest; ``arrays`` gives values, scale and unit by name."""
    specs: list[ArraySpec] = []
    chunks: list[bytes] = []
    for array, (values, scale, unit) in arrays.items():
        number_format = msgspec.convert(values.dtype.name, NumberFormat)
        specs.append(ArraySpec(name=array, shape=values.shape, number_format=number_format, scale=scale, unit=unit))
        chunks.append(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes())
    data = b"".join(chunks)
    manifest = Manifest(
        format=FORMAT,
        model=model,
        name=name,
        version=version,
        sha256=hashlib.sha256(data).hexdigest(),
        inputs=inputs,
        arrays=tuple(specs),
        metrics=dict(metrics),
        trained_on=trained_on,
        licence=licence,
        settings=dict(settings),
    )
    verify(manifest, data)
    place = folder / model / str(version)
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.bin").write_bytes(data)
    # The manifest last: until it is there the version is refused.
    (place / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    return manifest


def arrays_of(manifest: Manifest, data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a file that was verified."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    offset = 0
    for spec in manifest.arrays:
        dtype = np.dtype(spec.number_format).newbyteorder("<")
        values = np.frombuffer(data, dtype=dtype, count=math.prod(spec.shape), offset=offset)
        arrays[spec.name] = values.reshape(spec.shape).astype(spec.number_format)
        offset += spec.size_bytes
    return arrays
