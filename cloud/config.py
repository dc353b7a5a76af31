"""The cloud's configuration: one TOML file, every key also as ``OUTPOST_SECTION_KEY``; unknown keys are an error.

The variables that a deployment of the online platform already sets keep their names: DATABASE_URL, ALLOWED_HOSTS and
CORS_ALLOWED_ORIGINS. Where both are set, the one of ours goes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from shared import configuration
from shared.errors import ConfigError

DEFAULT_PATH: Final = Path("/etc/outpost/cloud.toml")
ALIASES: Final = {
    "DATABASE_URL": "database.url",
    "ALLOWED_HOSTS": "api.allowed_hosts",
    "CORS_ALLOWED_ORIGINS": "api.allowed_origins",
}
_SCHEMES: Final = ("postgresql://", "postgres://")
#: What the online platform's framework calls the same thing.
_OTHER_SCHEME: Final = "postgis://"


class DatabaseSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PostgreSQL with PostGIS. ``is_pooled`` says that a pooler in transaction mode stands before it."""

    url: str = ""
    pool_min: int = 2
    pool_max: int = 10
    is_pooled: bool = False
    statement_timeout_s: float = 30.0


class ApiSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP interface. Until accounts exist it answers on the loopback interface only."""

    host: str = "127.0.0.1"
    port: int = 8000
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration of the cloud."""

    database: DatabaseSection = DatabaseSection()
    api: ApiSection = ApiSection()

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
    configuration.check_port("api.port", config.api.port)
    configuration.check_loopback("api.host", config.api.host)
