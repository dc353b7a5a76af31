"""``outpost-cloud station``: the stations that this cloud knows, and what each is told of."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from cloud.commands.opening import (
    ConfigOption,
    JsonOption,
    load_config,
    print_stations,
    read_database,
    write_database,
)
from shared.console import console, print_facts, print_json
from shared.errors import Invalid
from shared.sync.records import to_ms

if TYPE_CHECKING:
    from cloud.store.database import Connection


commands = typer.Typer(help="The stations that this cloud knows.", no_args_is_help=True)


@commands.command("add")
def station_add(
    name: Annotated[str, typer.Argument(help="What people call the post.")],
    identity: Annotated[
        str, typer.Option("--id", help="The station's id in topics, files and signatures; from the name if left out.")
    ] = "",
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="How long the code is valid.")] = 10,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a one-time code by which a station enrols: `outpost-station enrol URL CODE`, there."""
    from cloud.store.stations import new_code

    station_id = identity or "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
    if not station_id.isascii() or not station_id.replace("-", "").replace("_", "").isalnum() or len(station_id) > 64:
        raise Invalid("--id: letters, digits, - and _, 64 at most; give one where the name makes none")

    async def job(connection: Connection) -> str:
        return await new_code(connection, station_id, name, to_ms(datetime.now(UTC)), minutes * 60_000)

    code = write_database(load_config(config), job)
    facts = {"station_id": station_id, "code": code, "valid_minutes": minutes}
    print_facts(facts, as_json=as_json)


@commands.command("list")
def station_list(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the stations."""
    from cloud.store.stations import stations

    found = read_database(load_config(config), stations)
    if as_json:
        print_json(found)
    else:
        print_stations(found)


@commands.command("retire")
def station_retire(
    station_id: Annotated[str, typer.Argument(help="Whose key is taken away.")], config: ConfigOption = None
) -> None:
    """Refuse a station from now on: stolen, replaced, given up. What it brought stays."""
    from cloud.store.stations import retire

    write_database(load_config(config), lambda connection: retire(connection, station_id, to_ms(datetime.now(UTC))))
    console.print(f"{station_id} is retired; a new code lets it in again", highlight=False, markup=False)


@commands.command("follow")
def station_follow(
    station_id: Annotated[str, typer.Argument(help="Who reads.")],
    collars: Annotated[list[str] | None, typer.Argument(help="Ids of collars; none: no collar.")] = None,
    is_all: Annotated[bool, typer.Option("--all", help="Every collar, as at first.")] = False,
    config: ConfigOption = None,
) -> None:
    """Name the collars whose fixes from the internet a station reads. What was brought there stays there."""
    from cloud.store.stations import follow

    if is_all and collars:
        raise Invalid("--all: name collars or all of them")
    followed = None if is_all else list(collars or ())
    write_database(load_config(config), lambda connection: follow(connection, station_id, followed))
    said = "every collar" if followed is None else ", ".join(followed) or "no collar"
    console.print(f"{station_id} follows {said}", highlight=False, markup=False)


@commands.command("scope")
def station_scope(
    station_id: Annotated[str, typer.Argument(help="Who is told.")],
    area: Annotated[Path | None, typer.Option(help="A GeoJSON Polygon or MultiPolygon, or a Feature of one.")] = None,
    animals: Annotated[
        list[str] | None, typer.Option("--animal", help="The id of an animal; as often as needed.")
    ] = None,
    is_all: Annotated[bool, typer.Option("--all", help="Everything, as at first.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a station is told of: an area, animals, or everything. Without an option: show it.

    What it brings itself it always has. Of what is in scope the fixes of other stations go down to it, too; what leaves
    its scope goes from it, but for fixes that it holds.
    """
    from cloud.store.scope import Scope, scope_of
    from cloud.store.stations import set_scope

    settings = load_config(config)
    if is_all or area is not None or animals:
        if is_all and (area is not None or animals):
            raise Invalid("--all: give an area and animals, or all")
        text = None if area is None else _area_of(area)
        wanted = Scope(area=text, animals=sorted(set(animals)) if animals else None)
        write_database(settings, lambda connection: set_scope(connection, station_id, wanted))
    found = read_database(settings, lambda connection: scope_of(connection, station_id))
    if as_json:
        print_json(found)
        return
    parts = [] if found.area is None else ["an area"]
    parts += [] if found.animals is None else [f"{len(found.animals)} animals"]
    said = " and ".join(parts) or "everything"
    console.print(f"{station_id} is told of {said}", highlight=False, markup=False)


def _area_of(path: Path) -> str:
    """Return the geometry in a GeoJSON file as text; raises Invalid."""
    try:
        said = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: is no GeoJSON: {error}") from error
    if isinstance(said, dict) and said.get("type") == "Feature":
        said = said.get("geometry")
    return msgspec.json.encode(said).decode()
