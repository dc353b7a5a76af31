"""The station's web application: the routes that both homes share, and the station's own."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from litestar import Litestar
from litestar.di import Provide

from edge.alerts.keeper import Keeper
from edge.api.alert_rules import AlertRules
from edge.api.events import EventHub, News, events_stream
from edge.api.health import Health, HealthSource
from edge.api.site import summary_of
from edge.api.station_metrics import station_metrics
from edge.api.trust import Trust, pages
from edge.api.undecoded import Unread, undecoded
from edge.store.store import SpatialiteStore
from edge.store.undecoded_frames import Undecoded
from edge.sync.queue import StationQueue
from models.live.insight import OnDemand
from models.live.runtime import Models
from shared.accounts.service import Accounts
from shared.api import docs, web
from shared.api.hints import Hints
from shared.api.home import create_home
from shared.api.listening import KEEP_ALIVE_S
from shared.api.metrics import Metrics
from shared.api.phones import PhoneTrust
from shared.api.sync_log import NothingWaits
from shared.clock import Clock
from shared.habitat import Habitat
from shared.insight import Insight
from shared.jobs import NoOptimiser
from shared.privacy import OPERATOR, view_for
from shared.routing import Router
from shared.shelf import Shelf
from shared.store import Store
from shared.wire.events import told_of


def create_app(
    store: Store,
    *,
    health: HealthSource,
    events: EventHub,
    clock: Clock,
    accounts: Accounts,
    insight: Insight | None = None,
    habitat: Habitat | None = None,
    router: Router | None = None,
    shelf: Shelf | None = None,
    alarms: Keeper | None = None,
    trust: Trust | None = None,
    allowed_hosts: Sequence[str] = (),
    allowed_origins: Sequence[str] = (),
    keep_alive_s: float = KEEP_ALIVE_S,
    assets: Path = docs.ASSETS,
    dist: Path = web.DIST,
    maps: Path | None = None,
    unread: Unread | None = None,
) -> Litestar:
    """Return the station's web application. It opens nothing and closes nothing; call ``events.close()`` to stop.

    Without ``insight`` models are asked when somebody asks; ``shelf`` keeps those that were brought.
    Without ``alarms`` their rules cannot be asked for, without ``trust`` there is no page of it. ``maps`` is the folder
    of the reserve's own maps; ``unread`` gives the frames that no codec can read.
    """
    news = News(events, Hints(lambda: store.phone_timestamp(view_for(OPERATOR))))
    return create_home(
        title="Outpost station",
        version=version("outpost"),
        store=store,
        insight=insight or OnDemand(store, Models(), clock, habitat),
        clock=clock,
        accounts=accounts,
        ring=lambda alert: events.publish("alert", told_of(alert)),
        optimiser=NoOptimiser(
            "corridors are searched in the cloud, not at a station: ask there, and what it finds comes here with the"
            " next exchange"
        ),
        queue=StationQueue(store) if isinstance(store, SpatialiteStore) else NothingWaits(),
        habitat=habitat,
        router=router,
        shelf=shelf,
        metrics=Metrics(station_metrics(health)),
        site=web.Site(
            home="station",
            version=version("outpost"),
            summary=lambda view: summary_of(health, view),
            maps=maps,
            dist=dist,
        ),
        phone_trust=None if trust is None else PhoneTrust(fingerprint=trust.fingerprint, pin=trust.pin),
        routes=[
            Health,
            events_stream,
            undecoded,
            *([] if alarms is None else [AlertRules]),
            *([] if trust is None else pages(trust)),
        ],
        dependencies={
            "health": Provide(lambda: health, sync_to_thread=False),
            "events": Provide(lambda: events, sync_to_thread=False),
            "news": Provide(lambda: news, sync_to_thread=False),
            "alarms": Provide(lambda: alarms, sync_to_thread=False),
            "unread": Provide(lambda: unread or _none, sync_to_thread=False),
            "keep_alive_s": Provide(lambda: keep_alive_s, sync_to_thread=False),
        },
        allowed_hosts=allowed_hosts,
        allowed_origins=allowed_origins,
        assets=assets,
    )


async def _none(_limit: int) -> list[Undecoded]:
    return []
