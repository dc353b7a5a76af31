"""Laws of habitat: any trees give the same in bytes, any window the same as the whole, any tile reads back."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.habitat.covariates import covariate_names, covariates, margin_cells
from models.habitat.layers import rasters_of
from models.habitat.runtime import END_BIN, HabitatModel
from models.habitat.tiles import coloured, pixel_positions
from shared.errors import Invalid

pytestmark = [pytest.mark.unit, pytest.mark.ml]

EXAMPLES = 200 if os.environ.get("OUTPOST_NIGHTLY") else 20


def model(rng: np.random.Generator, depth: int, trees: int, names: int) -> HabitatModel:
    """Any model that can be."""
    sizes = rng.integers(1, 8, names)
    features = rng.integers(0, names, (trees, (1 << depth) - 1)).astype(np.uint8)
    bins = (rng.integers(0, 1_000, features.shape) % sizes[features]).astype(np.uint8)
    bins[rng.random(bins.shape) < 0.2] = END_BIN
    no_data_right = (rng.integers(0, 2, features.shape) * (bins != END_BIN)).astype(np.uint8)
    return HabitatModel(
        name="any",
        version=1,
        names=tuple(f"c{place}" for place in range(names)),
        base=float(rng.normal()),
        furthest_sd=3.0,
        linear=np.stack((rng.normal(size=names), rng.uniform(0.5, 2, names), *rng.normal(size=(2, names)))).astype(
            np.float32
        ),
        thresholds=np.concatenate([np.sort(rng.choice(1_000, size, replace=False)) for size in sizes]).astype(
            np.float32
        )
        / np.float32(250)
        - np.float32(2),
        ends=np.cumsum(sizes).astype(np.int64),
        features=features,
        bins=bins,
        no_data_right=no_data_right,
        leaves=rng.integers(-32_767, 32_768, (trees, 1 << depth)).astype(np.int16),
        leaf_scale=1e-5,
        months=(),
        auc=0.7,
        boyce=0.9,
        held_out="blocks",
    )


def plainly(found: HabitatModel, row: list[float]) -> float:
    """The log odds of one cell as the definition has it: node by node."""
    total = found.base
    for place, value in enumerate(row):
        mean, sd, slope, curve = (float(one) for one in found.linear[:, place])
        standard = 0.0 if np.isnan(value) else min(max((value - mean) / sd, -3.0), 3.0)
        total += slope * standard + curve * standard**2
    for features, bins, no_data_right, leaves in zip(
        found.features, found.bins, found.no_data_right, found.leaves, strict=True
    ):
        node = 0
        while node < bins.size:
            feature = int(features[node])
            first = 0 if feature == 0 else int(found.ends[feature - 1])
            if bins[node] == END_BIN:
                is_right = False
            elif np.isnan(row[feature]):
                is_right = bool(no_data_right[node])
            else:
                is_right = not np.float32(row[feature]) < found.thresholds[first + int(bins[node])]
            node = 2 * node + 1 + is_right
        total += float(leaves[node - bins.size]) * found.leaf_scale
    return total


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 12), st.integers(1, 5))
def test_any_trees_say_what_their_definition_says(seed: int, depth: int, trees: int, names: int) -> None:
    rng = np.random.default_rng(seed)
    found = model(rng, depth, trees, names)
    values = rng.choice(np.concatenate((found.thresholds, rng.normal(size=5).astype(np.float32))), size=(30, names))
    values[rng.random(values.shape) < 0.2] = np.nan
    wanted = [np.nan if np.isnan(row).all() else plainly(found, row.tolist()) for row in values]
    np.testing.assert_allclose(found.log_odds(values), wanted, rtol=1e-9, atol=1e-9)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.floats(150, 3_000))
def test_any_window_is_a_part_of_the_whole(seed: int, rows: int, columns: int, cell_m: float) -> None:
    rng = np.random.default_rng(seed)
    margin = margin_cells((cell_m, cell_m))
    names = covariate_names(["elevation", "woody_cover", "distance_to_water"])
    shape = (16 + 2 * margin[0], 14 + 2 * margin[1])
    layers = {kind: rng.uniform(0, 90, shape) for kind in ("elevation", "woody_cover", "distance_to_water")}
    layers["woody_cover"][rng.random(shape) < 0.2] = np.nan
    whole = covariates(names, layers, {}, (cell_m, cell_m), margin)
    top, left = int(rng.integers(0, 17 - rows)), int(rng.integers(0, 15 - columns))
    part = {
        kind: values[top : top + rows + 2 * margin[0], left : left + columns + 2 * margin[1]]
        for kind, values in layers.items()
    }
    found = covariates(names, part, {}, (cell_m, cell_m), margin)
    np.testing.assert_allclose(found, whole[:, top : top + rows, left : left + columns], rtol=1e-5, atol=1e-4)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_tile_reads_back_to_half_a_step(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wanted = rng.uniform(-0.1, 1.1, (256, 256))
    wanted[rng.random(wanted.shape) < 0.3] = np.nan
    png = coloured(wanted)
    data = b""
    at = 8
    while at < len(png):
        length, kind = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == int.from_bytes(png[at + 8 + length : at + 12 + length], "big")
        data += body if kind == b"IDAT" else b""
        at += 12 + length
    rows = np.frombuffer(zlib.decompress(data), dtype=np.uint8).reshape(256, 257)
    assert (rows[:, 0] == 0).all()
    indices = rows[:, 1:].astype(float)
    assert (np.isnan(wanted) == (indices == 0)).all()
    known = ~np.isnan(wanted)
    assert np.abs((indices[known] - 1) / 254 - np.clip(wanted[known], 0, 1)).max() <= 0.5 / 254 + 1e-12


@given(st.integers(0, 22), st.data())
def test_pixels_of_neighbouring_tiles_follow_each_other(zoom: int, data: st.DataObject) -> None:
    last = (1 << zoom) - 1
    x, y = data.draw(st.integers(0, last)), data.draw(st.integers(0, last))
    lon, lat = pixel_positions(zoom, x, y)
    assert (np.diff(lon) > 0).all()
    assert (np.diff(lat) < 0).all()
    assert abs(lat[0]) < 85.0512
    if x < last:
        assert pixel_positions(zoom, x + 1, y)[0][0] > lon[-1]
    if y < last:
        assert pixel_positions(zoom, x, y + 1)[1][0] < lat[-1]


@settings(max_examples=EXAMPLES * 5)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: f"[[layer]]\nkind = {text}".encode()))
def test_any_text_is_maps_or_is_refused(text: bytes) -> None:
    detail = None
    try:
        assert rasters_of(text, Path("rasters.toml")).layer
    except Invalid as error:
        detail = error.detail
    assert detail is None or detail.startswith("rasters.toml")
