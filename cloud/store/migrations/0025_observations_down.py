"""Observations come down to stations."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
