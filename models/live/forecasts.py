"""Where animals will be: worked out once a fix, a few animals at a time, and kept for an hour.

A live view that asks for more animals than are worked out at once gets the rest at its next turns; until then
``missing`` says so. What was worked out of an older fix is dropped by a newer one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from models.forecast.baselines import FloatArray
from models.forecast.calibration import OWN_DAYS
from models.forecast.features import MEMORY_DAYS
from models.forecast.runtime import Forecaster, Prediction, Track
from models.live.runtime import Fixes, Models
from shared.errors import Invalid, ModelUnavailable
from shared.insight import Predicted
from shared.store import LiveAnimal
from shared.sync.records import from_ms

#: How far back the fixes of a forecast reach, and how many of them at most.
SPAN: Final = timedelta(days=OWN_DAYS + MEMORY_DAYS)
#: The same where the distances of its own past forecasts are kept.
MEMORY: Final = timedelta(days=MEMORY_DAYS)
MOST_FIXES: Final = 6_000
#: Animals that are worked out in one turn.
AT_ONCE: Final = 16
KEPT_S: Final = 3_600.0

#: Distances of an animal's own past forecasts are worked out anew after a day, from so many on they are kept.
OWN_KEPT_S: Final = 86_400.0
OWN_LEAST: Final = 8
OWN_ANIMALS: Final = 4_096

_WAITS: Final = "waits for its turn"


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What was worked out of a fix, or why nothing was."""

    fix_id: str
    kept_since_s: float
    predicted: tuple[Predicted, ...] = ()
    missing: str | None = None


class Forecasts:
    """Forecasts of a home's animals, kept by animal."""

    def __init__(self, models: Models, monotonic: Callable[[], float]) -> None:
        self._models = models
        self._monotonic = monotonic
        self._kept: dict[str, Forecast] = {}

    def wanted(self, animals: Sequence[LiveAnimal]) -> list[LiveAnimal]:
        """Return the animals whose newest fix nothing is known of yet, as many as one turn takes."""
        now_s = self._monotonic()
        present = {each.animal.id for each in animals}
        self._kept = {
            key: kept for key, kept in self._kept.items() if key in present and now_s - kept.kept_since_s < KEPT_S
        }
        fresh = [each for each in animals if self._of(each) is None]
        # those that have never had one first: a herd that moves must not starve its last animals
        return sorted(fresh, key=lambda each: each.animal.id in self._kept)[:AT_ONCE]

    def work_out(self, tracks: Sequence[tuple[LiveAnimal, Fixes]]) -> None:
        """Work out the forecasts of some animals from their fixes; takes time, call it in a thread."""
        found = worked_out(self._models, [(animal.animal.species, fixes) for animal, fixes in tracks])
        for (animal, _), said in zip(tracks, found, strict=True):
            if isinstance(said, str):
                self._keep(animal, missing=said)
            else:
                self._keep(animal, predicted=said)

    def take(self, animal: LiveAnimal, predicted: tuple[Predicted, ...]) -> None:
        """Keep the forecast of an animal's newest fix that another home worked out, unless there is one."""
        if self._of(animal) is None:
            self._keep(animal, predicted=predicted)

    def of(self, animal: LiveAnimal, now: datetime) -> Forecast:
        """Return the forecast of an animal's newest fix, without what is past; ``missing`` where there is none yet."""
        found = self._of(animal)
        if found is None:
            return Forecast(fix_id=animal.fix.id, kept_since_s=0.0, missing=_WAITS)
        ahead = tuple(each for each in found.predicted if each.at > now)
        if found.predicted and not ahead:
            return msgspec.structs.replace(found, predicted=(), missing="its newest fix is too old")
        return msgspec.structs.replace(found, predicted=ahead)

    def whole(self, animal: LiveAnimal) -> Forecast | None:
        """Return the forecast of an animal's newest fix as it was worked out; None where it was not, or long ago."""
        found = self._of(animal)
        return found if found is not None and self._monotonic() - found.kept_since_s < KEPT_S else None

    def forget_old(self) -> None:
        """Drop what is older than an hour."""
        now_s = self._monotonic()
        self._kept = {key: kept for key, kept in self._kept.items() if now_s - kept.kept_since_s < KEPT_S}

    def _of(self, animal: LiveAnimal) -> Forecast | None:
        found = self._kept.get(animal.animal.id)
        return found if found is not None and found.fix_id == animal.fix.id else None

    def _keep(self, animal: LiveAnimal, *, predicted: tuple[Predicted, ...] = (), missing: str | None = None) -> None:
        self._kept[animal.animal.id] = Forecast(
            fix_id=animal.fix.id, kept_since_s=self._monotonic(), predicted=predicted, missing=missing
        )


