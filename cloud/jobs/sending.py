"""Fixes to EarthRanger, Gundi and Movebank, as jobs: batch after batch, each tried until it is there, none twice.

A destination has at most one job that waits or runs. A worker goes its rounds and enters the job of each whose turn it
is; ``send now`` enters one at once, or names the one that is there. A run that the receiver does not answer tries a few
times and then ends, with the reason at the destination; the next is due later with every failure.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final

import httpx
import msgspec

from cloud.jobs.kinds import HOPELESS, JobKind, Run
from cloud.jobs.service import Jobs
from cloud.store import departures
from cloud.store import destinations as table
from cloud.store.database import Connection, Database
from cloud.store.departures import Batch
from cloud.store.destinations import Destination
from shared.accounts.service import Accounts
from shared.errors import Conflict, Forbidden, Invalid, LinkError
from shared.exchange import earthranger, gundi, movebank_feed
from shared.exchange.sites import MOST_REFUSED, Judged, Request, Site, checked_url, judged, judged_probe
from shared.ids import random_id
from shared.jobs import Job
from shared.privacy import OPERATOR, Principal, Species
from shared.sync.records import to_ms

SEND: Final = "send"
#: So often a batch is tried within a run, with pauses that double from the first.
TRIES: Final = 3
_FIRST_S: Final = 1.0
#: A receiver that asks to be left alone for longer ends the run.
_LONGEST_S: Final = 30.0
_STEP_S: Final = 0.5
_TIMEOUT: Final = httpx.Timeout(30.0, connect=15.0)


class SendWish(msgspec.Struct, frozen=True, kw_only=True):
    """Where to send what has not been sent."""

    destination_id: str


class Sent(msgspec.Struct, kw_only=True):
    """What a run did."""

    sent: int = 0
    refused: int = 0
    retries: int = 0


class Away(LinkError):
    """A receiver does not take anything now; it asks to be left alone for ``wait_s``."""

    def __init__(self, detail: str, wait_s: float = 0.0) -> None:
        super().__init__(detail)
        self.wait_s = wait_s


class Destinations:
    """The destinations of the cloud. ``accounts`` seals their tokens."""

    def __init__(self, database: Database, accounts: Accounts, *, now: Callable[[], datetime]) -> None:
        self._database = database
        self._accounts = accounts
        self._now = now

    @property
    def species(self) -> Species:
        """The categories by which reduced destinations go."""
        return self._accounts.species

    async def all(self) -> list[Destination]:
        """Return all, by name."""
        async with self._database.snapshot() as db:
            return await table.destinations(db)

    async def get(self, identity: str) -> Destination:
        """Return one by id or name; raises NotFound."""
        async with self._database.snapshot() as db:
            return await table.destination(db, identity)

    async def add(self, columns: Mapping[str, Any], by: str) -> Destination:
        """Make a destination; ``columns`` has its token in clear. Raises Invalid and Conflict."""
        identity = random_id()
        token = str(columns["token"])
        made = {**columns, "id": identity, "created_by": by, "url": checked_url(columns["url"])}
        _site(made["kind"], made["url"], made["provider"], token)
        made["token"] = self._accounts.fields.sealed(_place(identity), token)
        async with self._database.transaction() as db:
            await table.insert(db, made, self._now_ms())
            return await table.destination(db, identity)

    async def change(self, identity: str, columns: Mapping[str, Any]) -> Destination:
        """Change a destination; a token that is not given stays. Raises Invalid, Conflict and NotFound."""
        async with self._database.transaction() as db:
            before = await table.destination(db, identity, is_held=True)
            changed = dict(columns)
            if "url" in changed:
                changed["url"] = checked_url(changed["url"])
                if changed["url"] != before.url and "token" not in changed:
                    # else whoever changes an address could have the token sent to his own
                    raise Invalid("token: another address needs it again")
            after = {name: changed.get(name, getattr(before, name)) for name in ("kind", "url", "provider")}
            _site(**after, token=changed["token"] if "token" in changed else self.token(before))
            if "token" in changed:
                changed["token"] = self._accounts.fields.sealed(_place(before.id), changed["token"])
            await table.change(db, before, changed, self._now_ms())
            return await table.destination(db, before.id)

    async def remove(self, identity: str) -> None:
        """Forget a destination and what it was sent; raises NotFound."""
        async with self._database.transaction() as db:
            await table.remove(db, identity)

    def token(self, destination: Destination) -> str:
        """Return the token of a destination in clear."""
        return self._accounts.fields.opened(_place(destination.id), destination.token)

    def site(self, destination: Destination) -> Site:
        """Return how and where a destination is sent to."""
        return _site(destination.kind, destination.url, destination.provider, self.token(destination))

    async def probe(self, identity: str) -> Judged:
        """Ask a receiver whether address and token are right; no fix leaves. Raises Forbidden, Invalid, LinkError."""
        site = self.site(await self.get(identity))
        async with open_client(site.probe.url) as http:
            try:
                answer = await _asked(http, site.probe, site.probe.body)
            except httpx.HTTPError as error:
                raise LinkError(f"{site.name}: {str(error) or type(error).__name__}") from error
        found = judged_probe(site, answer.status_code, answer.headers, answer.content)
        if found.verdict == "later":
            raise LinkError(f"{site.name}: {found.why}")
        _check(site, found, answer.status_code)
        return found

    async def send_now(self, jobs: Jobs, identity: str, principal: Principal) -> Job:
        """Queue a run at once and return its job, or the one that waits or runs; refused fixes are tried once more."""
        async with self._database.transaction() as db:
            there = await table.destination(db, identity, is_held=True)
            if not there.is_enabled:
                raise Conflict("this destination is paused: let it go on first")
            if (alive := await table.job_alive(db, there.pk)) is not None:
                return await jobs.job_in(db, alive)
            await table.try_refused_again(db, there.pk)
            return await self._enter(db, jobs, there.id, principal)

    async def enter_due(self, jobs: Jobs) -> int:
        """Enter the jobs of destinations whose turn it is; return how many."""
        async with self._database.transaction() as db:
            due = await table.due(db, self._now_ms())
            for identity in due:
                await self._enter(db, jobs, identity, OPERATOR)
            return len(due)

    async def _enter(self, db: Connection, jobs: Jobs, identity: str, principal: Principal) -> Job:
        job = await jobs.submit_in(db, SEND, SendWish(destination_id=identity), principal)
        await table.set_job(db, identity, job.id)
        return job

    def kind(self, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> JobKind[SendWish]:
        """Return the kind of job that sends."""

        async def run(run: Run[SendWish]) -> Sent:
            if run.owner.role != "admin" or run.owner.stations is not None:
                raise Forbidden("whoever asked for this may not export any more")
            there = await self.get(run.parameters.destination_id)
            try:
                return await _Sender(self, run, there, self._now_ms, pause).send()
            except (LinkError, Forbidden, Invalid) as error:
                wait_s = error.wait_s if isinstance(error, Away) else 0.0
                async with run.committing() as db:
                    await table.note_failure(db, there.pk, error.code, error.detail, self._now_ms(), wait_s)
                raise

        return JobKind(
            name=SEND, parameters=SendWish, run=run, most_failures=5, most_alive=1_000, hopeless=(*HOPELESS, LinkError)
        )

    def _now_ms(self) -> int:
        return to_ms(self._now())


class _Sender:
    """One run over one destination."""

    def __init__(
        self,
        destinations: Destinations,
        run: Run[SendWish],
        there: Destination,
        now_ms: Callable[[], int],
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._run = run
        self._there = there
        self._site = destinations.site(there)
        self._species = destinations.species
        self._now_ms = now_ms
        self._pause = pause
        self._done = Sent()
        self._streak: list[Batch] = []

    async def send(self) -> Sent:
        """Send all that may go; raises what ends a run before its end."""
        async with open_client(self._site.request.url) as http:
            while (batch := await self._next()) is not None:
                found = await self._deliver(http, batch)
                async with self._run.committing() as db:
                    await self._note(db, batch, found)
                await self._run.progress(0, f"{self._done.sent} fixes sent")
                if len(self._streak) == MOST_REFUSED:
                    async with self._run.committing() as db:
                        await departures.put_back(db, self._there.pk, self._streak)
                    self._done.refused -= len(self._streak)
                    raise Invalid(
                        f"{self._site.name} refuses one fix after the other ({found.why}): is its provider set up for"
                        " tracking devices?"
                    )
        async with self._run.committing() as db:
            await table.note_well(db, self._there.pk, self._now_ms())
        return self._done

    async def _next(self) -> Batch | None:
        """Return the next batch; look along the change log until there is one, None where its end is reached."""
        while True:
            self._run.check()
            async with self._run.committing() as db:
                there = await table.destination(db, self._there.id, is_held=True)
                if not there.is_enabled:
                    return None
                if (batch := await departures.next_batch(db, there.pk)) is not None:
                    return batch
                if not await departures.look(db, there, self._site, self._species, self._now_ms()):
                    return None

    async def _note(self, db: Connection, batch: Batch, found: Judged) -> None:
        if found.verdict == "done":
            await departures.arrived(db, self._there.pk, batch, self._now_ms())
            self._done.sent += len(batch.observations)
            self._streak.clear()
        elif len(batch.observations) > 1:
            await departures.halve(db, self._there.pk, batch)
        else:
            await departures.set_aside(db, self._there.pk, batch)
            self._done.refused += 1
            self._streak.append(batch)

    async def _deliver(self, http: httpx.AsyncClient, batch: Batch) -> Judged:
        """Try a batch until it is there or refused; raises Away, Forbidden or Invalid where trying is no use now."""
        site, body = self._site, self._site.body(batch.observations)
        wait_s, why = _FIRST_S, ""
        for number in range(TRIES):
            if number:
                self._done.retries += 1
                await self._wait(wait_s)
                wait_s *= 2
            try:
                answer = await _asked(http, site.request, body)
            except httpx.HTTPError as error:
                why = str(error) or type(error).__name__
                continue
            found = judged(site, answer.status_code, answer.headers, answer.content)
            if found.verdict != "later":
                _check(site, found, answer.status_code)
                return found
            why = found.why
            if found.wait_s > _LONGEST_S:
                raise Away(f"{site.name} asks to be left alone: {why}", found.wait_s)
            wait_s = max(wait_s, found.wait_s)
        raise Away(f"{site.name} at {httpx.URL(site.request.url).host} does not take fixes: {why}", wait_s)

    async def _wait(self, wait_s: float) -> None:
        """Wait in steps, so that a cancelled run ends soon."""
        while wait_s > 0:
            self._run.check()
            await self._pause(min(wait_s, _STEP_S))
            wait_s -= _STEP_S


def open_client(url: str) -> httpx.AsyncClient:
    """Return a client with the system's certificates, one connection, and nothing from the environment."""
    is_secure = url.startswith("https")
    return httpx.AsyncClient(
        verify=ssl.create_default_context() if is_secure else True, timeout=_TIMEOUT, trust_env=False,
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
    )  # fmt: skip


async def _asked(http: httpx.AsyncClient, request: Request, body: bytes) -> httpx.Response:
    return await http.request(request.method, request.url, content=body or None, headers=dict(request.headers))


def _check(site: Site, found: Judged, status: int) -> None:
    if found.verdict == "denied":
        raise Forbidden(f"{site.name} refuses the token ({status})")
    if found.verdict == "wrong":
        raise Invalid(f"{site.name}: there is nothing at {site.request.url} ({status})")


def _site(kind: str, url: str, provider: str, token: str) -> Site:
    """Return a receiver; raises Invalid for what it cannot be spoken to with."""
    if not token.isascii() or not token.isprintable() or not token:
        raise Invalid("token: printable ASCII characters")
    if kind == "gundi":
        return gundi.site(url, token)
    if not provider:
        raise Invalid("provider: EarthRanger's name for this cloud, or the feed's at Movebank")
    if kind == "movebank":
        return movebank_feed.site(url, provider, token)
    return earthranger.site(url, provider, token)


def _place(identity: str) -> str:
    return f"destinations.token/{identity}"
