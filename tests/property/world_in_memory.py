"""A world of homes in memory: scripts are played in it over a network that loses, repeats and delays, and it heals."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from msgspec.structs import replace

from shared.sync.operations import Rows
from shared.sync.streams import Receipt, StreamAnswer
from shared.wire.link import DOWN
from tests.property.homes_in_memory import AHEAD, LIFE, VERSION, Cloud, Key, Lost, Request, Rules, Seen, Station, packed
from tests.schedules import (
    STATIONS,
    Ahead,
    Backup,
    Clone,
    Copy,
    Fate,
    Late,
    Limit,
    Make,
    PutBack,
    Restore,
    Rule,
    Script,
    Step,
    Talk,
)

_HEALING_ROUNDS: Final = 40
#: A session that has not come to its end by then goes round in a ring.
_MAX_REQUESTS: Final = 4_000


class World:
    """Stations, a cloud, and a network that cannot be trusted."""

    def __init__(self, seed: int, rules: Rules) -> None:
        self.rng = random.Random(seed)
        self.rules = rules
        self.knew: Seen = {}
        self.cloud = Cloud(rules, self.knew)
        self.stations = [Station(f"s{number}", rules, self.rng, self.knew) for number in range(STATIONS)]
        self.made: set[str] = set()
        self.poison: set[str] = set()
        #: written after the copy that a station or the cloud was put back to, and nowhere else: gone with the hardware
        self.gone: set[str] = set()
        self.events: Counter[str] = Counter()
        self._late: list[Request] = []
        self._copies: list[tuple[int, Station]] = []
        self._backups: list[Cloud] = []
        self._clones = 0

    def play(self, script: Script) -> None:
        """Let all of ``script`` happen, and then have everybody talk until nothing waits."""
        for step in script:
            self.happen(step)
        self.heal()

    def happen(self, step: Step) -> None:
        """Let one step happen; what it needs and is not there lets it pass."""
        match step:
            case Make(place, edits, fixes, poison):
                self._make(self.stations[place % len(self.stations)], edits, fixes, poison)
            case Rule(edit):
                self.cloud.rule(edit)
            case Talk(place):
                self._talk(self.stations[place % len(self.stations)], step.fates())
            case Late(which):
                if self._late:
                    self.events["late request"] += 1
                    self.cloud.put(self._late.pop(int(which * len(self._late))))
            case Copy(place):
                place %= len(self.stations)
                self._copies.append((place, self.stations[place].copy()))
            case PutBack(which):
                if self._copies:
                    self._put_back(*self._copies[int(which * len(self._copies))])
            case Clone(which):
                if self._copies and self._clones < 2:
                    self.events["card cloned"] += 1
                    self._clones += 1
                    self.stations.append(self._copies[int(which * len(self._copies))][1].copy())
            case Backup():
                self._backups.append(self.cloud.copy())
            case Restore(which):
                if self._backups:  # those of a past that is given up go with it
                    self._backups = self._backups[: int(which * len(self._backups)) + 1]
                    self._restore(self._backups[-1])
            case Limit(place, animals):
                self.events["another scope"] += 1
                self.cloud.limit(self.stations[place % STATIONS].name, animals)
            case Ahead(place):
                station = self.stations[place % len(self.stations)]
                station.version = AHEAD if station.version == VERSION else VERSION
                self.events["program ahead"] += 1

    def heal(self) -> None:
        """The network is whole: late things arrive, then everybody talks until nothing waits."""
        for request in self._late:
            self.cloud.put(request)
        for station in self.stations:
            station.version = VERSION
        for _ in range(_HEALING_ROUNDS):
            for station in self.stations:
                self._talk(station, _always_through())
            if all(station.is_done for station in self.stations):
                break
        for _ in range(2):  # the last one's news down to all
            for station in self.stations:
                self._talk(station, _always_through())

    def faults(self) -> list[str]:
        """Return what is wrong at the end; nothing is right."""
        cloud = self.cloud
        there = set(cloud.taken) | set(cloud.outcomes) | cloud.kept()
        found = []
        if not all(station.is_done for station in self.stations):
            found.append("stuck")
        if self.made - self.gone - there:
            found.append("lost")
        if set().union(*(station.ever for station in self.stations)) - there:
            found.append("acknowledged in vain")
        if any(times != 1 for times in cloud.taken.values()):
            found.append("twice")
        if self.poison & set(cloud.taken):
            found.append("poison taken")
        if cloud.overwritten:
            found.append("overwritten unseen")
        if any(station.untimely for station in self.stations):
            found.append("an edit taken away before its ruling")
        for station in self.stations:
            wanted = {key: row for key, row in state_of(cloud.rows).items() if cloud.has(station.name, key)}
            here = state_of(station.rows)
            if {key: row for key, row in here.items() if key in wanted or key not in cloud.refused_keys()} != wanted:
                found.append("diverged")
        return found

    def _make(self, station: Station, edits: Any, fixes: Any, poison: Any) -> None:
        for edit in edits:
            self.made.update(station.edit(edit))
        for heard in fixes:
            self.made.update(station.post((heard.collar, number)) for number in range(heard.first, heard.end))
        for each in poison:
            self.events["poison"] += 1
            self.poison.add(station.post(each))
        self.made |= self.poison

    def _talk(self, station: Station, fates: Iterator[Fate]) -> None:
        left = iter(range(_MAX_REQUESTS))

        def reach() -> None:
            assert next(left, None) is not None, "a session goes round in a ring"
            if next(fates) not in ("through", "throttled"):
                raise Lost

        def ask(request: Request) -> Receipt | StreamAnswer | None:
            assert next(left, None) is not None, "a session goes round in a ring"
            fate = next(fates)
            if fate not in ("through", "throttled"):
                self.events[fate] += 1
            if fate == "request lost":
                raise Lost
            if fate in ("late", "repeated"):
                self._late.append(request)
            if fate == "late":
                raise Lost
            if fate == "damaged":
                payload = packed("fixes", [("K9", self.rng.getrandbits(30))], VERSION)
                request = replace(request, batch=replace(request.batch, payload=payload))
            said = self.cloud.put(request)
            if fate in ("answer lost", "half open"):
                raise Lost
            if said is None:
                raise Lost
            return said

        try:
            station.talk(self.cloud, ask, reach)
        except Lost:
            return

    def _put_back(self, place: int, old: Station) -> None:
        """The station loses its newest data: a power cut, a restored backup."""
        self.events["station put back"] += 1
        before = self._owned()
        self.stations[place] = old.copy()
        self.gone |= before - self._owned() - set(self.cloud.taken) - set(self.cloud.outcomes)

    def _restore(self, old: Cloud) -> None:
        self.events["cloud restored"] += 1
        had = set(self.cloud.taken) | set(self.cloud.outcomes) | self.cloud.kept()
        epoch = self.cloud.epoch + 1
        self.cloud = old.copy()
        has = set(self.cloud.taken) | set(self.cloud.outcomes) | self.cloud.kept()
        self.cloud.epoch = epoch if self.rules.restored_cloud_has_new_epoch else old.epoch
        self.cloud.rows.first_rev = epoch * LIFE if self.rules.tells_lives_apart_by_revision else 0
        self.gone |= had - has - self._owned()

    def _owned(self) -> set[str]:
        return set().union(*(station.ever for station in self.stations))


def state_of(rows: Rows) -> dict[Key, Any]:
    """Return what a home shows of the records that every home has."""
    return {
        (record.entity, record.id): dict(record.columns)
        for record in rows.values()
        if record.entity in DOWN and not record.is_deleted
    }


def _always_through() -> Iterator[Fate]:
    while True:
        yield "through"
