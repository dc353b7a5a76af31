"""What the deployment files name is there: containers, compose, scripts, the bill of materials."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

import cloud.checks
import edge.checks

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "cloud" / "deploy"
#: Made by the operator, never in the repository.
SECRETS = {"./secrets/cloud.key", "./secrets/database_password"}


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return found


def test_the_compose_file_names_what_there_is() -> None:
    found = compose()
    services = found["services"]
    assert set(services) == {"database", "migrate", "service", "worker", "backup", "nginx"}
    for name, service in services.items():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file(), name
        for needed in service.get("depends_on", {}):
            assert needed in services, (name, needed)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).is_file(), volume
            elif not source.startswith("/"):
                assert source in found["volumes"], volume
        for network in service.get("networks", []):
            assert network in found["networks"], (name, network)
    assert {secret["file"] for secret in found["secrets"].values()} == SECRETS


def test_only_http_and_https_are_published_and_the_database_is_reached_from_inside_alone() -> None:
    found = compose()
    published = {port for service in found["services"].values() for port in service.get("ports", [])}
    assert published == {"80:80", "443:443"}
    assert found["services"]["database"]["networks"] == ["inside"]
    assert found["networks"]["inside"]["internal"] is True
    for name in ("service", "worker", "migrate", "backup"):
        service = found["services"][name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
    assert {"database", "service"} <= {n for n, s in found["services"].items() if "healthcheck" in s}


def test_the_commands_of_the_compose_file_exist() -> None:
    from cloud.cli import cli
    from tests.unit.test_docs import commands

    known = commands(cli)
    for name in ("migrate", "service", "worker"):
        (command,) = compose()["services"][name]["command"]
        assert command in known
    assert "outpost-cloud backup --unproved" in compose()["services"]["backup"]["command"][0]


@pytest.mark.parametrize("name", ["Containerfile", "Containerfile.database"])
def test_what_a_containerfile_copies_is_there_and_it_runs_as_nobody(name: str) -> None:
    lines = (DEPLOY / name).read_text(encoding="utf-8").splitlines()
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), line
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users
    assert "root" not in users


def test_every_image_stands_on_the_debian_that_is_tested_and_is_built_by_one_command() -> None:
    files = sorted(DEPLOY.glob("Containerfile*"))
    built = {service["build"]["dockerfile"]: service["image"] for service in compose()["services"].values()}
    script = (ROOT / ".ci" / "images").read_text(encoding="utf-8")
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("FROM "):
                assert re.match(r"FROM docker\.io/library/debian:bookworm-slim( AS \w+)?$", line), line
        assert f"{built[f'cloud/deploy/{file.name}']}:{file.name}" in script
    assert len(built) == len(files)


@pytest.mark.parametrize(
    "script",
    [DEPLOY / "database-start", DEPLOY / "certbot-reload", ROOT / "edge/deploy/outpost-release"],
    ids=lambda path: str(path.name),
)
def test_a_script_parses_and_can_be_run(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    done = subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_hook_of_renewals_reloads_nginx_in_its_container_where_it_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "docker").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/said\n')
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / "compose").write_text("/srv/outpost/compose.yaml\n")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "OUTPOST_COMPOSE": str(tmp_path / "compose")}
    subprocess.run([DEPLOY / "certbot-reload"], env=environment, check=True)
    assert (tmp_path / "said").read_text().splitlines() == [
        "compose", "-f", "/srv/outpost/compose.yaml", "exec", "-T", "nginx", "sh", "-c",
        "nginx -t -q && nginx -s reload",
    ]  # fmt: skip


@pytest.mark.parametrize("script", [".ci/deb", ".ci/deb-check", ".ci/audit", ".ci/sign-update", ".ci/images"])
def test_a_script_of_the_build_parses(script: str) -> None:
    done = subprocess.run(["bash", "-n", ROOT / script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("lock", "packages"), [("station.lock", edge.checks.PACKAGES), ("cloud.lock", cloud.checks.PACKAGES)]
)
def test_what_check_cannot_do_without_is_in_the_homes_lock(lock: str, packages: tuple[str, ...]) -> None:
    pins = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE)
    locked = {name.lower() for name in pins}
    brought_by = packages_distributions()
    missing = [name for name in packages if not {each.lower() for each in brought_by[name]} & locked]
    assert missing == []


def advised(folder: Path, *affected: dict[str, Any]) -> Path:
    folder.mkdir()
    record = {"id": "PYSEC-1", "modified": "2026-11-01T00:00:00Z", "affected": list(affected)}
    (folder / "PYSEC-1.json").write_text(json.dumps(record))
    return folder


def looked_up(advisories: Path, lock: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / ".ci/advisories"), str(advisories), str(lock)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def of_pypi(name: str, **said: Any) -> dict[str, Any]:
    return {"package": {"ecosystem": "PyPI", "name": name}, **said}


@pytest.mark.parametrize(
    ("said", "is_hole"),
    [
        ({"versions": ["1.2"]}, True),
        ({"versions": ["1.1"]}, False),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.3"}]}]}, True),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.2"}]}]}, False),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "1.2"}, {"last_affected": "1.2"}]}]}, True),
        ({"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}, False),
    ],
)
def test_a_locked_package_is_looked_up_in_advisories_that_lie_here(
    tmp_path: Path, said: dict[str, Any], is_hole: bool
) -> None:
    lock = tmp_path / "a.lock"
    lock.write_text("some-thing==1.2 \\\n    --hash=sha256:00\nother==2\n")
    done = looked_up(advised(tmp_path / "osv", of_pypi("Some_Thing", **said)), lock)
    assert (done.returncode, "some-thing 1.2: PYSEC-1" in done.stderr) == (int(is_hole), is_hole), done.stderr
    assert "a.lock: 2 packages looked up in 1 advisories, the newest of 2026-11-01" in done.stdout


def test_what_holds_no_advisories_is_no_clean_bill(tmp_path: Path) -> None:
    (tmp_path / "a.lock").write_text("other==2\n")
    empty = advised(tmp_path / "osv", {"package": {"ecosystem": "npm", "name": "other"}, "versions": ["2"]})
    done = looked_up(empty, tmp_path / "a.lock")
    assert (done.returncode, "NOT LOOKED UP" in done.stderr) == (3, True)


#: A tool of that name which knows, or does not, the hole that everybody knows, and others in a lock.
ASKED = """#!{python}
import json, sys
known = {{"name": "jinja2", "version": "2.10", "vulns": {of_old}}}
locked = {{"name": "one", "version": "1", "vulns": {of_lock}}}
print(json.dumps({{"dependencies": [known if "known" in sys.argv[-2] else locked]}}))
"""
HOLE = [{"id": "PYSEC-2", "fix_versions": ["3"]}]


@pytest.mark.parametrize(
    ("of_old", "of_lock", "code", "word"),
    [(HOLE, [], 0, "0 known holes"), (HOLE, HOLE, 1, "PYSEC-2"), ([], [], 3, "NOT LOOKED UP")],
)
def test_an_audit_that_reaches_nobody_is_loud_and_no_clean_bill(
    tmp_path: Path, of_old: list[Any], of_lock: list[Any], code: int, word: str
) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    tool = tmp_path / "pip-audit"
    tool.write_text(ASKED.format(python=sys.executable, of_old=of_old, of_lock=of_lock))
    tool.chmod(0o755)
    done = subprocess.run(
        ["bash", ROOT / ".ci/audit", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == code, done.stderr
    assert word in done.stdout + done.stderr


@pytest.mark.parametrize("lock", ["station.lock", "cloud.lock"])
def test_the_bill_of_materials_has_every_locked_package_with_its_hashes_and_is_the_same_each_time(lock: str) -> None:
    made = [
        subprocess.run([sys.executable, ".ci/sbom", lock, "1.2"], cwd=ROOT, capture_output=True, check=True).stdout
        for _ in range(2)
    ]
    assert made[0] == made[1]
    bill = json.loads(made[0])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    locked = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", (ROOT / lock).read_text(), re.MULTILINE)
    assert [each["name"] for each in bill["components"]] == [name.lower() for name in locked]
    assert all(each["hashes"] and each["purl"].startswith("pkg:pypi/") for each in bill["components"])


@pytest.mark.parametrize("unit", sorted([*DEPLOY.glob("*.service"), *(ROOT / "edge" / "deploy").glob("*.service")]))
def test_a_unit_that_hides_the_kernels_settings_is_told_which_boot_this_is(unit: Path) -> None:
    text = unit.read_text(encoding="utf-8")
    is_server = "Type=oneshot" not in text
    assert not (is_server and "ProcSubset=pid" in text) or "\nEnvironment=OUTPOST_BOOT_ID=%b\n" in text
