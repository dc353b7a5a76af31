"""Pages of lists as the original platform gives them: ``{count, next, previous, results}``.

``fields=id,name`` leaves of each row what it names: a phone that shows a list of names loads no more than that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Generic, TypeAlias, TypeVar, cast
from urllib.parse import parse_qsl, urlencode

from litestar import Request
from litestar.di import Dependency, Provide
from litestar.params import QueryParameter, SkipValidationMarker
from msgspec import Struct

from shared.errors import Invalid, NotFound
from shared.store import Page

T = TypeVar("T")
Public = TypeVar("Public")

PAGE_SIZE = 20
MAX_PAGE_SIZE = 500
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

    def __init__(self, request: Request[Any, Any, Any], page: int, page_size: int, fields: str | None = None) -> None:
        self._request = request
        self._page = page
        self._fields = fields
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
            results=self._shortened([public(row) for row in page.results], public),
        )

    def _shortened(self, rows: list[Public], public: Callable[..., Public]) -> list[Public]:
        """Return rows with the fields that were asked for; raises Invalid for one that they do not have."""
        if not self._fields:
            return rows
        wanted = [name.strip() for name in self._fields.split(",") if name.strip()]
        known = _fields_of(public)
        unknown = sorted(set(wanted) - set(known))
        if unknown:
            raise Invalid(f"fields: there is no field {unknown[0]}; there are {', '.join(known)}")
        # the schema says of a list with `fields` that its rows may hold less
        return [cast("Public", {name: getattr(row, name) for name in wanted}) for row in rows]

    def _url(self, page: int) -> str:
        url = self._request.url
        query = [pair for pair in parse_qsl(url.query, keep_blank_values=True) if pair[0] != "page"]
        path = url.path.rstrip("/") + "/"
        return str(url.with_replacements(path=path, query=urlencode([*query, ("page", str(page))])))


def _fields_of(public: Callable[..., Any]) -> tuple[str, ...]:
    """Return the fields of the rows that ``public``, a constructor of theirs, makes."""
    shape = getattr(public.func if isinstance(public, partial) else public, "__self__", None)
    if not (isinstance(shape, type) and issubclass(shape, Struct)):
        raise TypeError("a list is made by a constructor of its rows, so that their fields are known")
    return shape.__struct_fields__


PagingGiven: TypeAlias = Annotated[Paging, Dependency(kind="named"), SkipValidationMarker()]


def _paging(
    request: Request[Any, Any, Any],
    page: Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="Which page, from 1.")] = 1,
    page_size: Annotated[int, QueryParameter(ge=1, le=MAX_PAGE_SIZE, description="Rows a page.")] = PAGE_SIZE,
    fields: Annotated[
        str | None, QueryParameter(description="Only these fields of each row, with commas between.")
    ] = None,
) -> Paging:
    return Paging(request, page, page_size, fields)


def _whole_paging(
    request: Request[Any, Any, Any],
    page: Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="Which page, from 1.")] = 1,
    page_size: Annotated[int, QueryParameter(ge=1, le=MAX_PAGE_SIZE, description="Rows a page.")] = PAGE_SIZE,
) -> Paging:
    return Paging(request, page, page_size)


#: For the ``dependencies`` of a controller with lists.
PAGING = {"paging": Provide(_paging, sync_to_thread=False)}
#: The same for rows that are only shown whole.
WHOLE_PAGING = {"paging": Provide(_whole_paging, sync_to_thread=False)}
