"""All models over one animal's fixes: order, isolation, what is missing and why."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.artifact import PACKAGED
from models.hmm.features import FloatArray, IntArray
from models.hmm.runtime import Variant
from models.live import maps
from models.live.runtime import Asked, Fixes, Models, behaviour, newest_width, recent_variance, said, said_of_each
from shared.errors import ModelUnavailable

pytestmark = [pytest.mark.unit, pytest.mark.ml]

HOUR = 3600.0


@pytest.fixture(scope="module")
def models() -> Models:
    return Models()


def fixes(count: int, *, every_s: float = HOUR, step_deg: float = 0.004) -> Fixes:
    """Return fixes of an animal that wanders."""
    rng = np.random.default_rng(4)
    return Fixes(
        times_s=np.arange(count, dtype=np.float64) * every_s,
        lon_deg=37.5 + np.cumsum(rng.normal(0, step_deg, count)),
        lat_deg=-2.5 + np.cumsum(rng.normal(0, step_deg, count)),
        h_acc_m=np.full(count, np.nan),
        hdop=np.full(count, np.nan),
    )


def test_each_stage_says_what_it_has_to_say(models: Models) -> None:
    found = said(models, "Loxodonta africana", fixes(50))
    assert found.missing == {}
    assert found.behaviour is not None
    assert (found.behaviour.model, found.behaviour.interval_s, len(found.behaviour.steps)) == ("elephant", HOUR, 49)
    assert found.path is not None
    assert found.path.sd_m is not None
    assert found.path.radius_50_m is not None
    assert found.path.radius_95_m is not None
    assert 0 < found.path.radius_50_m < found.path.radius_95_m


def test_one_stage_that_fails_leaves_the_other(models: Models) -> None:
    slow = said(models, "elephant", fixes(10, every_s=12 * HOUR))
    assert slow.behaviour is None
    assert slow.path is not None
    assert list(slow.missing) == ["behaviour"]
    broken = Models()
    broken.calibration = lambda _species: 1 / 0  # type: ignore[assignment, method-assign, return-value] # a fault inside a model
    found = said(broken, "elephant", fixes(50))
    assert found.behaviour is not None
    assert found.missing == {"path": "failed: ZeroDivisionError: division by zero"}


def test_many_animals_at_once_are_told_what_each_is_told_alone(models: Models) -> None:
    herd = [
        Asked(species="elephant", fixes=fixes(50)),
        Asked(species="elephant", fixes=fixes(1)),
        Asked(species="wildebeest", fixes=fixes(60, every_s=3 * HOUR)),
        Asked(species="elephant", fixes=fixes(30, step_deg=0.02), variance_m2_per_s=7.0),
        Asked(species=None, fixes=fixes(40)),
        Asked(species="elephant", fixes=fixes(20, every_s=12 * HOUR)),
        Asked(species="elephant", fixes=fixes(0)),
    ]
    together = said_of_each(models, herd)
    for one, found in zip(herd, together, strict=True):
        alone = said(models, one.species, one.fixes, variance_m2_per_s=one.variance_m2_per_s)
        assert (found.path, found.missing) == (alone.path, alone.missing)
        assert (found.behaviour is None) == (alone.behaviour is None)
        if found.behaviour is None or alone.behaviour is None:
            continue
        assert msgspec.structs.replace(found.behaviour, steps=[]) == msgspec.structs.replace(alone.behaviour, steps=[])
        for mine, theirs in zip(found.behaviour.steps, alone.behaviour.steps, strict=True):
            assert mine.smoothed == pytest.approx(theirs.smoothed, abs=1e-12)
            assert msgspec.structs.replace(mine, smoothed=(), confidence=0.0) == msgspec.structs.replace(
                theirs, smoothed=(), confidence=0.0
            )
    assert said_of_each(models, []) == []


class Fragile(Variant, frozen=True):
    """A variant with a fault that long steps bring out."""

    def log_densities(self, step_m: FloatArray, angle_rad: FloatArray) -> IntArray:
        if step_m.max() > 20_000.0:
            raise ZeroDivisionError("too long a step")
        return super().log_densities(step_m, angle_rad)


def test_a_fault_over_one_animal_is_named_at_it_and_leaves_the_herd(models: Models) -> None:
    sound = models.behaviour("elephant")
    fragile = msgspec.structs.replace(
        sound, variants=tuple(Fragile(**msgspec.structs.asdict(variant)) for variant in sound.variants)
    )
    broken = Models()
    broken.behaviour = lambda species: fragile  # type: ignore[method-assign] # noqa: ARG005 # a fault inside a model
    herd = [Asked(species="elephant", fixes=fixes(50, step_deg=step_deg)) for step_deg in (0.004, 0.4, 0.002)]
    first, odd, last = said_of_each(broken, herd)
    assert odd.behaviour is None
    assert odd.path is not None
    assert odd.missing == {"behaviour": "failed: ZeroDivisionError: too long a step"}
    for one, found in ((herd[0], first), (herd[2], last)):
        assert found == said(models, "elephant", one.fixes)


def test_a_lone_fix_has_neither_step_nor_path(models: Models) -> None:
    assert said(models, "elephant", fixes(1)).missing == {
        "behaviour": "there is no step yet: fewer than two fixes",
        "path": "there is no path yet: fewer than two fixes",
    }
    assert set(said(models, "elephant", fixes(0)).missing) == {"behaviour", "path"}


def test_a_gap_too_long_for_a_bridge_has_no_width(models: Models) -> None:
    two = fixes(2, every_s=100 * HOUR)
    found = newest_width(models, "elephant", two)
    assert (found.sd_m, found.radius_50_m, found.radius_95_m, found.gap_s) == (None, None, None, 100 * HOUR)


def test_the_width_is_that_of_the_middle_of_the_bridge(models: Models) -> None:
    calibration = models.calibration("elephant")
    found = newest_width(models, "elephant", fixes(2), 4.0)
    error_m = calibration.errors.unstated_m
    assert found.sd_m == pytest.approx(np.sqrt(HOUR * 4.0 / 4 + 2 * error_m**2 / 4))


def test_few_fixes_have_the_variance_of_their_species(models: Models) -> None:
    calibration = models.calibration("elephant")
    assert recent_variance(calibration, fixes(2)) == calibration.variance_m2_per_s
    assert recent_variance(calibration, fixes(40)) != calibration.variance_m2_per_s


def test_models_are_loaded_once_and_refusals_are_kept(tmp_path: Path) -> None:
    shutil.copytree(PACKAGED / "bbmm", tmp_path / "bbmm")
    models = Models(tmp_path)
    assert "no usable hmm model" in models.load()["hmm"]
    shutil.copytree(PACKAGED / "hmm", tmp_path / "hmm")
    with pytest.raises(ModelUnavailable):
        behaviour(models, None, fixes(10))  # a file that appears is looked at by the next start
    assert models.calibration("elephant") is models.calibration("Loxodonta africana")


def test_an_altered_artefact_is_named_at_load(tmp_path: Path) -> None:
    shutil.copytree(PACKAGED, tmp_path / "artifacts")
    for model in ("hmm", "bbmm"):
        newest = tmp_path / "artifacts" / model / "1"
        (newest / "generic.bin").write_bytes(b"\0" * (newest / "generic.bin").stat().st_size)
    refused = Models(tmp_path / "artifacts").load()
    assert {model: "sha256 differs" in reason for model, reason in refused.items()} == {"hmm": True, "bbmm": True}


def test_what_a_station_imports_brings_nothing_of_training() -> None:
    script = (
        "import json, sys, models.live.runtime, models.live.maps, models.live.insight;"
        "heavy = ('hmmlearn', 'scipy', 'sklearn', 'torch', 'xgboost', 'PIL');"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_cells_are_wider_for_an_animal_that_roams_far() -> None:
    def metres(east: float, north: float) -> tuple[np.ndarray, np.ndarray]:
        return np.array([0.0, east]), np.array([0.0, north])

    assert maps.cell_m_for(metres(90_000, 1_000)) == 40
    assert maps.cell_m_for(metres(1_000, 101_000)) == 80
    assert maps.cell_m_for(metres(450_000, 0)) == 320
    assert maps.cell_m_for(metres(0, 0)) == 40
