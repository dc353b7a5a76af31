"""Fixes that only come after everything their collars have: a batch of columns, judged at once, written as text.

Nothing is read from ``fixes`` for them and no object is made of each: ids, flags and wearers are worked out column by
column (``shared.movement.calm`` has the rules of it), and what goes to COPY is text. What does not fit this is left, by
whole collars, to the writer of rows (``cloud.store.fixes``); both store the same.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec
import numpy as np

from cloud.store.neighbourhood import Bounds
from shared.domain import NewFix
from shared.ids import HASH, MARKS, MAX_48, NO_POSITION
from shared.movement.calm import COLUMNS as JUDGED_COLUMNS
from shared.movement.calm import Appended, CalmEnd, CollarEnd, append
from shared.movement.quality import Limits
from shared.sync.fixes import CollarFacts
from shared.sync.records import to_ms

#: A batch: column names as in ``shared.wire.batch.FIX_COLUMNS`` and their values, all of one length.
Columns = Mapping[str, Sequence[Any]]

#: Columns that a batch has and a row does not have as such.
_NAMES: Final = ("collar_id", "said_animal_id")
#: Columns whose text is theirs as it stands; all others are numbers.
_TEXT: Final = frozenset({"source", "link", "local_id", "activity_type", "notes"})
_NULL: Final = r"\N"
#: So many rows are made at a time.
_ROWS: Final = 256
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_NEEDS_ESCAPES: Final = re.compile(r"[\\\t\n\r]").search
#: What an id is made of: what is hashed, what of the hash fills it, and what marks version and variant.
_KEY: Final = struct.Struct(">qqq")
_HASH: Final = np.frombuffer(HASH.to_bytes(10, "big"), np.uint8)
_MARKS: Final = np.frombuffer(MARKS.to_bytes(10, "big"), np.uint8)
_END: Final = struct.Struct("<qqqdqBI")


class Lane(msgspec.Struct):
    """The fixes of a batch that are an append: of each its place in the batch and what its row holds beside its id."""

    places: list[int]
    #: what ids follow from: collars' names, raw times, longitudes and latitudes
    keys: tuple[Sequence[str], Sequence[int], Sequence[int | None], Sequence[int | None]]
    collar_pks: list[int]
    collars: dict[int, CollarFacts]
    raw_ms: list[int]
    #: columns and their values, those that are empty left out
    columns: dict[str, Sequence[Any]]
    ends: dict[int, CalmEnd | None]
    #: of the rows that ``copy_texts`` has given
    ids: list[bytes] = []

    def spans(self) -> dict[int, tuple[int, int]]:
        """Return the first and the last raw time of each collar."""
        spans: dict[int, tuple[int, int]] = {}
        for pk, ms in zip(self.collar_pks, self.raw_ms, strict=True):
            if (span := spans.get(pk)) is None:
                spans[pk] = (ms, ms)
            elif ms > span[1]:
                spans[pk] = (span[0], ms)
            elif ms < span[0]:
                spans[pk] = (ms, span[1])
        return spans

    @property
    def names(self) -> list[str]:
        """The columns of the rows, in the order of ``copy_texts``."""
        return ["id", *self.columns]

    def copy_texts(self) -> Iterator[str]:
        """Give the rows as COPY reads them, some at a time: the server writes those while the next are made."""
        self.ids = []
        texts = _texts(self.columns)
        names, raw_ms, lon_e7, lat_e7 = self.keys
        for start in range(0, len(self.places), _ROWS):
            end = start + _ROWS
            ids = ids_of(names[start:end], raw_ms[start:end], lon_e7[start:end], lat_e7[start:end])
            self.ids += [ids[at : at + 16] for at in range(0, len(ids), 16)]
            yield _rows_of(ids, [text[start:end] for text in texts])


def copy_text(ids: Sequence[bytes], columns: Mapping[str, Sequence[Any]]) -> str:
    """Return rows as COPY reads them: their ids and ``columns`` of theirs."""
    return _rows_of(b"".join(ids), _texts(columns))


def _rows_of(ids: bytes, texts: Sequence[Sequence[str]]) -> str:
    digits = ids.hex()
    rows = zip([digits[at : at + 32] for at in range(0, len(digits), 32)], *texts, strict=True)
    return "\n".join(map("\t".join, rows)) + "\n"


def ids_of(
    names: Sequence[str], raw_ms: Sequence[int], lon_e7: Sequence[int | None], lat_e7: Sequence[int | None]
) -> bytes:
    """Return the ids of fixes (``shared.ids.fix_id``), 16 bytes each, one after the other."""
    prefixes = {name: name.encode() + b"\0" for name in set(names)}
    digests = b"".join(
        [
            blake2b(
                prefixes[name]
                + _KEY.pack(ms, NO_POSITION if lon is None else lon, NO_POSITION if lat is None else lat),
                digest_size=10,
            ).digest()
            for name, ms, lon, lat in zip(names, raw_ms, lon_e7, lat_e7, strict=True)
        ]
    )
    ids = np.empty((len(names), 16), np.uint8)
    times = np.array(raw_ms, np.int64).clip(0, MAX_48).astype(">u8")
    ids[:, :6] = times.view(np.uint8).reshape(-1, 8)[:, 2:]
    ids[:, 6:] = np.frombuffer(digests, np.uint8).reshape(-1, 10) & _HASH | _MARKS
    return ids.tobytes()


def columns_of(fixes: Sequence[NewFix]) -> dict[str, Sequence[Any]]:
    """Return fixes as a batch."""
    received_ms = [to_ms(fix.received_at) for fix in fixes]
    return {
        "collar_id": [fix.device for fix in fixes],
        "raw_ms": [to_ms(fix.recorded_at) for fix in fixes],
        "received_ms": received_ms,
        "sure_received_ms": [ms if fix.is_clock_sure else None for ms, fix in zip(received_ms, fixes, strict=True)],
        "network_ms": [None if (at := fix.network_time) is None else to_ms(at) for fix in fixes],
        "lon_e7": [None if (deg := fix.lon_deg) is None else round(deg * 1e7) for fix in fixes],
        "lat_e7": [None if (deg := fix.lat_deg) is None else round(deg * 1e7) for fix in fixes],
        "source": [fix.source for fix in fixes],
        "alt_m": [fix.alt_m for fix in fixes],
        "speed_mps": [fix.speed_mps for fix in fixes],
        "heading_deg": [fix.heading_deg for fix in fixes],
        "hdop": [fix.hdop for fix in fixes],
        "pdop": [fix.pdop for fix in fixes],
        "h_acc_m": [fix.h_acc_m for fix in fixes],
        "battery_pct": [fix.battery_pct for fix in fixes],
        "temperature_c": [fix.temperature_c for fix in fixes],
        "snr_db": [fix.snr_db for fix in fixes],
        "sats": [fix.sats for fix in fixes],
        "seq": [fix.seq for fix in fixes],
        "battery_mv": [fix.battery_mv for fix in fixes],
        "rssi_dbm": [fix.rssi_dbm for fix in fixes],
        "link": [fix.link for fix in fixes],
        "local_id": [fix.local_id for fix in fixes],
        "activity_type": [fix.activity_type for fix in fixes],
        "notes": [fix.notes for fix in fixes],
        "said_animal_id": [fix.animal_id for fix in fixes],
        "is_clock_unset": [int(fix.is_clock_unset) for fix in fixes],
    }


def lane_of(
    columns: Columns,
    collars: Mapping[str, CollarFacts],
    bounds: Mapping[int, Bounds],
    said_animal_pks: Mapping[str | None, int],
) -> Lane:
    """Return what of a batch is an append; ``collars`` are those that its ``collar_id`` name, locked."""
    wearers = _Wearers(columns, collars, said_animal_pks)
    of = wearers.of
    ends = [
        CollarEnd(last_ms=known.last_ms, end=_opened(known.calm_end, collar.limits), limits=collar.limits,
                  may_append=not known.has_rolled and wearers.are_times_true[number])
        for number, collar in enumerate(wearers.collars)
        for known in (bounds[collar.pk],)
    ]  # fmt: skip
    judged = append(of, {name: columns[name] for name in JUDGED_COLUMNS}, ends)
    places = [place for place, number in enumerate(of) if judged.is_appended[number]]
    return _lane(places, columns, wearers, judged)


def packed_end(end: CalmEnd | None, limits: Limits) -> bytes | None:
    """Return an end as it is kept with its collar: it holds for ``limits`` alone."""
    if end is None:
        return None
    has_seq = end.seq is not None
    return _END.pack(end.time_ms, end.lon_e7, end.lat_e7, end.h_acc_m, end.seq or 0, has_seq, _mark(limits))


def _opened(packed: bytes | None, limits: Limits) -> CalmEnd | None:
    if packed is None or len(packed) != _END.size:
        return None
    time_ms, lon_e7, lat_e7, h_acc_m, seq, has_seq, mark = _END.unpack(packed)
    return CalmEnd(time_ms, lon_e7, lat_e7, h_acc_m, seq if has_seq else None) if mark == _mark(limits) else None


@lru_cache(maxsize=1024)
def _mark(limits: Limits) -> int:
    return zlib.crc32(msgspec.msgpack.encode(limits))


class _Wearers:
    """The collars of a batch, and what follows from them for each fix: ``of`` numbers them as they first appear."""

    def __init__(
        self, columns: Columns, known: Mapping[str, CollarFacts], said_animal_pks: Mapping[str | None, int]
    ) -> None:
        numbers: dict[int, int] = {}
        number_of: dict[str, int] = {}
        self.collars: list[CollarFacts] = []
        for name in dict.fromkeys(columns["collar_id"]):
            collar = known[name]
            if (number := numbers.get(collar.pk)) is None:
                number = numbers[collar.pk] = len(self.collars)
                self.collars.append(collar)
            number_of[name] = number
        self.of = [number_of[name] for name in columns["collar_id"]]
        said = columns["said_animal_id"]
        self.said: list[int | None] = (
            [None] * len(said) if said.count(None) == len(said) else [said_animal_pks.get(name) for name in said]
        )
        self._simple = [_simple(collar) for collar in self.collars]
        self.are_times_true = [True] * len(self.collars)
        self._check_times(columns["raw_ms"], columns["sure_received_ms"])

    def _check_times(self, raw_ms: Sequence[int], sure_ms: Sequence[int | None]) -> None:
        """Find the collars of which a time would be corrected."""
        simple = self._simple
        for number, raw, sure in zip(self.of, raw_ms, sure_ms, strict=True):
            if raw < simple[number][0] and self.collars[number].corrected_ms(raw, sure) != raw:
                self.are_times_true[number] = False

    def animal_pks(self, places: Sequence[int], raw_ms: Sequence[int]) -> list[int | None]:
        """Return who wore the collar of each fix."""
        of, said, collars, simple = self.of, self.said, self.collars, self._simple
        found: list[int | None] = []
        for place, ms in zip(places, raw_ms, strict=True):
            from_ms, animal_pk = simple[of[place]]
            found.append(animal_pk if ms >= from_ms else collars[of[place]].animal_pk(ms, said[place]))
        return found


def _simple(collar: CollarFacts) -> tuple[float, int | None]:
    """Return from when on a time of the collar is as the device says and always the same animal's, and whose."""
    if len(collar.wearings) == 1 and collar.stands_for_animal_pk is None and collar.wearings[0].ended_ms is None:
        return collar.wearings[0].started_ms, collar.wearings[0].animal_pk
    return math.inf, None


