"""What may be wrong at a cloud, and with ``--deploy`` which settings are too weak for the internet."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import httpx

from cloud.accounts.secret import read_secret
from cloud.config import Config
from cloud.store.database import Database, parameters
from cloud.store.facts import facts
from cloud.store.migrate import known_versions, schema_version
from models.artifact import PACKAGED
from models.live.runtime import Models
from shared.configuration import LOOPBACK
from shared.errors import ConfigError, OutpostError
from shared.findings import Finding, fault, fine, look_at_memory, look_at_python, warning

#: What a cloud cannot be without; each has one home in the code, which imports it on first use or at the start.
PACKAGES: Final = (
    "alembic", "argon2", "cryptography", "dask", "httptools", "httpx", "litestar", "msgspec", "numpy", "openpyxl",
    "paho", "PIL", "procrastinate", "psycopg", "psycopg_pool", "pyarrow", "pyproj", "rasterio", "reportlab",
    "scipy", "skimage", "structlog", "twilio", "uvicorn", "zstandard",
)  # fmt: skip
SHORTEST_PASSWORD: Final = 16
SLOW_ANSWER_S: Final = 2.0
_SURE_TLS: Final = ("require", "verify-ca", "verify-full")
_KNOWN_WORDS: Final = frozenset({"postgres", "password", "outpost", "secret", "changeme"})
_SMTP_S: Final = 5.0
_ANSWER_S: Final = 10.0
_PRIVATE: Final = 0o077
_EVERY_INTERFACE: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - as somebody may have configured it


async def look_around(
    config: Config, *, for_deployment: bool = False, meminfo: Path = Path("/proc/meminfo")
) -> list[Finding]:
    """Return what every look found."""
    service, answers = await _service(config)
    database = await _database(config)
    found = [
        service, answers, _python(), _secret(config), database, _models(config), _memory(meminfo), _codes(config),
    ]  # fmt: skip
    if database.state == "ok":
        found.append(await _jobs(config))
    return [*found, *weak_settings(config)] if for_deployment else found


async def _service(config: Config) -> tuple[Finding, Finding]:
    """Ask the service of this machine whether it is ready, and say how long that took."""
    host, began_s = _EVERY_INTERFACE.get(config.api.host, config.api.host), time.monotonic()
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=_ANSWER_S) as client:
            answer = await client.get(f"http://{host}:{config.api.port}/health/ready")
    except httpx.ConnectError:
        step = "`sudo systemctl start outpost-cloud`; `journalctl -u outpost-cloud -n 100` says why it ended"
        return warning("service", f"nobody listens at {host}:{config.api.port}", step), fine("answers")
    except httpx.HTTPError as error:
        step = "`journalctl -u outpost-cloud -n 100`, then `sudo systemctl restart outpost-cloud`"
        return fault("service", f"it does not answer: {str(error) or type(error).__name__}", step), fine("answers")
    took_s = time.monotonic() - began_s
    service = fine("service")
    if not answer.is_success:
        step = "the look at the database says why; the service goes on by itself once it answers"
        service = fault("service", f"it answers {answer.status_code}: it is not ready", step)
    if took_s < SLOW_ANSWER_S:
        return service, fine("answers")
    step = '`journalctl -u outpost-cloud -o cat | grep -E "sql.slow|api.slow"` names what takes long'
    return service, warning("answers", f"it took {took_s:.1f} s to say whether it is ready", step)


def _python() -> Finding:
    return look_at_python(PACKAGES, next_step="install the locked packages of this release again, or take its image")


def _memory(meminfo: Path) -> Finding:
    step = "end other programs (`ps aux --sort=-rss | head`), lower jobs.light_jobs, give the worker another machine"
    return look_at_memory(meminfo, next_step=step)


def _secret(config: Config) -> Finding:
    try:
        read_secret(config.accounts.key_file)
    except ConfigError as error:
        return fault("secret", error.detail, "bring the copy that was kept; `outpost-cloud init` makes the first one")
    return fine("secret")


async def _database(config: Config) -> Finding:
    try:
        url = config.database_url()
        async with Database.open(url, pool_min=1, pool_max=1, is_pooled=config.database.is_pooled):
            pass  # whether it answers, in our words
        found, newest = await asyncio.to_thread(schema_version, url), known_versions()[-1]
    except OutpostError as error:
        return fault(
            "database",
            error.detail,
            "`systemctl status postgresql`; then database.url or DATABASE_URL, letter by letter",
        )
    if found != newest:
        return fault("database", f"it has schema {found or 'none'}, this program {newest}", "`outpost-cloud migrate`")
    return fine("database")


def _models(config: Config) -> Finding:
    refused = Models(Path(config.models.folder) if config.models.folder else PACKAGED).load()
    if refused:
        said = "; ".join(f"{name}: {why}" for name, why in sorted(refused.items()))
        return warning("models", said, "bring the files again, or name another folder in models.folder")
    return fine("models")


def _codes(config: Config) -> Finding:
    notify = config.notify
    if not (notify.email_host or notify.twilio_account_sid or notify.outbox_file):
        return warning(
            "codes", "no way to send codes is configured: nobody can register",
            "set EMAIL_HOST and its kin, or TWILIO_ACCOUNT_SID and its kin",
        )  # fmt: skip
    if notify.email_host:
        try:
            socket.create_connection((notify.email_host, notify.email_port), timeout=_SMTP_S).close()
        except OSError as error:
            return fault(
                "codes", f"{notify.email_host}:{notify.email_port} cannot be reached: {error.strerror or error}",
                "look at the name, the port and the firewall; people with an app log in meanwhile",
            )  # fmt: skip
    return fine("codes")


async def _jobs(config: Config) -> Finding:
    async with (
        Database.open(config.database_url(), pool_min=1, pool_max=1, is_pooled=config.database.is_pooled) as database,
        database.snapshot() as connection,
    ):
        found = await facts(connection)
    if not found.workers:
        return warning("jobs", "no worker runs: exports and corridors wait", "`systemctl start outpost-cloud-worker`")
    return fine("jobs")


def weak_settings(config: Config) -> list[Finding]:
    """Return each setting that is too weak for the internet, as faults; one that says so where there is none."""
    found = [fault("deploy", cause, step) for cause, step in _weak(config)]
    return found or [fine("deploy")]


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
    if api.host not in LOOPBACK and all(each in LOOPBACK for each in api.proxies):
        yield (
            f"api.host: {api.host} is reached without TLS",
            "listen on 127.0.0.1 with nginx before it; nginx that stands elsewhere is named in api.proxies",
        )
    if any(ip_network(each, strict=False).prefixlen == 0 for each in api.proxies):
        yield "api.proxies: anybody says there who asks, and limits count by it", "name nginx's own address"
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
