"""Who makes a request, and whether the one table lets them: the guard of every route of both homes.

A token comes in ``Authorization: Bearer``, an API key there or in ``X-API-Key``, and a browser that logged in here
brings its token in a cookie that no script and no other site can use. What such a browser writes must also carry
``X-CSRF-Token``, which only this home's own pages can read: it stands in a second cookie and follows from the first, so
nobody can make one for another session. A route that the table does not name needs an administrator.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Collection
from typing import Annotated, Any, Final, TypeAlias
from urllib.parse import urlsplit

import structlog
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.di import Dependency
from litestar.handlers.base import BaseRouteHandler
from litestar.params import SkipValidationMarker

from shared.accounts.audit import Entry
from shared.accounts.roles import Rule, rule_of
from shared.accounts.service import Accounts, Caller, LoggedIn
from shared.accounts.sessions import ABSOLUTE_MS
from shared.accounts.tokens import ACCESS_S
from shared.configuration import LOOPBACK
from shared.errors import Forbidden, Invalid, NotAuthenticated, OutpostError
from shared.privacy import OPERATOR, View

log = structlog.get_logger(__name__)

Connected: TypeAlias = ASGIConnection[Any, Any, Any, Any]
Guard: TypeAlias = Callable[[Connected, BaseRouteHandler], Awaitable[None]]
AccountsGiven: TypeAlias = Annotated[Accounts, Dependency(kind="named"), SkipValidationMarker()]
CallerGiven: TypeAlias = Annotated[Caller, Dependency(kind="named"), SkipValidationMarker()]

ACCESS_COOKIE: Final = "outpost_access"
REFRESH_COOKIE: Final = "outpost_refresh"
CSRF_COOKIE: Final = "outpost_csrf"
CSRF_HEADER: Final = "x-csrf-token"
AUTH_PATH: Final = "/api/v1/auth"
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: Where the guard leaves who asks.
_CALLER: Final = "caller"
#: The same read by the same person is one line of the audit log in so many seconds.
AUDIT_EVERY_S: Final = 300.0
_FLUSH_S: Final = 1.0
_MOST_WAITING: Final = 10_000


class AuditTrail:
    """Collects who read what exactly, and writes it a second later, many lines in one transaction."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._waiting: list[Entry] = []
        self._seen: dict[tuple[str, str], int] = {}
        self._flushing: asyncio.Task[None] | None = None

    def note(self, actor: str, action: str, detail: str) -> None:
        """Keep a line, unless the same was kept a moment ago."""
        now = self._accounts.moments()
        key = (actor, f"{action} {detail}")
        last_ms = self._seen.get(key)
        if last_ms is not None and now.mono_ms - last_ms < AUDIT_EVERY_S * 1000:
            return
        if len(self._seen) >= _MOST_WAITING:
            self._seen.clear()
        self._seen[key] = now.mono_ms
        self._waiting.append(Entry(now.ms, actor, action, detail))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._later())

    async def flush(self) -> None:
        """Write what waits; what cannot be written waits on."""
        entries, self._waiting = self._waiting, []
        try:
            await self._accounts.note(entries)
        except OutpostError as error:
            log.error("audit.unwritten", lines=len(entries), detail=error.detail)
            self._waiting = [*entries, *self._waiting][-_MOST_WAITING:]

    async def close(self) -> None:
        """Write what waits, at the end."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
        await self.flush()

    async def _later(self) -> None:
        await asyncio.sleep(_FLUSH_S)
        await self.flush()


def guarded(accounts: Accounts, trail: AuditTrail) -> Guard:
    """Return the guard that asks the table of roles."""

    async def guard(connection: Connected, _handler: BaseRouteHandler) -> None:
        # a websocket has no method: there is none in the table, so it is closed
        rule = rule_of(str(connection.scope.get("method", "")), connection.scope["path_template"])
        if rule.access in ("open", "signed") or (rule.access == "local" and is_local(connection)):
            return
        token = token_of(connection)
        caller = await accounts.caller(token)
        if connection.scope.get("method") not in _SAFE_METHODS and is_of_cookie(connection):
            check_csrf(token, connection.headers.get(CSRF_HEADER, ""))
        _check(accounts, rule, caller)
        connection.scope["state"][_CALLER] = caller
        if rule.is_exact and caller.principal.role != "viewer" and caller.principal != OPERATOR:
            query = connection.scope["query_string"].decode("latin-1")
            path = connection.scope["path"]
            trail.note(caller.principal.user_id, "read", f"{path}?{query}" if query else path)

    return guard


def _check(accounts: Accounts, rule: Rule, caller: Caller) -> None:
    if caller.scopes is not None and (rule.scope not in caller.scopes or rule.needs_factor):
        raise Forbidden("this API key has not the scope for this")
    if not rule.allows(caller.principal.role, accounts.home):
        raise Forbidden(f"your role ({caller.principal.role}) may not do this here")
    if rule.needs_factor:
        accounts.require_factor(caller)


def token_of(connection: Connected) -> str:
    """Return the token or API key of a request; raises NotAuthenticated where there is none."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    found = connection.headers.get("x-api-key") or connection.cookies.get(ACCESS_COOKIE)
    if not found:
        raise NotAuthenticated("log in first, and send the token as Authorization: Bearer")
    return found


