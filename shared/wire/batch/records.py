"""Operations, alerts, edits: short lists of structs in one batch, as MessagePack, in a version of ``schema``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from shared.errors import Invalid
from shared.wire.batch.container import MAX_ROWS, RECORDS, pack, unpack
from shared.wire.batch.schema import LADDER, Ladder

T = TypeVar("T")


def encode_records(ops: Sequence[msgspec.Struct], version: int | None = None, ladder: Ladder = LADDER) -> bytes:
    """Return ``ops`` as a batch, for a program of an older ``version`` where one is named.

    Raises Invalid for more than a batch may hold, BatchTooOld for a version that is left behind.
    """
    if len(ops) > MAX_ROWS:
        raise Invalid(f"{len(ops)} records, a batch holds at most {MAX_ROWS}")
    wanted = ladder.newest if version is None else min(version, ladder.newest)
    ladder.check(wanted)
    try:
        plain = msgspec.msgpack.encode(list(ops))
        if wanted < ladder.newest:
            plain = msgspec.msgpack.encode(ladder.lowered(wanted, msgspec.msgpack.decode(plain)))
    except (OverflowError, UnicodeEncodeError) as error:
        raise Invalid(f"a record cannot be written: {error}") from error
    return pack(RECORDS, wanted, [plain])


def decode_records(data: bytes, type: type[T] | Any, ladder: Ladder = LADDER) -> list[T]:  # noqa: A002  msgspec's own word for it
    """Return the records of a batch as ``type``, a struct or a union of tagged ones; raises Invalid.

    Raises BatchTooNew and BatchTooOld for a version that this program does not read.
    """
    version, sections = unpack(data, RECORDS, ladder.newest)
    ladder.check(version)
    if len(sections) != 1:
        raise Invalid("a batch of records has one section")
    shape: Any = list[type]  # type: ignore[valid-type]  # the caller's, known when it is called
    try:
        if version == ladder.newest:
            records: list[T] = msgspec.msgpack.decode(sections[0], type=shape)
        else:
            plain = msgspec.msgpack.decode(sections[0], type=list[Any])
            records = msgspec.convert(_raised(ladder, version, plain), shape)
    except msgspec.ValidationError as error:
        raise Invalid(f"the records are not what they should be: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the records do not decode: {error}") from error
    if len(records) > MAX_ROWS:
        raise Invalid(f"{len(records)} records, at most {MAX_ROWS} are read")
    return records


def _raised(ladder: Ladder, version: int, plain: Sequence[Any]) -> list[Any]:
    try:
        return ladder.raised(version, plain)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # a step was given what no program wrote
        raise Invalid(f"the records are not what version {version} has: {error!r}") from error
