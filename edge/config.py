"""The station's configuration: one TOML file, every key also as ``OUTPOST_SECTION_KEY``; unknown keys are an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from edge.alerts.rules import RuleBook, read_rules, rule_book
from edge.sync.profiles import profile_of
from firmware_bridge.transports.spec import LinkSpec
from shared import configuration
from shared.errors import ConfigError
from shared.privacy import Species, species_listed
from shared.sayings import Language
from shared.wire.batch import MAX_ROWS

DEFAULT_PATH: Final = Path("/etc/outpost/station.toml")
#: How grave an alert is, the least first.
SEVERITIES: Final = ("low", "medium", "high", "critical")
_SHORTEST_INTERVAL_S: Final = 1.0
_LONGEST_INTERVAL_S: Final = 86_400.0


class StationSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who this station is and where its data lies."""

    id: str = "station"
    data_dir: Path = Path("/var/lib/outpost")


class StoreSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The database. ``key_file`` holds 64 hex digits and should lie on another medium than ``data_dir``.

    Where it is missing at a start the station hears locked, unless ``hears_locked`` is false: then it does not start.
    """

    key_file: Path = Path("/etc/outpost/station.key")
    is_encrypted: bool = True
    hears_locked: bool = True


class LedgerSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ledger; ``dir`` may be another medium and is ``data_dir/ledger`` when empty."""

    dir: str = ""


class ApiSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The LAN interface. Beside addresses and this machine's own name it answers to ``allowed_hosts``.

    With ``is_tls`` that port speaks TLS alone, under the station's own authority; programs of this machine are answered
    on the loopback, and on ``redirect_port`` (0: none) plain HTTP is sent on to it. Where it serves a network it is
    announced there by mDNS unless ``is_announced`` is false.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    is_tls: bool = False
    redirect_port: int = 0
    is_announced: bool = True
    allowed_hosts: tuple[str, ...] = ()


class PrivacySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What viewers see. ``species_file`` is a copy of ``shared/species.toml`` with other categories."""

    species_file: str = ""


class ClockSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``gnss_links`` name links to the station's own receiver. The rest is the virtual clock of a replay."""

    gnss_links: tuple[str, ...] = ()
    virtual_start: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    virtual_speed: float = 1.0
    virtual_origin_s: float = 0.0


class CloudSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a station that is enrolled at a cloud sends what waits: a session every ``interval_s`` seconds.

    Where it is enrolled lies in the database, with its key.
    """

    interval_s: float = 60.0
    batch_fixes: int = 4_000
    is_enabled: bool = True
    profile: str = "lan"
    bytes_a_day: int | None = None
    windows: tuple[str, ...] = ()
    frames: bool | None = None


class NotifySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Alarms that leave the station: SMS by the outbox of gammu-smsd, and apprise's addresses (``targets``).

    They are said in ``language``: of whoever holds a telephone nobody knows which one they read.
    """

    severity: str = "high"
    language: Language = "en"
    sms_outbox: str = ""
    sms_to: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


class UpdateSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signed updates: whose Ed25519 signature counts (``public_keys``, hex digits), and where releases lie.

    With ``is_fetched`` what the cloud offers is fetched into ``inbox``, where the installer finds it.
    """

    public_keys: tuple[str, ...] = ()
    dir: Path = Path("/var/lib/outpost-releases")
    is_fetched: bool = True
    inbox: Path = Path("/var/lib/outpost/updates")


class BackupSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Copies of every hour and archives of every day; ``dir`` should be a second medium, ``data_dir/backup`` if empty.

    ``recovery_public`` is the public half of the emergency kit's recovery key: whoever holds the kit opens an archive.
    """

    dir: str = ""
    recovery_public: str = ""
    hourly_kept: int = 6
    daily_kept: int = 30
    is_enabled: bool = True


class AlertsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the alarms' rules have otherwise: ``file`` is a TOML file of it, ``rules`` the same in place, over it."""

    file: str = ""
    rules: dict[str, Any] = {}


class HabitatSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reserve's maps: ``dir`` holds ``rasters.toml`` and its files, and is ``data_dir`` when empty."""

    dir: str = ""


class ModelsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Versions that serve whatever is newer or was chosen, by model, and the public keys (64 hex digits) of those whose
    models this station takes from people here."""

    forced: dict[str, int] = {}
    publishers: tuple[str, ...] = ()


class EarthrangerSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where ``export --to earthranger`` sends: the site, the provider that stands for this station there, its token."""

    url: str = ""
    provider: str = ""
    sensor: str = "generic"
    token: str = ""


class GundiSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where ``export --to gundi`` sends: the sensors API and the API key of the connection."""

    url: str = ""
    token: str = ""


class LogsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is logged: ``levels`` by package, ``""`` for everything that no other names."""

    levels: dict[str, str] = {}


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration of a station."""

    station: StationSection = StationSection()
    store: StoreSection = StoreSection()
    ledger: LedgerSection = LedgerSection()
    api: ApiSection = ApiSection()
    clock: ClockSection = ClockSection()
    cloud: CloudSection = CloudSection()
    backup: BackupSection = BackupSection()
    notify: NotifySection = NotifySection()
    update: UpdateSection = UpdateSection()
    alerts: AlertsSection = AlertsSection()
    privacy: PrivacySection = PrivacySection()
    habitat: HabitatSection = HabitatSection()
    models: ModelsSection = ModelsSection()
    earthranger: EarthrangerSection = EarthrangerSection()
    gundi: GundiSection = GundiSection()
    logs: LogsSection = LogsSection()
    links: tuple[LinkSpec, ...] = ()

    @property
    def database(self) -> Path:
        """The file of the store."""
        return self.station.data_dir / "station.db"

    @property
    def ledger_dir(self) -> Path:
        """The folder of the ledger."""
        return Path(self.ledger.dir) if self.ledger.dir else self.station.data_dir / "ledger"

    @property
    def backup_dir(self) -> Path:
        """The folder of the backups."""
        return Path(self.backup.dir) if self.backup.dir else self.station.data_dir / "backup"

    @property
    def maps_dir(self) -> Path:
        """The folder of the reserve's maps."""
        return Path(self.habitat.dir) if self.habitat.dir else self.station.data_dir

    def rule_book(self) -> RuleBook:
        """Return the alarms' rules as configured, reading their file; raises ConfigError."""
        of_file = read_rules(Path(self.alerts.file)) if self.alerts.file else {}
        return rule_book(of_file, self.alerts.rules)

    def species(self) -> Species:
        """Return the categories of species; raises ConfigError."""
        return species_listed(Path(self.privacy.species_file) if self.privacy.species_file else None)

    def named_links(self) -> tuple[LinkSpec, ...]:
        """Return the links, each broker session under a name that no other station has."""
        return tuple(
            msgspec.structs.replace(link, client_id=f"outpost-{self.station.id}-{link.name}")
            if link.kind == "mqtt" and not link.client_id
            else link
            for link in self.links
        )

    def key(self) -> bytes | None:
        """Read the key; None where encryption is off. Raises ConfigError."""
        if not self.store.is_encrypted:
            return None
        try:
            text = self.store.key_file.read_text(encoding="ascii").strip()
        except OSError as error:
            raise ConfigError(
                f"the key cannot be read: {error}. `outpost-station init` makes one; an existing database opens "
                "only with the key it was made with"
            ) from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self.store.key_file}: a key is 64 hex digits") from error
        try:
            key = bytes.fromhex(text)
        except ValueError as error:
            raise ConfigError(f"{self.store.key_file}: a key is 64 hex digits") from error
        if len(key) != 32:
            raise ConfigError(f"{self.store.key_file}: a key is 64 hex digits, this has {len(text)}")
        return key


def load(path: Path | None, environment: Mapping[str, str] | None = None) -> Config:
    """Read ``path`` (or the default file, if there is one) and the environment over it; raises ConfigError.

    Without ``environment`` it is the process's, and under development that of ``.env`` in the working folder.
    """
    config = configuration.read(
        Config,
        path,
        DEFAULT_PATH,
        configuration.environment() if environment is None else environment,
        hint="`outpost-station init --config {path}` writes one",
    )
    _check(config)
    return config


def _check(config: Config) -> None:
    names = [link.name for link in config.links]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"links: two are called {name}")
    for name in config.clock.gnss_links:
        if name not in names:
            raise ConfigError(f"clock.gnss_links: there is no link {name}")
    if config.clock.virtual_speed <= 0:
        raise ConfigError("clock.virtual_speed: must be positive")
    if not _SHORTEST_INTERVAL_S <= config.cloud.interval_s <= _LONGEST_INTERVAL_S:
        raise ConfigError(f"cloud.interval_s: must be {_SHORTEST_INTERVAL_S:g} to {_LONGEST_INTERVAL_S:g}")
    if not 1 <= config.cloud.batch_fixes <= MAX_ROWS:
        raise ConfigError(f"cloud.batch_fixes: must be 1 to {MAX_ROWS}")
    profile_of(
        config.cloud.profile, config.cloud.bytes_a_day, config.cloud.windows, frames=config.cloud.frames
    )  # fmt: skip
    if min(config.backup.hourly_kept, config.backup.daily_kept) < 1:
        raise ConfigError("backup.hourly_kept, backup.daily_kept: at least 1 is kept")
    if re.fullmatch("(?:[0-9a-f]{64})?", config.backup.recovery_public) is None:
        raise ConfigError("backup.recovery_public: must be 64 hex digits; `outpost-station init` makes it")
    if config.notify.severity not in SEVERITIES:
        raise ConfigError(f"notify.severity: is one of {', '.join(SEVERITIES)}")
    for number in config.notify.sms_to:
        if re.fullmatch(r"\+?[0-9]{3,15}", number) is None:
            raise ConfigError(f"notify.sms_to: {number!r} is no telephone number")
    for text in config.update.public_keys:
        if re.fullmatch("[0-9a-f]{64}", text) is None:
            raise ConfigError("update.public_keys: a key is 64 hex digits")
    rule_book(config.alerts.rules)
    configuration.check_models(config.models.forced, config.models.publishers)
    configuration.check_port("api.port", config.api.port)
    configuration.check_port("api.redirect_port", config.api.redirect_port)
    if config.api.redirect_port and not config.api.is_tls:
        raise ConfigError("api.redirect_port: sends plain HTTP on to TLS, which api.is_tls has to switch on")
