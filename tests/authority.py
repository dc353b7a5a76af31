"""An authority that speaks RFC 8555 over the loopback, for a real client: issues what was proved, from its own root.

It is as strict as the protocol asks: every request is signed by its account's key, over its own address and a nonce
that is used once; a name is believed when ``http://NAME/.well-known/acme-challenge/TOKEN`` says token and thumbprint of
that key. Where NAME is, the test says. Of the protocol it has what issuing takes: http-01 alone, no revocation.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import http.server
import json
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

_CHALLENGE: Final = "/.well-known/acme-challenge/"


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Refused(Exception):
    """A request that the protocol does not allow, by the name of its problem."""

    def __init__(self, problem: str, status: int = 400) -> None:
        super().__init__(problem)
        self.problem, self.status = problem, status


class Authority:
    """Serves the protocol until ``close``; ``where`` says at which address of the loopback a name answers."""

    def __init__(self, where: Callable[[str], tuple[str, int]]) -> None:
        #: what the next certificates live
        self.lifetime = timedelta(days=90)
        #: serial numbers, in the order in which they were given out
        self.issued: list[int] = []
        self._where = where
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a root of the tests")])
        now = datetime.now(UTC)
        self.root = (
            x509.CertificateBuilder()
            .subject_name(name).issuer_name(name).public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )  # fmt: skip
        self._nonces: set[str] = set()
        self._accounts: list[dict[str, Any]] = []
        self._orders: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.directory = f"{self.url}/directory"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def root_pem(self) -> str:
        """Return what a client has to believe."""
        return self.root.public_bytes(Encoding.PEM).decode()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def nonce(self) -> str:
        """Return a word that one request may use."""
        made = secrets.token_urlsafe(16)
        with self._lock:
            self._nonces.add(made)
        return made

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body for a signed request; raises Refused."""
        protected, payload, jwk = self._opened(path, body)
        room, _, number = path.strip("/").partition("/")
        if room == "account":
            return self._account(jwk, payload)
        if "kid" not in protected:
            raise Refused("malformed")
        if room == "order" and not number:
            return self._order(json.loads(payload))
        order = self._orders[int(number)]
        if room == "authorization":
            if payload and json.loads(payload).get("status") == "deactivated":
                order["authorization"]["status"] = "deactivated"
            return _json(order["authorization"])
        if room == "challenge":
            self._prove(order, jwk)
            link = {"Link": f'<{self.url}/authorization/{number}>;rel="up"'}
            return _json(order["authorization"]["challenges"][0], more=link)
        if room == "finalize":
            self._issue(order, x509.load_der_x509_csr(_bytes(json.loads(payload)["csr"])), int(number))
        if room == "certificate":
            return 200, {"Content-Type": "application/pem-certificate-chain"}, order["pem"]
        return _json(order["shown"], more={"Location": f"{self.url}/order/{number}"})

    def _opened(self, path: str, body: bytes) -> tuple[dict[str, Any], bytes, dict[str, str]]:
        envelope = json.loads(body)
        protected = json.loads(_bytes(envelope["protected"]))
        with self._lock:
            if protected.get("nonce") not in self._nonces:
                raise Refused("badNonce")
            self._nonces.remove(protected["nonce"])
        if protected.get("url") != self.url + path:
            raise Refused("unauthorized", 401)
        if "kid" in protected:
            jwk: dict[str, str] = self._accounts[int(protected["kid"].rsplit("/", 1)[1])]["jwk"]
        else:
            jwk = protected["jwk"]
        signed = f"{envelope['protected']}.{envelope['payload']}".encode()
        try:
            _public(jwk).verify(_bytes(envelope["signature"]), signed, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature as error:
            raise Refused("unauthorized", 401) from error
        return protected, _bytes(envelope["payload"]), jwk

    def _account(self, jwk: dict[str, str], payload: bytes) -> tuple[int, dict[str, str], bytes]:
        known = [number for number, account in enumerate(self._accounts) if account["jwk"] == jwk]
        if not known and json.loads(payload or b"{}").get("onlyReturnExisting"):
            raise Refused("accountDoesNotExist")
        if not known:
            self._accounts.append({"jwk": jwk})
        number = known[0] if known else len(self._accounts) - 1
        location = {"Location": f"{self.url}/account/{number}"}
        return _json({"status": "valid"}, 200 if known else 201, location)

    def _order(self, wanted: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        (identifier,) = wanted["identifiers"]
        number = len(self._orders)
        challenge = {
            "type": "http-01", "status": "pending", "url": f"{self.url}/challenge/{number}",
            "token": secrets.token_urlsafe(24),
        }  # fmt: skip
        self._orders.append({
            "authorization": {"identifier": identifier, "status": "pending", "challenges": [challenge]},
            "shown": {
                "status": "pending", "identifiers": [identifier], "finalize": f"{self.url}/finalize/{number}",
                "authorizations": [f"{self.url}/authorization/{number}"],
            },
        })  # fmt: skip
        return _json(self._orders[number]["shown"], 201, {"Location": f"{self.url}/order/{number}"})

    def _prove(self, order: dict[str, Any], jwk: dict[str, str]) -> None:
        authorization = order["authorization"]
        (challenge,) = authorization["challenges"]
        name = authorization["identifier"]["value"]
        thumbprint = hashlib.sha256(json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode()).digest()
        connection = http.client.HTTPConnection(*self._where(name), timeout=120)
        try:
            connection.request("GET", _CHALLENGE + challenge["token"], headers={"Host": name})
            answer = connection.getresponse()
            said = answer.read().decode(errors="replace").strip()
        except OSError as error:
            said = str(error)
        finally:
            connection.close()
        is_proved = said == f"{challenge['token']}.{_text(thumbprint)}"
        challenge["status"] = authorization["status"] = "valid" if is_proved else "invalid"
        if is_proved:
            order["shown"]["status"] = "ready"
        else:
            challenge["error"] = {"type": "urn:ietf:params:acme:error:unauthorized", "detail": f"it said {said!r}"}

    def _issue(self, order: dict[str, Any], wanted: x509.CertificateSigningRequest, number: int) -> None:
        names = wanted.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if order["shown"]["status"] != "ready":
            raise Refused("orderNotReady", 403)
        if names.get_values_for_type(x509.DNSName) != [order["authorization"]["identifier"]["value"]]:
            raise Refused("badCSR")
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([])).issuer_name(self.root.subject).public_key(wanted.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + self.lifetime)
            .add_extension(names, critical=True)
            .sign(self._key, hashes.SHA256())
        )  # fmt: skip
        self.issued.append(made.serial_number)
        order["pem"] = made.public_bytes(Encoding.PEM) + self.root.public_bytes(Encoding.PEM)
        order["shown"] |= {"status": "valid", "certificate": f"{self.url}/certificate/{number}"}


def _public(jwk: dict[str, str]) -> rsa.RSAPublicKey:
    if jwk["kty"] != "RSA":
        raise Refused("badPublicKey")
    n, e = (int.from_bytes(_bytes(jwk[name]), "big") for name in ("n", "e"))
    return rsa.RSAPublicNumbers(e, n).public_key()


def _json(body: object, status: int = 200, more: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json", **(more or {})}, json.dumps(body).encode()


def _handler_of(authority: Authority) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._say(200, {}, b"")

        def do_GET(self) -> None:
            if self.path != "/directory":
                return self._say(204, {}, b"")
            rooms = {"newNonce": "nonce", "newAccount": "account", "newOrder": "order"}
            return self._say(*_json({name: f"{authority.url}/{room}" for name, room in rooms.items()}))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                self._say(*authority.answer(self.path, body))
            except Refused as error:
                status, headers, said = _json(
                    {"type": f"urn:ietf:params:acme:error:{error.problem}", "detail": error.problem}, error.status
                )
                self._say(status, {**headers, "Content-Type": "application/problem+json"}, said)

        def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Replay-Nonce": authority.nonce()}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
