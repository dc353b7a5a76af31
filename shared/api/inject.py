"""What a home gives its controllers: the store, the clock, and what the caller may see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeAlias

from litestar.di import Dependency, Provide
from litestar.params import SkipValidationMarker

from shared.accounts.service import Accounts
from shared.api.access import AuditTrail, caller_of, view_of
from shared.clock import Clock
from shared.domain import Alert
from shared.privacy import View
from shared.store import Store

StoreGiven: TypeAlias = Annotated[Store, Dependency(kind="named"), SkipValidationMarker()]
ClockGiven: TypeAlias = Annotated[Clock, Dependency(kind="named"), SkipValidationMarker()]
ViewGiven: TypeAlias = Annotated[View, Dependency(kind="named"), SkipValidationMarker()]
#: Tells those who listen to a home of an alert that a person has raised, looked after or closed.
Ring: TypeAlias = Callable[[Alert], None]
RingGiven: TypeAlias = Annotated[Ring, Dependency(kind="named"), SkipValidationMarker()]


def providers(store: Store, clock: Clock, accounts: Accounts, trail: AuditTrail) -> dict[str, Provide]:
    """Return what Litestar injects by name."""
    return {
        "store": Provide(lambda: store, sync_to_thread=False),
        "clock": Provide(lambda: clock, sync_to_thread=False),
        "accounts": Provide(lambda: accounts, sync_to_thread=False),
        "trail": Provide(lambda: trail, sync_to_thread=False),
        "caller": Provide(caller_of, sync_to_thread=False),
        "view": Provide(view_of),
    }
