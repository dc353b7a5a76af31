"""Where the fixes of a collar end calmly."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
