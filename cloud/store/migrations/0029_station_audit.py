"""Stations' audit logs."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
