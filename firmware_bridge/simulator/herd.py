"""A herd of simulated animals, each with a collar."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np

from firmware_bridge.simulator.collar import Collar, Habits
from firmware_bridge.simulator.movement import SPECIES, Walker
from firmware_bridge.simulator.tracks import eui_for
from firmware_bridge.simulator.transmission import Transmission

#: An invented centre in a landscape like that of Amboseli.
CENTRE_LON_DEG = 37.3
CENTRE_LAT_DEG = -2.4
_HOME_SPREAD_DEG = 0.12
#: Which animals a herd has, again and again.
MIX = ("elephant", "wildebeest", "elephant", "buffalo", "zebra", "lion", "elephant", "wildebeest", "rhino", "zebra")

PERFECT = Habits()
LIGHT = Habits(failed_fix=0.03, leaves_coverage=0.002, mean_outage_s=2 * 3_600.0, resend=0.02)
FIELD = Habits(
    failed_fix=0.12, leaves_coverage=0.01, mean_outage_s=9 * 3_600.0, reboot=0.0005, resend=0.10,
    battery_life_s=300 * 86_400.0,
)  # fmt: skip
_FULL_MV, _LOW_MV = 4_100, 3_420


class HerdMember(msgspec.Struct, frozen=True):
    """One line of a herd's manifest: what a station enters to know the animal by its collar."""

    name: str
    species: str
    device: str
    fix_interval_s: int


class Herd:
    """``animals`` collars from ``start`` on; the same arguments give the same transmissions."""

    def __init__(
        self,
        *,
        animals: int,
        seed: int,
        start: datetime,
        fix_interval_s: int = 900,
        habits: Habits = PERFECT,
        centre_lon_deg: float = CENTRE_LON_DEG,
        centre_lat_deg: float = CENTRE_LAT_DEG,
    ) -> None:
        self._fix_interval_s = fix_interval_s
        self._collars: list[Collar] = []
        start = start.replace(microsecond=0)
        for index, member in enumerate(herd_manifest(animals=animals, fix_interval_s=fix_interval_s)):
            rng = np.random.default_rng([seed, index])
            walker = Walker(
                SPECIES[member.species],
                home_lon_deg=centre_lon_deg + float(rng.uniform(-_HOME_SPREAD_DEG, _HOME_SPREAD_DEG)),
                home_lat_deg=centre_lat_deg + float(rng.uniform(-_HOME_SPREAD_DEG, _HOME_SPREAD_DEG)),
                start=start,
                rng=rng,
            )
            is_worn_out = habits is FIELD and index % 8 == 7
            self._collars.append(
                Collar(
                    eui=member.device.removeprefix("eui:"),
                    name=member.name,
                    walker=walker,
                    start=start,
                    fix_interval_s=fix_interval_s,
                    # Spread over the interval, so that they do not all send at once.
                    phase_s=index * fix_interval_s // animals,
                    habits=habits,
                    battery_mv=_LOW_MV if is_worn_out else _FULL_MV,
                    rng=rng,
                )
            )

    def transmissions(self) -> Iterator[Transmission]:
        """Yield what all collars send, in order of time and without end."""
        return heapq.merge(*(collar.transmissions() for collar in self._collars), key=lambda sent: sent.at)


def herd_manifest(*, animals: int, fix_interval_s: int = 900) -> list[HerdMember]:
    """Return the animals of a herd: names, species and radio ids do not depend on the seed."""
    counts: dict[str, int] = {}
    members = []
    for index in range(animals):
        species = MIX[index % len(MIX)]
        counts[species] = counts.get(species, 0) + 1
        name = f"{species.capitalize()} {counts[species]:02d}"
        members.append(HerdMember(name, species, f"eui:{eui_for(name)}", fix_interval_s))
    return members


def write_manifest(path: Path, members: list[HerdMember]) -> None:
    """Write the manifest as a JSON list; it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(members), indent=2) + b"\n")
    unfinished.replace(path)
