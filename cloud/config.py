"""The cloud's configuration: one TOML file, every key also as ``OUTPOST_SECTION_KEY``; unknown keys are an error.

The variables that a deployment of the online platform already sets keep their names: DATABASE_URL, ALLOWED_HOSTS,
CORS_ALLOWED_ORIGINS, TWILIO_ACCOUNT_SID and EMAIL_HOST with their kin. Where both are set, the one of ours goes first.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from shared import configuration
from shared.errors import ConfigError
from shared.privacy import Species, species_listed
from shared.sayings import Language

DEFAULT_PATH: Final = Path("/etc/outpost/cloud.toml")
ALIASES: Final = {
    "DATABASE_URL": "database.url",
    "ALLOWED_HOSTS": "api.allowed_hosts",
    "CORS_ALLOWED_ORIGINS": "api.allowed_origins",
    "TWILIO_ACCOUNT_SID": "notify.twilio_account_sid",
    "TWILIO_AUTH_TOKEN": "notify.twilio_auth_token",
    "TWILIO_PHONE_NUMBER": "notify.twilio_phone_number",
    "EMAIL_HOST": "notify.email_host",
    "EMAIL_PORT": "notify.email_port",
    "EMAIL_USE_TLS": "notify.email_use_tls",
    "EMAIL_HOST_USER": "notify.email_host_user",
    "EMAIL_HOST_PASSWORD": "notify.email_host_password",
}
_SCHEMES: Final = ("postgresql://", "postgres://")
#: What the online platform's framework calls the same thing.
_OTHER_SCHEME: Final = "postgis://"
#: The authorities that Debian trusts, in one file.
SYSTEM_AUTHORITIES: Final = "/etc/ssl/certs/ca-certificates.crt"
#: What stands for an identity must not be guessed: 128 bits in hex digits are as long.
MIN_KEY_CHARACTERS: Final = 32
#: Names of links that the ledger uses itself.
_TAKEN_NAMES: Final = frozenset({"directip", "rockblock"})


class DatabaseSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PostgreSQL with PostGIS. ``is_pooled`` says that a pooler in transaction mode stands before it."""

    url: str = ""
    pool_min: int = 2
    pool_max: int = 10
    is_pooled: bool = False
    statement_timeout_s: float = 30.0


class ApiSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP interface. It answers to addresses, this machine's own name and ``allowed_hosts``; ``allowed_origins``
    are other sites whose pages may call it."""

    host: str = "127.0.0.1"
    port: int = 8000
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()


class AccountsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Accounts. ``key_file`` holds 64 hex digits: it signs tokens and rosters and opens TOTP secrets. Keep a copy.

    ``name`` is who issues tokens, and what authenticator apps show.
    """

    key_file: Path = Path("/etc/outpost/cloud.key")
    name: str = "outpost"


class BackupSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Backups. ``recovery_public`` is the public half of a recovery key (`outpost-cloud keys recovery`): who holds that
    key, on paper, opens them. Empty: whoever finds a backup reads it."""

    recovery_public: str = ""


class ReleasesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Releases of the station's program that stations may fetch: where their files lie, and whose Ed25519 signatures
    are offered (``public_keys``, hex digits). Every process of the service sees the folder."""

    dir: str = ""
    public_keys: tuple[str, ...] = ()


class NotifySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How codes reach people: mail where ``email_host`` is set, else SMS by Twilio; ``outbox_file`` is for development
    and takes every code in place of sending it. ``twilio_url`` is another server with Twilio's API. They are told in
    ``language``: who asks for a code may not have been here yet."""

    twilio_account_sid: str = ""
    twilio_auth_token: str = ""
    twilio_phone_number: str = ""
    twilio_url: str = "https://api.twilio.com"
    email_host: str = ""
    email_port: int = 587
    email_use_tls: bool = True
    email_host_user: str = ""
    email_host_password: str = ""
    email_from: str = ""
    outbox_file: str = ""
    language: Language = "en"


class PrivacySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What viewers see. ``species_file`` is a copy of ``shared/species.toml`` with other categories."""

    species_file: str = ""


class PagesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What people look at: ``maps`` is the folder of the reserves' own maps (``*.pmtiles``); empty: there are none."""

    maps: str = ""


class HabitatSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reserve's maps: ``dir`` holds ``rasters.toml`` and its files; empty: there are none."""

    dir: str = ""


class ThingsStackSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An application of The Things Stack: ``[[ingest.things_stack]]``, as its console names host, user and key."""

    name: str
    host: str
    port: int = 8883
    username: str | None = None
    password: str | None = None
    tls_ca: str = SYSTEM_AUTHORITIES
    topics: tuple[str, ...] = ("v3/+/devices/+/up",)
    client_id: str = ""
    mqtt_version: Literal["3.1.1", "5"] = "3.1.1"


class IngestSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Collars that reach the cloud over the internet. Nothing is taken unless it is configured here."""

    rockblock_keys: tuple[str, ...] = ()
    directip_host: str = ""
    directip_port: int = 10_800
    directip_peers: tuple[str, ...] = ()
    directip_confirms: bool = True
    things_stack: tuple[ThingsStackSection, ...] = ()


class JobsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Long work. A worker runs one heavy job and ``light_jobs`` others at once; what ended goes after ``keep_days``."""

    light_jobs: int = 4
    poll_s: float = 2.0
    keep_days: int = 30
    file_hours: int = 24
    file_limit_mb: int = 1_000


class CorridorsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What routes are planned on: the reserve's ``rasters.toml`` (by default that of ``habitat.dir``), and a copy of
    ``models/corridor/species.toml`` with other weights."""

    maps: str = ""
    weights: str = ""


class ModelsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where artefacts lie (empty: those of the program), versions that are taken whatever is newer or was chosen, by
    model, and the public keys (64 hex digits) of those whose models are taken."""

    folder: str = ""
    forced: dict[str, int] = {}
    publishers: tuple[str, ...] = ()


class LogsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is logged: ``levels`` by package, ``""`` for everything that no other names."""

    levels: dict[str, str] = {}


class TracesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Traces: ``url`` is a collector's OTLP over HTTP, ``share`` of requests that nobody else decided of are traced."""

    url: str = ""
    share: float = 1.0


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration of the cloud."""

    database: DatabaseSection = DatabaseSection()
    api: ApiSection = ApiSection()
    accounts: AccountsSection = AccountsSection()
    backup: BackupSection = BackupSection()
    releases: ReleasesSection = ReleasesSection()
    notify: NotifySection = NotifySection()
    privacy: PrivacySection = PrivacySection()
    pages: PagesSection = PagesSection()
    habitat: HabitatSection = HabitatSection()
    ingest: IngestSection = IngestSection()
    jobs: JobsSection = JobsSection()
    corridors: CorridorsSection = CorridorsSection()
    models: ModelsSection = ModelsSection()
    logs: LogsSection = LogsSection()
    traces: TracesSection = TracesSection()

    def species(self) -> Species:
        """Return the categories of species; raises ConfigError."""
        return species_listed(Path(self.privacy.species_file) if self.privacy.species_file else None)

    def database_url(self) -> str:
        """Return the database's URL in libpq's spelling; raises ConfigError where none is configured."""
        url = self.database.url
        if not url:
            raise ConfigError(
                "database.url: there is no database; set DATABASE_URL, or url in [database] of the configuration, to "
                "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
            )
        if url.startswith(_OTHER_SCHEME):
            url = _SCHEMES[0] + url.removeprefix(_OTHER_SCHEME)
        return url


def load(path: Path | None, environment: Mapping[str, str] | None = None) -> Config:
    """Read ``path`` (or the default file, if there is one) and the environment over it; raises ConfigError.

    Without ``environment`` it is the process's, and under development that of ``.env`` in the working folder.
    """
    config = configuration.read(
        Config,
        path,
        DEFAULT_PATH,
        configuration.environment() if environment is None else environment,
        hint="`outpost-cloud init --config {path}` writes one",
        aliases=ALIASES,
    )
    _check(config)
    return config


def _check(config: Config) -> None:
    database = config.database
    if database.url and not database.url.startswith((*_SCHEMES, _OTHER_SCHEME)):
        # the value itself is not shown: it holds a password
        raise ConfigError("database.url: must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    if not 0 <= database.pool_min <= database.pool_max or database.pool_max < 1:
        raise ConfigError(
            f"database.pool_max: {database.pool_min} to {database.pool_max} connections are not a range with one in it"
        )
    if database.statement_timeout_s < 0:
        raise ConfigError("database.statement_timeout_s: must be positive, or 0 for no limit")
    if config.pages.maps and not Path(config.pages.maps).is_dir():
        raise ConfigError(f"pages.maps: there is no folder {config.pages.maps}")
    _check_ingest(config.ingest)
    if not all(re.fullmatch("[0-9a-f]{64}", key) for key in config.releases.public_keys):
        raise ConfigError("releases.public_keys: a key is 64 hex digits")
    if re.fullmatch("(?:[0-9a-f]{64})?", config.backup.recovery_public) is None:
        raise ConfigError("backup.recovery_public: must be 64 hex digits; `outpost-cloud keys recovery` makes it")
    configuration.check_models(config.models.forced, config.models.publishers)
    jobs = config.jobs
    if min(jobs.light_jobs, jobs.keep_days, jobs.file_hours, jobs.file_limit_mb) < 1 or jobs.poll_s <= 0:
        raise ConfigError("jobs: light_jobs, poll_s, keep_days, file_hours and file_limit_mb must be positive")
    if config.traces.url and not config.traces.url.startswith(("http://", "https://")):
        raise ConfigError("traces.url: must be http://HOST:PORT/v1/traces, or https")
    if not 0 <= config.traces.share <= 1:
        raise ConfigError("traces.share: must be from 0 to 1")
    configuration.check_port("api.port", config.api.port)
    configuration.check_port("notify.email_port", config.notify.email_port)
    twilio = (config.notify.twilio_account_sid, config.notify.twilio_auth_token, config.notify.twilio_phone_number)
    if any(twilio) and not all(twilio):
        raise ConfigError("notify: twilio_account_sid, twilio_auth_token and twilio_phone_number go together")
    if config.notify.email_host and not (config.notify.email_from or config.notify.email_host_user):
        raise ConfigError("notify.email_from: is required with email_host, unless email_host_user is an address")


def _check_ingest(ingest: IngestSection) -> None:
    for key in ingest.rockblock_keys:
        # the value itself is not shown: whoever has it can make collars be anywhere
        if len(key) < MIN_KEY_CHARACTERS or not (key.isascii() and key.replace("-", "").replace("_", "").isalnum()):
            raise ConfigError(
                f"ingest.rockblock_keys: a key has at least {MIN_KEY_CHARACTERS} letters, digits, - and _; "
                "`openssl rand -hex 16` makes one"
            )
    if ingest.directip_host:
        configuration.check_port("ingest.directip_port", ingest.directip_port)
        if not ingest.directip_peers:
            raise ConfigError(
                "ingest.directip_peers: is required, because DirectIP proves nobody's identity: the addresses of the"
                " Iridium gateway, as the provisioning says them"
            )
    for peer in ingest.directip_peers:
        try:
            ipaddress.ip_network(peer, strict=False)
        except ValueError as error:
            raise ConfigError(f"ingest.directip_peers: {peer} is no address and no network") from error
    names = [source.name for source in ingest.things_stack]
    for source in ingest.things_stack:
        if not source.name or source.name in _TAKEN_NAMES or names.count(source.name) > 1:
            raise ConfigError(f"ingest.things_stack: {source.name!r} cannot be a name here, or two are called so")
        _check_source(f"ingest.things_stack {source.name}", source)


def _check_source(where: str, source: ThingsStackSection) -> None:
    if not source.host or not 1 <= source.port <= 65_535 or not source.topics:
        raise ConfigError(f"{where}: it needs a host, a port and a topic")
    if source.password is not None and source.username is None:
        raise ConfigError(f"{where}: a password needs a username")
    if not source.tls_ca and source.host not in configuration.LOOPBACK:
        raise ConfigError(
            f"{where}: tls_ca may be empty on this machine alone: anybody on the way could read and write"
        )
