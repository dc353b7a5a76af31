"""The commands of a station's operation: made, run, looked at, checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import msgspec
import typer
from rich.table import Table
from rich.text import Text

from edge import app, checks
from edge.config import DEFAULT_PATH, Config, load
from edge.ops import update as updates
from edge.ops.archive import Opener
from edge.ops.backup import daily, hourly
from edge.ops.restore import Place
from edge.ops.restore import restore as restore_to
from edge.ops.system_clock import is_kernel_synchronised, system_clock
from edge.ops.trust import own_addresses
from edge.ops.watch import watch as watch_station
from edge.parts import accounts_of, backed_up
from edge.people import with_accounts
from edge.store.store import SpatialiteStore
from edge.sync.session import new_epoch
from edge.sync.sweeping import sweep as sweep_now
from edge.terminal import ConfigOption, JsonOption, progress_of, url_of, with_store
from shared.accounts.tokens import ACCESS_S
from shared.console import console, print_facts, print_json
from shared.errors import ConfigError, Invalid
from shared.logs import asked_level
from shared.people import operator_token_of
from shared.privacy import OPERATOR
from shared.sealed_stream import recovery_key_of

operation = typer.Typer()


@operation.command()
def run(
    config: ConfigOption = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port of the LAN interface; 0 takes a free one.")
    ] = None,
) -> None:
    """Run the station until it is told to stop."""
    asyncio.run(app.serve(load(config), port=port, file=_file(config)))


@operation.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say how the running station is: clock, disk, ledger, links, what could not be decoded."""
    detail = _detail(load(config))
    if as_json:
        print_json(detail)
        return
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, value in detail.items():
        if name == "links":
            for link in value:
                state = "up" if link["is_up"] else f"DOWN {link['last_error']}"
                table.add_row(
                    f"link {link['name']}",
                    Text(
                        f"{state}, {link['frames']} frames, {link['damaged_frames']} damaged, "
                        f"{link['skipped_bytes']} bytes of noise, {link['reconnects']} reconnects"
                    ),
                )
        elif name == "cloud" and value is not None:
            table.add_row(name, Text(_cloud_line(value)))
        elif isinstance(value, dict):
            facts = ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
            table.add_row(name, Text(facts))
        elif name != "said":  # the reasons once more, for who says them in another language
            table.add_row(name, Text("; ".join(value) if isinstance(value, list) else str(value)))
    console.print(table)


def _cloud_line(cloud: dict[str, Any]) -> str:
    waiting = ", ".join(f"{channel['items']} {name}" for name, channel in cloud["waiting"].items())
    said = [f"waiting: {waiting}"]
    if cloud["station_id"] is None:
        said.insert(0, "not enrolled")
    else:
        age_s = cloud["last_receipt_age_s"]
        receipt = "no receipt yet" if age_s is None else f"last receipt {cloud['last_receipt_at']}, {age_s:.0f} s ago"
        said = [f"{cloud['url']} as {cloud['station_id']}", receipt, *said]
    if not cloud["is_enabled"]:
        said.append("switched off")
    elif cloud["bytes_a_day"] is not None:
        said.append(f"{cloud['profile']}: {cloud['bytes_today']} of {cloud['bytes_a_day']} bytes today")
    if cloud["held"]:
        said.append(f"held until both programs read the same: {', '.join(cloud['held'])}")
    said += [f"{cloud[name]} {name.replace('_', ' ')}" for name in ("unsendable",) if cloud[name]]
    return ", ".join(said) + (f"; {cloud['last_error']}" if cloud["last_error"] else "")


@operation.command()
def watch(config: ConfigOption = None) -> None:
    """Show the live table of the running station; Ctrl-C ends it."""
    try:
        settings = load(config)
        watch_station(url_of(settings), console, token=app.operator_tokens(settings))
    except KeyboardInterrupt:
        raise typer.Exit from None


