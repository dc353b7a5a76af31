"""Libraries of C that bring other libraries of C along, and do not agree with those that are loaded.

SQLite loads an extension so that its symbols and those of its libraries are everybody's. A wheel that is imported after
SpatiaLite, and brings a PROJ of its own, then calls the PROJ of the system with structures of another version: at best
it answers by the other's rules, at worst it writes where it must not. Who is imported before is bound already and safe.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def own_symbols() -> Iterator[None]:
    """Let what is imported in the block use the libraries that it brings, whatever is loaded (dlopen(3), DEEPBIND)."""
    before = sys.getdlopenflags()
    sys.setdlopenflags(before | getattr(os, "RTLD_DEEPBIND", 0))
    try:
        yield
    finally:
        sys.setdlopenflags(before)