def is_of_cookie(connection: Connected) -> bool:
    """Say whether the token of a request is the one that its browser keeps."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return not (scheme.lower() == "bearer" and token.strip()) and not connection.headers.get("x-api-key")


def csrf_of(access: str) -> str:
    """Return what a browser must send beside its cookie to write; it tells nothing of the token."""
    return hashlib.sha256(b"csrf " + access.encode()).hexdigest()[:32]


def check_csrf(access: str, shown: str) -> None:
    """Raise Forbidden unless ``shown`` is of this login."""
    if not hmac.compare_digest(csrf_of(access).encode(), shown.encode()):
        raise Forbidden("a browser's login writes only with the token of its own page in X-CSRF-Token: load it again")


def caller_of(request: Request[Any, Any, Any]) -> Caller:
    """Return who makes the request; raises NotAuthenticated where the route is open and nobody was asked."""
    caller = request.scope["state"].get(_CALLER)
    if caller is None:
        if rule_of(request.method, request.scope["path_template"]).access == "local" and is_local(request):
            return Caller(principal=OPERATOR)
        raise NotAuthenticated("log in first, and send the token as Authorization: Bearer")
    assert isinstance(caller, Caller)
    return caller


async def view_of(accounts: AccountsGiven, caller: CallerGiven) -> View:
    """Return what the caller may see."""
    return accounts.view(caller.principal)


def is_local(connection: Connected) -> bool:
    """Say whether a request comes from this machine itself, and not through a proxy on it."""
    client = "" if connection.client is None else connection.client.host
    name = hostname(connection.headers.get("host", ""))
    return client in LOOPBACK and name in LOOPBACK and "x-forwarded-for" not in connection.headers


def address_of(connection: Connected) -> str:
    """Return where a request comes from; of IPv6 the network, because one machine has a whole one."""
    client = "" if connection.client is None else connection.client.host
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return client


def hostname(host: str) -> str:
    """Return the name in a Host header, in lower case, without port and brackets."""
    return (urlsplit(f"//{host}").hostname or "").lower()


def known_hosts(allowed: Collection[str]) -> Guard:
    """Return a guard that refuses requests under another name: a page elsewhere whose name was turned to this address.

    An address itself is no name, so it is always answered; so is the machine's own loopback.
    """
    names = {name.lower() for name in allowed}

    async def guard(connection: Connected, _handler: BaseRouteHandler) -> None:
        name = hostname(connection.headers.get("host", ""))
        if name in names or name in LOOPBACK or _is_address(name):
            return
        if any(each.startswith("*.") and name.endswith(each[1:]) for each in names):
            return
        raise Invalid("this home does not answer to that name; an administrator can add it to api.allowed_hosts")

    return guard


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def cookies_for(found: LoggedIn, *, is_secure: bool) -> list[Cookie]:
    """Return the cookies of a browser that is logged in; no other site sends them, scripts read the third alone."""
    return [
        Cookie(
            key=ACCESS_COOKIE, value=found.access, path="/", max_age=ACCESS_S, httponly=True, samesite="strict",
            secure=is_secure,
        ),
        Cookie(
            key=REFRESH_COOKIE, value=found.refresh, path=AUTH_PATH, max_age=ABSOLUTE_MS // 1000, httponly=True,
            samesite="strict", secure=is_secure,
        ),
        Cookie(
            key=CSRF_COOKIE, value=csrf_of(found.access), path="/", max_age=ACCESS_S, samesite="strict",
            secure=is_secure,
        ),
    ]  # fmt: skip


def no_cookies() -> list[Cookie]:
    """Return what takes the cookies of a login away."""
    return [
        Cookie(key=ACCESS_COOKIE, value="", path="/", max_age=0),
        Cookie(key=REFRESH_COOKIE, value="", path=AUTH_PATH, max_age=0),
        Cookie(key=CSRF_COOKIE, value="", path="/", max_age=0),
    ]
