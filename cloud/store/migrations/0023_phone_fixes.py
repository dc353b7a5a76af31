"""What the positions became that devices upload, in a table of their own."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
