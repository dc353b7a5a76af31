"""What station and cloud mount: the routes of ``/api/v1`` and the rules that hold for every route of a home."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide

from shared import routing
from shared.accounts.service import Accounts
from shared.api import docs, web
from shared.api.access import AuditTrail, guarded, known_hosts
from shared.api.alerts import Alerts
from shared.api.animals import Animals
from shared.api.auth import Auth
from shared.api.blobs import Blobs
from shared.api.body import MAX_BODY_BYTES
from shared.api.brief import Brief
from shared.api.charts import Charts
from shared.api.collars import Collars, Deployments
from shared.api.conflicts import Conflicts
from shared.api.corridors import Corridors
from shared.api.errors import answer
from shared.api.inject import Ring, providers
from shared.api.insights import LiveAnimals, LiveStatusUnversioned, TrackedBehaviour
from shared.api.log_levels import LogLevels
from shared.api.metrics import Metrics, read_metrics
from shared.api.models import ModelFiles
from shared.api.observations import Observations
from shared.api.optimise import Optimise
from shared.api.patrols import PatrolLogs, PatrolRoutes
from shared.api.phones import Phones, PhoneTrust
from shared.api.predictions import HabitatTiles, Ml, Predictions
from shared.api.rangers import Rangers, RangerTracking, Teams
from shared.api.requests import Requests
from shared.api.security import add_headers, same_origin
from shared.api.sync import PhoneSync, Uploads
from shared.api.sync_log import Queue, SyncLogs, SyncQueue
from shared.api.tracking import Tracking
from shared.api.users import ApiKeys, Audit, Users
from shared.api.zones import Zones
from shared.clock import Clock
from shared.habitat import Habitat, NoHabitat
from shared.insight import Insight
from shared.jobs import Optimiser
from shared.photos.small import Smaller
from shared.shelf import NoShelf, Shelf
from shared.store import Store

API_PATH = "/api/v1"

_DESCRIPTION = """\
Names and shapes are those of the original platform. Every path answers with and without its trailing slash. Lists are
paged: `{count, next, previous, results}`. Instants are RFC 3339 with a time zone. An error is
`{"code": "...", "detail": "..."}`: `code` is stable, `detail` is for a person and names the field first.
Every path but health and login needs `Authorization: Bearer TOKEN`; what a viewer gets is generalised and delayed."""


def create_home(
    *,
    title: str,
    version: str,
    store: Store,
    insight: Insight,
    clock: Clock,
    accounts: Accounts,
    ring: Ring = lambda _alert: None,
    optimiser: Optimiser,
    queue: Queue,
    habitat: Habitat | None = None,
    router: routing.Router | None = None,
    shelf: Shelf | None = None,
    site: web.Site,
    metrics: Metrics | None = None,
    phone_trust: PhoneTrust | None = None,
    routes: Sequence[Any] = (),
    dependencies: Mapping[str, Provide] | None = None,
    allowed_hosts: Sequence[str] = (),
    allowed_origins: Sequence[str] = (),
    assets: Path = docs.ASSETS,
) -> Litestar:
    """Return the web application of a home: the shared routes over ``store``, their documentation, its own ``routes``.

    ``accounts`` say who may do what; ``ring`` tells those who listen of an alert that a person raised; ``queue`` says
    what waits for the other home; ``site`` what the pages are made of; ``metrics`` what it counts; ``phone_trust``
    which certificate phones are to believe. Without ``habitat`` there are no maps, without ``router`` no routes,
    without ``shelf`` no models but the program's own. ``allowed_hosts`` are the names that the home answers to (empty:
    any); ``allowed_origins`` are other sites whose pages may call it. Litestar itself takes a path with and without its
    trailing slash for the same.
    """
    origins = [origin.rstrip("/").lower() for origin in allowed_origins]
    brief = Brief(clock.monotonic)
    ground: Habitat = NoHabitat() if habitat is None else habitat
    routes_of: routing.Router = routing.NoRouter() if router is None else router
    models_of: Shelf = NoShelf() if shelf is None else shelf
    figures = Metrics() if metrics is None else metrics
    trail, smaller, trusted = AuditTrail(accounts), Smaller(), phone_trust or PhoneTrust()
    v1 = Router(
        API_PATH,
        route_handlers=[
            Auth, Users, ApiKeys, Audit, Animals, LiveAnimals, Tracking, TrackedBehaviour, Observations, Collars,
            Deployments, Zones, Optimise, Corridors, Alerts, Teams, Rangers, RangerTracking, PatrolLogs, PatrolRoutes,
            SyncLogs, SyncQueue, Blobs, Conflicts,
            Predictions, Ml, HabitatTiles, ModelFiles,
            PhoneSync, Uploads, Phones, LogLevels, Charts,
        ],
    )  # fmt: skip
    names = [known_hosts(allowed_hosts)] if allowed_hosts else []
    return Litestar(
        route_handlers=[v1, LiveStatusUnversioned, *docs.pages(assets), *web.routes(site), read_metrics, *routes],
        dependencies={
            **providers(store, clock, accounts, trail),
            "insight": Provide(lambda: insight, sync_to_thread=False),
            "optimiser": Provide(lambda: optimiser, sync_to_thread=False),
            "queue": Provide(lambda: queue, sync_to_thread=False),
            "resolver": Provide(lambda: store, sync_to_thread=False),
            "metrics": Provide(lambda: figures, sync_to_thread=False),
            "brief": Provide(lambda: brief, sync_to_thread=False),
            "ring": Provide(lambda: ring, sync_to_thread=False),
            "phone_trust": Provide(lambda: trusted, sync_to_thread=False),
            "smaller": Provide(lambda: smaller, sync_to_thread=False),
            "habitat": Provide(lambda: ground, sync_to_thread=False),
            "router": Provide(lambda: routes_of, sync_to_thread=False),
            "shelf": Provide(lambda: models_of, sync_to_thread=False),
            **(dependencies or {}),
        },
        exception_handlers={Exception: answer},
        guards=[*names, same_origin(origins), guarded(accounts, trail)],
        middleware=[Requests(figures.served)],
        before_send=[add_headers],
        openapi_config=docs.openapi_config(title, version, _DESCRIPTION),
        request_max_body_size=MAX_BODY_BYTES,
        cors_config=CORSConfig(allow_origins=origins) if origins else None,
        on_shutdown=[trail.close],
        state=State({"accounts": accounts}),
        logging_config=None,
        debug=False,
    )
