"""Other systems' files into a real store and out of it again: no fix lost, no decision lost, the same bytes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from edge.ops.import_deployments import ImportedDeployments, import_deployments
from edge.ops.import_tracks import Imported, import_tracks
from edge.ops.verify import verify
from edge.store.export import Selection, export_tracks
from edge.store.store import SpatialiteStore
from shared.domain import Fix, FixFlag, NewFix
from shared.errors import Forbidden, Invalid, NotFound
from shared.privacy import OPERATOR, Principal, View, view_for
from shared.store import AnimalQuery, FixQuery
from tests import real_data
from tests.fakes import START, FakeClock

pytestmark = pytest.mark.integration

VIEW = view_for(OPERATOR)
HOUR = timedelta(hours=1)
FULL = bool(os.environ.get("OUTPOST_NIGHTLY"))
#: Of each real file so many rows, where the night has not time for all.
ROWS = 3_000
FILES = ("elephant_wall2014_movebank.csv", "wildebeest_mara_stabach.csv", "buffalo_kruger_cross2016.csv")
HEADER = "individual,timestamp,lon,lat,species,collar_id,hdop,flags"


@contextlib.asynccontextmanager
async def a_store(path: Path) -> AsyncIterator[SpatialiteStore]:
    store = SpatialiteStore(path, None, now=FakeClock().now, synchronous="NORMAL")
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SpatialiteStore]:
    async with a_store(tmp_path / "station.db") as store:
        yield store


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[SpatialiteStore]:
    async with a_store(tmp_path / "other.db") as store:
        yield store


async def load(store: SpatialiteStore, path: Path, **options: Any) -> Imported:
    return await import_tracks(store, VIEW, path, received_at=START + 9_999 * HOUR, **options)


async def export(store: SpatialiteStore, path: Path, form: str, **selection: Any) -> int:
    return await export_tracks(store, VIEW, path, Selection(**selection), form=form)


async def fixes(store: SpatialiteStore, **query: Any) -> list[Fix]:
    return (await store.fixes(VIEW, FixQuery(ordering="timestamp", limit=1_000, **query))).results


def real(name: str, folder: Path) -> Path:
    """Return a real track file, or its beginning and its end where only a tenth is asked for."""
    path = real_data.tracks(name)
    if FULL:
        return path
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    part = folder / name
    part.write_text("\n".join((head, *lines[:ROWS], *lines[-ROWS:])) + "\n", encoding="utf-8")
    return part


def tidy(folder: Path, *rows: str, name: str = "tracks.csv", header: str = HEADER) -> Path:
    path = folder / name
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return path


def row(hour: float, who: str = "Ayo", *, lon: float | str = 37.5, hdop: str = "", flags: str = "") -> str:
    at = (START + hour * HOUR).isoformat().replace("+00:00", "Z")
    return f"{who},{at},{lon},{'' if lon == '' else -2.5},elephant,K-{who},{hdop},{flags}"


# --- real tracks, there and back
@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
async def test_movebank_of_real_tracks_is_the_same_bytes_after_an_import_elsewhere(
    name: str, store: SpatialiteStore, other: SpatialiteStore, tmp_path: Path
) -> None:
    path = real(name, tmp_path)
    told = await load(store, path)
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    assert await export(store, first, "movebank") == told.new
    done = await load(other, first)
    assert (done.new, done.refused, done.excluded) == (told.new, 0, 0)
    assert (await verify(other, path)).differences == 0
    assert await export(other, second, "movebank") == told.new
    assert first.read_bytes() == second.read_bytes()
    again = await load(other, second)
    assert (again.new, again.duplicates) == (0, told.new)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["gpx", "geojson"])
async def test_a_round_trip_of_a_real_track_keeps_every_fix(
    form: str, store: SpatialiteStore, other: SpatialiteStore, tmp_path: Path
) -> None:
    path = real("wildebeest_mara_stabach.csv", tmp_path)
    told = await load(store, path)
    out, back = tmp_path / f"out.{form}", tmp_path / f"back.{form}"
    assert await export(store, out, form) == told.new
    assert (await load(other, out)).new == told.new
    assert (await verify(other, path)).differences == 0
    assert (await verify(store, out)).differences == 0
    await export(other, back, form)
    assert out.read_bytes() == back.read_bytes()


# --- what a fix is
@pytest.mark.parametrize("form", ["tidy", "movebank", "gpx", "geojson"])
async def test_failed_and_impossible_fixes_and_decisions_survive_a_round_trip(
    form: str, store: SpatialiteStore, other: SpatialiteStore, tmp_path: Path
) -> None:
    rows = [
        row(0),
        row(1, lon=""),
        row(2, hdop="99"),
        row(3, hdop="99"),
        row(4),
        row(5, lon=39.5),
        row(6),
        row(0, "Bo"),
    ]
    await load(store, tidy(tmp_path, *rows))
    here = await fixes(store, collar_id="K-Ayo")
    await store.flag_fix(VIEW, here[0].id, is_excluded=True)
    await store.flag_fix(VIEW, here[2].id, is_excluded=False)
    out = tmp_path / f"out.{form if form in ('gpx', 'geojson') else 'csv'}"
    assert await export(store, out, form) == 8
    done = await load(other, out)
    assert (done.new, done.refused, done.excluded, done.reinstated) == (8, 0, 1, 1)
    there = await fixes(other, collar_id="K-Ayo")
    assert [(fix.id, FixFlag(fix.flags)) for fix in there] == [
        (fix.id, FixFlag(fix.flags)) for fix in await fixes(store, collar_id="K-Ayo")
    ]
    assert [FixFlag(fix.flags) for fix in there] == [
        FixFlag.EXCLUDED_BY_HAND, FixFlag.NO_FIX, FixFlag.POOR_DOP | FixFlag.REINSTATED, FixFlag.POOR_DOP, FixFlag(0),
        FixFlag.IMPOSSIBLE_SPEED, FixFlag(0),
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["gpx", "geojson", "movebank"])
async def test_everything_a_collar_says_survives_a_round_trip(
    form: str, store: SpatialiteStore, other: SpatialiteStore, tmp_path: Path
) -> None:
    said = {
        "alt_m": 1200.25, "speed_mps": 0.1, "heading_deg": 359.9, "hdop": 1.1, "pdop": 2.2, "sats": 7, "h_acc_m": 12.5,
        "seq": 70_000, "battery_mv": 3_611, "battery_pct": 77.7, "temperature_c": -4.4,
    }  # fmt: skip
    animal = await store.create_animal(VIEW, {"name": "Ayo", "species": "elephant"})
    span = {"animal_id": animal.id, "collar_id": "K1", "started_at": START - HOUR, "ended_at": None}
    await store.create_deployment(VIEW, span)
    at = START + timedelta(milliseconds=250)
    heard = [
        NewFix(device="collar:K1", recorded_at=at, received_at=at, lon_deg=37.1234567, lat_deg=-2.7654321, **said),  # type: ignore[arg-type] # names and kinds fit
        NewFix(device="collar:K1", recorded_at=at + HOUR, received_at=at, lon_deg=None, lat_deg=None, **said),  # type: ignore[arg-type] # names and kinds fit
    ]
    await store.add_fixes(VIEW, heard)
    out = tmp_path / f"out.{'csv' if form == 'movebank' else form}"
    await export(store, out, form)
    assert (await load(other, out)).new == 2
    for fix in await fixes(other):
        assert {name: getattr(fix, name) for name in said} == said


async def test_what_another_system_doubts_is_taken_out_unless_our_rules_have_or_a_person_decided_here(
    store: SpatialiteStore, tmp_path: Path
) -> None:
    rows = [row(0, flags="future"), row(1, hdop="99", flags="poor_dop"), row(2, flags="duplicate no_fix"), row(3)]
    path = tidy(tmp_path, *rows)
    done = await load(store, path)
    assert done.excluded == 1
    found = await fixes(store)
    assert [FixFlag(fix.flags) for fix in found] == [
        FixFlag.EXCLUDED_BY_HAND, FixFlag.POOR_DOP, FixFlag(0), FixFlag(0),
    ]  # fmt: skip
    excluded = tidy(tmp_path, row(1, hdop="99", flags="excluded_by_hand"), name="again.csv")
    await store.flag_fix(VIEW, found[1].id, is_excluded=False)
    assert (await load(store, excluded)).excluded == 0
    assert FixFlag((await fixes(store))[1].flags) == FixFlag.POOR_DOP | FixFlag.REINSTATED


async def test_positions_without_a_collar_come_back_under_their_animal(
    store: SpatialiteStore, other: SpatialiteStore, tmp_path: Path
) -> None:
    animal = await store.create_animal(VIEW, {"name": "Ayo", "species": "elephant"})
    await store.add_fixes(
        VIEW,
        [NewFix(device=f"animal:{animal.id}", recorded_at=START, received_at=START, lon_deg=37.5, lat_deg=-2.5)],
    )
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    await export(store, first, "movebank")
    await load(other, first)
    await export(other, second, "movebank")
    assert first.read_bytes() == second.read_bytes()
    (seen,) = await fixes(other)
    (there,) = (await other.animals(VIEW, AnimalQuery())).results
    assert (seen.animal_id, seen.collar_id) == (there.id, f"animal:{there.id}")


async def test_an_undeployed_event_stays_under_its_collar(store: SpatialiteStore, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(
        "timestamp,location-long,location-lat,sensor-type,tag-local-identifier,individual-local-identifier\n"
        "2026-06-01 12:00:00.000,37.5,-2.5,gps,K9,\n2026-06-01 12:00:00.000,,,acceleration,K9,\n"
    )
    done = await load(store, path)
    assert (done.new, done.other_sensors, done.animals_created) == (1, 1, 0)
    (only,) = await fixes(store)
    assert (only.collar_id, only.animal_id) == ("K9", None)
    assert (await verify(store, tidy(tmp_path, row(0)))).missing == 1


# --- deployments
async def deployments_of(store: SpatialiteStore, path: Path) -> ImportedDeployments:
    return await import_deployments(store, VIEW, path)


REFERENCE = "tag-id,animal-id,animal-taxon,deploy-on-date,deploy-off-date,animal-sex"


async def test_reference_data_adopt_what_a_collar_said_before_and_twice_is_once(
    store: SpatialiteStore, other: SpatialiteStore, tmp_path: Path
) -> None:
    heard = NewFix(device="collar:K1", recorded_at=START, received_at=START, lon_deg=37.5, lat_deg=-2.5)
    await store.add_fixes(VIEW, [heard])
    path = tidy(
        tmp_path, "K1,Ayo,Loxodonta africana,2026-05-01 00:00:00.000,2026-07-01 00:00:00.000,f",
        "K2,Ayo,,2026-07-01 00:00:00.000,,f", "K1,Bo,elephant,2026-06-01,,m", header=REFERENCE, name="reference.csv",
    )  # fmt: skip
    done = await deployments_of(store, path)
    assert (done.rows, done.new, done.animals_created, done.refused) == (3, 2, 2, 1)
    assert done.problems[0].startswith("line 4: ")
    (adopted,) = await fixes(store)
    assert adopted.animal_id is not None
    again = await deployments_of(store, path)
    assert (again.new, again.duplicates, again.animals_created) == (0, 2, 0)
    out, back = tmp_path / "out.csv", tmp_path / "back.csv"
    assert await export(store, out, "movebank-reference") == 2
    assert (await deployments_of(other, out)).new == 2
    await export(other, back, "movebank-reference")
    assert [line.split(",")[:6] for line in out.read_text().splitlines()] == [
        line.split(",")[:6] for line in back.read_text().splitlines()
    ]


async def test_reference_data_correct_what_an_import_of_fixes_could_only_guess(
    store: SpatialiteStore, tmp_path: Path
) -> None:
    await load(store, tidy(tmp_path, row(0), row(1)))
    path = tidy(tmp_path, "K-Ayo,Ayo,,2026-01-01,2026-12-31,", header=REFERENCE, name="reference.csv")
    done = await deployments_of(store, path)
    assert (done.new, done.corrected, done.refused) == (0, 1, 0)
    (only,) = (await store.deployments(VIEW, animal_id=None, collar_id=None, offset=0, limit=9)).results
    assert (only.started_at.year, only.ended_at and only.ended_at.year) == (2026, 2027)


# --- time zones
NAIVE = "individual,timestamp,lon,lat"


async def test_a_file_of_times_without_a_zone_is_refused_and_nothing_of_it_is_kept(
    store: SpatialiteStore, tmp_path: Path
) -> None:
    path = tidy(tmp_path, "Ayo,2026-06-01 12:00:00,37.5,-2.5", header=NAIVE)
    with pytest.raises(Invalid, match="--timezone AREA/CITY, or --utc"):
        await load(store, path)
    assert (await store.animals(VIEW, AnimalQuery())).count == 0
    assert (await load(store, path, zone=ZoneInfo("Africa/Nairobi"))).new == 1
    (only,) = await fixes(store)
    assert only.recorded_at == START - 3 * HOUR
    assert (await verify(store, path, zone=ZoneInfo("Africa/Nairobi"))).differences == 0


async def test_hours_that_clocks_skip_or_repeat_are_refused_by_line(store: SpatialiteStore, tmp_path: Path) -> None:
    path = tidy(
        tmp_path, "Ayo,2026-10-25 01:30:00,37.5,-2.5", "Ayo,2026-10-25 02:30:00,37.5,-2.5",
        "Ayo,2026-03-29 02:30:00,37.5,-2.5", "Ayo,2026-10-25 03:30:00,37.5,-2.5", header=NAIVE,
    )  # fmt: skip
    said: list[tuple[int, str]] = []
    done = await load(store, path, zone=ZoneInfo("Europe/Berlin"), refused=lambda line, why: said.append((line, why)))
    assert (done.new, done.refused) == (2, 2)
    assert [line for line, _ in said] == [3, 4]
    assert "twice" in said[0][1]
    assert "never" in said[1][1]


async def test_a_row_without_a_zone_among_others_costs_that_row(store: SpatialiteStore, tmp_path: Path) -> None:
    path = tidy(tmp_path, "Ayo,2026-06-01T12:00:00Z,37.5,-2.5", "Ayo,2026-06-01 13:00:00,37.5,-2.5", header=NAIVE)
    done = await load(store, path)
    assert (done.new, done.refused) == (1, 1)


# --- twins
def way(n: int, shift_h: float = 0.0, start: int = 0) -> list[str]:
    """Return rows of an hourly way; the same places again, ``shift_h`` later."""
    rows = []
    for k in range(start, start + n):
        at = (START + (k + shift_h) * HOUR).isoformat().replace("+00:00", "Z")
        rows.append(f"Ayo,{at},{37.5 + k * 0.0031237:.7f},{-2.5 - k % 7 * 0.0021111:.7f},elephant,K-Ayo,,")
    return rows


async def test_a_file_in_another_zone_than_it_is_read_in_is_refused_beside_what_a_collar_said(
    store: SpatialiteStore, tmp_path: Path
) -> None:
    await load(store, tidy(tmp_path, *way(30)))
    late = tidy(tmp_path, *way(30, shift_h=3), name="late.csv")
    with pytest.raises(Invalid, match=r"exactly 3:00 h earlier.*--timezone AREA/CITY, or --keep-twins"):
        await load(store, late)
    assert len(await fixes(store)) == 30
    early = tidy(tmp_path, *way(30, shift_h=-5.5), name="early.csv")
    with pytest.raises(Invalid, match="exactly 5:30 h later"):
        await load(store, early)
    kept = await load(store, late, is_keeping_twins=True)
    assert (kept.new, kept.refused) == (30, 0)
    again = await load(store, late)
    assert (again.new, again.duplicates, again.refused) == (0, 30, 0)  # what is stored is no twin of anything


async def test_an_hour_that_a_file_tells_twice_is_refused_row_by_row(store: SpatialiteStore, tmp_path: Path) -> None:
    path = tidy(tmp_path, *way(60), *way(6, shift_h=1, start=20))
    said: list[tuple[int, str]] = []
    done = await load(store, path, refused=lambda line, why: said.append((line, why)))
    assert (done.new, done.refused) == (60, 6)
    assert [line for line, _ in said] == list(range(62, 68))
    assert all("exactly 1:00 h earlier" in why for _, why in said)


# --- which fixes leave, and where to
async def test_an_export_can_be_narrowed_by_animal_and_time(store: SpatialiteStore, tmp_path: Path) -> None:
    await load(store, tidy(tmp_path, *(row(hour) for hour in range(6)), row(2, "Bo")))
    out = tmp_path / "out.geojson"
    assert await export(store, out, "geojson", animal="Ayo", since=START + 2 * HOUR, until=START + 4 * HOUR) == 2
    found = json.loads(out.read_text())["features"]
    assert [each["properties"]["time"] for each in found] == ["2026-06-01T14:00:00Z", "2026-06-01T15:00:00Z"]
    with pytest.raises(NotFound, match="Nobody"):
        await export(store, out, "gpx", animal="Nobody")
    with pytest.raises(Invalid, match="no format"):
        await export(store, out, "shapefile")


async def test_only_who_may_carry_exact_positions_out_does(store: SpatialiteStore, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    ranger = View(principal=Principal(user_id="r", role="ranger"))
    with pytest.raises(Forbidden):
        await export_tracks(store, ranger, out, Selection(), form="tidy")
    assert not out.exists()


async def test_a_file_appears_whole_or_not_at_all_and_a_pipe_is_written_to(
    store: SpatialiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await load(store, tidy(tmp_path, row(0)))
    out = tmp_path / "out.csv"
    out.write_text("what was there")
    with pytest.raises(OSError, match="No space"):
        await export_tracks(store, VIEW, Path("/dev/full"), Selection(), form="tidy")
    (tmp_path / "out.csv.part").mkdir()  # the place of the unfinished file is taken
    with pytest.raises(OSError, match=r"out\.csv\.part"):
        await export(store, out, "tidy")
    assert out.read_text() == "what was there"


async def test_geoparquet_is_what_its_readers_look_for(store: SpatialiteStore, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    await load(store, tidy(tmp_path, row(0), row(1, lon=""), row(2, lon=37.75, hdop="99")))
    out = tmp_path / "out.parquet"
    assert await export(store, out, "geoparquet") == 3
    table = parquet.read_table(out)
    geo = json.loads(table.schema.metadata[b"geo"])
    assert (geo["version"], geo["primary_column"]) == ("1.1.0", "geometry")
    assert geo["columns"]["geometry"]["encoding"] == "WKB"
    assert geo["columns"]["geometry"]["bbox"] == [37.5, -2.5, 37.75, -2.5]
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    rows = table.to_pylist()
    assert [each["geometry"] and each["geometry"].hex() for each in rows][:2] == [
        "0101000000" + "0000000000c04240" + "00000000000004c0", None,
    ]  # fmt: skip
    assert rows[2]["bbox"] == {"xmin": 37.75, "ymin": -2.5, "xmax": 37.75, "ymax": -2.5}
    assert [each["flags"] for each in rows] == ["", "no_fix", "poor_dop"]
    assert rows[0]["recorded_at"] == START


async def test_a_station_without_pyarrow_says_what_to_install_and_leaves_no_file(
    store: SpatialiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Invalid, match="pip install pyarrow"):
        await export(store, tmp_path / "out.parquet", "geoparquet")
    assert [name for name in os.listdir(tmp_path) if "parquet" in name] == []  # noqa: PTH208 - in a coroutine
