"""A report as a file: PDF for people, a spreadsheet to go on with, JSON for programs."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias
from xml.sax.saxutils import escape

import msgspec

Cell: TypeAlias = str | int | float | datetime | None

#: The suffix and the media type of each format.
KINDS: Final[dict[str, tuple[str, str]]] = {
    "pdf": ("pdf", "application/pdf"),
    "xlsx": ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    "json": ("json", "application/json"),
}
_TITLES: Final = {
    "movement": "Movement", "corridors": "Corridor effectiveness", "conflicts": "Conflicts",
    "species": "Species distribution", "habitat": "Habitat quality",
}  # fmt: skip
#: A spreadsheet takes these at the beginning of a text for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_SHEET_NAME: Final = 31


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A table of a report; every row has a cell for each column."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a period was like. ``is_exact`` says whether it was made of exact positions."""

    subject: str
    species: str | None
    since: datetime
    until: datetime
    made_at: datetime
    is_exact: bool
    sections: list[Section]

    @property
    def title(self) -> str:
        """What it is about, in words."""
        return _TITLES[self.subject]

    @property
    def about(self) -> list[str]:
        """What has to be known to read it."""
        return [
            f"From {_words(self.since)} until {_words(self.until)}",
            f"Of {self.species or 'all species'}",
            f"Made {_words(self.made_at)}",
            "Made of exact positions" if self.is_exact else "Made of positions that are shown with reduced precision",
        ]


def written(report: Report, form: str) -> bytes:
    """Return the report as a file."""
    writers: dict[str, Callable[[Report], bytes]] = {"pdf": _pdf, "xlsx": _xlsx, "json": msgspec.json.encode}
    return writers[form](report)


def _words(value: Cell) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return str(value)


def _pdf(report: Report) -> bytes:
    from reportlab.lib import colors
    from reportlab.lib.pagesizes import A4, landscape
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table

    styles = getSampleStyleSheet()
    look = [
        ("GRID", (0, 0), (-1, -1), 0.25, colors.grey), ("BACKGROUND", (0, 0), (-1, 0), colors.whitesmoke),
        ("FONTSIZE", (0, 0), (-1, -1), 8), ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ]  # fmt: skip
    story = [
        Paragraph(report.title, styles["Title"]),
        *(Paragraph(escape(line), styles["Normal"]) for line in report.about),
    ]
    for section in report.sections:
        story += [Spacer(1, 12), Paragraph(escape(section.title), styles["Heading2"])]
        if not section.rows:
            story.append(Paragraph("Nothing in this period.", styles["Normal"]))
            continue
        rows: list[Sequence[Cell]] = [section.columns, *section.rows]
        cells = [[Paragraph(escape(_words(cell)), styles["BodyText"]) for cell in row] for row in rows]
        story.append(Table(cells, repeatRows=1, style=look))
    out = io.BytesIO()
    page = SimpleDocTemplate(out, pagesize=landscape(A4), title=f"Outpost: {report.title}", author="Outpost")
    page.build(story)
    return out.getvalue()


def _xlsx(report: Report) -> bytes:
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    first = book.create_sheet("About")
    for line in (report.title, *report.about):
        first.append([line])
    for section in report.sections:
        sheet = book.create_sheet(section.title[:_SHEET_NAME])
        sheet.append(section.columns)
        for row in section.rows:
            sheet.append([_cell(value) for value in row])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _cell(value: Cell) -> Cell:
    """Return what a spreadsheet takes: instants without a zone (they are UTC), names that are no formulas."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
