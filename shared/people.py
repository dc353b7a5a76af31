"""The commands ``user ...`` of both homes, for an operator on the machine itself, and the people of a demo."""

from __future__ import annotations

import io
import json
import secrets
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final, Protocol, TypeVar

import segno
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.accounts.devices import NewCode
from shared.accounts.service import Accounts
from shared.accounts.users import ALL_STATIONS, ROLES, check_role
from shared.console import console, print_facts, print_json
from shared.errors import Conflict
from shared.privacy import OPERATOR
from shared.wire.public.accounts import UserMadeOut, UserOut
from shared.wire.public.phones import link_of

T = TypeVar("T")

ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file; the home's own by default.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
Whom = Annotated[str, typer.Argument(metavar="USER", help="Address or id.")]
RoleName = Annotated[str, typer.Argument(metavar="ROLE", help="admin, conservation_manager, ranger or viewer.")]
_DEMO: Final = ("admin", "manager", "ranger", "viewer")


class Opens(Protocol):
    """Opens a home's accounts by its configuration and runs a job over them."""

    def __call__(self, config: Path | None, job: Callable[[Accounts], Awaitable[T]]) -> T:
        """Return what ``job`` returns."""
        ...


def user_commands(opens: Opens, *, home: str) -> typer.Typer:
    """Return the commands of a home whose accounts ``opens`` opens; a running home sees at once what they write."""
    user = typer.Typer(help=f"The people who may log in at this {home}.", no_args_is_help=True)

    @user.command("add")
    def add(
        email: Annotated[str, typer.Argument(help="The address that names the account.")],
        name: Annotated[str, typer.Option(help="What people call the person; the address if left out.")] = "",
        role: Annotated[str, typer.Option(help="admin, conservation_manager, ranger or viewer.")] = "ranger",
        station: Annotated[
            list[str] | None, typer.Option(help="In the cloud: a station to be seen exactly; all if left out.")
        ] = None,
        generate: Annotated[bool, typer.Option("--generate", help="Make a password and print it.")] = False,
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Add a person; prints the secret for an authenticator app and ten recovery codes, once.

        The password is asked for, or read as one line from standard input.
        """
        password = secrets.token_urlsafe(12) if generate else _ask_password()

        async def job(accounts: Accounts) -> UserMadeOut:
            made, seed, codes = await accounts.add_user(
                OPERATOR, email=email, name=name or email, role=check_role(role), password=password,
                stations=tuple(station or (ALL_STATIONS,)),
            )  # fmt: skip
            return UserMadeOut.of(made, seed, codes, accounts.name)

        _print_made(opens(config, job), password if generate else None, as_json=as_json)

    @user.command("list")
    def listed(config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """List everybody."""

        async def job(accounts: Accounts) -> list[UserOut]:
            return [UserOut.of(each) for each in await accounts.users()]

        found = opens(config, job)
        if as_json:
            print_json(found)
        else:
            _print_users(found)

    @user.command("role")
    def role_command(whom: Whom, to: RoleName, config: ConfigOption = None, as_json: JsonOption = False) -> None:
        """Give somebody another role."""

        async def job(accounts: Accounts) -> UserOut:
            found = await accounts.user(whom)
            return UserOut.of(await accounts.change_user(OPERATOR, found.id, {"role": check_role(to)}))

        print_facts(opens(config, job), as_json=as_json)

    @user.command("stations")
    def stations(
        whom: Whom,
        station: Annotated[list[str], typer.Argument(metavar="STATION...", help="Ids of stations; * is all.")],
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Say which stations' data somebody sees exactly, and at which stations they may log in."""

        async def job(accounts: Accounts) -> UserOut:
            found = await accounts.user(whom)
            return UserOut.of(await accounts.change_user(OPERATOR, found.id, {"stations": tuple(station)}))

        print_facts(opens(config, job), as_json=as_json)

    @user.command("phone")
    def phone(
        whom: Whom,
        url: Annotated[str, typer.Option(help="Where the phone reaches this home, as in https://192.168.4.1:8000.")],
        fingerprint: Annotated[
            str, typer.Option(help="SHA-256 of the authority that the phone is to believe, as /trust shows it.")
        ] = "",
        config: ConfigOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Make a one-time code of fifteen minutes for a person's phone, and show it as a QR code."""

        async def job(accounts: Accounts) -> tuple[NewCode, str]:
            made = await accounts.make_phone_code(OPERATOR, (await accounts.user(whom)).id)
            return made, link_of(made.code, url.rstrip("/"), accounts.home_name, fingerprint or None)

        made, link = opens(config, job)
        if as_json:
            print_json({"code": made.code, "user_id": made.user.id, "email": made.user.email, "link": link})
            return
        drawn = io.StringIO()
        segno.make(link, error="m", micro=False).terminal(drawn, compact=True)
        console.print(Text.from_ansi(drawn.getvalue()))
        console.print(f"{made.user.email}: {made.code}, good for fifteen minutes", highlight=False, markup=False)

    @user.command("revoke")
    def revoke(whom: Whom, config: ConfigOption = None) -> None:
        """Shut somebody out at once, with no internet, and whatever a roster says."""
        opens(config, lambda accounts: _revoke(accounts, whom, is_revoked=True))
        console.print(f"{whom} is shut out; `user restore` takes that back", highlight=False, markup=False)

    @user.command("restore")
    def restore(whom: Whom, config: ConfigOption = None) -> None:
        """Let somebody in again who was shut out here."""
        opens(config, lambda accounts: _revoke(accounts, whom, is_revoked=False))
        console.print(f"{whom} may log in again", highlight=False, markup=False)

    return user


async def operator_token_of(accounts: Accounts, name: str) -> str:
    """Return a token of fifteen minutes for a user, or for the operator; raises NotFound or Conflict."""
    if name == OPERATOR.user_id:
        return accounts.machine_token()
    user = await accounts.user(name)
    if not user.may_enter:
        raise Conflict(f"{user.email} is shut out")
    return accounts.machine_token(user.id)


async def add_first_admin(accounts: Accounts, email: str) -> list[str]:
    """Make the first administrator and return, as lines for paper, what they log in with; it is shown once.

    Raises Conflict where there is somebody already: others are made with `user add`.
    """
    if await accounts.users():
        raise Conflict("there are people already: `user add` adds another")
    password = secrets.token_urlsafe(12)
    made, seed, codes = await accounts.add_user(
        OPERATOR, email=email, name=email, role="admin", password=password, stations=(ALL_STATIONS,)
    )
    return [
        f"First administrator: {made.email}", f"  password {password}", f"  secret for an authenticator app {seed}",
        "  recovery codes, each good once:", *(f"    {code}" for code in codes), "",
    ]  # fmt: skip


async def demo_people(accounts: Accounts, kept: Path) -> list[dict[str, Any]]:
    """Enter a person of each role, once, and return them with what they log in with; ``kept`` remembers it."""
    known = _remembered(kept)
    there = {user.email for user in await accounts.users()}
    people = [each for each in known if each["email"] in there]
    for name, role in zip(_DEMO, ROLES, strict=True):
        email = f"{name}@example.org"
        if email in there:
            continue
        password = secrets.token_urlsafe(9)
        _, seed, codes = await accounts.add_user(
            OPERATOR, email=email, name=f"Demo {name}", role=role, password=password, stations=(ALL_STATIONS,)
        )
        people.append({"email": email, "password": password, "totp_secret": seed, "recovery_code": codes[0]})
    _remember(kept, people)
    return people


def _remembered(kept: Path) -> list[dict[str, Any]]:
    if not kept.exists():
        return []
    people: list[dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8"))
    return people


def _remember(kept: Path, people: list[dict[str, Any]]) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.touch(mode=0o600)
    kept.write_text(json.dumps(people, indent=2) + "\n", encoding="utf-8")


def show_people(people: list[dict[str, Any]], on: Console) -> None:
    """Print who may log in at a demo."""
    heading = "People to log in as, each with a password, an authenticator app's secret and a recovery code:"
    on.print(heading, highlight=False, soft_wrap=True)
    for each in people:
        words = [str(each[name]) for name in ("email", "password", "totp_secret", "recovery_code")]
        on.print(f"  {words[0]:<20} {words[1]}  {words[2]}  {words[3]}", highlight=False, markup=False, soft_wrap=True)


async def _revoke(accounts: Accounts, whom: str, *, is_revoked: bool) -> None:
    found = await accounts.user(whom)
    await accounts.revoke(OPERATOR, found.id, is_revoked=is_revoked)


def _ask_password() -> str:
    if sys.stdin.isatty():
        asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return asked
    return sys.stdin.readline().rstrip("\n")


def _print_made(made: UserMadeOut, password: str | None, *, as_json: bool) -> None:
    if as_json:
        print_json({
            "id": made.user.id, "email": made.user.email, "role": made.user.role, "password": password,
            "totp_secret": made.totp_secret, "totp_uri": made.totp_uri, "recovery_codes": made.recovery_codes,
        })  # fmt: skip
        return
    lines = [f"{made.user.email} is {made.user.role}", *([f"password: {password}"] if password else [])]
    lines += [
        f"secret for an authenticator app: {made.totp_secret}",
        f"the same as the app reads it from a QR code: {made.totp_uri}",
        "recovery codes, each good once; write them down, they are shown only now:",
        *(f"  {code}" for code in made.recovery_codes),
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _print_users(found: list[UserOut]) -> None:
    table = Table(box=None)
    for heading in ("address", "name", "role", "stations", "last login", ""):
        table.add_column(heading, overflow="fold")
    for each in found:
        last = "never" if each.last_login is None else f"{each.last_login:%Y-%m-%d %H:%M}"
        table.add_row(
            Text(each.email), Text(each.name), each.role, Text(" ".join(each.stations)), last,
            "" if each.is_active else "shut out",
        )  # fmt: skip
    console.print(table)
