"""One picture a species: how long the steps of each state are, as an SVG without any drawing library.

``python -m models.hmm.figures`` draws those of the packaged models beside the README.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from models.artifact import PACKAGED, load, versions
from models.hmm.emissions import Parameters, log_densities
from models.hmm.features import FloatArray
from models.hmm.runtime import STATE_NAMES

FOLDER: Final = Path(__file__).parent / "figures"
_INTERVAL_S: Final = 3600.0
_COLOURS: Final = ("#4477aa", "#228833", "#ee6677", "#aa3377")
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 640, 300, 40, 40, 250
_MIN_M, _MAX_M = 1.0, 20_000.0


def figure(name: str, parameters: Parameters) -> str:
    """Return the SVG of a model with steps in metres: share of steps by length, of each state and together."""
    log_step = np.linspace(np.log(_MIN_M), np.log(_MAX_M), 300)
    nowhere = np.full(log_step.size, np.nan)
    share = np.array(parameters.stationary())
    # Density over the logarithm of the length, so that equal areas are equal shares.
    density = np.exp(log_densities(parameters, np.exp(log_step), nowhere) + log_step[:, None]) * share
    top = float(density.sum(axis=1).max()) * 1.05
    across = _LEFT + (log_step - log_step[0]) / (log_step[-1] - log_step[0]) * (_WIDTH - _LEFT - 20)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">{name}: length of hourly steps by state (areas are shares)</text>',
        _curve(across, density.sum(axis=1) / top, "#bbbbbb", "none"),
    ]
    for k, state in enumerate(STATE_NAMES[parameters.n_states]):
        parts.append(_curve(across, density[:, k] / top, _COLOURS[k], _COLOURS[k]))
        legend = (
            f"{state}: {share[k]:.0%}, mean {parameters.step_mean[k]:.0f} m, "
            f"concentration of turns {parameters.angle_concentration[k]:.2f}"
        )
        y = _TOP + 18 + 18 * k
        parts.append(f'<text x="{_LEFT + 10}" y="{y}" font-size="12" fill="{_COLOURS[k]}">{legend}</text>')
    for metres in (1, 10, 100, 1000, 10_000):
        x = float(np.interp(np.log(metres), log_step, across))
        parts.append(f'<path d="M{x:.1f} {_BOTTOM}v5" stroke="#333333"/>')
        parts.append(f'<text x="{x:.1f}" y="{_BOTTOM + 20}" font-size="12" text-anchor="middle">{metres:,} m</text>')
    parts.append(f'<path d="M{_LEFT} {_BOTTOM}H{_WIDTH - 20}" stroke="#333333"/></svg>')
    return "\n".join(parts) + "\n"


def draw(folder: Path = FOLDER, artifacts: Path = PACKAGED) -> list[Path]:
    """Draw the hourly variant of each model of the newest version; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[Path] = []
    for version in versions(artifacts, "hmm")[:1]:
        for path in sorted((artifacts / "hmm" / str(version)).glob("*.json")):
            manifest = load(artifacts, "hmm", version, path.stem).manifest
            for variant in manifest.settings["variants"]:
                if variant["interval_s"] == _INTERVAL_S:
                    target = folder / f"{path.stem}.svg"
                    parameters = msgspec.convert(variant["parameters"], Parameters)
                    target.write_text(figure(path.stem, parameters), encoding="utf-8")
                    drawn.append(target)
    return drawn


def _curve(across: FloatArray, height: FloatArray, stroke: str, fill: str) -> str:
    points = " ".join(
        f"{x:.1f},{_BOTTOM - y * (_BOTTOM - _TOP):.1f}" for x, y in zip(across.tolist(), height.tolist(), strict=True)
    )
    return f'<polyline points="{points}" fill="{fill}" fill-opacity="0.15" stroke="{stroke}" stroke-width="1.5"/>'


if __name__ == "__main__":
    draw()
