"""Codes by mail, over SMTP with TLS; the standard library's client, off the event loop."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import make_msgid

import msgspec

from shared.errors import LinkError

TIMEOUT_S = 20.0


class MailServer(msgspec.Struct, frozen=True, kw_only=True):
    """Where mail is handed in. ``is_tls`` asks for STARTTLS, on port 465 TLS from the first byte."""

    host: str
    port: int = 587
    is_tls: bool = True
    user: str = ""
    password: str = ""
    sender: str = ""


class Mailer:
    """Sends mail through one server."""

    def __init__(self, server: MailServer) -> None:
        self._server = server

    async def send(self, to: str, subject: str, text: str) -> None:
        """Send a plain mail; raises LinkError, in whose words there is no password and no address."""
        await asyncio.to_thread(self._send, to, subject, text)

    def _send(self, to: str, subject: str, text: str) -> None:
        server = self._server
        message = EmailMessage()
        message["From"] = server.sender or server.user
        message["To"] = to
        message["Subject"] = subject
        message["Message-ID"] = make_msgid(domain=(server.sender or server.user).partition("@")[2] or "localhost")
        message.set_content(text)
        try:
            with self._connected() as smtp:
                if server.user:
                    smtp.login(server.user, server.password)
                smtp.send_message(message)
        except smtplib.SMTPAuthenticationError as error:
            raise LinkError(f"the mail server {server.host} does not take notify.email_host_user's password") from error
        except (OSError, smtplib.SMTPException) as error:
            raise LinkError(f"the mail server {server.host} did not take a mail: {type(error).__name__}") from error

    def _connected(self) -> smtplib.SMTP:
        server = self._server
        context = ssl.create_default_context()
        if server.is_tls and server.port == smtplib.SMTP_SSL_PORT:
            return smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_S, context=context)
        smtp = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_S)
        if server.is_tls:
            try:
                smtp.starttls(context=context)
            except BaseException:
                smtp.close()
                raise
        return smtp
