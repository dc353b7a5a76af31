"""Laws of the folded change log, over its own statements in PostgreSQL: a reader at any cursor is told the same.

A log of random lines is folded up to random numbers in random steps while it grows. To the reader behind each cursor
stay the same rows with who else changed them, every insert, every decision and renaming, what entered or left each
scope; of fixes it is told at least what it lacks, and nothing beyond what the log ever said of that collar.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from typing import Any, Final

import psycopg
import pytest

from cloud.store import folding

pytestmark = [pytest.mark.integration, pytest.mark.sync]

SEEDS: Final = range(40 if os.environ.get("OUTPOST_NIGHTLY") else 4)
_NAMES: Final = ("_OF_RECORDS", "_OF_FIXES", "_OF_SCOPES", "_OF_SCOPED_FIXES")
STATEMENTS: Final[dict[str, str]] = {name: getattr(folding, name) for name in _NAMES}
_TABLES: Final = """
CREATE TABLE changes (seq bigint PRIMARY KEY, entity text, row_id text, kind text, first_ms bigint, last_ms bigint,
  origin text);
CREATE TABLE scope_changes (seq bigint PRIMARY KEY, station_id text, entity text, row_id text, kind text,
  first_ms bigint, last_ms bigint);
"""
Lines = list[tuple[Any, ...]]


@pytest.fixture
def db(blank_database_url: str) -> Iterator[psycopg.Connection]:
    """Give the tables that are folded, in a database of their own."""
    with psycopg.connect(blank_database_url, autocommit=True) as db:
        db.execute(_TABLES)
        yield db


class Log:
    """A log that grows, is folded, and remembers all that it ever said."""

    def __init__(self, db: psycopg.Connection, statements: Mapping[str, str], seed: int) -> None:
        self._db = db
        self._statements = statements
        self.rng = random.Random(seed)
        self.head = self._folded = 0
        self.changes: Lines = []
        self.crossings: Lines = []
        db.execute("TRUNCATE changes, scope_changes")

    def grow(self) -> None:
        """Write a line."""
        rng, self.head = self.rng, self.head + 1
        first = rng.randint(0, 50)
        span, chance = (first, first + rng.randint(0, 9)), rng.random()
        line: tuple[Any, ...]
        if chance < 0.75:
            origin = rng.choice(["", "p1", "p2"])
            if chance < 0.4:
                kind = rng.choice(["insert", "update", "update", "delete"])
                line = (self.head, rng.choice(["animal", "zone"]), f"r{rng.randint(0, 5)}", kind, None, None, origin)
            else:
                kind = rng.choice(["insert", "insert", "update", "move", "hand", "gone"])
                line = (self.head, "fix", f"K{rng.randint(0, 2)}", kind, *span, origin)
            self.changes.append(line)
            self._db.execute("INSERT INTO changes VALUES (%s, %s, %s, %s, %s, %s, %s)", line)
            return
        station_id = rng.choice(["p1", "p2"])
        if chance < 0.9:
            kind = rng.choice(["enter", "leave"])
            line = (self.head, station_id, "animal", f"r{rng.randint(0, 5)}", kind, None, None)
        else:
            line = (self.head, station_id, "fix", f"K{rng.randint(0, 2)}", "enter", *span)
        self.crossings.append(line)
        self._db.execute("INSERT INTO scope_changes VALUES (%s, %s, %s, %s, %s, %s, %s)", line)

    def fold(self, up_to: int, step: int) -> None:
        """Fold as ``folding.fold`` does."""
        while self._folded < up_to:
            after = min(up_to, self._folded + step)
            for statement in self._statements.values():
                self._db.execute(statement.encode(), {"first": self._folded, "last": after})
            self._folded = after

    def check(self) -> None:
        """Compare what readers are told now with what the lines said that were ever written."""
        changes = self._db.execute("SELECT * FROM changes").fetchall()
        crossings = self._db.execute("SELECT * FROM scope_changes").fetchall()
        ever = spans(self.changes, 0), crossed(self.crossings, 0)
        assert set(lasting(changes)) == set(lasting(self.changes))
        for cursor in range(0, self.head + 1, 3):
            assert rows(changes, cursor) == rows(self.changes, cursor)
            assert entered(crossings, cursor) == entered(self.crossings, cursor)
            for now, was, whole in (
                (spans(changes, cursor), spans(self.changes, cursor), ever[0]),
                (crossed(crossings, cursor), crossed(self.crossings, cursor), ever[1]),
            ):
                assert now.keys() == was.keys()
                for key in was:
                    assert was[key] <= now[key] <= set(range(min(whole[key]), max(whole[key]) + 1))


def rows(lines: Lines, cursor: int) -> set[tuple[Any, ...]]:
    return {(line[1], line[2], line[6]) for line in lines if line[0] > cursor and line[1] != "fix"}


def lasting(lines: Lines) -> Lines:
    """Return the lines that no fold may touch."""
    return [line for line in lines if line[3] in (("hand", "gone") if line[1] == "fix" else ("insert",))]


def spans(lines: Lines, cursor: int) -> dict[tuple[Any, ...], set[int]]:
    found: dict[tuple[Any, ...], set[int]] = {}
    for seq, entity, row_id, kind, first, last, origin in lines:
        if entity == "fix" and kind not in ("hand", "gone") and seq > cursor:
            found.setdefault((row_id, kind, origin), set()).update(range(first, last + 1))
    return found


def entered(lines: Lines, cursor: int) -> set[tuple[Any, ...]]:
    return {line[1:4] for line in lines if line[0] > cursor and line[2] != "fix"}


def crossed(lines: Lines, cursor: int) -> dict[tuple[Any, ...], set[int]]:
    found: dict[tuple[Any, ...], set[int]] = {}
    for seq, station_id, entity, row_id, _, first, last in lines:
        if entity == "fix" and seq > cursor:
            found.setdefault((station_id, row_id), set()).update(range(first, last + 1))
    return found


def walk(db: psycopg.Connection, statements: Mapping[str, str], seed: int) -> Log:
    """Let a log grow and be folded by turns, and check it after each fold."""
    log = Log(db, statements, seed)
    for _ in range(4):
        for _ in range(40):
            log.grow()
        log.fold(log.rng.randint(0, log.head), log.rng.choice([3, 11, 1_000]))
        log.check()
    log.fold(log.head, 17)
    log.check()
    return log


def walks(db: psycopg.Connection, statements: Mapping[str, str], seeds: int) -> None:
    for seed in range(seeds):
        walk(db, statements, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_reader_at_any_cursor_is_told_the_same_however_the_log_is_folded(db: psycopg.Connection, seed: int) -> None:
    walk(db, STATEMENTS, seed)
    left = db.execute(
        "SELECT max(n) FROM (SELECT count(*) AS n FROM changes WHERE kind NOT IN ('hand', 'gone')"
        " AND NOT (kind = 'insert' AND entity <> 'fix') GROUP BY entity, row_id, origin,"
        " CASE WHEN entity = 'fix' THEN kind END) g"
    ).fetchone()
    assert left == (1,)  # nothing that a later line says as well


@pytest.mark.parametrize(
    ("name", "was", "becomes"),
    [
        ("_OF_RECORDS", "l.seq < n.seq", "l.seq <= n.seq"),  # a tombstone goes too
        ("_OF_RECORDS", " AND l.kind <> 'insert'", ""),  # who entered a row is forgotten
        ("_OF_RECORDS", "AND l.origin = n.origin ", ""),  # of an edit by another nothing is left
        ("_OF_FIXES", "least(l.first_ms, g.first_ms)", "l.first_ms"),  # earlier fixes are lost
        ("_OF_FIXES", "greatest(l.last_ms, g.last_ms)", "l.last_ms"),  # later ones are
        ("_OF_FIXES", "l.seq < n.seq", "l.seq <= n.seq"),  # all are
        ("_OF_FIXES", "'hand', 'gone'", "'hand'"),  # what went under another name is
        ("_OF_SCOPES", "l.seq < n.seq", "l.seq <= n.seq"),  # a leaving is
        ("_OF_SCOPED_FIXES", "least(l.first_ms, g.first_ms)", "l.first_ms"),  # fixes of what entered are
    ],
)
def test_a_fold_that_drops_more_is_noticed(db: psycopg.Connection, name: str, was: str, becomes: str) -> None:
    assert was in STATEMENTS[name]
    broken = {**STATEMENTS, name: STATEMENTS[name].replace(was, becomes)}
    with pytest.raises(AssertionError):
        walks(db, broken, 6)
