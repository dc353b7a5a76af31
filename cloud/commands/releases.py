"""The commands ``release ...``: which releases of the station's program stations may fetch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.commands.opening import ConfigOption, JsonOption
from shared.accounts.service import Accounts
from shared.console import console, print_json
from shared.errors import Invalid
from shared.people import Opens
from shared.privacy import OPERATOR

if TYPE_CHECKING:
    from cloud.config import Config
    from cloud.store.releases import Offered

release = typer.Typer(help="Signed releases of the station's program, for stations to fetch.", no_args_is_help=True)


def release_commands(opens: Opens, load: Callable[[Path | None], Config]) -> typer.Typer:
    """Return the commands of a cloud whose accounts ``opens`` opens and whose configuration ``load`` reads."""

    @release.command("offer")
    def offer(
        file: Annotated[Path, typer.Argument(help="A signed update, as stations take it from a stick.")],
        station: Annotated[
            list[str] | None, typer.Option(help="A station that may take it; repeated for more.")
        ] = None,
        is_for_all: Annotated[bool, typer.Option("--all", help="Every station may take it.")] = False,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Let stations fetch a release: some first, then, by the same command once more, others or all."""
        from cloud.store import releases

        section = load(config).releases
        if not section.dir:
            raise Invalid("releases.dir: name the folder in which releases lie")
        if bool(station) == is_for_all:
            raise Invalid("name stations with --station, or all of them with --all")
        found, made_at = releases.brought(file, Path(section.dir), section.public_keys)
        whom = ("*",) if is_for_all else tuple(station or ())

        async def job(accounts: Accounts) -> Offered:
            new = releases.Offered(offer=found, stations=whom, made_at=made_at, offered_ms=accounts.moments().ms)
            return await accounts.tables.write(releases.offer(new, OPERATOR.user_id))

        _tell([opens(config, job)], as_json=as_json)

    @release.command("list")
    def listed(config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """List what is offered, the newest version first."""
        from cloud.store import releases

        async def job(accounts: Accounts) -> list[Offered]:
            return await accounts.tables.read(releases.offered())

        _tell(opens(config, job), as_json=as_json)

    @release.command("withdraw")
    def withdraw(
        version: Annotated[str, typer.Argument(help="The version.")],
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Offer a version to nobody any more. Stations that have it keep it."""
        from cloud.store import releases

        folder = load(config).releases.dir

        async def job(accounts: Accounts) -> list[Offered]:
            return await accounts.tables.write(releases.withdraw(version, accounts.moments().ms, OPERATOR.user_id))

        gone = opens(config, job)
        for each in gone:
            (Path(folder) / f"{each.offer.sha256}.outpost-update").unlink(missing_ok=True)
        _tell(gone, as_json=as_json)

    return release


def _tell(found: list[Offered], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for each in found:
        whom = "every station" if "*" in each.stations else ", ".join(each.stations)
        console.print(f"{each.offer.version} {each.offer.architecture}: {whom}", highlight=False, markup=False)
