"""Photographs and other files by the hash of their bytes."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
