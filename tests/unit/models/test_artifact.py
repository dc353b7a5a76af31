"""Artefacts are checked before they are trusted, and the last good version stays."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.artifact import Input, Loaded, Manifest, TrainingSet, load, load_newest, save, verify, versions
from shared.errors import ArtifactError, ModelUnavailable

pytestmark = [pytest.mark.unit, pytest.mark.ml]


def _save(folder: Path, version: int, *, value: float = 1.0, name: str = "elephant") -> Manifest:
    return save(
        folder,
        model="hmm",
        name=name,
        version=version,
        inputs=(Input(name="step_m", unit="m"),),
        arrays={
            "table": (np.arange(6, dtype=np.int16).reshape(2, 3), 1 / 256, "nat"),
            "offset": (np.array([value], dtype=np.float32), 1.0, "m"),
        },
        metrics={"rows": 6},
        trained_on=(TrainingSet(dataset="d.csv", individuals=("A",), rows=6, licence="CC0-1.0", citation="C"),),
        licence="MIT",
        settings={"lag": 2},
    )


def _identity(loaded: Loaded) -> int:
    return loaded.manifest.version


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    manifest = _save(tmp_path, 1)
    loaded = load(tmp_path, "hmm", 1, "elephant")
    assert loaded.manifest == manifest
    assert loaded.arrays["table"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert loaded.arrays["offset"].tolist() == [1.0]


def test_the_newest_version_is_loaded(tmp_path: Path) -> None:
    for version in (1, 2, 10):
        _save(tmp_path, version)
    assert versions(tmp_path, "hmm") == [10, 2, 1]
    assert load_newest(tmp_path, "hmm", "elephant", _identity)[0] == 10


@pytest.mark.parametrize("at", [0, 7, 15])
def test_an_altered_file_is_refused_and_the_version_before_it_stays(tmp_path: Path, at: int) -> None:
    _save(tmp_path, 1)
    _save(tmp_path, 2)
    path = tmp_path / "hmm/2/elephant.bin"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    version, loaded = load_newest(tmp_path, "hmm", "elephant", _identity)
    assert version == 1
    assert len(loaded.refused) == 1
    assert "sha256" in loaded.refused[0]


@pytest.mark.parametrize("broken", ["elephant.bin", "elephant.json"])
def test_a_missing_half_is_refused(tmp_path: Path, broken: str) -> None:
    _save(tmp_path, 1)
    _save(tmp_path, 2)
    (tmp_path / "hmm/2" / broken).unlink()
    assert load_newest(tmp_path, "hmm", "elephant", _identity)[0] == 1


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    manifest = _save(tmp_path, 1)
    data = (tmp_path / "hmm/1/elephant.bin").read_bytes()
    with pytest.raises(ArtifactError, match="15 bytes, its arrays need 16"):
        verify(manifest, data[:-1])


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no numbers"):
        _save(tmp_path, 1, value=float("nan"))


def test_another_format_is_refused(tmp_path: Path) -> None:
    manifest = msgspec.structs.replace(_save(tmp_path, 1), format=2)
    with pytest.raises(ArtifactError, match="format 2"):
        verify(manifest, (tmp_path / "hmm/1/elephant.bin").read_bytes())


def test_a_manifest_that_is_not_one_is_refused(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    (tmp_path / "hmm/1/elephant.json").write_text("{")
    with pytest.raises(ModelUnavailable, match="not readable"):
        load_newest(tmp_path, "hmm", "elephant", _identity)


def test_a_manifest_of_another_artefact_is_refused(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    (tmp_path / "hmm/1/elephant.json").rename(tmp_path / "hmm/1/buffalo.json")
    (tmp_path / "hmm/1/elephant.bin").rename(tmp_path / "hmm/1/buffalo.bin")
    with pytest.raises(ArtifactError, match="another artefact"):
        load(tmp_path, "hmm", 1, "buffalo")


def test_a_version_without_the_name_is_passed_over(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    _save(tmp_path, 2, name="buffalo")
    version, loaded = load_newest(tmp_path, "hmm", "elephant", _identity)
    assert (version, loaded.refused) == (1, ())


def test_what_the_model_itself_refuses_is_refused(tmp_path: Path) -> None:
    def picky(loaded: Loaded) -> int:
        if loaded.manifest.version == 2:
            raise ArtifactError("not of the right shape")
        return loaded.manifest.version

    _save(tmp_path, 1)
    _save(tmp_path, 2)
    version, loaded = load_newest(tmp_path, "hmm", "elephant", picky)
    assert (version, loaded.refused) == (1, ("not of the right shape",))


def test_without_any_the_model_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no version"):
        load_newest(tmp_path, "hmm", "elephant", _identity)
