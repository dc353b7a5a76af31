"""Models that people brought and what was chosen of them."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