class OwnPast:
    """How far off the animals' own past forecasts were, kept for a day of their fixes' time.

    A forecast from kept distances costs a third of one that looks at two weeks of them anew, and its ellipses are at
    most a day behind. A fix that comes late, or one that a person takes out, counts from the next day on.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[float, FloatArray]] = {}

    def of(self, key: Hashable, newest_s: float) -> FloatArray | None:
        """Return what is kept of an animal; None where it is a day old, or of a fix that is newer."""
        made_s, own = self._kept.get(key, (-math.inf, None))
        return own if 0.0 <= newest_s - made_s < OWN_KEPT_S else None

    def keep(self, key: Hashable, newest_s: float, own: FloatArray) -> None:
        """Keep what was worked out with the fix of an instant; of few past forecasts nothing is kept."""
        if own.shape[1] < OWN_LEAST:
            return
        if len(self._kept) >= OWN_ANIMALS:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = newest_s, own


def worked_out(
    models: Models,
    tracks: Sequence[tuple[str | None, Fixes]],
    past: OwnPast | None = None,
    keys: Sequence[Hashable] = (),
) -> list[tuple[Predicted, ...] | str]:
    """Return the forecast of each track, or why there is none; those of one forecaster are asked together.

    ``keys`` name the animals to ``past``, in the order of the tracks.
    """
    found: dict[int, tuple[Predicted, ...] | str] = {}
    groups: dict[int, tuple[Forecaster, list[int]]] = {}
    for number, (species, _) in enumerate(tracks):
        try:
            forecaster = models.forecaster(species)
        except ModelUnavailable as error:
            found[number] = error.detail
            continue
        groups.setdefault(id(forecaster), (forecaster, []))[1].append(number)
    for forecaster, numbers in groups.values():
        asked = [
            Track(
                times_s=fixes.times_s, lon_deg=fixes.lon_deg, lat_deg=fixes.lat_deg,
                own=None if past is None or not len(fixes) else past.of(keys[number], float(fixes.times_s[-1])),
            )
            for number, (_, fixes) in ((number, tracks[number]) for number in numbers)
        ]  # fmt: skip
        try:
            said = forecaster.with_own(asked)
        except (Invalid, ArithmeticError, ValueError, LookupError) as error:  # one fault is named and stops no view
            found |= dict.fromkeys(numbers, f"failed: {type(error).__name__}: {error}")
            continue
        for number, track, (predictions, own) in zip(numbers, asked, said, strict=True):
            found[number] = tuple(_predicted(each) for each in predictions)
            if past is not None and track.own is None:
                past.keep(keys[number], float(track.times_s[-1]), own)
    return [found[number] for number in range(len(tracks))]


def _predicted(found: Prediction) -> Predicted:
    inner, outer = found.ellipse50, found.ellipse90
    return Predicted(
        at=from_ms(round((found.made_at_s + found.horizon_s) * 1000)),
        horizon_h=found.horizon_s / 3600,
        lon_deg=(found.lon_deg + 180.0) % 360.0 - 180.0,
        lat_deg=found.lat_deg,
        semi_major_50_m=inner.semi_major_m,
        semi_minor_50_m=inner.semi_minor_m,
        semi_major_90_m=outer.semi_major_m,
        semi_minor_90_m=outer.semi_minor_m,
        bearing_deg=outer.bearing_deg,
        model=found.model,
    )
