"""Codes on the wire: a server that speaks SMTP, and one that speaks Twilio's API, both on this machine."""

from __future__ import annotations

import base64
import http.server
import json
import socket
import socketserver
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cloud.notify.codes import CodeSender
from cloud.notify.mail import Mailer, MailServer
from cloud.notify.sms import Texter, TwilioAccount
from shared.errors import LinkError

pytestmark = [pytest.mark.unit, pytest.mark.auth]


class SmtpHandler(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as a client needs to hand in a mail."""

    heard: ClassVar[list[str]] = []
    is_refusing: ClassVar[bool] = False

    def handle(self) -> None:
        self._say("220 test")
        is_data = False
        for raw in self.rfile:
            line = raw.decode().rstrip("\r\n")
            self.heard.append(line)
            if is_data:
                is_data = line != "."
                if not is_data:
                    self._say("250 kept")
                continue
            word = line.split(" ", 1)[0].upper()
            if word == "EHLO":
                self._say("250-test\r\n250 AUTH PLAIN")
            elif word == "AUTH":
                self._say("535 no" if self.is_refusing else "235 yes")
            elif word == "DATA":
                is_data = True
                self._say("354 go on")
            elif word == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 fine")

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


class TwilioHandler(http.server.BaseHTTPRequestHandler):
    """Twilio's ``POST /2010-04-01/Accounts/{sid}/Messages.json``."""

    heard: ClassVar[list[dict[str, Any]]] = []
    status: ClassVar[int] = 201

    def do_POST(self) -> None:  # the library's name
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.heard.append({
            "path": self.path, "auth": self.headers["Authorization"], "form": dict(urllib.parse.parse_qsl(body)),
        })  # fmt: skip
        answer = (
            {"sid": "SM1", "status": "queued"} if self.status == 201 else {"code": 20003, "message": "Authenticate"}
        )
        raw = json.dumps(answer).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
        """Say nothing."""


@contextmanager
def served(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]  # type: ignore[misc, index]  # an address of TCP is a pair
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_code_is_told_in_the_language_of_the_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SmtpHandler, "heard", [])
    with served(socketserver.TCPServer(("127.0.0.1", 0), SmtpHandler)) as port:
        server = MailServer(
            host="127.0.0.1", port=port, is_tls=False, user="outpost", password="geheim", sender="o@mail.example"
        )
        await CodeSender(mailer=Mailer(server), language="sw").send_code("mail", "asha@example.org", "123456", 5)
    assert "Subject: Msimbo wako wa Outpost" in SmtpHandler.heard
    assert any("Msimbo wako wa Outpost ni 123456." in line for line in SmtpHandler.heard)


async def test_a_code_goes_by_mail_with_nothing_but_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SmtpHandler, "heard", [])
    with served(socketserver.TCPServer(("127.0.0.1", 0), SmtpHandler)) as port:
        server = MailServer(
            host="127.0.0.1", port=port, is_tls=False, user="outpost", password="geheim", sender="o@mail.example"
        )
        sender = CodeSender(mailer=Mailer(server))
        assert sender.channel("+254700") == "mail"
        await sender.send_code("mail", "asha@example.org", "123456", 5)
    heard = SmtpHandler.heard
    assert "rcpt TO:<asha@example.org>" in heard
    assert any("123456" in line and "5 minutes" in line for line in heard)
    (auth,) = [line for line in heard if line.startswith("AUTH")]
    assert base64.b64decode(auth.split()[-1]) == b"\0outpost\0geheim"


async def test_a_mail_server_that_refuses_is_told_of_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SmtpHandler, "is_refusing", True)
    with served(socketserver.TCPServer(("127.0.0.1", 0), SmtpHandler)) as port:
        server = MailServer(host="127.0.0.1", port=port, is_tls=False, user="outpost", password="geheim")
        with pytest.raises(LinkError, match="email_host_user") as refused:
            await Mailer(server).send("a@example.org", "s", "t")
    assert "geheim" not in refused.value.detail
    nobody = MailServer(host="127.0.0.1", port=free_port(), user="o@example.org")
    with pytest.raises(LinkError, match="did not take"):
        await Mailer(nobody).send("a@example.org", "s", "t")


async def test_mail_is_not_sent_in_the_clear_where_tls_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SmtpHandler, "heard", [])
    with served(socketserver.TCPServer(("127.0.0.1", 0), SmtpHandler)) as port:
        server = MailServer(host="127.0.0.1", port=port, user="outpost", password="geheim")
        with pytest.raises(LinkError):
            await Mailer(server).send("a@example.org", "s", "123456")
    assert not any("AUTH" in line or "123456" in line for line in SmtpHandler.heard)


async def test_a_code_goes_by_sms_over_twilios_own_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TwilioHandler, "heard", [])
    with served(http.server.HTTPServer(("127.0.0.1", 0), TwilioHandler)) as port:
        account = TwilioAccount(
            account_sid="AC1", auth_token="geheim", phone_number="+15550100", url=f"http://127.0.0.1:{port}"
        )
        sender = CodeSender(texter=Texter(account))
        assert (sender.channel("+254700"), sender.channel(None)) == ("sms", None)
        await sender.send_code("sms", "+254700", "123456", 5)
        (heard,) = TwilioHandler.heard
        assert heard["path"] == "/2010-04-01/Accounts/AC1/Messages.json"
        assert base64.b64decode(heard["auth"].split()[1]) == b"AC1:geheim"
        assert (heard["form"]["To"], heard["form"]["From"]) == ("+254700", "+15550100")
        assert "123456" in heard["form"]["Body"]
        monkeypatch.setattr(TwilioHandler, "status", 401)
        with pytest.raises(LinkError, match="20003") as refused:
            await sender.send_code("sms", "+254700", "123456", 5)
        assert "geheim" not in refused.value.detail
    with pytest.raises(LinkError, match="cannot be reached"):
        await sender.send_code("sms", "+254700", "123456", 5)


async def test_under_development_codes_go_into_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    outbox = tmp_path / "made" / "outbox.jsonl"
    sender = CodeSender(outbox=outbox)
    await sender.send_code("mail", "a@example.org", "123456", 5)
    await sender.send_code("mail", "b@example.org", "654321", 5)
    lines = [json.loads(line) for line in outbox.read_text().splitlines()]
    assert [line["code"] for line in lines] == ["123456", "654321"]
    assert outbox.stat().st_mode & 0o077 == 0
    with pytest.raises(LinkError):
        await CodeSender().send_code("mail", "a@example.org", "1", 5)
