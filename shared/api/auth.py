"""/api/v1/auth: registration, login, second factor, one's own account. The original platform's bodies."""

from __future__ import annotations

from typing import Any

from litestar import Controller, Request, Response, get, patch, post, put
from litestar.params import JSONBody

from shared.api.access import (
    AUTH_PATH,
    REFRESH_COOKIE,
    AccountsGiven,
    CallerGiven,
    address_of,
    cookies_for,
    no_cookies,
)
from shared.api.body import JsonBody
from shared.api.errors import documented
from shared.errors import Invalid
from shared.wire.public.accounts import (
    ChangePasswordIn,
    FactorIn,
    LoggedInOut,
    LoginIn,
    LoginVerifyIn,
    LogoutIn,
    MeIn,
    MessageOut,
    OpenedOut,
    RecoveryOut,
    RefreshIn,
    RegisterIn,
    SendOtpIn,
    TokensOut,
    TotpConfirmIn,
    TotpOut,
    UserOut,
    VerifyOtpIn,
)


class Auth(Controller):
    """Who somebody is."""

    path = AUTH_PATH.removeprefix("/api/v1")
    tags = ("auth",)
    return_dto = None

    @post("/register", summary="Register", dto=JsonBody, status_code=200, responses=documented(403, 429))
    async def register(
        self, request: Request[Any, Any, Any], accounts: AccountsGiven, data: JSONBody[RegisterIn]
    ) -> OpenedOut:
        """Send a code to the address; the account is made when it comes back. A station makes no accounts this way."""
        return OpenedOut.of(
            await accounts.register(
                email=data.email, name=data.name, phone=data.phone, password=data.password, wish=data.role,
                address=address_of(request),
            )
        )  # fmt: skip

    @post("/verify-otp", summary="Give the code", dto=JsonBody, status_code=200, responses=documented(401, 403, 429))
    async def verify_otp(
        self, request: Request[Any, Any, Any], accounts: AccountsGiven, data: JSONBody[VerifyOtpIn]
    ) -> Response[LoggedInOut]:
        """Take the code of a registration, which makes the account, or of a login."""
        if data.purpose == "login":
            shown = FactorIn(otp_code=data.otp_code).shown()
            found = await accounts.verify_login(
                email=data.email, shown=shown, otp_id=data.otp_id, device_id=data.device_id,
                address=address_of(request),
            )  # fmt: skip
        elif data.purpose == "registration":
            found = await accounts.verify_registration(
                email=data.email, code=data.otp_code, device_id=data.device_id, address=address_of(request)
            )
        else:
            raise Invalid("purpose: must be registration or login")
        is_secure = request.url.scheme == "https"
        return Response(LoggedInOut.of(found), cookies=cookies_for(found, is_secure=is_secure))

    @post("/login", summary="Log in, first step", dto=JsonBody, status_code=200, responses=documented(401, 403, 429))
    async def login(
        self, request: Request[Any, Any, Any], accounts: AccountsGiven, data: JSONBody[LoginIn]
    ) -> OpenedOut:
        """Name the account, with its password if it has one; the answer says which code is waited for."""
        return OpenedOut.of(await accounts.login(email=data.email, password=data.password, address=address_of(request)))

    @post("/login/verify", summary="Log in, second step", dto=JsonBody, status_code=200, responses=documented(401, 429))
    async def login_verify(
        self, request: Request[Any, Any, Any], accounts: AccountsGiven, data: JSONBody[LoginVerifyIn]
    ) -> Response[LoggedInOut]:
        """Give the code: as sent, of the app, or from paper. A station needs no internet for the last two."""
        found = await accounts.verify_login(
            email=data.email, shown=data.shown(), otp_id=data.otp_id, device_id=data.device_id,
            address=address_of(request),
        )  # fmt: skip
        is_secure = request.url.scheme == "https"
        return Response(LoggedInOut.of(found), cookies=cookies_for(found, is_secure=is_secure))

    @post("/send-otp", summary="Send another code", dto=JsonBody, status_code=200, responses=documented(403, 429))
    async def send_otp(
        self, request: Request[Any, Any, Any], accounts: AccountsGiven, data: JSONBody[SendOtpIn]
    ) -> OpenedOut:
        """Send another code; the former one is void."""
        return OpenedOut.of(
            await accounts.send_otp(email=data.email, purpose=data.purpose, address=address_of(request))
        )

    @post("/refresh", summary="Next tokens", dto=JsonBody, status_code=200, responses=documented(401))
    async def refresh(
        self, request: Request[Any, Any, Any], accounts: AccountsGiven, data: JSONBody[RefreshIn | None] = None
    ) -> Response[TokensOut]:
        """Give the next access and refresh token; a refresh token that comes a second time ends its session."""
        token = (data.refresh if data else None) or request.cookies.get(REFRESH_COOKIE)
        if not token:
            raise Invalid("refresh: is required")
        found = await accounts.refresh(token)
        is_secure = request.url.scheme == "https"
        return Response(TokensOut(found.access, found.refresh), cookies=cookies_for(found, is_secure=is_secure))

    @post("/logout", summary="Log out", dto=JsonBody, status_code=200, responses=documented(401))
    async def logout(
        self, accounts: AccountsGiven, caller: CallerGiven, data: JSONBody[LogoutIn | None] = None
    ) -> Response[MessageOut]:
        """End this session, and with `device_id` all of that device."""
        await accounts.logout(caller, data.device_id if data else None)
        return Response(MessageOut("Logged out."), cookies=no_cookies())

    @get("/me", summary="Read one's own account", responses=documented(401))
    async def me(self, accounts: AccountsGiven, caller: CallerGiven) -> UserOut:
        """Return the account of the caller."""
        return UserOut.of(await accounts.me(caller))

    @put("/me", summary="Rewrite one's own account", dto=JsonBody, responses=documented(401, 409))
    async def put_me(self, accounts: AccountsGiven, caller: CallerGiven, data: JSONBody[MeIn]) -> UserOut:
        """Change name, telephone and organisation; what is left out stays as it is."""
        return UserOut.of(await accounts.change_me(caller, data.columns()))

    @patch("/me", summary="Change one's own account", dto=JsonBody, responses=documented(401, 409))
    async def patch_me(self, accounts: AccountsGiven, caller: CallerGiven, data: JSONBody[MeIn]) -> UserOut:
        """Change what the body names."""
        return UserOut.of(await accounts.change_me(caller, data.columns()))

    @post("/change-password", summary="Set a password", dto=JsonBody, status_code=200, responses=documented(401, 429))
    async def change_password(
        self,
        request: Request[Any, Any, Any],
        accounts: AccountsGiven,
        caller: CallerGiven,
        data: JSONBody[ChangePasswordIn],
    ) -> MessageOut:
        """Set another password, or the first; the other sessions of the account end."""
        await accounts.change_password(
            caller, data.current_password, data.new_password, data.new_password_confirm, address_of(request)
        )
        return MessageOut("The password is set; other sessions of this account have ended.")

    @post("/factor", summary="Show the second factor again", dto=JsonBody, status_code=200, responses=documented(401))
    async def factor(
        self, request: Request[Any, Any, Any], accounts: AccountsGiven, caller: CallerGiven, data: JSONBody[FactorIn]
    ) -> MessageOut:
        """Open what asks for a factor of the last five minutes (`factor_required`), for five minutes."""
        await accounts.show_factor(caller, data.shown(), address_of(request))
        return MessageOut("The second factor counts as fresh for five minutes.")

    @post("/totp", summary="Begin with an authenticator app", status_code=200, responses=documented(401, 403, 409))
    async def totp(self, accounts: AccountsGiven, caller: CallerGiven) -> TotpOut:
        """Return a new secret; the former one counts until the first code of this one is confirmed."""
        return TotpOut(*await accounts.begin_totp(caller))

    @post("/totp/confirm", summary="Confirm the app", dto=JsonBody, status_code=200, responses=documented(401, 409))
    async def confirm_totp(
        self,
        request: Request[Any, Any, Any],
        accounts: AccountsGiven,
        caller: CallerGiven,
        data: JSONBody[TotpConfirmIn],
    ) -> RecoveryOut:
        """Put the new secret in force and return ten recovery codes, shown only now."""
        return RecoveryOut(await accounts.confirm_totp(caller, data.otp_code, address_of(request)))
