"""How long to wait before a port or a broker is tried again."""

from __future__ import annotations

import random

#: The first wait and the longest one, in seconds.
FIRST_S = 0.2
LONGEST_S = 10.0


class Backoff:
    """Waits that double from 0.2 s to 10 s, each shortened by up to half so that many links do not try in step."""

    def __init__(
        self, rng: random.Random | None = None, *, first_s: float = FIRST_S, longest_s: float = LONGEST_S
    ) -> None:
        self._rng = rng or random.Random()
        self._first_s = first_s
        self._longest_s = longest_s
        #: tries in a row that failed
        self.failures = 0

    def reset(self) -> None:
        """Begin again: the last try succeeded."""
        self.failures = 0

    def next_s(self) -> float:
        """Return the wait after one more failure, in seconds."""
        ceiling_s = min(self._longest_s, self._first_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return ceiling_s * (0.5 + 0.5 * self._rng.random())
