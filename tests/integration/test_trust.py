"""TLS on the post's network: an authority of the station's own, for the post alone, renewed with no internet."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.app import running
from edge.config import ApiSection, Config, StationSection, StoreSection
from edge.ops.trust import LEAF_LIFE, RENEWED_BEFORE, Address, Authority, own_addresses
from shared.errors import ConfigError
from tests.access import operator_of_station
from tests.fakes import START, FakeClock
from tests.services import free_port

pytestmark = pytest.mark.integration

KEY = bytes(range(32))
HOME = [ipaddress.ip_address("192.168.4.1")]


def authority(
    folder: Path, clock: FakeClock, *, key: bytes | None = KEY, names: Sequence[str] = ("north.local",)
) -> Authority:
    return Authority(folder, "north", key, names=names, built_at=START, clock=clock)


def leaf(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "station.pem").read_bytes())


def handshake(server: ssl.SSLContext, trusted: bytes, name: str) -> str:
    """Shake hands in memory; return "ok" or why the client refused."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=trusted.decode())
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (theirs, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
    return "ok"


def test_a_phone_that_took_the_authority_believes_the_station_by_name_and_address(tmp_path: Path) -> None:
    made = authority(tmp_path, FakeClock(datetime.now(UTC)))
    context = made.context(HOME)
    for name in ("north.local", "192.168.4.1", "127.0.0.1", "localhost"):
        assert handshake(context, made.pem, name) == "ok", name
    assert "mismatch" in handshake(context, made.pem, "south.local")
    other = authority(tmp_path / "other", FakeClock(datetime.now(UTC)))
    assert handshake(context, other.pem, "north.local") != "ok"


def test_the_authority_of_a_stolen_box_is_believed_nowhere_outside_the_post(tmp_path: Path) -> None:
    clock = FakeClock(datetime.now(UTC))
    stolen = authority(tmp_path, clock)
    thief = authority(tmp_path, clock, names=("north.local", "bank.example"))
    context = thief.context([])
    assert "permitted subtree" in handshake(context, stolen.pem, "bank.example")


def test_an_address_of_the_wide_internet_costs_the_post_nothing(tmp_path: Path) -> None:
    made = authority(tmp_path, FakeClock(datetime.now(UTC)))
    context = made.context([*HOME, ipaddress.ip_address("8.8.8.8"), ipaddress.ip_address("198.18.0.7")])
    assert handshake(context, made.pem, "192.168.4.1") == "ok"


def test_authority_and_keys_stay_and_cannot_be_read_off_the_card(tmp_path: Path) -> None:
    clock = FakeClock()
    first = authority(tmp_path, clock)
    first.context(HOME)
    assert authority(tmp_path, clock).fingerprint == first.fingerprint
    for file in ("authority.pem", "station.pem"):
        text = (tmp_path / file).read_text()
        assert "BEGIN ENCRYPTED PRIVATE KEY" in text
        assert "BEGIN PRIVATE KEY" not in text
        assert (tmp_path / file).stat().st_mode & 0o077 == 0
    with pytest.raises(ConfigError, match="every phone has to be told"):
        authority(tmp_path, clock, key=bytes(32))
    spki = x509.load_pem_x509_certificate(first.pem).public_key()
    raw = spki.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert first.pin == base64.b64encode(hashlib.sha256(raw).digest()).decode()


def test_the_certificate_is_renewed_before_its_end_and_when_an_address_is_new(tmp_path: Path) -> None:
    clock = FakeClock()
    made = authority(tmp_path, clock)
    assert made.renew(HOME)
    first = leaf(tmp_path)
    clock.tick((LEAF_LIFE - RENEWED_BEFORE - timedelta(days=3)).total_seconds())
    assert not made.renew(HOME)
    clock.tick(timedelta(days=2).total_seconds())
    assert made.renew(HOME)
    assert leaf(tmp_path).not_valid_after_utc > first.not_valid_after_utc + timedelta(days=300)
    assert not made.renew(HOME)
    assert made.renew([ipaddress.ip_address("10.1.2.3")])
    (tmp_path / "station.pem").write_bytes(b"half of it")
    assert made.renew(HOME)


def test_a_boot_in_1970_makes_a_certificate_that_a_phone_with_the_right_time_takes(tmp_path: Path) -> None:
    made = authority(tmp_path, FakeClock(datetime(1970, 1, 1, tzinfo=UTC)))
    made.renew(HOME)
    certificate = leaf(tmp_path)
    assert certificate.not_valid_before_utc <= START <= certificate.not_valid_after_utc
    assert not made.renew(HOME)


async def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.ops.trust.LOOK_EVERY_S", 0.01)
    clock = FakeClock(datetime.now(UTC))
    made = authority(tmp_path, clock)
    context = made.context(HOME)
    new_address: list[Address] = [ipaddress.ip_address("10.1.2.3")]
    assert "mismatch" in handshake(context, made.pem, "10.1.2.3")
    keeping = asyncio.create_task(made.keep(context, new_address))
    async with asyncio.timeout(120):
        while handshake(context, made.pem, "10.1.2.3") != "ok":  # noqa: ASYNC110 - another task changes it
            await asyncio.sleep(0.01)
    keeping.cancel()
    await asyncio.wait([keeping])


def test_a_broker_of_this_machine_speaks_under_the_same_authority(tmp_path: Path) -> None:
    made = authority(tmp_path, FakeClock(datetime.now(UTC)))
    certificate, key = made.certificate_for("broker", tmp_path / "certs", HOME)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    assert handshake(context, made.pem, "192.168.4.1") == "ok"
    assert key.stat().st_mode & 0o077 == 0


def test_the_machines_own_addresses_are_found() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # sends nothing: only asks which address would be used
        except OSError:
            pytest.skip("this machine has no network")
        assert ipaddress.ip_address(probe.getsockname()[0]) in own_addresses()


async def test_a_station_serves_tls_on_the_network_and_sends_plain_http_on(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(KEY.hex())
    port, plain = free_port(), free_port()
    config = Config(
        station=StationSection(id="north", data_dir=tmp_path / "data"), store=StoreSection(key_file=key_file),
        api=ApiSection(port=port, is_tls=True, redirect_port=plain),
    )  # fmt: skip
    auth = operator_of_station(config.database, config.key(), "north")
    async with running(config) as url:
        assert url.startswith("http://127.0.0.1:"), "commands on the machine itself"
        async with httpx.AsyncClient(auth=auth) as here:
            assert (await here.get(f"{url}/api/v1/animals/")).status_code == 200
            page = await here.get(f"http://127.0.0.1:{plain}/trust")
            taken = await here.get(f"http://127.0.0.1:{plain}/trust/station.crt")
            sent_on = await here.get(f"http://127.0.0.1:{plain}/health/?a=1")
            posted = await here.post(f"http://127.0.0.1:{plain}/api/v1/auth/login/", json={})
            elsewhere = await here.get(f"http://127.0.0.1:{plain}/", headers={"host": "bank.example"})
        assert sent_on.status_code == 308
        assert sent_on.headers["location"] == f"https://127.0.0.1:{port}/health/?a=1"
        assert posted.status_code == 405
        assert elsewhere.status_code == 400
        der = x509.load_pem_x509_certificate(taken.content).public_bytes(Encoding.DER)
        digits = hashlib.sha256(der).hexdigest().upper()
        assert " ".join(digits[i : i + 4] for i in range(0, 64, 4)) in page.text
        trusting = ssl.create_default_context(cadata=taken.text)
        async with httpx.AsyncClient(verify=trusting, auth=auth) as phone:
            assert (await phone.get(f"https://127.0.0.1:{port}/api/v1/animals/")).status_code == 200
            assert (await phone.get(f"https://127.0.0.1:{port}/trust")).status_code == 200
        async with httpx.AsyncClient() as stranger:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await stranger.get(f"https://127.0.0.1:{port}/health/")
            with pytest.raises(httpx.RemoteProtocolError):
                await stranger.get(f"http://127.0.0.1:{port}/health/")
