"""Models that were brought to a home and what was chosen of them, as jobs over the home's own database.

A choice is a row that is never changed: number, where it holds, model file, version, who. The last one of a place and a
file counts; one that takes another back names how far back it goes, so that going back twice goes two choices back.
"""

from __future__ import annotations

from typing import Final

import msgspec

from shared.accounts.users import Job
from shared.errors import Conflict
from shared.shelf import EVERYWHERE, NONE_CHOSEN

#: Model files that no station runs.
OF_THE_CLOUD: Final = frozenset({("corridor", "budget"), ("corridor", "ppo_float"), ("corridor", "dqn_float")})
#: Who a station's choices are by that its cloud made.
BY_CLOUD: Final = "cloud"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A model that was brought; its file lies among the blobs under ``sha256``."""

    model: str
    name: str
    version: int
    sha256: str
    size: int
    manifest: str
    key: str
    signature: str
    brought_by: str
    created_ms: int


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One choice; ``back_to``: the number of the choice that stands again, 0 for none before all of them."""

    n: int
    station: str
    model: str
    name: str
    version: int
    back_to: int | None
    chosen_by: str
    chosen_ms: int


_KEPT: Final = ", ".join(field.name for field in msgspec.structs.fields(Kept))
_CHOICE: Final = ", ".join(field.name for field in msgspec.structs.fields(Choice))


def keep(model: Kept) -> Job[Kept]:
    """Keep a model; one that is there under its version stays. Raises Conflict where that is another file."""
    there = yield from find(model.model, model.version, model.name)
    if there is not None:
        if (there.sha256, there.manifest) != (model.sha256, model.manifest):
            raise Conflict(
                f"version: {model.model}/{model.version}/{model.name} is here with another content: take a new version"
            )
        return there
    marks = ", ".join("?" * len(msgspec.structs.fields(Kept)))
    yield f"INSERT INTO models ({_KEPT}) VALUES ({marks})", msgspec.structs.astuple(model)
    return model


def find(model: str, version: int, name: str) -> Job[Kept | None]:
    """Return a model that was brought; None where it was not."""
    rows = yield (
        f"SELECT {_KEPT} FROM models WHERE model = ? AND version = ? AND name = ?",
        (model, version, name),
    )
    return _kept(rows[0]) if rows else None


def listed() -> Job[list[Kept]]:
    """Return every model that was brought."""
    rows = yield f"SELECT {_KEPT} FROM models ORDER BY model, name, version", ()
    return [_kept(row) for row in rows]


def choices() -> Job[list[Choice]]:
    """Return every choice, in the order in which they were made."""
    rows = yield f"SELECT {_CHOICE} FROM model_choices ORDER BY n", ()
    return [_choice(row) for row in rows]


def head() -> Job[int]:
    """Return the number of the last choice, 0 where there is none."""
    ((n,),) = yield "SELECT coalesce(max(n), 0) FROM model_choices", ()
    return int(n)


def choose(station: str, model: str, name: str, version: int, by: str, now_ms: int) -> Job[int]:
    """Choose a version, and return the one before it."""
    before = in_force((yield from choices()), station).get((model, name))
    yield from _write(station, model, name, version, None, by, now_ms)
    return before.version if before is not None else NONE_CHOSEN


def take_back(station: str, model: str, name: str, by: str, now_ms: int) -> Job[tuple[int, int]]:
    """Take the last choice of a place back; return the versions before and after. Raises Conflict for none."""
    own = [each for each in (yield from choices()) if (each.station, each.model, each.name) == (station, model, name)]
    by_number = {each.n: each for each in own}
    current = _standing(own[-1], by_number) if own else None
    if current is None:
        raise Conflict(f"{model}/{name}: nothing was chosen of it {_said(station)}, so there is nothing to go back to")
    older = [each for each in own if each.n < current.n]
    goal = _standing(older[-1], by_number) if older else None
    version = NONE_CHOSEN if goal is None else goal.version
    yield from _write(station, model, name, version, 0 if goal is None else goal.n, by, now_ms)
    return current.version, version


def in_force(made: list[Choice], station: str) -> dict[tuple[str, str], Choice]:
    """Return the choice that counts of each model file at a station: its own, else that for everywhere."""
    found: dict[tuple[str, str], Choice] = {}
    for place in dict.fromkeys((EVERYWHERE, station)):
        for each in made:
            if each.station == place:
                found[each.model, each.name] = each
        if place == station and station != EVERYWHERE:
            # a station that went back before its first choice has what counts everywhere
            for key, each in list(found.items()):
                if each.station == station and each.version == NONE_CHOSEN:
                    everywhere = [one for one in made if one.station == EVERYWHERE and (one.model, one.name) == key]
                    found[key] = everywhere[-1] if everywhere else each
    return found


def is_standing(made: list[Choice], station: str, model: str, name: str) -> bool:
    """Say whether a choice of a place's own stands that can be taken back."""
    own = [each for each in made if (each.station, each.model, each.name) == (station, model, name)]
    return bool(own) and _standing(own[-1], {each.n: each for each in own}) is not None


def once_chosen(made: list[Choice], station: str) -> set[tuple[str, str, int]]:
    """Return every version that has ever counted at a station: what may serve where the chosen one is broken."""
    return {
        (each.model, each.name, each.version)
        for each in made
        if each.station in (EVERYWHERE, station) and each.version != NONE_CHOSEN
    }


def _write(station: str, model: str, name: str, version: int, back_to: int | None, by: str, now_ms: int) -> Job[None]:
    n = (yield from head()) + 1
    yield (
        f"INSERT INTO model_choices ({_CHOICE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (n, station, model, name, version, back_to, by, now_ms),
    )


def _standing(choice: Choice, by_number: dict[int, Choice]) -> Choice | None:
    """Return the choice that a row leaves standing."""
    return choice if choice.back_to is None else by_number.get(choice.back_to)


def _said(station: str) -> str:
    return f"at {station}" if station else "for everywhere"


def _kept(row: tuple[object, ...]) -> Kept:
    return msgspec.convert(dict(zip(_KEPT.split(", "), row, strict=True)), Kept)


def _choice(row: tuple[object, ...]) -> Choice:
    return msgspec.convert(dict(zip(_CHOICE.split(", "), row, strict=True)), Choice)
