"""The live table shows what the station's events and lists say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from edge.ops.watch import WIDE, Board

pytestmark = pytest.mark.unit

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def fix(**fields: Any) -> dict[str, Any]:
    return {
        "animal": None, "collar_id": "K1", "recorded_at": (NOW - timedelta(minutes=5)).isoformat(), "link": "base",
        "battery_mv": None, "lon": 37.5, "lat": -2.5, **fields,
    }  # fmt: skip


def shown(board: Board, width: int = WIDE) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(board.table(NOW, width))
    return capture.get()


def test_a_fix_appears_under_the_animal_that_wears_the_collar() -> None:
    board = Board(lambda: 0.0)
    board.know([{"id": "a", "name": "Nasieku", "species": "elephant", "collar_id": "K1"}])
    board.hear(fix())
    line = next(line for line in shown(board).splitlines() if "Nasieku" in line)
    assert line.split() == [
        "Nasieku", "elephant", "K1", "11:55:00", "5", "min", "-2.5000", "37.5000", "-", "-", "base", "1",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [70, 80, 90, 100, WIDE])
def test_a_terminal_of_any_width_shows_whole_words(width: int) -> None:
    board = Board(lambda: 0.0)
    collar_id = "eui:86adc8ad09745747"
    board.know([{"id": "a", "name": "Wildebeest 01", "species": "wildebeest", "collar_id": collar_id}])
    board.hear(fix(animal="a", collar_id=collar_id, recorded_at="2026-04-30T23:59:59+00:00", lon=-137.5, link="base-1"))
    board.say({"animal": "a", "state": "migrating"})
    board.know_batteries([{"id": collar_id, "battery_level": "75%"}])
    text = shown(board, width)
    for word in ("Wildebeest 01", "04-30 23:59", "12 h", "-2.5000", "-137.5000", "migrating"):
        assert word in text
    assert text.count("…") == (width >= WIDE), "of the collar's id alone"


def test_what_came_long_ago_is_not_kept_for_a_table_that_nobody_asks_for() -> None:
    now_s = [0.0]
    board = Board(lambda: now_s[0])
    for n in range(1_000):
        now_s[0] = n
        board.hear(fix())
    assert board.arrivals == 61


def test_a_collar_that_nobody_wears_is_shown_too() -> None:
    board = Board(lambda: 0.0)
    board.hear(fix(collar_id="K9"))
    assert "(no animal)" in shown(board)


def test_an_older_fix_that_comes_late_does_not_move_the_animal() -> None:
    board = Board(lambda: 0.0)
    board.hear(fix())
    board.hear(fix(recorded_at=(NOW - timedelta(hours=3)).isoformat(), lon=30.0))
    assert "37.5000" in shown(board)


def test_the_battery_comes_from_a_fix_or_from_the_collar() -> None:
    board = Board(lambda: 0.0)
    board.know([{"id": "a", "name": "Nasieku", "species": "elephant", "collar_id": "K1"}])
    board.know_batteries([{"id": "K1", "battery_level": "75%"}, {"id": "K2", "battery_level": None}])
    assert "75%" in shown(board)
    board.hear(fix(battery_mv=3650))
    assert "3.65 V" in shown(board)


def test_the_rate_counts_the_last_minute_only() -> None:
    times = iter([0.0, 50.0, 70.0, 70.0, 70.0, 70.0])
    board = Board(lambda: next(times))
    board.hear(fix())
    board.hear(fix())
    assert "1 fixes in the last minute" in shown(board)


def test_the_state_is_the_newest_that_the_models_are_sure_of() -> None:
    board = Board(lambda: 0.0)
    board.know([{"id": "a", "name": "Nasieku", "species": "elephant", "collar_id": "K1"}])
    board.say({"animal": "a", "state": "foraging"})
    board.say({"animal": "a", "state": None})
    board.say({"animal": "b", "state": "resting"})
    assert "foraging" in shown(board)
    assert "resting" not in shown(board)


def test_an_alert_is_shown_until_it_is_over() -> None:
    board = Board(lambda: 0.0)
    told = {"id": "1", "severity": "critical", "title": "Nasieku is in Village", "status": "active", "is_late": False}
    board.alarm(told)
    board.alarm({**told, "id": "2", "title": "Of yesterday", "is_late": True})
    assert board.alerts() == ["critical: Nasieku is in Village"]
    board.alarm({**told, "status": "resolved"})
    assert board.alerts() == []
