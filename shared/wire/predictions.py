"""Predictions and the models' health in the original platform's words."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from shared.domain import Prediction, PredictionType
from shared.errors import Invalid
from shared.insight import Forecast, ModelStatus
from shared.wire.habitat import Month
from shared.wire.live import PredictionOut as PlaceAheadOut
from shared.wire.public.fields import Latitude, Longitude, Name, Reference
from shared.wire.routes import DEFAULT_STEPS, CorridorAskedIn, Seed, Steps, Version

#: That of the outer ellipse: it was drawn to hold so many of what comes.
OUTER_SHARE = 0.9

Json: TypeAlias = Annotated[Raw, Meta(description="A JSON object.")]


class KeptPredictionOut(Struct, frozen=True, kw_only=True):
    """What a model said when it was asked. What another's precision does not show you is an empty object."""

    id: str
    animal: str | None
    prediction_type: PredictionType
    input_data: Json
    results: Json
    confidence: float | None
    model_version: str | None
    created_by: str | None
    created_at: datetime

    @classmethod
    def of(cls, prediction: Prediction) -> KeptPredictionOut:
        """Return the public form of a prediction."""
        return cls(
            id=prediction.id,
            animal=prediction.animal_id,
            prediction_type=prediction.prediction_type,
            input_data=Raw(prediction.input_data.encode()),
            results=Raw(prediction.results.encode()),
            confidence=prediction.confidence,
            model_version=prediction.model_version,
            created_by=prediction.created_by,
            created_at=prediction.created_at,
        )


class AskedIn(Struct, frozen=True, kw_only=True):
    """What a prediction is made of, beside its animal: a place for habitat, ends for a corridor."""

    species: Name | None = None
    lat: Latitude | None = None
    lon: Longitude | None = None
    month: Month | None = None
    start_lat: Latitude | None = None
    start_lon: Longitude | None = None
    end_lat: Latitude | None = None
    end_lon: Longitude | None = None
    steps: Steps = DEFAULT_STEPS
    algorithm: Literal["auto", "ppo", "dqn", "least_cost"] = "auto"
    seed: Seed | None = None
    model_version: Version | None = None

    def corridor(self) -> CorridorAskedIn:
        """Return what a corridor is asked for; raises Invalid where the species or the start is not said."""
        for name in ("species", "start_lat", "start_lon"):
            if getattr(self, name) is None:
                raise Invalid(f"input_data.{name}: is required for a corridor")
        names = CorridorAskedIn.__struct_fields__
        return CorridorAskedIn(**{name: getattr(self, name) for name in names})


class PredictionIn(Struct, frozen=True, kw_only=True):
    """What to predict. ``movement`` needs an animal; ``habitat`` an animal or a place; ``corridor`` ends and a species.

    Results, confidence and model version are the model's: what a client says of them is not read.
    """

    prediction_type: PredictionType
    animal: Reference | UnsetType | None = UNSET
    animal_id: Reference | UnsetType | None = UNSET
    input_data: AskedIn | UnsetType | None = UNSET

    @property
    def of_animal(self) -> str | None:
        """The animal that it is about."""
        named = self.animal if self.animal is not UNSET else self.animal_id
        return named or None

    @property
    def asked(self) -> AskedIn:
        """What it is made of."""
        return self.input_data or AskedIn()


class MovementOut(Struct, frozen=True, kw_only=True):
    """The results of ``movement``: the places ahead, made after the fix of ``made_of``.

    ``cell_degrees``: places are the middles of such cells, because that is how finely the asker sees positions.
    """

    made_of: datetime
    predictions: list[PlaceAheadOut]
    cell_degrees: float | None

    @classmethod
    def of(cls, forecast: Forecast) -> MovementOut:
        """Return the public form of a forecast."""
        return cls(
            made_of=forecast.fix.recorded_at,
            predictions=[PlaceAheadOut.of(each) for each in forecast.predicted],
            cell_degrees=forecast.cell_deg,
        )


class ModelOut(Struct, frozen=True, kw_only=True):
    """How a model is."""

    status: Literal["ready", "degraded", "unavailable"]
    versions: dict[str, str]
    detail: str | None

    @classmethod
    def of(cls, status: ModelStatus) -> ModelOut:
        """Return the public form of a status."""
        return cls(status=status.status, versions=dict(status.versions), detail=status.detail)


class ModelsOut(Struct, frozen=True, kw_only=True):
    """How all models are: ``healthy`` where every one is ready, ``unavailable`` where none serves."""

    status: Literal["healthy", "degraded", "unavailable"]
    service: Literal["ml"] = "ml"
    version: str
    models: dict[str, ModelOut]

    @classmethod
    def of(cls, statuses: list[ModelStatus], version: str) -> ModelsOut:
        """Return the public form of all statuses."""
        words = {each.status for each in statuses}
        if words <= {"ready"}:
            word: Literal["healthy", "degraded", "unavailable"] = "healthy"
        else:
            word = "unavailable" if words == {"unavailable"} else "degraded"
        return cls(status=word, version=version, models={each.model: ModelOut.of(each) for each in statuses})


class HealthOut(Struct, frozen=True, kw_only=True):
    """Whether models serve here; no more is told to whom nobody asked for a name."""

    status: Literal["healthy", "degraded", "unavailable", "alive", "ready"]
    service: Literal["ml"] = "ml"
    version: str


def json_of(value: Any) -> str:
    """Return a value as the text in which it is kept."""
    return msgspec.json.encode(value).decode()
