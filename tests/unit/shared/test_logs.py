"""The log: levels by package, changed while it runs, and what every line carries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import structlog

from shared import logs
from shared.errors import Invalid
from shared.logs import LEVELS_NOW, Levels, begin_request, configure_logging, end_request

pytestmark = pytest.mark.unit


@pytest.fixture
def configured() -> Iterator[None]:
    before = structlog.get_config()
    configure_logging()
    yield
    structlog.configure(**before)
    for package in LEVELS_NOW.told():
        LEVELS_NOW.set(package, None)
    LEVELS_NOW.set("", "info")
    end_request()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_the_longest_package_that_holds_the_module_decides() -> None:
    levels = Levels()
    levels.replace({"": "warning", "edge": "error", "edge.sync": "debug"})
    assert levels.allows("edge.sync.session", "debug")
    assert not levels.allows("edge.synchronous", "warning")
    assert levels.allows("cloud.app", "warning")
    assert not levels.allows("cloud.app", "info")
    levels.set("edge.sync", None)
    assert not levels.allows("edge.sync.session", "warning")
    levels.set("", None)
    assert levels.told() == {"": "info", "edge": "error"}


@pytest.mark.parametrize(("package", "level"), [("edge..sync", "info"), ("edge sync", "info"), ("edge", "loud")])
def test_what_is_no_package_or_no_level_is_refused(package: str, level: str) -> None:
    levels = Levels()
    with pytest.raises(Invalid):
        levels.set(package, level)
    assert levels.told() == {"": "info"}


@pytest.mark.usefixtures("configured")
def test_a_line_says_when_in_utc_who_how_grave_and_in_which_request(capsys: pytest.CaptureFixture[str]) -> None:
    log = structlog.get_logger()
    name = begin_request("from-a-phone-1")
    log.warning("frame.skipped", skipped=3)
    end_request()
    log.info("frame.heard")
    first, second = lines(capsys)
    assert name == "from-a-phone-1"
    assert (first["event"], first["level"], first["skipped"]) == ("frame.skipped", "warning", 3)
    assert first["logger"] == __name__
    assert first["request_id"] == name
    assert abs((datetime.fromisoformat(str(first["timestamp"])) - datetime.now(UTC)).total_seconds()) < 60
    assert "request_id" not in second


@pytest.mark.usefixtures("configured")
def test_a_level_changes_while_the_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    log = structlog.get_logger()
    log.debug("first")
    LEVELS_NOW.set(__name__, "debug")
    log.debug("second")
    LEVELS_NOW.set(__name__, "error")
    log.warning("third")
    assert [line["event"] for line in lines(capsys)] == ["second"]


@pytest.mark.parametrize("given", [None, "", "short", "x" * 65, "a b c d e f g", "line\nbreak-line"])
def test_a_request_id_that_could_do_harm_in_a_log_is_replaced(given: str | None) -> None:
    name = begin_request(given)
    end_request()
    assert name != given
    assert len(bytes.fromhex(name)) == 8
    assert logs.request_id() == ""
