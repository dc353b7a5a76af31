"""One figure a data set: AUC and Boyce index of the model and of two regressions, by what was held back.

``python -m models.habitat.figures FILE`` writes them beside the README from what ``outpost-models evaluate habitat
--json`` printed: the measurement takes its time and need not be repeated for its picture.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

import msgspec

from models.habitat.evaluate import Evaluation, Skill, Spread
from shared.errors import Invalid

FOLDER: Final = Path(__file__).parent / "figures"
_PANEL: Final = 260
_LEFT: Final = 150
_GAP: Final = 50
_ROW: Final = 22
_TOP: Final = 60
_MODELS: Final = (
    ("model", "auc", "boyce", "#0b6e4f"),
    ("GLM", "glm_auc", "glm_boyce", "#c0392b"),
    ("GLM with surroundings", "glm_around_auc", "glm_around_boyce", "#777777"),
)
_PANELS: Final = (("AUC", 0.3, 1.0), ("Boyce index", -1.0, 1.0))


class _Printed(msgspec.Struct, frozen=True):
    habitat: Evaluation


def write(file: Path, folder: Path = FOLDER) -> list[Path]:
    """Write the figure of each data set of a printed evaluation; returns the files. Raises Invalid."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=_Printed).habitat
    except (msgspec.MsgspecError, OSError) as error:
        raise Invalid(f"{file}: not what evaluate habitat --json prints: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in dict.fromkeys(row.data_set for row in found.skill):
        path = folder / f"{name.replace(' ', '_')}.svg"
        path.write_text(figure(name, [row for row in found.skill if row.data_set == name]), encoding="utf-8")
        written.append(path)
    return written


def figure(title: str, rows: list[Skill]) -> str:
    """Return the figure as SVG: a dot for the mean over seeds and a line for 90 % of them."""
    height = _TOP + len(rows) * (len(_MODELS) + 1) * _ROW + 40
    width = _LEFT + 2 * _PANEL + _GAP + 20
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
            f'font-size="11"><rect width="{width}" height="{height}" fill="white"/>'
            f'<text x="10" y="22" font-size="14">{escape(title)}: {rows[0].used} fixes</text>'
        )
    ]
    for place, (label, _, _, colour) in enumerate(_MODELS):
        parts.append(f'<text x="{_LEFT + 130 * place}" y="42" fill="{colour}">{label}</text>')
    bottom = height - 40
    for panel, (label, low, high) in enumerate(_PANELS):
        parts.append(_axis(panel, label, low, high, bottom))
    y = _TOP + _ROW / 2
    for row in rows:
        parts.append(f'<text x="10" y="{y + _ROW + 4:.0f}">{escape(row.cut)}</text>')
        for _, auc_name, boyce_name, colour in _MODELS:
            for panel, name in enumerate((auc_name, boyce_name)):
                parts.append(_mark(panel, getattr(row, name), y, colour))
            y += _ROW
        y += _ROW
    return "".join(parts) + "</svg>\n"


def _axis(panel: int, label: str, low: float, high: float, bottom: float) -> str:
    left = _x(panel, low)
    ticks = "".join(
        f'<text x="{_x(panel, low + share * (high - low)):.1f}" y="{bottom + 15:.0f}" text-anchor="middle">'
        f"{low + share * (high - low):.2f}</text>"
        for share in (0.0, 0.5, 1.0)
    )
    # What chance gives.
    chance = _x(panel, 0.5 if panel == 0 else 0.0)
    return (
        f'<rect x="{left}" y="{_TOP - 6}" width="{_PANEL}" height="{bottom - _TOP + 6:.0f}" fill="none" stroke="#999"/>'
        f'<line x1="{chance:.1f}" y1="{_TOP - 6}" x2="{chance:.1f}" y2="{bottom:.0f}" stroke="#999" '
        f'stroke-dasharray="4 4"/>{ticks}'
        f'<text x="{left + _PANEL / 2}" y="{bottom + 32:.0f}" text-anchor="middle">{label}</text>'
    )


def _mark(panel: int, spread: Spread, y: float, colour: str) -> str:
    if spread.mean is None or spread.low is None or spread.high is None:
        return ""
    return (
        f'<line x1="{_x(panel, spread.low):.1f}" y1="{y:.0f}" x2="{_x(panel, spread.high):.1f}" y2="{y:.0f}" '
        f'stroke="{colour}" stroke-width="2"/>'
        f'<circle cx="{_x(panel, spread.mean):.1f}" cy="{y:.0f}" r="4" fill="{colour}"/>'
    )


def _x(panel: int, value: float) -> float:
    _, low, high = _PANELS[panel]
    return _LEFT + panel * (_PANEL + _GAP) + (min(max(value, low), high) - low) / (high - low) * _PANEL


if __name__ == "__main__":
    write(Path(sys.argv[1]))
