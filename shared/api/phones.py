"""/api/v1/phones: how a phone comes to be known at a home, by a QR code and a key of its own."""

from __future__ import annotations

from typing import Annotated, Any

import segno
from litestar import Controller, Request, get, post
from litestar.di import Dependency
from litestar.params import FromPath, JSONBody, SkipValidationMarker
from msgspec import Struct

from shared.accounts.roles import MANAGERS
from shared.api.access import AccountsGiven, CallerGiven, address_of
from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.api.paging import PAGING, Paged, PagingGiven
from shared.store import Page
from shared.wire.public.accounts import LoggedInOut, TokensOut, UserOut
from shared.wire.public.phones import (
    PhoneCodeIn,
    PhoneCodeOut,
    PhoneEnrolIn,
    PhoneEnrolledOut,
    PhoneLoginIn,
    PhoneOut,
    link_of,
)


class PhoneTrust(Struct, frozen=True, kw_only=True):
    """The certificate that phones believe of this home, where it is the home's own; None: one that phones know anyway.

    ``fingerprint`` is its SHA-256 in hex digits, ``pin`` that of its public key in base64.
    """

    fingerprint: str | None = None
    pin: str | None = None


TrustGiven = Annotated[PhoneTrust, Dependency(kind="named"), SkipValidationMarker()]


class Phones(Controller):
    """Phones of people."""

    path = "/phones"
    tags = ("phones",)
    dependencies = PAGING
    return_dto = None

    @post("/codes", summary="Make a code for a phone", dto=JsonBody, responses=documented(403, 404, 409))
    async def make_code(
        self,
        request: Request[Any, Any, Any],
        accounts: AccountsGiven,
        caller: CallerGiven,
        phone_trust: TrustGiven,
        data: JSONBody[PhoneCodeIn | None] = None,
    ) -> PhoneCodeOut:
        """Make a one-time code of fifteen minutes for one's own phone, or for that of somebody whose role one may give.

        `qr` is an SVG to show: the home's address, the fingerprint of its certificate and the code.
        """
        made = await accounts.make_phone_code(caller.principal, data.user_id if data else None)
        url = (data.url if data else None) or str(request.base_url)
        url = url.rstrip("/")
        told = link_of(made.code, url, accounts.home_name, phone_trust.fingerprint)
        return PhoneCodeOut.of(
            made, url, accounts.home_name, phone_trust.fingerprint, phone_trust.pin, svg_of(told)
        )  # fmt: skip

    @post("/enrol", summary="Enrol a phone", dto=JsonBody, responses=documented(401, 429))
    async def enrol(
        self, request: Request[Any, Any, Any], accounts: AccountsGiven, data: JSONBody[PhoneEnrolIn]
    ) -> PhoneEnrolledOut:
        """Take a code from a phone that has made a key: it is known from now on, and its person is logged in."""
        phone, found = await accounts.enrol_phone(
            data.code, data.public_key, data.signature, data.name, address_of(request)
        )
        return PhoneEnrolledOut(
            phone=PhoneOut.of(phone), home=accounts.home_name, user=UserOut.of(found.user),
            tokens=TokensOut(found.access, found.refresh),
        )  # fmt: skip

    @post(
        "/{phone_id:str}/login", summary="Log in by a phone's key", dto=JsonBody, status_code=200,
        responses=documented(401, 403, 409, 429),
    )  # fmt: skip
    async def login(
        self,
        request: Request[Any, Any, Any],
        accounts: AccountsGiven,
        phone_id: FromPath[str],
        data: JSONBody[PhoneLoginIn],
    ) -> LoggedInOut:
        """Let a ranger or viewer in again whose phone was away for long; others log in with their second factor."""
        return LoggedInOut.of(
            await accounts.login_phone(phone_id, data.counter, data.signature, address_of(request))
        )  # fmt: skip

    @get("/", summary="List phones", responses=documented(404))
    async def list_phones(self, accounts: AccountsGiven, caller: CallerGiven, paging: PagingGiven) -> Paged[PhoneOut]:
        """List one's own phones, newest first; managers and administrators see everybody's."""
        principal = caller.principal
        found = await accounts.phones(None if principal.role in MANAGERS else principal.user_id)
        return paging.of(Page(len(found), found[paging.offset : paging.offset + paging.limit]), PhoneOut.of)

    @post("/{phone_id:str}/revoke", summary="Know a phone no more", status_code=200, responses=documented(403, 404))
    async def revoke(self, accounts: AccountsGiven, caller: CallerGiven, phone_id: FromPath[str]) -> PhoneOut:
        """End a phone's sessions and refuse its key, at once: it was lost."""
        return PhoneOut.of(await accounts.revoke_phone(caller.principal, phone_id))


def svg_of(text: str) -> str:
    """Return a QR code as an SVG that stands in a page by itself."""
    return str(segno.make(text, error="m", micro=False).svg_inline(scale=5, border=4, dark="#000", light="#fff"))
