"""What controllers of drawn things share: bodies that may be GeoJSON, the import of collections, all rows of a list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, TypeVar

from litestar.openapi.spec import Reference, Schema
from litestar.params import QueryParameter
from litestar.typing import FieldDefinition
from msgspec import Raw

from shared.api.body import JsonBody
from shared.errors import RequestError
from shared.store import Page
from shared.wire.public import BulkOut, BulkResult, Upload, upload_of

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator

GEOJSON = "application/geo+json"
#: So many rows are read from the store at a time where all of them are wanted.
READ_ROWS = 500

Unsaid = Annotated[
    str | None, QueryParameter(max_length=200, description="What holds for GeoJSON that does not say it itself.")
]


class Drawn(Protocol):
    """A record that can be drawn."""

    @property
    def id(self) -> str:
        """Return its id."""
        ...


T = TypeVar("T")
D = TypeVar("D", bound=Drawn)


class FeatureBody(JsonBody):
    """Decodes a plain body, a Feature, a bare geometry or the envelope of a FeatureCollection."""

    #: What clients may send, for the schema.
    shapes: ClassVar[Any]

    def decode_bytes(self, value: bytes) -> Upload:
        """Return the items, undecoded; raises Invalid or TooLarge."""
        return upload_of(value)

    @classmethod
    def create_openapi_schema(
        cls,
        field_definition: FieldDefinition,  # noqa: ARG003  # Litestar passes these by name
        handler_id: str,  # noqa: ARG003 - the framework passes it
        schema_creator: SchemaCreator,
    ) -> Reference | Schema:
        """Return the schemas that clients may send."""
        return schema_creator.for_field_definition(FieldDefinition.from_annotation(cls.shapes))


async def import_features(
    upload: Upload,
    columns_of: Callable[[Raw], dict[str, Any]],
    known: Mapping[Hashable, str],
    looks: Callable[[Mapping[str, Any]], Hashable],
    create: Callable[[dict[str, Any]], Awaitable[Drawn]],
) -> BulkOut:
    """Enter the Features of a collection and say of each what became of it; a bad one takes no neighbour with it.

    ``looks`` is by what two are one, seen in their columns; ``known`` holds the ids of those that are there already.
    """
    there = dict(known)
    results = []
    for index, item in enumerate(upload.items):
        result = BulkResult(index=index)
        results.append(result)
        try:
            columns = columns_of(item)
            seen = looks(columns)
            result.id, result.outcome = there.get(seen), "duplicate"
            if result.id is None:
                made = await create(columns)
                there[seen] = result.id = made.id
                result.outcome = "new"
        except RequestError as error:
            result.outcome, result.errors = None, [error.detail]
    created = sum(result.outcome == "new" for result in results)
    failed = sum(result.outcome is None for result in results)
    return BulkOut(
        received=len(results),
        created=created,
        duplicates=len(results) - created - failed,
        failed=failed,
        results=results,
    )


async def every(read: Callable[[int], Awaitable[Page[T]]]) -> list[T]:
    """Return all rows that ``read`` gives from an offset on, ``READ_ROWS`` at most each time."""
    rows: list[T] = []
    while True:
        page = await read(len(rows))
        rows += page.results
        if len(page.results) < READ_ROWS:
            return rows
