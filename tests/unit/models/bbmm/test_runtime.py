"""The station's side: calibrations, the likely path, and occurrence that grows."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.artifact import PACKAGED
from models.bbmm.density import bridges_of, occurrence_of
from models.bbmm.export import export
from models.bbmm.features import LocationErrors, frame_for
from models.bbmm.heldout import Case
from models.bbmm.runtime import (
    GAUSSIAN_50,
    GAUSSIAN_95,
    Calibration,
    Utilisation,
    calibration_name,
    load_calibration,
    path_at,
    variances,
)
from shared.errors import ArtifactError, ModelUnavailable
from tests.unit.models.bbmm.tracks import brownian, track

pytestmark = [pytest.mark.unit, pytest.mark.ml]

FRAME = frame_for(np.array([37.0]), np.array([0.5]))
CASE = Case(model="elephant", file="a.csv", individual="A", keep_every=(2,), licence="CC0", citation="none")
CALIBRATION = Calibration(
    name="elephant",
    version=1,
    errors=LocationErrors(),
    variance_m2_per_s=5.0,
    max_gap_s=86_400.0,
    up_to_gap_s=np.array([3_600.0, 86_400.0]),
    radius_50=np.array([0.5, 0.75]),
    radius_95=np.array([2.0, 2.5]),
)


def save(folder: Path, calibration: Calibration) -> None:
    export(folder, calibration, [(CASE, 10)], {"measured": 1.0})


@pytest.mark.parametrize(
    ("species", "name"),
    [
        ("Loxodonta africana", "elephant"),
        ("African bush elephants", "elephant"),
        ("Syncerus caffer", "buffalo"),
        ("blue_wildebeest", "wildebeest"),
        ("Panthera leo", "generic"),
        ("", "generic"),
        (None, "generic"),
    ],
)
def test_a_species_has_its_calibration(species: str | None, name: str) -> None:
    assert calibration_name(species) == name


@pytest.mark.parametrize("species", ["elephant", "buffalo", "wildebeest", "zebra"])
def test_packaged_calibrations_load(species: str) -> None:
    found = load_calibration(species)
    assert found.refused == ()
    assert (found.radius_50 < GAUSSIAN_50).all()
    assert (found.radius_95 > found.radius_50).all()
    assert found.variance_m2_per_s > 0


def test_packaged_manifests_name_individuals_and_no_rows() -> None:
    for path in (PACKAGED / "bbmm" / "1").glob("*.json"):
        manifest = msgspec.json.decode(path.read_bytes())
        assert all(used["individuals"] and used["licence"] and used["rows"] > 0 for used in manifest["trained_on"])
        assert path.with_suffix(".bin").stat().st_size < 1_000


def test_what_is_exported_is_loaded(tmp_path: Path) -> None:
    save(tmp_path, CALIBRATION)
    found = load_calibration("elephant", tmp_path)
    assert msgspec.structs.asdict(found).keys() == msgspec.structs.asdict(CALIBRATION).keys()
    assert (found.errors, found.variance_m2_per_s, found.max_gap_s) == (LocationErrors(), 5.0, 86_400.0)
    assert found.radius_95.tolist() == [2.0, 2.5]


def test_an_altered_calibration_gives_way_to_the_generic_one(tmp_path: Path) -> None:
    save(tmp_path, CALIBRATION)
    save(tmp_path, msgspec.structs.replace(CALIBRATION, name="generic", variance_m2_per_s=7.0))
    (tmp_path / "bbmm" / "1" / "elephant.bin").write_bytes(b"\0" * 24)
    found = load_calibration("elephant", tmp_path)
    assert found.name == "generic"
    assert "sha256" in found.refused[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"radius_95": np.array([0.4, 0.5])},
        {"up_to_gap_s": np.array([7_200.0, 3_600.0])},
        {"radius_50": np.array([0.5])},
        {"variance_m2_per_s": 0.0},
    ],
)
def test_a_calibration_that_cannot_be_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    save(tmp_path, msgspec.structs.replace(CALIBRATION, name="generic", **wrong))
    with pytest.raises(ModelUnavailable):
        load_calibration("zebra", tmp_path)


def test_the_radii_are_those_of_the_gap() -> None:
    inner, outer = CALIBRATION.multiples(np.array([60.0, 3_600.0, 3_601.0, 1e6]))
    assert inner.tolist() == [0.5, 0.5, 0.75, 0.75]
    assert outer.tolist() == [2.0, 2.0, 2.5, 2.5]


def test_the_path_leads_through_the_fixes_and_is_widest_between_them() -> None:
    walk = track([0, 7_200], [0, 1_000], [0, 0])
    found = path_at(walk, np.array([0.0, 3_600.0, 7_200.0, 9_000.0]), CALIBRATION)
    assert found.x_m[:3] == pytest.approx([0, 500, 1_000])
    assert found.sd_m[1] == pytest.approx(np.sqrt(7_200 / 4 * 5 + 200))
    assert found.radius_50_m[1] == pytest.approx(0.75 * found.sd_m[1])
    assert found.radius_95_m[1] == pytest.approx(2.5 * found.sd_m[1])
    assert np.isnan(found.x_m[3])


def test_an_animal_with_few_fixes_has_the_variance_of_its_species() -> None:
    assert variances(track([0, 10], [0, 1], [0, 0]), 5.0).tolist() == [5.0]
    assert variances(track([], [], []), 5.0).size == 0
    assert variances(brownian(20, 3.0), 5.0) == pytest.approx(variances(brownian(20, 3.0), 9.0))


def grown(cell_m: float = 50.0) -> tuple[Utilisation, Utilisation]:
    walk = brownian(80, 5.0)
    whole, parts = Utilisation(FRAME, cell_m), Utilisation(FRAME, cell_m)
    bridges = bridges_of(walk, 5.0)
    whole.add(bridges)
    for n in range(len(bridges)):
        parts.add(bridges.part(slice(n, n + 1)))
    return whole, parts


def test_occurrence_that_grew_is_the_same_as_drawn_at_once() -> None:
    whole, parts = grown()
    found, again = whole.occurrence(), parts.occurrence()
    assert (found.seconds == again.seconds).all()
    batch = occurrence_of(bridges_of(brownian(80, 5.0), 5.0), found.grid)
    assert found.seconds == pytest.approx(batch.seconds, abs=1e-6 * float(batch.seconds.max()))
    assert found.area_km2(0.95) == pytest.approx(batch.area_km2(0.95), abs=0.0026)
    assert found.sigma_m_per_root_s == pytest.approx(batch.sigma_m_per_root_s)
    assert found.location_error_m == pytest.approx(batch.location_error_m)
    assert (found.bridges, found.lasting_s) == (batch.bridges, batch.lasting_s)


def test_a_late_fix_replaces_one_bridge_by_two() -> None:
    walk = brownian(30, 5.0)
    rest = [n for n in range(30) if n != 10]
    columns = (walk.times_s[rest].tolist(), walk.x_m[rest].tolist(), walk.y_m[rest].tolist())
    without = bridges_of(track(*columns, 10.0), 5.0)
    late = Utilisation(FRAME, 50.0)
    late.add(without)
    late.replace(without.part(slice(9, 10)), bridges_of(walk.part(slice(9, 12)), 5.0))
    in_order = Utilisation(FRAME, 50.0)
    in_order.add(bridges_of(walk, 5.0))
    found, wanted = late.occurrence(), in_order.occurrence()
    assert found.bridges == wanted.bridges == 29
    assert found.mass_on_grid == pytest.approx(wanted.mass_on_grid, abs=1e-6)
    assert found.area_km2(0.95) == pytest.approx(wanted.area_km2(0.95), rel=0.01)
    assert (found.seconds >= 0).all()


def test_a_stored_utilisation_goes_on_where_it_was() -> None:
    whole, _ = grown()
    whole.fixes_dropped = 4
    tiles = whole.take_changed()
    again = Utilisation.restored(whole.head(), tiles)
    assert again.head() == whole.head()
    assert (again.occurrence().seconds == whole.occurrence().seconds).all()
    assert again.occurrence().fixes_dropped == 4
    assert again.take_changed() == {}


def test_only_the_tiles_that_a_bridge_touches_are_stored_again() -> None:
    walk = brownian(80, 5.0)
    bridges = bridges_of(walk, 5.0)
    grown = Utilisation(FRAME, 50.0, tile_cells=4)
    grown.add(bridges.part(slice(0, 78)))
    stored = grown.take_changed()
    grown.add(bridges.part(slice(78, 79)))
    changed = grown.take_changed()
    assert 0 < len(changed) < len(stored) / 2
    again = Utilisation.restored(grown.head(), {**stored, **changed})
    assert (again.occurrence().seconds == grown.occurrence().seconds).all()


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x81\xa5frame\x01"])
def test_bytes_that_are_no_utilisation_are_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError):
        Utilisation.restored(data, {})


def test_a_tile_of_another_size_is_refused() -> None:
    whole, _ = grown()
    with pytest.raises(ArtifactError):
        Utilisation.restored(whole.head(), {(0, 0): bytes(7)})


def test_an_empty_utilisation_has_an_empty_map() -> None:
    found = Utilisation(FRAME, 50.0).occurrence()
    assert found.area_km2(0.95) == 0.0
    assert found.mass_on_grid == 0.0


@pytest.mark.parametrize(("cell_m", "tile_cells"), [(0.0, 32), (50.0, 0)])
def test_cells_without_width_are_refused(cell_m: float, tile_cells: int) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        Utilisation(FRAME, cell_m, tile_cells)


def test_the_gaussian_radii_are_those_of_two_dimensions() -> None:
    assert pytest.approx((1.17741, 2.44775), abs=1e-5) == (GAUSSIAN_50, GAUSSIAN_95)
