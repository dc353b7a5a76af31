"""Who may see what, decided in one place.

Every read of a Store takes a ``View``, so a read that forgot to ask does not type-check. A view is exact, exact for the
collars of some stations, or reduced. Reduced means generalised, never randomised: a position becomes the centre of its
cell of a grid, and is there only once it is old enough; cell and delay follow from the species' category:

========  ======================================  ===========  =========
category  species                                 cell         delay
========  ======================================  ===========  =========
1         rhino, pangolin; whose wearer nobody    area's name  7 days
          knows
2         elephant, lion, leopard, cheetah, wild  0.1 degree   72 hours
          dog; any species that is not listed
3         buffalo, giraffe                        0.01 degree  24 hours
4         wildebeest, zebra, common ungulates     0.01 degree  1 hour
========  ======================================  ===========  =========

In the first category no position is shown at all, but the name of the protected area around it: the largest that is
drawn, and none that is smaller than a cell of the second category.

Age is counted from the collar's time and from the time at which a sure clock received it, whichever is later, and on
this home's clock; on an unsure clock a reduced view has no position at all. The stores select from the reduced rows
(``shared.sync.reduced``), so filters, order, counts and pages act on what may be seen and on nothing else.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec

from shared.errors import ConfigError, Forbidden

Role = Literal["admin", "conservation_manager", "ranger", "viewer"]
Category = Literal[1, 2, 3, 4]

_HOUR_MS: Final = 3_600_000
#: Whose species nobody knows may be the most sensitive one.
UNKNOWN_WEARER: Final[Category] = 1
#: A species that is not listed.
UNLISTED: Final[Category] = 2


class Tier(msgspec.Struct, frozen=True):
    """What a reduced view shows of a category: the cell's side in 1e-7 degree (None: an area's name) and the delay."""

    cell_e7: int | None
    delay_ms: int

    def generalised(self, lon_deg: float, lat_deg: float) -> tuple[float, float] | None:
        """Return the middle of the cell that a place lies in; None where no place is shown."""
        if self.cell_e7 is None:
            return None
        lon_e7, lat_e7 = (
            (round(degrees * 1e7) + shift) // self.cell_e7 * self.cell_e7 - shift + self.cell_e7 // 2
            for degrees, shift in ((lon_deg, 1_800_000_000), (lat_deg, 900_000_000))
        )
        return lon_e7 / 1e7, lat_e7 / 1e7


TIERS: Final[Mapping[Category, Tier]] = {
    1: Tier(None, 7 * 24 * _HOUR_MS),
    2: Tier(1_000_000, 72 * _HOUR_MS),
    3: Tier(100_000, 24 * _HOUR_MS),
    4: Tier(100_000, _HOUR_MS),
}

#: An area has a name for a reduced view where it has so many square degrees: those of a cell of the second category.
NAMED_DEG2: Final = (1_000_000 / 1e7) ** 2


class Species:
    """The categories of species, as ``species.toml`` lists them."""

    def __init__(self, listed: Mapping[str, Any], where: str) -> None:
        self._names: dict[str, Category] = {}
        self._words: dict[str, Category] = {}
        known: Mapping[str, Category] = {"1": 1, "2": 2, "3": 3, "4": 4}
        for number, entry in dict(listed.get("categories", {})).items():
            category = known.get(number)
            if category is None:
                raise ConfigError(f"{where}: categories are 1, 2, 3 and 4, not {number}")
            for kind, into in (("names", self._names), ("words", self._words)):
                for name in entry.get(kind, ()):
                    if not isinstance(name, str):
                        raise ConfigError(f"{where}: categories.{number}.{kind}: must be a list of names")
                    into[_plain(name)] = category
        if not self._names and not self._words:
            raise ConfigError(f"{where}: lists no species under [categories.1] to [categories.4]")

    def category(self, species: str | None) -> Category:
        """Return the category of a species; what is not listed has the second, nobody's the first."""
        if species is None:
            return UNKNOWN_WEARER
        plain = _plain(species)
        by_word = [self._words[word] for word in plain.replace("-", " ").split() if word in self._words]
        return min(by_word) if by_word else self._names.get(plain, UNLISTED)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("\u2019", "'").split())


