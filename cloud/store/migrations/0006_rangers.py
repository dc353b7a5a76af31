"""Rangers, teams, positions, patrol logs and routes."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
