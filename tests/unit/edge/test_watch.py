"""The live table shows what the station's events and lists say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from edge.ops.watch import Board

pytestmark = pytest.mark.unit

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def fix(**fields: Any) -> dict[str, Any]:
    return {
        "animal": None, "collar_id": "K1", "recorded_at": (NOW - timedelta(minutes=5)).isoformat(), "link": "base",
        "battery_mv": None, "lon": 37.5, "lat": -2.5, **fields,
    }  # fmt: skip


def shown(board: Board) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(board.table(NOW))
    return capture.get()


def test_a_fix_appears_under_the_animal_that_wears_the_collar() -> None:
    board = Board(lambda: 0.0)
    board.know([{"id": "a", "name": "Nasieku", "species": "elephant", "collar_id": "K1"}])
    board.hear(fix())
    line = next(line for line in shown(board).splitlines() if "Nasieku" in line)
    assert line.split() == [
        "Nasieku", "elephant", "K1", "2026-05-01", "11:55:00", "5", "min", "-2.50000", "37.50000", "-", "-", "base",
        "1",
    ]  # fmt: skip


def test_a_collar_that_nobody_wears_is_shown_too() -> None:
    board = Board(lambda: 0.0)
    board.hear(fix(collar_id="K9"))
    assert "(no animal)" in shown(board)


def test_an_older_fix_that_comes_late_does_not_move_the_animal() -> None:
    board = Board(lambda: 0.0)
    board.hear(fix())
    board.hear(fix(recorded_at=(NOW - timedelta(hours=3)).isoformat(), lon=30.0))
    assert "37.50000" in shown(board)


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
