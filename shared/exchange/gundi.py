"""Gundi v2: ``POST /v2/observations`` with a list; Gundi passes on to EarthRanger, SMART, Movebank and others.

Gundi forgets after an hour what it has been sent, and knows a repeat only by the bytes of its JSON.
"""

from __future__ import annotations

from typing import Final

from shared.exchange.earthranger import subtype
from shared.exchange.rows import TrackFix
from shared.exchange.sites import Request, Site, more, place, second, text

_ADDITIONAL: Final = (
    "speed_mps", "heading_deg", "pdop", "sats", "h_acc_m", "seq", "battery_mv", "battery_pct", "temperature_c",
)  # fmt: skip


def site(url: str, token: str) -> Site:
    """Return the Gundi at ``url``; ``token`` is the API key of the connection that stands for this station."""
    headers = {"apikey": token, "Content-Type": "application/json"}
    there = f"{url.rstrip('/')}/v2/observations"
    return Site("gundi", observation, Request(there, headers), Request(there, headers, body=b"[]"))


def observation(fix: TrackFix) -> str:
    """Return a fix as Gundi takes it; a dilution there is a whole number, so ours is among what is additional."""
    location = {**place(fix), **({} if fix.alt_m is None else {"alt": more(fix, ["alt_m"])["alt_m"]})}
    return text(
        {
            "source": fix.collar_id,
            "source_name": fix.individual,
            "type": "tracking-device",
            "subject_type": subtype(fix.species),
            "recorded_at": second(fix),
            "location": location,
            "additional": more(fix, ("hdop", *_ADDITIONAL)),
        }
    )
