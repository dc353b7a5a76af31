"""Requests signed with a station's Ed25519 key: a small profile of HTTP Message Signatures.

Sources: RFC 9421 (signature base, section 2.5; Ed25519, 3.3.6) and RFC 9530 (Content-Digest). A request carries::

    Content-Digest: sha-256=:<base64>:
    Signature-Input: outpost=("@method" "@path" "@query" "content-digest")
                     ;created=1700000000;keyid="station-7";alg="ed25519";tag="outpost"     (one line)
    Signature: outpost=:<base64>:

Nothing but this profile is read: the same components in the same order, one signature, one digest. What is signed is
the method, the path and the query as they stand on the request line, and the body through its digest.

It protects against anyone without the key who sends, alters or redirects to another path a request of a station, also
where TLS ends at a proxy before us. It does not hide anything: that is TLS's part. It does not stop a request from
being sent twice: every signed request must be idempotent, as batches are (their number and hash decide). ``created`` is
for people who read logs and is never checked, because a station may not know the time; a key is ended by taking it off
the list, not by a date. The authority is not covered: a station may know the cloud by another name than its proxy does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.errors import Invalid, NotAuthenticated

CONTENT_DIGEST: Final = "Content-Digest"
SIGNATURE_INPUT: Final = "Signature-Input"
SIGNATURE: Final = "Signature"

_COVERED: Final = ("@method", "@path", "@query", "content-digest")
_KEY_ID: Final = r"[A-Za-z0-9._:-]{1,128}"
_PARAMETERS: Final = re.compile(
    r'outpost=(?P<parameters>\("@method" "@path" "@query" "content-digest"\)(?:;created=[0-9]{1,12})?'
    rf';keyid="(?P<key_id>{_KEY_ID})";alg="ed25519";tag="outpost")',
    re.ASCII,
)
_SIGNATURE: Final = re.compile(r"outpost=:(?P<base64>[A-Za-z0-9+/]{86}==):", re.ASCII)
_DIGEST: Final = re.compile(r"sha-256=:(?P<base64>[A-Za-z0-9+/]{43}=):", re.ASCII)
#: The request line as it is sent: printable ASCII, the rest percent-encoded.
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]*", re.ASCII)
_METHOD: Final = re.compile(r"[A-Z]{1,16}", re.ASCII)
_MAX_HEADER_CHARACTERS: Final = 512


def new_key() -> tuple[bytes, bytes]:
    """Return a new key: its private seed and its public half, 32 bytes each."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes_raw(), key.public_key().public_bytes_raw()


def sign(
    private_key: bytes, key_id: str, method: str, path: str, query: str, body: bytes, *, created_s: int | None = None
) -> dict[str, str]:
    """Return the headers that sign a request.

    ``path`` and ``query`` (without its question mark) are as they will stand on the request line, percent-encoded.
    ``created_s`` is for logs, in seconds since 1970. Raises Invalid for a key id or request line that is not sendable.
    """
    if not re.fullmatch(_KEY_ID, key_id):
        raise Invalid("keyid: must have 1 to 128 letters, digits or any of . _ : -")
    if not _is_sendable(method, path, query):
        raise Invalid("a request line must be printable ASCII")
    if created_s is not None and not 0 <= created_s < 10**12:
        raise Invalid("created: must be seconds since 1970")
    created = "" if created_s is None else f";created={created_s}"
    covered = " ".join(f'"{name}"' for name in _COVERED)
    parameters = f'({covered}){created};keyid="{key_id}";alg="ed25519";tag="outpost"'
    digest = _digest(body)
    base = signature_base(_components(method, path, query, digest), parameters)
    signature = Ed25519PrivateKey.from_private_bytes(private_key).sign(base)
    return {
        CONTENT_DIGEST: digest,
        SIGNATURE_INPUT: f"outpost={parameters}",
        SIGNATURE: f"outpost=:{base64.b64encode(signature).decode()}:",
    }


def verify(
    headers: Mapping[str, str],
    method: str,
    path: str,
    query: str,
    body: bytes,
    public_key_of: Callable[[str], bytes | None],
) -> str:
    """Return the id of the key that signed the request; raises NotAuthenticated.

    ``path`` and ``query`` must be those of the request line, before any decoding. ``public_key_of`` returns the 32
    bytes for a key id, or None; an unknown key and a wrong signature are answered alike.
    """
    digest, parameters, signature = _fields(headers)
    if not _is_sendable(method, path, query):
        raise NotAuthenticated("the request line is not what was signed")
    asked, sent, claimed = _PARAMETERS.fullmatch(parameters), _SIGNATURE.fullmatch(signature), _DIGEST.fullmatch(digest)
    if not (asked and sent and claimed):
        raise NotAuthenticated("the signature of this request is not of the kind that is read here")
    if not hmac.compare_digest(digest, _digest(body)):
        raise NotAuthenticated("the body is not the one that was signed")
    base = signature_base(_components(method, path, query, digest), asked["parameters"])
    raw = _from_base64(sent["base64"])
    public = public_key_of(asked["key_id"])
    try:
        if public is None or raw is None:
            raise InvalidSignature
        Ed25519PublicKey.from_public_bytes(public).verify(raw, base)
    except InvalidSignature:
        raise NotAuthenticated("the signature of this request is not valid") from None
    return asked["key_id"]


def signature_base(components: Sequence[tuple[str, str]], parameters: str) -> bytes:
    """Return the bytes that are signed: a line for each (component, value), then the parameters (RFC 9421, 2.5)."""
    lines = [f'"{name}": {value}' for name, value in components]
    lines.append(f'"@signature-params": {parameters}')
    return "\n".join(lines).encode("ascii")


def _components(method: str, path: str, query: str, digest: str) -> list[tuple[str, str]]:
    # An empty path is "/", and a query is told with its question mark even where it is empty (2.2.6, 2.2.7).
    return list(zip(_COVERED, (method, path or "/", f"?{query}", digest), strict=True))


def _fields(headers: Mapping[str, str]) -> tuple[str, str, str]:
    """Return digest, parameters and signature; raises NotAuthenticated where one is missing, doubled or too long."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        lowered = name.lower()
        if lowered in found and lowered in _FIELDS:
            raise NotAuthenticated(f"{name}: must be given once")
        found[lowered] = value
    values = []
    for name in _FIELDS:
        if name not in found:
            raise NotAuthenticated("this request must be signed")
        value = found[name]
        if len(value) > _MAX_HEADER_CHARACTERS:
            raise NotAuthenticated(f"{name}: is too long")
        values.append(value.strip(" \t"))
    digest, parameters, signature = values
    return digest, parameters, signature


_FIELDS: Final = (CONTENT_DIGEST.lower(), SIGNATURE_INPUT.lower(), SIGNATURE.lower())


def _is_sendable(method: str, path: str, query: str) -> bool:
    return bool(_METHOD.fullmatch(method) and _PRINTABLE.fullmatch(path) and _PRINTABLE.fullmatch(query))


def _digest(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def _from_base64(text: str) -> bytes | None:
    """Return the bytes, or None where another text would have given the same ones."""
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return raw if base64.b64encode(raw).decode() == text else None
