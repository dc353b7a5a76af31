"""Phones and the codes by which they enrol."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
