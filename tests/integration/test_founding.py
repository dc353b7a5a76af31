"""How a station is made: by flags, by questions; the kit that opens its backups; its Wi-Fi; how phones find it."""

from __future__ import annotations

import asyncio
import configparser
import ipaddress
import shutil
import subprocess
from pathlib import Path

import pytest
import segno
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from edge.config import load
from edge.ops import wifi as networks
from edge.ops.discovery import TYPE, announce, service_of
from edge.ops.wifi import Wifi, checked, keyfile, qr_lines, qr_text
from shared.errors import Invalid
from shared.sealed_stream import recovery_key_of
from tests.commands import STATION
from tests.services import require

pytestmark = pytest.mark.integration


def init(folder: Path, *flags: object, code: int = 0, stdin: str = "") -> str:
    return STATION.run(
        "init", "--config", folder / "station.toml", "--data-dir", folder / "data", "--key-file", folder / "key",
        *flags, code=code, stdin=stdin,
    ).stdout  # fmt: skip


def test_a_station_is_made_by_flags_and_its_kit_opens_its_backups(tmp_path: Path) -> None:
    kit = tmp_path / "kit.txt"
    init(
        tmp_path, "--station-id", "north", "--host", "0.0.0.0", "--tls", "--redirect-port", 8080, "--backup-dir",
        tmp_path / "usb", "--serial", "/dev/serial/by-id/base", "--admin", "boss@example.org", "--kit", kit,
    )  # fmt: skip
    settings = load(tmp_path / "station.toml")
    assert (settings.station.id, settings.api.is_tls, settings.api.host) == ("north", True, "0.0.0.0")
    assert [link.path for link in settings.links] == ["/dev/serial/by-id/base"]
    assert kit.stat().st_mode & 0o077 == 0
    text = kit.read_text()
    assert "boss@example.org" in text
    assert "authenticator app" in text
    recovery = next(line.strip() for line in text.splitlines() if line.count("-") == 13)
    made = STATION.facts("backup", "--daily", "--config", tmp_path / "station.toml")
    assert str(tmp_path / "usb") in made["path"]
    paper = tmp_path / "paper.txt"
    paper.write_text(recovery)
    other = tmp_path / "other"
    other.mkdir()
    init(other)
    STATION.run(
        "restore", made["path"], "--config", other / "station.toml", "--replace", "--recovery-key-file", paper
    )  # fmt: skip
    users = STATION.facts("user", "list", "--config", other / "station.toml")
    assert [user["email"] for user in users] == ["boss@example.org"]


def test_a_second_run_overwrites_nothing_and_a_second_first_administrator_is_refused(tmp_path: Path) -> None:
    kit = tmp_path / "kit.txt"
    init(tmp_path, "--admin", "boss@example.org", "--kit", kit)
    before = {path: path.read_bytes() for path in (tmp_path / "station.toml", tmp_path / "key", kit)}
    init(tmp_path)
    init(tmp_path, "--admin", "other@example.org", code=1)
    assert {path: path.read_bytes() for path in before} == before


def test_the_wizard_asks_and_writes_what_was_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.founding.BY_ID", tmp_path / "by-id")
    (tmp_path / "by-id").mkdir()
    (tmp_path / "by-id" / "usb-radio").touch()
    monkeypatch.setattr("edge.founding.is_kernel_synchronised", lambda: True)
    answers = ["south", str(tmp_path / "data"), str(tmp_path / "key"), "none", "y", "y", "boss@example.org", "none"]
    said = init(tmp_path, "--wizard", stdin="\n".join(answers) + "\n")
    settings = load(tmp_path / "station.toml")
    assert (settings.station.id, settings.api.is_tls) == ("south", True)
    assert [link.path for link in settings.links] == [str(tmp_path / "by-id" / "usb-radio")]
    assert "EMERGENCY KIT" in said
    assert "First administrator: boss@example.org" in said
    assert len(recovery_key_of(next(line.strip() for line in said.splitlines() if line.count("-") == 13))) == 32


@pytest.mark.parametrize("wrong", ["AAAA", "AAAA-" * 13 + "AAAA", "8" * 56])
def test_a_recovery_key_that_was_misread_is_refused(wrong: str) -> None:
    with pytest.raises(Invalid):
        recovery_key_of(wrong)


