"""Fixtures that more than one package's tests use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import Broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Give a running broker whose sessions survive a kill."""
    broker = Broker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()