@operation.command()
def token(
    name: Annotated[str, typer.Argument(metavar="USER", help="An address or id; `operator` is this machine itself.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print an access token of 15 minutes, for whoever can read the station's key anyway."""
    if name == OPERATOR.user_id:  # reads only: works on a full disk, too
        made = app.operator_token(load(config))
    else:
        made = with_accounts(config, lambda accounts: operator_token_of(accounts, name))
    if as_json:
        print_json({"access": made, "expires_in": ACCESS_S})
    else:
        typer.echo(made)


@operation.command()
def update(
    file: Annotated[Path | None, typer.Argument(help="A signed update, from a USB stick.")] = None,
    is_older: Annotated[bool, typer.Option("--older", help="Take one that is not newer than what runs.")] = False,
    is_fetched: Annotated[
        bool, typer.Option("--fetched", help="Take the one that the station fetched from its cloud, if it did.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a signed update into use with the next start or, without one, say which release runs.

    After three starts that fail the former release runs again, on the data as they were.
    """
    settings = load(config)
    section, running = settings.update, version("outpost")
    if is_fetched:
        found = updates.take_fetched(
            section.inbox, section.dir, section.public_keys, running=running, architecture=updates.this_architecture()
        )
        print_facts({"version": None} if found is None else found, as_json=as_json)
        return
    if file is not None:
        architecture = updates.this_architecture()
        taken = updates.take(
            file, section.dir, section.public_keys, running=running, architecture=architecture, allows_older=is_older
        )
        print_facts(taken, as_json=as_json)
        return
    left = section.dir / "left"
    print_facts(
        {
            "version": running, "release": updates.current_of(section.dir) or updates.PACKAGED,
            "is_on_trial": (section.dir / "trial").exists(),
            "left_after_failed_starts": left.read_text(encoding="ascii").strip() if left.exists() else None,
        },
        as_json=as_json,
    )  # fmt: skip


@operation.command()
def unlock(
    key_file: Annotated[
        Path | None, typer.Option(help="A file with the key, 64 hex digits; asked for if left out.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Give a locked station its key, which it keeps in memory alone until it ends."""
    settings = load(config)
    text = typer.prompt("Key", hide_input=True) if key_file is None else key_file.read_text(encoding="ascii").strip()
    url = f"{url_of(settings)}/unlock"
    try:
        answer = httpx.post(url, json={"key": text}, timeout=60)
        said = answer.json()
    except (httpx.TransportError, ValueError) as error:
        raise ConfigError(f"nobody answers at {url}: {error}") from error
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise Invalid("the station is not locked")
    if not answer.is_success:
        raise Invalid(said["detail"])
    console.print("unlocked; what was heard meanwhile is taken over now", highlight=False)


@operation.command("log")
def log_level(
    level: Annotated[str, typer.Argument(help="debug, info, warning, error, critical, or `default`.")] = "",
    package: Annotated[str, typer.Argument(help="A package like edge.sync; everything else if left out.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what the running station logs or, with a level, change it for a package until the next start."""
    settings = load(config)
    url = f"{url_of(settings)}/api/v1/logs/levels/"
    print_facts(log_levels(url, app.operator_token(settings), package, level), as_json=as_json)


@operation.command()
def sweep(
    config: ConfigOption = None,
    audit_days: Annotated[
        int | None, typer.Option(min=30, help="Take lines older than so many days off the audit log, too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Remove what is of no use any more, as a running station does each hour; nothing by date on an unsure clock."""
    settings = load(config)

    async def job(store: SpatialiteStore) -> dict[str, int]:
        clock = system_clock()
        clock.kernel_says(is_synchronised=is_kernel_synchronised())
        accounts = await accounts_of(settings, store, clock)
        done = msgspec.structs.asdict(await sweep_now(store, accounts, clock))
        return done if audit_days is None else {**done, "audit_lines": await accounts.prune_audit(audit_days)}

    print_facts(with_store(settings, job), as_json=as_json)


@operation.command()
def backup(
    to: Annotated[Path | None, typer.Option("--to", help="Another folder than the configured one.")] = None,
    is_daily: Annotated[
        bool, typer.Option("--daily", help="One sealed file that may leave the station, not a copy beside it.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Back the station up now and prove it: read back, opened, compared row by row. A running one goes on meanwhile."""
    settings = load(config)
    source, folder, now = (
        backed_up(settings, _file(config), settings.key()),
        to or settings.backup_dir,
        datetime.now(UTC),
    )
    if not settings.database.exists():
        raise ConfigError(f"{settings.database}: there is no station here yet; `outpost-station init` makes one")
    if is_daily:
        with progress_of("sealing and proving", as_json=as_json) as advance:
            made = daily(source, folder, now, kept=settings.backup.daily_kept, progress=_summed(advance))
    else:
        made = hourly(source, folder, now, kept=settings.backup.hourly_kept)
    print_facts({**msgspec.structs.asdict(made), "path": str(made.path)}, as_json=as_json)


@operation.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A file or a folder that `backup` made; of a folder the newest good.")],
    recovery_key_file: Annotated[
        Path | None, typer.Option(help="A file with the emergency kit's recovery key; - asks for it.")
    ] = None,
    is_replacing: Annotated[
        bool, typer.Option("--replace", help="Set aside, and keep, the data that lies there.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup in this station's place; the station must not run. It begins a new epoch towards its cloud.

    On a new box the file and the recovery key are enough: configuration and key come out of the backup.
    """
    file = config or DEFAULT_PATH
    settings = load(config) if file.exists() else Config()
    has_key = settings.store.is_encrypted and settings.store.key_file.exists()
    key = settings.key() if has_key else None
    place = Place(
        database=settings.database, ledger=settings.ledger_dir, config=file, key_file=settings.store.key_file, key=key,
        is_encrypted=settings.store.is_encrypted,
    )  # fmt: skip
    opener = Opener(station_key=key, recovery_key=_recovery_key(recovery_key_file))
    settings.station.data_dir.mkdir(parents=True, exist_ok=True)
    with (
        app.sole_owner(settings.station.data_dir),
        progress_of("restoring", as_json=as_json) as advance,
    ):
        done = restore_to(
            source, place, opener, epoch=new_epoch(), is_replacing=is_replacing, progress=_summed(advance)
        )
    print_facts(done, as_json=as_json)


@operation.command()
def certificate(
    name: Annotated[str, typer.Argument(help="What it is for, like `broker`; the files are called so.")],
    folder: Annotated[Path, typer.Argument(help="Where NAME.pem and NAME.key go.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Issue a certificate of the station's authority for another program of this machine; good for 397 days."""
    settings = load(config)
    if not name.isascii() or not name.isalnum():
        raise Invalid("the name of a certificate has letters and digits only")
    authority = app.authority_of(settings, settings.key(), system_clock())
    files = authority.certificate_for(name, folder, own_addresses())
    print_facts({"files": [str(file) for file in files], "authority": authority.fingerprint}, as_json=as_json)


def _recovery_key(file: Path | None) -> bytes | None:
    if file is None:
        return None
    if str(file) == "-":
        return recovery_key_of(typer.prompt("Recovery key"))
    return recovery_key_of(file.read_text(encoding="ascii"))


def _summed(advance: Callable[[int], None]) -> Callable[[int], None]:
    done = 0

    def add(size_bytes: int) -> None:
        nonlocal done
        done += size_bytes
        advance(done)

    return add


def _file(config: Path | None) -> Path | None:
    """Return the file that the configuration was read from; None where there is none."""
    file = config or DEFAULT_PATH
    return file if file.exists() else None


@operation.command()
def check(
    config: ConfigOption = None,
    is_quick: Annotated[bool, typer.Option("--quick", help="Leave out the pages of database and ledger.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look for every trouble that is known, with its cause and the next step; exit code 1 where there is a fault.

    Reads every page of database and ledger (about 11 s a gigabyte).
    """
    settings = load(config)
    found = checks.look_around(_scene(settings), with_pages=not is_quick)
    states = {each.name: each.state for each in found}
    if as_json:
        print_json({**states, "findings": [each for each in found if each.state != "ok"]})
    else:
        table = Table(box=None, show_header=False, padding=(0, 2))
        for each in found:
            words = f"{each.cause}\n-> {each.next_step}" if each.state != "ok" else ""
            table.add_row(each.name, Text(each.state, _COLOURS[each.state]), Text(words))
        console.print(table)
    if "fault" in states.values():
        raise typer.Exit(1)


_COLOURS: Final = {"ok": "green", "warning": "yellow", "fault": "red"}


def _scene(settings: Config) -> checks.Scene:
    key, key_error = checks.key_of(settings)
    detail, error, began_s = None, "", time.monotonic()
    try:
        detail = _detail(settings)
    except ConfigError as refusal:
        error = refusal.detail
    return checks.Scene(
        config=settings, key=key, key_error=key_error, detail=detail, detail_error=error,
        answered_in_s=time.monotonic() - began_s, is_running=app.url_file(settings).exists(),
    )  # fmt: skip


def log_levels(url: str, token: str, package: str, level: str) -> dict[str, str]:
    """Ask a running station for the levels of its log, or change one."""
    bearer = {"Authorization": f"Bearer {token}"}
    try:
        if level:
            body = {"package": package, "level": asked_level(level)}
            answer = httpx.put(url, json=body, headers=bearer, timeout=10)
        else:
            answer = httpx.get(url, headers=bearer, timeout=10)
        said = answer.json()
    except (httpx.TransportError, ValueError) as error:
        raise ConfigError(f"nobody answers at {url}: {error}") from error
    if not answer.is_success:
        raise Invalid(said["detail"])
    return {name or "everything else": found for name, found in said["levels"].items()}


def _detail(settings: Config) -> dict[str, Any]:
    url = url_of(settings)
    try:
        detail: dict[str, Any] = httpx.get(f"{url}/health/detail", timeout=10).json()
    except (httpx.TransportError, ValueError) as error:
        raise ConfigError(f"the station does not answer at {url}: {error}") from error
    return detail
