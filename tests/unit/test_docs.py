"""What a person can type, set or be told stands in a README."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import typer

from cloud.cli import cli as cloud
from cloud.config import ALIASES
from cloud.config import Config as CloudConfig
from edge.cli import cli as station
from edge.config import Config
from firmware_bridge.cli import app as simulator
from firmware_bridge.codecs.explain import formats
from firmware_bridge.transports.spec import LinkSpec
from shared import errors
from shared.accounts.roles import RULES
from shared.domain import FixFlag

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]


def readme(package: str) -> str:
    return (ROOT / package / "README.md").read_text(encoding="utf-8")


def commands(program: typer.Typer) -> set[str]:
    """Return every command, those of a group with the group's name before them."""
    own = {str(info.name or getattr(info.callback, "__name__", "")) for info in program.registered_commands}
    for group in program.registered_groups:
        assert group.typer_instance is not None
        if not isinstance(group.name, str):  # its commands are the program's own
            own |= commands(group.typer_instance)
            continue
        own |= {f"{group.name} {name}" for name in commands(group.typer_instance)}
    return own


@pytest.mark.parametrize("name", sorted(commands(station)))
def test_each_command_of_the_station_is_in_its_readme(name: str) -> None:
    assert f"| `{name}` |" in readme("edge")


@pytest.mark.parametrize("name", sorted(commands(cloud)))
def test_each_command_of_the_cloud_is_in_its_readme(name: str) -> None:
    assert f"| `{name}` |" in readme("cloud")


@pytest.mark.parametrize("name", sorted(commands(simulator)))
def test_each_command_of_the_simulator_is_in_a_readme(name: str) -> None:
    assert f"`outpost-sim {name}`" in readme("firmware_bridge")


def config_keys(config: type[msgspec.Struct]) -> list[str]:
    keys = []
    for section in msgspec.structs.fields(config):
        if section.name == "links":
            keys.append("links")
        else:
            keys += [f"{section.name}.{field.name}" for field in msgspec.structs.fields(section.type)]
    return keys


@pytest.mark.parametrize("key", config_keys(Config))
def test_each_configuration_key_is_in_the_stations_readme(key: str) -> None:
    assert f"`{key}`" in readme("edge")


@pytest.mark.parametrize("key", [*config_keys(CloudConfig), *ALIASES])
def test_each_configuration_key_is_in_the_clouds_readme(key: str) -> None:
    assert f"`{key}`" in readme("cloud")


@pytest.mark.parametrize("field", [field.name for field in msgspec.structs.fields(LinkSpec)])
def test_each_key_of_a_link_is_in_a_readme(field: str) -> None:
    assert f"`{field}`" in readme("firmware_bridge")


@pytest.mark.parametrize("name", sorted(formats()))
def test_each_format_is_in_a_readme(name: str) -> None:
    assert f"`{name}`" in readme("firmware_bridge")


def all_errors(kind: type[errors.OutpostError] = errors.OutpostError) -> list[type[errors.OutpostError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in all_errors(child))]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_each_error_code_is_in_a_readme_with_its_status(kind: type[errors.OutpostError]) -> None:
    row = next((line for line in readme("shared").splitlines() if f"`{kind.code}`" in line), None)
    assert row is not None
    assert str(kind.http_status) in row or kind.code == "config"


def test_error_codes_are_unique() -> None:
    codes = [kind.code for kind in all_errors() if kind.__module__ == "shared.errors"]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("flag", list(FixFlag), ids=lambda flag: str(flag.name))
def test_each_quality_flag_is_in_a_readme(flag: FixFlag) -> None:
    assert f"`{str(flag.name).lower()}`" in readme("shared")


def test_each_target_of_the_makefile_that_a_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("run", "run-cloud", "test", "quick", "help", "bench", "soak", "test-nightly", "clean"):
        assert f"make {target}" in (ROOT / "README.md").read_text(encoding="utf-8")
        assert f"\n{target}:" in makefile


AREAS = sorted({path.split("/")[3] for _, path in (route.split(" ") for route in RULES) if path.startswith("/api/v1/")})


@pytest.mark.parametrize("area", AREAS)
def test_each_area_of_the_api_is_in_the_readme(area: str) -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## The API")[2].partition("\n## ")[0]
    assert f"`{area}/`" in table or f"`{area}`" in table


READMES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.rglob("README.md")
    if not {"node_modules", ".venv", "var", ".pytest_cache"} & set(path.relative_to(ROOT).parts)
)


def anchors(text: str) -> set[str]:
    """Return what a page calls the headings of ``text``: small letters, blanks as hyphens, nothing else but words."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", READMES)
def test_each_link_of_a_readme_leads_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found.read_text(encoding="utf-8")), target


NAMED = sorted(
    {
        (readme, name)
        for readme in READMES
        for name in re.findall(
            r"`((?:tests|shared|edge|cloud|models|firmware_bridge)/[\w./-]+\.(?:py|md|sql|toml|ts|yaml|json))`",
            (ROOT / readme).read_text(encoding="utf-8"),
        )
    }
)


@pytest.mark.parametrize(("readme", "name"), NAMED, ids=[f"{readme} {name}" for readme, name in NAMED])
def test_each_file_that_a_readme_names_is_there(readme: str, name: str) -> None:
    assert (ROOT / name).exists()
