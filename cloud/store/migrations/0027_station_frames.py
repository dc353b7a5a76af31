"""Frames as stations heard them."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
