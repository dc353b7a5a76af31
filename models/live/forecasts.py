"""Where animals will be: worked out once a fix, a few animals at a time, and kept for an hour.

A live view that asks for more animals than are worked out at once gets the rest at its next turns; until then
``missing`` says so. What was worked out of an older fix is dropped by a newer one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

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
MOST_FIXES: Final = 6_000
#: Animals that are worked out in one turn.
AT_ONCE: Final = 16
KEPT_S: Final = 3_600.0

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


def worked_out(models: Models, tracks: Sequence[tuple[str | None, Fixes]]) -> list[tuple[Predicted, ...] | str]:
    """Return the forecast of each track, or why there is none; those of one forecaster are asked together."""
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
            Track(times_s=fixes.times_s, lon_deg=fixes.lon_deg, lat_deg=fixes.lat_deg)
            for _, fixes in (tracks[number] for number in numbers)
        ]
        try:
            said = forecaster.predict_many(asked)
        except (Invalid, ArithmeticError, ValueError, LookupError) as error:  # one fault is named and stops no view
            found |= dict.fromkeys(numbers, f"failed: {type(error).__name__}: {error}")
            continue
        found |= {n: tuple(_predicted(each) for each in one) for n, one in zip(numbers, said, strict=True)}
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
