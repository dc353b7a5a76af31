"""Rows as columns, and columns as few bytes: fixes, and what models say of them.

Rows are sorted by (owner, time, ...), as their ``Table`` says; an owner's rows are one walk. The section of numbers
is::

    rows; owners and how many rows each has; then for each column that is not empty, in the order of the table:
    its place in the table, which rows have a value, and the values

Which rows have a value is told once for columns that share it (lon and lat, speed and heading). Times are told as a
difference from a time of the same row where that is shorter: a fix is received a little after it was made. Whole
numbers are first divided by what divides all of them: milliseconds that are always whole seconds cost as seconds.

The section of text holds owners and all other strings, each distinct string of a column once, without what it has in
common with the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec
import numpy as np

from shared.errors import Invalid
from shared.wire.batch.container import MAX_PLAIN_BYTES, MAX_ROWS, Reader, Writer
from shared.wire.batch.decimals import Floats, finite, read_floats, write_floats
from shared.wire.batch.integers import Bools, Ints, read_integers, read_walks, walk_cost, write_integers, write_walks

#: Column names and their values, all of one length; a column that is absent has its default in every row.
Columns: TypeAlias = dict[str, list[Any]]
Kind: TypeAlias = Literal["text", "integer", "decimal", "number"]


class Column(msgspec.Struct, frozen=True):
    """One column: ``number`` takes whole numbers and floats and keeps which is which; None is "not known".

    ``after`` names the column that a time is measured from where that is shorter.
    """

    name: str
    kind: Kind
    is_optional: bool = True
    default: str | int | None = None
    after: str | None = None
    orders: tuple[int, ...] = (0, 1)


class Table(msgspec.Struct, frozen=True):
    """What the rows of a kind of batch have. Its first column is the owner, its second the time; both are required.

    Places in ``columns`` are on the wire: a later version appends to them. ``order`` is what an owner's rows are sorted
    by, ``claims`` are columns of 0 and 1, ``rows`` is what a person calls them.
    """

    rows: str
    columns: tuple[Column, ...]
    order: tuple[str, ...]
    claims: tuple[str, ...] = ()

    @property
    def owner(self) -> str:
        """The column whose rows are one walk."""
        return self.columns[0].name

    @property
    def time(self) -> str:
        """The column that times are measured from."""
        return self.columns[1].name


_TYPES: Final[dict[Kind, frozenset[type]]] = {
    "text": frozenset({str}),
    "integer": frozenset({int}),
    "decimal": frozenset({float, int}),
    "number": frozenset({float, int}),
}
_WORDS: Final[dict[Kind, str]] = {
    "text": "text",
    "integer": "a whole number",
    "decimal": "a number",
    "number": "a number",
}
_MAX_ORDER: Final = 2
_IS_AFTER: Final = 1 << 2
_IS_DIVIDED: Final = 1 << 3
_ALL, _RUNS, _BITS, _SAME = range(4)
_WHOLE, _FLOATS, _MIXED = range(3)


def write_columns(table: Table, columns: Columns) -> tuple[bytes, bytes]:
    """Return the rows of ``columns`` as a section of text and one of numbers.

    Raises Invalid for a column that is unknown, of another length, without a value it must have, or with a value of
    another type, NaN and infinities among them; and for more rows than a batch may hold.
    """
    count = _checked_length(table, columns)
    numbers, text = Writer(), Writer()
    numbers.varint(count)
    if count:
        _Encoder(table, numbers, text, columns, count).write()
    return bytes(text.data), bytes(numbers.data)


def read_columns(table: Table, text_section: bytes, number_section: bytes) -> Columns:
    """Return every column that ``write_columns`` wrote, its rows sorted; raises Invalid."""
    text, source = Reader(text_section), Reader(number_section)
    count = source.count(MAX_ROWS, "rows")
    columns: Columns = {column.name: [column.default] * count for column in table.columns}
    if count:
        _Decoder(table, source, text, columns, count).read()
    if not (source.is_done and text.is_done):
        raise Invalid("the batch has more bytes than rows")
    return columns


def _checked_length(table: Table, columns: Columns) -> int:
    if unknown := columns.keys() - {column.name for column in table.columns}:
        raise Invalid(f"{min(unknown)}: there is no such column")
    for name in (table.owner, table.time):
        if name not in columns:
            raise Invalid(f"{name}: is required")
    count = len(columns[table.owner])
    if count > MAX_ROWS:
        raise Invalid(f"{count} {table.rows}, a batch holds at most {MAX_ROWS}")
    for name, values in columns.items():
        if len(values) != count:
            raise Invalid(f"{name}: has {len(values)} values, {table.owner} has {count}")
    return count


class _Encoder:
    """Writes one batch; columns are taken in the order of the rows on the wire."""

    def __init__(self, table: Table, out: Writer, text: Writer, columns: Columns, count: int) -> None:
        self._table = table
        self._out = out
        self._text = text
        self._columns = columns
        self._count = count
        self._masks: list[bytes] = []
        self._times: dict[str, Ints] = {}

    def write(self) -> None:
        """Write the owners, then each column that has something to say."""
        for column in self._table.columns:
            if column.name in self._columns:
                self._check(column, self._columns[column.name])
        given = self._columns[self._table.owner]
        names = sorted(set(given))
        places = {name: place for place, name in enumerate(names)}
        owners = np.array([places[name] for name in given], np.int64)
        keys = [self._sortable(name) for name in reversed(self._table.order)]
        self._rows = np.lexsort((*keys, owners))
        self._order = self._rows.tolist()
        self._owners = owners[self._rows]
        self._starts = _starts(self._owners)
        _write_texts(self._out, self._text, names)
        write_integers(self._out, np.bincount(owners))
        for place, column in enumerate(self._table.columns[1:], 1):
            said = self._columns.get(column.name)
            if said is None or said.count(column.default) == self._count:
                continue
            self._out.byte(place)
            self._write_column(column, list(map(said.__getitem__, self._order)))

    def _check(self, column: Column, values: Sequence[Any]) -> None:
        found = set(map(type, values))
        if column.is_optional:
            found.discard(type(None))
        if not found <= _TYPES[column.kind]:
            raise Invalid(f"{column.name}: must be {_WORDS[column.kind]}{' or null' if column.is_optional else ''}")
        if column.name in self._table.claims:
            _check_is_claim(column.name, values)

    def _sortable(self, name: str) -> Ints:
        values = self._columns.get(name)
        if values is None:
            return np.zeros(self._count, np.int64)
        return _whole([-(2**62) if value is None else value for value in values], name)

    def _write_column(self, column: Column, values: list[Any]) -> None:
        starts, present = self._starts, None
        if column.is_optional:
            present = self._write_presence(values)
            if present is not None:
                values = [value for value in values if value is not None]
                starts = _starts(self._owners[present])
        match column.kind:
            case "text":
                self._write_strings(values)
            case "integer":
                self._write_integers(column, _whole(values, column.name), starts, present)
            case "decimal":
                write_floats(self._out, _decimals(values, column.name), starts)
            case "number":
                self._write_numbers(column, values, starts)

    def _write_presence(self, values: list[Any]) -> Bools | None:
        """Write which rows have a value and return it; None where all have one."""
        if None not in values:
            self._out.byte(_ALL)
            return None
        present = np.array([value is not None for value in values])
        bits = np.packbits(present).tobytes()
        if bits in self._masks:
            self._out.byte(_SAME + self._masks.index(bits))
            return present
        self._masks.append(bits)
        runs = Writer()
        ends = np.flatnonzero(present[1:] != present[:-1]) + 1
        runs.byte(_RUNS)
        runs.varint(len(ends) << 1 | int(present[0]))
        write_integers(runs, np.diff(ends, prepend=0))
        if len(runs.data) <= len(bits) + 1:
            self._out.raw(bytes(runs.data))
        else:
            self._out.byte(_BITS)
            self._out.raw(bits)
        return present

    def _write_integers(self, column: Column, values: Ints, starts: Bools, present: Bools | None) -> None:
        candidates: list[tuple[Ints, int]] = [(values, 0)]
        if column.after is not None:
            reference = self._times.get(column.after, self._times[self._table.time])
            if present is not None:
                reference = reference[present]
            candidates.append((_minus(values, reference), _IS_AFTER))
        if column.name.endswith("_ms"):
            self._times[column.name] = _filled(values, present, self._times.get(self._table.time))
        best: tuple[float, int, Ints, int] | None = None
        for offset, flags in candidates:
            divisor = _divisor(offset)
            divided = offset // divisor if divisor > 1 else offset
            for order in column.orders:
                cost = walk_cost(divided, starts, order)
                if best is None or cost < best[0]:
                    best = (cost, flags | order, divided, divisor)
        assert best is not None
        _, flags, divided, divisor = best
        self._out.byte(flags | (_IS_DIVIDED if divisor > 1 else 0))
        if divisor > 1:
            self._out.varint(divisor)
        write_walks(self._out, divided, starts, flags & ~_IS_AFTER)

    def _write_numbers(self, column: Column, values: list[Any], starts: Bools) -> None:
        is_float = np.array([type(value) is float for value in values])
        if not is_float.any():
            self._out.byte(_WHOLE)
            self._write_integers(column, _whole(values, column.name), starts, None)
            return
        if is_float.all():
            self._out.byte(_FLOATS)
            write_floats(self._out, finite(values, column.name), starts)
            return
        self._out.byte(_MIXED)
        self._out.raw(np.packbits(is_float).tobytes())
        whole = _whole([value for value in values if type(value) is int], column.name)
        self._write_integers(column, whole, _only_first(len(whole)), None)
        floats = finite([value for value in values if type(value) is float], column.name)
        write_floats(self._out, floats, _only_first(len(floats)))

    def _write_strings(self, values: list[str]) -> None:
        if values.count(values[0]) == len(values):
            _write_texts(self._out, self._text, values[:1])
            return
        places: dict[str, int] = {}
        indices = [places.setdefault(value, len(places)) for value in values]
        _write_texts(self._out, self._text, list(places))
        numbers, once = np.array(indices, np.int64), _only_first(len(indices))
        order = min((0, 1), key=lambda it: walk_cost(numbers, once, it))
        self._out.byte(order)
        write_walks(self._out, numbers, once, order)


class _Decoder:
    """Reads one batch into ``columns``, which hold the defaults."""

    def __init__(self, table: Table, source: Reader, text: Reader, columns: Columns, count: int) -> None:
        self._table = table
        self._source = source
        self._text = text
        self._columns = columns
        self._count = count
        self._masks: list[Bools] = []
        self._times: dict[str, Ints] = {}

    def read(self) -> None:
        """Read the owners, then columns up to the end."""
        names = self._read_texts(self._count)
        lengths = read_integers(self._source, len(names))
        if not len(lengths) or int(lengths.min()) < 1 or int(lengths.max()) > self._count:
            raise Invalid(f"{self._table.owner}: the batch has one without rows")
        if int(lengths.sum()) != self._count:
            raise Invalid(f"{self._table.owner}: the batch has another number of rows than these have")
        self._owners = np.repeat(np.arange(len(names)), lengths)
        self._starts = _starts(self._owners)
        self._columns[self._table.owner] = [
            name for name, length in zip(names, lengths.tolist(), strict=True) for _ in range(length)
        ]
        last = 0
        while not self._source.is_done:
            place = self._source.byte()
            if not last < place < len(self._table.columns):
                raise Invalid("the batch has an unknown column, or one twice")
            last = place
            column = self._table.columns[place]
            self._columns[column.name] = self._read_column(column)
        if self._table.time not in self._times:
            raise Invalid(f"{self._table.time}: is required")

    def _read_column(self, column: Column) -> list[Any]:
        starts, present = self._starts, None
        if column.is_optional:
            present = self._read_presence()
            if present is not None:
                starts = _starts(self._owners[present])
        values: list[Any]
        match column.kind:
            case "text":
                values = self._read_strings(len(starts))
            case "integer":
                values = self._read_integers(column, starts, present).tolist()
            case "decimal":
                values = read_floats(self._source, starts).tolist()
            case "number":
                values = self._read_numbers(column, starts)
        if column.name in self._table.claims:
            _check_is_claim(column.name, values)
        if present is None:
            return values
        given = iter(values)
        return [next(given) if is_present else None for is_present in present.tolist()]

    def _read_presence(self) -> Bools | None:
        how = self._source.byte()
        if how == _ALL:
            return None
        if how >= _SAME:
            if how - _SAME >= len(self._masks):
                raise Invalid("the batch refers to rows that it did not name")
            return self._masks[how - _SAME]
        if how == _BITS:
            present = _bools(self._source.take((self._count + 7) // 8), self._count)
        else:
            head = self._source.count(self._count << 1, "runs")
            lengths = read_integers(self._source, head >> 1)
            if len(lengths) and not 1 <= int(lengths.min()) <= int(lengths.max()) <= self._count:
                raise Invalid("the batch has an empty run of rows")
            left = self._count - int(lengths.sum())
            if left < 1:
                raise Invalid("the batch has a longer run than rows")
            # runs take turns; the lowest bit of the head says whether the first has values
            is_present = (np.arange(len(lengths) + 1) + (head & 1)) % 2 == 1
            present = np.repeat(is_present, np.append(lengths, left))
        self._masks.append(present)
        return present

    def _read_integers(self, column: Column, starts: Bools, present: Bools | None) -> Ints:
        flags = self._source.byte()
        order = flags & ~(_IS_AFTER | _IS_DIVIDED)
        if order > _MAX_ORDER:
            raise Invalid("the batch has a column of an unknown order")
        divisor = self._source.varint() if flags & _IS_DIVIDED else 1
        wide = read_walks(self._source, starts, order).view(np.uint64) * np.uint64(divisor)
        if flags & _IS_AFTER:
            if column.after is None or self._table.time not in self._times:
                raise Invalid("the batch has a time after one that it lacks")
            reference = self._times.get(column.after, self._times[self._table.time])
            wide = wide + (reference if present is None else reference[present]).view(np.uint64)
        values = wide.view(np.int64)
        if column.name.endswith("_ms"):
            self._times[column.name] = _filled(values, present, self._times.get(self._table.time))
        return values

    def _read_numbers(self, column: Column, starts: Bools) -> list[Any]:
        how = self._source.byte()
        if how == _WHOLE:
            return list(self._read_integers(column, starts, None).tolist())
        if how == _FLOATS:
            return list(read_floats(self._source, starts).tolist())
        if how != _MIXED:
            raise Invalid("the batch has numbers of an unknown kind")
        is_float = _bools(self._source.take((len(starts) + 7) // 8), len(starts))
        float_count = int(np.count_nonzero(is_float))
        whole = iter(self._read_integers(column, _only_first(len(starts) - float_count), None).tolist())
        floats = iter(read_floats(self._source, _only_first(float_count)).tolist())
        return [next(floats) if it else next(whole) for it in is_float.tolist()]

    def _read_strings(self, count: int) -> list[str]:
        table = self._read_texts(count)
        if not table:
            if count:
                raise Invalid("the batch has rows without their text")
            return []
        if len(table) == 1:
            return table * count
        if (order := self._source.byte()) > 1:
            raise Invalid("the batch has a column of an unknown order")
        indices = read_walks(self._source, _only_first(count), order)
        if int(indices.min()) < 0 or int(indices.max()) >= len(table):
            raise Invalid("the batch refers to text that it lacks")
        return [table[index] for index in indices.tolist()]

    def _read_texts(self, limit: int) -> list[str]:
        """Return as many distinct strings as there are, at most ``limit``."""
        count = self._source.count(limit, "strings")
        shared, own = read_integers(self._source, count), read_integers(self._source, count)
        for lengths in (shared, own):
            if count and not 0 <= int(lengths.min()) <= int(lengths.max()) <= MAX_PLAIN_BYTES:
                raise Invalid("the batch has text of an impossible length")
        if int(shared.sum()) + int(own.sum()) > MAX_PLAIN_BYTES:
            raise Invalid(f"the batch has more than {MAX_PLAIN_BYTES} bytes of text")
        texts: list[str] = []
        before = b""
        for share, length in zip(shared.tolist(), own.tolist(), strict=True):
            if share > len(before):
                raise Invalid("the batch has text that repeats more than there was")
            before = before[:share] + self._text.take(length)
            try:
                texts.append(before.decode())
            except UnicodeDecodeError as error:
                raise Invalid("the batch has text that is not UTF-8") from error
        return texts


def _write_texts(out: Writer, text: Writer, texts: Sequence[str]) -> None:
    shared, own = [], []
    before = b""
    size = 0
    for each in texts:
        try:
            encoded = each.encode()
        except UnicodeEncodeError as error:
            raise Invalid("text that is not Unicode cannot be sent") from error
        share = _shared_bytes(before, encoded)
        shared.append(share)
        own.append(len(encoded) - share)
        text.raw(encoded[share:])
        before = encoded
        size += len(encoded)
    if size > MAX_PLAIN_BYTES:
        raise Invalid(f"more than {MAX_PLAIN_BYTES} bytes of text: send fewer rows")
    out.varint(len(texts))
    write_integers(out, np.array(shared, np.int64))
    write_integers(out, np.array(own, np.int64))


def _shared_bytes(before: bytes, after: bytes) -> int:
    most = min(len(before), len(after))
    if before[:most] == after[:most]:
        return most
    low, high = 0, most  # before[:low] is shared, before[:high] is not
    while high - low > 1:
        middle = (low + high) // 2
        if before[low:middle] == after[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _whole(values: list[int], name: str) -> Ints:
    try:
        return np.array(values, np.int64)
    except OverflowError as error:
        raise Invalid(f"{name}: has more than 64 bits") from error


def _decimals(values: list[float], name: str) -> Floats:
    made = finite(values, name)
    if int in set(map(type, values)) and made.tolist() != values:
        raise Invalid(f"{name}: a whole number that no float holds")
    return made


def _check_is_claim(name: str, values: Sequence[Any]) -> None:
    if not set(values) <= {0, 1}:
        raise Invalid(f"{name}: must be 0 or 1")


def _minus(values: Ints, others: Ints) -> Ints:
    return (values.view(np.uint64) - others.view(np.uint64)).view(np.int64)


def _divisor(values: Ints) -> int:
    """Return what divides all of ``values``, at least 1."""
    divisor = int(np.gcd.reduce(values))
    return max(1, divisor)


def _filled(values: Ints, present: Bools | None, otherwise: Ints | None) -> Ints:
    """Return a time for every row: those without one take ``otherwise``, the raw time."""
    if present is None or otherwise is None:
        return values
    filled = otherwise.copy()
    filled[present] = values
    return filled


def _starts(owners: Ints) -> Bools:
    starts = np.ones(len(owners), np.bool_)
    starts[1:] = owners[1:] != owners[:-1]
    return starts


def _only_first(count: int) -> Bools:
    starts = np.zeros(count, np.bool_)
    starts[:1] = True
    return starts


def _bools(data: bytes, count: int) -> Bools:
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count).view(np.bool_)
