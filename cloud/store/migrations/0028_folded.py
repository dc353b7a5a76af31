"""What the change log has been folded to."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
