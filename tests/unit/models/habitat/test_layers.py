"""``rasters.toml``: what it says, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.habitat.layers import KINDS, rasters_of, read_rasters
from shared.errors import Invalid

pytestmark = [pytest.mark.unit, pytest.mark.ml]

HERE = Path("reserve/rasters.toml")


def layer(kind: str = "elevation", **more: str) -> str:
    fields = {"kind": f'"{kind}"', "file": '"a.tif"', "unit": '"m"'} | more
    return "[[layer]]\n" + "\n".join(f"{name} = {value}" for name, value in fields.items() if value) + "\n"


def test_units_scale_and_offset_become_the_unit_of_the_kind() -> None:
    text = layer(unit='"ft"') + layer("temperature", unit='"K"', scale="0.02") + layer("distance_to_road", unit='"km"')
    found = rasters_of(text.encode(), HERE)
    assert [one.conversion() for one in found.layer] == [(0.3048, 0.0), (0.02, -273.15), (1_000.0, 0.0)]
    assert found.folder == Path("reserve")
    assert found.first.kind == "elevation"


def test_the_grid_is_the_layer_that_is_named() -> None:
    text = 'grid = "slope"\n' + layer() + layer("slope", unit='"degree"')
    assert rasters_of(text.encode(), HERE).first.kind == "slope"


def test_a_season_has_its_own_layer() -> None:
    wet = layer("ndvi", unit='"1"', file='"wet.tif"', months="[11, 12, 1, 2, 3, 4]")
    dry = layer("ndvi", unit='"1"', file='"dry.tif"', months="[5, 6, 7, 8, 9, 10]")
    found = rasters_of((wet + dry).encode(), HERE)
    assert found.at(12)["ndvi"].file == "wet.tif"
    assert found.at(7)["ndvi"].file == "dry.tif"
    assert found.at(None) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "`layer`"),
        ("layer = []", "it names no layer"),
        (layer("height"), "unknown kind 'height'; there are elevation"),
        (layer(unit='"furlong"'), "unknown unit 'furlong' of elevation; there are m, km, ft"),
        (layer(unit=""), "elevation has no unit"),
        (layer(band="0"), ">= 1"),
        (layer(colour="1"), "unknown field `colour`"),
        (layer() + layer(), "two layers are elevation in month 1"),
        (layer(months="[13]"), "<= 12"),
        (layer("land_cover", unit=""), "land_cover needs categories"),
        (layer(categories='{1 = "forest"}'), "no other kind has them"),
        (layer("land_cover", unit="", categories='{x = "forest"}'), "category 'x'"),
        (layer("land_cover", unit="", categories='{1 = "tall grass"}'), "'tall grass'"),
        ('grid = "ndvi"\n' + layer(), "no layer of that kind"),
        ("[[layer", "rasters.toml"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(Invalid) as error:
        rasters_of(text.encode(), HERE)
    assert said in error.value.detail
    assert "rasters.toml" in error.value.detail


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"rasters\.toml: No such file"):
        read_rasters(tmp_path / "rasters.toml")


def test_each_kind_and_unit_is_in_the_readme() -> None:
    text = (Path(__file__).resolve().parents[4] / "models" / "habitat" / "README.md").read_text(encoding="utf-8")
    for name, kind in KINDS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert all(f"`{unit}`" in row for unit in kind.units), name
