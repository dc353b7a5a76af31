"""Tables for a terminal and, the same ones, for the README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import rich.box
import rich.console
import rich.table

BEGIN: Final = "<!-- tables: written by `python -m tests.benchmarks --write` -->"
END: Final = "<!-- end of tables -->"


_FILE_COLUMNS: Final = 180


def console(*, is_stderr: bool = False) -> rich.console.Console:
    """Return the console to print on; what is not a terminal has room for whole lines."""
    made = rich.console.Console(stderr=is_stderr, highlight=False)
    if not made.is_terminal:
        made.width = _FILE_COLUMNS
    return made


class Table(msgspec.Struct, frozen=True):
    """Cells as text; the first column is a name, the others are figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def on_terminal(self) -> rich.table.Table:
        """Return the table as rich prints it."""
        table = rich.table.Table(title=self.title, title_justify="left", box=rich.box.SIMPLE_HEAD)
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="right" if index else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def in_markdown(self) -> str:
        """Return the table in Markdown, under its title."""
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [f"| {' | '.join(cells)} |" for cells in (self.columns, rule, *self.rows)]
        return "\n".join([f"### {self.title}", "", *lines])


def write(tables: Sequence[Table], readme: Path, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Replace what stands between two markers of ``readme``; raises ValueError where it has none."""
    text = readme.read_text(encoding="utf-8")
    head, begin, rest = text.partition(marks[0])
    _, end, tail = rest.partition(marks[1])
    if not begin or not end:
        raise ValueError(f"{readme}: no markers to write between: {marks[0]} and {marks[1]}")
    body = "\n\n".join(table.in_markdown() for table in tables)
    readme.write_text(f"{head}{begin}\n\n{body}\n\n{end}{tail}", encoding="utf-8")
