"""The collector of cycles of a program that runs for months: it leaves alone what lives to the end."""

from __future__ import annotations

import gc
from typing import Final

#: So many new objects are made before the young ones are looked at; an upload of a hundred fixes makes ten thousand.
YOUNG: Final = 20_000


def settle() -> None:
    """Have the collector look at what is new alone, and less often; called once, when the program is ready.

    Otherwise it walks through half a million objects of the program itself, time and again: a fifth of what an upload
    takes, and a pause of a tenth of a second in the midst of somebody's answer.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
