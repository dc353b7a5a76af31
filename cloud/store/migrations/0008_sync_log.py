"""What was brought, session by session, and the items that did not simply go through."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
