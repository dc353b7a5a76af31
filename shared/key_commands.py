"""The commands ``keys ...`` of both homes: which keys seal and sign, and other ones in their place."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from shared.accounts.rotation import KeyStatus
from shared.accounts.service import Accounts
from shared.console import console, print_json, progress_bar
from shared.errors import Invalid
from shared.people import ConfigOption, JsonOption, Opens
from shared.privacy import OPERATOR
from shared.sync.records import from_ms


class Rotated(msgspec.Struct, frozen=True, kw_only=True):
    """What was changed: names of new keys, a new text of an API key, and how many values were sealed anew."""

    field_key: str | None = None
    token_key: str | None = None
    api_key: str | None = None
    resealed: int | None = None


def key_commands(opens: Opens, *, home: str) -> typer.Typer:
    """Return the commands of a home whose accounts ``opens`` opens; a running home follows within the hour at most."""
    keys = typer.Typer(help=f"The keys that seal and sign at this {home}.", no_args_is_help=True)

    @keys.command("status")
    def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """Say which keys are in use, since when, and how many values still need a former one."""
        found = opens(config, lambda accounts: accounts.key_status())
        if as_json:
            print_json(found)
        else:
            _print_status(found)

    @keys.command("rotate")
    def rotate(
        is_fields: Annotated[bool, typer.Option("--fields", help="The key that seals personal fields.")] = False,
        is_tokens: Annotated[bool, typer.Option("--tokens", help="The key that signs access tokens.")] = False,
        api_key: Annotated[str, typer.Option(help="An API key by its id; the former text is good for 7 days.")] = "",
        is_at_once: Annotated[
            bool, typer.Option("--at-once", help="End every access token now: somebody else has the signing key.")
        ] = False,
        is_resealing: Annotated[
            bool, typer.Option("--reseal", help="Seal everything anew now; a running home does it within the hour.")
        ] = False,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Put new keys in the place of those in use: of fields and tokens, unless one is named.

        Nothing is lost by it: what a former key sealed opens, what it signed is good until it ends.
        """
        if is_at_once and (is_fields or api_key) and not is_tokens:
            raise Invalid("--at-once: is of --tokens")
        is_both = not (is_fields or is_tokens or api_key)

        async def job(accounts: Accounts) -> Rotated:
            done = Rotated()
            if is_fields or is_both:
                done = msgspec.structs.replace(done, field_key=await accounts.rotate_field_key(OPERATOR))
            if is_tokens or is_both:
                made = await accounts.rotate_token_key(OPERATOR, is_at_once=is_at_once)
                done = msgspec.structs.replace(done, token_key=made)
            if api_key:
                _, text = await accounts.rotate_key(OPERATOR, api_key)
                done = msgspec.structs.replace(done, api_key=text)
            if is_resealing:
                most = max(sum((await accounts.key_status()).sealed.values()), 1)
                with progress_bar("sealing anew") as told:
                    n = await accounts.reseal(OPERATOR, lambda n: told(min(n / most, 1.0), f"{n} values"))
                done = msgspec.structs.replace(done, resealed=n)
            return done

        made = opens(config, job)
        if as_json:
            print_json(made)
            return
        for name, value in msgspec.structs.asdict(made).items():
            if value is not None:
                console.print(f"{name.replace('_', ' ')}: {value}", highlight=False, markup=False)

    return keys


def _print_status(found: KeyStatus) -> None:
    table = Table(box=None)
    for heading in ("key", "name", "since", ""):
        table.add_column(heading, overflow="fold")
    counts = ", ".join(f"{n} under {name}" for name, n in found.sealed.items()) or "nothing is sealed"
    ending = ", ".join(found.token_keys_ending)
    for what, name, made_ms, said in (
        ("fields", found.field_key, found.field_key_made_ms, counts),
        ("tokens", found.token_key, found.token_key_made_ms, f"ending: {ending}" if ending else ""),
    ):
        since = "the beginning" if made_ms is None else f"{from_ms(made_ms):%Y-%m-%d %H:%M}"
        table.add_row(what, name, since, Text(said))
    console.print(table)
