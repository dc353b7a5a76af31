"""The ledger of frames that came over the internet, and how far stations have read the fixes that came so."""

from __future__ import annotations

from cloud.store.migrate import run_sql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Run the SQL file beside this one."""
    run_sql(__file__)
