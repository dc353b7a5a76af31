"""How a simulated animal moves: three states, turning angles and step lengths, the hour of the day, a home.

A correlated random walk over steps of ten minutes. In each the animal rests, forages or migrates; the step length is
gamma distributed with the mean and shape of the state, the turn is von Mises distributed with its concentration. The
state lasts for a while (exponential, about two hours); the next one depends on how active the species is at that hour
of local solar time. The further an animal is from the centre of its home range, the more its heading is drawn back; the
centre itself drifts over the year for species that follow the rain.

The numbers of the species table are plausible, for demonstration: they are not fitted to data and prove nothing.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
import numpy as np

State = Literal["resting", "foraging", "migrating"]

#: Length of one step of the walk.
STEP_S = 600.0
_METRES_PER_DEGREE = 111_320.0
_YEAR_S = 365.25 * 86_400.0
#: How long a state lasts on average.
_STAY_S: dict[State, float] = {"resting": 6_000.0, "foraging": 8_000.0, "migrating": 5_000.0}


class Gait(msgspec.Struct, frozen=True):
    """How an animal moves in one state: mean speed, shape of the gamma step, concentration of the von Mises turn."""

    speed_mps: float
    shape: float
    kappa: float


class Species(msgspec.Struct, frozen=True, kw_only=True):
    """The habits of a species.

    ``peaks_h`` are the hours (local solar time) at which it is most active. ``wanderlust`` weighs migrating against
    foraging. ``migration_m`` is how far the home range moves from its mean over the year.
    """

    name: str
    taxon: str
    resting: Gait
    foraging: Gait
    migrating: Gait
    peaks_h: tuple[float, ...]
    wanderlust: float
    home_radius_m: float
    migration_m: float
    top_speed_mps: float

    def gait(self, state: State) -> Gait:
        """Return how it moves in ``state``."""
        gaits: dict[State, Gait] = {
            "resting": self.resting,
            "foraging": self.foraging,
            "migrating": self.migrating,
        }
        return gaits[state]

    def activity(self, solar_h: float) -> float:
        """Return how active it is at an hour of local solar time, 0.1 to 1."""
        nearest_h = min(abs((solar_h - peak_h + 12.0) % 24.0 - 12.0) for peak_h in self.peaks_h)
        return 0.1 + 0.9 * math.exp(-((nearest_h / 3.0) ** 2))


SPECIES: dict[str, Species] = {
    species.name: species
    for species in (
        Species(
            name="elephant",
            taxon="Loxodonta africana",
            resting=Gait(0.01, 0.8, 0.1),
            foraging=Gait(0.12, 1.1, 0.6),
            migrating=Gait(0.65, 3.0, 3.0),
            peaks_h=(7.0, 17.5, 22.0),
            wanderlust=0.35,
            home_radius_m=9_000.0,
            migration_m=10_000.0,
            top_speed_mps=1.4,
        ),
        Species(
            name="wildebeest",
            taxon="Connochaetes taurinus",
            resting=Gait(0.01, 0.8, 0.1),
            foraging=Gait(0.10, 1.0, 0.5),
            migrating=Gait(0.80, 3.0, 4.0),
            peaks_h=(7.5, 17.0),
            wanderlust=0.45,
            home_radius_m=8_000.0,
            migration_m=40_000.0,
            top_speed_mps=1.6,
        ),
        Species(
            name="buffalo",
            taxon="Syncerus caffer",
            resting=Gait(0.01, 0.8, 0.1),
            foraging=Gait(0.10, 1.1, 0.7),
            migrating=Gait(0.50, 3.0, 2.5),
            peaks_h=(6.5, 18.5, 23.0),
            wanderlust=0.25,
            home_radius_m=6_000.0,
            migration_m=4_000.0,
            top_speed_mps=1.4,
        ),
        Species(
            name="zebra",
            taxon="Equus quagga",
            resting=Gait(0.01, 0.8, 0.1),
            foraging=Gait(0.13, 1.0, 0.5),
            migrating=Gait(0.75, 3.0, 3.5),
            peaks_h=(7.0, 17.0),
            wanderlust=0.40,
            home_radius_m=9_000.0,
            migration_m=25_000.0,
            top_speed_mps=1.6,
        ),
        Species(
            name="lion",
            taxon="Panthera leo",
            resting=Gait(0.002, 0.8, 0.1),
            foraging=Gait(0.15, 0.9, 0.8),
            migrating=Gait(0.80, 2.5, 2.5),
            peaks_h=(20.5, 4.5),
            wanderlust=0.50,
            home_radius_m=7_000.0,
            migration_m=0.0,
            top_speed_mps=1.6,
        ),
        Species(
            name="rhino",
            taxon="Diceros bicornis",
            resting=Gait(0.005, 0.8, 0.1),
            foraging=Gait(0.08, 1.0, 0.6),
            migrating=Gait(0.45, 2.5, 2.0),
            peaks_h=(6.0, 19.0),
            wanderlust=0.20,
            home_radius_m=3_500.0,
            migration_m=0.0,
            top_speed_mps=1.2,
        ),
    )
}


class Position(msgspec.Struct, frozen=True):
    """Where an animal is, rounded to 1e-7 degree as receivers report it."""

    lon_deg: float
    lat_deg: float


class Walker:
    """One animal from ``start`` on; ``advance`` moves it forward in time, never back."""

    def __init__(
        self,
        species: Species,
        *,
        home_lon_deg: float,
        home_lat_deg: float,
        start: datetime,
        rng: np.random.Generator,
    ) -> None:
        self.species = species
        self.state: State = "foraging"
        self._rng = rng
        self._home_lon_deg = home_lon_deg
        self._home_lat_deg = home_lat_deg
        self._at = start
        east_m, north_m = self._centre_m()
        self._east_m = east_m + float(rng.normal(0.0, species.home_radius_m / 3))
        self._north_m = north_m + float(rng.normal(0.0, species.home_radius_m / 3))
        self._heading_rad = float(rng.uniform(-math.pi, math.pi))

    def advance(self, to: datetime) -> Position:
        """Return where the animal is at ``to``."""
        while (left_s := (to - self._at).total_seconds()) > 0:
            step_s = min(STEP_S, left_s)
            self._step(step_s)
            self._at += timedelta(seconds=step_s)
        lat_deg = self._home_lat_deg + self._north_m / _METRES_PER_DEGREE
        metres_per_degree_east = _METRES_PER_DEGREE * math.cos(math.radians(self._home_lat_deg))
        lon_deg = self._home_lon_deg + self._east_m / metres_per_degree_east
        return Position(round((lon_deg + 180.0) % 360.0 - 180.0, 7), round(lat_deg, 7))

    def _step(self, step_s: float) -> None:
        self._choose_state(step_s)
        gait = self.species.gait(self.state)
        mean_m = gait.speed_mps * step_s
        length_m = float(self._rng.gamma(gait.shape, mean_m / gait.shape))
        length_m = min(length_m, self.species.top_speed_mps * step_s)
        heading_rad = self._heading_rad + float(self._rng.vonmises(0.0, gait.kappa))
        self._heading_rad = self._drawn_home(heading_rad)
        self._east_m += length_m * math.sin(self._heading_rad)
        self._north_m += length_m * math.cos(self._heading_rad)

    def _choose_state(self, step_s: float) -> None:
        if self._rng.random() < math.exp(-step_s / _STAY_S[self.state]):
            return
        utc_h = (self._at.astimezone(UTC).timestamp() % 86_400.0) / 3_600.0
        activity = self.species.activity((utc_h + self._home_lon_deg / 15.0) % 24.0)
        moving = activity * self.species.wanderlust
        draw = self._rng.random()
        if draw < 1.0 - activity:
            self.state = "resting"
        else:
            self.state = "migrating" if self._rng.random() < moving else "foraging"

    def _drawn_home(self, heading_rad: float) -> float:
        """Return the heading, bent towards the centre of the home range as the distance grows."""
        east_m, north_m = self._centre_m()
        east_m -= self._east_m
        north_m -= self._north_m
        pull = min(3.0, (math.hypot(east_m, north_m) / self.species.home_radius_m) ** 2)
        homeward_rad = math.atan2(east_m, north_m)
        return math.atan2(
            math.sin(heading_rad) + pull * math.sin(homeward_rad),
            math.cos(heading_rad) + pull * math.cos(homeward_rad),
        )

    def _centre_m(self) -> tuple[float, float]:
        """Return the centre of the home range, metres east and north of its mean, at this time of the year."""
        phase = 2 * math.pi * (self._at.timestamp() % _YEAR_S) / _YEAR_S
        along_m = self.species.migration_m * math.sin(phase)
        return 0.3 * along_m, 0.95 * along_m
