"""What a station asks of habitat: how good a cell is for a species, a whole map in windows, and a tile of it.

A model is some hundred shallow trees over covariates (``covariates``). Each covariate is first put into one of at most
255 bins by thresholds, and 255 stands for *no data*; a tree then compares bytes. All trees have one depth and lie in
heap order, so that a node's children are 2n + 1 and 2n + 2 and all cells walk at once:

::

              0            goes right where bin > threshold; at *no data* where the node says so
          1       2        a place where a tree ends early has threshold 254: everything goes left, where the leaf is
        3   4   5   6      leaves are int16 times the scale of the manifest

Binning is lossless: thresholds are those of the trees, compared as float32 as in training. Only leaves are rounded.

A trend, linear and quadratic in each covariate and level beyond ``furthest_sd`` standard deviations, is added; *no
data* counts as the mean there. The sum is the log odds of a used against an available place, both weighing the same;
``suitability`` is its logistic, 0 to 1, 0.5 where the model cannot tell. It compares places for animals like those that
it learned from. It is no probability that one is there. A covariate that the maps do not have is *no data* and named in
``missing``; a model of which all are missing gives NaN.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.artifact import PACKAGED, Loaded, load_newest
from models.habitat.covariates import Float32Array, FloatArray, layers_of
from models.habitat.features import Grid, RasterSet, Window, open_rasters, write_geotiff
from models.habitat.layers import Rasters, read_rasters
from models.habitat.tiles import TILE_PIXELS, coloured, empty_tile, pixel_positions
from shared.errors import ArtifactError, Invalid, ModelUnavailable

# A station imports this module and ``features`` alone: what it needs of the others is here by name.
__all__ = [
    "BETTER_THAN_CHANCE",
    "GENERIC",
    "Float32Array",
    "FloatArray",
    "Grid",
    "HabitatModel",
    "RasterSet",
    "Rasters",
    "Suitability",
    "Window",
    "empty_tile",
    "load_model",
    "model_name",
    "model_of",
    "open_rasters",
    "read_rasters",
    "suitability_map",
    "suitability_of",
    "suitability_tile",
]

GENERIC: Final = "generic"
#: A model whose AUC on what it had not seen is less tells nothing: a guess with a map.
BETTER_THAN_CHANCE: Final = 0.55
NO_DATA_BIN: Final = 255
END_BIN: Final = 254
MOST_BINS: Final = 254
_DEEPEST: Final = 6
# Cells that are scored at once; their bytes and sums stay in a core's cache.
_CELLS_AT_ONCE: Final = 8_192
# Up to so many cells all trees are walked at once: calls into numpy would cost more than what they do.
_FEW_CELLS: Final = 64

_MODEL_OF: Final = {
    "loxodonta": "elephant", "elephas": "elephant", "elephant": "elephant",
    "syncerus": "buffalo", "buffalo": "buffalo", "buffaloe": "buffalo",
    "connochaetes": "wildebeest", "wildebeest": "wildebeest", "gnu": "wildebeest",
    "canis latrans": "coyote", "coyote": "coyote",
    "puma": "cougar", "cougar": "cougar",
    "cervus elaphus": "red_deer", "red deer": "red_deer",
}  # fmt: skip


class HabitatModel(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The quantised trees of a species.

    ``thresholds`` (all thresholds, one covariate after another) is cut by ``ends`` (covariates,). ``features``,
    ``bins`` and ``no_data_right`` are (trees, 2^depth - 1), ``leaves`` (trees, 2^depth) times ``leaf_scale``. ``auc``
    and ``boyce`` are what held-out blocks or animals gave, ``held_out`` which of the two; NaN where it was not
    measured.
    """

    name: str
    version: int
    names: tuple[str, ...]
    base: float
    furthest_sd: float
    linear: Float32Array
    thresholds: Float32Array
    ends: npt.NDArray[np.int64]
    features: npt.NDArray[np.uint8]
    bins: npt.NDArray[np.uint8]
    no_data_right: npt.NDArray[np.uint8]
    leaves: npt.NDArray[np.int16]
    leaf_scale: float
    months: tuple[int, ...]
    auc: float
    boyce: float
    held_out: str
    refused: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        """How many comparisons lead to a leaf."""
        return int(self.leaves.shape[1]).bit_length() - 1

    @property
    def is_guess(self) -> bool:
        """Whether it was no better than chance on what it had not seen, or was never measured there."""
        return not self.auc >= BETTER_THAN_CHANCE

    def binned(self, values: Float32Array) -> npt.NDArray[np.uint8]:
        """Return the bin of each covariate, shape (covariates, n), of values of the shape (n, covariates)."""
        found = np.empty((len(self.names), values.shape[0]), dtype=np.uint8)
        begin = 0
        for place, end in enumerate(self.ends.tolist()):
            column = np.ascontiguousarray(values[:, place], dtype=np.float32)
            # side=right: a value at the threshold goes right, as it does in training (left is x < threshold).
            found[place] = np.searchsorted(self.thresholds[begin:end], column, side="right")
            found[place][~np.isfinite(column)] = NO_DATA_BIN
            begin = end
        return found

    def log_odds(self, values: Float32Array) -> FloatArray:
        """Return the log odds of used against available for (n, covariates); NaN where there is no data at all.

        Raises ValueError where there are not as many columns as covariates.
        """
        if values.ndim != 2 or values.shape[1] != len(self.names):
            raise ValueError(f"{self.name} has {len(self.names)} covariates, not the columns of {values.shape}")
        found = np.empty(values.shape[0])
        for begin in range(0, values.shape[0], _CELLS_AT_ONCE):
            part = values[begin : begin + _CELLS_AT_ONCE]
            walk = self._walk_few if len(part) <= _FEW_CELLS else self._walk
            total = walk(self.binned(part))
            found[begin : begin + _CELLS_AT_ONCE] = self.base + self._trend(part) + total * self.leaf_scale
        found[~np.isfinite(values).any(axis=1)] = np.nan
        return found

    def score(self, values: Float32Array) -> FloatArray:
        """Return the suitability, 0 to 1, for covariates of the shape (n, covariates)."""
        return np.asarray(1.0 / (1.0 + np.exp(-self.log_odds(values))))

    def _trend(self, values: Float32Array) -> FloatArray:
        # Column by column in float64: a cell has the same sum alone and among others.
        total = np.zeros(values.shape[0])
        for column, (mean, sd, slope, curve) in zip(values.T, self.linear.astype(np.float64).T.tolist(), strict=True):
            standard = np.clip((column.astype(np.float64) - mean) / sd, -self.furthest_sd, self.furthest_sd)
            standard[~np.isfinite(column)] = 0.0
            total += standard * (slope + standard * curve)
        return total

    def _walk_few(self, bins: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        """The same sums as ``_walk``, for few cells: arrays are (trees, nodes, cells)."""
        asked = bins[self.features]
        turns = np.where(asked == NO_DATA_BIN, self.no_data_right[:, :, None], asked > self.bins[:, :, None])
        numbers = _leaf_numbers(list(turns.astype(np.uint8).transpose(1, 0, 2)), self.depth)
        return np.asarray(np.take_along_axis(self.leaves, numbers, axis=1).sum(axis=0, dtype=np.int32))

    def _walk(self, bins: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        """Return the sum of the leaves that each cell comes to, in units of ``leaf_scale``."""
        total = np.zeros(bins.shape[1], dtype=np.int32)
        is_known = bins != NO_DATA_BIN
        is_whole = bool(is_known.all())
        n_inner = self.bins.shape[1]
        for features, thresholds, defaults, leaves in zip(
            self.features.tolist(), self.bins.tolist(), self.no_data_right.tolist(), self.leaves, strict=True
        ):
            goes_right = []
            for node in range(n_inner):
                right = bins[features[node]] > thresholds[node]
                if not is_whole:
                    known = is_known[features[node]]
                    right = (right & known) | ~known if defaults[node] else right & known
                goes_right.append(right.view(np.uint8))
            total += leaves[_leaf_numbers(goes_right, self.depth)]
        return total


def _leaf_numbers(goes_right: list[npt.NDArray[np.uint8]], depth: int) -> npt.NDArray[np.uint8]:
    """Return which leaf each cell comes to: from the lowest level up, a node takes the number of its own side.

    A number's bits are the turns, the first of them highest; choosing by multiplication has no branches.
    """
    numbers = goes_right[(1 << (depth - 1)) - 1 :]
    for level in range(depth - 2, -1, -1):
        above = goes_right[(1 << level) - 1 : (1 << (level + 1)) - 1]
        weight = np.uint8(1 << (depth - 1 - level))
        numbers = [
            left + turn * (right - left + weight)
            for turn, left, right in zip(above, numbers[::2], numbers[1::2], strict=True)
        ]
    return numbers[0]


class Suitability(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How suitable places are, (n,), NaN outside the maps; by which model, and which of its covariates were not there.

    ``missing`` are covariates that no map gives; ``model_auc`` is what the model reached on held-out ground, and
    ``is_guess`` that this is no better than chance, or unknown.
    """

    suitability: FloatArray
    model: str
    version: int
    missing: tuple[str, ...]
    model_auc: float
    model_boyce: float
    is_guess: bool


def model_name(species: str | None) -> str:
    """Return which model serves a species, by its common or scientific name in any case."""
    words = (species or "").lower().replace("_", " ").replace("-", " ").split()
    pair = " ".join(words[:2])
    for word in (pair, *words[:1], *words[-1:], *(last.removesuffix("s") for last in words[-1:])):
        if word in _MODEL_OF:
            return _MODEL_OF[word]
    return "_".join(words) if words and "".join(words).isalnum() else GENERIC


def load_model(species: str | None, folder: Path = PACKAGED, *, is_guess_allowed: bool = False) -> HabitatModel:
    """Return the newest good model for a species; the generic one where it has none that is good.

    Raises ModelUnavailable where that cannot be used either, and, unless a guess is allowed, where it was no better
    than chance on species that it had not seen: a map of guesses looks like any other map.
    """
    name = model_name(species)
    refused: tuple[str, ...] = ()
    if name != GENERIC:
        try:
            model, loaded = load_newest(folder, "habitat", name, model_of)
            return msgspec.structs.replace(model, refused=loaded.refused)
        except ModelUnavailable as error:
            refused = (error.detail,)
    model, loaded = load_newest(folder, "habitat", GENERIC, model_of)
    if model.is_guess and not is_guess_allowed:
        reasons = "".join(f"; {reason}" for reason in refused)
        raise ModelUnavailable(
            f"no habitat model for {species or 'an unnamed species'}, and the generic one is no better than chance on "
            f"species that it has not seen: train one on your own animals and maps{reasons}"
        )
    return msgspec.structs.replace(model, refused=(*refused, *loaded.refused))


class _Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    covariates: tuple[str, ...]
    base: float
    furthest_sd: float
    months: tuple[int, ...]
    held_out: str
    gain: dict[str, float] = {}
    training: dict[str, Any] = {}


def model_of(loaded: Loaded) -> HabitatModel:
    """Return the model of a verified artefact; raises ArtifactError where its arrays do not fit together."""
    manifest = loaded.manifest
    title = f"{manifest.model}/{manifest.version}/{manifest.name}"
    try:
        settings = msgspec.convert(manifest.settings, _Settings)
        specs = {one.name: one for one in manifest.arrays}
        model = HabitatModel(
            name=manifest.name,
            version=manifest.version,
            names=settings.covariates,
            base=settings.base,
            furthest_sd=settings.furthest_sd,
            linear=loaded.arrays["linear"],
            thresholds=loaded.arrays["thresholds"],
            ends=loaded.arrays["ends"].astype(np.int64),
            features=loaded.arrays["features"],
            bins=loaded.arrays["bins"],
            no_data_right=loaded.arrays["no_data_right"],
            leaves=loaded.arrays["leaves"],
            leaf_scale=specs["leaves"].scale,
            months=settings.months,
            auc=manifest.metrics.get("auc", float("nan")),
            boyce=manifest.metrics.get("boyce", float("nan")),
            held_out=settings.held_out,
        )
    except (msgspec.ValidationError, KeyError) as error:
        raise ArtifactError(f"{title}: {error}") from error
    reason = _unfit(model)
    if reason is not None:
        raise ArtifactError(f"{title}: {reason}")
    return model


def _unfit(model: HabitatModel) -> str | None:
    wanted = {
        "linear": "float32",
        "thresholds": "float32",
        "features": "uint8",
        "bins": "uint8",
        "no_data_right": "uint8",
        "leaves": "int16",
    }
    for name, number_format in wanted.items():
        if getattr(model, name).dtype != np.dtype(number_format):
            return f"{name} are not {number_format}"
    if model.ends.shape != (len(model.names),) or len(set(model.names)) != len(model.names):
        return "its covariates are not those of its thresholds"
    if model.linear.shape != (4, len(model.names)) or (model.linear[1] <= 0).any() or not model.furthest_sd > 0:
        return "its trend is not that of its covariates"
    sizes = np.diff(model.ends, prepend=0)
    if (sizes < 0).any() or (sizes > MOST_BINS).any() or model.thresholds.shape != (int(model.ends[-1]),):
        return "its thresholds are not cut by covariate"
    begin = 0
    for end in model.ends.tolist():
        if (np.diff(model.thresholds[begin:end]) <= 0).any():
            return "thresholds of a covariate do not rise"
        begin = end
    trees, n_leaves = model.leaves.shape if model.leaves.ndim == 2 else (0, 0)
    if n_leaves not in {1 << depth for depth in range(1, _DEEPEST + 1)}:
        return f"{n_leaves} leaves are not those of a whole tree"
    if any(getattr(model, name).shape != (trees, n_leaves - 1) for name in ("features", "bins", "no_data_right")):
        return "nodes and leaves are not those of the same trees"
    is_end = model.bins == END_BIN
    if model.features.max() >= len(model.names) or (model.bins >= sizes[model.features])[~is_end].any():
        return "a node asks for a covariate or a threshold that is not there"
    if model.no_data_right.max() > 1 or model.no_data_right[is_end].any():
        return "a node says no side for no data"
    if not np.isfinite(model.base) or not 0 < model.leaf_scale < 1:
        return "its leaves have no scale"
    return None


def missing_covariates(model: HabitatModel, rasters: RasterSet, month: int | None = None) -> tuple[str, ...]:
    """Return the covariates of a model that no map here gives in a month."""
    at_hand = rasters.rasters.at(month)
    known = set(at_hand["land_cover"].names.values()) if "land_cover" in at_hand else set()
    missing = []
    for name in model.names:
        kinds = layers_of(name)
        category = name.removeprefix("land_cover_").partition("_mean_")[0]
        if not set(kinds) & set(at_hand) or ("land_cover" in kinds and category not in known):
            missing.append(name)
    return tuple(missing)


def suitability_of(
    model: HabitatModel, rasters: RasterSet, lon_deg: FloatArray, lat_deg: FloatArray, month: int | None = None
) -> Suitability:
    """Return how suitable positions are: one place, the fixes of a track, or any others, (n,) degrees each.

    Raises Invalid where no map gives any covariate of the model, or the month is none.
    """
    missing = _checked_missing(model, rasters, month)
    values = rasters.at(model.names, np.asarray(lon_deg, np.float64), np.asarray(lat_deg, np.float64), month)
    return Suitability(
        suitability=model.score(values),
        model=model.name,
        version=model.version,
        missing=missing,
        model_auc=model.auc,
        model_boyce=model.boyce,
        is_guess=model.is_guess,
    )


def suitability_map(model: HabitatModel, rasters: RasterSet, path: Path, month: int | None = None) -> tuple[str, ...]:
    """Write the suitability of the whole grid as a GeoTIFF, window by window; return the covariates that are missing.

    Memory is that of one window, however large the map is. Raises Invalid as ``suitability_of`` does.
    """
    tags = map_tags(model, rasters, month)
    parts = ((window, scored(model, rasters, window, month)) for window in rasters.grid.blocks())
    write_geotiff(path, rasters.grid, parts, tags)
    return missing_covariates(model, rasters, month)


def map_tags(model: HabitatModel, rasters: RasterSet, month: int | None = None) -> dict[str, str]:
    """Return what a map of suitability says of itself; raises Invalid as ``suitability_of`` does."""
    missing = _checked_missing(model, rasters, month)
    return {"MODEL": f"habitat/{model.version}/{model.name}", "MISSING": ",".join(missing), "UNIT": "suitability 0-1"}


def scored(model: HabitatModel, rasters: RasterSet, window: Window, month: int | None = None) -> Float32Array:
    """Return the suitability of each cell of a window."""
    values = rasters.covariates(model.names, window, month).reshape(len(model.names), -1).T
    return model.score(values).reshape(window.rows, window.columns).astype(np.float32)


def suitability_tile(
    model: HabitatModel, rasters: RasterSet, zoom: int, x: int, y: int, month: int | None = None
) -> bytes:
    """Return a web mercator tile of suitability as PNG, 256 pixels wide, transparent where there is no map.

    A pixel has the suitability of the cell that its middle lies in, so a tile is exact at every zoom. Where pixels are
    wider than cells it is a sample of them. Raises Invalid for a tile that is not on the map of the world, and as
    ``suitability_of`` does.
    """
    _checked_missing(model, rasters, month)
    lon_deg, lat_deg = pixel_positions(zoom, x, y)
    lon, lat = np.meshgrid(lon_deg, lat_deg)
    row, column = rasters.grid.cells(lon.ravel(), lat.ravel())
    is_in = (row >= 0) & (row < rasters.grid.rows) & (column >= 0) & (column < rasters.grid.columns)
    if not is_in.any():
        return empty_tile()
    found = np.full(row.size, np.nan)
    # Many pixels lie in one cell, or few in a map of many: each cell that is looked at is scored once.
    numbers = np.floor(row[is_in]).astype(np.int64) * rasters.grid.columns + np.floor(column[is_in]).astype(np.int64)
    cells, back = np.unique(numbers, return_inverse=True)
    places = np.divmod(cells, rasters.grid.columns)
    found[is_in] = model.score(rasters.at_cells(model.names, *places, month))[back]
    return coloured(found.reshape(TILE_PIXELS, TILE_PIXELS))


def _checked_missing(model: HabitatModel, rasters: RasterSet, month: int | None) -> tuple[str, ...]:
    if month is not None and month not in range(1, 13):
        raise Invalid(f"month {month}: there are 1 to 12")
    missing = missing_covariates(model, rasters, month)
    if len(missing) == len(model.names):
        wanted = dict.fromkeys(kinds[0] for kinds in map(layers_of, model.names))
        raise Invalid(f"no map gives anything that the model {model.name} asks for; it asks for {', '.join(wanted)}")
    return missing
