"""Texts as PostgreSQL keeps them: it has no room for the character 0, which radios and phones send all the same."""

from __future__ import annotations

from typing import overload


@overload
def cleaned(text: str) -> str: ...
@overload
def cleaned(text: None) -> None: ...
@overload
def cleaned(text: str | None) -> str | None: ...
def cleaned(text: str | None) -> str | None:
    """Return ``text`` with the mark of what cannot be shown for each character 0."""
    return text if text is None else text.replace("\0", "\N{REPLACEMENT CHARACTER}")
