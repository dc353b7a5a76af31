"""What models said to people who asked."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
