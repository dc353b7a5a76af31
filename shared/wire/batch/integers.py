"""Columns of 64-bit integers as bits, at about the size that their spread asks for.

A column is first bent towards zero by a transform, then one of three codes writes what is left, each with a number of
low bits ``k`` written as they are::

    fixed   k bits a value                                     evenly spread, or all equal with k = 0
    rice    the rest above k bits in unary                     steps whose sizes fall off quickly
    gamma   the length of the rest in unary, then its bits     steps of every size: rest and sudden marches

The header is one byte (code, folding, k), then the base that was taken off. Unfolded values are differences from the
smallest; folded ones are differences from the median with the sign in the lowest bit. Unary digits and plain bits are
two runs of bytes, because each alone is read without a loop.

All arithmetic is modulo 2^64, so every int64 survives and nothing overflows.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from shared.errors import Invalid
from shared.wire.batch.container import Reader, Writer

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
_Unsigned: TypeAlias = npt.NDArray[np.uint64]

_MASK_64: Final = (1 << 64) - 1
_MAX_K: Final = 40
_FIXED_HEADERS: Final = 65
_RICE, _RICE_FOLDED, _GAMMA, _GAMMA_FOLDED = range(4)
_CODES: Final = 4

_ONE: Final = np.uint64(1)
_POWERS: Final = _ONE << np.arange(64, dtype=np.uint64)
_KS: Final = np.arange(_MAX_K + 1, dtype=np.int64)
_LENGTHS: Final = np.arange(65, dtype=np.int64)
#: Bits that gamma with k low bits takes for a value of each bit length, close enough to choose by.
_GAMMA_BITS: Final = (_KS[:, None] + 1 + 2 * np.maximum(_LENGTHS[None, :] - _KS[:, None], 0)).astype(np.float64)
_HALVINGS: Final = 0.5**_KS

#: More unary digits than this a value are never written: fixed would have been shorter.
_MAX_UNARY_BYTES_A_VALUE: Final = 9


def write_integers(out: Writer, values: Ints) -> None:
    """Append ``values``; the reader must know how many there are."""
    if not len(values):
        return
    lowest, highest = int(values.min()), int(values.max())
    above = values.view(np.uint64) - np.uint64(lowest & _MASK_64)
    width = (highest - lowest).bit_length()
    best = (len(values) * width, -1, width)
    middle, folded = lowest, above
    if width:
        middle = int(np.partition(values, len(values) // 2)[len(values) // 2])
        folded = _fold((values.view(np.uint64) - np.uint64(middle & _MASK_64)).view(np.int64))
        best = min(best, _best_code(folded, _RICE_FOLDED, _GAMMA_FOLDED))
        if (middle - lowest) * 4 < highest - middle:  # only what leans to one side is shorter unfolded
            best = min(best, _best_code(above, _RICE, _GAMMA))
    _, code, k = best
    if code < 0:
        out.byte(k)
        out.signed(lowest)
        out.raw(_to_bits(above, k))
        return
    is_folded = code in (_RICE_FOLDED, _GAMMA_FOLDED)
    rest = folded if is_folded else above
    out.byte(_FIXED_HEADERS + code * (_MAX_K + 1) + k)
    out.signed(middle if is_folded else lowest)
    high = rest >> np.uint64(k)
    if code in (_RICE, _RICE_FOLDED):
        unary = high.astype(np.int64)
        tail = _to_bits(rest, k)
    else:
        unary = _bit_lengths(high + _ONE) - 1
        widths = unary + k
        base = ((_ONE << unary.view(np.uint64)) - _ONE) << np.uint64(k)
        tail = _to_ragged_bits(rest - base, widths)
    digits = _to_unary(unary)
    out.varint(len(digits))
    out.raw(digits)
    out.raw(tail)


def read_integers(source: Reader, count: int) -> Ints:
    """Return the next ``count`` values; raises Invalid."""
    if not count:
        return np.zeros(0, np.int64)
    header = source.byte()
    if header < _FIXED_HEADERS:
        base, width = source.signed(), header
        if not width:
            return np.full(count, np.uint64(base & _MASK_64)).view(np.int64)
        rest = _from_bits(source.take((count * width + 7) // 8), np.full(count, width, np.int64))
        return (rest + np.uint64(base & _MASK_64)).view(np.int64)
    code, k = divmod(header - _FIXED_HEADERS, _MAX_K + 1)
    if code >= _CODES:
        raise Invalid("the batch has a column in an unknown code")
    base = source.signed()
    digits = source.take(source.count(count * _MAX_UNARY_BYTES_A_VALUE, "bytes of unary digits"))
    unary = _from_unary(digits, count)
    if code in (_RICE, _RICE_FOLDED):
        rest = unary.view(np.uint64) << np.uint64(k)
        if k:
            rest += _from_bits(source.take((count * k + 7) // 8), np.full(count, k, np.int64))
    else:
        widths = unary + k
        if int(widths.max()) > 63:
            raise Invalid("the batch has a number of more than 64 bits")
        rest = ((_ONE << unary.view(np.uint64)) - _ONE) << np.uint64(k)
        rest += _from_bits(source.take((int(widths.sum()) + 7) // 8), widths)
    if code in (_RICE_FOLDED, _GAMMA_FOLDED):
        rest = _unfold(rest)
    return (rest + np.uint64(base & _MASK_64)).view(np.int64)


def write_walks(out: Writer, values: Ints, starts: Bools, order: int) -> None:
    """Append ``values`` as walks: at each of ``starts`` a new one begins, ``order`` times a step is told for a place.

    First places are told one after the other, so that collars near each other cost little.
    """
    if not order or not len(values):
        write_integers(out, values)
        return
    heads = values[starts]
    out.signed(int(heads[0]))
    write_integers(out, _differences(heads))
    write_walks(out, _differences(values)[~starts[1:]], _starts_after(starts), order - 1)


def read_walks(source: Reader, starts: Bools, order: int) -> Ints:
    """Return the values that ``write_walks`` wrote; raises Invalid."""
    if not order or not len(starts):
        return read_integers(source, len(starts))
    first = source.signed()
    places = np.flatnonzero(starts)
    heads = np.empty(len(places), np.uint64)
    heads[0] = first & _MASK_64
    heads[1:] = read_integers(source, len(places) - 1).view(np.uint64)
    heads = np.cumsum(heads, dtype=np.uint64)
    steps = np.zeros(len(starts), np.uint64)
    steps[~starts] = read_walks(source, _starts_after(starts), order - 1).view(np.uint64)
    steps = np.cumsum(steps, dtype=np.uint64)
    lengths = np.diff(places, append=len(starts))
    return (steps + np.repeat(heads - steps[places], lengths)).view(np.int64)


def walk_cost(values: Ints, starts: Bools, order: int) -> float:
    """Return about how many bits ``write_walks`` would need, to choose an order by."""
    bits = 0.0
    for _ in range(order):
        if len(values) < 2:
            break
        bits += _spread_bits(_differences(values[starts]))
        values, starts = _differences(values)[~starts[1:]], _starts_after(starts)
    return bits + _spread_bits(values)


def _spread_bits(values: Ints) -> float:
    if not len(values):
        return 0.0
    middle = float(values[len(values) // 2])
    return float(np.log2(np.abs(values - middle) + 1.0).sum())


def _starts_after(starts: Bools) -> Bools:
    """Return where walks begin among the steps: each walk's first step."""
    return starts[:-1][~starts[1:]]


