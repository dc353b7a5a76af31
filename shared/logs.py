"""What a running program logs: a level for each package, changeable while it runs; the id of the request at every line.

A line is logged where its level is at least that of the longest package that is named and holds the module that spoke::

    {"": "info", "edge.sync": "debug"}   edge.sync.session logs all, everything else from info on

A line is one JSON object: ``event``, ``level``, ``timestamp`` (UTC), ``logger`` (the module) and, inside a request,
``request_id``. No line holds a position.
"""

from __future__ import annotations

import logging
import re
import secrets
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, Final

import structlog

from shared.errors import Invalid

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_NUMBERS: Final[dict[str, int]] = {name: getattr(logging, name.upper()) for name in LEVELS}
_PACKAGE: Final = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*")
_OWN_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9-]{8,64}")
_REQUEST_ID: Final = "request_id"


class Levels:
    """The level of each package; ``""`` is everything that no other names. Asked by every thread, set by one."""

    def __init__(self) -> None:
        self._levels: dict[str, int] = {"": logging.INFO}

    def set(self, package: str, level: str | None) -> None:
        """Give ``package`` a level, or take its own away; raises Invalid."""
        if package and _PACKAGE.fullmatch(package) is None:
            raise Invalid(f"package: {package!r} is no package like edge.sync")
        if level is not None and level not in _NUMBERS:
            raise Invalid(f"level: is one of {', '.join(LEVELS)}")
        changed = dict(self._levels)
        if level is None:
            changed.pop(package, None)
            changed.setdefault("", logging.INFO)
        else:
            changed[package] = _NUMBERS[level]
        self._levels = changed  # whole at once: others read it meanwhile

    def replace(self, levels: Mapping[str, str]) -> None:
        """Take what a configuration says; raises Invalid."""
        for package, level in levels.items():
            self.set(package, level)

    def told(self) -> dict[str, str]:
        """Return the levels by package."""
        return {package: logging.getLevelName(number).lower() for package, number in sorted(self._levels.items())}

    def allows(self, module: str, level: str) -> bool:
        """Say whether a line of ``module`` is logged."""
        levels = self._levels
        name = module
        while name not in levels:
            name = name.rpartition(".")[0]
        return _NUMBERS.get(level, logging.CRITICAL) >= levels[name]


#: Those of this program: one process has one log.
LEVELS_NOW: Final = Levels()


def asked_level(word: str) -> str | None:
    """Return the level that a person typed; None for ``default``, which takes a package's own away."""
    return None if word == "default" else word


class _Logger(structlog.PrintLogger):
    """Where lines go, and which module speaks."""

    def __init__(self, name: str) -> None:
        super().__init__(sys.stderr)
        self.name = name


def _logger_of(*names: Any) -> _Logger:
    return _Logger(str(names[0]) if names else _speaker())


def _speaker() -> str:
    """Return the module that logs: the nearest that is neither structlog nor this one."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name != __name__ and not name.startswith("structlog"):
            return name
        frame = frame.f_back
    return ""


def _filtered(logger: Any, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    module = getattr(logger, "name", "")
    level = "error" if method == "exception" else method
    if not LEVELS_NOW.allows(module, level):
        raise structlog.DropEvent
    event["logger"] = module
    return event


def configure_logging(levels: Mapping[str, str] | None = None) -> None:
    """One JSON object a line on stderr, for journald; plain text on a terminal."""
    LEVELS_NOW.replace(levels or {})
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            _filtered,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=_logger_of,
        cache_logger_on_first_use=False,
    )


def begin_request(given: str | None) -> str:
    """Name what is logged from here on in this task; a proxy's or a phone's own name is taken where it is harmless."""
    name = given if given is not None and _OWN_REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
    structlog.contextvars.bind_contextvars(**{_REQUEST_ID: name})
    return name


def request_id() -> str:
    """Return the name of the request that is being served, "" outside of one."""
    return str(structlog.contextvars.get_contextvars().get(_REQUEST_ID, ""))


def end_request() -> None:
    """Forget the request."""
    structlog.contextvars.unbind_contextvars(_REQUEST_ID)
