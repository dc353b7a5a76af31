"""``/trust``: the authority that phones of this post may believe, with its fingerprint; and the way from HTTP to HTTPS.

The page is served over plain HTTP as well: who has not taken the authority yet cannot read it otherwise. So it says
that the fingerprint is to be compared with the one on the emergency kit or the box, which nobody on the network can
change.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Final

from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.enums import MediaType
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from shared.api.access import known_hosts
from shared.api.docs import NO_ICON
from shared.api.errors import answer

_STYLE: Final = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:2rem auto;padding:0 1rem}"
    "code{font-size:1.1rem;overflow-wrap:anywhere}li{margin:.5rem 0}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; frame-ancestors 'none'"


class Trust(Struct, frozen=True, kw_only=True):
    """The authority of this station."""

    station: str
    fingerprint: str
    pin: str
    pem: bytes


def pages(trust: Trust) -> list[HTTPRouteHandler]:
    """Return the page and the certificate itself."""
    page = _page(trust)

    @get("/trust", media_type=MediaType.HTML, include_in_schema=False, sync_to_thread=False)
    def read() -> Response[str]:
        """Say what is to be trusted, how, and how to see that it is the right one."""
        return Response(page, media_type=MediaType.HTML, headers={"Content-Security-Policy": _POLICY})

    @get("/trust/station.crt", include_in_schema=False, sync_to_thread=False)
    def take() -> Response[bytes]:
        """Give the certificate as phones install it."""
        return Response(trust.pem, media_type="application/x-x509-ca-cert")

    return [read, take]


def redirecting(trust: Trust, port: int, allowed_hosts: tuple[str, ...]) -> Litestar:
    """Return what answers on the port of plain HTTP: the page of trust; everything else is sent on to HTTPS."""

    @get(["/", "/{path:path}"], include_in_schema=False, sync_to_thread=False)
    def send_on(request: Request[object, object, State]) -> Response[None]:
        """Name the same address with TLS. Nothing but GET is answered: a password sent in the clear is lost anyway."""
        host = request.url.hostname or ""
        shown = f"[{host}]" if ":" in host else host
        beside = "" if port == 443 else f":{port}"
        query = f"?{request.url.query}" if request.url.query else ""
        path = request.scope.get("raw_path", b"/").partition(b"?")[0].decode("latin-1")
        target = f"https://{shown}{beside}{path}{query}"
        return Response(None, status_code=308, headers={"Location": target})

    return Litestar(
        route_handlers=[*pages(trust), send_on], guards=[known_hosts(allowed_hosts)], openapi_config=None,
        exception_handlers={Exception: answer}, logging_config=None, debug=False,
    )  # fmt: skip


def _page(trust: Trust) -> str:
    digits = trust.fingerprint.replace(":", "")
    shown = " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Trust this station</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{NO_ICON}<style>{_STYLE}</style></head>'
        f"<body><h1>Trust {escape(trust.station)}</h1>"
        "<p>This station speaks for itself, with no internet. So that your phone believes it and nobody else who calls"
        " himself so:</p><ol>"
        "<li>Compare this fingerprint with the one on the emergency kit or on the label of the box. If one letter"
        f" differs, stop and tell the person who runs the post.<br><code>{shown}</code></li>"
        '<li><a href="/trust/station.crt">Take the certificate</a>.</li>'
        "<li>Android: Settings, Security, More, Install a certificate, CA certificate. iPhone: open the profile, then"
        " Settings, General, About, Certificate Trust Settings. Windows: open it, Install, Trusted Root. It can speak"
        " for names and addresses inside the post only.</li></ol>"
        f"<p>Applications pin its key: <code>{escape(trust.pin)}</code></p></body></html>"
    )
