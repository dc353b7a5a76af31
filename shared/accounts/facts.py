"""Words that a home keeps of itself, by name: how far a roster has come, whose key signs it."""

from __future__ import annotations

from shared.accounts.users import Job


def fact(name: str) -> Job[str | None]:
    """Return a word; None where it was never said."""
    rows = yield "SELECT value FROM facts WHERE name = ?", (name,)
    return str(rows[0][0]) if rows else None


def set_fact(name: str, value: str) -> Job[None]:
    """Keep a word."""
    yield (
        "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )
