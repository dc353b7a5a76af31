"""``user``, ``token`` and ``sweep`` of both programs, over real databases."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest

from cloud.cli import main as cloud_main
from edge.cli import main as station_main
from tests.clouds import ask
from tests.commands import Program

pytestmark = [pytest.mark.integration, pytest.mark.auth]

PASSWORD = "seven giraffes at dawn"


@pytest.fixture(params=["station", "cloud"])
def program(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    for name in [name for name in os.environ if name.startswith("OUTPOST_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    if request.param == "station":
        config = tmp_path / "station.toml"
        data, key = tmp_path / "data", tmp_path / "key"
        station = Program("outpost-station", station_main, "--config", config)
        station.run("init", "--data-dir", str(data), "--key-file", str(key))
        return station
    config = tmp_path / "cloud.toml"
    cloud = Program("outpost-cloud", cloud_main, "--config", config)
    cloud.run("init", "--database", request.getfixturevalue("database_url"))
    assert (tmp_path / "cloud.key").stat().st_mode & 0o077 == 0
    return cloud


def test_people_are_added_listed_changed_shut_out_and_let_in_again(program: Program) -> None:
    made = program.facts("user", "add", "boss@example.org", "--role", "admin", stdin=PASSWORD + "\n")
    assert (made["role"], made["password"], len(made["recovery_codes"])) == ("admin", None, 10)
    assert pyotp.parse_uri(made["totp_uri"]).secret == made["totp_secret"]
    other = program.facts("user", "add", "asha@example.org", "--name", "Asha", "--generate")
    assert len(other["password"]) >= 12
    text = program.run("user", "add", "vera@example.org", "--role", "viewer", "--generate").stdout
    assert "recovery codes" in text
    listed = program.facts("user", "list")
    assert {each["email"]: each["role"] for each in listed} == {
        "asha@example.org": "ranger", "boss@example.org": "admin", "vera@example.org": "viewer",
    }  # fmt: skip
    assert made["totp_secret"] not in program.run("user", "list").stdout
    assert program.facts("user", "role", "vera@example.org", "ranger")["role"] == "ranger"
    assert program.facts("user", "stations", "asha@example.org", "post-1")["stations"] == ["post-1"]
    program.run("user", "revoke", "asha@example.org")
    assert "shut out" in program.run("user", "list").stdout
    assert "shut out" in program.run("token", "asha@example.org", code=1).stderr
    program.run("user", "restore", "asha@example.org")
    assert program.run("token", "asha@example.org").stdout.count(".") == 2
    assert program.facts("token", "operator")["expires_in"] == 900
    assert set(program.facts("sweep").values()) == {0}


def test_what_cannot_be_is_one_line(program: Program) -> None:
    program.facts("user", "add", "boss@example.org", "--role", "admin", "--generate")
    for arguments, stdin, words in (
        (("user", "add", "boss@example.org", "--generate"), "", "there is an account"),
        (("user", "add", "x", "--generate"), "", "email: must be an address"),
        (("user", "add", "a@example.org", "--role", "king", "--generate"), "", "role: must be one of"),
        (("user", "add", "a@example.org"), "password1\n", "tried first"),
        (("user", "role", "boss@example.org", "viewer"), "", "last administrator"),
        (("user", "revoke", "who@example.org"), "", "there is no user"),
        (("token", "who@example.org"), "", "there is no user"),
    ):
        complained = program.run(*arguments, code=1, stdin=stdin).stderr
        assert words in complained
        assert complained.count("\n") == 1
        assert "password1" not in complained


def test_an_export_leaves_a_line_in_the_audit_log(program: Program, tmp_path: Path) -> None:
    program.run("export", str(tmp_path / "out.csv"))
    assert "0 fixes of all to out.csv" in program.run("db", "--sql", "SELECT actor, action, detail FROM audit").stdout


def test_a_cloud_without_its_secret_says_where_it_should_be(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cloud = Program("outpost-cloud", cloud_main, "--config", tmp_path / "cloud.toml")
    cloud.run("init", "--database", database_url)
    (tmp_path / "cloud.key").unlink()
    assert "accounts.key_file" in cloud.run("user", "list", code=1).stderr
    (tmp_path / "cloud.key").write_text("nonsense")
    assert "64 hex digits" in cloud.run("user", "list", code=1).stderr
    assert ask(database_url, "SELECT count(*) FROM users") == [(0,)]


def test_a_code_for_a_phone_is_made_on_the_command_line_and_the_one_before_is_good_no_more(program: Program) -> None:
    program.run("user", "add", "asha@example.org", "--generate")
    asked = ("user", "phone", "asha@example.org", "--url", "https://192.168.4.1:8000/")
    made = program.facts(*asked)
    said = {name: value for name, (value,) in parse_qs(urlsplit(made["link"]).query).items()}
    assert (said["url"], said["code"], made["email"]) == ("https://192.168.4.1:8000", made["code"], "asha@example.org")
    assert said["home"]
    shown = program.run(*asked).stdout
    assert "good for fifteen minutes" in shown
    assert made["code"] not in shown
    complained = program.run("user", "phone", "nobody@example.org", "--url", "https://192.168.4.1:8000", code=1).stderr
    assert "nobody@example.org" in complained


def test_keys_are_changed_from_the_machine_and_every_value_follows(program: Program) -> None:
    program.run("user", "add", "asha@example.org", "--generate")
    assert program.facts("keys", "status")["sealed"] == {"0": 1}
    made = program.facts("keys", "rotate", "--reseal")
    assert made["resealed"] == 1
    found = program.facts("keys", "status")
    assert (found["field_key"], found["token_key"]) == (made["field_key"], made["token_key"])
    assert found["sealed"] == {made["field_key"]: 1}
    assert program.facts("keys", "rotate", "--tokens", "--at-once")["field_key"] is None
    assert program.facts("keys", "status")["token_keys_ending"] == []
    assert made["field_key"] in program.run("keys", "status").stdout
    assert "there is no API key" in program.run("keys", "rotate", "--api-key", "none", code=1).stderr
    assert "--at-once" in program.run("keys", "rotate", "--fields", "--at-once", code=1).stderr
