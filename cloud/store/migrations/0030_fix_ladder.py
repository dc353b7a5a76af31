"""Fixes thinned beforehand for maps of wide areas."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
