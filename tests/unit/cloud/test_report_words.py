"""Every label of a report has its words in every language."""

from __future__ import annotations

import ast
from pathlib import Path

from cloud.jobs import report, report_files
from cloud.jobs.report_words import LABELS, label, value


def labels_of(module: str) -> set[str]:
    """Return the texts that a module gives as titles and columns."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(Path(module).read_text(encoding="utf-8"))):
        named = [each.value for each in getattr(node, "keywords", []) if each.arg in ("title", "columns")]
        if isinstance(node, ast.Assign) and [getattr(each, "id", "") for each in node.targets] == ["columns"]:
            named.append(node.value)
        for part in named:
            found |= {
                each.value for each in ast.walk(part) if isinstance(each, ast.Constant) and isinstance(each.value, str)
            }
    return found


def test_each_title_and_column_of_a_report_is_in_the_table() -> None:
    labels = labels_of(report.__file__)
    assert len(labels) > 30
    assert labels <= set(LABELS)
    assert set(report_files._TITLES.values()) <= set(LABELS)


def test_labels_keep_the_places_of_their_values_and_differ_between_languages() -> None:
    for english, (swahili, french) in LABELS.items():
        names = {part.partition("}")[0] for part in english.split("{")[1:]}
        assert {part.partition("}")[0] for part in swahili.split("{")[1:]} == names
        assert {part.partition("}")[0] for part in french.split("{")[1:]} == names
        assert swahili
        assert french
    assert sum(english == french for english, (_, french) in LABELS.items()) < 10
    # a PDF's own fonts have the letters of Western Europe
    for text in (each for pair in LABELS.values() for each in pair):
        text.encode("cp1252")


def test_values_are_those_words_that_the_pages_have() -> None:
    assert value("severity", "critical", "fr") == "Critique"
    assert value("severity", "of its own", "fr") == "of its own"
    assert value("zone", "no zone named", "sw") == label("no zone named", "sw")
