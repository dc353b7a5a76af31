"""Animals that never were: they sleep at home, walk by day to one of two places, and are back at night."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from models.forecast.features import FloatArray

HOUR_S = 3_600.0
START_S = datetime(2020, 3, 1, tzinfo=UTC).timestamp()
#: Metres of a degree of latitude, roughly: these animals live near the equator.
M_PER_DEG = 111_195.0


def commuter(
    days: int, seed: int, *, interval_s: float = HOUR_S, lon_deg: float = 30.0, lat_deg: float = 1.0
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return times, longitudes and latitudes of one animal."""
    rng = np.random.default_rng(seed)
    times = START_S + np.arange(0.0, days * 24 * HOUR_S, interval_s)
    solar_h = (times / HOUR_S + lon_deg / 15.0) % 24.0
    day = np.floor((times / HOUR_S + lon_deg / 15.0) / 24.0).astype(int)
    places = rng.normal(0.0, 3_000.0, (2, 2))
    chosen = places[(day + seed) % 2]
    out = np.clip(1.0 - np.abs(solar_h - 13.0) / 6.0, 0.0, 1.0)[:, None]
    metres = (
        out * chosen + np.cumsum(rng.normal(0.0, 15.0, (times.size, 2)), axis=0) + rng.normal(0, 40, (times.size, 2))
    )
    return times, lon_deg + metres[:, 0] / M_PER_DEG, lat_deg + metres[:, 1] / M_PER_DEG


def write_tracks(folder: Path, *, animals: int = 2, days: int = 45, first_seed: int = 1) -> Path:
    """Write track files of two species under names that training knows; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, species in (
        ("elephant_wall2014_movebank.csv", "Loxodonta africana"),
        ("wildebeest_mara_stabach.csv", "Connochaetes taurinus"),
    ):
        with (folder / file).open("w", newline="") as text:
            writer = csv.writer(text)
            writer.writerow(("individual", "timestamp", "lon", "lat", "species"))
            for number in range(animals):
                seed = first_seed + number + (10 if "wilde" in file else 0)
                for time_s, lon, lat in zip(*commuter(days, seed), strict=True):
                    stamp = datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                    writer.writerow((f"a{number}", stamp, f"{lon:.6f}", f"{lat:.6f}", species))
    return folder
