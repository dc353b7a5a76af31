"""Fixtures that more than one package's tests use."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from tests.services import Broker

# Its folder in the checkout would be walked by pytest, which warns, and a warning is an error.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "outpost-hypothesis")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Give a running broker whose sessions survive a kill."""
    broker = Broker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()
