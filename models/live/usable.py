"""Whether a model file is one that a home can run: by its manifest and the model's own runtime. Nothing is executed.

Arrays are numbers and nothing else, so no file of ours can hold a program. One of them may be the ``.zip`` that
Stable-Baselines3 writes, for people who want to go on training: no home opens it to run it, and here it is read as an
archive and its pickle streams as lists of opcodes. One that names anything but tensors is refused all the same.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np

from models.artifact import Loaded, Manifest, arrays_of, verify
from models.bbmm import runtime as bbmm
from models.corridor import runtime as corridor
from models.corridor.observation import SIZE
from models.forecast import fitted as forecast
from models.habitat import runtime as habitat
from models.hmm import runtime as hmm
from shared.errors import ArtifactError, Invalid
from shared.shelf import MAX_MANIFEST_BYTES
from shared.sync.shelves import OF_THE_CLOUD

#: What the pickle of a file of tensors may name.
_TENSORS: Final = frozenset(
    {
        *("collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"),
        *(f"torch {kind}Storage" for kind in ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char")),
        *("torch ByteStorage", "torch BoolStorage"),
    }
)
_MOST_UNPACKED: Final = 64 << 20
_DEEPEST: Final = 2


def read_manifest(text: str) -> Manifest:
    """Return the manifest that a text is; raises Invalid."""
    if len(text.encode()) > MAX_MANIFEST_BYTES:
        raise Invalid(f"manifest: has more than {MAX_MANIFEST_BYTES} bytes")
    try:
        found = msgspec.json.decode(text, type=Manifest)
    except msgspec.DecodeError as error:
        raise Invalid(f"manifest: {error}") from error
    if found.version < 1 or not found.name.isidentifier() or not found.name.isascii():
        raise Invalid("manifest: version must be at least 1, and name letters, digits and _")
    _check_name(found.model, found.name)
    return found


def species_of(manifest: Manifest) -> tuple[str, ...]:
    """Return the species that a model speaks of; empty where it serves every one."""
    listed = manifest.settings.get("species")
    if isinstance(listed, list):
        return tuple(str(each) for each in listed)
    if manifest.model in ("hmm", "bbmm", "habitat") and manifest.name != hmm.GENERIC:
        return (manifest.name,)
    return ()


def runs_at_stations(model: str, name: str) -> bool:
    """Say whether a station opens such a file; the others are the cloud's, or what ``evaluate`` measures against."""
    if model == "forecast":
        return name in (forecast.NETWORK, "baselines")
    return (model, name) not in OF_THE_CLOUD


def check_usable(manifest: Manifest, data: bytes) -> None:
    """Raise ArtifactError unless the file is what its manifest says and the model's runtime builds itself from it."""
    verify(manifest, data)
    loaded = Loaded(manifest=manifest, arrays=arrays_of(manifest, data))
    _BUILDERS[manifest.model](loaded)


def _check_name(model: str, name: str) -> None:
    known: dict[str, Callable[[], bool]] = {
        "hmm": lambda: hmm.model_name(name) == name or name == hmm.GENERIC,
        "bbmm": lambda: bbmm.calibration_name(name) == name or name == bbmm.GENERIC,
        "habitat": lambda: habitat.model_name(name.replace("_", " ")) == name,
        "forecast": lambda: name in ("network", "baselines"),
        "corridor": lambda: name in (*corridor.ALGORITHMS, *map(corridor.float_name, corridor.ALGORITHMS), "budget"),
    }
    if model not in known:
        raise Invalid(f"manifest: model must be one of {', '.join(known)}")
    if not known[model]():
        raise Invalid(f"manifest: no part of this program would ask for {model}/{name}")


def _corridor(loaded: Loaded) -> None:
    if loaded.manifest.name == "budget":
        try:
            from models.corridor.budget_policy import budget_of
        except ImportError as error:
            raise ArtifactError(f"{_title(loaded)}: the cloud alone runs it: {error}") from error
        budget_of(loaded)
        return
    zipped = loaded.arrays.get("sb3_zip")
    if zipped is not None:
        _check_zip(zipped.tobytes(), _title(loaded), 0)
    if loaded.manifest.name not in corridor.ALGORITHMS:
        corridor.layers_of(loaded)
        return
    policy = corridor.policy_of(loaded)
    scores = corridor.int8_policy(policy).scores(np.zeros((2, SIZE), dtype=np.float32))
    if scores.shape != (2, 8) or not bool(np.isfinite(scores).all()):
        raise ArtifactError(f"{_title(loaded)}: its network does not score eight moves")


def _forecast(loaded: Loaded) -> None:
    forecast.fitted_of(loaded)
    if loaded.manifest.name == forecast.NETWORK:
        forecast.network_of(loaded)


def _check_zip(data: bytes, title: str, depth: int) -> None:
    """Raise ArtifactError where an archive holds anything that only running it could read."""
    refusal = ArtifactError(f"{title}: sb3_zip holds a pickle of more than tensors: it is never opened, and not kept")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if depth > _DEEPEST or sum(member.file_size for member in archive.infolist()) > _MOST_UNPACKED:
                raise ArtifactError(f"{title}: sb3_zip is too large or too deep")
            for member in archive.infolist():
                content = archive.read(member)
                if content[:4] == b"PK\x03\x04":
                    _check_zip(content, title, depth + 1)
                elif member.filename.endswith((".pkl", ".pickle")):
                    if not _names(content) <= _TENSORS:
                        raise refusal
                elif b":serialized:" in content or b"cloudpickle" in content:
                    raise refusal
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError) as error:
        raise ArtifactError(f"{title}: sb3_zip cannot be read: {error}") from error


def _names(stream: bytes) -> set[str]:
    """Return what a pickle would import, read as opcodes and never run."""
    found: set[str] = set()
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("GLOBAL", "INST"):
            found.add(str(argument))
        elif opcode.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
            found.add(opcode.name)
    return found


def _title(loaded: Loaded) -> str:
    return f"{loaded.manifest.model}/{loaded.manifest.version}/{loaded.manifest.name}"


_BUILDERS: Final[dict[str, Callable[[Loaded], Any]]] = {
    "hmm": hmm.model_of,
    "bbmm": bbmm.calibration_of,
    "habitat": habitat.model_of,
    "forecast": _forecast,
    "corridor": _corridor,
}
