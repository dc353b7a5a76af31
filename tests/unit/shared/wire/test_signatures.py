"""Signed requests: RFC 9421's own example, and everything that must be refused."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from shared.errors import Invalid, NotAuthenticated
from shared.wire.signatures import new_key, sign, signature_base, verify

# RFC 9421, B.1.4 (key) and B.2.6 (signature base and signature).
RFC_PRIVATE_DER = base64.b64decode("MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF")
RFC_PUBLIC_DER = base64.b64decode("MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=")
RFC_COMPONENTS = [
    ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
    ("@method", "POST"),
    ("@path", "/foo"),
    ("@authority", "example.com"),
    ("content-type", "application/json"),
    ("content-length", "18"),
]
RFC_PARAMETERS = (
    '("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473'
    ';keyid="test-key-ed25519"'
)
RFC_SIGNATURE = base64.b64decode(
    "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
)

PRIVATE, PUBLIC = new_key()
KEY_ID = "station-7"
METHOD, PATH, QUERY, BODY = "PUT", "/api/v1/stations/s7/streams/0a/alerts/batches/3", "dry=1&x=%20", b"\xcbF\x01batch"


def keys(key_id: str) -> bytes | None:
    return PUBLIC if key_id == KEY_ID else None


def signed() -> dict[str, str]:
    return sign(PRIVATE, KEY_ID, METHOD, PATH, QUERY, BODY, created_s=1_700_000_000)


def check(
    headers: Mapping[str, str], method: str = METHOD, path: str = PATH, query: str = QUERY, body: bytes = BODY
) -> str:
    return verify(headers, method, path, query, body, keys)


def test_the_signature_base_is_the_specifications() -> None:
    base = signature_base(RFC_COMPONENTS, RFC_PARAMETERS)
    private = load_der_private_key(RFC_PRIVATE_DER, None)
    public = load_der_public_key(RFC_PUBLIC_DER)
    assert isinstance(private, Ed25519PrivateKey)
    assert isinstance(public, Ed25519PublicKey)
    public.verify(RFC_SIGNATURE, base)
    assert private.sign(base) == RFC_SIGNATURE
    assert base.startswith(b'"date": Tue, 20 Apr 2021 02:07:55 GMT\n"@method": POST\n')


def test_a_signed_request_names_its_key() -> None:
    assert check(signed()) == KEY_ID
    assert check({name.upper(): value for name, value in signed().items()}) == KEY_ID
    assert check(sign(PRIVATE, KEY_ID, METHOD, PATH, QUERY, BODY)) == KEY_ID
    assert check(sign(PRIVATE, KEY_ID, "GET", PATH, "", b""), method="GET", query="", body=b"") == KEY_ID


def test_what_is_covered_is_written_as_the_specification_has_it() -> None:
    headers = sign(PRIVATE, KEY_ID, "GET", "", "", b"", created_s=1)
    parameters = '("@method" "@path" "@query" "content-digest");created=1;keyid="station-7";alg="ed25519";tag="outpost"'
    assert headers["Signature-Input"] == f"outpost={parameters}"
    # the digest of nothing, RFC 9530's own way of writing it
    assert headers["Content-Digest"] == "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
    base = (
        '"@method": GET\n"@path": /\n"@query": ?\n'
        f'"content-digest": {headers["Content-Digest"]}\n'
        f'"@signature-params": {parameters}'
    )
    raw = base64.b64decode(headers["Signature"].removeprefix("outpost=:").removesuffix(":"))
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(raw, base.encode())


def test_any_change_of_the_request_is_refused() -> None:
    headers = signed()
    with pytest.raises(NotAuthenticated):
        check(headers, method="POST")
    with pytest.raises(NotAuthenticated):
        check(headers, path=PATH.replace("batches/3", "batches/4"))
    with pytest.raises(NotAuthenticated):
        check(headers, query=QUERY.replace("dry=1", "dry=0"))
    with pytest.raises(NotAuthenticated):
        check(headers, body=BODY + b"\0")


def test_time_is_not_judged() -> None:
    for created_s in (0, 1, 10**12 - 1):
        assert check(sign(PRIVATE, KEY_ID, METHOD, PATH, QUERY, BODY, created_s=created_s)) == KEY_ID


@pytest.mark.parametrize("name", ["Content-Digest", "Signature-Input", "Signature"])
def test_every_header_is_needed_once_and_short(name: str) -> None:
    headers = signed()
    with pytest.raises(NotAuthenticated):
        check({key: value for key, value in headers.items() if key != name})
    with pytest.raises(NotAuthenticated, match="once"):
        check({**headers, name.lower(): headers[name]})
    with pytest.raises(NotAuthenticated, match="too long"):
        check({**headers, name: headers[name] + " " * 600})
    with pytest.raises(NotAuthenticated):
        check({**headers, name: f"{headers[name]}, {headers[name]}"})
    with pytest.raises(NotAuthenticated):
        check({**headers, name: ""})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"@query" ', ""),
        ('"@method" "@path"', '"@path" "@method"'),
        ('"@path"', '"@path" "@path"'),
        (' "content-digest"', ""),
        (")", ' "date")'),
        ("ed25519", "hmac-sha256"),
        (';alg="ed25519"', ""),
        ('tag="outpost"', 'tag="other"'),
        (';tag="outpost"', ""),
        ("outpost=(", "sig1=("),
        ('"@path"', '"@path";req'),
        ("created=1700000000", "created=-1"),
        ("created=1700000000", "created=1700000000;expires=1800000000"),
        ("station-7", ""),
        ("station-7", "a" * 129),
        ("station-7", "stat ion"),
        ("station-7", "station-8"),
        ("created=1700000000", "created=1700000001"),
    ],
)
def test_other_parameters_are_refused(old: str, new: str) -> None:
    headers = signed()
    changed = headers["Signature-Input"].replace(old, new)
    assert changed != headers["Signature-Input"]
    with pytest.raises(NotAuthenticated):
        check({**headers, "Signature-Input": changed})


def test_other_digests_and_signatures_are_refused() -> None:
    headers = signed()
    sha_512 = "sha-512=:" + base64.b64encode(bytes(64)).decode() + ":"
    for digest in (sha_512, headers["Content-Digest"] + ", " + sha_512, headers["Content-Digest"].replace(":", "")):
        with pytest.raises(NotAuthenticated):
            check({**headers, "Content-Digest": digest})
    raw = base64.b64decode(headers["Signature"].removeprefix("outpost=:").removesuffix(":"))
    for wrong in (bytes(64), raw[:-1] + bytes((raw[-1] ^ 1,)), raw[:-1], raw + b"\0"):
        with pytest.raises(NotAuthenticated):
            check({**headers, "Signature": f"outpost=:{base64.b64encode(wrong).decode()}:"})
    # the last character before the padding has bits that no byte takes: one text for one signature
    text = headers["Signature"]
    last = text[-4]
    twin = text[:-4] + chr(ord(last) + 1) + text[-3:]
    with pytest.raises(NotAuthenticated):
        check({**headers, "Signature": twin})


def test_an_unknown_key_and_a_wrong_one_look_alike() -> None:
    other, _ = new_key()
    details = set()
    for headers in (
        sign(other, KEY_ID, METHOD, PATH, QUERY, BODY),
        sign(PRIVATE, "station-8", METHOD, PATH, QUERY, BODY),
    ):
        with pytest.raises(NotAuthenticated) as caught:
            check(headers)
        details.add(caught.value.detail)
    assert len(details) == 1


def test_a_request_line_cannot_smuggle_a_line_into_the_base() -> None:
    for path in ("/a\nb", "/a b", "/ä", "/a\r"):
        with pytest.raises(Invalid):
            sign(PRIVATE, KEY_ID, METHOD, path, "", b"")
        with pytest.raises(NotAuthenticated):
            check(signed(), path=path)
    with pytest.raises(Invalid):
        sign(PRIVATE, 'a"b', METHOD, PATH, "", b"")
    with pytest.raises(Invalid):
        sign(PRIVATE, KEY_ID, METHOD, PATH, "", b"", created_s=-1)


def test_keys_are_32_bytes_and_new_each_time() -> None:
    made = [new_key() for _ in range(3)]
    assert {len(half) for pair in made for half in pair} == {32}
    assert len({seed for seed, _ in made}) == 3
    seed, public = made[0]
    assert Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() == public
