"""Jobs, and beside them procrastinate's own tables, as the library that is installed makes them."""

from __future__ import annotations

from cloud.store.migrate import run_queue_schema, run_sql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Run the SQL file beside this one, and the queue's."""
    run_sql(__file__)
    run_queue_schema()