@functools.cache
def species_listed(path: Path | None = None) -> Species:
    """Read the categories of species from ``path``, or those that come with the program; raises ConfigError."""
    where = "species.toml" if path is None else str(path)
    try:
        text = (resources.files("shared") / "species.toml" if path is None else path).read_text(encoding="utf-8")
        return Species(tomllib.loads(text), where)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{where}: {error}") from error


class Veil(Protocol):
    """A one-to-one map of 16 bytes that only the home can compute (``shared.accounts.sealing.IdVeil``)."""

    def veiled(self, raw: bytes) -> bytes:
        """Return the other face of an id."""
        ...

    def unveiled(self, veiled: bytes) -> bytes:
        """Return the id behind a face."""
        ...


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. ``stations`` are those whose data may be seen exactly; None: all that this home has."""

    user_id: str
    role: Role
    stations: tuple[str, ...] | None = None


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a principal may see; made by ``view_for`` alone.

    ``stations``: None, all exactly; else exactly what these stations brought, and the rest reduced. ``now_ms`` is None
    where the clock is not sure. ``veil`` hides what ids tell of places.
    """

    principal: Principal
    stations: tuple[str, ...] | None = None
    now_ms: int | None = None
    species: Species | None = None
    veil: Veil | None = None

    @property
    def is_exact(self) -> bool:
        """Say whether nothing is reduced."""
        return self.stations is None


#: The operator at the home's own keyboard, who holds its key and could read the file itself.
OPERATOR = Principal(user_id="operator", role="admin")


def view_for(
    principal: Principal, *, now_ms: int | None = None, species: Species | None = None, veil: Veil | None = None
) -> View:
    """Return what ``principal`` may see; raises Forbidden where a reduced view has no ``veil`` for the ids of places.

    ``now_ms`` is the time of a sure clock, None on any other.
    """
    if principal.role == "viewer":
        stations: tuple[str, ...] | None = ()
    else:
        stations = principal.stations
    if stations is None:
        return View(principal=principal)
    if veil is None:
        raise Forbidden("positions with reduced precision are for homes with accounts")
    return View(
        principal=principal,
        stations=stations,
        now_ms=now_ms,
        species=species_listed() if species is None else species,
        veil=veil,
    )


def cell_shown_deg(view: View, species: str, lon_deg: float | None, lat_deg: float | None) -> float | None:
    """Return the side of the cell whose centre is shown in the place of a position; None where it is the position.

    A view of some stations has both kinds of rows; a centre is told by its digits.
    """
    if view.is_exact or view.species is None or lon_deg is None or lat_deg is None:
        return None
    cell_e7 = TIERS[view.species.category(species)].cell_e7
    if cell_e7 is None:
        return None
    is_centre = all(
        (round(degrees * 1e7) + half_turn) % cell_e7 == cell_e7 // 2
        for degrees, half_turn in ((lon_deg, 1_800_000_000), (lat_deg, 900_000_000))
    )
    return cell_e7 / 1e7 if is_centre else None


class Leaving(msgspec.Struct, frozen=True):
    """How a fix leaves for another system: where it is shown, ``None`` nowhere, and from when on."""

    lon_e7: int | None
    lat_e7: int | None
    from_ms: int | None


def leaving(species: Species, wearer: str, at: tuple[int, int], recorded_ms: int, received_ms: int | None) -> Leaving:
    """Return how a reduced view shows a fix ``at`` longitude and latitude in 1e-7 degree, as the stores' SQL does.

    ``received_ms`` is when a sure clock first had it, None where none did: then it is not old enough at any time.
    """
    tier = TIERS[species.category(wearer)]
    shown = tier.generalised(at[0] / 1e7, at[1] / 1e7)
    from_ms = None if received_ms is None else max(recorded_ms, received_ms) + tier.delay_ms
    if shown is None:
        return Leaving(None, None, from_ms)
    return Leaving(round(shown[0] * 1e7), round(shown[1] * 1e7), from_ms)


def seen_alike(view: View) -> tuple[str, tuple[str, ...] | None]:
    """Return a key that two views share only if every answer to both is the same."""
    return ("exact" if view.is_exact else view.principal.role, view.stations)