def _differences(values: Ints) -> Ints:
    wide = values.view(np.uint64)
    return (wide[1:] - wide[:-1]).view(np.int64)


def _fold(values: Ints) -> _Unsigned:
    return ((values << 1) ^ (values >> 63)).view(np.uint64)


def _unfold(values: _Unsigned) -> _Unsigned:
    return (values >> _ONE) ^ (~(values & _ONE) + _ONE)


def _bit_lengths(values: _Unsigned) -> Ints:
    return np.searchsorted(_POWERS, values, side="right")


def _best_code(values: _Unsigned, rice: int, gamma: int) -> tuple[int, int, int]:
    """Return (bits, code, k) of the shorter of both codes."""
    count = len(values)
    in_rice = count * (_KS + 1) + np.maximum(float(values.sum(dtype=np.float64)) * _HALVINGS - count * 0.5, 0.0)
    k_rice = int(in_rice.argmin())
    best = (int(in_rice[k_rice]) + 16, rice, k_rice)
    histogram = np.bincount(_bit_lengths(values), minlength=65)
    if histogram[64]:  # one more than such a value has no 64 bits
        return best
    in_gamma = _GAMMA_BITS @ histogram
    k_gamma = int(in_gamma.argmin())
    return min(best, (int(in_gamma[k_gamma]) + 16, gamma, k_gamma))


def _to_unary(values: Ints) -> bytes:
    ends = np.cumsum(values + 1) - 1
    digits = np.zeros(int(ends[-1]) + 1, np.uint8)
    digits[ends] = 1
    return np.packbits(digits).tobytes()


def _from_unary(data: bytes, count: int) -> Ints:
    ends = np.flatnonzero(np.unpackbits(np.frombuffer(data, np.uint8)))
    if len(ends) != count:
        raise Invalid("the batch has a column of another length than it claims")
    ends[1:] -= ends[:-1] + 1
    return ends


def _to_bits(values: _Unsigned, width: int) -> bytes:
    shifts = np.arange(width - 1, -1, -1, dtype=np.uint64)
    return np.packbits((values[:, None] >> shifts & _ONE).astype(np.uint8)).tobytes()


def _to_ragged_bits(values: _Unsigned, widths: Ints) -> bytes:
    ends = np.cumsum(widths)
    shifts = np.repeat(ends, widths) - np.arange(1, int(ends[-1]) + 1)
    return np.packbits((np.repeat(values, widths) >> shifts.view(np.uint64) & _ONE).astype(np.uint8)).tobytes()


def _from_bits(data: bytes, widths: Ints) -> _Unsigned:
    """Return the values of ``widths`` bits each (0 to 64), one after the other in ``data``."""
    begins = np.cumsum(widths) - widths
    padded = data + bytes(9)
    at = begins >> 3
    skipped = (begins & 7).view(np.uint64)
    # the eight bytes that begin at each byte, as one number: values are cut out of these
    windows = np.ndarray((len(padded) - 7,), ">u8", padded, strides=(1,))
    bits = windows[at].astype(np.uint64) << skipped
    bits |= np.frombuffer(padded, np.uint8)[at + 8].astype(np.uint64) >> (np.uint64(8) - skipped)
    spare: _Unsigned = (64 - widths).astype(np.uint64)
    half: _Unsigned = spare >> _ONE  # in two steps: a shift by all 64 bits is undefined
    values: _Unsigned = bits >> half >> (spare - half)
    return values