def test_the_profile_of_the_posts_own_wifi_is_written_for_root_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTPOST_WIFI_PASSWORD", "seven giraffes; at dawn")
    file = tmp_path / "outpost.nmconnection"
    flags = ("--wifi-name", "North post", "--wifi-profile", file, "--wifi-security", "wpa3")
    said = init(tmp_path, *flags)
    assert file.stat().st_mode & 0o077 == 0
    read = configparser.ConfigParser(interpolation=None)
    read.read(file)
    assert read["wifi"]["mode"] == "ap"
    assert (read["wifi-security"]["key-mgmt"], read["wifi-security"]["pmf"]) == ("sae", "3")
    assert read["ipv4"]["method"] == "shared"
    assert "seven giraffes; at dawn" in said
    init(tmp_path, *flags, code=1)


@pytest.mark.parametrize("is_own", [True, False])
@pytest.mark.parametrize("security", ["wpa2", "wpa3"])
@pytest.mark.parametrize("name", ["North post", "Ñandú", "a=b#c"])
@pytest.mark.parametrize("word", ["dawn;\\ giraffes ", " dawn;giraffes", "#dawn=giraffes"])
def test_network_manager_reads_the_profile_as_it_was_meant(
    security: networks.Security, name: str, word: str, *, is_own: bool
) -> None:
    nmcli = shutil.which("nmcli")
    require(nmcli, "nmcli is not installed: apt-get install network-manager")
    wifi = Wifi(ssid=name, passphrase=word, is_own=is_own, security=security)
    # reading and writing back without a running NetworkManager; the change asks for nothing that is not there
    done = subprocess.run(
        ["nmcli", "--offline", "connection", "modify", "connection.autoconnect-priority", "1"],
        input=keyfile(wifi), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    ours, theirs = (configparser.ConfigParser(interpolation=None) for _ in range(2))
    ours.read_string(keyfile(wifi))
    theirs.read_string(done.stdout)
    assert theirs["connection"].pop("autoconnect-priority") == "1"
    for section in ("wifi", "wifi-security"):
        for key, value in theirs[section].items():
            assert ours[section][key].rstrip(";") == value.rstrip(";"), (section, key)
    assert theirs["ipv4"]["method"] == ours["ipv4"]["method"]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("", "long enough"),
        (" space", "long enough"),
        ("a;b", "long enough"),
        ("x" * 33, "long enough"),
        ("ok", "short"),
        ("ok", "é" * 9),
    ],
)
def test_a_network_that_no_radio_takes_is_refused(name: str, word: str) -> None:
    with pytest.raises(Invalid):
        checked(Wifi(ssid=name, passphrase=word))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=32))
def test_a_phone_reads_the_name_back_out_of_the_qr(name: str) -> None:
    text = qr_text(Wifi(ssid=name, passphrase='a;b,c:d"e\\f'))
    fields: list[str] = [""]
    letters = iter(text.removeprefix("WIFI:"))
    for letter in letters:
        if letter == "\\":
            fields[-1] += next(letters)
        elif letter == ";":
            fields.append("")
        else:
            fields[-1] += letter
    assert fields == ["T:WPA", f"S:{name}", 'P:a;b,c:d"e\\f', "", ""]


def test_the_qr_of_a_terminal_has_every_dot() -> None:
    matrix = [[bool(dot) for dot in row] for row in segno.make("https://north.local/trust", micro=False).matrix]
    shown = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}
    rows: list[list[bool]] = []
    for line in qr_lines("https://north.local/trust").splitlines():
        rows += [[bool(shown[dot][half]) for dot in line] for half in (0, 1)]
    size = len(matrix)
    assert [row[4 : 4 + size] for row in rows[2 : 2 + size]] == matrix
    assert not any(any(row) for row in rows[:2] + rows[2 + size :])


async def test_phones_find_the_station_and_learn_nothing_but_where_it_answers() -> None:
    service = service_of("north", "post7", [ipaddress.ip_address("127.0.0.1")], 8443, is_tls=True)
    announcing = asyncio.create_task(announce(service, ["127.0.0.1"]))
    found: asyncio.Queue[str] = asyncio.Queue()

    def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Added:
            found.put_nowait(name)

    phone = AsyncZeroconf(interfaces=["127.0.0.1"])
    browser = AsyncServiceBrowser(phone.zeroconf, TYPE, handlers=[changed])
    try:
        async with asyncio.timeout(120):
            name = await found.get()
        info = AsyncServiceInfo(TYPE, name)
        assert await info.async_request(phone.zeroconf, 5000)
        assert (info.port, info.server, info.parsed_addresses()) == (8443, "post7.local.", ["127.0.0.1"])
        assert info.decoded_properties == {"version": "1", "tls": "1", "path": "/"}
    finally:
        await browser.async_cancel()
        await phone.async_close()
        announcing.cancel()
        await asyncio.wait([announcing])
