"""Kinds of animals: what an elephant, a lion and a zebra have in common with their kin where rules are concerned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Category = Literal["elephant", "rhino", "buffalo", "predator", "ungulate", "other"]

#: By genus and by the last word of a common name, in lower case.
_CATEGORY_OF: Final[Mapping[str, Category]] = {
    "loxodonta": "elephant", "elephas": "elephant", "elephant": "elephant",
    "ceratotherium": "rhino", "diceros": "rhino", "rhinoceros": "rhino", "rhino": "rhino",
    "syncerus": "buffalo", "buffalo": "buffalo",
    "panthera": "predator", "acinonyx": "predator", "lycaon": "predator", "crocuta": "predator", "hyaena": "predator",
    "puma": "predator", "canis": "predator", "lion": "predator", "leopard": "predator", "cheetah": "predator",
    "dog": "predator", "hyena": "predator", "wolf": "predator", "cougar": "predator", "coyote": "predator",
    "connochaetes": "ungulate", "wildebeest": "ungulate", "gnu": "ungulate", "equus": "ungulate", "zebra": "ungulate",
    "giraffa": "ungulate", "giraffe": "ungulate", "antelope": "ungulate", "cervus": "ungulate", "deer": "ungulate",
    "elk": "ungulate", "impala": "ungulate", "eland": "ungulate", "kudu": "ungulate", "tragelaphus": "ungulate",
}  # fmt: skip


def category_of(species: str | None) -> Category:
    """Return the kind of a species, by its common or scientific name in any case."""
    words = (species or "").lower().replace("_", " ").replace("-", " ").split()
    for word in (words[0], words[-1], words[-1].removesuffix("s")) if words else ():
        if word in _CATEGORY_OF:
            return _CATEGORY_OF[word]
    return "other"


def is_meant(named: str | None, species: str) -> bool:
    """Say whether what is meant for ``named`` is meant for ``species``: for everyone, for it, or for its kind."""
    if not named or named.strip().lower() == species.strip().lower():
        return True
    kind = category_of(species)
    return kind != "other" and category_of(named) == kind
