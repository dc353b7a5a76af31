"""SMS through a GSM modem: files in the outbox of ``gammu-smsd``, a daemon of its own that is not part of this program.

Its files backend sends what lies in its outbox (gammu-smsd-files(7)) under names like::

    OUT<priority><YYYYMMDD>_<HHMMSS>_<serial>_<number>_<note>.txt

A name that appears is read at once, so a file is written under another one first. The note is the alert's id: the same
alert written again, after a kill, is the same file while it waits.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Final

from shared.errors import StoreError

#: One message; a longer text would be cut into several, each of which may be lost.
MOST_CHARACTERS: Final = 160
_MOST_UCS2: Final = 70
_PRIORITY: Final = {"critical": "A", "high": "B", "medium": "C", "low": "D"}


def write_message(outbox: Path, number: str, text: str, *, severity: str, serial: int, at: datetime, note: str) -> Path:
    """Have a message sent to ``number``; it is on disk when this returns. Raises StoreError."""
    # a text beyond ASCII is UTF-16 with its mark, which the daemon tells apart by that mark
    body = text[:MOST_CHARACTERS].encode("ascii") if text.isascii() else text[:_MOST_UCS2].encode("utf-16")
    name = f"OUT{_PRIORITY.get(severity, 'C')}{at:%Y%m%d_%H%M%S}_{serial:02d}_{number}_{note}.txt"
    fresh, final = outbox / f".{name}.new", outbox / name
    try:
        with fresh.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        fresh.chmod(0o660)  # the daemon removes it, under an account of its own
        fresh.replace(final)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise StoreError(f"{outbox}: {error.strerror}; the message waits") from error
    return final
