"""`outpost-cloud check`: what is wrong, and what is too weak for the internet."""

from __future__ import annotations

import contextlib
import http.server
import re
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from cloud import checks
from cloud.accounts.secret import make_secret
from cloud.checks import look_around, weak_settings
from cloud.config import (
    AccountsSection,
    ApiSection,
    BackupSection,
    Config,
    DatabaseSection,
    ModelsSection,
    NotifySection,
)
from cloud.store.migrate import migrate
from shared.findings import Finding
from tests.commands import CLOUD
from tests.services import Postgres, free_port

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Give a configuration that may go to the internet."""
    key_file = tmp_path / "cloud.key"
    key_file.touch(mode=0o600)
    key_file.write_text(secrets.token_hex(32))
    return Config(
        database=DatabaseSection(url=f"postgresql://outpost:{'x1' * 12}@db.example.org/outpost?sslmode=verify-full"),
        api=ApiSection(allowed_hosts=("cloud.example.org",), allowed_origins=("https://www.example.org",)),
        accounts=AccountsSection(key_file=key_file),
        backup=BackupSection(recovery_public="ab" * 32),
        notify=NotifySection(email_host="mail.example.org"),
    )


def causes(config: Config) -> list[str]:
    return [found.cause for found in weak_settings(config) if found.state == "fault"]


def test_a_configuration_for_the_internet_passes(config: Config) -> None:
    assert weak_settings(config) == [Finding(name="deploy", state="ok")]


def url(text: str) -> dict[str, object]:
    return {"database": DatabaseSection(url=text)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"api": ApiSection()}, "api.allowed_hosts"),
        ({"api": ApiSection(allowed_hosts=("*",))}, "every name"),
        ({"api": ApiSection(allowed_hosts=("a",), allowed_origins=("http://a",))}, "not https"),
        ({"api": ApiSection(allowed_hosts=("a",), host="0.0.0.0")}, "without TLS"),
        ({"notify": NotifySection(email_host="m", outbox_file="/tmp/codes")}, "outbox_file"),
        ({"notify": NotifySection()}, "reach nobody"),
        ({"backup": BackupSection()}, "recovery_public"),
        ({"notify": NotifySection(email_host="m", email_use_tls=False)}, "in the clear"),
        ({"notify": NotifySection(twilio_account_sid="A", twilio_url="http://x")}, "in the clear"),
        (url("postgresql://outpost:xxxxxxxxxxxxxxxxxxxxx@db/outpost"), "without sure TLS"),
        (url("postgresql://outpost:short@localhost/outpost"), "can be guessed"),
        (url("postgresql://postgres@localhost/outpost"), "superuser"),
        (url(""), "there is no database"),
    ],
)
def test_a_weak_setting_is_refused(config: Config, change: dict[str, object], said: str) -> None:
    assert any(said in cause for cause in causes(replace(config, **change)))


def test_a_secret_that_others_read_or_that_nobody_drew_is_refused(config: Config) -> None:
    config.accounts.key_file.chmod(0o644)
    assert any("readable by others" in cause for cause in causes(config))
    config.accounts.key_file.chmod(0o600)
    config.accounts.key_file.write_text("ab" * 32)
    assert any("not made at random" in cause for cause in causes(config))


@contextlib.contextmanager
def answering(status: int, after_s: float = 0.0) -> Iterator[ApiSection]:
    """Something that answers every request so, as a context; gives where."""

    class Service(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(after_s)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield ApiSection(port=server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_each_trouble_is_named_with_a_next_step(
    config: Config, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = postgres.create()
    migrate(fresh)
    little = tmp_path / "meminfo"
    little.write_text("MemTotal: 500000 kB\nMemAvailable: 20000 kB\n")
    with answering(200) as api, answering(503) as unready, answering(200, 0.3) as slow:
        well = replace(
            config, database=DatabaseSection(url=fresh), notify=NotifySection(outbox_file="/dev/null"), api=api
        )
        found = {each.name: each for each in await look_around(well)}
        assert {name for name, each in found.items() if each.state != "ok"} == {"jobs"}, "no worker runs"
        gone = replace(well, database=DatabaseSection(url=f"postgresql://127.0.0.1:{free_port()}/none"))
        nowhere = replace(well, notify=NotifySection(email_host="127.0.0.1", email_port=free_port()))
        no_secret = replace(well, accounts=AccountsSection(key_file=tmp_path / "none"))
        monkeypatch.setattr(checks, "SLOW_ANSWER_S", 0.2)
        for broken, name, state in (
            (replace(well, api=ApiSection(port=free_port())), "service", "warning"),
            (replace(well, api=unready), "service", "fault"),
            (replace(well, api=slow), "answers", "warning"),
            (gone, "database", "fault"), (nowhere, "codes", "fault"), (no_secret, "secret", "fault"),
            (replace(well, models=ModelsSection(folder=str(tmp_path))), "models", "warning"),
            (replace(well, notify=NotifySection()), "codes", "warning"), (well, "memory", "warning"),
        ):  # fmt: skip
            (looked,) = [each for each in await look_around(broken, meminfo=little) if each.name == name]
            assert (looked.state, bool(looked.cause), bool(looked.next_step)) == (state, True, True), looked
    postgres.drop(fresh)


async def test_a_missing_package_is_named(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PACKAGES", ("msgspec", "a_package_that_is_not_there"))
    (found,) = [each for each in await look_around(config) if each.name == "python"]
    assert found.state == "fault"
    assert "a_package_that_is_not_there" in found.cause


# --- the README's table
def rows() -> list[tuple[str, str]]:
    text = (ROOT / "cloud" / "README.md").read_text(encoding="utf-8")
    part = text.split("## When something is wrong", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| (?!symptom|---)[^|]+ \| `(\w+)` \| `([^`|]+)`", part, re.MULTILINE)


def test_the_readmes_table_names_the_looks() -> None:
    assert {name for name, _ in rows()} == {
        "service", "answers", "database", "secret", "python", "models", "memory", "codes", "jobs", "deploy",
    }  # fmt: skip


def test_each_command_of_the_readmes_table_runs_and_speaks_of_what_it_is_named_for(
    database_url: str, tmp_path: Path
) -> None:
    make_secret(tmp_path / "cloud.key")
    file = tmp_path / "cloud.toml"
    file.write_text(
        f'[database]\nurl = "{database_url}"\n[api]\nport = {free_port()}\n'
        f'[accounts]\nkey_file = "{tmp_path}/cloud.key"\n[notify]\noutbox_file = "{tmp_path}/codes"\n'
    )
    for name, command in rows():
        program, *words = command.split()
        assert program == "outpost-cloud"
        is_weak = "--deploy" in words  # a database whose password can be guessed, a file for codes
        said = CLOUD.run(*words, "--config", file, code=int(is_weak)).stdout
        assert name in said, command
    assert set(CLOUD.facts("status", "--config", file)) >= {"fixes", "jobs"}
