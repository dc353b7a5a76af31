"""The zone of a time is told by its text or by a person; an hour that did not happen, or twice, is refused."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest

from shared.errors import Invalid
from shared.exchange.times import NoZone, instant, iso_text, zone_called

pytestmark = pytest.mark.unit

NAIROBI, BERLIN, NEPAL = ZoneInfo("Africa/Nairobi"), ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kathmandu")


@pytest.mark.parametrize(
    ("text", "zone", "utc"),
    [
        ("2026-06-01T12:00:00Z", None, "2026-06-01T12:00:00Z"),
        ("2026-06-01T12:00:00Z", NAIROBI, "2026-06-01T12:00:00Z"),  # the text's own zone outranks
        ("2026-06-01 12:00:00.250", UTC, "2026-06-01T12:00:00.250Z"),
        ("2026-06-01 12:00:00", NAIROBI, "2026-06-01T09:00:00Z"),
        ("2026-06-01 12:00:00", NEPAL, "2026-06-01T06:15:00Z"),
        ("2026-03-29 01:59:59", BERLIN, "2026-03-29T00:59:59Z"),
        ("2026-03-29 03:00:00", BERLIN, "2026-03-29T01:00:00Z"),
        ("2026-10-25 03:00:00", BERLIN, "2026-10-25T02:00:00Z"),
        ("2026-10-25 02:30:00+02:00", BERLIN, "2026-10-25T00:30:00Z"),
    ],
)
def test_a_time_is_read_in_its_own_zone_or_in_the_one_that_was_named(text: str, zone: tzinfo | None, utc: str) -> None:
    found = instant(text, zone)
    assert found.tzinfo is UTC
    assert iso_text(round(found.timestamp() * 1000)) == utc


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-03-29 02:30:00", "never happened"),
        ("2026-03-29 02:00:00", "never happened"),
        ("2026-10-25 02:30:00", "happened twice"),
        ("2026-10-25 02:00:00", "happened twice"),
    ],
)
def test_an_hour_that_clocks_skipped_or_repeated_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        instant(text, BERLIN)


def test_a_time_without_a_zone_is_not_guessed() -> None:
    with pytest.raises(NoZone, match="carries no time zone"):
        instant("2026-06-01 12:00:00", None)


@pytest.mark.parametrize("name", ["Africa/Nowhere", "", "/etc/passwd", "../x", "Africa", "\0"])
def test_a_zone_that_there_is_not_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(Invalid, match="no time zone that is known here"):
        zone_called(name)


def test_a_zone_is_known_by_its_name() -> None:
    assert datetime(2026, 1, 1, tzinfo=zone_called("Africa/Nairobi")).isoformat().endswith("+03:00")
