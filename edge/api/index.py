"""``/``: what this station offers, for a person who typed its address. Plain HTML: it needs no script."""

from __future__ import annotations

import base64
import hashlib

from litestar import Response, get
from litestar.enums import MediaType

from shared.api.docs import DOCS_PATH, NO_ICON, REDOC_PATH, SCHEMA_PATH

_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:2rem auto;padding:0 1rem}"
    "dt{font-weight:600;margin-top:.75rem}dd{margin:0}"
)
_LINKS = (
    (DOCS_PATH, "API documentation", "every route, to try out here"),
    (REDOC_PATH, "API reference", "the same, to read"),
    (SCHEMA_PATH, "OpenAPI document", "the same, for programs"),
    ("/api/v1/animals/", "Animals", "who is tracked"),
    ("/api/v1/animals/live_status/", "Live status", "where the active animals are now"),
    ("/api/v1/tracking/", "Positions", "everything that was heard, newest first"),
    ("/api/v1/collars/", "Collars", "the hardware and its radio ids"),
    ("/api/v1/deployments/", "Deployments", "which animal wore which collar"),
    ("/api/v1/tracking/observations/", "Observations", "what rangers reported"),
    ("/api/v1/events", "Events", "what happens now, as a stream"),
    ("/health/", "Health", "the station in one word"),
    ("/health/detail", "Health in detail", "clock, disk, ledger, database and links"),
)
_ROWS = "".join(f'<dt><a href="{path}">{name}</a></dt><dd>{words}</dd>' for path, name, words in _LINKS)
_PAGE = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Outpost station</title>'
    f'<meta name="viewport" content="width=device-width, initial-scale=1">{NO_ICON}<style>{_STYLE}</style></head>'
    f"<body><h1>Outpost station</h1><p>This station keeps every position that it hears. It offers:</p><dl>{_ROWS}</dl>"
    "</body></html>"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; frame-ancestors 'none'; base-uri 'none'"
)


@get("/", media_type=MediaType.HTML, include_in_schema=False, sync_to_thread=False)
def index() -> Response[str]:
    """Serve the list of what is here."""
    return Response(_PAGE, media_type=MediaType.HTML, headers={"Content-Security-Policy": _POLICY})
