"""Work on many items over Dask: in this machine's processes, or on a cluster, by the same code.

``OUTPOST_DASK_SCHEDULER=tcp://host:8786`` names the scheduler of a cluster; without it Dask's own local scheduler runs
the work, one process for each of ``workers`` (1: in this one). Results come back in the order of the items, and no more
than a few for each worker are asked for ahead: so memory is that of what is under way, however many items there are.

Workers of a cluster run this program's release and see files under the same paths as whoever asks.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeVar

from dask.base import compute
from dask.delayed import delayed
from distributed import Client

from shared.errors import ConfigError, LinkError

SCHEDULER: Final = "OUTPOST_DASK_SCHEDULER"
#: Items that are asked for at once, for each worker.
AHEAD: Final = 4
CONNECT_S: Final = 20.0

# neither library says what its functions take and give
_compute: Final[Any] = compute
_delayed: Final[Any] = delayed
_Client: Final[Any] = Client

T = TypeVar("T")
R = TypeVar("R")


class Spread:
    """Maps functions over items. ``where`` says in words where the work is done."""

    def __init__(self, client: Any, workers: int) -> None:
        self._client: Any = client
        self._workers = workers
        self.where = f"{workers} local" if client is None else f"{workers} at {client.scheduler.address}"

    @property
    def workers(self) -> int:
        """How many work at once."""
        return self._workers

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Give what ``work`` returns of each item, in order; raises what it raises."""
        waiting = iter(items)
        if self._client is not None:
            yield from self._map_afar(work, waiting)
            return
        while some := list(islice(waiting, AHEAD * self._workers)):
            tasks = [_delayed(work, pure=False)(item) for item in some]
            yield from _compute(*tasks, **self._settings())

    def _map_afar(self, work: Callable[[T], R], waiting: Iterator[T]) -> Iterator[R]:
        """The same on a cluster: for each result that is taken one more item is asked for, so that no worker waits."""
        ahead = deque(self._client.submit(work, item, pure=False) for item in islice(waiting, AHEAD * self._workers))
        try:
            while ahead:
                found = ahead.popleft().result()
                ahead.extend(self._client.submit(work, item, pure=False) for item in islice(waiting, 1))
                yield found
        finally:
            self._client.cancel(list(ahead))

    def _settings(self) -> dict[str, Any]:
        if self._workers == 1:
            return {"scheduler": "synchronous"}
        return {"scheduler": "processes", "num_workers": self._workers, "chunksize": 1}


@contextlib.contextmanager
def spread(
    workers: int | None = None, environment: Mapping[str, str] | None = None, *, connect_s: float = CONNECT_S
) -> Iterator[Spread]:
    """Where work is spread, as a context: the cluster that the environment names, else ``workers`` local processes.

    Raises ConfigError for an address that is none, LinkError where nobody answers there or no worker is there.
    """
    address = (os.environ if environment is None else environment).get(SCHEDULER, "")
    if not address:
        yield Spread(None, max(1, workers or os.cpu_count() or 1))
        return
    if not address.startswith(("tcp://", "tls://")):
        raise ConfigError(f"{SCHEDULER}: {address}: the address of a scheduler is like tcp://host:8786")
    try:
        client = _Client(address, timeout=connect_s, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise LinkError(f"{SCHEDULER}: no Dask scheduler answers at {address}: {error}") from error
    try:
        count = len(client.scheduler_info(n_workers=-1)["workers"])
        if not count:
            raise LinkError(f"{SCHEDULER}: the scheduler at {address} has no worker: start `dask worker {address}`")
        yield Spread(client, count)
    finally:
        client.close()
