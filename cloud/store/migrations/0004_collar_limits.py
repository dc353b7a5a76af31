"""A collar's own limits for the quality rules."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
