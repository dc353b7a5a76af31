"""Fixtures of the rules of synchronisation."""

from __future__ import annotations

import pytest

from tests.unit.shared.sync.desk import Desk


@pytest.fixture
def desk() -> Desk:
    """Give an empty desk."""
    return Desk()
