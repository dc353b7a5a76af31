"""Track files into a real store and out of it: twice is once, bad rows are named, any size fits."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edge.ops.import_tracks import Imported, import_tracks
from edge.ops.verify import Verified, verify
from edge.store.export import Selection, export_tracks
from edge.store.store import SpatialiteStore
from shared.domain import Deployment, Fix, FixFlag, NewFix
from shared.errors import Invalid
from shared.movement.tracks import BadRow, TrackRow, parse_instant, read_tracks
from shared.privacy import OPERATOR, view_for
from shared.store import AnimalQuery, FixQuery
from tests.fakes import START, FakeClock

pytestmark = pytest.mark.integration

KEY = bytes(range(32))
VIEW = view_for(OPERATOR)
HOUR = timedelta(hours=1)
HEADER = "individual,timestamp,lon,lat"
EXPORT_GROWTH_LIMIT_MIB = 28  # a reader has a cache of 8; held rows of the file would be 20 more


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SpatialiteStore]:
    store = SpatialiteStore(tmp_path / "station.db", KEY, now=FakeClock().now, synchronous="NORMAL")
    yield store
    await store.close()


def write(folder: Path, *rows: str, header: str = HEADER, name: str = "tracks.csv") -> Path:
    path = folder / name
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return path


def row(index: int = 0, individual: str = "Ayo", *more: str, lon: str = "37.5", lat: str = "-2.5") -> str:
    at = (START + index * HOUR).isoformat().replace("+00:00", "Z")
    return ",".join((individual, at, lon, lat, *more))


async def load(store: SpatialiteStore, path: Path, **options: Any) -> Imported:
    return await import_tracks(store, VIEW, path, received_at=START + 9999 * HOUR, **options)


async def fixes(store: SpatialiteStore, **query: Any) -> list[Fix]:
    return (await store.fixes(VIEW, FixQuery(ordering="timestamp", limit=1000, **query))).results


async def deployments(store: SpatialiteStore) -> list[Deployment]:
    page = await store.deployments(VIEW, animal_id=None, collar_id=None, offset=0, limit=100)
    return page.results[::-1]


# --- one row
def rows_of(path: Path) -> list[TrackRow | BadRow]:
    return list(read_tracks(path))


def test_a_row_is_read_with_all_that_it_says(tmp_path: Path) -> None:
    header = f"{HEADER},species,collar_id,altitude,speed_mps,heading,hdop,pdop,sats,battery_mv,temperature_c,unknown"
    more = ("elephant", "K1", "1200.5", "0.4", "90", "1.2", "2", "7.0", "3600", "-4", "?")
    path = write(tmp_path, row(0, "Ayo", *more), header=header)
    (found,) = rows_of(path)
    assert found == TrackRow(
        line=2, individual="Ayo", recorded_at=START, lon_deg=37.5, lat_deg=-2.5, species="elephant", collar_id="K1",
        extras={"alt_m": 1200.5, "speed_mps": 0.4, "heading_deg": 90.0, "hdop": 1.2, "pdop": 2.0, "sats": 7,
                "battery_mv": 3600, "temperature_c": -4.0},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-06-01T12:00:00Z", START),
        ("2026-06-01T14:00:00+02:00", START),
        ("2026-06-01 12:00:00", START),
        (" 2026-06-01 12:00:00.250 ", START + timedelta(milliseconds=250)),
    ],
)
def test_an_instant_without_offset_is_utc(text: str, instant: datetime) -> None:
    assert parse_instant(text) == instant
    assert parse_instant(text).tzinfo is UTC


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (",2026-06-01T12:00:00Z,1,2", "individual"),
        ("Ayo,yesterday,1,2", "timestamp"),
        ("Ayo,,1,2", "timestamp"),
        ("Ayo,0001-01-01T00:00:00+05:00,1,2", "calendar"),
        ("Ayo,2026-06-01T12:00:00Z,1,", "lon, lat"),
        ("Ayo,2026-06-01T12:00:00Z,181,2", "out of range"),
        ("Ayo,2026-06-01T12:00:00Z,1,inf", "lat"),
        ("Ayo,2026-06-01T12:00:00Z,east,2", "lon"),
        ("Ayo,2026-06-01T12:00:00Z,1,2,1e300", "sats"),
        ('Ayo,2026-06-01T12:00:00Z,1,"' + "9" * 200_000 + '"', "field larger"),
    ],
)
def test_a_bad_row_says_why_and_costs_no_neighbour(tmp_path: Path, line: str, reason: str) -> None:
    path = write(tmp_path, f"{row(0)},5", line, f"{row(1)},6", header=f"{HEADER},sats")
    first, bad, last = rows_of(path)
    assert isinstance(bad, BadRow)
    assert bad.line == 3
    assert reason in bad.reason
    assert isinstance(first, TrackRow)
    assert isinstance(last, TrackRow)


@pytest.mark.parametrize("name", ["individual", "species", "collar_id", "timestamp", "lon"])
def test_broken_utf8_costs_its_row_only(tmp_path: Path, name: str) -> None:
    names = ("individual", "timestamp", "lon", "lat", "species", "collar_id")
    cells = dict(zip(names, ("Ayo", "2026-06-01T12:00:00Z", "1", "2", "lion", "K"), strict=True))
    good = ",".join(cells[each] for each in names).encode()
    bad = b",".join(b"\xff\xfe" if each == name else cells[each].encode() for each in names)
    path = tmp_path / "tracks.csv"
    path.write_bytes(b"\n".join((",".join(names).encode(), good, bad, good)) + b"\n")
    first, broken, last = rows_of(path)
    assert isinstance(first, TrackRow)
    assert isinstance(last, TrackRow)
    assert isinstance(broken, BadRow)
    broken.reason.encode()  # it can be printed
    assert name in broken.reason


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    path = tmp_path / "tracks.csv"
    path.write_text(f"{HEADER}\n{row()}\n", encoding="utf-8-sig")
    assert len(rows_of(path)) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"name,when\n", "no column individual, timestamp, lon, lat"),
        (b"individual,timestamp,lon\n", "no column lat"),
        (b"\xff\xfe\x00\x01binary\n", "no column|names no columns"),
        (b"x" * 200_000 + b"\n", "names no columns"),
    ],
    ids=["empty", "other", "one-missing", "binary", "long"],
)
def test_what_is_no_track_file_is_refused_in_a_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "tracks.csv"
    path.write_bytes(content)
    with pytest.raises(Invalid, match=words) as refusal:
        rows_of(path)
    refusal.value.detail.encode()


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="No such file"):
        rows_of(tmp_path / "none.csv")


# --- into the store
async def test_importing_twice_is_importing_once(store: SpatialiteStore, tmp_path: Path) -> None:
    path = write(tmp_path, *(row(index) for index in range(5)), *(row(index, "Bo") for index in range(3)))
    first = await load(store, path, species="elephant")
    assert (first.rows, first.new, first.duplicates, first.animals_created, first.refused) == (8, 8, 0, 2, 0)
    before = await store.read(lambda db: db.execute("SELECT * FROM deployments").fetchall())
    second = await load(store, path)
    assert (second.rows, second.new, second.duplicates, second.animals_created) == (8, 0, 8, 0)
    assert await store.read(lambda db: db.execute("SELECT * FROM deployments").fetchall()) == before
    assert second.problems == []
    animals = (await store.animals(VIEW, AnimalQuery(ordering="name"))).results
    assert [(animal.name, animal.species) for animal in animals] == [("Ayo", "elephant"), ("Bo", "elephant")]
    ayo = animals[0].id
    assert [fix.animal_id for fix in await fixes(store)].count(ayo) == 5
    assert {fix.source for fix in await fixes(store)} == {"imported"}


async def test_bad_rows_are_listed_by_line_and_good_ones_stay(store: SpatialiteStore, tmp_path: Path) -> None:
    path = write(tmp_path, row(0), "Ayo,never,1,2", row(1), *(f"Ayo,bad {n},1,2" for n in range(40)), row(2))
    done = await load(store, path)
    assert (done.rows, done.new, done.refused) == (44, 3, 41)
    assert done.problems[0].startswith("line 3: timestamp")
    assert len(done.problems) == 20


async def test_failed_fixes_are_kept_as_events(store: SpatialiteStore, tmp_path: Path) -> None:
    done = await load(store, write(tmp_path, row(0), row(1, lon="", lat=""), row(2, lon="NA", lat="NA")))
    assert (done.new, done.failed_fixes) == (3, 2)
    assert [fix.flags for fix in await fixes(store)] == [0, FixFlag.NO_FIX, FixFlag.NO_FIX]


async def test_a_longer_file_widens_the_deployment(store: SpatialiteStore, tmp_path: Path) -> None:
    await load(store, write(tmp_path, *(row(index) for index in range(5, 8))))
    done = await load(store, write(tmp_path, *(row(index) for index in range(12))))
    assert (done.new, done.duplicates, done.problems) == (9, 3, [])
    (only,) = await deployments(store)
    assert (only.started_at, only.ended_at) == (START, START + 11 * HOUR + timedelta(milliseconds=1))
    assert all(fix.animal_id for fix in await fixes(store))


async def test_a_file_that_also_came_over_the_air_adds_nothing(store: SpatialiteStore, tmp_path: Path) -> None:
    animal = await store.create_animal(VIEW, {"name": "Ayo", "species": "elephant"})
    columns = {"animal_id": animal.id, "collar_id": "eui:01", "started_at": START, "ended_at": None}
    await store.create_deployment(VIEW, columns)
    instants = [START + index * HOUR for index in range(5)]
    place = {"lon_deg": 37.1234567, "lat_deg": -2.7654321}
    heard = [NewFix(device="eui:01", recorded_at=at, received_at=at, link="base", **place) for at in instants]  # type: ignore[arg-type] # degrees alone
    await store.add_fixes(VIEW, heard)
    path = write(tmp_path, *(row(index, lon="37.1234567", lat="-2.7654321") for index in range(5)))
    done = await load(store, path)
    assert (done.new, done.duplicates) == (0, 5)
    assert {fix.source for fix in await fixes(store)} == {"collar"}
    assert [fix.received_at for fix in await fixes(store)] == instants
    assert (await verify(store, path)).differences == 0
    assert len(await deployments(store)) == 1


async def test_rows_before_between_and_after_known_deployments_are_the_animals_too(
    store: SpatialiteStore, tmp_path: Path
) -> None:
    animal = await store.create_animal(VIEW, {"name": "Ayo", "species": "elephant"})
    for start, end in ((2, 4), (6, 8)):
        span = {"started_at": START + start * HOUR, "ended_at": START + end * HOUR}
        await store.create_deployment(VIEW, {"animal_id": animal.id, "collar_id": f"K{start}", **span})
    path = write(tmp_path, *(row(index) for index in range(10)))
    for new in (10, 0):
        done = await load(store, path)
        assert (done.new, done.problems) == (new, [])
        assert {fix.animal_id for fix in await fixes(store)} == {animal.id}
        assert [fix.collar_id for fix in await fixes(store)] == [
            "import:Ayo", "import:Ayo", "K2", "K2", "import:Ayo", "import:Ayo", "K6", "K6", "import:Ayo", "import:Ayo",
        ]  # fmt: skip
        assert (await verify(store, path)).differences == 0


async def test_a_collar_that_another_animal_wore_then_is_reported(store: SpatialiteStore, tmp_path: Path) -> None:
    await store.create_animal(VIEW, {"name": "Bo", "species": "elephant", "collar_id": "K1"})
    path = write(tmp_path, row(5, "Ayo", "K1"), row(6, "Ayo", "K1"), header=f"{HEADER},collar_id")
    done = await load(store, path)
    assert done.new == 2
    (problem,) = done.problems
    assert "kept under collar K1 alone" in problem
    assert (await verify(store, path)).missing == 2


# --- compared
async def test_verify_counts_what_is_missing_doubled_and_unexpected(store: SpatialiteStore, tmp_path: Path) -> None:
    path = write(tmp_path, *(row(index) for index in range(6)), row(5))
    await load(store, path)
    same = await verify(store, path)
    assert same == Verified(individuals=1, rows=7, repeated_rows=1, stored=6, matching=6)

    fewer = write(tmp_path, row(0), row(2), row(5), name="fewer.csv")
    found = await verify(store, fewer)
    assert (found.unexpected, found.missing, found.doubled, found.differences) == (3, 0, 0, 3)
    assert found.examples[0].startswith("not in the file: Ayo 2026-06-01T13:00:00Z 37.5")

    more = write(tmp_path, *(row(index) for index in range(9)), row(1, lon="37.5000001"), name="more.csv")
    found = await verify(store, more)
    assert (found.missing, found.unexpected, found.differences) == (4, 0, 4)

    (animal,) = (await store.animals(VIEW, AnimalQuery())).results
    twin = NewFix(device=f"animal:{animal.id}", recorded_at=START + HOUR, received_at=START, lon_deg=37.5, lat_deg=-2.5)
    await store.add_fixes(VIEW, [twin])
    found = await verify(store, path)
    assert (found.doubled, found.differences, found.matching) == (1, 1, 5)
    assert found.examples == ["stored 2 times: Ayo 2026-06-01T13:00:00Z 37.5000000 -2.5000000"]


async def test_what_lies_outside_the_files_time_is_no_difference(store: SpatialiteStore, tmp_path: Path) -> None:
    await load(store, write(tmp_path, *(row(index) for index in range(9))))
    part = write(tmp_path, *(row(index) for index in range(3, 6)), name="part.csv")
    assert (await verify(store, part)).differences == 0


async def test_an_export_imported_elsewhere_is_the_same(store: SpatialiteStore, tmp_path: Path) -> None:
    header = f"{HEADER},species,collar_id,hdop"
    rows = [
        row(index, who, "lion", collar, hdop)
        for who, collar in (("Ayo", "K1"), ('"B""o, Jr"', "K2"))
        for index, hdop in enumerate(("1", "99", ""))
    ]
    await load(store, write(tmp_path, *rows, row(7, "Ayo", "lion", "K1", "", lon="", lat=""), header=header))
    (ayo,) = (await store.animals(VIEW, AnimalQuery(search="Ayo"))).results
    at = START + 20 * HOUR
    seen = NewFix(device=f"animal:{ayo.id}", recorded_at=at, received_at=at, lon_deg=37.5, lat_deg=-2.5)
    while_worn = replace(seen, recorded_at=START + HOUR, lon_deg=37.6)
    await store.add_fixes(VIEW, [seen, while_worn])
    out = tmp_path / "out.csv"
    assert await export_tracks(store, VIEW, out, Selection()) == 9
    assert (await verify(store, out)).differences == 0
    again = await load(store, out)
    assert (again.new, again.duplicates, again.problems) == (0, 9, [])
    other = SpatialiteStore(tmp_path / "other.db", None, now=FakeClock().now, synchronous="NORMAL")
    try:
        done = await load(other, out)
        assert (done.new, done.refused) == (9, 0)
        assert (await verify(other, out)).differences == 0
        back = tmp_path / "back.csv"
        assert await export_tracks(other, VIEW, back, Selection()) == 9
        assert without_collars(back) == without_collars(out)
    finally:
        await other.close()
    assert (
        await export_tracks(store, VIEW, out, Selection(animal="Ayo", is_usable_only=True)) == 4
    )  # two good ones and the two seen


def without_collars(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: cell for name, cell in line.items() if name != "collar_id"} for line in csv.DictReader(file)]


# --- size
PROGRAM = """
import asyncio, resource, sys
from datetime import datetime, UTC
from pathlib import Path
from edge.ops.import_tracks import import_tracks
from edge.store.export import Selection, export_tracks
from edge.store.store import SpatialiteStore
from shared.privacy import OPERATOR, view_for

