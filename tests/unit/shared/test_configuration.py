"""Reading configuration: aliases, lists, and the `.env` of a developer."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shared import configuration
from shared.errors import ConfigError

pytestmark = pytest.mark.unit


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str = ""
    names: tuple[str, ...] = ()


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    one: Section = Section()
    rest: tuple[Section, ...] = ()


def read(environment: dict[str, str], folder: Path) -> Settings:
    return configuration.read(
        Settings, None, folder / "none.toml", environment, aliases={"THE_URL": "one.url", "THE_OTHER": "one.url"}
    )


def test_a_variable_with_a_name_of_its_own_is_the_key_it_stands_for(tmp_path: Path) -> None:
    assert read({"THE_URL": "a"}, tmp_path).one.url == "a"
    assert read({"THE_OTHER": "b"}, tmp_path).one.url == "b"


def test_our_name_goes_before_another_and_the_first_of_others_before_the_next(tmp_path: Path) -> None:
    assert read({"THE_URL": "a", "OUTPOST_ONE_URL": "ours"}, tmp_path).one.url == "ours"
    assert read({"THE_OTHER": "b", "THE_URL": "a"}, tmp_path).one.url == "a"


@pytest.mark.parametrize(("text", "names"), [("", ()), ("a", ("a",)), ("a, b ,,c", ("a", "b", "c")), (" , ", ())])
def test_a_list_is_separated_by_commas(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    assert read({"OUTPOST_ONE_NAMES": text}, tmp_path).one.names == names


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("OUTPOST_X=plain", "plain"),
        ("export OUTPOST_X=plain", "plain"),
        ("  OUTPOST_X = spaced out ", "spaced out"),
        ("OUTPOST_X=a#b # why", "a#b"),
        ("OUTPOST_X='a # b'", "a # b"),
        ('OUTPOST_X="it\'s" # why', "it's"),
        ("OUTPOST_X=a=b", "a=b"),
        ("OUTPOST_X=", ""),
        ("# OUTPOST_X=no\n\nOUTPOST_X=yes", "yes"),
    ],
)
def test_a_line_of_the_developers_file_sets_a_variable(tmp_path: Path, line: str, value: str) -> None:
    (tmp_path / ".env").write_text(line, encoding="utf-8")
    assert configuration.environment(tmp_path)["OUTPOST_X"] == value


@pytest.mark.parametrize("line", ["OUTPOST_X", "OUTPOST-X=1", "=1", "OUTPOST_X='sesame", "OUTPOST_X='a' b"])
def test_a_line_that_sets_nothing_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / ".env").write_text(f"A=1\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 2") as refused:
        configuration.environment(tmp_path)
    assert "sesame" not in refused.value.detail  # it may be a password


def test_a_variable_that_is_set_is_not_set_by_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("OUTPOST_X=file\nOUTPOST_Y=file\n", encoding="utf-8")
    monkeypatch.setenv("OUTPOST_X", "process")
    found = configuration.environment(tmp_path)
    assert (found["OUTPOST_X"], found["OUTPOST_Y"]) == ("process", "file")


def test_without_the_file_the_environment_is_the_processs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTPOST_X", "process")
    assert configuration.environment(tmp_path)["OUTPOST_X"] == "process"
    (tmp_path / ".env").mkdir()
    assert configuration.environment(tmp_path)["OUTPOST_X"] == "process"


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff")
    with pytest.raises(ConfigError, match=r"\.env"):
        configuration.environment(tmp_path)


def test_the_working_folders_file_counts_where_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("OUTPOST_X=here", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert configuration.environment()["OUTPOST_X"] == "here"


def test_one_boot_has_one_name_whoever_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = tmp_path / "boot_id"
    name.write_text("0f8fad5b-d9cb-469f-a165-70867728950e\n", encoding="ascii")
    monkeypatch.setattr(configuration, "_BOOT_ID", name)
    told = "0f8fad5bd9cb469fa16570867728950e"
    assert configuration.boot_id() == told
    name.unlink()
    monkeypatch.setenv("OUTPOST_BOOT_ID", told)  # as systemd's %b writes it
    assert configuration.boot_id() == told
    monkeypatch.delenv("OUTPOST_BOOT_ID")
    assert configuration.boot_id() == configuration.boot_id() != "", "one process has one, where nobody tells it"
