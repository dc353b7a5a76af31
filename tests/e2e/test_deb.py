"""The Debian package: its unit is tight and its scripts parse; nightly, it is built and proved on a clean Debian 12."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services import require

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "edge" / "deploy"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.integration
def test_the_unit_is_exposed_less_than_3() -> None:
    require(shutil.which("systemd-analyze"), "systemd-analyze is not installed: apt-get install systemd")
    unit = DEPLOY / "outpost-station.service"
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=30", unit)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.integration
@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_a_maintainer_script_parses(name: str) -> None:
    done = run("sh", "-n", DEPLOY / name)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_package_installs_runs_upgrades_and_is_purged_on_a_clean_debian_and_no_fix_is_lost() -> None:
    # not ``require``: REQUIRE_SERVICES=1 is no reason for a machine of a developer to be root
    if os.geteuid() != 0:
        pytest.skip("a chroot needs root: run `sudo make deb-check`")
    for program in ("debootstrap", "dpkg-deb", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install debootstrap dpkg util-linux")
    built = run("bash", ".ci/deb", Path(sys.executable).parent)
    assert built.returncode == 0, built.stderr
    checked = run("bash", ".ci/deb-check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "the fix outlived all of it" in checked.stdout
