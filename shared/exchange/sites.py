"""What receivers have in common: an observation a fix as JSON text, a body that never changes, what an answer means.

EarthRanger knows an observation again by source and second, Gundi for an hour by a hash of the whole JSON; what
Movebank's feed does with a repeat is written nowhere. So an observation is written once, kept as text, and sent as that
text however often it is tried.

==============================  ====================================================================================
200, 201, 409                   there: the next batch
400, 413, 422                   something in it is refused: halves of it are tried, and one alone is set aside; where
                                one after the other is, the receiver takes nothing: the run ends, all is kept
401, 403; 404, 405, 410         the token, the address or the provider is wrong: the run ends and says so
anything else, or no answer     tried again with the same bytes, later and later, as late as the receiver asks
==============================  ====================================================================================

An answer that is none of the receiver's (no JSON, where it speaks JSON) is some guest network's login page, whatever
its status.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from shared.configuration import LOOPBACK
from shared.domain import FixFlag
from shared.errors import Invalid
from shared.exchange.rows import TrackFix, degrees, number
from shared.exchange.times import iso_text

#: EarthRanger works off what it is sent in such portions.
MOST: Final = 128
#: So many refused fixes without one in between that is taken are no bad rows, but a receiver that takes none.
MOST_REFUSED: Final = 10
#: What becomes of an answer: the observations are there; the body is refused, some of it may be at fault; whoever asks
#: may not; the address is wrong; anything else may go better later.
Verdict = Literal["done", "refused", "denied", "wrong", "later"]
_DONE: Final = frozenset({200, 201, 409})
_REFUSED: Final = frozenset({400, 413, 422})
_RACE: Final = 409


class Request(msgspec.Struct, frozen=True):
    """Where to, with which headers; a POST unless it says otherwise."""

    url: str
    headers: Mapping[str, str]
    method: str = "POST"
    body: bytes = b""


class Judged(msgspec.Struct, frozen=True):
    """What an answer means, why, and how long the receiver asks to be left alone."""

    verdict: Verdict
    why: str = ""
    wait_s: float = 0.0


def body_of(observations: Sequence[str]) -> bytes:
    """Return the body that carries ``observations``: the same texts give the same bytes."""
    return f"[{','.join(observations)}]".encode()


def is_json(body: bytes) -> bool:
    """Say whether an answer is of a receiver that speaks JSON."""
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


class Site(msgspec.Struct, frozen=True):
    """A receiver of observations: its name, how a fix is written for it, and where to.

    ``body`` makes one request of several observations, all of one ``group``. ``is_own`` says whether an answer can be
    the receiver's. ``probe`` asks whether address and token are right and brings no observation.
    """

    name: str
    observation: Callable[[TrackFix], str]
    request: Request
    probe: Request
    body: Callable[[Sequence[str]], bytes] = body_of
    group: Callable[[TrackFix], str] = lambda _: ""
    is_own: Callable[[bytes], bool] = is_json


def judged(site: Site, status: int, headers: Mapping[str, str], body: bytes) -> Judged:
    """Return what the answer of a site to a batch means."""
    verdict, wait_s = verdict_on(status), _retry_after_s(headers.get("retry-after", ""))
    if verdict == "later":
        return Judged("later", f"answer {status}", wait_s)
    if verdict in ("done", "refused") and status != _RACE and not site.is_own(body):
        return Judged("later", "an answer that is not the receiver's own", wait_s)
    return Judged(verdict, f"answer {status}")


def judged_probe(site: Site, status: int, headers: Mapping[str, str], body: bytes) -> Judged:
    """Return what the answer of a site to its probe means: one that finds fault with an empty list has let us in."""
    found = judged(site, status, headers, body)
    return Judged("done", found.why) if found.verdict == "refused" else found


def checked_url(url: str) -> str:
    """Return a receiver's address without its last slash; raises Invalid unless nobody can listen on the way there."""
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise Invalid(f"url: this is no address: {error}") from error
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or parts.username:
        raise Invalid("url: the address of a receiver is like https://reserve.example.org")
    if parts.scheme != "https" and host not in LOOPBACK:
        raise Invalid("url: only https is safe; http is for this machine alone")
    return url.strip().rstrip("/")


def _retry_after_s(said: str) -> float:
    try:
        return min(max(float(said), 0.0), 86_400.0)
    except ValueError:
        return 0.0


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
