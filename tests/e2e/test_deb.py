"""The Debian package: its unit is tight and its scripts parse; nightly, it is built and proved on a clean Debian 12."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from tests.services import Broker, require

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "edge" / "deploy"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=3000, check=False)


@pytest.mark.integration
@pytest.mark.parametrize("unit", sorted(DEPLOY.glob("*.service")), ids=lambda path: path.name)
def test_a_unit_is_exposed_less_than_3(unit: Path) -> None:
    require(shutil.which("systemd-analyze"), "systemd-analyze is not installed: apt-get install systemd")
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=30", unit)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.integration
@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_a_maintainer_script_parses(name: str) -> None:
    done = run("sh", "-n", DEPLOY / name)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.integration
@pytest.mark.parametrize("home", ["edge", "cloud"])
def test_the_firewall_is_one_that_the_kernel_takes(home: str) -> None:
    require(shutil.which("nft"), "nft is not installed: apt-get install nftables")
    require(os.geteuid() == 0, "a network namespace needs root")
    rules = REPOSITORY / home / "deploy" / "nftables.conf"
    # in a namespace of its own: nothing of this machine's rules is touched
    loaded = run("unshare", "--net", "sh", "-c", f"nft -f '{rules}' && nft list ruleset")
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.count("policy drop") == 2


@pytest.mark.integration
def test_a_gateway_writes_its_own_topics_alone_and_hears_its_own_receipts(tmp_path: Path) -> None:
    program = shutil.which("mosquitto_passwd")
    require(program, "mosquitto_passwd is not installed: apt-get install mosquitto")
    accounts = tmp_path / "passwd"
    accounts.touch(mode=0o644)
    for name in ("station", "north", "south"):
        made = run("mosquitto_passwd", "-b", accounts, name, f"word of {name}")
        assert made.returncode == 0, made.stderr
    written = (DEPLOY / "mosquitto.conf").read_text()
    keeps = [line for line in written.splitlines() if line.startswith(("autosave", "max_queued", "persistent_client"))]
    assert "autosave_on_changes true" in keeps
    broker = Broker(
        tmp_path / "broker",
        options=(f"password_file {accounts}", f"acl_file {DEPLOY / 'mosquitto.acl'}", "max_queued_messages 1000"),
        is_anonymous=False,
    )
    broker.start()
    try:
        heard = {name: Heard(broker, name) for name in ("station", "north", "south")}
        for name in heard:
            for topic in ("fix", "ack"):
                heard["north"].publish(f"outpost/post/{name}/{topic}", f"north to {name} {topic}")
                heard["station"].publish(f"outpost/post/{name}/{topic}", f"station to {name} {topic}")
        heard["station"].publish("outpost/post/end/ack", "end")
        heard["south"].publish("outpost/post/south/fix", "end")
        heard["station"].wait_for("end")
        heard["north"].wait_for("station to north ack")
        heard["south"].wait_for("station to south ack")
        assert heard["station"].words == {
            "north to north fix", "station to station ack", "station to north ack", "station to south ack", "end",
            "station to station fix",  # an account of that name could have a gateway too
        }  # fmt: skip
        assert heard["north"].words == {"station to north ack"}
        assert heard["south"].words == {"station to south ack"}
        for each in heard.values():
            each.close()
        assert not Heard(broker, "north", word="of another").is_let_in
    finally:
        broker.stop()


class Heard:
    """A client under an account, and what it hears of everything."""

    def __init__(self, broker: Broker, name: str, word: str | None = None) -> None:
        self.words: set[str] = set()
        self._answered = threading.Event()
        self._subscribed = threading.Event()
        self.is_let_in = False
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=f"{name}-{word}")
        self._client.username_pw_set(name, f"word of {name}" if word is None else word)
        self._client.on_message = lambda _client, _data, message: self.words.add(message.payload.decode())
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        assert self._answered.wait(10)
        if self.is_let_in:
            assert self._subscribed.wait(10)
        else:
            self.close()

    def publish(self, topic: str, text: str) -> None:
        """Send with the broker's word that it has it, which says nothing about who may read it."""
        self._client.publish(topic, text, qos=1).wait_for_publish(10)

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + 10
        while words not in self.words:
            assert time.monotonic() < deadline, (words, self.words)
            time.sleep(0.01)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(
        self, client: Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        self.is_let_in = not reason.is_failure
        if self.is_let_in:
            client.subscribe("#", qos=1)
        self._answered.set()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("target", "words"),
    [(("sid",), "no package for sid"), (("jetson", "riscv64"), "no package for riscv64")],
)
def test_a_package_is_built_only_for_what_is_known(target: tuple[str, ...], words: str) -> None:
    require(shutil.which("dpkg-deb"), "dpkg-deb is not installed: apt-get install dpkg")
    done = run("bash", ".ci/deb", Path(sys.executable).parent, *target)
    assert done.returncode == 1
    assert words in done.stderr


@pytest.mark.integration
@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_there_is_a_mirror_for_each_debian_that_a_package_is_for(release: str) -> None:
    require(shutil.which("apt-get"), "apt-get is not installed")
    done = run("bash", ".ci/mirror", release)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["deb", release, "main"] in [[kind, suite, component] for kind, _, suite, component in lines]


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.timeout(6000)  # packing alone is five minutes of a processor
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
