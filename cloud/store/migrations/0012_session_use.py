"""When a session was used last, by both clocks."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
