"""What a reserve says of its maps: ``rasters.toml`` names files, bands, units, missing values, seasons and categories.

::

    grid = "elevation"             # the map whose cells all others are brought to; by default the first one

    [[layer]]
    kind = "elevation"             # one of KINDS
    file = "dem.tif"               # beside rasters.toml, GeoTIFF or COG, any coordinate system
    unit = "m"                     # one of the units of the kind; converted
    band = 1
    nodata = -9999                 # only where the file does not say so itself

    [[layer]]
    kind = "ndvi"
    file = "ndvi_wet.tif"
    unit = "1"
    scale = 0.0001                 # the stored number times this is the quantity
    months = [11, 12, 1, 2, 3, 4]  # a season; another layer of the kind has the other months

    [[layer]]
    kind = "land_cover"
    file = "cover.tif"
    categories = { 1 = "forest", 2 = "grass" }
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec

from shared.errors import Invalid


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What a layer can be: its unit inside, the units that are taken with factor and offset, and what cannot be."""

    unit: str
    units: dict[str, tuple[float, float]]
    lowest: float
    highest: float


_METRES: Final = {"m": (1.0, 0.0), "km": (1_000.0, 0.0), "ft": (0.3048, 0.0)}
_PERCENT: Final = {"percent": (1.0, 0.0), "%": (1.0, 0.0), "1": (100.0, 0.0)}


def _distance() -> Kind:
    return Kind(unit="m", units=_METRES, lowest=0.0, highest=2e6)


def _share() -> Kind:
    return Kind(unit="1", units={"1": (1.0, 0.0), "percent": (0.01, 0.0), "%": (0.01, 0.0)}, lowest=0.0, highest=1.0)


LAND_COVER: Final = "land_cover"
#: What routes are planned by, beside the others; no covariate of habitat is made of them.
ROUTE_KINDS: Final[tuple[str, ...]] = ("habitat_suitability", "conflict_risk", "utilisation")
KINDS: Final = {
    "elevation": Kind(unit="m", units=_METRES, lowest=-500.0, highest=9_000.0),
    "slope": Kind(unit="degree", units={"degree": (1.0, 0.0), "radian": (57.29577951, 0.0)}, lowest=0.0, highest=90.0),
    "ndvi": Kind(unit="1", units={"1": (1.0, 0.0)}, lowest=-1.0, highest=1.0),
    "woody_cover": Kind(unit="percent", units=_PERCENT, lowest=0.0, highest=100.0),
    "biomass": Kind(unit="1", units={"1": (1.0, 0.0)}, lowest=0.0, highest=1e6),
    "temperature": Kind(unit="celsius", units={"celsius": (1.0, 0.0), "K": (1.0, -273.15)}, lowest=-80.0, highest=80.0),
    "rainfall": Kind(unit="mm", units={"mm": (1.0, 0.0), "m": (1_000.0, 0.0)}, lowest=0.0, highest=15_000.0),
    "distance_to_water": _distance(),
    "distance_to_road": _distance(),
    "distance_to_settlement": _distance(),
    "distance_to_protected_area": _distance(),
    **{kind: _share() for kind in ROUTE_KINDS},
    LAND_COVER: Kind(unit="category", units={"category": (1.0, 0.0)}, lowest=0.0, highest=65_535.0),
}

Month = Annotated[int, msgspec.Meta(ge=1, le=12)]
_EVERY_MONTH: Final = tuple(range(1, 13))


class Layer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One band of one file."""

    kind: str
    file: str
    unit: str | None = None
    band: Annotated[int, msgspec.Meta(ge=1)] = 1
    nodata: float | None = None
    scale: float = 1.0
    offset: float = 0.0
    months: tuple[Month, ...] = ()
    categories: dict[str, str] = {}

    @property
    def in_months(self) -> tuple[int, ...]:
        """The months that it stands for."""
        return self.months or _EVERY_MONTH

    @property
    def names(self) -> dict[int, str]:
        """The categories by their number in the file."""
        return {int(number): name for number, name in self.categories.items()}

    @property
    def key(self) -> tuple[str, tuple[int, ...]]:
        """What no other layer is: its kind and its months."""
        return self.kind, self.in_months

    def conversion(self) -> tuple[float, float]:
        """Return factor and offset from the stored number to the unit of the kind."""
        kind = KINDS[self.kind]
        factor, shift = kind.units[self.unit or kind.unit]
        return factor * self.scale, factor * self.offset + shift


class Rasters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of ``rasters.toml``; ``folder`` is where the files lie."""

    layer: tuple[Layer, ...]
    grid: str | None = None
    folder: Path = Path()

    @property
    def first(self) -> Layer:
        """The layer whose cells all others are brought to."""
        return next(one for one in self.layer if self.grid in (None, one.kind))

    def at(self, month: int | None) -> dict[str, Layer]:
        """Return the layer of each kind in a month; None is any month: a kind with seasons is then left out."""
        if month is None:
            return {one.kind: one for one in self.layer if len(one.in_months) == len(_EVERY_MONTH)}
        return {one.kind: one for one in self.layer if month in one.in_months}

    @property
    def categories(self) -> tuple[str, ...]:
        """The names of all categories of land cover."""
        return tuple(sorted({name for one in self.layer for name in one.names.values()}))


def read_rasters(path: Path) -> Rasters:
    """Read ``rasters.toml``; raises Invalid, naming the file and the layer, where it cannot be used."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error
    return rasters_of(text, path)


def rasters_of(text: bytes, path: Path) -> Rasters:
    """Return what the text of ``path`` says; raises Invalid."""
    try:
        found = msgspec.toml.decode(text, type=Rasters)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: {error}") from error
    if not found.layer:
        raise Invalid(f"{path}: it names no layer")
    for layer in found.layer:
        _check(layer, path)
    if found.grid is not None and found.grid not in {one.kind for one in found.layer}:
        raise Invalid(f"{path}: grid = {found.grid!r}, but there is no layer of that kind")
    taken = [(one.kind, month) for one in found.layer for month in one.in_months]
    twice = next((pair for pair in taken if taken.count(pair) > 1), None)
    if twice is not None:
        raise Invalid(f"{path}: two layers are {twice[0]} in month {twice[1]}; give each its months")
    return msgspec.structs.replace(found, folder=path.parent)


def _check(layer: Layer, path: Path) -> None:
    title = f"{path}: {layer.file}"
    if layer.kind not in KINDS:
        raise Invalid(f"{title}: unknown kind {layer.kind!r}; there are {', '.join(KINDS)}")
    kind = KINDS[layer.kind]
    if layer.unit is None and layer.kind != LAND_COVER:
        raise Invalid(f"{title}: {layer.kind} has no unit; give one of {', '.join(kind.units)}")
    if layer.unit is not None and layer.unit not in kind.units:
        raise Invalid(f"{title}: unknown unit {layer.unit!r} of {layer.kind}; there are {', '.join(kind.units)}")
    if (layer.kind == LAND_COVER) != bool(layer.categories):
        raise Invalid(f"{title}: land_cover needs categories = {{ number = name }}, and no other kind has them")
    for number, name in layer.categories.items():
        if not (number.isascii() and number.isdigit()) or not name.isidentifier():
            raise Invalid(f"{title}: category {number!r} = {name!r}: a whole number and a name of letters, digits, _")
