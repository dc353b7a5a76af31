"""What happens to stations, their cloud and the way between them, drawn from a seed: the same story for every world.

A *script* is a list of steps. ``tests.property.world_in_memory`` plays it over the pure state machines, hundreds of
seeds in seconds; ``tests.faults.homes_on_disk`` plays the same one over SpatiaLite, PostgreSQL and HTTP, through a
proxy.
What a step refers to by ``which`` is a share of what there is by then, because the worlds need not have the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, TypeAlias

import msgspec

from shared.sync.operations import Operation
from shared.sync.records import EntityName

START_MS: Final = 1_780_315_200_000
STATIONS: Final = 3
ANIMALS: Final = tuple(f"animal-{number}" for number in range(5))
ZONES: Final = ("zone-1", "zone-2")
COLLARS: Final = ("K1", "K2", "K3", "K4")
AREA: Final = '{"type":"Polygon","coordinates":[[[37.0,-2.0],[38.0,-2.0],[38.0,-3.0],[37.0,-2.0]]]}'
#: What nobody can do, whoever is asked: it is set aside alone. The last one is what a later program may say.
POISONS: Final[tuple[dict[str, Any], ...]] = (
    {"species": "elephant"},
    {"name": "P", "species": "elephant", "status": "asleep"},
    {"name": "P\0", "species": "elephant"},
    {"name": "P", "species": "elephant", "ear_tag": 7},
)

#: What becomes of a request and its answer. ``late``: it comes when nobody waits for it any more; ``repeated``: again,
#: later; ``half open``: no answer and no end of the connection; ``throttled``: a few bytes at a time.
Fate: TypeAlias = Literal[
    "through", "request lost", "answer lost", "damaged", "late", "repeated", "half open", "throttled"
]
_BAD: Final[tuple[Fate, ...]] = (
    "request lost",
    "answer lost",
    "answer lost",
    "damaged",
    "late",
    "repeated",
    "half open",
)


class Fixes(msgspec.Struct, frozen=True):
    """Fixes ``first`` to before ``end`` of a collar: whoever hears the same ones has the same ones."""

    collar: str
    first: int
    end: int


class Make(msgspec.Struct, frozen=True):
    """At a station a person edits, collars are heard, and something is written that the cloud cannot take."""

    place: int
    edits: tuple[Operation, ...] = ()
    fixes: tuple[Fixes, ...] = ()
    poison: tuple[Operation, ...] = ()


class Rule(msgspec.Struct, frozen=True):
    """A person edits in the cloud."""

    edit: Operation


class Talk(msgspec.Struct, frozen=True):
    """A station holds a session; ``loss`` is the share of its requests to which something happens."""

    place: int
    seed: int
    loss: float

    def fates(self) -> Iterator[Fate]:
        """Yield what becomes of each request of the session, in turn."""
        rng = random.Random(self.seed)
        while True:
            yield rng.choice(_BAD) if rng.random() < self.loss else "throttled" if rng.random() < 0.02 else "through"


class Late(msgspec.Struct, frozen=True):
    """A request arrives that nobody waits for any more."""

    which: float


class Copy(msgspec.Struct, frozen=True):
    """A copy of a station's card is made."""

    place: int


class PutBack(msgspec.Struct, frozen=True):
    """A station is as one of its copies was."""

    which: float


class Clone(msgspec.Struct, frozen=True):
    """A copy of a card runs beside the station that it is of."""

    which: float


class Backup(msgspec.Struct, frozen=True):
    """A backup of the cloud is made."""


class Restore(msgspec.Struct, frozen=True):
    """The cloud is as one of its backups was, and begins a new life."""

    which: float


class Limit(msgspec.Struct, frozen=True):
    """What a station is told of becomes other: these animals and what it makes itself, or everything (None)."""

    place: int
    animals: tuple[str, ...] | None


class Ahead(msgspec.Struct, frozen=True):
    """A station gets, or gives back, a program that writes a version of batches that the cloud cannot read yet."""

    place: int


Step: TypeAlias = Make | Rule | Talk | Late | Copy | PutBack | Clone | Backup | Restore | Ahead | Limit
Script: TypeAlias = list[Step]


