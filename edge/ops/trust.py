"""The station's own certificate authority: what phones and browsers of the post believe, with no internet.

The authority is made at the first boot and stays. It can speak for this post alone: its certificate is constrained to
``.local``, the configured names and private addresses, so a phone that installed it is in no danger elsewhere when the
box is stolen. Its key, and that of the certificate in use, lie encrypted under the station's key: the card alone cannot
pretend to be the station.

The certificate in use names the machine and its addresses and is good for 397 days. It is made anew a month before its
end, and when names or addresses have changed, and taken into use without a restart. On a clock that stands before this
program was built it begins at that date, so that a phone with the right time finds it valid.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import itertools
import os
import ssl
from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.accounts.sealing import derived
from shared.clock import Clock
from shared.errors import ConfigError

log = structlog.get_logger()

LEAF_LIFE: Final = timedelta(days=397)
RENEWED_BEFORE: Final = timedelta(days=30)
CA_LIFE: Final = timedelta(days=7_300)
LOOK_EVERY_S: Final = 3_600.0
#: Clocks of phones may be slow by this much.
_SLACK: Final = timedelta(days=2)
_PRIVATE: Final = (
    "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "::1/128",
    "fc00::/7", "fe80::/10",
)  # fmt: skip

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Authority:
    """The authority of one station, in ``folder``; made there if there is none."""

    def __init__(
        self, folder: Path, station: str, key: bytes | None, *, names: Sequence[str], built_at: datetime, clock: Clock
    ) -> None:
        self._folder = folder
        self._station = station
        self._names = tuple(dict.fromkeys(name for name in (*names, "localhost") if not _is_address(name)))
        self._built_at = built_at
        self._clock = clock
        self._password = None if key is None else derived(key, "tls").hex().encode()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._certificate, self._key = self._authority()

    @property
    def pem(self) -> bytes:
        """The authority's certificate, as phones take it."""
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of that certificate, as systems show it: pairs of hex digits."""
        return self._certificate.fingerprint(hashes.SHA256()).hex(":").upper()

    @property
    def pin(self) -> str:
        """SHA-256 of its public key in base64, as applications pin it."""
        spki = self._certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return b64encode(hashlib.sha256(spki).digest()).decode()

    def context(self, addresses: Sequence[Address]) -> ssl.SSLContext:
        """Return what a server speaks TLS 1.2 or later with, over a certificate that is good now."""
        self.renew(addresses)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(context)
        return context

    def certificate_for(self, name: str, folder: Path, addresses: Sequence[Address]) -> list[Path]:
        """Write a certificate for another program of this machine, a broker, and its key, which is not encrypted."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._issued(name, key, addresses)
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{name}.pem", folder / f"{name}.key"]
        plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for file, content in zip(files, (leaf.public_bytes(Encoding.PEM), plain), strict=True):
            _write(file, content)
        return files

    async def keep(self, context: ssl.SSLContext, addresses: Sequence[Address] | None = None) -> None:
        """Make the certificate anew whenever that is needed, and let ``context`` use it; for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            found = await asyncio.to_thread(own_addresses) if addresses is None else addresses
            if await asyncio.to_thread(self.renew, found):
                self._load(context)

    def renew(self, addresses: Sequence[Address]) -> bool:
        """Make the certificate anew if it ends soon or names other addresses; say whether it was made."""
        now = max(self._clock.now(), self._built_at)
        current = self._leaf()
        if current is not None and self._is_good(current, addresses, now):
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._issued(f"{self._station} (station)", key, addresses)
        # one file: a key without its certificate must not be found after a power cut
        _write(self._folder / "station.pem", self._private(key) + leaf.public_bytes(Encoding.PEM))
        log.info(
            "tls.renewed",
            not_after=leaf.not_valid_after_utc.isoformat(),
            addresses=[str(each) for each in _inside(addresses)],
        )
        return True

    def _issued(self, name: str, key: ec.EllipticCurvePrivateKey, addresses: Sequence[Address]) -> x509.Certificate:
        now = max(self._clock.now(), self._built_at)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SLACK)
            .not_valid_after(now + LEAF_LIFE - _SLACK)
            .add_extension(
                x509.SubjectAlternativeName(
                    [
                        *(x509.DNSName(name) for name in self._names),
                        *(x509.IPAddress(address) for address in _with_loopback(_inside(addresses))),
                    ]
                ),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(_usage(is_authority=False), critical=True)
            .add_extension(_identifier(self._certificate), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._folder / "station.pem", password=self._password)

    def _leaf(self) -> x509.Certificate | None:
        try:
            return x509.load_pem_x509_certificate((self._folder / "station.pem").read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def _is_good(self, leaf: x509.Certificate, addresses: Sequence[Address], now: datetime) -> bool:
        try:
            leaf.verify_directly_issued_by(self._certificate)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it is made anew
            return False
        said = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        wanted = set(_with_loopback(_inside(addresses)))
        return (
            leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc - RENEWED_BEFORE
            and set(self._names) <= set(said.get_values_for_type(x509.DNSName))
            and wanted <= set(said.get_values_for_type(x509.IPAddress))
        )

    def _authority(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        file = self._folder / "authority.pem"
        if not file.exists():
            self._make_authority(file)
        raw = file.read_bytes()
        try:
            key = load_pem_private_key(raw, self._password)
            certificate = x509.load_pem_x509_certificate(raw)
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"{file}: does not open with this station's key ({error}). Removing it makes another authority, which"
                " every phone has to be told to trust anew"
            ) from error
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return certificate, key

    def _make_authority(self, file: Path) -> None:
        now = max(self._clock.now(), self._built_at)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"Outpost {self._station}")
        outside = [name for name in self._names if name != "localhost" and not name.endswith(".local")]
        permitted = [
            *(x509.DNSName(name) for name in ("local", "localhost", *outside)),
            *(x509.IPAddress(ipaddress.ip_network(net)) for net in _PRIVATE),
        ]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SLACK)
            .not_valid_after(now + CA_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None), critical=True)
            .add_extension(_usage(is_authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(file, self._private(key) + certificate.public_bytes(Encoding.PEM))

    def _private(self, key: ec.EllipticCurvePrivateKey) -> bytes:
        protection: KeySerializationEncryption = (
            NoEncryption() if self._password is None else BestAvailableEncryption(self._password)
        )
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)


def own_addresses() -> list[Address]:
    """Return the addresses of this machine by which others on its networks reach it (from the kernel's own tables)."""
    found: set[Address] = set()
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/net/fib_trie").read_text(encoding="ascii").splitlines()
        for line, following in itertools.pairwise(lines):
            if "/32 host LOCAL" in following:
                found.add(ipaddress.ip_address(line.split()[-1]))
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/net/if_inet6").read_text(encoding="ascii").splitlines():
            found.add(ipaddress.IPv6Address(bytes.fromhex(line.split()[0])))
    return sorted((address for address in found if not address.is_link_local), key=str)


def _inside(addresses: Sequence[Address]) -> list[Address]:
    """Return those that the authority may speak for."""
    nets = [ipaddress.ip_network(net) for net in _PRIVATE]
    return [address for address in addresses if any(address in net for net in nets)]


def _with_loopback(addresses: Sequence[Address]) -> list[Address]:
    loopback = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))
    return list(dict.fromkeys([*loopback, *addresses]))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, whose mode is right from the first byte
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
