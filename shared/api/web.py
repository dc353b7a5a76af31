"""What people look at: ``/``, whose first answer is whole without a script, and the files that make it live.

::

    GET /                  status and alerts as plain HTML; the application of ``shared/web`` takes its place
    POST /session          log in: address and password, then the code (``/session/code``)
    POST /session/register a new account at the cloud, then the code that was sent (``/session/register/code``)
    POST /session/end      log out
    GET /app/{name}        what ``.ci/web`` built into ``shared/web/dist``; names carry a hash: kept for good
    GET /basemap/{name}    a reserve's own map, in pieces

The forms are plain ones, because a browser without scripts must be able to log in. They are written to by this home's
own pages alone (``shared.api.security.same_origin``), and who logs out shows the token of the page. Where the
application was not built, the page says how to build it, below what it tells anyway.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from litestar import Request, Response, get, post
from litestar.enums import MediaType, RequestEncodingType
from litestar.handlers import HTTPRouteHandler
from litestar.params import Body, FromPath
from litestar.response import Redirect

from shared.accounts.service import Accounts, Caller, Shown
from shared.api.access import (
    ACCESS_COOKIE,
    AccountsGiven,
    address_of,
    check_csrf,
    cookies_for,
    csrf_of,
    no_cookies,
)
from shared.api.inject import StoreGiven
from shared.api.ranges import part_of
from shared.domain import Alert
from shared.errors import AccessError, NotFound, OutpostError, RateLimited
from shared.privacy import View
from shared.sayings import LANGUAGES, Said, Words, in_words, words_of
from shared.store import AlertQuery
from shared.wire.reading import text

WEB: Final = Path(__file__).parent.parent / "web"
DIST: Final = WEB / "dist"
THEMES: Final = ("light", "dark", "night")
LANGUAGE_COOKIE: Final = "outpost_lang"
THEME_COOKIE: Final = "outpost_theme"
_ALERTS: Final = 50
_NAME_LETTERS: Final = 200
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
#: A name that says what is in the file.
_HASHED: Final = re.compile(r"-[A-Za-z0-9_-]{8}\.m?(js|css)$")
_TYPES: Final = {
    ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".json": "application/json",
    ".svg": "image/svg+xml", ".txt": "text/plain", ".gz": "application/gzip",
}  # fmt: skip
_ICON: Final = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="6" fill="#1d2a24"/>'
    b'<circle cx="16" cy="16" r="9" fill="none" stroke="#d9a441" stroke-width="3"/><circle cx="16" cy="16" r="3"'
    b' fill="#d9a441"/></svg>'
)
#: A form's ``Origin`` is null where a page sends no referrer at all, and then nobody could log in.
_HEADERS: Final = {"Referrer-Policy": "same-origin", "Vary": "Cookie, Accept-Language"}

Fields: TypeAlias = Annotated[dict[str, str], Body(media_type=RequestEncodingType.URL_ENCODED)]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """How a home is, for a person: a word, why it is not ok, and facts, each by the name of its heading."""

    status: Literal["ok", "degraded", "failing"]
    reasons: Sequence[Said | str] = ()
    facts: list[tuple[str, str | Said]] = []


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What the pages of a home are made of. ``maps`` is the folder of the reserve's own maps."""

    home: Literal["station", "cloud"]
    version: str
    summary: Callable[[View], Awaitable[Summary]]
    maps: Path | None = None
    dist: Path = DIST


