"""Columns of floats as whole numbers, bit for bit.

What a collar reports was a whole number of some small unit before it was a float. If multiplying back and dividing
again gives the very same 64 bits, the whole numbers are sent, and the few floats that disagree beside them as they
are; else all floats go as byte planes (every sign byte, then every next byte, ...), which zstd likes better.

The rules below are part of the format: never renumber, only append.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from shared.errors import Invalid
from shared.wire.batch.container import Reader, Writer
from shared.wire.batch.integers import Bools, Ints, read_integers, read_walks, walk_cost, write_integers, write_walks

Floats: TypeAlias = npt.NDArray[np.float64]
_Units: TypeAlias = Callable[[Floats], Floats]


class _Rule(msgspec.Struct, frozen=True):
    """``whole`` returns about the number that ``value`` turns into the float; only ``value`` must be exact."""

    whole: _Units
    value: _Units


def _tenths(places: int) -> _Rule:
    scale = 10.0**places
    return _Rule(lambda it: it * scale, lambda it: it / scale)


def _kmh(places: int) -> _Rule:
    scale = 10.0**places
    return _Rule(lambda it: it * 3.6 * scale, lambda it: it / scale / 3.6)


def _knots(places: int) -> _Rule:
    scale = 10.0**places
    return _Rule(lambda it: it / (1852 / 3600) * scale, lambda it: it / scale * (1852 / 3600))


def _times(step: float) -> _Rule:
    return _Rule(lambda it: it / step, lambda it: it * step)


#: What devices and people count in: decimals, km/h, knots, headings turned into 0 to 360, bytes as -100 to 100.
_RULES: Final = (
    *map(_tenths, range(10)),
    *map(_kmh, range(3)),
    *map(_knots, range(4)),
    *map(_times, (0.1, 0.01, 0.001)),
    _Rule(lambda it: np.where(it < 180.0, it, it - 360.0) * 100.0, lambda it: it / 100.0 % 360.0),
    _Rule(lambda it: (it + 100.0) * 255.0 / 200.0, lambda it: it * 200.0 / 255.0 - 100.0),
)
_PLANES: Final = 255
#: Beyond this a float has no room for every whole number.
_MAX_WHOLE: Final = 2.0**53
#: More floats than this beside their rule, and planes are the simpler way.
_MAX_ODD_SHARE: Final = 0.25


def write_floats(out: Writer, values: Floats, starts: Bools) -> None:
    """Append ``values``, all finite; the reader must know how many there are and where walks start."""
    best: tuple[int, int, Ints, Bools] | None = None
    for number, rule in enumerate(_RULES):
        with np.errstate(over="ignore", invalid="ignore"):
            about = np.rint(rule.whole(values))
        # adding nothing makes -0.0 the 0.0 that an integer turns into
        whole = np.where(np.abs(about) < _MAX_WHOLE, about, 0.0) + 0.0
        is_exact = rule.value(whole).view(np.int64) == values.view(np.int64)
        odd = len(values) - int(np.count_nonzero(is_exact))
        if best is None or odd < best[0]:
            best = (odd, number, whole.astype(np.int64), is_exact)
        if not odd:
            break
    assert best is not None
    odd, number, numbers, is_exact = best
    if odd > len(values) * _MAX_ODD_SHARE:
        out.byte(_PLANES)
        out.raw(_to_planes(values))
        return
    out.byte(number)
    out.varint(odd)
    if odd:
        write_integers(out, np.flatnonzero(~is_exact))
        out.raw(_to_planes(values[~is_exact]))
        numbers = np.where(is_exact, numbers, numbers[is_exact][0])
    order = min((0, 1), key=lambda it: walk_cost(numbers, starts, it))
    out.byte(order)
    write_walks(out, numbers, starts, order)


def read_floats(source: Reader, starts: Bools) -> Floats:
    """Return the floats that ``write_floats`` wrote; raises Invalid."""
    count = len(starts)
    number = source.byte()
    if number == _PLANES:
        return _from_planes(source, count)
    if number >= len(_RULES):
        raise Invalid("the batch has a column of decimals in an unknown unit")
    odd = source.count(count, "odd values")
    places = read_integers(source, odd)
    if odd and not 0 <= int(places.min()) <= int(places.max()) < count:
        raise Invalid("the batch has a value outside its rows")
    odd_values = _from_planes(source, odd)
    if (order := source.byte()) > 1:
        raise Invalid("the batch has a column of an unknown order")
    values = _RULES[number].value(read_walks(source, starts, order).astype(np.float64))
    values[places] = odd_values
    return values


def finite(values: Sequence[float], name: str) -> Floats:
    """Return ``values`` as an array; raises Invalid for NaN, infinities and whole numbers that no float is."""
    try:
        made = np.array(values, np.float64)
    except OverflowError as error:
        raise Invalid(f"{name}: a number that no float holds") from error
    if not np.isfinite(made).all():
        raise Invalid(f"{name}: must be a finite number")
    return made


def _to_planes(values: Floats) -> bytes:
    return values.astype(">f8").view(np.uint8).reshape(-1, 8).T.tobytes()


def _from_planes(source: Reader, count: int) -> Floats:
    planes = np.frombuffer(source.take(count * 8), np.uint8).reshape(8, count)
    values = np.ascontiguousarray(planes.T).view(">f8").reshape(count).astype(np.float64)
    if not np.isfinite(values).all():
        raise Invalid("the batch has a number that is not finite")
    return values
