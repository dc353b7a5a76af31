"""The commands ``audit ...`` of both homes: the log into a file that lies elsewhere, and a look at such a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from shared.accounts import audit
from shared.accounts.audit import Line
from shared.accounts.service import Accounts
from shared.console import print_facts
from shared.errors import Conflict, Invalid
from shared.people import ConfigOption, JsonOption, Opens

_AT_ONCE: Final = 1_000

FileArgument = Annotated[Path, typer.Argument(help="Lines of JSON, one for each line of the log.")]


def audit_commands(opens: Opens, *, home: str) -> typer.Typer:
    """Return the commands of a home whose accounts ``opens`` opens."""
    commands = typer.Typer(help=f"The audit log of this {home}.", no_args_is_help=True)

    @commands.command("export")
    def export(file: FileArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """Write the log to FILE, or what came since to the end of one; refuses where the two do not fit together."""
        known = _read(file)
        added = opens(config, lambda accounts: _since(accounts, known[-1] if known else None))
        _refuse_torn(file, [*known[-1:], *added])
        with file.open("ab") as out:
            for line in added:
                out.write(msgspec.json.encode(line) + b"\n")
        print_facts({"lines": len(known) + len(added), "added": len(added)}, as_json=as_json)

    @commands.command("verify")
    def verify(file: FileArgument, as_json: JsonOption = False) -> None:
        """Look whether every line of FILE follows from the one before; exit code 1 where one does not."""
        lines = _read(file)
        print_facts({"lines": len(lines), "last": lines[-1].hash if lines else ""}, as_json=as_json)

    return commands


async def _since(accounts: Accounts, last: Line | None) -> list[Line]:
    found: list[Line] = []
    seq = 0 if last is None else last.seq
    while page := await accounts.tables.read(audit.after(seq, _AT_ONCE)):
        found += page
        seq = page[-1].seq
    if last is None:
        return found
    kept = await accounts.tables.read(audit.after(last.seq - 1, 1))
    if not kept or kept[0].hash != last.hash:
        raise Conflict(f"line {last.seq} of the file is not in this log any more: keep both, and find out why")
    return found


def _read(file: Path) -> list[Line]:
    if not file.exists():
        return []
    lines: list[Line] = []
    for number, text in enumerate(file.read_bytes().splitlines(), 1):
        try:
            lines.append(msgspec.json.decode(text, type=Line))
        except msgspec.DecodeError as error:
            raise Invalid(f"{file}: row {number} is no line of an audit log: {error}") from error
    _refuse_torn(file, lines)
    return lines


def _refuse_torn(file: Path, lines: list[Line]) -> None:
    if (torn := audit.torn_in(lines)) is not None:
        raise Conflict(f"{file}: line {torn} does not follow from the one before: the log was altered or cut")
