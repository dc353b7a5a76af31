"""How a request's body becomes a typed value: by ``shared.wire.reading`` alone, so that every refusal names its field.

Litestar hands the bytes of a body to the handler's DTO; ours decodes them strictly (a number in quotes is no number)
and raises our own ``Invalid``. The size of a body is bounded by Litestar while it arrives, before anything is decoded.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from litestar.dto import AbstractDTO, DTOConfig, DTOFieldDefinition
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition

from shared.errors import Invalid, TooLarge
from shared.wire.public import BulkTrackingIn
from shared.wire.reading import read_json

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator
    from litestar.dto._backend import DTOBackend

#: The largest body that is read, in bytes.
MAX_BODY_BYTES = 10_000_000
#: The largest number of positions in one upload.
MAX_BULK_ITEMS = 10_000


class JsonBody(AbstractDTO[Any]):
    """Decodes the body to the annotated type of ``data``."""

    config: ClassVar[DTOConfig] = DTOConfig()

    def decode_bytes(self, value: bytes) -> Any:
        """Return the body; raises Invalid."""
        field = self.asgi_connection.route_handler.parsed_data_field
        assert field is not None
        return read_json(value, field.annotation)

    @classmethod
    def create_for_field_definition(
        cls,
        field_definition: FieldDefinition,  # Litestar passes these by name
        handler_id: str,
        backend_cls: type[DTOBackend] | None = None,
    ) -> None:
        """Prepare nothing: decoding needs no transfer model."""

    @classmethod
    def create_openapi_schema(
        cls,
        field_definition: FieldDefinition,
        handler_id: str,  # noqa: ARG003  # Litestar passes these by name
        schema_creator: SchemaCreator,
    ) -> Reference | Schema:
        """Return the schema of the annotated type itself."""
        return schema_creator.for_field_definition(field_definition)

    @classmethod
    def generate_field_definitions(cls, _model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:
        """Yield nothing: there is no transfer model."""
        yield from ()

    @classmethod
    def detect_nested_field(cls, _field_definition: FieldDefinition) -> bool:
        """Say no: there is no transfer model."""
        return False


class _Items(msgspec.Struct):
    """The envelope of an upload; its items stay bytes, so that a broken one harms only itself."""

    tracking_points: list[msgspec.Raw] | None = None
    tracking: list[msgspec.Raw] | None = None


class BulkBody(JsonBody):
    """Decodes the envelope of an upload: ``{tracking_points: [...]}``, ``{tracking: [...]}`` or an array."""

    #: what the schema shows
    shown: ClassVar[type[Any]] = BulkTrackingIn

    def decode_bytes(self, value: bytes) -> list[msgspec.Raw]:
        """Return the items, undecoded; raises Invalid or TooLarge."""
        if value.lstrip()[:1] == b"[":
            items: list[msgspec.Raw] | None = read_json(value, list[msgspec.Raw])
        else:
            envelope = read_json(value, _Items)
            items = envelope.tracking_points if envelope.tracking_points is not None else envelope.tracking
        if items is None:
            raise Invalid("tracking_points: is required")
        if len(items) > MAX_BULK_ITEMS:
            raise TooLarge(
                f"tracking_points: must have at most {MAX_BULK_ITEMS} items; send the rest in another request"
            )
        return items

    @classmethod
    def create_openapi_schema(
        cls,
        field_definition: FieldDefinition,  # noqa: ARG003  # Litestar passes these by name
        handler_id: str,  # noqa: ARG003 - the framework passes it
        schema_creator: SchemaCreator,
    ) -> Reference | Schema:
        """Return the schema that clients should send."""
        return schema_creator.for_field_definition(FieldDefinition.from_annotation(cls.shown))
