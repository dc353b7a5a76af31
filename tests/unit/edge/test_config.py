"""The station's configuration: every key in the file and in the environment, unknown ones refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.config import Config, load
from shared.errors import ConfigError

pytestmark = pytest.mark.unit

#: A value of each key as TOML and as the environment says it, and what it becomes.
KEYS: list[tuple[str, str, str, str, Any]] = [
    ("station", "id", '"post-7"', "post-7", "post-7"),
    ("station", "data_dir", '"/srv/outpost"', "/srv/outpost", Path("/srv/outpost")),
    ("store", "key_file", '"/mnt/usb/key"', "/mnt/usb/key", Path("/mnt/usb/key")),
    ("store", "is_encrypted", "false", "false", False),
    ("store", "hears_locked", "false", "false", False),
    ("ledger", "dir", '"/mnt/two"', "/mnt/two", "/mnt/two"),
    ("api", "host", '"::1"', "::1", "::1"),
    ("api", "port", "8123", "8123", 8123),
    ("api", "is_tls", "true", "true", True),
    ("api", "redirect_port", "0", "0", 0),
    ("api", "is_announced", "false", "false", False),
    ("api", "allowed_hosts", '["post.example"]', "post.example", ("post.example",)),
    ("clock", "gnss_links", '["a", "b"]', "a,b", ("a", "b")),
    ("clock", "virtual_start", "2010-01-01T00:00:00Z", "2010-01-01T00:00:00Z", datetime(2010, 1, 1, tzinfo=UTC)),
    ("clock", "virtual_speed", "60", "60", 60.0),
    ("clock", "virtual_origin_s", "12.5", "12.5", 12.5),
    ("cloud", "interval_s", "2.5", "2.5", 2.5),
    ("cloud", "batch_fixes", "500", "500", 500),
    ("cloud", "is_enabled", "false", "false", False),
    ("cloud", "profile", '"sat"', "sat", "sat"),
    ("cloud", "bytes_a_day", "90000", "90000", 90_000),
    ("cloud", "windows", '["22:00-04:30"]', "22:00-04:30", ("22:00-04:30",)),
    ("cloud", "frames", "true", "true", True),
    ("backup", "dir", '"/mnt/usb/backup"', "/mnt/usb/backup", "/mnt/usb/backup"),
    ("backup", "recovery_public", f'"{"0a" * 32}"', "0a" * 32, "0a" * 32),
    ("backup", "hourly_kept", "3", "3", 3),
    ("backup", "daily_kept", "7", "7", 7),
    ("backup", "is_enabled", "false", "false", False),
    ("notify", "severity", '"low"', "low", "low"),
    ("notify", "language", '"sw"', "sw", "sw"),
    ("notify", "sms_outbox", '"/var/spool/gammu/outbox"', "/var/spool/gammu/outbox", "/var/spool/gammu/outbox"),
    ("notify", "sms_to", '["+254700000001"]', "+254700000001", ("+254700000001",)),
    ("notify", "targets", '["json://localhost"]', "json://localhost", ("json://localhost",)),
    ("update", "public_keys", f'["{"0a" * 32}"]', "0a" * 32, ("0a" * 32,)),
    ("update", "dir", '"/srv/releases"', "/srv/releases", Path("/srv/releases")),
    ("update", "is_fetched", "false", "false", False),
    ("update", "inbox", '"/srv/updates"', "/srv/updates", Path("/srv/updates")),
    ("alerts", "file", '"/etc/outpost/alerts.toml"', "/etc/outpost/alerts.toml", "/etc/outpost/alerts.toml"),
    (
        "alerts",
        "rules",
        "{zone_entry = {margin_m = 80.0}}",
        '{"zone_entry": {"margin_m": 80.0}}',
        {"zone_entry": {"margin_m": 80.0}},
    ),
    ("privacy", "species_file", '"/etc/species.toml"', "/etc/species.toml", "/etc/species.toml"),
    ("habitat", "dir", '"/srv/maps"', "/srv/maps", "/srv/maps"),
    ("models", "forced", "{hmm = 1}", '{"hmm": 1}', {"hmm": 1}),
    ("models", "publishers", f'["{"0a" * 32}"]', "0a" * 32, ("0a" * 32,)),
    ("earthranger", "url", '"https://er.example.org"', "https://er.example.org", "https://er.example.org"),
    ("earthranger", "provider", '"post-7"', "post-7", "post-7"),
    ("earthranger", "sensor", '"other"', "other", "other"),
    ("earthranger", "token", '"secret"', "secret", "secret"),
    ("gundi", "url", '"https://gundi.example.org"', "https://gundi.example.org", "https://gundi.example.org"),
    ("gundi", "token", '"secret"', "secret", "secret"),
    ("logs", "levels", '{"edge.sync" = "debug"}', '{"edge.sync": "debug"}', {"edge.sync": "debug"}),
]
LINKS = "".join(f'\n[[links]]\nkind = "serial"\nname = "{name}"\npath = "/dev/tty{name}"\n' for name in "ab")


def read(folder: Path, text: str, environment: dict[str, str] | None = None) -> Config:
    path = folder / "station.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, environment or {})


def keys() -> Iterator[tuple[str, str]]:
    for section in msgspec.structs.fields(Config):
        if section.name != "links":
            yield from ((section.name, key.name) for key in msgspec.structs.fields(section.type))


def test_the_table_of_this_test_names_every_key() -> None:
    assert [(section, key) for section, key, *_ in KEYS] == list(keys())


@pytest.mark.parametrize(("section", "key", "toml", "word", "value"), KEYS, ids=[f"{row[0]}.{row[1]}" for row in KEYS])
def test_every_key_is_read_from_the_file_and_the_environment_goes_before_it(
    tmp_path: Path, section: str, key: str, toml: str, word: str, value: object
) -> None:
    in_file = read(tmp_path, f"[{section}]\n{key} = {toml}\n{LINKS}")
    assert getattr(getattr(in_file, section), key) == value
    by_word = read(tmp_path, LINKS, {f"OUTPOST_{section}_{key}".upper(): word})
    assert getattr(getattr(by_word, section), key) == value
    default = getattr(getattr(Config(), section), key)
    if (
        isinstance(default, str | int | float)
        and not isinstance(default, bool)
        and key not in ("host", "recovery_public", "redirect_port", "profile", "severity", "language")
    ):
        both = read(tmp_path, f"[{section}]\n{key} = {toml}\n{LINKS}", {f"OUTPOST_{section}_{key}".upper(): "7"})
        assert str(getattr(getattr(both, section), key)).removesuffix(".0") == "7"


def test_nothing_said_is_the_default(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Config()
    config = Config()
    assert (config.api.host, config.api.port, config.store.is_encrypted) == ("127.0.0.1", 8000, True)
    assert config.database == Path("/var/lib/outpost/station.db")
    assert config.ledger_dir == Path("/var/lib/outpost/ledger")


def test_the_ledger_may_lie_on_another_medium(tmp_path: Path) -> None:
    assert read(tmp_path, '[ledger]\ndir = "/mnt/two"').ledger_dir == Path("/mnt/two")


def test_a_link_is_read_whole(tmp_path: Path) -> None:
    config = read(tmp_path, '[[links]]\nkind = "mqtt"\nname = "m"\nhost = "h"\nport = 8883\ntopics = ["a/b"]\n')
    (link,) = config.links
    assert (link.kind, link.name, link.host, link.port, link.topics) == ("mqtt", "m", "h", 8883, ("a/b",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[station]\nname = 'x'", "name"),
        ("[stations]\nid = 'x'", "stations"),
        ("colour = 'x'", "colour"),
        ('[[links]]\nkind = "serial"\nname = "a"\npath = "p"\nparity = "odd"', "parity"),
        ('[[links]]\nkind = "carrier pigeon"\nname = "a"', "carrier pigeon|kind"),
        ("[api]\nport = 'many'", "api.port"),
        ("[api]\nport = 65536", "65536"),
        ("[api]\nport = -1", "-1"),
        ("[store]\nis_encrypted = 'perhaps'", "is_encrypted"),
        ("[clock]\nvirtual_start = 2010-01-01T00:00:00", "virtual_start"),
        ("[clock]\nvirtual_speed = 0", "virtual_speed"),
        ("[clock]\ngnss_links = ['nobody']", "no link nobody"),
        (f"{LINKS}{LINKS}", "two are called a"),
        ("[cloud]\ninterval_s = 0.5", "cloud.interval_s"),
        ("[cloud]\ninterval_s = nan", "cloud.interval_s"),
        ("[cloud]\ninterval_s = inf", "cloud.interval_s"),
        ("[cloud]\nbatch_fixes = 0", "cloud.batch_fixes"),
        ("[cloud]\nbatch_fixes = 20001", "cloud.batch_fixes"),
        ("station = 5", "station"),
        ("[station", "station.toml"),
        ("\udcff", "station.toml"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "station.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=words):
        load(path, {})


def test_a_section_that_is_no_table_is_refused_though_the_environment_names_a_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="station: must be a table"):
        read(tmp_path, "station = 5", {"OUTPOST_STATION_ID": "x"})


def test_a_file_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="outpost-station init"):
        load(tmp_path / "none.toml", {})
    with pytest.raises(ConfigError):
        load(tmp_path, {})  # a folder


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "64 hex digits"),
        ("ab" * 31, "this has 62"),
        ("ab" * 33, "this has 66"),
        ("xy" * 32, "64 hex digits"),
        ("é" * 64, "64 hex digits"),
        (None, "cannot be read"),
    ],
)
def test_a_key_file_that_holds_no_key_is_refused(tmp_path: Path, content: str | None, words: str) -> None:
    key = tmp_path / "key"
    if content is not None:
        key.write_text(content, encoding="utf-8")
    config = read(tmp_path, "", {"OUTPOST_STORE_KEY_FILE": str(key)})
    with pytest.raises(ConfigError, match=words):
        config.key()


def test_a_key_is_32_bytes_and_none_where_nothing_is_encrypted(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("0f" * 32 + "\n")
    assert read(tmp_path, "", {"OUTPOST_STORE_KEY_FILE": str(key)}).key() == b"\x0f" * 32
    assert read(tmp_path, "[store]\nis_encrypted = false\nkey_file = '/none'").key() is None
