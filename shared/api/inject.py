"""What a home gives its controllers: the store, the clock, and what the caller may see."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from litestar.di import Dependency, Provide
from litestar.params import SkipValidationMarker

from shared.clock import Clock
from shared.privacy import OPERATOR, View, view_for
from shared.store import Store

StoreGiven: TypeAlias = Annotated[Store, Dependency(kind="named"), SkipValidationMarker()]
ClockGiven: TypeAlias = Annotated[Clock, Dependency(kind="named"), SkipValidationMarker()]
ViewGiven: TypeAlias = Annotated[View, Dependency(kind="named"), SkipValidationMarker()]


def operator_view() -> View:
    """Return the view of the operator, who is every caller until there are accounts."""
    return view_for(OPERATOR)


def providers(store: Store, clock: Clock) -> dict[str, Provide]:
    """Return what Litestar injects by name."""
    return {
        "store": Provide(lambda: store, sync_to_thread=False),
        "clock": Provide(lambda: clock, sync_to_thread=False),
        "view": Provide(operator_view, sync_to_thread=False),
    }
