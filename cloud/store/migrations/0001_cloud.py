"""The first schema of the cloud."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
