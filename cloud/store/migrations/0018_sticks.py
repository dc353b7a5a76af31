"""What stations asked for on USB sticks."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
