"""The API's own pages: ``/api/docs/`` (Swagger UI), ``/api/redoc/`` (ReDoc), ``/api/schema/openapi.json``.

A ranger post has no internet, so scripts and styles come from this home: ``.ci/assets`` fetches them once, at the exact
versions of ``package-lock.json``, into ``assets/``. Where that folder is missing the pages say how to get it. The pages
hold no script of their own; both tools write inline styles, which their content policy allows and nothing else does.
"""

from __future__ import annotations

import html
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from litestar import Response, Router, get
from litestar.enums import MediaType
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import License, Tag
from litestar.params import PathParameter

from shared.api.openapi import CompleteJson
from shared.errors import NotFound

SCHEMA_PATH = "/api/schema/openapi.json"
DOCS_PATH = "/api/docs/"
REDOC_PATH = "/api/redoc/"
ASSETS = Path(__file__).parent / "assets"

_SCRIPT = "text/javascript"
_MEDIA_TYPES = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": _SCRIPT,
    "swagger-ui-standalone-preset.js": _SCRIPT,
    "redoc.standalone.js": _SCRIPT,
}
_SWAGGER_FILES = ("swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js")
_REDOC_FILES = ("redoc.standalone.js",)

#: What Swagger UI is told; deepLinking puts the opened operation into the address.
_START_SWAGGER = f"""\
window.addEventListener("load", () => {{
  window.ui = SwaggerUIBundle({{
    url: "{SCHEMA_PATH}",
    dom_id: "#swagger-ui",
    deepLinking: true,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
    layout: "BaseLayout",
    validatorUrl: null,
    requestInterceptor: (request) => {{
      const found = document.cookie.match(/(?:^|; )outpost_csrf=([^;]+)/);
      if (found) request.headers["X-CSRF-Token"] = found[1];
      return request;
    }},
  }});
}});
"""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'"
)
#: A page without an icon of its own makes the browser ask for one.
NO_ICON = '<link rel="icon" href="data:,">'


def openapi_config(title: str, version: str, description: str) -> OpenAPIConfig:
    """Return the configuration of the schema; its own page is the JSON alone."""
    return OpenAPIConfig(
        title=title,
        version=version,
        description=description,
        license=License(name="MIT", identifier="MIT"),
        openapi_router=Router(
            SCHEMA_PATH, route_handlers=[], include_in_schema=False, dto=None, return_dto=None, after_request=_only_json
        ),
        # Litestar looks for "/openapi.json" and would add a second copy of the document without it.
        render_plugins=[CompleteJson(path=["/", "/openapi.json"])],
        use_handler_docstrings=True,
        tags=[
            Tag("auth", description="Registration, login, second factor, one's own account."),
            Tag("users", description="Accounts, API keys and the audit log."),
            Tag("animals", description="Who is tracked, and where they are now."),
            Tag("tracking", description="Positions: read, posted, excluded and reinstated."),
            Tag("observations", description="What rangers report."),
            Tag("collars", description="The hardware and its radio ids."),
            Tag("deployments", description="Which animal wore which collar, from when to when."),
            Tag("zones", description="Areas with a risk, drawn or imported."),
            Tag("corridors", description="Routes to keep open, drawn or imported."),
            Tag("alerts", description="What someone should look at, and who does."),
            Tag("rangers", description="Rangers, teams, where they are, their logs and planned patrols."),
            Tag("phones", description="Phones that enrol by a QR code, and the keys by which they are known."),
            Tag("events", description="What happens now, as a stream."),
            Tag("health", description="How this home is."),
        ],
    )


def _only_json(response: Response[Any]) -> Response[Any]:
    """Let the document pass; for what is not there Litestar has a page of HTML, which is not how this API answers."""
    if response.status_code == HTTPStatus.NOT_FOUND:
        raise NotFound("there is nothing at this path")
    return response


def pages(assets: Path = ASSETS) -> list[HTTPRouteHandler]:
    """Return the routes of the pages and of the files in ``assets``."""

    @get(DOCS_PATH, media_type=MediaType.HTML, include_in_schema=False, sync_to_thread=True)
    def swagger() -> Response[str]:
        """Serve Swagger UI."""
        head = '<link rel="stylesheet" href="/api/assets/swagger-ui.css">'
        body = '<div id="swagger-ui"></div>' + "".join(
            f'<script src="/api/assets/{name}"></script>'
            for name in ("swagger-ui-bundle.js", "swagger-ui-standalone-preset.js", "start-swagger.js")
        )
        return _page("Outpost API", head, body, assets, _SWAGGER_FILES)

    @get(REDOC_PATH, media_type=MediaType.HTML, include_in_schema=False, sync_to_thread=True)
    def redoc() -> Response[str]:
        """Serve ReDoc."""
        body = f'<redoc spec-url="{SCHEMA_PATH}"></redoc><script src="/api/assets/redoc.standalone.js"></script>'
        return _page("Outpost API reference", "<style>body{margin:0}</style>", body, assets, _REDOC_FILES)

    @get("/api/assets/start-swagger.js", include_in_schema=False, media_type=_SCRIPT, sync_to_thread=False)
    def start_swagger() -> bytes:
        """Serve the few lines that start Swagger UI."""
        return _START_SWAGGER.encode()

    @get("/api/assets/{name:str}", include_in_schema=False, sync_to_thread=True)
    def asset(name: Annotated[str, PathParameter()]) -> Response[bytes]:
        """Serve one of the known files; no other name reaches the disk."""
        media_type = _MEDIA_TYPES.get(name)
        path = assets / name
        if media_type is None or not path.is_file():
            raise NotFound(f"there is no file {name} here")
        return Response(path.read_bytes(), media_type=media_type, headers={"Cache-Control": "public, max-age=3600"})

    return [swagger, redoc, start_swagger, asset]


def _page(title: str, head: str, body: str, assets: Path, needed: tuple[str, ...]) -> Response[str]:
    missing = [name for name in needed if not (assets / name).is_file()]
    if missing:
        title, head, body = f"{title}: not fetched", "", _how_to_fetch(missing)
    document = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{NO_ICON}{head}</head>'
        f"<body>{body}</body></html>"
    )
    return Response(document, media_type=MediaType.HTML, headers={"Content-Security-Policy": _POLICY})


def _how_to_fetch(missing: list[str]) -> str:
    return (
        "<h1>This page needs files that are not here yet</h1>"
        f"<p>Missing: {html.escape(', '.join(missing))}. They are fetched once, with internet, by running "
        "<code>make run</code> or <code>bash .ci/assets .venv/bin</code> in the repository; a release brings them "
        "along. Nothing is loaded from the internet when the page is shown.</p>"
        f'<p>The API works without them; its description is at <a href="{SCHEMA_PATH}">{SCHEMA_PATH}</a>.</p>'
    )
