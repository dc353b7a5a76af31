"""A report as a file: PDF for people, a spreadsheet to go on with, JSON for programs."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias
from xml.sax.saxutils import escape

import msgspec

from cloud.jobs.report_words import Language, label, value

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
    """A table of a report; every row has a cell for each column.

    ``words`` says of columns of which area of the pages' words their values are.
    """

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    words: dict[int, str] = {}

    def cells(self, language: Language) -> list[list[Cell]]:
        """Return the rows in a language."""
        return [
            [
                value(self.words[n], cell, language) if n in self.words and isinstance(cell, str) else cell
                for n, cell in enumerate(row)
            ]
            for row in self.rows
        ]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a period was like. ``is_exact`` says whether it was made of exact positions."""

    subject: str
    species: str | None
    since: datetime
    until: datetime
    made_at: datetime
    is_exact: bool
    sections: list[Section]
    language: Language = "en"

    @property
    def title(self) -> str:
        """What it is about, in words."""
        return label(_TITLES[self.subject], self.language)

    @property
    def about(self) -> list[str]:
        """What has to be known to read it."""
        how = "Made of exact positions" if self.is_exact else "Made of positions that are shown with reduced precision"
        said = [label(text, self.language) for text in ("From {since} until {until}", "Of {species}", "Made {at}", how)]
        known = {
            "since": _words(self.since), "until": _words(self.until), "at": _words(self.made_at),
            "species": self.species or label("all species", self.language),
        }  # fmt: skip
        return [text.format(**known) for text in said]


def written(report: Report, form: str) -> bytes:
    """Return the report as a file."""
    writers: dict[str, Callable[[Report], bytes]] = {"pdf": _pdf, "xlsx": _xlsx, "json": _json}
    return writers[form](report)


def _words(value: Cell) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return str(value)


def _json(report: Report) -> bytes:
    """Return what programs read, the same in every language."""
    told = {name: getattr(report, name) for name in report.__struct_fields__ if name not in ("sections", "language")}
    sections = [{"title": each.title, "columns": each.columns, "rows": each.rows} for each in report.sections]
    return msgspec.json.encode({**told, "sections": sections})


def _pdf(report: Report) -> bytes:
    from reportlab.lib import colors
    from reportlab.lib.pagesizes import A4, landscape
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table

    styles, language = getSampleStyleSheet(), report.language
    look = [
        ("GRID", (0, 0), (-1, -1), 0.25, colors.grey), ("BACKGROUND", (0, 0), (-1, 0), colors.whitesmoke),
        ("FONTSIZE", (0, 0), (-1, -1), 8), ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ]  # fmt: skip
    story = [
        Paragraph(report.title, styles["Title"]),
        *(Paragraph(escape(line), styles["Normal"]) for line in report.about),
    ]
    for section in report.sections:
        story += [Spacer(1, 12), Paragraph(escape(label(section.title, language)), styles["Heading2"])]
        if not section.rows:
            story.append(Paragraph(label("Nothing in this period.", language), styles["Normal"]))
            continue
        head = [label(column, language) for column in section.columns]
        rows: list[Sequence[Cell]] = [head, *section.cells(language)]
        cells = [[Paragraph(escape(_words(cell)), styles["BodyText"]) for cell in row] for row in rows]
        story.append(Table(cells, repeatRows=1, style=look))
    out = io.BytesIO()
    page = SimpleDocTemplate(
        out, pagesize=landscape(A4), title=f"Outpost: {report.title}", author="Outpost", lang=language
    )
    page.build(story)
    return out.getvalue()


def _xlsx(report: Report) -> bytes:
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    language = report.language
    first = book.create_sheet(label("About", language))
    for line in (report.title, *report.about):
        first.append([line])
    for section in report.sections:
        sheet = book.create_sheet(label(section.title, language)[:_SHEET_NAME])
        sheet.append([label(column, language) for column in section.columns])
        for row in section.cells(language):
            sheet.append([_cell(value) for value in row])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _cell(value: Cell) -> Cell:
    """Return what a spreadsheet takes: instants without a zone (they are UTC), names that are no formulas."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
