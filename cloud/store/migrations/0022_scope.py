"""What each station is to know of, and what it has been told of."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
