"""How often somebody may try: pyrate-limiter's window over attempts that lie in the home's database.

Counters outlive a restart and are shared by all processes of a home. Times are ages (``shared.accounts.moments``), so a
step of the wall clock lifts nothing and blocks nobody; an attempt of unknown age counts as just made. Whoever is over
the limit waits, and never longer than a quarter of an hour: then one try is free again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pyrate_limiter import Duration, InMemoryBucket, Rate, RateItem

from shared.accounts.moments import Moment, elapsed_s

RATES: Final = (Rate(5, Duration.MINUTE), Rate(20, Duration.HOUR))
LONGEST_WAIT_S: Final = 900.0
#: Attempts older than this count no more.
MEMORY_S: Final = 3_600.0
_HOUR_MS: Final = 3_600_000


def wait_s(attempts: Sequence[Moment], now: Moment, rates: Sequence[Rate] = RATES) -> float:
    """Return how long to wait before another attempt after these; 0.0: it may be made now."""
    ages = [elapsed_s(each, now) for each in attempts]
    known = sorted((0.0 if age is None else age for age in ages), reverse=True)
    bucket = InMemoryBucket(list(rates))
    here_ms = 2 * _HOUR_MS
    # what is kept was admitted when it came; only the next one is judged
    bucket.items = [RateItem("attempt", here_ms - round(age * 1000) - 1) for age in known if age <= MEMORY_S]
    item = RateItem("attempt", here_ms)
    if bucket.put(item):
        return 0.0
    asked = bucket.waiting(item)
    assert isinstance(asked, int)
    since_last_s = known[-1]
    return max(0.0, min(max(asked, 1) / 1000, LONGEST_WAIT_S - since_last_s))
