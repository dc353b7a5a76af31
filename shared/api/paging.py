"""Pages of lists as the original platform gives them: ``{count, next, previous, results}``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlencode

from litestar import Request
from litestar.di import Dependency, Provide
from litestar.params import QueryParameter, SkipValidationMarker
from msgspec import Struct

from shared.errors import NotFound
from shared.store import Page

T = TypeVar("T")
Public = TypeVar("Public")

PAGE_SIZE = 20
MAX_PAGE_SIZE = 1000
#: Beyond this an offset would not fit what a database counts with.
MAX_PAGE = 1_000_000_000


class Paged(Struct, Generic[T], frozen=True):
    """One page of a list; ``count`` is the size of the whole list, ``next`` and ``previous`` are URLs or null."""

    count: int
    next: str | None
    previous: str | None
    results: list[T]


class Paging:
    """The page that a request asks for."""

    def __init__(self, request: Request[Any, Any, Any], page: int, page_size: int) -> None:
        self._request = request
        self._page = page
        self.limit = page_size
        self.offset = (page - 1) * page_size

    def of(self, page: Page[T], public: Callable[[T], Public]) -> Paged[Public]:
        """Return ``page`` in its public form, with links; raises NotFound for a page past the last one."""
        if not page.results and self._page > 1:
            raise NotFound(f"page: there is no page {self._page}, the list has {page.count} rows")
        is_last = self.offset + len(page.results) >= page.count
        return Paged(
            count=page.count,
            next=None if is_last else self._url(self._page + 1),
            previous=None if self._page == 1 else self._url(self._page - 1),
            results=[public(row) for row in page.results],
        )

    def _url(self, page: int) -> str:
        url = self._request.url
        query = [pair for pair in parse_qsl(url.query, keep_blank_values=True) if pair[0] != "page"]
        path = url.path.rstrip("/") + "/"
        return str(url.with_replacements(path=path, query=urlencode([*query, ("page", str(page))])))


PagingGiven: TypeAlias = Annotated[Paging, Dependency(kind="named"), SkipValidationMarker()]


def _paging(
    request: Request[Any, Any, Any],
    page: Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="Which page, from 1.")] = 1,
    page_size: Annotated[int, QueryParameter(ge=1, le=MAX_PAGE_SIZE, description="Rows a page.")] = PAGE_SIZE,
) -> Paging:
    return Paging(request, page, page_size)


#: For the ``dependencies`` of a controller with lists.
PAGING = {"paging": Provide(_paging, sync_to_thread=False)}
