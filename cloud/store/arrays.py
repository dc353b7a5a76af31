"""Lists as the text of PostgreSQL's arrays, for ``unnest``: the driver's own way asks a pattern of every element."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def numbers_array(values: Sequence[int | float | None]) -> str:
    """Return numbers as an array."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def texts_array(values: Sequence[str]) -> str:
    """Return texts as an array."""
    quoted = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
    return '{"' + '","'.join(quoted) + '"}' if quoted else "{}"


def bytes_array(values: Sequence[bytes | None]) -> str:
    """Return bytes as an array of bytea."""
    return "{" + ",".join(["NULL" if value is None else f'"\\\\x{value.hex()}"' for value in values]) + "}"


def words_array(values: Iterable[str]) -> str:
    """Return texts that are digits and letters alone as an array."""
    return "{" + ",".join(values) + "}"