def _lane(places: list[int], columns: Columns, wearers: _Wearers, judged: Appended) -> Lane:
    of, collars = wearers.of, wearers.collars
    is_all = len(places) == len(of)

    def picked(values: Sequence[Any]) -> Sequence[Any]:
        return values if is_all else [values[place] for place in places]

    numbers = picked(of)
    raw_ms = list(picked(columns["raw_ms"]))
    names = [collars[number].id for number in numbers]
    collar_pks = [collars[number].pk for number in numbers]
    kept: dict[str, Sequence[Any]] = {
        "collar_pk": collar_pks,
        "animal_pk": wearers.animal_pks(places, raw_ms),
        "recorded_ms": raw_ms,
        "flags": picked(judged.flags),
        "said_animal_pk": picked(wearers.said),
    }
    kept |= {name: picked(values) for name, values in columns.items() if name not in _NAMES}
    kept = {name: values for name, values in kept.items() if values.count(None) < len(values)}
    return Lane(
        places=places, keys=(names, raw_ms, picked(columns["lon_e7"]), picked(columns["lat_e7"])),
        collar_pks=collar_pks, raw_ms=raw_ms, columns=kept,
        collars={collar.pk: collar for collar, is_in in zip(collars, judged.is_appended, strict=True) if is_in},
        ends={collars[n].pk: judged.ends[n] for n, is_in in enumerate(judged.is_appended) if is_in},
    )  # fmt: skip


def _texts(columns: Mapping[str, Sequence[Any]]) -> list[Sequence[str]]:
    """Return the text of every value, column by column."""
    made: dict[int, Sequence[str]] = {}  # of columns that are one and the same
    for name, values in columns.items():
        if id(values) not in made:
            made[id(values)] = _as_text(name, values)
    return [made[id(values)] for values in columns.values()]


def _as_text(name: str, values: Sequence[Any]) -> Sequence[str]:
    first = values[0]
    if values.count(first) == len(values):
        return [_text_of(name, first)] * len(values)
    if name in _TEXT:
        if None not in values and not _NEEDS_ESCAPES("".join(values)):
            return values
        forms = {value: _text_of(name, value) for value in set(values)}
        return [forms[value] for value in values]
    if None in values:
        return [_NULL if value is None else str(value) for value in values]
    return list(map(str, values))


def _text_of(name: str, value: Any) -> str:
    if value is None:
        return _NULL
    return value.translate(_ESCAPES) if name in _TEXT else str(value)
