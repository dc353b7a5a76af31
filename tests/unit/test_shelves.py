"""Choices of models, and what makes a model file one: signatures, manifests, the archive that no home opens."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.artifact import PACKAGED, Manifest, load
from models.live.usable import check_usable, read_manifest, runs_at_stations, species_of
from shared.errors import ArtifactError, Conflict, Forbidden, Invalid
from shared.shelf import NONE_CHOSEN
from shared.sync import shelves
from shared.wire.manifests import Chosen, StationShelf, check_manifest, checked_shelf, sign_manifest, sign_shelf
from shared.wire.signatures import new_key
from tests.access import MemoryTables

pytestmark = pytest.mark.unit

SEED, PUBLIC = new_key()
#: A choice of a version, or taking one back, at a place.
STEPS = st.lists(st.tuples(st.sampled_from(["", "post-1"]), st.one_of(st.none(), st.integers(1, 4))), max_size=12)


async def after(steps: list[tuple[str, int | None]]) -> list[shelves.Choice]:
    tables = MemoryTables()
    for place, version in steps:
        try:
            if version is None:
                await tables.write(shelves.take_back(place, "hmm", "elephant", "u", 1))
            else:
                await tables.write(shelves.choose(place, "hmm", "elephant", version, "u", 1))
        except Conflict:
            assert version is None
    return await tables.read(shelves.choices())


@given(STEPS)
async def test_taking_back_undoes_choices_of_a_place_one_by_one_and_no_others(
    steps: list[tuple[str, int | None]],
) -> None:
    stacks: dict[str, list[int]] = {"": [], "post-1": []}
    for place, version in steps:
        if version is not None:
            stacks[place].append(version)
        elif stacks[place]:
            stacks[place].pop()
    made = await after(steps)
    for place in stacks:
        found = shelves.in_force(made, place).get(("hmm", "elephant"))
        expected = (stacks[place] or stacks[""] or [NONE_CHOSEN])[-1]
        assert (NONE_CHOSEN if found is None else found.version) == expected


def test_a_manifest_is_taken_as_it_was_signed_and_of_a_known_key_alone() -> None:
    key, signature = sign_manifest(SEED, '{"version": 1}')
    assert key == PUBLIC.hex()
    check_manifest('{"version": 1}', key, signature, [key])
    with pytest.raises(Forbidden, match="not what this key signed"):
        check_manifest('{"version": 2}', key, signature, [key])
    with pytest.raises(Forbidden, match=r"models\.publishers"):
        check_manifest('{"version": 1}', key, signature, [])
    with pytest.raises(Forbidden, match="of this key"):
        check_manifest('{"version": 1}', key, signature, ["0" * 64])


def test_a_list_of_models_counts_for_one_station_and_of_one_cloud_alone() -> None:
    shelf = StationShelf(
        station_id="post-1", epoch="e", issue=3, chosen=[Chosen(model="hmm", name="elephant", version=2)]
    )
    sent = sign_shelf(SEED, shelf)
    assert checked_shelf(sent, PUBLIC, "post-1") == shelf
    with pytest.raises(Forbidden, match="another station"):
        checked_shelf(sent, PUBLIC, "post-2")
    with pytest.raises(Forbidden, match="not genuine"):
        checked_shelf(sent, new_key()[1], "post-1")
    for place in range(0, len(sent), 7):
        damaged = bytearray(sent)
        damaged[place] ^= 1
        with pytest.raises(Forbidden):
            checked_shelf(bytes(damaged), PUBLIC, "post-1")


@pytest.mark.parametrize(
    "title", ["hmm/elephant", "bbmm/buffalo", "habitat/generic", "forecast/network", "corridor/ppo", "corridor/budget"]
)
def test_every_model_that_comes_with_the_program_is_one_that_a_home_would_take(title: str) -> None:
    model, name = title.split("/")
    place = PACKAGED / model / "1"
    manifest = read_manifest((place / f"{name}.json").read_text(encoding="utf-8"))
    check_usable(manifest, (place / f"{name}.bin").read_bytes())
    assert species_of(manifest) == {"elephant": ("elephant",), "buffalo": ("buffalo",)}.get(
        name, tuple(manifest.settings.get("species", ()))
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "oracle"}, "model must be one of"),
        ({"name": "unicorn"}, "would ask for hmm/unicorn"),
        ({"name": "../../etc"}, "letters, digits"),
        ({"version": 0}, "at least 1"),
    ],
)
def test_a_manifest_of_what_no_program_asks_for_is_refused(change: dict[str, object], said: str) -> None:
    text = (PACKAGED / "hmm" / "1" / "elephant.json").read_bytes()
    with pytest.raises(Invalid, match=said):
        read_manifest(msgspec.json.encode({**msgspec.json.decode(text), **change}).decode())


def test_a_file_that_was_altered_or_of_another_shape_is_refused() -> None:
    place = PACKAGED / "hmm" / "1"
    manifest, data = read_manifest((place / "elephant.json").read_text()), (place / "elephant.bin").read_bytes()
    with pytest.raises(ArtifactError, match="sha256 differs"):
        check_usable(manifest, bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(ArtifactError, match="its arrays need"):
        check_usable(manifest, data[:-1])
    with pytest.raises(ArtifactError):  # bit for bit what its manifest says, and no model of behaviour
        check_usable(msgspec.structs.replace(manifest, settings={"variants": []}), data)


def test_a_pickle_of_more_than_tensors_is_refused() -> None:
    inner, outer = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("policy/data.pkl", pickle.dumps(print, protocol=2))
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("policy.pth", inner.getvalue())
    manifest, arrays = _policy()
    for zipped in (outer.getvalue(), b"not a zip at all"):
        made, data = _with_zip(manifest, arrays, zipped)
        with pytest.raises(ArtifactError, match="sb3_zip"):
            check_usable(made, data)
    check_usable(*_with_zip(manifest, arrays, arrays["sb3_zip"].tobytes()))


def _policy() -> tuple[Manifest, dict[str, np.ndarray]]:
    loaded = load(PACKAGED, "corridor", 1, "ppo_float")
    return loaded.manifest, loaded.arrays


def _with_zip(manifest: Manifest, arrays: dict[str, np.ndarray], zipped: bytes) -> tuple[Manifest, bytes]:
    values = {**arrays, "sb3_zip": np.frombuffer(zipped, dtype=np.uint8)}
    data = b"".join(values[spec.name].tobytes() for spec in manifest.arrays)
    specs = tuple(msgspec.structs.replace(spec, shape=values[spec.name].shape) for spec in manifest.arrays)
    return msgspec.structs.replace(manifest, arrays=specs, sha256=hashlib.sha256(data).hexdigest()), data


def test_what_a_station_opens_takes_less_than_two_megabytes() -> None:
    files = [path for path in PACKAGED.rglob("*") if path.is_file()]
    ours = [path for path in files if runs_at_stations(path.parts[-3], path.stem)]
    assert sum(path.stat().st_size for path in ours) < 2_000_000
    others = {f"{path.parts[-3]}/{path.stem}" for path in files} - {f"{path.parts[-3]}/{path.stem}" for path in ours}
    folds = {each for each in others if each.startswith("forecast/fold")}
    assert others - folds == {"corridor/budget", "corridor/ppo_float", "corridor/dqn_float", "forecast/float"}


def test_a_model_is_signed_by_the_program_as_a_home_takes_it(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "outpost-models"

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *words], capture_output=True, text=True, check=False, timeout=120)

    made = json.loads(run("key", tmp_path / "publisher.key", "--json").stdout)
    assert (tmp_path / "publisher.key").stat().st_mode & 0o077 == 0
    assert run("key", tmp_path / "publisher.key").returncode != 0  # never written over
    body = json.loads(run("sign", PACKAGED / "hmm" / "1" / "elephant.json", "--key", tmp_path / "publisher.key").stdout)
    check_manifest(body["manifest"], body["key"], body["signature"], [made["public_key"]])
    (tmp_path / "elephant.json").write_text(body["manifest"])
    (tmp_path / "elephant.bin").write_bytes(b"not the file")
    refused = run("sign", tmp_path / "elephant.json", "--key", tmp_path / "publisher.key")
    assert refused.returncode != 0
    assert "its arrays need" in refused.stderr + refused.stdout
