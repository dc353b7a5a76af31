"""One figure a species: how often hidden fixes of later halves lay inside a region, against what it was drawn to hold.

``python -m models.bbmm.figures DATA`` writes them beside the README.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

import numpy as np

from models.bbmm.features import FloatArray
from models.bbmm.heldout import DAY_S, halves, hide, read_cases
from models.bbmm.runtime import Calibration, load_calibration

FOLDER: Final = Path(__file__).parent / "figures"
_SIZE: Final = 300
_LEFT: Final = 60
_TOP: Final = 40


def write(data: Path, folder: Path = FOLDER) -> list[Path]:
    """Write the figure of each species that has tracks in ``data``; returns the files."""
    cases = read_cases(data)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for model in dict.fromkeys(case.model for case, _ in cases):
        calibration = load_calibration(model)
        hidden = [
            hide(halves(recorded.track(calibration.errors))[1], every, calibration.variance_m2_per_s)
            for case, recorded in cases
            if case.model == model
            for every in case.keep_every
        ]
        gap_s = np.concatenate([one.gap_s for one in hidden])
        distance_sd = np.concatenate([one.distance_sd for one in hidden])
        is_in = gap_s <= DAY_S
        path = folder / f"{model}.svg"
        path.write_text(figure(model, distance_sd[is_in], gap_s[is_in], calibration), encoding="utf-8")
        written.append(path)
    return written


def figure(title: str, distance_sd: FloatArray, gap_s: FloatArray, calibration: Calibration) -> str:
    """Return the figure as SVG: the curve of Gaussian regions, and a point for each measured radius."""
    nominal = np.arange(1, 100) / 100
    found = np.searchsorted(np.sort(distance_sd), np.sqrt(-2 * np.log1p(-nominal)), side="right") / distance_sd.size
    curve = " ".join(f"{_x(p):.1f},{_y(share):.1f}" for p, share in zip(nominal.tolist(), found.tolist(), strict=True))
    inner, outer = calibration.multiples(gap_s)
    points = [(0.5, float((distance_sd <= inner).mean())), (0.95, float((distance_sd <= outer).mean()))]
    ticks = "".join(
        f'<text x="{_x(share):.1f}" y="{_y(0) + 18:.1f}" text-anchor="middle">{share:.0%}</text>'
        f'<text x="{_x(0) - 8:.1f}" y="{_y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>'
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    dots = "".join(
        f'<circle cx="{_x(p):.1f}" cy="{_y(share):.1f}" r="5" fill="#0b6e4f"/>'
        f'<text x="{_x(p) - 9:.1f}" y="{_y(share) + 16:.1f}" text-anchor="end" fill="#0b6e4f">{share:.1%}</text>'
        for p, share in points
    )
    width, height = _LEFT + _SIZE + 20, _TOP + _SIZE + 50
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="12"><rect width="{width}" height="{height}" fill="white"/>'
        f'<text x="{_LEFT}" y="22" font-size="14">{escape(title)}: {distance_sd.size} hidden fixes</text>'
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_SIZE}" height="{_SIZE}" fill="none" stroke="#999"/>'
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="#999" stroke-dasharray="4 4"/>'
        f'<polyline points="{curve}" fill="none" stroke="#c0392b" stroke-width="2"/>'
        f'<text x="{_x(0.04)}" y="{_y(0.93)}" fill="#c0392b">Gaussian</text>{dots}'
        f'<text x="{_x(0.55)}" y="{_y(0.3)}" fill="#0b6e4f">measured radii</text>{ticks}'
        f'<text x="{_x(0.5)}" y="{_y(0) + 38}" text-anchor="middle">drawn to hold</text></svg>\n'
    )


def _x(share: float) -> float:
    return _LEFT + share * _SIZE


def _y(share: float) -> float:
    return _TOP + (1 - share) * _SIZE


if __name__ == "__main__":
    write(Path(sys.argv[1]))
