"""R9: the wall clock of the whole program is wrong, and steps while it works. No fix is refused, lost or doubled."""

from __future__ import annotations

import glob
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.faults.station_process import HttpSender, SerialSender, StationProcess, until
from tests.services import require

pytestmark = [pytest.mark.faults, pytest.mark.slow]

DRAIN_S = 60.0
#: As libfaketime reads them: a boot in 1970, a year back, a day ahead, a step in the middle of a session, the truth.
CLOCKS = {
    "@1970-01-01 00:00:05": None, "-365d": timedelta(days=-365), "+1d": timedelta(days=1),
    "-70": timedelta(seconds=-70), "+0": timedelta(0),
}  # fmt: skip


def shows(station: StationProcess, offset: timedelta | None) -> bool:
    """Say whether the station's clock is that far from the truth; None: in 1970."""
    said = httpx.get(f"{station.url}/health/detail", timeout=120).json()["clock"]["now"]
    now = datetime.fromisoformat(said)
    return now.year == 1970 if offset is None else abs(now - datetime.now(UTC) - offset) < timedelta(seconds=20)


def test_no_fix_is_refused_lost_or_doubled_whatever_the_clock_says(tmp_path: Path) -> None:
    libraries = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")  # noqa: PTH207 - an absolute pattern
    require(libraries, "libfaketime is not installed: apt-get install faketime")
    clock = tmp_path / "clock"
    clock.write_text(next(iter(CLOCKS)) + "\n")
    prefix = (
        "env", f"LD_PRELOAD={libraries[0]}", f"FAKETIME_TIMESTAMP_FILE={clock}", "FAKETIME_CACHE_DURATION=1",
        "DONT_FAKE_MONOTONIC=1",
    )  # fmt: skip
    station = StationProcess(tmp_path / "station", prefix=prefix)
    station.start()
    senders: list[HttpSender | SerialSender] = []
    try:
        station.wait_ready()
        serial, http = SerialSender(station.wire, seed=9), HttpSender(station.url, station.auth)
        senders = [serial, http]
        first = httpx.get(f"{station.url}/health/detail", timeout=120).json()["clock"]
        assert (first["state"], first["now"][:4]) == ("unset", "1970")
        for sender in senders:
            sender.start()
        for words, offset in CLOCKS.items():
            clock.write_text(words + "\n")
            until(lambda offset=offset: shows(station, offset), f"the clock {words}", DRAIN_S)  # type: ignore[misc]
            taken, heard = len(http.acknowledged), len(serial.acknowledged)

            def goes_on(counts: tuple[int, int] = (taken, heard)) -> bool:
                serial.saw(station.fixes())
                return len(http.acknowledged) > counts[0] + 10 and len(serial.acknowledged) > counts[1] + 10

            until(goes_on, f"fixes while the clock says {words}", DRAIN_S)
        for sender in senders:
            sender.finish()

        def shows_all() -> bool:
            shown = set(station.fixes())
            serial.saw(shown)
            return serial.sent | http.sent <= shown

        until(shows_all, "the last fix", DRAIN_S)
        until(lambda: not http.unacknowledged, "the last acknowledgement", DRAIN_S)
        for sender in senders:
            sender.stop()
        station.stop()
        stored = station.stored()
    finally:
        station.close()
        for sender in senders:
            sender.stop()
    assert set(http.statuses) <= {200, 201}, "refused"
    assert set(stored) == serial.sent | http.sent
    assert set(stored.values()) == {1}
