"""Conflicts that a person looks at."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
