"""``outpost-station user``, and the accounts of a station for commands beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from edge.config import load
from edge.ops.system_clock import system_clock
from edge.parts import accounts_of
from edge.store.store import SpatialiteStore
from shared.accounts.service import Accounts
from shared.audit_commands import audit_commands
from shared.key_commands import key_commands
from shared.people import user_commands

T = TypeVar("T")


def with_accounts(config: Path | None, job: Callable[[Accounts], Awaitable[T]]) -> T:
    """Run ``job`` over the accounts of the station with this configuration."""
    settings = load(config)

    async def run_job() -> T:
        store = SpatialiteStore(settings.database, settings.key(), now=lambda: datetime.now(UTC), readers=1)
        try:
            return await job(await accounts_of(settings, store, system_clock()))
        finally:
            await store.close()

    return asyncio.run(run_job())


user = user_commands(with_accounts, home="station")
keys = key_commands(with_accounts, home="station")
audit = audit_commands(with_accounts, home="station")
