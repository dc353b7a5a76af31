"""Backups of the cloud, the key that opens them, and a look into the database."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cloud.commands.opening import (
    ConfigOption,
    JsonOption,
    load_config,
    print_rows,
    with_accounts,
)
from shared.audit_commands import audit_commands
from shared.console import console, errors, print_facts, print_json
from shared.errors import Invalid
from shared.key_commands import key_commands
from shared.sealed_stream import new_recovery_key, recovery_key_of

commands = typer.Typer()
keys = key_commands(with_accounts, home="cloud")
audit = audit_commands(with_accounts, home="cloud")

RecoveryKeyOption = Annotated[
    Path | None, typer.Option("--recovery-key", help="A file with the recovery key, as it was printed.")
]


@commands.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="Where backups go; the newest thirty stay.")] = Path(
        "/var/backups/outpost"
    ),
    is_unproved: Annotated[
        bool, typer.Option("--unproved", help="Do not restore it into a database of its own to compare.")
    ] = False,
    is_verifying: Annotated[
        bool, typer.Option("--verify", help="Make none: look at FOLDER, or the newest backup in it, again.")
    ] = False,
    recovery_key: RecoveryKeyOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Back up database and configuration, sealed for the recovery key, and prove it by restoring it.

    The secret is not in it: keep a copy of it. With --verify each byte of a backup is looked at, and it is restored
    into a database of its own where it can be opened.
    """
    from cloud.config import DEFAULT_PATH
    from cloud.store import dump

    file = config or DEFAULT_PATH
    settings = load_config(config)
    url = settings.database_url()
    if is_verifying:
        print_facts(dump.verify(folder, url, _recovery_key(recovery_key)), as_json=as_json)
        return
    made = dump.backup(
        url, folder, datetime.now(UTC), config=file, is_proving=not is_unproved,
        recovery_public=settings.backup.recovery_public,
    )  # fmt: skip
    if not made.is_sealed:
        errors.print("backup.recovery_public is empty: whoever finds this backup reads it", highlight=False)
    print_facts(made, as_json=as_json)


def _recovery_key(file: Path | None) -> bytes | None:
    return None if file is None else recovery_key_of(file.read_text(encoding="ascii"))


@commands.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A backup, or a folder of backups: the newest.")],
    recovery_key: RecoveryKeyOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fill the configured database, which must be empty, from a backup. It begins a new epoch: stations send again."""
    from cloud.store import dump

    manifest, epoch = dump.restore(source, load_config(config).database_url(), _recovery_key(recovery_key))
    print_facts(
        {"made_at": manifest.made_at, "tables": len(manifest.tables), "rows": manifest.rows, "epoch": epoch},
        as_json=as_json,
    )


@commands.command()
def db(
    config: ConfigOption = None,
    sql: Annotated[str | None, typer.Option("--sql", help="Run this statement and end.")] = None,
) -> None:
    """Open a read-only SQL shell on the database, with PostGIS."""
    from cloud.store.shell import open_shell

    with open_shell(load_config(config).database_url()) as ask:
        if sql is not None:
            print_rows(*ask(sql))
            return
        while True:
            try:
                line = input("sql> ").strip()
            except (EOFError, KeyboardInterrupt):
                return
            if line:
                try:
                    print_rows(*ask(line))
                except Invalid as error:
                    console.print(Text(error.detail, "red"), soft_wrap=True)


@keys.command("recovery")
def recovery(as_json: JsonOption = False) -> None:
    """Make a recovery key for backups and print it, once: print it on paper, and put its public half where it says."""
    key, public = new_recovery_key()
    if as_json:
        print_json({"recovery_key": key, "recovery_public": public})
        return
    for line in (
        "recovery key, for paper and no disk of this server; without it no backup can be opened:", f"  {key}",
        "in the configuration:", "  [backup]", f'  recovery_public = "{public}"',
    ):  # fmt: skip
        console.print(line, highlight=False, markup=False, soft_wrap=True)
