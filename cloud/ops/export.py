"""What ``outpost-cloud export`` does: a file that appears whole or not at all, and a line in the audit log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO, cast

from rich.console import Console

from cloud.jobs.export import FORMATS, export_to
from cloud.store.database import Database
from cloud.store.export import Selection
from shared.accounts.audit import Entry
from shared.accounts.service import Accounts
from shared.errors import Invalid
from shared.exchange.formats import written_format
from shared.privacy import OPERATOR

_EVERY: int = 100_000


async def export_file(
    database: Database, accounts: Accounts, path: Path, selection: Selection, form: str | None, console: Console | None
) -> int:
    """Write what ``selection`` names to ``path`` (``-``: standard output) and return how many fixes there were.

    ``console`` hears how far it is. Raises Invalid for a format that there is not, NotFound for an animal.
    """
    written = form or written_format(path)
    if written not in FORMATS:
        raise Invalid(f"{written!r} is no format; there are {', '.join(FORMATS)}")

    def progress(n: int, total: int) -> None:
        if console is not None and n % _EVERY == 0:
            console.print(f"{n} of {total} fixes", highlight=False)

    view = accounts.view(OPERATOR)
    if str(path) == "-":
        n = await export_to(database, view, selection, written, cast("BinaryIO", sys.stdout.buffer), progress)
    else:
        part = path.with_name(f"{path.name}.part")
        try:
            with part.open("wb") as file:
                n = await export_to(database, view, selection, written, file, progress)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    words = f"{n} fixes of {', '.join(selection.animals or ()) or selection.species or 'all'} to {path.name} exact"
    await accounts.note([Entry(accounts.moments().ms, OPERATOR.user_id, "export", words)])
    return n