class Author:
    """Draws edits; each has an id and an instant of its own."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._made_ms = START_MS

    def operation(self, entity: EntityName, row_id: str, kind: Any, columns: dict[str, Any]) -> Operation:
        """Return an operation of a person at the home where it is done."""
        self._made_ms += 1_000
        identity = f"op-{self._rng.getrandbits(64):016x}"
        return Operation(
            id=identity, entity=entity, row_id=row_id, kind=kind, made_ms=self._made_ms, columns=columns, author="ann"
        )

    def edit(self) -> Operation:
        """Return an edit of something that others edit too, or something new of one's own."""
        rng = self._rng
        chance = rng.random()
        if chance < 0.15:
            animal_id = rng.choice(ANIMALS)
            said: dict[str, Any] = {"name": f"N{rng.randrange(9)}", "species": rng.choice(("elephant", "lion"))}
            return self.operation("animal", animal_id, "insert", said)
        if chance < 0.6:
            said = {
                "name": f"N{rng.randrange(99)}", "notes": f"n{rng.randrange(99)}",
                "weight": float(rng.randrange(1, 99)), "status": rng.choice(("active", "missing", "deceased")),
            }  # fmt: skip
            columns = {name: said[name] for name in rng.sample(sorted(said), rng.choice((1, 1, 2)))}
            return self.operation("animal", rng.choice(ANIMALS), "update", columns)
        if chance < 0.66:
            return self.operation("animal", rng.choice(ANIMALS), "delete", {})
        if chance < 0.72:
            begun = {"name": "Z", "zone_type": "road", "geometry": AREA}
            zone_id = rng.choice((*ZONES, f"zone-{rng.getrandbits(48):012x}"))
            return self.operation("zone", zone_id, "insert", begun)
        if chance < 0.8:
            return self.operation("zone", rng.choice(ZONES), "update", {"buffer_m": float(rng.randrange(99))})
        if chance < 0.9:
            said = {"animal_id": rng.choice(ANIMALS), "description": f"d{rng.randrange(99)}"}
            return self.operation("observation", f"seen-{rng.getrandbits(48):012x}", "insert", said)
        said = {"alert_type": "low_battery", "title": f"A{rng.randrange(99)}", "animal_id": rng.choice(ANIMALS)}
        return self.operation("alert", f"alert-{rng.getrandbits(48):012x}", "insert", said)

    def poison(self) -> Operation:
        """Return what no cloud can do, as a station would bring it."""
        made = self.operation("animal", f"poison-{self._rng.getrandbits(48):012x}", "insert", self._rng.choice(POISONS))
        return msgspec.structs.replace(made, base_rev=0)


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How long a story is: steps, and how many fixes of one collar are heard at once, at most."""

    steps: int
    fixes_at_once: int
    loss: float = 0.3


def anything(seed: int, effort: Effort) -> Script:
    """Return a script in which everything happens, in any order."""
    rng = random.Random(seed)
    author = Author(rng)
    heard = dict.fromkeys(COLLARS, 0)
    script: Script = [Make(0, edits=tuple(_begun(author)))]
    ahead: set[int] = set()
    for _ in range(effort.steps):
        place, chance = rng.randrange(STATIONS + 2), rng.random()
        if chance < 0.34:
            collar = rng.choice(COLLARS)
            count = rng.randint(1, effort.fixes_at_once)
            first = max(heard[collar] - rng.choice((0, 0, count // 2)), 0)  # some that another post has heard too
            heard[collar] = max(heard[collar], first + count)
            poison = (author.poison(),) if rng.random() < 0.08 else ()
            edits = tuple(author.edit() for _ in range(rng.choice((0, 1, 1, 2, 3))))
            script.append(Make(place, edits, (Fixes(collar, first, first + count),), poison))
        elif chance < 0.76:
            script.append(Talk(place, rng.getrandbits(32), effort.loss))
        elif chance < 0.80:
            script.append(Rule(author.edit()))
        elif chance < 0.87:
            script.append(Late(rng.random()))
        elif chance < 0.92:
            script.append(Copy(place))
        elif chance < 0.94:
            script.append(PutBack(rng.random()))
        elif chance < 0.95:
            script.append(Clone(rng.random()))
        elif chance < 0.975:
            script.append(Backup())
        elif chance < 0.985:
            script.append(Restore(rng.random()))
        else:
            script.append(Ahead(place))
            ahead ^= {place}
    return [*script, *(Ahead(place) for place in sorted(ahead))]


def two_histories(seed: int, effort: Effort) -> Script:
    """Return the story that ``prev_hash`` is for.

    A card is cloned and the cloud put back; the clone writes the numbers that the cloud forgot, and the first station
    sends again the batch that follows them, before it hears of anything. All that tells the cloud is that this batch
    stands on another history.
    """
    rng = random.Random(seed)
    author = Author(rng)

    def alarmed(place: int, loss: float = 0.0) -> list[Step]:
        columns = {"alert_type": "low_battery", "title": "A", "animal_id": ANIMALS[0]}
        alert = author.operation("alert", f"alert-{rng.getrandbits(48):012x}", "insert", columns)
        return [Make(place, (alert,)), Talk(place, rng.getrandbits(32), loss)]

    rounds = rng.randint(1, 3)
    fixes = (Fixes(COLLARS[0], 0, effort.fixes_at_once),)
    script: Script = [Make(0, (*_begun(author), author.edit()), fixes), *alarmed(0), Backup(), Copy(0), Clone(0.0)]
    for _ in range(rounds):
        script += alarmed(0)
    script += [*alarmed(0, 1.0), Restore(0.0)]
    for _ in range(rounds):
        script += alarmed(STATIONS)
    return [*script, Talk(0, rng.getrandbits(32), 0.0)]


def forgetful(seed: int, effort: Effort) -> Script:
    """Return a story of cards put back to just before they talked: what they send again was ruled on long ago."""
    rng = random.Random(seed)
    author = Author(rng)
    script: Script = [Make(0, edits=tuple(_begun(author)))]
    script += [Talk(place, rng.getrandbits(32), 0.0) for place in range(STATIONS)]
    for turn in range(max(effort.steps // 20, 2)):
        first, second = rng.sample(range(STATIONS), 2)
        fixes = (Fixes(COLLARS[first], turn * effort.fixes_at_once, (turn + 1) * effort.fixes_at_once),)
        script += [Make(second, tuple(author.edit() for _ in range(3))), Talk(second, rng.getrandbits(32), 0.0)]
        script += [Make(first, tuple(author.edit() for _ in range(4)), fixes), Copy(first)]
        script += [
            Talk(first, rng.getrandbits(32), effort.loss / 3),
            PutBack(0.9999),
            Talk(first, rng.getrandbits(32), 0.0),
        ]
    return script


def month_away(seed: int, effort: Effort) -> Script:
    """Return a story of long silences: every station edits what the others edit, and then all talk."""
    rng = random.Random(seed)
    author = Author(rng)
    script: Script = [Make(0, edits=tuple(_begun(author)))]
    script += [Talk(place, rng.getrandbits(32), 0.0) for place in range(STATIONS)]
    for turn in range(max(effort.steps // 40, 2)):
        for place in range(STATIONS):
            for part in range(4):
                first = (turn * 4 + part) * effort.fixes_at_once
                fixes = (Fixes(COLLARS[(place + part) % 4], first, first + effort.fixes_at_once),)
                script.append(Make(place, tuple(author.edit() for _ in range(2)), fixes))
        script += [Rule(author.edit()), Rule(author.edit())]
        for _ in range(3 * STATIONS):
            script.append(Talk(rng.randrange(STATIONS), rng.getrandbits(32), effort.loss * 1.5))
    return script


def duties(seed: int, effort: Effort) -> Script:
    """Return a story of stations that are told of some animals, then of others, while all edit what they know."""
    rng = random.Random(seed)
    author = Author(rng)
    script: Script = [Make(0, edits=tuple(_begun(author)))]
    script += [Talk(place, rng.getrandbits(32), 0.0) for place in range(STATIONS)]
    for turn in range(max(effort.steps, 20)):
        place, chance = rng.randrange(STATIONS), rng.random()
        if chance < 0.35:
            fixes = (Fixes(COLLARS[place], turn * effort.fixes_at_once, (turn + 1) * effort.fixes_at_once),)
            script.append(Make(place, tuple(author.edit() for _ in range(rng.choice((1, 2, 3)))), fixes))
        elif chance < 0.75:
            script.append(Talk(place, rng.getrandbits(32), effort.loss))
        elif chance < 0.85:
            script.append(Rule(author.edit()))
        elif chance < 0.95:
            some = tuple(rng.sample(ANIMALS, rng.randrange(len(ANIMALS))))
            script.append(Limit(place, rng.choice((some, some, some, None))))
        else:
            script.append(rng.choice((Copy(place), PutBack(rng.random()), Backup(), Restore(rng.random()))))
    return script


def _begun(author: Author) -> Iterator[Operation]:
    for number, animal_id in enumerate(ANIMALS):
        yield author.operation("animal", animal_id, "insert", {"name": f"A{number}", "species": "elephant"})
    yield author.operation("zone", ZONES[0], "insert", {"name": "Z", "zone_type": "road", "geometry": AREA})


Schedule: TypeAlias = Callable[[int, Effort], Script]
SCHEDULES: Final[tuple[Schedule, ...]] = (anything, two_histories, forgetful, month_away, duties)
