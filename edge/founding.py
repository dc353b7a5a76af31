"""``outpost-station init``: how a station is made, by flags or by questions, and the emergency kit that comes out.

Nothing that exists is overwritten: a second run goes on where the first ended, and one on a station that works adds
what is missing. The kit is shown once and kept nowhere: its recovery key opens every backup that leaves the box.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from edge import app
from edge.config import DEFAULT_PATH, Config, load
from edge.ops import wifi as networks
from edge.ops.system_clock import is_kernel_synchronised, system_clock
from edge.parts import accounts_of
from edge.store.store import SpatialiteStore
from edge.terminal import ConfigOption, with_store
from shared.accounts.service import Accounts
from shared.console import console
from shared.errors import ConfigError, Invalid
from shared.people import add_first_admin
from shared.sealed_stream import new_recovery_key

founding = typer.Typer()

BY_ID: Final = Path("/dev/serial/by-id")
PROFILE: Final = Path("/etc/NetworkManager/system-connections/outpost.nmconnection")


class Plan(msgspec.Struct, kw_only=True):
    """What a new station is to be."""

    station_id: str
    data_dir: Path
    key_file: Path
    host: str
    port: int
    is_tls: bool
    redirect_port: int
    backup_dir: str
    serial_ports: list[str]
    recovery_public: str = ""


@founding.command()
def init(
    config: ConfigOption = None,
    data_dir: Annotated[Path, typer.Option(help="Where the station keeps its data.")] = Path("/var/lib/outpost"),
    key_file: Annotated[
        Path, typer.Option(help="Where the key goes; better a USB token than the card that holds the data.")
    ] = Path("/etc/outpost/station.key"),
    station_id: Annotated[str, typer.Option(help="The station's name in topics and files.")] = "station",
    host: Annotated[
        str, typer.Option(help="The interface that is served; 0.0.0.0 is the whole network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port there.")] = 8000,
    is_tls: Annotated[bool, typer.Option("--tls", help="TLS on the network, under an authority of its own.")] = False,
    redirect_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of plain HTTP that sends on; 0: none.")
    ] = 0,
    backup_dir: Annotated[str, typer.Option(help="Where backups go: another medium than the data.")] = "",
    serial: Annotated[
        list[str] | None, typer.Option(help="A base station's port; may be given more than once.")
    ] = None,
    admin: Annotated[str, typer.Option(help="The address of the first administrator.")] = "",
    kit: Annotated[Path | None, typer.Option(help="Write the emergency kit to this new file, not the screen.")] = None,
    wifi_name: Annotated[str, typer.Option(help="Make a network of this name for phones.")] = "",
    wifi_joined: Annotated[bool, typer.Option("--wifi-join", help="Join that network, do not make it.")] = False,
    wifi_security: Annotated[str, typer.Option(help="wpa2 or wpa3.")] = "wpa2",
    wifi_profile: Annotated[Path, typer.Option(help="Where NetworkManager finds it.")] = PROFILE,
    is_asking: Annotated[bool, typer.Option("--wizard", help="Ask step by step; flags are what is offered.")] = False,
) -> None:
    """Make a new station: configuration, key, database, and what is asked for. Nothing that exists is overwritten.

    The Wi-Fi's password is read from OUTPOST_WIFI_PASSWORD or asked for; without either one is made.
    """
    path = config or DEFAULT_PATH
    plan = Plan(
        station_id=station_id, data_dir=data_dir, key_file=key_file, host=host, port=port, is_tls=is_tls,
        redirect_port=redirect_port, backup_dir=backup_dir, serial_ports=serial or [],
    )  # fmt: skip
    if is_asking:
        admin, wifi_name = _ask(plan, path, admin, wifi_name)
    recovery = _write_config(path, plan)
    settings = load(path)
    _write_key(settings)
    with_store(settings, _nothing)
    lines = _kit(settings, recovery)
    if admin:
        lines += _first_admin(settings, admin)
    if wifi_name:
        lines += _wifi(wifi_name, wifi_profile, is_own=not wifi_joined, security=wifi_security)
    if recovery or admin or wifi_name:
        _give(lines, kit)
    console.print(
        f"the station's data lies in {settings.station.data_dir}; start it with `outpost-station run`",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _ask(plan: Plan, path: Path, admin: str, wifi_name: str) -> tuple[str, str]:
    """Ask what a new station needs, each with what stands there as the offer."""
    clock = system_clock()
    clock.kernel_says(is_synchronised=is_kernel_synchronised())
    console.print(f"The clock says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC and is {clock.state}.", highlight=False)
    if not clock.state.is_sure and not typer.confirm("Is that right to a minute?", default=True):
        raise Invalid("set it first, as root: date -u -s 'YYYY-MM-DD HH:MM'; then run this again")
    if path.exists():
        console.print(f"{path} exists and stays as it is", highlight=False, markup=False)
    else:
        plan.station_id = typer.prompt("Name of the station", default=plan.station_id)
        plan.data_dir = Path(typer.prompt("Folder of the data", default=str(plan.data_dir)))
        plan.key_file = Path(typer.prompt("File of the key, better on a USB token", default=str(plan.key_file)))
        plan.backup_dir = typer.prompt("Folder of backups, better another medium", default=plan.backup_dir or "none")
        plan.backup_dir = "" if plan.backup_dir == "none" else plan.backup_dir
        if typer.confirm("Serve phones and browsers of the post's network, with TLS?", default=True):
            plan.host, plan.is_tls = "0.0.0.0", True  # noqa: S104 - that is what was asked
        for found in serial_ports():
            if found not in plan.serial_ports and typer.confirm(f"Hear the base station at {found}?", default=True):
                plan.serial_ports.append(found)
    admin = typer.prompt("Address of the first administrator", default=admin or "none")
    wifi_name = typer.prompt("Name of a Wi-Fi to make for phones", default=wifi_name or "none")
    return ("" if admin == "none" else admin), ("" if wifi_name == "none" else wifi_name)


def serial_ports() -> list[str]:
    """Return the ports that are plugged in, by the names that stay theirs."""
    return sorted(str(path) for path in BY_ID.iterdir()) if BY_ID.is_dir() else []


def _write_config(path: Path, plan: Plan) -> str | None:
    """Write the configuration unless there is one; return the recovery key that was made for it."""
    if path.exists():
        return None
    recovery, plan.recovery_public = new_recovery_key()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_config_text(plan), encoding="utf-8")
    console.print(f"wrote {path}", highlight=False, markup=False)
    return recovery


def _config_text(plan: Plan) -> str:
    def text(value: object) -> str:
        return json.dumps(str(value))

    data_dir, key_file = plan.data_dir.absolute(), plan.key_file.absolute()
    lines = ["[station]", f"id = {text(plan.station_id)}", f"data_dir = {text(data_dir)}", ""]
    lines += [
        "[store]",
        f"key_file = {text(key_file)}",
        "",
        "[api]",
        f"host = {text(plan.host)}",
        f"port = {plan.port}",
    ]
    lines += [f"is_tls = {'true' if plan.is_tls else 'false'}"]
    if plan.redirect_port:
        lines.append(f"redirect_port = {plan.redirect_port}")
    lines += ["", "[backup]"]
    lines += [f"dir = {text(plan.backup_dir)}" if plan.backup_dir else '# dir = "/media/backup"  another medium']
    lines += ["# whoever holds the recovery key of the emergency kit opens the daily archives"]
    lines += [f"recovery_public = {text(plan.recovery_public)}", ""]
    for number, port in enumerate(plan.serial_ports, 1):
        name = "base" if number == 1 else f"base{number}"
        lines += ["[[links]]", 'kind = "serial"', f"name = {text(name)}", f"path = {text(port)}", ""]
    lines += [
        "# One block for each wire to collars, for example:",
        "# [[links]]", '# kind = "serial"', '# name = "base"', '# path = "/dev/serial/by-id/..."', "#",
        "# [[links]]", '# kind = "mqtt"', '# name = "chirpstack"', '# host = "127.0.0.1"', "",
    ]  # fmt: skip
    return "\n".join(lines)


def _write_key(settings: Config) -> None:
    file = settings.store.key_file
    if not settings.store.is_encrypted or file.exists():
        return
    if settings.database.exists():
        raise ConfigError(f"{settings.database} exists and its key {file} does not: bring the key")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
    console.print(
        f"wrote {file}: without it the data cannot be read; keep a copy elsewhere", highlight=False, markup=False
    )


def _kit(settings: Config, recovery: str | None) -> list[str]:
    name = socket.gethostname().partition(".")[0]
    scheme = "https" if settings.api.is_tls else "http"
    lines = [
        "OUTPOST EMERGENCY KIT",
        f"station {settings.station.id}, made {datetime.now(UTC):%Y-%m-%d}. Print it and keep it away from the box.",
        "",
    ]
    if recovery is not None:
        lines += ["Recovery key: opens every backup of this station, on any box.", f"  {recovery}", ""]
    if settings.api.is_tls:
        authority = app.authority_of(settings, settings.key(), system_clock())
        lines += ["Certificate of the station, to be compared on /trust:", f"  {authority.fingerprint}", ""]
    if settings.api.host not in ("127.0.0.1", "::1", "localhost"):
        lines += [f"Address: {scheme}://{name}.local:{settings.api.port}/", ""]
    return lines


def _first_admin(settings: Config, email: str) -> list[str]:
    async def job(store: SpatialiteStore) -> list[str]:
        accounts: Accounts = await accounts_of(settings, store, system_clock())
        return await add_first_admin(accounts, email)

    return with_store(settings, job)


def _wifi(name: str, file: Path, *, is_own: bool, security: str) -> list[str]:
    if security not in ("wpa2", "wpa3"):
        raise Invalid("--wifi-security: is wpa2 or wpa3")
    word = os.environ.get("OUTPOST_WIFI_PASSWORD", "")
    if not word:
        asked = "Password of the Wi-Fi" + (" (empty makes one)" if is_own else "")
        word = typer.prompt(asked, default="", hide_input=True, show_default=False) if sys.stdin.isatty() else ""
    if not word and not is_own:
        raise Invalid("a network to join needs its password in OUTPOST_WIFI_PASSWORD")
    wifi = networks.checked(
        networks.Wifi(
            ssid=name, passphrase=word or secrets.token_urlsafe(9), is_own=is_own,
            security="wpa3" if security == "wpa3" else "wpa2",
        )
    )  # fmt: skip
    if file.exists():
        raise ConfigError(f"{file}: exists and stays as it is; remove it to make another network")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(networks.keyfile(wifi), encoding="utf-8")
    console.print(f"wrote {file}; `nmcli connection reload` takes it into use", highlight=False, markup=False)
    if not is_own:
        return []
    return [
        "Wi-Fi of the post, for phones to scan:",
        f"  {wifi.ssid}   {wifi.passphrase}",
        *_qr(networks.qr_text(wifi)),
    ]


def _qr(text: str) -> Sequence[str]:
    return [*networks.qr_lines(text).splitlines(), ""]


def _give(lines: list[str], kit: Path | None) -> None:
    """Print the kit, or write it to a file that did not exist."""
    text = "\n".join(lines).rstrip() + "\n"
    if kit is None:
        console.print("\n" + text, highlight=False, markup=False, soft_wrap=True)
        return
    descriptor = os.open(kit, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, private from the first byte
        file.write(text)
    console.print(f"wrote the emergency kit to {kit}: print it, then remove it", highlight=False, markup=False)


async def _nothing(_: SpatialiteStore) -> None:
    return None
