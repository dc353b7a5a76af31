"""What the dashboard says of the cloud before any script runs."""

from __future__ import annotations

from importlib.metadata import version

from cloud.store import facts
from cloud.store.store import PostgresStore
from shared.api.web import Summary
from shared.clock import Clock
from shared.errors import StoreError
from shared.privacy import View


async def summary_of(store: PostgresStore, view: View, clock: Clock) -> Summary:
    """Return the cloud in a word and, to those who manage with it, in facts."""
    if view.principal.role == "viewer":
        return Summary(status="ok")
    try:
        async with store.database.snapshot() as connection:
            found = await facts.facts(connection)
    except StoreError as error:
        return Summary(status="failing", reasons=[error.detail])
    seen = [each.last_seen_at for each in found.stations if each.last_seen_at is not None and not each.is_retired]
    return Summary(
        status="ok",
        facts=[
            ("clock", f"{clock.now():%Y-%m-%d %H:%M} UTC"),
            ("stations", str(sum(not each.is_retired for each in found.stations))),
            ("last_seen", f"{max(seen):%Y-%m-%d %H:%M} UTC" if seen else "-"),
            ("fixes", str(found.fixes)),
            ("animals", str(found.animals)),
            ("version", version("outpost")),
        ],
    )
