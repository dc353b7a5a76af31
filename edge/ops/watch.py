"""The live table: every animal, its last fix, state, battery, link and rate, and alerts, from the event stream."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

RATE_WINDOW_S: Final = 60.0
REFRESH_S: Final = 1.0
#: Alerts that are shown under the table.
ALERTS: Final = 6
#: Batteries are asked for at every so many refreshments: most collars tell them once a day.
BATTERY_TURNS: Final = 5
#: From so many characters on the whole table is shown.
WIDE: Final = 116
#: The columns, and how wide a terminal must be for each: what says least goes first.
_COLUMNS: Final = {
    "animal": 0, "species": 100, "collar": WIDE, "last fix": 0, "age": 0, "position": 0, "state": 0, "battery": 84,
    "link": 76, "/min": 88,
}  # fmt: skip
_RIGHT: Final = ("age", "position", "/min")


class _Line(msgspec.Struct):
    """What the table shows of one animal or, where nobody wears it, of one collar."""

    name: str
    species: str = ""
    collar_id: str = ""
    lon_deg: float | None = None
    lat_deg: float | None = None
    recorded_at: datetime | None = None
    battery: str = ""
    link: str = ""
    state: str = ""


class Board:
    """The state behind the table; ``hear`` takes events, from any thread."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lines: dict[str, _Line] = {}
        self._animals: dict[str, str] = {}
        self._arrivals: dict[str, deque[float]] = {}
        self._all: deque[float] = deque()
        self._alerts: dict[str, str] = {}
        self._monotonic = monotonic
        self._lock = threading.Lock()

    def know(self, animals: list[dict[str, Any]]) -> None:
        """Take the list of animals with their collars."""
        with self._lock:
            for animal in animals:
                line = self._lines.setdefault(animal["id"], _Line(animal["name"]))
                line.name, line.species = animal["name"], animal["species"]
                line.collar_id = animal["collar_id"] or ""
                self._animals[line.collar_id] = animal["id"]

    def know_batteries(self, collars: list[dict[str, Any]]) -> None:
        """Take the list of collars with what they last said of their batteries."""
        levels = {collar["id"]: collar["battery_level"] for collar in collars}
        with self._lock:
            for line in self._lines.values():
                line.battery = levels.get(line.collar_id) or line.battery

    def hear(self, fix: dict[str, Any]) -> None:
        """Take a fix event."""
        with self._lock:
            key = fix["animal"] or self._animals.get(fix["collar_id"]) or fix["collar_id"]
            line = self._lines.setdefault(key, _Line("(no animal)", collar_id=fix["collar_id"]))
            now = self._monotonic()
            for arrivals in (self._arrivals.setdefault(key, deque()), self._all):
                arrivals.append(now)
                _recent(arrivals, now)
            recorded_at = datetime.fromisoformat(fix["recorded_at"])
            line.link = fix["link"] or line.link
            if fix["battery_mv"] is not None:
                line.battery = f"{fix['battery_mv'] / 1000:.2f} V"
            if fix["lon"] is not None and (line.recorded_at is None or recorded_at >= line.recorded_at):
                line.recorded_at, line.lon_deg, line.lat_deg = recorded_at, fix["lon"], fix["lat"]

    def say(self, said: dict[str, Any]) -> None:
        """Take what the models say after a fix: the newest state of which they are sure."""
        with self._lock:
            line = self._lines.get(said["animal"])
            if line is not None and said["state"] is not None:
                line.state = said["state"]

    def alarm(self, alert: dict[str, Any]) -> None:
        """Take an alert, or that it is over."""
        with self._lock:
            self._alerts.pop(alert["id"], None)
            if alert["status"] == "active" and not alert["is_late"]:
                self._alerts[alert["id"]] = f"{alert['severity']}: {alert['title']}"

    def alerts(self) -> list[str]:
        """Return the newest active alerts that came while this table was shown, the newest first."""
        with self._lock:
            return list(reversed(self._alerts.values()))[:ALERTS]

    @property
    def arrivals(self) -> int:
        """How many arrivals of fixes are remembered, for the rates of the last minute."""
        with self._lock:
            return sum(map(len, self._arrivals.values()))

    def table(self, now: datetime, width: int = WIDE) -> Table:
        """Return the table as it stands, ``width`` characters wide at the most; ``now`` is the station's clock."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        names = [name for name, least in _COLUMNS.items() if width >= least]
        for name in names:
            table.add_column(name, no_wrap=True, justify="right" if name in _RIGHT else "left")
        with self._lock:
            for key, line in sorted(self._lines.items(), key=lambda item: item[1].name):
                rate = _recent(self._arrivals.get(key, deque()), self._monotonic())
                cells = {
                    "animal": line.name,
                    "species": line.species,
                    "collar": _short(line.collar_id),
                    "last fix": _instant(line.recorded_at, now),
                    "age": _age(now, line.recorded_at),
                    "position": f"{line.lat_deg:8.4f} {line.lon_deg:9.4f}" if line.lat_deg is not None else "-",
                    "state": line.state or "-",
                    "battery": line.battery or "-",
                    "link": line.link or "-",
                    "/min": f"{rate}",
                }
                table.add_row(*(cells[name] for name in names))
            total = _recent(self._all, self._monotonic())
        table.caption = f"{total} fixes in the last minute"
        table.caption_justify = "left"
        return table


def watch(url: str, console: Console, *, token: Callable[[], str], is_alive: Callable[[], bool] = lambda: True) -> None:
    """Show the live table of the station at ``url`` until ``is_alive`` says no or Ctrl-C.

    ``token`` gives a token of the station's; it is asked often, because tokens are short.
    Where the output is no terminal it prints one line of totals every ten seconds instead.
    """
    board = Board()
    is_over = threading.Event()
    listener = threading.Thread(target=_listen, args=(url, board, is_over, token), daemon=True)
    listener.start()
    try:
        if console.is_terminal:
            with Live(console=console, auto_refresh=False, transient=True) as live:
                turn = 0
                while is_alive():
                    if turn % BATTERY_TURNS == 0:
                        _refresh_batteries(url, board, token)
                    turn += 1
                    live.update(_screen(url, board, console.width), refresh=True)
                    time.sleep(REFRESH_S)
        else:
            spoken = 0.0
            while is_alive():
                if time.monotonic() - spoken >= 10.0:
                    console.print(_totals(_detail(url)), highlight=False)
                    spoken = time.monotonic()
                time.sleep(0.1)
    finally:
        is_over.set()


def _refresh_batteries(url: str, board: Board, token: Callable[[], str]) -> None:
    try:
        with httpx.Client(timeout=5, headers=_bearer(token)) as client:
            board.know_batteries(_all_rows(client, f"{url}/api/v1/collars/?page_size=500"))
    except (httpx.TransportError, ValueError, KeyError):
        return  # the station restarts; the next turn asks again


def _all_rows(client: httpx.Client, page: str | None) -> list[dict[str, Any]]:
    """Return the rows of a list from ``page`` on."""
    rows: list[dict[str, Any]] = []
    while page:
        answer = client.get(page).json()
        rows += answer["results"]
        page = answer["next"]
    return rows


def _screen(url: str, board: Board, width: int) -> Group:
    detail = _detail(url)
    now = datetime.fromisoformat(detail["clock"]["now"]) if detail else datetime.now(UTC)
    alerts = [Text(alert, style="bold red") for alert in board.alerts()]
    return Group(Text(_totals(detail), style="dim"), board.table(now, width), *alerts)


def _totals(detail: dict[str, Any] | None) -> str:
    if detail is None:
        return "the station does not answer"
    links = ", ".join(f"{link['name']} {'up' if link['is_up'] else 'DOWN'}" for link in detail["links"])
    return (
        f"clock {detail['clock']['state']} {detail['clock']['now'][:19]}Z | fixes {detail['store']['fixes']} | "
        f"ledger {detail['ledger']['frames']} frames | undecoded {detail['ledger']['undecoded']} | {links}"
    )


def _detail(url: str) -> dict[str, Any] | None:
    try:
        answer = httpx.get(f"{url}/health/detail", timeout=5)
        body: dict[str, Any] = answer.json()
    except (httpx.TransportError, ValueError):
        return None
    return body


def _listen(url: str, board: Board, is_over: threading.Event, token: Callable[[], str]) -> None:
    takers = {"fix": board.hear, "state": board.say, "alert": board.alarm}
    while not is_over.is_set():
        try:
            with httpx.Client(timeout=httpx.Timeout(10, read=60), headers=_bearer(token)) as client:
                board.know(_all_rows(client, f"{url}/api/v1/animals/?page_size=500&ordering=name"))
                with client.stream("GET", f"{url}/api/v1/events") as stream:
                    for event, data in _events(stream.iter_lines()):
                        if is_over.is_set():
                            return
                        if event in takers:
                            takers[event](data)
        except (httpx.HTTPError, ValueError, KeyError):
            is_over.wait(1.0)  # the station restarts; its table goes on when it is back


def _bearer(token: Callable[[], str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {token()}"}


def _events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    event = "message"
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            event = value
        elif name == "data":
            yield event, json.loads(value)


def _recent(arrivals: deque[float], now: float) -> int:
    while arrivals and now - arrivals[0] > RATE_WINDOW_S:
        arrivals.popleft()
    return len(arrivals)


def _short(collar_id: str) -> str:
    return collar_id if len(collar_id) <= 16 else f"{collar_id[:8]}…{collar_id[-4:]}"


def _instant(recorded_at: datetime | None, now: datetime) -> str:
    """Return the time of the day (UTC), with the date where that is another than the clock's."""
    if recorded_at is None:
        return "-"
    return f"{recorded_at:%H:%M:%S}" if recorded_at.date() == now.date() else f"{recorded_at:%m-%d %H:%M}"


def _age(now: datetime, recorded_at: datetime | None) -> str:
    if recorded_at is None:
        return "-"
    seconds = max((now - recorded_at).total_seconds(), 0.0)
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
