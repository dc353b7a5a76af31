"""The cloud's web application: the routes that both homes share, and the cloud's own."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from litestar import Litestar
from litestar.di import Provide

from cloud.accounts.rosters import Rosters
from cloud.api.cloud_metrics import cloud_metrics
from cloud.api.destinations import DestinationRoutes
from cloud.api.events import Happenings, events_stream
from cloud.api.exports import Exports
from cloud.api.health import Health
from cloud.api.ingest import Hooks
from cloud.api.insight import CloudInsight
from cloud.api.jobs import JobRoutes, Listeners
from cloud.api.releases import ReleaseLink
from cloud.api.reports import Reports
from cloud.api.site import summary_of
from cloud.api.stations import StationLink
from cloud.api.stations_seen import StationsSeen
from cloud.api.tiles import Tiles
from cloud.api.told import ToldRoutes
from cloud.ingest.service import Ingest
from cloud.jobs.files import Files
from cloud.jobs.kinds import Kinds
from cloud.jobs.sending import Destinations
from cloud.jobs.service import Jobs
from cloud.store.store import PostgresStore
from cloud.sync.queue import CloudQueue
from cloud.sync.uplink import Uplink
from models.live.advice import Advisor
from models.live.runtime import Models
from shared.accounts.service import Accounts
from shared.api import docs, web
from shared.api.hints import Hints
from shared.api.home import create_home
from shared.api.metrics import Metrics
from shared.clock import Clock
from shared.habitat import Habitat
from shared.privacy import OPERATOR, view_for
from shared.routing import Router
from shared.shelf import Shelf


def create_app(
    store: PostgresStore,
    *,
    clock: Clock,
    accounts: Accounts,
    rosters: Rosters,
    ingest: Ingest | None = None,
    kinds: Kinds | None = None,
    habitat: Habitat | None = None,
    router: Router | None = None,
    models: Models | None = None,
    advisor: Advisor | None = None,
    shelf: Shelf | None = None,
    releases_dir: Path | None = None,
    allowed_hosts: Sequence[str] = (),
    allowed_origins: Sequence[str] = (),
    assets: Path = docs.ASSETS,
    dist: Path = web.DIST,
    maps: Path | None = None,
) -> Litestar:
    """Return the cloud's web application. It opens nothing and closes nothing.

    Without ``ingest`` nothing is taken from the internet: every delivery is refused. ``kinds`` are the jobs that may be
    asked for; workers run them. ``shelf`` keeps models that were brought, ``models`` and
    ``advisor`` are what serves. Files of the station's releases lie in ``releases_dir``; ``maps`` is the folder of the
    reserves' own maps.
    """
    uplink = Uplink(store, now=clock.now)
    taking = Ingest(store, clock) if ingest is None else ingest
    jobs = Jobs(store.database, Kinds() if kinds is None else kinds, now=clock.now)
    hints = Hints(lambda: store.phone_timestamp(view_for(OPERATOR)))
    destinations = Destinations(store.database, accounts, now=clock.now)
    happenings = Happenings(store)
    listeners, files = Listeners(), Files(store.database, now=clock.now)
    return create_home(
        title="Outpost cloud",
        version=version("outpost"),
        store=store,
        insight=CloudInsight(store, Models() if models is None else models, clock, habitat, advisor),
        clock=clock,
        accounts=accounts,
        optimiser=jobs,
        queue=CloudQueue(store, now=clock.now),
        habitat=habitat,
        router=router,
        shelf=shelf,
        metrics=Metrics(cloud_metrics(store, clock)),
        site=web.Site(
            home="cloud",
            version=version("outpost"),
            summary=lambda view: summary_of(store, view, clock),
            maps=maps,
            dist=dist,
        ),
        routes=[
            Health,
            StationsSeen,
            ToldRoutes,
            Tiles,
            StationLink,
            ReleaseLink,
            Hooks,
            JobRoutes,
            Exports,
            Reports,
            DestinationRoutes,
            events_stream,
        ],
        dependencies={
            "postgres": Provide(lambda: store, sync_to_thread=False),
            "uplink": Provide(lambda: uplink, sync_to_thread=False),
            "rosters": Provide(lambda: rosters, sync_to_thread=False),
            "ingest": Provide(lambda: taking, sync_to_thread=False),
            "jobs": Provide(lambda: jobs, sync_to_thread=False),
            "destinations": Provide(lambda: destinations, sync_to_thread=False),
            "files": Provide(lambda: files, sync_to_thread=False),
            "hints": Provide(lambda: hints, sync_to_thread=False),
            "happenings": Provide(lambda: happenings, sync_to_thread=False),
            "listeners": Provide(lambda: listeners, sync_to_thread=False),
            "releases_dir": Provide(lambda: releases_dir, sync_to_thread=False),
            "hook": Provide(lambda: taking.hook, sync_to_thread=False),
        },
        allowed_hosts=allowed_hosts,
        allowed_origins=allowed_origins,
        assets=assets,
    )
