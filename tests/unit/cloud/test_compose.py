"""The compose file against what stands beside it: nginx's configuration, the images, the program's keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from cloud.cli import cli
from cloud.config import Config, load

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "cloud" / "deploy"
GIVEN = {
    "ALLOWED_HOSTS": "cloud.example.org",
    "DATABASE_URL": "postgresql://outpost:0123456789abcdef@database/outpost?sslmode=require",
    "EMAIL_HOST": "mail.example.org",
    "EMAIL_FROM": "outpost@example.org",
    "RECOVERY_PUBLIC": "0a" * 32,
}
COMPOSE = (DEPLOY / "compose.yaml").read_text()
NGINX = (DEPLOY / "nginx.conf").read_text()


def filled(given: dict[str, str]) -> dict[str, Any]:
    """The services as compose reads them: ${NAME:-default} and ${NAME:?why} filled in, $$ is a dollar."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if kind == ":?":
            assert given.get(name), f"{name}: {rest}"
        return given.get(name) or (rest if kind == ":-" else "")

    text = re.sub(r"(?<!\$)\$\{(\w+)(:[-?])?([^}]*)\}", value, COMPOSE).replace("$$", "$")
    read: dict[str, Any] = yaml.safe_load(text)
    return read


WHOLE = filled(GIVEN)
SERVICES: dict[str, dict[str, Any]] = WHOLE["services"]
PROGRAMS = {name: said for name, said in SERVICES.items() if said["image"] == "outpost-cloud"}


def said_to(service: dict[str, Any]) -> dict[str, str]:
    """Return a service's environment; what is filled in with nothing is an empty word, as compose has it."""
    return {key: "" if value is None else str(value) for key, value in service["environment"].items()}


def test_every_variable_of_the_program_is_a_key_that_it_reads() -> None:
    keys = {
        f"OUTPOST_{section}_{key}".upper()
        for section, kind in Config.__annotations__.items()
        for key in getattr(Config(), section).__struct_fields__
    }
    for name, said in PROGRAMS.items():
        ours = {key for key in said["environment"] if key.startswith("OUTPOST_")}
        assert ours
        assert ours <= keys, f"{name}: {ours - keys} is no key"


def test_the_program_reads_its_environment_and_each_value_arrives() -> None:
    said = said_to(SERVICES["service"])
    config = load(None, said)
    assert config.api.allowed_hosts == ("cloud.example.org",)
    assert config.database_url() == GIVEN["DATABASE_URL"]
    assert (config.notify.email_host, config.notify.email_from) == ("mail.example.org", "outpost@example.org")
    assert config.backup.recovery_public == GIVEN["RECOVERY_PUBLIC"]
    bare = filled({key: GIVEN[key] for key in ("ALLOWED_HOSTS", "DATABASE_URL")})["services"]
    for name in PROGRAMS:
        load(None, said_to(bare[name]))


def test_what_it_needs_is_asked_for_by_name() -> None:
    for name in ("ALLOWED_HOSTS", "DATABASE_URL"):
        with pytest.raises(AssertionError, match=name):
            filled({key: value for key, value in GIVEN.items() if key != name})


def test_every_command_is_one_of_the_programs() -> None:
    commands = typer.main.get_command(cli).commands  # type: ignore[attr-defined] # a group
    for name, said in PROGRAMS.items():
        if "entrypoint" not in said:
            assert said["command"][0] in commands, name
    (nightly,) = SERVICES["backup"]["command"]
    called = re.search(r"outpost-cloud (\w+) (--\w+) (\S+);", nightly)
    assert called is not None
    command, option, folder = called.groups()
    assert option in {opt for each in commands[command].params for opt in each.opts}
    assert f"backups:{folder}" in SERVICES["backup"]["volumes"]


def test_nginx_reaches_the_service_where_it_listens_and_only_nginx_is_believed() -> None:
    service, nginx = SERVICES["service"], SERVICES["nginx"]
    listens = service["environment"]["OUTPOST_API_HOST"]
    assert service["networks"]["front"]["ipv4_address"] == listens
    assert nginx["networks"]["front"]["ipv4_address"] == service["environment"]["OUTPOST_API_PROXIES"]
    replaced = re.search(r"sed 's/(\S+)/(\S+)/' (\S+) >(\S+) &&", nginx["command"][2])
    assert replaced is not None
    here, there, source, target = replaced.groups()
    assert there == f"{listens}:{Config().api.port}"
    assert len(re.findall(here, NGINX)) == 1, "nginx.conf names the service once, as it is reached without containers"
    assert f"./nginx.conf:{source}:ro" in nginx["volumes"]
    assert re.fullmatch(r"/etc/nginx/conf\.d/\S+\.conf", target)
    assert {port.partition(":")[2] for port in nginx["ports"]} == set(re.findall(r"listen (\d+)", NGINX))
    assert [name for name, said in SERVICES.items() if "ports" in said] == ["nginx"], (
        "nobody else is reached from outside"
    )
    assert [name for name, said in SERVICES.items() if "front" in said["networks"]] == ["service", "nginx"]


def test_no_container_lives_in_the_network_of_one_that_restarts() -> None:
    assert not [name for name, said in SERVICES.items() if "network_mode" in said]


def test_nginx_has_each_file_that_its_configuration_names() -> None:
    kept = [volume.split(":")[1] for volume in SERVICES["nginx"]["volumes"]]
    for path in re.findall(r"(?:ssl_certificate|ssl_certificate_key|root) (/\S+);", NGINX):
        assert any(Path(path).is_relative_to(folder) for folder in kept), path


def test_who_speaks_to_the_database_is_in_its_network_and_it_is_in_no_other() -> None:
    assert SERVICES["database"]["networks"] == ["inside"]
    assert WHOLE["networks"]["inside"]["internal"] is True
    for name, said in PROGRAMS.items():
        assert "inside" in said["networks"], name
    for name in ("service", "worker"):  # codes, and what destinations are sent
        assert "outside" in SERVICES[name]["networks"]


def test_each_health_check_asks_what_its_image_has() -> None:
    (service, database) = (SERVICES[name]["healthcheck"]["test"] for name in ("service", "database"))
    assert service[:3] == ["CMD", "python", "-c"]
    compile(service[3], "healthcheck", "exec")
    listens = SERVICES["service"]["environment"]["OUTPOST_API_HOST"]
    assert f"http://{listens}:{Config().api.port}/health/ready" in service[3]
    assert database[:2] == ["CMD", "pg_isready"]
    waited = {name for said in SERVICES.values() for name, how in said.get("depends_on", {}).items()
              if how["condition"] == "service_healthy"}  # fmt: skip
    assert waited == {name for name, said in SERVICES.items() if "healthcheck" in said}


def test_each_image_is_built_and_each_secret_is_read() -> None:
    images = (ROOT / ".ci" / "images").read_text()
    for name, said in SERVICES.items():
        file = Path(said["build"]["dockerfile"])
        assert (ROOT / file).is_file(), name
        assert f"{said['image']}:{file.name}" in images, name
        assert (DEPLOY / said["build"]["context"]).resolve() == ROOT
        assert set(said.get("secrets", ())) <= set(WHOLE["secrets"])
    assert SERVICES["service"]["environment"]["OUTPOST_ACCOUNTS_KEY_FILE"] == "/run/secrets/cloud_key"
    assert "/run/secrets/database_password" in (DEPLOY / "database-start").read_text()


def test_all_but_the_one_that_ends_start_again() -> None:
    assert {name: said["restart"] for name, said in SERVICES.items()} == {
        name: "no" if name == "migrate" else "unless-stopped" for name in SERVICES
    }
