"""EarthRanger's sensor handler: ``POST /api/v1.0/sensors/{sensor}/{provider}/status/`` with a list of observations.

What it does not know it makes: a source for ``manufacturer_id``, a subject for ``subject_name``. Its defaults are a
ranger's, so type and subtype are always said. A source's observation of one second is there once; a repeat is answered
with 200 and a race with 409, and one row that it cannot take refuses the whole list with 400.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from shared.exchange.rows import EXTRAS, TrackFix
from shared.exchange.sites import Request, Site, more, place, second, text

#: Subtypes that EarthRanger has from the start, by a word of the species' name; others are named after the species.
_SUBTYPES: Final = {
    "loxodonta": "elephant", "elephas": "elephant", "elephant": "elephant", "connochaetes": "wildebeest",
    "wildebeest": "wildebeest", "gnu": "wildebeest", "syncerus": "buffalo", "buffalo": "buffalo", "giraffa": "giraffe",
    "giraffe": "giraffe", "diceros": "rhino", "ceratotherium": "rhino", "rhino": "rhino", "acinonyx": "cheetah",
    "cheetah": "cheetah", "lycaon": "wild_dog", "zebra": "zebra", "quagga": "zebra", "leo": "lion", "lion": "lion",
    "pardus": "leopard", "leopard": "leopard",
}  # fmt: skip


def site(url: str, provider: str, token: str, *, sensor: str = "generic") -> Site:
    """Return the EarthRanger at ``url`` that knows this station as ``provider``."""
    path = f"/api/v1.0/sensors/{quote(sensor, safe='')}/{quote(provider, safe='')}/status/"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    there = url.rstrip("/") + path
    return Site("earthranger", observation, Request(there, headers), Request(there, headers, body=b"[]"))


def observation(fix: TrackFix) -> str:
    """Return a fix as EarthRanger takes it."""
    return text(
        {
            "manufacturer_id": fix.collar_id,
            "source_type": "tracking-device",
            "subject_name": fix.individual,
            "subject_type": "wildlife",
            "subject_subtype": subtype(fix.species),
            "recorded_at": second(fix),
            "location": place(fix),
            "additional": more(fix, EXTRAS),
        }
    )


def subtype(species: str) -> str:
    """Return the word by which EarthRanger draws an animal of ``species``."""
    words = "".join(letter if letter.isalnum() else " " for letter in species.lower()).split()
    return next((_SUBTYPES[word] for word in words if word in _SUBTYPES), "_".join(words) or "unassigned")
