"""``outpost-cloud destination``: other systems that fixes are sent to, for whoever is at the machine itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from cloud.commands.opening import ConfigOption, JsonOption
from shared.console import console, print_facts, print_json
from shared.errors import Invalid
from shared.privacy import OPERATOR

if TYPE_CHECKING:
    from cloud.jobs.sending import Destinations
    from cloud.store.destinations import Destination
    from shared.accounts.service import Accounts

T = TypeVar("T")
TOKEN: str = "OUTPOST_DESTINATION_TOKEN"  # noqa: S105 - the name of a variable

NameArgument = Annotated[str, typer.Argument(metavar="DESTINATION", help="Its name or id.")]


class WithDestinations(Protocol):
    """Runs a job over the destinations and accounts of a configuration."""

    def __call__(self, config: Path | None, job: Callable[[Destinations, Accounts], Awaitable[T]]) -> T:
        """Return what the job returns."""
        ...


def destination_commands(over: WithDestinations) -> typer.Typer:
    """Return the commands about destinations."""
    commands = typer.Typer(help="Other systems that fixes are sent to.", no_args_is_help=True)

    @commands.command("add")
    def add(
        name: Annotated[str, typer.Argument(help="What people call it.")],
        kind: Annotated[str, typer.Option(help="earthranger, gundi or movebank.")],
        url: Annotated[str, typer.Option(help="Its address, such as https://reserve.pamdas.org.")],
        provider: Annotated[str, typer.Option(help="EarthRanger's provider, or the feed at Movebank.")] = "",
        token_file: Annotated[
            str, typer.Option(help=f"The file of its token, - for standard input; {TOKEN} serves as well.")
        ] = "",
        species: Annotated[list[str] | None, typer.Option(help="Only this species; repeatable.")] = None,
        animal: Annotated[list[str] | None, typer.Option(help="Only this animal, by name or id; repeatable.")] = None,
        is_reduced: Annotated[bool, typer.Option("--reduced", help="Only what a viewer may see.")] = False,
        interval: Annotated[int, typer.Option(min=60, max=86_400, help="How often, in seconds.")] = 300,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Send fixes to another system from now on, those of before as well. A worker does it."""
        import msgspec

        from shared.wire.public.destinations import DestinationIn

        body = {
            "name": name, "kind": kind, "url": url, "provider": provider, "token": _token(token_file),
            "species": species or None, "animals": animal or None,
            "precision": "reduced" if is_reduced else "exact", "interval_s": interval,
        }  # fmt: skip
        try:
            columns = msgspec.convert(body, DestinationIn).columns()
        except msgspec.ValidationError as error:
            raise Invalid(str(error)) from error
        print_facts(
            _facts(_changed(over, config, "add", lambda known: known.add(columns, OPERATOR.user_id))), as_json=as_json
        )

    @commands.command("list")
    def list_all(config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """List destinations and how each stands."""
        found = over(config, lambda known, _: known.all())
        if as_json:
            print_json([_facts(each) for each in found])
            return
        for each in found:
            print_facts(_facts(each), as_json=False)
            console.print()

    @commands.command("test")
    def test(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """Ask whether address and token are right; no fix leaves."""
        found = over(config, lambda known, _: known.probe(name))
        print_facts({"destination": name, "lets_in": True, "said": found.why}, as_json=as_json)

    @commands.command("pause")
    def pause(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """Send nothing there until it is resumed; nothing is lost."""
        print_facts(_facts(_switched(over, config, name, is_enabled=False)), as_json=as_json)

    @commands.command("resume")
    def resume(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """Go on where it was paused."""
        print_facts(_facts(_switched(over, config, name, is_enabled=True)), as_json=as_json)

    @commands.command("remove")
    def remove(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """Send nothing there any more, and forget what was sent."""

        async def job(known: Destinations) -> Destination:
            there = await known.get(name)
            await known.remove(there.id)
            return there

        gone = _changed(over, config, "remove", job)
        print_facts({"removed": gone.name, "sent": gone.sent}, as_json=as_json)

    return commands


def _switched(over: WithDestinations, config: Path | None, name: str, *, is_enabled: bool) -> Destination:
    async def job(known: Destinations) -> Destination:
        return await known.change((await known.get(name)).id, {"is_enabled": is_enabled})

    return _changed(over, config, "change", job)


def _changed(
    over: WithDestinations, config: Path | None, what: str, job: Callable[[Destinations], Awaitable[Destination]]
) -> Destination:
    """Run a job that changes a destination, and leave a line of it in the audit log."""

    async def noted(known: Destinations, accounts: Accounts) -> Destination:
        from cloud.api.destinations import note

        there = await job(known)
        await note(accounts, OPERATOR, f"destination.{what}", there)
        return there

    return over(config, noted)


def _token(file: str) -> str:
    """Return the token from a file, standard input or the environment; a command line can be read by others."""
    if not file:
        if not (given := os.environ.get(TOKEN, "")):
            raise Invalid(f"name the file of the token with --token-file, or put it into {TOKEN}")
        return given.strip()
    try:
        return (sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")).strip()
    except OSError as error:
        raise Invalid(f"--token-file: {file}: {error.strerror}") from error


def _facts(there: Destination) -> dict[str, Any]:
    from shared.wire.public.destinations import DestinationOut

    facts = DestinationOut.of(there)
    found = {name: getattr(facts, name) for name in facts.__struct_fields__}
    return {
        name: f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else value for name, value in found.items()
    }
