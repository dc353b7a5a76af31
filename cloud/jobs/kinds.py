"""What a kind of job is, and what its code is given: the interface that everything which takes long is written to.

A kind has a name, the type of its parameters and a coroutine that does the work::

    class Wish(msgspec.Struct, frozen=True):
        species: str

    async def run(run: Run[Wish]) -> Found:             # what it returns is the job's result, as JSON
        place = await load(run.parameters.species)
        await run.log("12 patches")                     # a line for whoever watches
        best = await run.in_thread(lambda reporter: search(place, reporter))
        await store.create_corridor(view, {"id": run.identity("corridor"), ...})
        return Found(corridor_id=run.identity("corridor"))

    kind = JobKind(name="corridor", parameters=Wish, run=run, is_heavy=True)

and is registered where the program is wired (``cloud.app.kinds_of``). The service submits it, a worker runs it.

**A job may run again from its beginning**: its worker was killed, or it failed and is worth another try. Nothing that
it does may then be there twice, and there are three ways to see to that:

- ``identity`` gives ids that are the same in every attempt: storing twice is storing once;
- ``committing`` is a transaction that commits only while this attempt is the newest: one whose worker was given up for
  dead, and which wakes up again, changes nothing any more;
- ``keep`` stores what the next attempt goes on from (``kept``).

**Cancelling is cooperative**: ``check``, ``progress``, ``log``, ``keep`` and a thread's ``Reporter`` raise when the
owner has cancelled, when the worker is being stopped, or when another attempt has taken over. Let it through:
``finally`` blocks run, and the worker knows what each means. Call one of them every second or so.

**Errors**: what can never go well (``RequestError``, ``AccessError``, ``ArtifactError``) ends the job at once with its
code; anything else is tried again after a pause that doubles, ``most_failures`` times.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from cloud.store.database import Connection
from shared.errors import AccessError, ArtifactError, OutpostError, RequestError
from shared.privacy import Principal

P = TypeVar("P", bound=msgspec.Struct)
P_co = TypeVar("P_co", bound=msgspec.Struct, covariant=True)
T = TypeVar("T")

#: Errors that another attempt would meet again.
HOPELESS: Final = (RequestError, AccessError, ArtifactError)


class JobStopped(Exception):
    """The attempt has to end now; the worker knows what follows. Raised by what a run offers, let it through."""


class JobCancelled(JobStopped):
    """The owner has cancelled the job."""


class JobInterrupted(JobStopped):
    """The worker is being stopped: the job waits for another."""


class JobSuperseded(JobStopped):
    """Another attempt has taken over, because this one's worker was not heard of."""


class Reporter(Protocol):
    """What a thread tells of its work; each call returns at once and raises JobStopped when it is to end."""

    def progress(self, percent: float, message: str = "", best: Any = None) -> None:
        """Say how far it is (0 to 100), at what, and the best so far; only the newest is kept."""
        ...

    def log(self, line: str) -> None:
        """Add a line to the job's log."""
        ...

    def check(self) -> None:
        """Raise JobStopped when the work is to end."""
        ...


class PartWriter(Protocol):
    """A file that a job makes, part by part; from the loop by ``write``, from a thread by ``write_in_thread``."""

    async def write(self, data: bytes) -> None:
        """Append bytes."""
        ...

    def write_in_thread(self, data: bytes) -> None:
        """Append bytes, from a thread of ``in_thread``; returns when they are taken."""
        ...


class Run(Protocol[P_co]):
    """One attempt at a job, as its code sees it."""

    @property
    def id(self) -> str:
        """The job's id."""
        ...

    @property
    def parameters(self) -> P_co:
        """What was asked for."""
        ...

    @property
    def owner(self) -> Principal:
        """Who asked, with the rights of now, not of then."""
        ...

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        ...

    @property
    def kept(self) -> Any:
        """What an earlier attempt kept, None where there is nothing."""
        ...

    def identity(self, what: str) -> str:
        """Return an id for what the job makes: the same in every attempt."""
        ...

    def check(self) -> None:
        """Raise JobStopped when the attempt is to end."""
        ...

    async def progress(self, percent: float, message: str = "", best: Any = None) -> None:
        """Say how far it is (0 to 100), at what, and the best so far; what comes in quick succession is thinned."""
        ...

    async def log(self, line: str) -> None:
        """Add a line to the job's log."""
        ...

    async def keep(self, state: Any) -> None:
        """Keep what the next attempt goes on from; JSON of at most a megabyte."""
        ...

    def committing(self) -> AbstractAsyncContextManager[Connection]:
        """Give a transaction that commits only while this attempt is the newest; raises JobSuperseded."""
        ...

    async def in_thread(self, work: Callable[[Reporter], T]) -> T:
        """Run ``work`` in a thread of its own and return its result; the loop goes on."""
        ...

    def each_in_thread(self, rows: AsyncIterator[T]) -> Iterator[T]:
        """Give what an async iterator yields to a thread of ``in_thread``."""
        ...

    def file(self, name: str, media_type: str, *, seen_as: str) -> AbstractAsyncContextManager[PartWriter]:
        """Give the job's file to write: it can be fetched once the job has succeeded, and expires.

        ``seen_as`` says how precise it is; who asks for it later must see as precisely.
        """
        ...


class JobKind(msgspec.Struct, Generic[P], frozen=True, kw_only=True):
    """A kind of job; see the module. ``is_heavy``: one of these at a time in each worker.

    ``first_pause_s`` is how long the first failure is waited out. ``most_alive`` is how many of these may wait or run
    for one person. ``hopeless`` errors end it at once.
    """

    name: str
    parameters: type[P]
    run: Callable[[Run[P]], Awaitable[Any]]
    is_heavy: bool = False
    most_failures: int = 3
    first_pause_s: float = 10.0
    most_alive: int = 10
    hopeless: tuple[type[OutpostError], ...] = HOPELESS

    def pause_s(self, failures: int) -> float:
        """Return how long to wait after so many failures; an hour at most."""
        return min(self.first_pause_s * 2.0 ** max(failures - 1, 0), 3_600.0)


class Kinds:
    """The kinds of job that a program knows, by name."""

    def __init__(self, kinds: Iterable[JobKind[Any]] = ()) -> None:
        self._kinds: dict[str, JobKind[Any]] = {}
        for kind in kinds:
            self.register(kind)

    def register(self, kind: JobKind[Any]) -> None:
        """Add a kind; two of one name are a mistake of the program."""
        if kind.name in self._kinds:
            raise ValueError(f"there are two kinds of job called {kind.name}")
        self._kinds[kind.name] = kind

    def get(self, name: str) -> JobKind[Any] | None:
        """Return a kind, None where there is none of this name."""
        return self._kinds.get(name)

    @property
    def names(self) -> list[str]:
        """The names, in order."""
        return sorted(self._kinds)
