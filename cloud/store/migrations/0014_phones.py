"""What phones pull and push."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
