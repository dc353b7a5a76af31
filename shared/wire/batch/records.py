"""Operations, alerts, edits: short lists of structs in one batch, as MessagePack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec

from shared.errors import Invalid
from shared.wire.batch.container import MAX_ROWS, RECORDS, pack, unpack

T = TypeVar("T")

_VERSION: Final = 1


def encode_records(ops: Sequence[msgspec.Struct]) -> bytes:
    """Return ``ops`` as a batch; raises Invalid for more than a batch may hold."""
    if len(ops) > MAX_ROWS:
        raise Invalid(f"{len(ops)} records, a batch holds at most {MAX_ROWS}")
    try:
        plain = msgspec.msgpack.encode(list(ops))
    except (OverflowError, UnicodeEncodeError) as error:
        raise Invalid(f"a record cannot be written: {error}") from error
    return pack(RECORDS, _VERSION, [plain])


def decode_records(data: bytes, type: type[T] | Any) -> list[T]:  # noqa: A002  msgspec's own word for it
    """Return the records of a batch as ``type``, a struct or a union of tagged ones; raises Invalid."""
    version, sections = unpack(data, RECORDS, _VERSION)
    return _READERS[version](sections, type)


def _read_1(sections: Sequence[bytes], shape: Any) -> list[Any]:
    if len(sections) != 1:
        raise Invalid("a batch of records has one section")
    try:
        records: list[Any] = msgspec.msgpack.decode(sections[0], type=list[shape])
    except msgspec.ValidationError as error:
        raise Invalid(f"the records are not what they should be: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the records do not decode: {error}") from error
    if len(records) > MAX_ROWS:
        raise Invalid(f"{len(records)} records, at most {MAX_ROWS} are read")
    return records


#: How each version is read; a later one adds its reader, and older ones go on through theirs.
_READERS: Final = {1: _read_1}
