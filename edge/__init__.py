"""The station: a box in a ranger post that hears collars and loses nothing."""

from datetime import UTC, datetime
from typing import Final

#: A wall clock before this instant is certainly wrong; moved with each release.
RELEASED_AT: Final = datetime(2026, 11, 22, tzinfo=UTC)
