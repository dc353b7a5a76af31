"""Between the loop and a thread: rows that the loop reads and a thread takes, bytes that a thread writes."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, TypeVar

T = TypeVar("T")

#: Rows that are handed over at once.
_HANDFUL: Final = 500


def taken_in_thread(
    rows: AsyncIterator[T], loop: asyncio.AbstractEventLoop, check: Callable[[], None] = lambda: None
) -> Iterator[T]:
    """Give what ``rows`` yields on ``loop`` to the thread that iterates; ``check`` may raise before each handful."""
    while True:
        check()
        handful = asyncio.run_coroutine_threadsafe(_taken(rows), loop).result()
        if not handful:
            return
        yield from handful


async def _taken(rows: AsyncIterator[T]) -> list[T]:
    found: list[T] = []
    while len(found) < _HANDFUL:
        try:
            found.append(await anext(rows))
        except StopAsyncIteration:
            break
    return found


class ThreadFile(io.RawIOBase):
    """A file for a thread, whose bytes go to ``write``; after ``abandon`` it takes them and does nothing."""

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        super().__init__()
        self._write: Callable[[bytes], Any] | None = write
        self._n = 0

    def writable(self) -> bool:
        """Say that it is written."""
        return True

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._n

    def write(self, data: Any) -> int:
        """Hand bytes on."""
        body = bytes(data)
        if self._write is not None:
            self._write(body)
        self._n += len(body)
        return len(body)

    def abandon(self) -> None:
        """Let what a buffer still holds go nowhere, whoever lets go of the buffer and on whichever thread."""
        self._write = None
