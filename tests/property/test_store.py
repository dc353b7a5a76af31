"""Laws of the store: what is in it depends on what was said, never on the order, the batching or who said it twice."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from edge.ingest.decode import decode_rows
from edge.store.driver import Connection, connect, transaction
from edge.store.fixes import FixWriter
from edge.store.ledger import Row
from edge.store.migrate import migrate
from edge.store.records import RecordWriter
from shared.domain import NewFix
from shared.ids import random_id
from shared.movement.quality import ROLLOVER_MS
from shared.sync.operations import Operation
from shared.sync.records import EntityName, to_ms
from tests.fakes import START

NIGHTLY = bool(os.environ.get("OUTPOST_NIGHTLY"))
RADIO, COLLAR, OTHER, ANIMAL = "eui:0101010101010101", "K1", "eui:02", "00000000-0000-4000-8000-00000000000a"
NOW_MS, HOUR_MS = to_ms(START), 3_600_000
COLUMNS = (
    "hex(f.id), c.id, a.id, recorded_ms, raw_ms, received_ms, sure_received_ms, network_ms, lon_e7, lat_e7, flags,"
    " source, alt_m, speed_mps, heading_deg, hdop, pdop, sats, h_acc_m, seq, f.battery_mv, f.battery_pct, temperature_c"
    ", rssi_dbm, snr_db, is_clock_unset, link, local_id, activity_type, f.notes, hex(geom)"
)


def examples(n: int) -> settings:
    return settings(max_examples=n * 10 if NIGHTLY else n, deadline=None, derandomize=True, database=None)


class Desk:
    """A store without its threads; ``wipe`` empties it."""

    def __init__(self, path: Path) -> None:
        self.db: Connection = connect(path, None, synchronous="NORMAL")
        self.db.execute("PRAGMA synchronous = OFF")
        migrate(self.db)
        self.wipe()

    def wipe(self) -> None:
        with transaction(self.db):
            for table in ("fixes", "deployments", "collar_aliases", "collars", "animals", "outbox"):
                self.db.execute(f"DELETE FROM {table}")
            self.db.execute("UPDATE counters SET value = 0")
        self.fixes = FixWriter(self.db, stretch=3)
        self.records = RecordWriter(self.db, self.fixes)
        self.edit("animal", ANIMAL, {"name": "Alpha", "species": "elephant"})

    def edit(self, entity: EntityName, row_id: str, columns: dict[str, Any]) -> None:
        operation = Operation(
            id=random_id(), entity=entity, row_id=row_id, kind="insert", columns=columns, author="t", made_ms=NOW_MS
        )
        with transaction(self.db):
            self.records.run([operation])

    def add(self, fixes: list[NewFix]) -> None:
        with transaction(self.db):
            self.fixes.add(fixes, NOW_MS)

    def deploy(self) -> None:
        columns = {
            "animal_id": ANIMAL, "collar_id": RADIO, "started_ms": NOW_MS - 2 * HOUR_MS,
            "ended_ms": NOW_MS + 3 * HOUR_MS,
        }  # fmt: skip
        self.edit("deployment", random_id(), columns)

    def alias(self) -> None:
        self.edit("collar", COLLAR, {"aliases": [RADIO]})

    def table(self) -> list[tuple[Any, ...]]:
        rows = self.db.execute(
            f"SELECT {COLUMNS} FROM fixes f JOIN collars c ON c.pk = f.collar_pk LEFT JOIN animals a"
            " ON a.pk = f.animal_pk ORDER BY f.id"
        ).fetchall()
        return [tuple(row) for row in rows]

    def assert_sound(self) -> None:
        counted, rows, sound = self.db.execute(
            "SELECT (SELECT value FROM counters WHERE name = 'fixes'), (SELECT count(*) FROM fixes),"
            " CheckSpatialIndex('fixes', 'geom')"
        ).fetchone()
        assert counted == rows
        assert sound == 1


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("desk") / "station.db")
    yield desk
    desk.db.close()


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


minutes = st.sampled_from([0, 0, 1, 2, 30, 60, 61, 120, 240, -180, 5000])
places = st.sampled_from([
    (37.5, -2.5), (37.5001, -2.5), (37.5, -2.5000001), (37.6, -2.5), (39.0, -4.0), (0.0, 0.0), (200.0, 0.0),
    (None, None),
])  # fmt: skip


@st.composite
def new_fixes(draw: st.DrawFn) -> NewFix:
    """A fix among few places and instants, so that copies, neighbours and outliers meet."""
    recorded_at = START + timedelta(minutes=draw(minutes), seconds=draw(st.sampled_from([0, 0, 7, 7.25])))
    if draw(st.integers(0, 5)) == 0:
        recorded_at -= timedelta(milliseconds=ROLLOVER_MS)
    lon, lat = draw(places)
    return NewFix(
        device=draw(st.sampled_from([RADIO, RADIO, COLLAR, OTHER])),
        recorded_at=recorded_at,
        lon_deg=lon,
        lat_deg=lat,
        received_at=START + timedelta(minutes=draw(st.sampled_from([0, 1, 9000]))),
        is_clock_sure=draw(st.booleans()),
        alt_m=draw(optional(st.sampled_from([0.0, 1200.0]))),
        hdop=draw(optional(st.sampled_from([1.0, 2.0, 99.0]))),
        sats=draw(optional(st.sampled_from([3, 9]))),
        seq=draw(optional(st.integers(90, 100))),
        battery_mv=draw(optional(st.sampled_from([3500, 3600]))),
        rssi_dbm=draw(optional(st.sampled_from([-90.0, -80.0]))),
        is_clock_unset=draw(st.integers(0, 9)) == 0,
        source=draw(st.sampled_from(["collar", "collar", "imported", "manual"])),
        animal_id=draw(st.sampled_from([None, None, ANIMAL])),
        link=draw(st.sampled_from(["base", "broker", None])),
        notes=draw(st.sampled_from([None, "n", "m"])),
    )


def play(desk: Desk, fixes: list[NewFix], steps: list[str], rng: random.Random) -> list[tuple[Any, ...]]:
    """Carry the fixes in, in batches of chance, and deploy and rename the collar somewhere between."""
    desk.wipe()
    batches: list[list[NewFix]] = []
    rest = list(fixes)
    rng.shuffle(rest)
    while rest:
        size = rng.choice([1, 1, 2, 5, len(rest)])
        batches.append(rest[:size])
        rest = rest[size:]
    events: list[list[NewFix] | str] = [*batches]
    for step in steps:
        events.insert(rng.randint(0, len(events)), step)
    for event in events:
        if event == "deploy":
            desk.deploy()
        elif event == "alias":
            desk.alias()
        elif isinstance(event, list):
            desk.add(event)
    return desk.table()


@examples(100)
@given(st.lists(new_fixes(), min_size=1, max_size=14), st.sets(st.sampled_from(["deploy", "alias"])), st.integers(0, 9))
def test_the_order_of_arrival_and_the_batching_do_not_matter(
    desk: Desk, fixes: list[NewFix], steps: set[str], seed: int
) -> None:
    in_order = sorted(steps)
    first = play(desk, fixes, in_order, random.Random(seed))
    desk.assert_sound()
    second = play(desk, fixes, in_order, random.Random(seed + 10))
    desk.assert_sound()
    assert second == first


@examples(100)
@given(st.lists(new_fixes(), min_size=1, max_size=10), st.integers(0, 9))
def test_saying_it_again_changes_nothing(desk: Desk, fixes: list[NewFix], seed: int) -> None:
    once = play(desk, fixes, ["deploy"], random.Random(seed))
    outbox = desk.db.execute("SELECT count(*) FROM outbox").fetchone()
    for fix in fixes:
        desk.add([fix, replace(fix)])
    desk.add(fixes[::-1])
    assert desk.table() == once
    assert desk.db.execute("SELECT count(*) FROM outbox").fetchone() == outbox


@examples(100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([("cobs", ""), ("ubx", ""), ("nmea", ""), ("mqtt", "outpost/s/g/fix"), ("mqtt", "a/b"),
                             ("mqtt", "application/1/device/0101010101010101/event/up")]),
            st.binary(max_size=60),
        ),
        min_size=1,
        max_size=6,
    )
)  # fmt: skip
def test_no_bytes_from_the_field_stop_the_decoder(desk: Desk, frames: list[tuple[tuple[str, str], bytes]]) -> None:
    rows = [
        Row(seq, "base", framing, topic, "", payload, NOW_MS, "ntp", 1)
        for seq, ((framing, topic), payload) in enumerate(frames, 1)
    ]
    decoded = decode_rows(rows)
    assert decoded.position == len(rows)
    assert sorted([each.ledger_seq for each in decoded.undecoded] + decoded.decoded_seqs) == [row.seq for row in rows]
    desk.add(decoded.fixes)
