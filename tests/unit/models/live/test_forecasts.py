"""Forecasts of a home's animals: once a fix, a few at a time, kept for an hour."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from models.artifact import PACKAGED
from models.live.forecasts import AT_ONCE, KEPT_S, OWN_KEPT_S, Forecasts, OwnPast, worked_out
from models.live.runtime import Fixes, Models
from shared.domain import Animal, Fix
from shared.store import LiveAnimal
from tests.fakes import FakeClock

pytestmark = [pytest.mark.unit, pytest.mark.ml]

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def models() -> Models:
    return Models()


def animal(number: int, *, fix: int = 0, species: str = "elephant") -> LiveAnimal:
    """Return an animal whose newest fix has a number."""
    at = AT + timedelta(minutes=fix)
    newest = Fix(
        id=f"{number}-{fix}", collar_id="K", animal_id=f"a{number}", recorded_at=at, raw_recorded_at=at, received_at=at,
        network_time=None, lon_deg=37.5, lat_deg=-2.5, alt_m=None, speed_mps=None, heading_deg=None, hdop=None,
        pdop=None, sats=None, h_acc_m=None, seq=None, battery_mv=None, battery_pct=None, temperature_c=None,
        rssi_dbm=None, snr_db=None, source="collar", flags=0,
    )  # fmt: skip
    named = Animal(id=f"a{number}", name=f"A{number}", species=species, created_at=AT, updated_at=AT)
    return LiveAnimal(animal=named, fix=newest, previous=None)


def track(hours: int = 48) -> Fixes:
    """Return hourly fixes up to noon."""
    rng = np.random.default_rng(1)
    nothing = np.full(hours, np.nan)
    return Fixes(
        times_s=AT.timestamp() - 3600.0 * np.arange(hours - 1, -1, -1, dtype=np.float64),
        lon_deg=37.5 + np.cumsum(rng.normal(0, 0.004, hours)),
        lat_deg=-2.5 + np.cumsum(rng.normal(0, 0.004, hours)),
        h_acc_m=nothing,
        hdop=nothing,
    )


def test_what_is_worked_out_is_kept_until_a_newer_fix_or_an_hour(models: Models) -> None:
    clock = FakeClock()
    forecasts = Forecasts(models, clock.monotonic)
    one = animal(1)
    assert forecasts.wanted([one]) == [one]
    assert forecasts.of(one, AT).missing == "waits for its turn"
    forecasts.work_out([(one, track())])
    assert forecasts.wanted([one]) == []
    found = forecasts.of(one, AT)
    assert [each.horizon_h for each in found.predicted] == [1, 3, 6, 12, 24]
    assert found.missing is None
    assert [each.at for each in found.predicted] == [AT + timedelta(hours=h) for h in (1, 3, 6, 12, 24)]
    newer = animal(1, fix=60)
    assert forecasts.of(newer, AT).missing == "waits for its turn"
    assert forecasts.wanted([newer]) == [newer]
    clock.tick(KEPT_S + 1)
    assert forecasts.wanted([one]) == [one]


def test_what_is_past_is_no_prediction(models: Models) -> None:
    forecasts = Forecasts(models, FakeClock().monotonic)
    one = animal(1)
    forecasts.work_out([(one, track())])
    assert [each.horizon_h for each in forecasts.of(one, AT + timedelta(hours=7)).predicted] == [12, 24]
    late = forecasts.of(one, AT + timedelta(days=2))
    assert (late.predicted, late.missing) == ((), "its newest fix is too old")


def test_a_large_herd_is_worked_out_in_turns_and_nobody_starves(models: Models) -> None:
    forecasts = Forecasts(models, FakeClock().monotonic)
    herd = [animal(n) for n in range(2 * AT_ONCE)]
    first = forecasts.wanted(herd)
    assert len(first) == AT_ONCE
    forecasts.work_out([(each, track(4)) for each in first])
    moved = [animal(n, fix=1) if each in first else each for n, each in enumerate(herd)]
    assert forecasts.wanted(moved) == [each for each in herd if each not in first]


def test_animals_that_are_gone_are_forgotten(models: Models) -> None:
    forecasts = Forecasts(models, FakeClock().monotonic)
    one = animal(1)
    forecasts.work_out([(one, track(4))])
    forecasts.wanted([animal(2)])
    assert forecasts.of(one, AT).missing == "waits for its turn"


def test_without_any_model_the_reason_is_said(tmp_path: Path) -> None:
    shutil.copytree(PACKAGED / "hmm", tmp_path / "hmm")
    forecasts = Forecasts(Models(tmp_path), FakeClock().monotonic)
    one = animal(1)
    forecasts.work_out([(one, track(4))])
    missing = forecasts.of(one, AT).missing
    assert missing is not None
    assert "no usable forecast model" in missing


def test_a_fault_of_the_model_is_named_and_costs_nobody_else(models: Models) -> None:
    forecasts = Forecasts(models, FakeClock().monotonic)
    elephant, other = animal(1), animal(2, species="giraffe")
    twisted = track(4)
    twisted = Fixes(
        times_s=twisted.times_s, lon_deg=twisted.lon_deg[:2], lat_deg=twisted.lat_deg, h_acc_m=twisted.h_acc_m,
        hdop=twisted.hdop,
    )  # fmt: skip
    forecasts.work_out([(elephant, twisted), (other, track(4))])
    missing = forecasts.of(elephant, AT).missing
    assert missing is not None
    assert missing.startswith("failed: ")
    assert len(forecasts.of(other, AT).predicted) == 5


# --- distances of its own past forecasts that are kept
def test_a_forecast_from_kept_distances_is_the_one_that_looks_back_anew(models: Models) -> None:
    fixes = track(72 * 24)
    past = OwnPast()
    (anew,) = worked_out(models, [("elephant", fixes)], past, ["a"])
    own = past.of("a", float(fixes.times_s[-1]))
    assert own is not None
    assert own.shape[0] == 5
    (kept,) = worked_out(models, [("elephant", fixes)], past, ["a"])
    assert not isinstance(anew, str)
    assert not isinstance(kept, str)
    for one, other in zip(anew, kept, strict=True):
        assert (one.at, one.model) == (other.at, other.model)
        for name in ("lon_deg", "lat_deg", "semi_major_50_m", "semi_major_90_m", "semi_minor_90_m"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-4)


def test_distances_are_kept_for_a_day_of_the_fixes_and_of_few_past_forecasts_not_at_all(models: Models) -> None:
    fixes = track(72 * 24)
    past, at_s = OwnPast(), float(fixes.times_s[-1])
    worked_out(models, [("elephant", fixes), ("elephant", track(2))], past, ["a", "young"])
    assert past.of("a", at_s + OWN_KEPT_S - 1) is not None
    assert past.of("a", at_s + OWN_KEPT_S) is None
    assert past.of("a", at_s - 1) is None, "a fix of before knows less"
    assert past.of("young", at_s) is None
