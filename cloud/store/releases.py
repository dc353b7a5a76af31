"""Which releases of the station's program the cloud offers, and to whom: some stations first, then all of them.

What is offered is a word in the database; the files lie in a folder, each under its SHA-256. Everything here is a job
(``shared.accounts``). A release is as good as its signature, and that is the stations' to check: the cloud carries it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import msgspec

from shared.accounts import audit
from shared.accounts.facts import fact, set_fact
from shared.accounts.users import ALL_STATIONS, Job
from shared.errors import Conflict, NotFound, StoreFull
from shared.wire.releases import SUFFIX, Offer, numbers, read_header, sha256_of

_OFFERED: Final = "releases.offered"


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """A release, the stations that may take it (``*``: all), and when it was offered last."""

    offer: Offer
    stations: tuple[str, ...]
    made_at: str
    offered_ms: int


def offered() -> Job[list[Offered]]:
    """Return what is offered, the newest version first."""
    kept = yield from fact(_OFFERED)
    found = [] if kept is None else msgspec.json.decode(kept, type=list[Offered])
    return sorted(found, key=lambda each: (numbers(each.offer.version), each.offer.architecture), reverse=True)


def offer(new: Offered, actor: str) -> Job[Offered]:
    """Offer a release to more stations; raises Conflict where another file has its version."""
    known = yield from offered()
    others = []
    for each in known:
        if _name(each.offer) != _name(new.offer):
            others.append(each)
        elif each.offer.sha256 != new.offer.sha256:
            raise Conflict(f"{new.offer.version}: another file is offered as this version: withdraw it, or count up")
        else:
            new = msgspec.structs.replace(new, stations=tuple(sorted({*each.stations, *new.stations})))
    yield from _keep([*others, new])
    said = f"{new.offer.version} {new.offer.architecture} to {' '.join(new.stations)}"
    yield from audit.write([audit.Entry(new.offered_ms, actor, "release.offer", said)])
    return new


def withdraw(version: str, now_ms: int, actor: str) -> Job[list[Offered]]:
    """Offer a version to nobody any more; return what was taken back. Raises NotFound."""
    known = yield from offered()
    gone = [each for each in known if each.offer.version == version]
    if not gone:
        raise NotFound(f"release {version} is not offered")
    yield from _keep([each for each in known if each.offer.version != version])
    yield from audit.write([audit.Entry(now_ms, actor, "release.withdraw", version)])
    return gone


def offer_for(station_id: str, architecture: str) -> Job[Offer | None]:
    """Return the newest release that a station of this architecture may take."""
    for each in (yield from offered()):
        if {station_id, ALL_STATIONS} & set(each.stations) and each.offer.architecture in (architecture, "all"):
            return each.offer
    return None


def brought(file: Path, folder: Path, public_keys: tuple[str, ...]) -> tuple[Offer, str]:
    """Copy a signed release into the folder of releases; return its offer and when it was made.

    Raises Conflict or Invalid for one that is not signed by any of ``public_keys``, StoreFull without room.
    """
    with file.open("rb") as source:
        header = read_header(source, file, public_keys)
    digest = sha256_of(file)
    target = folder / f"{digest}{SUFFIX}"
    fresh = target.with_suffix(".new")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copyfile(file, fresh)
            with fresh.open("rb") as written:
                os.fsync(written.fileno())
            fresh.replace(target)
    except OSError as error:
        raise StoreFull(f"{folder}: {error.strerror}; nothing is offered") from error
    finally:
        fresh.unlink(missing_ok=True)
    found = Offer(
        version=header.version, architecture=header.architecture, sha256=digest, size_bytes=target.stat().st_size
    )
    return found, header.made_at


def _name(each: Offer) -> tuple[str, str]:
    return each.version, each.architecture


def _keep(all_of_them: list[Offered]) -> Job[None]:
    yield from set_fact(_OFFERED, msgspec.json.encode(all_of_them).decode())