def peak_kib():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

async def main(small, large, database):
    store = SpatialiteStore(Path(database), bytes(32), now=lambda: datetime.now(UTC), synchronous="NORMAL")
    try:
        await import_tracks(store, view_for(OPERATOR), Path(small), received_at=datetime.now(UTC))
        before = peak_kib()
        done = await import_tracks(store, view_for(OPERATOR), Path(large), received_at=datetime.now(UTC))
        imported = peak_kib()
        for form in ("tidy", "movebank", "gpx", "geojson"):
            await export_tracks(store, view_for(OPERATOR), Path("/dev/null"), Selection(), form=form)
        print(done.new, imported - before, peak_kib() - imported)
    finally:
        await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


# Seen: 13 MiB at 100,000 rows of twenty animals. To give an animal its fixes by statements of 5,000 took 15 more:
# among fixes of many animals each lies on a page of its own, and one statement holds all pages that it changes.
LONG = 400_000 if os.environ.get("OUTPOST_NIGHTLY") else 60_000
GROWTH_LIMIT_MIB = 20.0


@pytest.mark.slow
@pytest.mark.timeout(1_600)
@pytest.mark.parametrize("individuals", [20, 1])
def test_a_long_file_fits_into_little_memory(tmp_path: Path, individuals: int) -> None:
    def track(name: str, rows: int) -> Path:
        path = tmp_path / name
        with path.open("w", encoding="utf-8") as file:
            file.write(f"{HEADER}\n")
            for index in range(rows):
                at = START + timedelta(minutes=5 * (index // individuals))
                place = f"{37 + index % 97 * 1e-4:.7f},{-2 + index % 89 * 1e-4:.7f}"
                file.write(f"animal {index % individuals},{at:%Y-%m-%dT%H:%M:%SZ},{place}\n")
        return path

    small, large = track("small.csv", 10_000), track("large.csv", LONG)
    command = [sys.executable, "-c", PROGRAM, str(small), str(large), str(tmp_path / "station.db")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1_500)
    new, growth_kib, export_growth_kib = map(int, ended.stdout.splitlines()[-1].split())
    assert new == LONG - 10_000
    assert growth_kib < GROWTH_LIMIT_MIB * 1024
    assert export_growth_kib < EXPORT_GROWTH_LIMIT_MIB * 1024
