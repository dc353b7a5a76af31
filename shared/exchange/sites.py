"""What EarthRanger and Gundi have in common: an observation a fix as JSON text, and a body that never changes.

Both know an observation again when it comes a second time, EarthRanger by source and second, Gundi for an hour by a
hash of the whole JSON. So an observation is written once, kept as text, and sent as that text however often it is
tried.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from shared.domain import FixFlag
from shared.exchange.rows import TrackFix, degrees, number
from shared.exchange.times import iso_text

#: EarthRanger works off what it is sent in such portions.
MOST: Final = 128
#: What becomes of an answer: the observations are there; the body is refused, some of it may be at fault; whoever asks
#: may not; the address is wrong; anything else may go better later.
Verdict = Literal["done", "refused", "denied", "wrong", "later"]
_DONE: Final = frozenset({200, 201, 409})
_REFUSED: Final = frozenset({400, 413, 422})


class Request(msgspec.Struct, frozen=True):
    """A POST: where to, with which headers."""

    url: str
    headers: Mapping[str, str]


class Site(msgspec.Struct, frozen=True):
    """A receiver of observations: its name, how a fix is written for it, and where to."""

    name: str
    observation: Callable[[TrackFix], str]
    request: Request


def body_of(observations: Sequence[str]) -> bytes:
    """Return the body that carries ``observations``: the same texts give the same bytes."""
    return f"[{','.join(observations)}]".encode()


def verdict_on(status: int) -> Verdict:
    """Return what an answer means. A repeat is answered with 200, a race with 409: both mean that it is there."""
    if status in _DONE:
        return "done"
    if status in _REFUSED:
        return "refused"
    if status in (401, 403):
        return "denied"
    return "wrong" if status in (404, 405, 410) else "later"


def is_sendable(fix: TrackFix) -> bool:
    """Say whether a fix has a place; (0, 0) means no place to EarthRanger, as to us."""
    return fix.is_placed and not fix.flags & FixFlag.NULL_ISLAND


def place(fix: TrackFix) -> dict[str, float]:
    """Return latitude and longitude as numbers of seven places."""
    assert fix.lon_e7 is not None and fix.lat_e7 is not None  # noqa: PT018 - one claim: it is sendable
    return {"lat": float(degrees(fix.lat_e7)), "lon": float(degrees(fix.lon_e7))}


def second(fix: TrackFix) -> str:
    """Return when the fix was recorded, as text in UTC."""
    return iso_text(fix.recorded_ms)


def more(fix: TrackFix, names: Sequence[str]) -> dict[str, float]:
    """Return what else the fix says of ``names``, as numbers; nothing for what it does not say."""
    said = {name: getattr(fix, name) for name in names}
    return {name: json.loads(number(value)) for name, value in said.items() if value is not None}


def text(observation: Mapping[str, Any]) -> str:
    """Return an observation as JSON without spaces, its keys in the order given."""
    return json.dumps(observation, ensure_ascii=False, separators=(",", ":"))
