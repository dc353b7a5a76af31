"""The forecast at a station."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.forecast.baselines import HORIZONS_H, NAMES
from models.forecast.fitted import ENGINES, NETWORK
from models.forecast.runtime import Ellipse, Forecaster, Track, group_of, load_forecaster
from shared.errors import Invalid, ModelUnavailable
from tests.unit.models.forecast.commuters import HOUR_S, M_PER_DEG, commuter

pytestmark = [pytest.mark.unit, pytest.mark.ml]

ELEPHANT = "Loxodonta africana"


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "artifacts")
    return tmp_path / "artifacts"


def place(folder: Path) -> Path:
    return folder / "forecast" / "1"


def test_a_forecast_has_every_horizon_and_says_who_spoke(trained: Path) -> None:
    forecaster = load_forecaster(ELEPHANT, trained)
    times, lon, lat = commuter(50, 99)
    found = forecaster.predict(times, lon, lat)
    assert [one.horizon_s for one in found] == [hours * HOUR_S for hours in HORIZONS_H]
    assert [one.model for one in found] == [forecaster.models[hours] for hours in HORIZONS_H]
    for one in found:
        assert one.made_at_s == times[-1]
        assert one.model == NETWORK or one.model in NAMES
        assert 0 < one.ellipse50.semi_minor_m <= one.ellipse50.semi_major_m < one.ellipse90.semi_major_m
        assert 0 <= one.ellipse90.bearing_deg < 180
        assert abs(one.lon_deg - lon[-1]) * M_PER_DEG < 20_000
        assert one.n_own > 10


def test_the_order_of_fixes_does_not_matter(trained: Path) -> None:
    forecaster = load_forecaster(ELEPHANT, trained)
    times, lon, lat = commuter(40, 98)
    order = np.random.default_rng(1).permutation(times.size)
    assert forecaster.predict(times, lon, lat) == forecaster.predict(times[order], lon[order], lat[order])


def test_fixes_of_long_ago_change_nothing(trained: Path) -> None:
    forecaster = load_forecaster(ELEPHANT, trained)
    times, lon, lat = commuter(60, 97)
    recent = times > times[-1] - 43 * 24 * HOUR_S
    for long, short in zip(
        forecaster.predict(times, lon, lat), forecaster.predict(times[recent], lon[recent], lat[recent]), strict=True
    ):
        assert abs(long.lon_deg - short.lon_deg) * M_PER_DEG < 1.0
        assert abs(long.lat_deg - short.lat_deg) * M_PER_DEG < 1.0
        assert long.ellipse90.semi_major_m == pytest.approx(short.ellipse90.semi_major_m, rel=0.02)


def test_many_animals_at_once_are_as_each_alone(trained: Path) -> None:
    forecaster = load_forecaster(ELEPHANT, trained)
    tracks = [commuter(35 + k, 90 + k) for k in range(3)]
    together = forecaster.predict_many([Track(times_s=t, lon_deg=x, lat_deg=y) for t, x, y in tracks])
    assert forecaster.predict_many([]) == []
    for found, track in zip(together, tracks, strict=True):
        for mine, alone in zip(found, forecaster.predict(*track), strict=True):
            assert abs(mine.lon_deg - alone.lon_deg) * M_PER_DEG < 0.5
            assert mine.ellipse50.semi_major_m == pytest.approx(alone.ellipse50.semi_major_m, rel=1e-3)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_new_collar_has_a_forecast(trained: Path, n: int) -> None:
    times, lon, lat = commuter(1, 5)
    found = load_forecaster(ELEPHANT, trained).predict(times[:n], lon[:n], lat[:n])
    assert all(np.isfinite([one.lon_deg, one.lat_deg, one.ellipse90.semi_major_m]).all() for one in found)
    assert found[-1].n_own == 0


def test_given_states_are_used(trained: Path) -> None:
    forecaster = load_forecaster(ELEPHANT, trained)
    times, lon, lat = commuter(40, 96)
    resting = np.tile([0.98, 0.01, 0.01], (times.size, 1))
    assert forecaster.predict(times, lon, lat, states=resting) != forecaster.predict(times, lon, lat)


def test_what_is_no_track_is_refused(trained: Path) -> None:
    forecaster = load_forecaster(ELEPHANT, trained)
    nowhere = np.full(3, np.nan)
    with pytest.raises(Invalid, match="needs a fix"):
        forecaster.predict(np.arange(3.0), nowhere, nowhere)
    with pytest.raises(Invalid, match="one length"):
        forecaster.predict(np.arange(3.0), np.zeros(2), np.zeros(3))
    with pytest.raises(Invalid, match="states"):
        forecaster.predict(np.arange(3.0), np.zeros(3), np.zeros(3), states=np.zeros((2, 3)))


def test_an_ellipse_points_where_its_spread_does() -> None:
    from models.forecast.runtime import _ellipse

    assert _ellipse(np.array([100.0, 10.0]), 0.0, np.array([0.0, 1.0])) == Ellipse(
        semi_major_m=100.0, semi_minor_m=10.0, bearing_deg=0.0
    )
    # Along and across agree: the long axis is left of a heading to the east.
    assert _ellipse(np.array([50.0, 50.0]), 0.8, np.array([1.0, 0.0])).bearing_deg == pytest.approx(45.0)
    rng = np.random.default_rng(3)
    for along_m, across_m, correlation in rng.uniform((1, 1, -0.99), (900, 900, 0.99), (50, 3)).tolist():
        between = correlation * along_m * across_m
        variances = np.linalg.eigvalsh(np.array([[along_m**2, between], [between, across_m**2]]))
        found = _ellipse(np.array([along_m, across_m]), correlation, np.array([0.6, 0.8]))
        assert (found.semi_minor_m**2, found.semi_major_m**2) == pytest.approx(tuple(variances), rel=1e-6, abs=1e-3)


def test_an_animal_is_forecast_alike_alone_and_among_others(trained: Path) -> None:
    tracks = [
        Track(times_s=times, lon_deg=lon, lat_deg=lat)
        for times, lon, lat in (commuter(days, seed) for days, seed in ((40, 95), (3, 96), (20, 97), (33, 98)))
    ]
    forecaster = load_forecaster(ELEPHANT, trained, engine="numpy")
    together = forecaster.with_own(tracks)
    # the second time each brings the distances of its own past forecasts, as a station keeps them
    later = [msgspec.structs.replace(track, own=own) for track, (_, own) in zip(tracks, together, strict=True)]
    for track, at_first, again in zip(tracks, together, forecaster.with_own(later), strict=True):
        alone, own = forecaster.with_own([track])[0]
        np.testing.assert_allclose(own, at_first[1], rtol=1e-5, equal_nan=True)
        for one in (at_first[0], again[0]):
            for mine, theirs in zip(alone, one, strict=True):
                assert (mine.lon_deg, mine.lat_deg) == pytest.approx((theirs.lon_deg, theirs.lat_deg), abs=1e-7)
                assert mine.ellipse90.semi_major_m == pytest.approx(theirs.ellipse90.semi_major_m, rel=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_serves_the_same_forecast(trained: Path, engine: str) -> None:
    times, lon, lat = commuter(40, 95)
    plain = load_forecaster(ELEPHANT, trained, engine="numpy").predict(times, lon, lat)
    for mine, theirs in zip(
        load_forecaster(ELEPHANT, trained, engine=engine).predict(times, lon, lat), plain, strict=True
    ):
        away_m = np.hypot(mine.lon_deg - theirs.lon_deg, mine.lat_deg - theirs.lat_deg) * M_PER_DEG
        assert away_m < 0.2 * theirs.ellipse50.semi_major_m


def test_litert_is_tried_first(trained: Path) -> None:
    network = load_forecaster(ELEPHANT, trained).network()
    assert network.engine.name == ENGINES[0] == "litert"
    assert network.refused == ()
    with pytest.raises(Invalid, match="no such engine"):
        load_forecaster(ELEPHANT, trained, engine="abacus")


def broken(folder: Path, damage: str) -> None:
    path = place(folder) / f"{NETWORK}.bin"
    manifest = place(folder) / f"{NETWORK}.json"
    if damage == "missing":
        path.unlink()
    elif damage == "altered":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        found = msgspec.json.decode(manifest.read_bytes())
        for array in found["arrays"]:
            if array["name"] == "first_weight":
                array["shape"] = [array["shape"][1], array["shape"][0]]
        manifest.write_bytes(msgspec.json.encode(found))


@pytest.mark.parametrize("damage", ["missing", "altered", "of the wrong shape"])
def test_without_its_network_the_plain_forecasts_serve(copy: Path, damage: str) -> None:
    broken(copy, damage)
    forecaster = load_forecaster(ELEPHANT, copy)
    assert forecaster.unavailable
    with pytest.raises(ModelUnavailable, match="network"):
        forecaster.network()
    times, lon, lat = commuter(40, 94)
    assert {one.model for one in forecaster.predict(times, lon, lat)} <= set(NAMES)


def test_the_version_before_a_broken_one_stays(copy: Path) -> None:
    shutil.copytree(place(copy), copy / "forecast" / "2")
    for path in (copy / "forecast" / "2").glob("*.json"):
        found = msgspec.json.decode(path.read_bytes())
        path.write_bytes(msgspec.json.encode({**found, "version": 2}))
    assert load_forecaster(ELEPHANT, copy).network().version == 2
    altered = bytearray((copy / "forecast" / "2" / f"{NETWORK}.bin").read_bytes())
    altered[0] ^= 1
    (copy / "forecast" / "2" / f"{NETWORK}.bin").write_bytes(altered)
    network = load_forecaster(ELEPHANT, copy).network()
    assert network.version == 1
    assert "sha256 differs" in network.refused[0]


def resealed(folder: Path, name: str, values: bytes) -> None:
    """Put other bytes in the place of an array, with a manifest that says so."""
    import hashlib

    path, manifest = place(folder) / f"{NETWORK}.bin", place(folder) / f"{NETWORK}.json"
    found = msgspec.json.decode(manifest.read_bytes())
    data, offset = bytearray(path.read_bytes()), 0
    for array in found["arrays"]:
        size = int(np.prod(array["shape"])) * np.dtype(array["number_format"]).itemsize
        if array["name"] == name:
            data[offset : offset + size] = values[:size].ljust(size, b"\0")
        offset += size
    path.write_bytes(data)
    manifest.write_bytes(msgspec.json.encode({**found, "sha256": hashlib.sha256(data).hexdigest()}))


def test_an_engine_that_answers_wrongly_is_passed_over_for_the_next(copy: Path) -> None:
    resealed(copy, "tflite", b"no model")
    network = load_forecaster(ELEPHANT, copy).network()
    assert network.engine.name == "onnx"
    assert "litert" in network.refused[0]
    resealed(copy, "onnx", b"no model")
    assert load_forecaster(ELEPHANT, copy).network().engine.name == "numpy"
    resealed(copy, "probe_heads", np.full(100_000, 9.0, dtype=np.float32).tobytes())
    assert "stored question" in (load_forecaster(ELEPHANT, copy).unavailable or "")


def test_with_nothing_usable_the_model_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable):
        load_forecaster(ELEPHANT, tmp_path)


def test_an_unknown_species_has_the_numbers_of_any_other(trained: Path) -> None:
    assert group_of("Panthera leo") is None
    assert group_of("african elephant") == "elephant"
    times, lon, lat = commuter(30, 93)
    for species in (None, "Panthera leo"):
        forecaster = load_forecaster(species, trained)
        assert isinstance(forecaster, Forecaster)
        assert len(forecaster.predict(times, lon, lat)) == len(HORIZONS_H)


def test_a_station_needs_nothing_of_training_and_no_engine_before_the_first_forecaster(trained: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from models.forecast.runtime import load_forecaster\n"
        "engines = {'onnxruntime', 'ai_edge_litert'}\n"
        "training = {'torch', 'onnx', 'scipy', 'hmmlearn', 'sklearn', 'models.forecast.train'}\n"
        "assert not (engines | training) & set(sys.modules)\n"
        f"load_forecaster('elephant', Path({str(trained)!r}))\n"
        "assert not training & set(sys.modules), training & set(sys.modules)\n"
        "assert 'onnxruntime' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_without_any_engine_installed_numpy_serves(trained: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "sys.modules['onnxruntime'] = None\n"
        "sys.modules['ai_edge_litert.interpreter'] = None\n"
        "from models.forecast.runtime import load_forecaster\n"
        f"network = load_forecaster('elephant', Path({str(trained)!r})).network()\n"
        "assert network.engine.name == 'numpy', network.refused\n"
        "assert len(network.refused) == 2\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
