"""Movebank's live feed: ``POST /movebank/service/external-feed``, a form with the data of one tag as a JSON file.

A feed has a name, which Movebank's people set up together with the account that may write to it; the study then takes
tags from the feed. What a fix says there is when, where and of which tag: nothing of the animal (that is the study's
own reference data), no battery, no dilution. Whether a row that comes twice is kept twice is documented nowhere, so
nothing is sent twice on purpose; after a lost answer the very same bytes go again. What else a fix says goes to
Movebank as a file, ``export --format movebank``, which a person uploads: there is no interface for that.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Final

from shared.errors import Invalid
from shared.exchange.rows import TrackFix, degrees
from shared.exchange.sites import Request, Site, body_of, second, text

#: An observation is one line, so no part of it begins with this.
_BOUNDARY: Final = "outpost-external-feed-boundary"


def site(url: str, feed: str, login: str) -> Site:
    """Return the Movebank at ``url`` and the feed of this name there; ``login`` is USER:PASSWORD. Raises Invalid."""
    if ":" not in login:
        raise Invalid("token: Movebank asks for USER:PASSWORD")
    if not feed or not feed.isprintable():
        raise Invalid("provider: the name of the feed at Movebank")
    service = f"{url.rstrip('/')}/movebank/service"
    known = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    form = {**known, "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}

    def body(observations: Sequence[str]) -> bytes:
        tag = json.loads(observations[0])["tag_id"]
        fields = {"operation": "add-data", "feed": feed, "tag": tag}
        head = "".join(
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        file = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="data"; filename="data.json"\r\n'
            "Content-Type: application/json\r\n\r\n"
        )
        return (head + file).encode() + body_of(observations) + f"\r\n--{_BOUNDARY}--\r\n".encode()

    return Site(
        "movebank", observation, Request(f"{service}/external-feed", form),
        Request(f"{service}/direct-read?service=request-token", known, method="GET"), body=body, group=_tag,
        is_own=_is_own,
    )  # fmt: skip


def observation(fix: TrackFix) -> str:
    """Return a fix as the feed takes it: places are text there."""
    assert fix.lon_e7 is not None and fix.lat_e7 is not None  # noqa: PT018 - one claim: it is sendable
    return text(
        {
            "recorded_at": second(fix),
            "tag_id": _tag(fix),
            "lon": degrees(fix.lon_e7),
            "lat": degrees(fix.lat_e7),
            "sensor_type": "GPS",
            "tag_manufacturer_name": "Outpost",
        }
    )


def _tag(fix: TrackFix) -> str:
    """Return the tag of a fix; a name that could end a line of the form does not leave as it is."""
    return "".join(letter if letter.isprintable() else "_" for letter in fix.collar_id)


def _is_own(body: bytes) -> bool:
    """Say whether an answer may be Movebank's: it answers in plain words, a login page or its terms are none."""
    return not body.lstrip().startswith(b"<") and b"License Terms" not in body
