"""Whether two stations speak under one name."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
