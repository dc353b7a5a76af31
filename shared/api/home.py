"""What station and cloud mount: the routes of ``/api/v1`` and the rules that hold for every route of a home."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide

from shared.accounts.service import Accounts
from shared.api import docs
from shared.api.access import AuditTrail, guarded, known_hosts
from shared.api.alerts import Alerts
from shared.api.animals import Animals
from shared.api.auth import Auth
from shared.api.body import MAX_BODY_BYTES
from shared.api.brief import Brief
from shared.api.collars import Collars, Deployments
from shared.api.corridors import Corridors
from shared.api.errors import answer
from shared.api.inject import providers
from shared.api.insights import LiveAnimals, TrackedBehaviour
from shared.api.observations import Observations
from shared.api.security import add_headers, same_origin
from shared.api.sync import PhoneSync, Uploads
from shared.api.tracking import Tracking
from shared.api.users import ApiKeys, Audit, Users
from shared.api.zones import Zones
from shared.clock import Clock
from shared.insight import Insight
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
    routes: Sequence[Any] = (),
    dependencies: Mapping[str, Provide] | None = None,
    allowed_hosts: Sequence[str] = (),
    allowed_origins: Sequence[str] = (),
    assets: Path = docs.ASSETS,
) -> Litestar:
    """Return the web application of a home: the shared routes over ``store``, their documentation, its own ``routes``.

    ``accounts`` say who may do what. ``allowed_hosts`` are the names that the home answers to (empty: any);
    ``allowed_origins`` are other sites whose pages may call it. Litestar itself takes a path with and without its
    trailing slash for the same.
    """
    origins = [origin.rstrip("/").lower() for origin in allowed_origins]
    brief = Brief(clock.monotonic)
    trail = AuditTrail(accounts)
    v1 = Router(
        API_PATH,
        route_handlers=[
            Auth, Users, ApiKeys, Audit, Animals, LiveAnimals, Tracking, TrackedBehaviour, Observations, Collars,
            Deployments, Zones, Corridors, Alerts, PhoneSync, Uploads,
        ],
    )  # fmt: skip
    names = [known_hosts(allowed_hosts)] if allowed_hosts else []
    return Litestar(
        route_handlers=[v1, *docs.pages(assets), *routes],
        dependencies={
            **providers(store, clock, accounts, trail),
            "insight": Provide(lambda: insight, sync_to_thread=False),
            "brief": Provide(lambda: brief, sync_to_thread=False),
            **(dependencies or {}),
        },
        exception_handlers={Exception: answer},
        guards=[*names, same_origin(origins), guarded(accounts, trail)],
        before_send=[add_headers],
        openapi_config=docs.openapi_config(title, version, _DESCRIPTION),
        request_max_body_size=MAX_BODY_BYTES,
        cors_config=CORSConfig(allow_origins=origins) if origins else None,
        on_shutdown=[trail.close],
        state=State({"accounts": accounts}),
        logging_config=None,
        debug=False,
    )
