"""The wire format of protocol buffers, as far as reading a message needs it: ours, as the schemas are small.

::

    varint (field number << 3 | wire type) | value        wire types: 0 varint, 1 eight bytes, 2 length and bytes,
                                                                      5 four bytes

Groups (wire types 3 and 4) have been gone for longer than any schema read here. A field that comes twice has its last
value; one of an unexpected wire type is another schema's and counts as absent, as in every reader.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from shared.errors import FrameError

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_U64 = (1 << 64) - 1
_FIXED_BYTES = {_EIGHT: 8, _FOUR: 4}
_FLOAT = struct.Struct("<f")


class Fields:
    """The fields of one message; each getter returns None for a field that is absent."""

    def __init__(self, values: Mapping[tuple[int, int], int | bytes]) -> None:
        self._values = values

    def unsigned(self, number: int) -> int | None:
        """Return a field of type uint32, uint64, bool or enum."""
        value = self._values.get((number, _VARINT))
        return value if isinstance(value, int) else None

    def signed(self, number: int) -> int | None:
        """Return a field of type int32 or int64: negative numbers are ten bytes long."""
        value = self.unsigned(number)
        return value if value is None or value >> 63 == 0 else value - (1 << 64)

    def zigzag(self, number: int) -> int | None:
        """Return a field of type sint32 or sint64."""
        value = self.unsigned(number)
        return None if value is None else (value >> 1) ^ -(value & 1)

    def fixed32(self, number: int) -> int | None:
        """Return a field of type fixed32."""
        value = self._values.get((number, _FOUR))
        return int.from_bytes(value, "little") if isinstance(value, bytes) else None

    def sfixed32(self, number: int) -> int | None:
        """Return a field of type sfixed32."""
        value = self._values.get((number, _FOUR))
        return int.from_bytes(value, "little", signed=True) if isinstance(value, bytes) else None

    def float32(self, number: int) -> float | None:
        """Return a field of type float."""
        value = self._values.get((number, _FOUR))
        return _FLOAT.unpack(value)[0] if isinstance(value, bytes) else None

    def raw(self, number: int) -> bytes | None:
        """Return a field of type bytes, string or message, not yet read."""
        value = self._values.get((number, _BYTES))
        return value if isinstance(value, bytes) else None

    def text(self, number: int) -> str:
        """Return a field of type string; what is no UTF-8 in it is replaced, as it never decides anything."""
        return (self.raw(number) or b"").decode(errors="replace")

    def message(self, number: int) -> Fields | None:
        """Return a field of type message; raises FrameError where it cannot be read."""
        value = self.raw(number)
        return None if value is None else read_fields(value)


def read_fields(data: bytes) -> Fields:
    """Return the fields of a message; raises FrameError unless it can be taken apart down to its last byte."""
    values: dict[tuple[int, int], int | bytes] = {}
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if not number:
            raise FrameError(f"field number 0 at byte {position}")
        value: int | bytes
        if kind == _VARINT:
            value, position = _varint(data, position)
        else:
            if kind == _BYTES:
                size, position = _varint(data, position)
            elif kind in _FIXED_BYTES:
                size = _FIXED_BYTES[kind]
            else:
                raise FrameError(f"field {number} has wire type {kind}, which no message has")
            value = data[position : position + size]
            if len(value) < size:
                raise FrameError(f"field {number} was cut short: {len(value)} of {size} bytes")
            position += size
        values[number, kind] = value
    return Fields(values)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the number at ``position`` and where the next value begins."""
    value = 0
    for index, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value & _U64, position + index + 1
    raise FrameError(f"the number at byte {position} does not end")
