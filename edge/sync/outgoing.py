"""Fixes to EarthRanger or Gundi: batch after batch, each tried until it is there, none of them twice.

What an answer means is said in ``shared.exchange.sites``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

import httpx
import msgspec

from edge.store import outgoing
from edge.store.export import check_export
from edge.store.outgoing import Outgoing
from edge.store.store import SpatialiteStore
from edge.sync.client import open_client
from shared.errors import Forbidden, Invalid, LinkError
from shared.exchange.sites import MOST_REFUSED, Site, Verdict, judged
from shared.privacy import View

TRIES: Final = 8
_FIRST_S: Final = 1.0
_LONGEST_S: Final = 300.0


class Sent(msgspec.Struct, kw_only=True):
    """What a run did, and what is left: ``held`` fixes wait for a rule or a deployment, see ``edge.store.outgoing``."""

    sent: int = 0
    refused: int = 0
    held: int = 0
    given_up: int = 0
    retries: int = 0


async def send(
    store: SpatialiteStore,
    view: View,
    site: Site,
    *,
    is_again: bool = False,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> Sent:
    """Send ``site`` every usable fix of a known animal that it does not have; ``is_again`` begins at the first.

    Raises LinkError where it does not answer after many tries; what was not sent then is sent by the next run.
    """
    check_export(view)
    receiver = f"{site.name} {site.request.url}"
    if is_again:
        await store.write(lambda db: outgoing.save(db, receiver, Outgoing()))
    await store.write(lambda db: outgoing.release(db, receiver, site.observation))
    first = await store.read(lambda db: outgoing.load(db, receiver))
    total = await store.read(lambda db: outgoing.waiting(db, first))
    run = Sent()
    streak: list[str] = []
    async with open_client(site.request.url) as http:
        while True:
            state = await store.write(lambda db: outgoing.freeze(db, receiver, site.observation))
            if not state.batches:
                break
            batch = state.batches.pop(0)
            verdict = await _deliver(http, site, batch, run, pause)
            if verdict == "done":
                state.sent += len(batch)
                run.sent += len(batch)
                streak.clear()
            elif len(batch) == 1:
                state.refused += 1
                run.refused += 1
                streak += batch
            else:
                half = len(batch) // 2
                state.batches[:0] = [batch[:half], batch[half:]]
            await store.write(lambda db, state=state: outgoing.save(db, receiver, state))  # type: ignore[misc] # bound now
            progress(run.sent + run.refused, total)
            if len(streak) == MOST_REFUSED:
                state.batches.insert(0, streak)
                state.refused -= len(streak)
                await store.write(lambda db, state=state: outgoing.save(db, receiver, state))  # type: ignore[misc] # bound now
                raise Invalid(
                    f"{site.name} refuses one fix after the other: is its provider set up for tracking devices?"
                )
    run.held, run.given_up = len(state.held), state.given_up
    return run


async def _deliver(
    http: httpx.AsyncClient, site: Site, batch: list[str], run: Sent, pause: Callable[[float], Awaitable[None]]
) -> Verdict:
    """Try ``batch`` until it is there or refused; raises LinkError, Forbidden or Invalid where trying is no use."""
    body = site.body(batch)
    wait_s, why = _FIRST_S, ""
    for number in range(TRIES):
        if number:
            run.retries += 1
            await pause(wait_s * random.uniform(0.75, 1.25))
            wait_s = min(wait_s * 2, _LONGEST_S)
        try:
            answer = await http.post(site.request.url, content=body, headers=dict(site.request.headers))
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
            continue
        found = judged(site, answer.status_code, answer.headers, answer.content)
        if found.verdict == "denied":
            raise Forbidden(f"{site.name} refuses the token ({answer.status_code})")
        if found.verdict == "wrong":
            raise Invalid(f"{site.name}: there is nothing at {site.request.url} ({answer.status_code})")
        if found.verdict != "later":
            return found.verdict
        why = found.why
        wait_s = max(wait_s, min(found.wait_s, _LONGEST_S))
    raise LinkError(f"{site.name} at {http_host(site)} does not take fixes: {why}; the next run goes on from here")


def http_host(site: Site) -> str:
    """Return the host that fixes go to."""
    return httpx.URL(site.request.url).host
