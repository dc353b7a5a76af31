"""Simulated maps and animals that like what they are made to like."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.warp
from rasterio.transform import from_origin

CRS = "EPSG:32736"
CELL_M = 100.0
WEST, NORTH = 320_000.0, 7_300_000.0


def smooth_noise(shape: tuple[int, int], seed: int, width: int = 15) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Noise whose neighbours are alike, standardised."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(shape[0] + width, shape[1] + width))
    kernel = np.ones(width) / width
    for axis in (0, 1):
        values = np.apply_along_axis(np.convolve, axis, values, kernel, mode="same")
    values = values[: shape[0], : shape[1]]
    return np.asarray((values - values.mean()) / values.std())


def write_map(path: Path, bands: Any, **profile: Any) -> Path:
    """Write bands (k, rows, columns) as a GeoTIFF; anything of the profile may be replaced."""
    bands = np.atleast_3d(np.asarray(bands))
    if bands.shape[-1] == 1:
        bands = bands[None, :, :, 0]
    settings: dict[str, Any] = {
        "driver": "GTiff", "count": bands.shape[0], "height": bands.shape[1], "width": bands.shape[2],
        "dtype": "float32", "crs": CRS, "transform": from_origin(WEST, NORTH, CELL_M, CELL_M), "nodata": -9999.0,
    }  # fmt: skip
    with rasterio.open(path, "w", **(settings | profile)) as file:
        file.write(bands.astype(file.dtypes[0]))
    return path


def write_reserve(folder: Path, *, animals: int = 1, fixes: int = 400, seed: int = 1) -> Path:
    """Write a reserve: elevation, woody cover and distance to water, and animals that keep to low ground near water."""
    shape = (160, 170)
    height = 500 + 60 * smooth_noise(shape, seed)
    woody = np.clip(30 + 12 * smooth_noise(shape, seed + 1), 0, 100)
    water = np.abs(smooth_noise(shape, seed + 2)) * 1_500
    write_map(folder / "ground.tif", np.stack((height, woody, water)))
    (folder / "rasters.toml").write_text(
        "\n".join(
            f'[[layer]]\nkind = "{kind}"\nfile = "ground.tif"\nband = {band}\nunit = "{unit}"\n'
            for band, (kind, unit) in enumerate(
                (("elevation", "m"), ("woody_cover", "percent"), ("distance_to_water", "m")), 1
            )
        ),
        encoding="utf-8",
    )
    taste = -(height - 500) / 60 - water / 700
    rng = np.random.default_rng(seed + 3)
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    with (folder / "tracks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("individual", "timestamp", "lon", "lat", "species"))
        for number in range(animals):
            home = np.array([45 + 70 * (number % 2), 45 + 80 * (number // 2 % 2)])
            for fix, (row, column) in enumerate(_walk(taste, home, fixes, rng)):
                x, y = WEST + (column + 0.5) * CELL_M, NORTH - (row + 0.5) * CELL_M
                (lon,), (lat,) = _degrees([x], [y])
                stamp = (begin + timedelta(hours=fix)).isoformat()
                writer.writerow((f"animal {number}", stamp, f"{lon:.6f}", f"{lat:.6f}", "Loxodonta africana"))
    return folder


def _walk(taste: Any, home: Any, fixes: int, rng: np.random.Generator) -> Any:
    """A random walk that is drawn home and takes a step the more likely the better it likes where it leads."""
    here = home.astype(float)
    for _ in range(fixes):
        ends = here + rng.normal(0, 6, size=(12, 2)) + 0.05 * (home - here)
        ends[:, 0] = np.clip(ends[:, 0], 1, taste.shape[0] - 2)
        ends[:, 1] = np.clip(ends[:, 1], 1, taste.shape[1] - 2)
        weight = np.exp(1.2 * taste[ends[:, 0].astype(int), ends[:, 1].astype(int)])
        here = ends[rng.choice(12, p=weight / weight.sum())]
        yield here


def _degrees(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    found: tuple[list[float], list[float]] = rasterio.warp.transform(CRS, "EPSG:4326", x, y)
    return found