def routes(site: Site) -> list[HTTPRouteHandler]:
    """Return the routes of the pages."""

    @get("/", media_type=MediaType.HTML, include_in_schema=False)
    async def page(request: Request[Any, Any, Any], accounts: AccountsGiven, store: StoreGiven) -> Response[str]:
        """Serve the page: to who has not logged in, the form."""
        words = words_of(language_of(request))
        token = request.cookies.get(ACCESS_COOKIE, "")
        try:
            caller = await accounts.caller(token) if token else None
        except AccessError:
            caller = None
        if caller is None or not caller.session_id:
            return _page(request, site, accounts, None, _login_form(words, "", "") + _register(words, site, {}, ""))
        view = accounts.view(caller.principal)
        alerts = (await store.alerts(view, AlertQuery(status="active", limit=_ALERTS))).results
        body = _status(words, await site.summary(view)) + _alerts(words, alerts) + _log_out(words, token)
        return _page(request, site, accounts, caller, body)

    @post("/session", media_type=MediaType.HTML, include_in_schema=False, status_code=200)
    async def begin(request: Request[Any, Any, Any], accounts: AccountsGiven, data: Fields) -> Response[str]:
        """Take address and password, and ask for the code."""
        words = words_of(language_of(request))
        email = data.get("email", "").strip()
        try:
            opened = await accounts.login(
                email=email, password=data.get("password") or None, address=address_of(request)
            )
        except OutpostError as error:
            return _page(request, site, accounts, None, _login_form(words, email, error.detail), _refused(error))
        return _page(request, site, accounts, None, _code_form(words, email, opened.otp_id, opened.factor, ""))

    @post("/session/code", media_type=MediaType.HTML, include_in_schema=False, status_code=200)
    async def finish(request: Request[Any, Any, Any], accounts: AccountsGiven, data: Fields) -> Response[Any]:
        """Take the code, and let somebody in."""
        email, otp_id = data.get("email", ""), data.get("otp_id", "")
        code = "".join(data.get("code", "").split())
        is_code = code.isascii() and code.isdigit()
        shown = Shown(
            code=code if is_code else "", next_code="".join(data.get("code_next", "").split()),
            recovery_code="" if is_code else code,
        )  # fmt: skip
        try:
            found = await accounts.verify_login(
                email=email, shown=shown, otp_id=otp_id or None, device_id=None, address=address_of(request)
            )
        except OutpostError as error:
            words = words_of(language_of(request))
            form = _code_form(words, email, otp_id, data.get("factor", "totp"), error.detail)
            return _page(request, site, accounts, None, form, _refused(error))
        cookies = cookies_for(found, is_secure=request.url.scheme == "https")
        return Redirect("/", status_code=303, cookies=cookies)

    @post("/session/register", media_type=MediaType.HTML, include_in_schema=False, status_code=200)
    async def register(request: Request[Any, Any, Any], accounts: AccountsGiven, data: Fields) -> Response[str]:
        """Take what an account needs, and ask for the code that was sent; everybody begins as a viewer."""
        words = words_of(language_of(request))
        try:
            await accounts.register(
                email=data.get("email", "").strip(), phone=None, wish=None,
                name=text("name", data.get("name", ""))[:_NAME_LETTERS], password=data.get("password") or None,
                address=address_of(request),
            )  # fmt: skip
        except OutpostError as error:
            form = _login_form(words, "", "") + _register(words, site, data, error.detail)
            return _page(request, site, accounts, None, form, _refused(error))
        return _page(request, site, accounts, None, _registration_code(words, data.get("email", "").strip(), ""))

    @post("/session/register/code", media_type=MediaType.HTML, include_in_schema=False, status_code=200)
    async def registered(request: Request[Any, Any, Any], accounts: AccountsGiven, data: Fields) -> Response[Any]:
        """Take the code of a registration, which makes the account, and let its person in."""
        email, code = data.get("email", ""), "".join(data.get("code", "").split())
        try:
            found = await accounts.verify_registration(
                email=email, code=code, device_id=None, address=address_of(request)
            )
        except OutpostError as error:
            form = _registration_code(words_of(language_of(request)), email, error.detail)
            return _page(request, site, accounts, None, form, _refused(error))
        return Redirect("/", status_code=303, cookies=cookies_for(found, is_secure=request.url.scheme == "https"))

    @post("/session/end", include_in_schema=False, status_code=303)
    async def end(request: Request[Any, Any, Any], accounts: AccountsGiven, data: Fields) -> Redirect:
        """End the session of this browser."""
        token = request.cookies.get(ACCESS_COOKIE, "")
        try:
            caller = await accounts.caller(token)
        except AccessError:
            return Redirect("/", status_code=303, cookies=no_cookies())
        check_csrf(token, data.get("csrf", ""))
        await accounts.logout(caller, None)
        return Redirect("/", status_code=303, cookies=no_cookies())

    @get("/app/icon.svg", include_in_schema=False, media_type="image/svg+xml", sync_to_thread=False)
    def icon() -> Response[bytes]:
        """Serve the icon, also where nothing else was built."""
        return Response(_ICON, media_type="image/svg+xml", headers={"Cache-Control": "public, max-age=86400"})

    @get("/app/{name:str}", include_in_schema=False, sync_to_thread=True)
    def asset(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        """Serve a built file, packed where the browser takes it so."""
        return _asset(site.dist, name, request.headers.get("accept-encoding", ""))

    @get("/basemap/{name:str}", include_in_schema=False, sync_to_thread=True)
    def basemap(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[Any]:
        """Serve a part of one of the reserve's maps."""
        if name not in map_names(site.maps):
            raise NotFound(f"there is no map {name} here")
        assert site.maps is not None
        headers = request.headers
        return part_of(
            site.maps / name, headers.get("range", ""), headers.get("if-range", ""), "application/octet-stream"
        )

    return [page, begin, finish, register, registered, end, icon, asset, basemap]


def _refused(error: OutpostError) -> int:
    return HTTPStatus.TOO_MANY_REQUESTS if isinstance(error, RateLimited) else HTTPStatus.BAD_REQUEST


def map_names(folder: Path | None) -> list[str]:
    """Return the maps that lie in a folder, by name."""
    if folder is None or not folder.is_dir():
        return []
    return sorted(path.name for path in folder.glob("*.pmtiles") if _NAME.fullmatch(path.name) and path.is_file())


# --- languages --------------------------------------------------------------------------------------------------------
def language_of(request: Request[Any, Any, Any]) -> str:
    """Return the language that a browser was set to here, or asks for; English where it asks for none of ours."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    asked = [
        part.partition(";")[0].strip().lower()[:2] for part in request.headers.get("accept-language", "").split(",")
    ]
    return next((each for each in asked if each in LANGUAGES), LANGUAGES[0])


# --- files ------------------------------------------------------------------------------------------------------------
def _asset(dist: Path, name: str, accepted: str) -> Response[bytes]:
    path = dist / name
    if not _NAME.fullmatch(name) or name.endswith(".gz") or name == "manifest.json" or not path.is_file():
        raise NotFound(f"there is no file {name} here")
    kept = "max-age=31536000, immutable" if _HASHED.search(name) else "max-age=3600"
    headers = {"Cache-Control": f"public, {kept}", "Vary": "Accept-Encoding"}
    packed = path.with_name(f"{name}.gz")
    if "gzip" in accepted and packed.is_file():
        path = packed
        headers["Content-Encoding"] = "gzip"
    media_type = _TYPES.get(Path(name).suffix, "application/octet-stream")
    return Response(path.read_bytes(), media_type=media_type, headers=headers)


def _built(site: Site) -> tuple[list[str], list[str]] | None:
    """Return styles and scripts of the home's entry; None where nothing was built."""
    try:
        manifest = json.loads((site.dist / "manifest.json").read_text(encoding="utf-8"))
        entry = manifest[f"src/{site.home}.tsx"]
    except (OSError, ValueError, KeyError):
        return None
    styles = list(entry.get("css", []))
    for name in entry.get("imports", []):
        styles += manifest[name].get("css", [])
    return styles, [entry["file"]]


# --- HTML -------------------------------------------------------------------------------------------------------------
def _page(
    request: Request[Any, Any, Any],
    site: Site,
    accounts: Accounts,
    caller: Caller | None,
    body: str,
    status: int = HTTPStatus.OK,
) -> Response[str]:
    language = language_of(request)
    words = words_of(language)
    theme = request.cookies.get(THEME_COOKIE, "")
    built = _built(site)
    head, scripts = "", ""
    if built is None:
        body += f"<hr><p>{_text(words, 'page.missing')} <code>bash .ci/web .venv/bin</code></p>"
    else:
        head = "".join(f'<link rel="stylesheet" href="/app/{name}">' for name in built[0])
        if caller is not None:
            scripts = "".join(f'<script type="module" src="/app/{name}"></script>' for name in built[1])
    boot = {
        "home": site.home, "name": accounts.name, "version": site.version, "lang": language,
        "maps": [] if caller is None else map_names(site.maps),
        "user": None if caller is None else {"id": caller.principal.user_id, "role": caller.principal.role},
    }  # fmt: skip
    # "<" would end the script; the block is data, which no policy runs
    data = json.dumps(boot, ensure_ascii=True).replace("<", "\\u003c")
    shown = f' data-theme="{theme}"' if theme in THEMES else ""
    title = "Outpost" if accounts.name.casefold() == "outpost" else f"Outpost · {html.escape(accounts.name)}"
    document = (
        f'<!DOCTYPE html><html lang="{language}"{shown}><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="/app/icon.svg">{head}</head><body><div id="app"><main class="plain">'
        f"<h1>{title}</h1>{body}</main></div>"
        f'<script type="application/json" id="boot">{data}</script>{scripts}</body></html>'
    )
    return Response(document, media_type=MediaType.HTML, status_code=status, headers=_HEADERS)


def _text(words: Words, key: str) -> str:
    return html.escape(words.get(key, key))


def _told(words: Words, value: str | Said) -> str:
    return html.escape(value if isinstance(value, str) else value.within(words))


def _status(words: Words, summary: Summary) -> str:
    rows = "".join(
        f"<tr><th>{_text(words, f'fact.{key}')}</th><td>{_told(words, value)}</td></tr>" for key, value in summary.facts
    )
    reasons = "".join(f"<li>{_told(words, reason)}</li>" for reason in summary.reasons)
    return (
        f"<section><h2>{_text(words, 'status.heading')}: {_text(words, f'status.{summary.status}')}</h2>"
        f"{f'<ul>{reasons}</ul>' if reasons else ''}<table>{rows}</table></section>"
    )


def _own(words: Words, text: str) -> str:
    """Return title or message of an alert: in the reader's words, where it is a sentence of ours."""
    return html.escape(words.get(f"alert_type.{text}") or in_words(words, "alarm", text))


def _alerts(words: Words, alerts: list[Alert]) -> str:
    # two columns, so that a telephone is wide enough
    rows = "".join(
        f"<tr><th>{_text(words, f'severity.{alert.severity}')}<br>"
        f'<time datetime="{alert.detected_at.isoformat()}">{alert.detected_at:%Y-%m-%d %H:%M} UTC</time></th>'
        f"<td><strong>{_own(words, alert.title)}</strong><br>{_own(words, alert.message)}</td></tr>"
        for alert in alerts
    )
    shown = f"<table>{rows}</table>" if rows else f"<p>{_text(words, 'alerts.none')}</p>"
    return f"<section><h2>{_text(words, 'alerts.active')}</h2>{shown}</section>"


def _log_out(words: Words, token: str) -> str:
    return (
        f'<form method="post" action="/session/end"><input type="hidden" name="csrf" value="{csrf_of(token)}">'
        f"<button>{_text(words, 'session.end')}</button></form>"
    )


def _said(words: Words, error: str) -> str:
    return f'<p role="alert" class="error">{html.escape(in_words(words, "refused", error))}</p>' if error else ""


def _login_form(words: Words, email: str, error: str) -> str:
    return (
        f"<h2>{_text(words, 'login.heading')}</h2>{_said(words, error)}"
        '<form method="post" action="/session" class="login">'
        f'<label>{_text(words, "login.email")}<input name="email" type="email" autocomplete="username" required'
        f' value="{html.escape(email)}"></label>'
        f'<label>{_text(words, "login.password")}<input name="password" type="password"'
        f' autocomplete="current-password"></label>'
        f"<button>{_text(words, 'login.next')}</button></form>"
    )


def _register(words: Words, site: Site, said: dict[str, str], error: str) -> str:
    """Return the form of a new account; a station makes none."""
    if site.home != "cloud":
        return ""
    shown = " open" if error else ""
    fields = (
        ("name", "text", "name", True),
        ("email", "email", "email", True),
        ("password", "password", "new-password", False),
    )
    inputs = "".join(
        f"<label>{_text(words, 'user.name' if name == 'name' else f'login.{name}')}"
        f'<input name="{name}" type="{kind}" autocomplete="{fill}"{" required" if is_required else ""}'
        f' value="{html.escape("" if name == "password" else said.get(name, ""))}"></label>'
        for name, kind, fill, is_required in fields
    )
    return (
        f"<details{shown}><summary>{_text(words, 'register.heading')}</summary>{_said(words, error)}"
        f"<p>{_text(words, 'register.hint')}</p>"
        f'<form method="post" action="/session/register" class="login">{inputs}'
        f"<button>{_text(words, 'register.begin')}</button></form></details>"
    )


def _registration_code(words: Words, email: str, error: str) -> str:
    return (
        f"<h2>{_text(words, 'register.heading')}</h2>{_said(words, error)}<p>{_text(words, 'register.sent')}</p>"
        '<form method="post" action="/session/register/code" class="login">'
        f'<input type="hidden" name="email" value="{html.escape(email)}">'
        f"<label>{_text(words, 'login.code')}"
        '<input name="code" autocomplete="one-time-code" required autofocus></label>'
        f'<button>{_text(words, "login.enter")}</button></form><p><a href="/">{_text(words, "login.again")}</a></p>'
    )


def _code_form(words: Words, email: str, otp_id: str, factor: str, error: str) -> str:
    hint = _text(words, f"login.hint.{factor if factor in ('otp', 'recovery_code') else 'totp'}")
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{html.escape(value)}">'
        for name, value in (("email", email), ("otp_id", otp_id), ("factor", factor))
    )
    return (
        f"<h2>{_text(words, 'login.code')}</h2>{_said(words, error)}<p>{hint}</p>"
        f'<form method="post" action="/session/code" class="login">{hidden}'
        f"<label>{_text(words, 'login.code')}"
        '<input name="code" autocomplete="one-time-code" required autofocus></label>'
        f"<details><summary>{_text(words, 'login.clock')}</summary>"
        f'<label>{_text(words, "login.next_code")}<input name="code_next" autocomplete="off"></label></details>'
        f'<button>{_text(words, "login.enter")}</button></form><p><a href="/">{_text(words, "login.again")}</a></p>'
    )
