"""What may be wrong at a cloud, and with ``--deploy`` which settings are too weak for the internet."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from cloud.accounts.secret import read_secret
from cloud.config import Config
from cloud.store.database import Database, parameters
from cloud.store.facts import facts
from cloud.store.migrate import known_versions, schema_version
from models.artifact import PACKAGED
from models.live.runtime import Models
from shared.configuration import LOOPBACK
from shared.errors import ConfigError, OutpostError

State = Literal["ok", "warning", "fault"]

OLDEST_PYTHON: Final = (3, 11)
SHORTEST_PASSWORD: Final = 16
_SURE_TLS: Final = ("require", "verify-ca", "verify-full")
_KNOWN_WORDS: Final = frozenset({"postgres", "password", "outpost", "secret", "changeme"})
_SMTP_S: Final = 5.0
_PRIVATE: Final = 0o077


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one look found; ``cause`` and ``next_step`` are for a person and empty where nothing is wrong."""

    name: str
    state: State
    cause: str = ""
    next_step: str = ""


async def look_around(config: Config, *, for_deployment: bool = False) -> list[Finding]:
    """Return what every look found."""
    found = [_python(), _secret(config), await _database(config), _models(config), _codes(config)]
    if found[2].state == "ok":
        found.append(await _jobs(config))
    return [*found, *weak_settings(config)] if for_deployment else found


def _python() -> Finding:
    if sys.version_info < OLDEST_PYTHON:
        return _fault("python", f"this is Python {sys.version.split()[0]}", "install Python 3.11 or later")
    return _ok("python")


def _secret(config: Config) -> Finding:
    try:
        read_secret(config.accounts.key_file)
    except ConfigError as error:
        return _fault("secret", error.detail, "bring the copy that was kept; `outpost-cloud init` makes the first one")
    return _ok("secret")


async def _database(config: Config) -> Finding:
    try:
        url = config.database_url()
        async with Database.open(url, pool_min=1, pool_max=1, is_pooled=config.database.is_pooled):
            pass  # whether it answers, in our words
        found, newest = await asyncio.to_thread(schema_version, url), known_versions()[-1]
    except OutpostError as error:
        return _fault(
            "database",
            error.detail,
            "`systemctl status postgresql`; then database.url or DATABASE_URL, letter by letter",
        )
    if found != newest:
        return _fault("database", f"it has schema {found or 'none'}, this program {newest}", "`outpost-cloud migrate`")
    return _ok("database")


def _models(config: Config) -> Finding:
    refused = Models(Path(config.models.folder) if config.models.folder else PACKAGED).load()
    if refused:
        said = "; ".join(f"{name}: {why}" for name, why in sorted(refused.items()))
        return _warning("models", said, "bring the files again, or name another folder in models.folder")
    return _ok("models")


def _codes(config: Config) -> Finding:
    notify = config.notify
    if not (notify.email_host or notify.twilio_account_sid or notify.outbox_file):
        return _warning(
            "codes", "no way to send codes is configured: nobody can register",
            "set EMAIL_HOST and its kin, or TWILIO_ACCOUNT_SID and its kin",
        )  # fmt: skip
    if notify.email_host:
        try:
            socket.create_connection((notify.email_host, notify.email_port), timeout=_SMTP_S).close()
        except OSError as error:
            return _fault(
                "codes", f"{notify.email_host}:{notify.email_port} cannot be reached: {error.strerror or error}",
                "look at the name, the port and the firewall; people with an app log in meanwhile",
            )  # fmt: skip
    return _ok("codes")


async def _jobs(config: Config) -> Finding:
    async with (
        Database.open(config.database_url(), pool_min=1, pool_max=1, is_pooled=config.database.is_pooled) as database,
        database.snapshot() as connection,
    ):
        found = await facts(connection)
    if not found.workers:
        return _warning("jobs", "no worker runs: exports and corridors wait", "`systemctl start outpost-cloud-worker`")
    return _ok("jobs")


def weak_settings(config: Config) -> list[Finding]:
    """Return each setting that is too weak for the internet, as faults; one that says so where there is none."""
    found = [_fault("deploy", cause, step) for cause, step in _weak(config)]
    return found or [_ok("deploy")]


def _weak(config: Config) -> Iterator[tuple[str, str]]:
    api, notify = config.api, config.notify
    if not api.allowed_hosts:
        yield "api.allowed_hosts: is empty", "name the host that people type, in ALLOWED_HOSTS"
    if "*" in api.allowed_hosts:
        yield "api.allowed_hosts: * answers to every name", "name the hosts"
    for origin in api.allowed_origins:
        if not origin.startswith("https://"):
            yield (
                f"api.allowed_origins: {origin} is not https, anybody on the way can write there",
                "name it with https",
            )
    if api.host not in LOOPBACK:
        yield f"api.host: {api.host} is reached without TLS", "listen on 127.0.0.1 and put nginx before it"
    if notify.outbox_file:
        yield "notify.outbox_file: codes go into a file", "take it out"
    if not (notify.email_host or notify.twilio_account_sid):
        yield "notify: codes reach nobody", "set a mail server or Twilio"
    if notify.email_host and not notify.email_use_tls and notify.email_host not in LOOPBACK:
        yield "notify.email_use_tls: codes travel in the clear", "set it to true"
    if notify.twilio_account_sid and not notify.twilio_url.startswith("https://"):
        yield "notify.twilio_url: codes travel in the clear", "use https"
    if not config.backup.recovery_public:
        yield "backup.recovery_public: is empty, whoever finds a backup reads it", "`outpost-cloud keys recovery`"
    yield from _weak_secret(config.accounts.key_file)
    yield from _weak_database(config)


def _weak_secret(file: Path) -> Iterator[tuple[str, str]]:
    try:
        mode, secret = file.stat().st_mode, read_secret(file)
    except (OSError, ConfigError) as error:
        yield f"accounts.key_file: {error}", "`outpost-cloud init` makes one"
        return
    if mode & _PRIVATE:
        yield f"accounts.key_file: {file} is readable by others", f"chmod 600 {file}"
    if len(set(secret)) < len(secret) // 4:
        yield "accounts.key_file: its bytes repeat, it was not made at random", "make another: `outpost-cloud init`"


def _weak_database(config: Config) -> Iterator[tuple[str, str]]:
    try:
        given: dict[str, Any] = parameters(config.database_url(), "")
    except ConfigError as error:
        yield error.detail, "set DATABASE_URL"
        return
    host = str(given.get("host", ""))
    is_local = not host or host.startswith("/") or host in LOOPBACK
    if not is_local and given.get("sslmode") not in _SURE_TLS:
        yield f"database.url: {host} is spoken to without sure TLS", "add sslmode=verify-full (or require) to it"
    password = str(given.get("password", ""))
    if password and (len(password) < SHORTEST_PASSWORD or password.lower() in _KNOWN_WORDS):
        yield "database.url: its password can be guessed", f"one of {SHORTEST_PASSWORD} random characters or more"
    if given.get("user") == "postgres":
        yield "database.url: the service is the server's superuser", "give it a role of its own that owns its database"


def _ok(name: str) -> Finding:
    return Finding(name=name, state="ok")


def _warning(name: str, cause: str, next_step: str) -> Finding:
    return Finding(name=name, state="warning", cause=cause, next_step=next_step)


def _fault(name: str, cause: str, next_step: str) -> Finding:
    return Finding(name=name, state="fault", cause=cause, next_step=next_step)
