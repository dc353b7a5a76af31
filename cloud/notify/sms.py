"""Codes by SMS, over Twilio's own client, off the event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from requests.exceptions import RequestException
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from shared.errors import LinkError

TIMEOUT_S = 20.0
API = "https://api.twilio.com"


class TwilioAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account and the number that it sends from; ``url`` is another server that speaks the same API."""

    account_sid: str
    auth_token: str
    phone_number: str
    url: str = API


class _Elsewhere(TwilioHttpClient):  # type: ignore[misc]  # the library has no types
    """The library's client, with another server in the place of Twilio's."""

    def __init__(self, url: str) -> None:
        super().__init__(timeout=TIMEOUT_S)
        self._url = url.rstrip("/")

    def request(self, method: str, url: str, *args: Any, **more: Any) -> Response:
        return super().request(method, url.replace(API, self._url, 1), *args, **more)


class Texter:
    """Sends SMS from one account."""

    def __init__(self, account: TwilioAccount) -> None:
        self._account = account
        self._client = Client(account.account_sid, account.auth_token, http_client=_Elsewhere(account.url))

    async def send(self, to: str, text: str) -> None:
        """Send a message; raises LinkError, in whose words there is no token and no number."""
        await asyncio.to_thread(self._send, to, text)

    def _send(self, to: str, text: str) -> None:
        try:
            self._client.messages.create(to=to, from_=self._account.phone_number, body=text)
        except TwilioRestException as error:
            raise LinkError(f"Twilio did not take an SMS: status {error.status}, code {error.code}") from error
        except (TwilioException, RequestException) as error:
            raise LinkError(f"Twilio cannot be reached: {type(error).__name__}") from error
