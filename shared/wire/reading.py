"""From bytes of a client to a typed body, and from a decoder's complaint to a sentence that names the field.

Everything here raises ``Invalid`` with a detail such as ``lat: must be between -90 and 90``. Numbers are numbers and
text is text: the few fields that are read more liberally, because the original clients need it, stand in
``shared.wire.public``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from shared.errors import Invalid

T = TypeVar("T")

#: An instant before this is a mistake: no collar of ours is that old, and seconds taken for milliseconds land here.
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_EARLIEST_MS = (EARLIEST - _EPOCH) // _MS
_LATEST_MS = (LATEST - _EPOCH) // _MS

_AT_PATH = re.compile(r"^(?P<message>.*) - at `\$\.?(?P<path>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<field>.*)`$")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def read_json(body: bytes | msgspec.Raw, shape: type[T]) -> T:
    """Return ``body`` as ``shape``; unknown keys are ignored. Raises Invalid."""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise Invalid(_sentence(str(error), shape)) from error
    except msgspec.DecodeError as error:
        raise Invalid(f"the body is not JSON: {error}") from error
    except UnicodeDecodeError as error:
        raise Invalid("the body is not UTF-8") from error
    except RecursionError as error:
        raise Invalid("the body is nested too deeply") from error


def text(field: str, value: str) -> str:
    """Return ``value`` without surrounding space; raises Invalid for empty text and control characters."""
    stripped = value.strip()
    if not stripped:
        raise Invalid(f"{field}: must not be empty")
    return _printable(field, stripped)


def optional_text(field: str, value: str | None) -> str | None:
    """Return ``value`` without surrounding space, None for nothing; raises Invalid for control characters."""
    return _printable(field, value.strip()) or None if value is not None else None


def _printable(field: str, value: str) -> str:
    if not value.isprintable() and _CONTROL.search(value):
        raise Invalid(f"{field}: must not contain control characters")
    return value


def instant(field: str, value: str | float) -> datetime:
    """Return the instant that RFC 3339 text or milliseconds since 1970 name, aware UTC; raises Invalid."""
    moment = _from_text(field, value) if isinstance(value, str) else _from_ms(field, value)
    if not EARLIEST <= moment < LATEST:
        raise Invalid(f"{field}: must lie between 1990 and 2100 (numbers are milliseconds since 1970)")
    return moment


def instant_ms(field: str, value: str | float) -> int:
    """Return the instant that ``instant`` gives, in whole milliseconds since 1970; raises Invalid."""
    if type(value) is int and _EARLIEST_MS <= value < _LATEST_MS:  # as phones say it
        return value
    return (instant(field, value) - _EPOCH) // _MS


def bound(field: str, value: str, *, is_end: bool = False) -> datetime:
    """Return one end of a span asked for in a query; a bare date means the whole of that UTC day."""
    if _DATE.fullmatch(value):
        try:
            day = datetime.fromisoformat(value).replace(tzinfo=UTC)
        except ValueError as error:
            raise Invalid(f"{field}: there is no such day") from error
        if not EARLIEST <= day < LATEST:
            raise Invalid(f"{field}: must lie between 1990 and 2100")
        return day + timedelta(days=1) if is_end else day
    if _WHOLE.fullmatch(value):
        return instant(field, int(value))
    # A plus that was not percent-encoded arrives as a space.
    return instant(field, re.sub(r" (\d{2}:\d{2})$", r"+\1", value))


def _from_text(field: str, value: str) -> datetime:
    try:
        moment = msgspec.convert(value.strip(), datetime)
    except msgspec.ValidationError as error:
        raise Invalid(f"{field}: must be RFC 3339 text such as 2024-11-01T10:30:00Z") from error
    if moment.tzinfo is None:
        raise Invalid(f"{field}: needs a time zone, as in 2024-11-01T10:30:00Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise Invalid(f"{field}: must lie between 1990 and 2100") from error


def _from_ms(field: str, value: float) -> datetime:
    # The comparison also refuses NaN, infinities and integers that no float can hold.
    if not 0 <= value < 2**48 or (isinstance(value, float) and not math.isfinite(value)):
        raise Invalid(f"{field}: must lie between 1990 and 2100 (numbers are milliseconds since 1970)")
    return _EPOCH + timedelta(milliseconds=round(value))


def _sentence(complaint: str, shape: Any) -> str:
    """Turn msgspec's words into ours: the field first, and for a range or a choice all of it."""
    placed = _AT_PATH.match(complaint)
    message, path = (placed["message"], placed["path"]) if placed else (complaint, "")
    if missing := _MISSING.match(message):
        field = f"{path}.{missing['field']}" if path else missing["field"]
        return f"{field}: is required"
    if not path:
        return f"the body: {_lowered(message)}"
    wanted = _limits(shape).get(path) if ">=" in message or "<=" in message or "enum" in message else None
    return f"{path}: {wanted or _lowered(message)}"


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]


@cache
def _limits(shape: Hashable) -> dict[str, str]:
    """Return what each field of a struct wants, in words; nothing for shapes that are not structs."""
    described = inspect.type_info(shape)
    if not isinstance(described, inspect.StructType):
        return {}
    return {field.encode_name: words for field in described.fields if (words := _limit(field.type))}


def _limit(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.UnionType):
        return next((words for member in kind.types if (words := _limit(member))), "")
    if isinstance(kind, inspect.Metadata):
        return _limit(kind.type)
    if isinstance(kind, inspect.LiteralType):
        return "must be one of " + ", ".join(str(value) for value in kind.values)
    if isinstance(kind, (inspect.FloatType, inspect.IntType)) and kind.ge is not None and kind.le is not None:
        return f"must be between {_number(kind.ge)} and {_number(kind.le)}"
    if isinstance(kind, inspect.StrType) and kind.max_length is not None:
        shortest = kind.min_length or 0
        return (
            f"must have {shortest} to {kind.max_length} characters"
            if shortest
            else (f"must have at most {kind.max_length} characters")
        )
    return ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)
