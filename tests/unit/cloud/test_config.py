"""The cloud's configuration: every key in the file and in the environment, unknown ones refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud.config import Config, ThingsStackSection, load
from shared.errors import ConfigError

pytestmark = pytest.mark.unit

URL = "postgresql://ranger:geheim@db.example:5433/outpost?sslmode=verify-full"
TWILIO = {"twilio_account_sid": "AC1", "twilio_auth_token": "geheim", "twilio_phone_number": "+15550100"}
KEY = "0123456789abcdef0123456789abcdef"
#: A value of each key as TOML and as the environment says it, and what it becomes.
KEYS: list[tuple[str, str, str, str, Any]] = [
    ("database", "url", f'"{URL}"', URL, URL),
    ("database", "pool_min", "1", "1", 1),
    ("database", "pool_max", "20", "20", 20),
    ("database", "is_pooled", "true", "true", True),
    ("database", "statement_timeout_s", "2.5", "2.5", 2.5),
    ("api", "host", '"::1"', "::1", "::1"),
    ("api", "port", "8123", "8123", 8123),
    ("api", "allowed_hosts", '["a.example", "b.example"]', "a.example,b.example", ("a.example", "b.example")),
    ("api", "allowed_origins", '["https://a.example"]', "https://a.example", ("https://a.example",)),
    ("accounts", "key_file", '"/mnt/key"', "/mnt/key", Path("/mnt/key")),
    ("accounts", "name", '"mara"', "mara", "mara"),
    ("backup", "recovery_public", f'"{"0a" * 32}"', "0a" * 32, "0a" * 32),
    ("releases", "dir", '"/tmp"', "/tmp", "/tmp"),
    ("releases", "public_keys", f'["{"0a" * 32}"]', "0a" * 32, ("0a" * 32,)),
    *(("notify", key, f'"{word}"', word, word) for key, word in TWILIO.items()),
    ("notify", "twilio_url", '"http://127.0.0.1:1"', "http://127.0.0.1:1", "http://127.0.0.1:1"),
    ("notify", "email_host", '"mail.example"', "mail.example", "mail.example"),
    ("notify", "email_port", "465", "465", 465),
    ("notify", "email_use_tls", "false", "false", False),
    ("notify", "email_host_user", '"outpost"', "outpost", "outpost"),
    ("notify", "email_host_password", '"geheim"', "geheim", "geheim"),
    ("notify", "email_from", '"outpost@mail.example"', "outpost@mail.example", "outpost@mail.example"),
    ("notify", "outbox_file", '"var/outbox"', "var/outbox", "var/outbox"),
    ("notify", "language", '"fr"', "fr", "fr"),
    ("privacy", "species_file", '"/etc/species.toml"', "/etc/species.toml", "/etc/species.toml"),
    ("pages", "maps", '"/tmp"', "/tmp", "/tmp"),
    ("habitat", "dir", '"/srv/maps"', "/srv/maps", "/srv/maps"),
    ("ingest", "rockblock_keys", f'["{KEY}"]', KEY, (KEY,)),
    ("ingest", "directip_host", '""', "", ""),
    ("ingest", "directip_port", "10801", "10801", 10_801),
    (
        "ingest",
        "directip_peers",
        '["192.0.2.1", "2001:db8::/32"]',
        "192.0.2.1,2001:db8::/32",
        ("192.0.2.1", "2001:db8::/32"),
    ),
    ("ingest", "directip_confirms", "false", "false", False),
    (
        "ingest",
        "things_stack",
        '[{name = "ttn", host = "eu1.example"}]',
        '[{"name": "ttn", "host": "eu1.example"}]',
        (ThingsStackSection(name="ttn", host="eu1.example"),),
    ),
    ("jobs", "light_jobs", "2", "2", 2),
    ("jobs", "poll_s", "0.5", "0.5", 0.5),
    ("jobs", "keep_days", "7", "7", 7),
    ("jobs", "file_hours", "2", "2", 2),
    ("jobs", "file_limit_mb", "50", "50", 50),
    ("corridors", "maps", '"/m/rasters.toml"', "/m/rasters.toml", "/m/rasters.toml"),
    ("corridors", "weights", '"/m/weights.toml"', "/m/weights.toml", "/m/weights.toml"),
    ("models", "folder", '"/m/artifacts"', "/m/artifacts", "/m/artifacts"),
    ("models", "forced", "{corridor = 1}", '{"corridor": 1}', {"corridor": 1}),
    ("models", "publishers", f'["{"0a" * 32}"]', "0a" * 32, ("0a" * 32,)),
    ("logs", "levels", '{"cloud.sync" = "debug"}', '{"cloud.sync": "debug"}', {"cloud.sync": "debug"}),
    (
        "traces",
        "url",
        '"http://otel.example/v1/traces"',
        "http://otel.example/v1/traces",
        "http://otel.example/v1/traces",
    ),
    ("traces", "share", "0.5", "0.5", 0.5),
]
#: What the configuration asks for beside a key.
BESIDE = {
    **{
        key: {f"OUTPOST_NOTIFY_{other}".upper(): word for other, word in TWILIO.items() if other != key}
        for key in TWILIO
    },
    "email_host": {"OUTPOST_NOTIFY_EMAIL_FROM": "outpost@mail.example"},
}


def read(folder: Path, text: str, environment: dict[str, str] | None = None) -> Config:
    path = folder / "cloud.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, environment or {})


def keys() -> Iterator[tuple[str, str]]:
    for section in msgspec.structs.fields(Config):
        yield from ((section.name, key.name) for key in msgspec.structs.fields(section.type))


def test_the_table_of_this_test_names_every_key() -> None:
    assert [(section, key) for section, key, *_ in KEYS] == list(keys())


@pytest.mark.parametrize(("section", "key", "toml", "word", "value"), KEYS, ids=[f"{row[0]}.{row[1]}" for row in KEYS])
def test_every_key_is_read_from_the_file_and_from_the_environment(
    tmp_path: Path, section: str, key: str, toml: str, word: str, value: object
) -> None:
    beside = BESIDE.get(key, {})
    in_file = read(tmp_path, f"[{section}]\n{key} = {toml}\n", beside)
    assert getattr(getattr(in_file, section), key) == value
    by_word = read(tmp_path, "", {f"OUTPOST_{section}_{key}".upper(): word, **beside})
    assert getattr(getattr(by_word, section), key) == value


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, "[api]\nport = 1\n", {"OUTPOST_API_PORT": "2"}).api.port == 2


@pytest.mark.parametrize(
    ("variable", "section", "key", "word", "value"),
    [
        ("DATABASE_URL", "database", "url", URL, URL),
        ("ALLOWED_HOSTS", "api", "allowed_hosts", "a.example, b.example", ("a.example", "b.example")),
        ("CORS_ALLOWED_ORIGINS", "api", "allowed_origins", "https://a.example", ("https://a.example",)),
        ("TWILIO_ACCOUNT_SID", "notify", "twilio_account_sid", "AC1", "AC1"),
        ("TWILIO_AUTH_TOKEN", "notify", "twilio_auth_token", "geheim", "geheim"),
        ("TWILIO_PHONE_NUMBER", "notify", "twilio_phone_number", "+15550100", "+15550100"),
        ("EMAIL_HOST", "notify", "email_host", "mail.example", "mail.example"),
        ("EMAIL_PORT", "notify", "email_port", "465", 465),
        ("EMAIL_USE_TLS", "notify", "email_use_tls", "False", False),
        ("EMAIL_HOST_USER", "notify", "email_host_user", "outpost", "outpost"),
        ("EMAIL_HOST_PASSWORD", "notify", "email_host_password", "geheim", "geheim"),
    ],
)
def test_the_online_platforms_variables_keep_their_names(
    tmp_path: Path, variable: str, section: str, key: str, word: str, value: object
) -> None:
    said = {variable: word, **BESIDE.get(key, {})}
    assert getattr(getattr(read(tmp_path, "", said), section), key) == value


def test_our_variable_goes_before_the_online_platforms(tmp_path: Path) -> None:
    both = {"DATABASE_URL": "postgresql:///theirs", "OUTPOST_DATABASE_URL": "postgresql:///ours"}
    assert read(tmp_path, "", both).database_url() == "postgresql:///ours"


def test_nothing_said_is_the_default(tmp_path: Path) -> None:
    config = read(tmp_path, "")
    assert config == Config()
    assert (config.api.host, config.api.port, config.database.is_pooled) == ("127.0.0.1", 8000, False)


@pytest.mark.parametrize(
    ("said", "read_as"),
    [(URL, URL), ("postgres://h/d", "postgres://h/d"), ("postgis://u:p@h/d", "postgresql://u:p@h/d")],
)
def test_a_url_of_the_online_platforms_framework_is_understood(tmp_path: Path, said: str, read_as: str) -> None:
    assert read(tmp_path, "", {"DATABASE_URL": said}).database_url() == read_as


def test_a_program_that_needs_a_database_says_how_to_name_one() -> None:
    with pytest.raises(ConfigError, match="DATABASE_URL"):
        Config().database_url()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[database]\nname = 'x'", "name"),
        ("[databases]\nurl = 'x'", "databases"),
        ("[database]\npool_max = 'many'", "pool_max"),
        ("[database]\npool_max = 0\npool_min = 0", "pool_max"),
        ("[database]\npool_max = 1", "pool_max"),
        ("[database]\npool_min = -1", "pool_max"),
        ("[database]\nstatement_timeout_s = -1", "statement_timeout_s"),
        ("[database]\nis_pooled = 'perhaps'", "is_pooled"),
        ("[api]\nport = 65536", "65536"),
        ("[notify]\ntwilio_account_sid = 'AC1'", "go together"),
        ("[notify]\nemail_host = 'mail.example'", "notify.email_from"),
        ("[notify]\nemail_port = 70000", "there is no port"),
        ("database = 5", "database"),
        ("[api", "cloud.toml"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read(tmp_path, text)


@pytest.mark.parametrize("url", ["mysql://u:geheim@h/d", "u:geheim@h", "host=h password=geheim"])
def test_a_url_of_something_else_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"database\.url") as refused:
        read(tmp_path, "", {"DATABASE_URL": url})
    assert "geheim" not in refused.value.detail


def test_a_file_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="outpost-cloud init"):
        load(tmp_path / "none.toml", {})


@pytest.mark.parametrize(("lines", "word"), [
    ('rockblock_keys = ["short"]', "rockblock_keys"),
    (f'rockblock_keys = ["{KEY}/"]', "rockblock_keys"),
    ('directip_host = "0.0.0.0"', "directip_peers"),
    ('directip_peers = ["gateway.example"]', "gateway.example"),
    ('directip_host = "0.0.0.0"\ndirectip_peers = ["192.0.2.1"]\ndirectip_port = 70000', "directip_port"),
    ('things_stack = [{name = "rockblock", host = "h"}]', "rockblock"),
    ('things_stack = [{name = "a", host = "h"}, {name = "a", host = "i"}]', "two are called so"),
    ('things_stack = [{name = "a", host = ""}]', "needs a host"),
    ('things_stack = [{name = "a", host = "h", password = "geheim"}]', "username"),
    ('things_stack = [{name = "a", host = "eu1.example", tls_ca = ""}]', "tls_ca"),
    ('things_stack = [{name = "a", host = "h", what = 1}]', "what"),
])  # fmt: skip
def test_what_would_take_collars_from_anybody_or_from_nobody_is_refused(tmp_path: Path, lines: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        read(tmp_path, f"[ingest]\n{lines}\n")
    assert "geheim" not in str(caught.value)
    assert f"{KEY}/" not in str(caught.value)


def test_a_broker_on_this_machine_may_be_spoken_to_in_the_clear(tmp_path: Path) -> None:
    config = read(tmp_path, '[ingest]\nthings_stack = [{name = "a", host = "127.0.0.1", tls_ca = ""}]\n')
    assert config.ingest.things_stack[0].tls_ca == ""
