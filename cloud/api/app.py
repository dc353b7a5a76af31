"""The cloud's web application: the routes that both homes share, and the cloud's own."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from litestar import Litestar
from litestar.di import Provide

from cloud.accounts.rosters import Rosters
from cloud.api.health import Health
from cloud.api.stations import StationLink
from cloud.store.store import PostgresStore
from cloud.sync.uplink import Uplink
from models.live.insight import OnDemand
from models.live.runtime import Models
from shared.accounts.service import Accounts
from shared.api import docs
from shared.api.home import create_home
from shared.clock import Clock


def create_app(
    store: PostgresStore,
    *,
    clock: Clock,
    accounts: Accounts,
    rosters: Rosters,
    allowed_hosts: Sequence[str] = (),
    allowed_origins: Sequence[str] = (),
    assets: Path = docs.ASSETS,
) -> Litestar:
    """Return the cloud's web application. It opens nothing and closes nothing."""
    uplink = Uplink(store, now=clock.now)
    return create_home(
        title="Outpost cloud",
        version=version("outpost"),
        store=store,
        insight=OnDemand(store, Models(), clock),
        clock=clock,
        accounts=accounts,
        routes=[Health, StationLink],
        dependencies={
            "postgres": Provide(lambda: store, sync_to_thread=False),
            "uplink": Provide(lambda: uplink, sync_to_thread=False),
            "rosters": Provide(lambda: rosters, sync_to_thread=False),
        },
        allowed_hosts=allowed_hosts,
        allowed_origins=allowed_origins,
        assets=assets,
    )
