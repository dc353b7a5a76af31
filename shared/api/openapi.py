"""What the description of the API says of every operation alike, worked out from the table of roles.

Controllers say what is particular to them: summary, bodies, the errors of their own. Here is added what the guard, the
limits of bodies and the database may answer to anything, who may ask, what an answer leads to (links), and
that ``fields`` leaves less of a row. Whoever adds a route gets all of it for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from litestar import Request
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin

from shared.accounts.roles import Rule, rule_of
from shared.accounts.users import ROLES
from shared.api.access import ACCESS_COOKIE

#: What a map tile that is drawn here is.
TILE: Final = ResponseSpec(bytes, description="A PNG of 256 x 256.", media_type="image/png", generate_examples=False)

_METHODS: Final = ("get", "put", "post", "delete", "patch")
_ERROR: Final = "ErrorOut"
#: How a caller shows who it is, as the guard reads it, and how a station does.
_SCHEMES: Final[Mapping[str, Any]] = {
    "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "The access token of a login."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A program's key, with scopes."},
    "cookie": {"type": "apiKey", "in": "cookie", "name": ACCESS_COOKIE, "description": "A browser's login."},
    "signature": {"type": "apiKey", "in": "header", "name": "Signature", "description": "A station's own (Ed25519)."},
}
_SOME: Final = {
    "type": "object",
    "description": "Where `fields` names some: a row with these alone.",
    "minProperties": 1,
}


class CompleteJson(JsonRenderPlugin):
    """Serves the description with what holds for all operations."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the whole description as JSON."""
        return super().render(request, complete(openapi_schema))


def complete(schema: dict[str, Any]) -> dict[str, Any]:
    """Add to ``schema`` what holds for every operation, and return it; doing it again changes nothing."""
    components = schema.setdefault("components", {})
    components["securitySchemes"] = dict(_SCHEMES)
    schemas = components.setdefault("schemas", {})
    error = next((name for name in schemas if name.rsplit(".", 1)[-1] == _ERROR), None)
    if error is None:
        error = _ERROR
        schemas[error] = {
            "type": "object",
            "title": _ERROR,
            "required": ["code", "detail"],
            "properties": {"code": {"type": "string"}, "detail": {"type": "string"}},
        }
    paths = schema.get("paths", {})
    for path, item in paths.items():
        for method in _METHODS:
            if (operation := item.get(method)) is not None:
                _complete_operation(method, path, operation, f"#/components/schemas/{error}")
    _link(paths)
    for shape in schemas.values():
        rows = shape.get("properties", {}).get("results", {}) if isinstance(shape, dict) else {}
        if shape.get("title", "").startswith("Paged") and "anyOf" not in rows.get("items", {}):
            rows["items"] = {"anyOf": [rows["items"], _SOME]}
    return schema


def _complete_operation(method: str, path: str, operation: dict[str, Any], error: str) -> None:
    rule = rule_of(method.upper(), path)
    operation["security"] = _security(rule)
    statuses = {HTTPStatus.BAD_REQUEST, HTTPStatus.SERVICE_UNAVAILABLE}
    if rule.access in ("token", "local"):
        statuses |= {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    elif rule.access == "signed":
        statuses.add(HTTPStatus.UNAUTHORIZED)
    if "{" in path:
        statuses.add(HTTPStatus.NOT_FOUND)
    if method != "get":
        statuses |= {HTTPStatus.FORBIDDEN, HTTPStatus.INSUFFICIENT_STORAGE}  # another site's page; a full disk
    if "requestBody" in operation:
        statuses.add(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    responses = operation.setdefault("responses", {})
    for status in sorted(statuses):
        responses.setdefault(
            str(int(status)),
            {"description": status.phrase, "content": {"application/json": {"schema": {"$ref": error}}}},
        )
    if rule.access in ("token", "local"):
        _say_who(operation, rule)


def _security(rule: Rule) -> list[dict[str, list[str]]]:
    if rule.access == "open":
        return []
    if rule.access == "signed":
        return [{"signature": []}]
    ways: list[dict[str, list[str]]] = [{"token": []}, {"cookie": []}]
    if rule.scope is not None and not rule.needs_factor:
        ways.insert(1, {"apiKey": []})
    return ways


def _say_who(operation: dict[str, Any], rule: Rule) -> None:
    roles = ", ".join(role for role in ROLES if role in rule.roles)
    words = [f"For: {roles}"]
    if rule.ranger_at is not None:
        words.append(f"rangers at the {rule.ranger_at} alone")
    if rule.is_own:
        words.append("rangers what is their own")
    if rule.needs_factor:
        words.append("with a second factor of the last five minutes")
    if rule.scope is not None and not rule.needs_factor:
        words.append(f"API keys with `{rule.scope}`")
    line = "; ".join(words) + "."
    said = operation.get("description", "")
    if line not in said:
        operation["description"] = f"{said}\n\n{line}".strip()


def _link(paths: dict[str, Any]) -> None:
    """Say what an answer with an ``id`` leads to: whatever a path with one part more does to that row."""
    for path, item in paths.items():
        made = item.get("post", {}).get("responses", {}).get("201")
        if made is None or "{" in path:
            continue
        links = {}
        for other, theirs in paths.items():
            part = other.removeprefix(f"{path}/{{").partition("}")[0] if other.startswith(f"{path}/{{") else ""
            if not part or other.count("{") != 1:
                continue
            for method in _METHODS:
                operation = theirs.get(method)
                if operation is not None and "operationId" in operation:
                    links[operation["operationId"]] = {
                        "operationId": operation["operationId"],
                        "parameters": {part: "$response.body#/id"},
                        "description": operation.get("summary", ""),
                    }
        if links:
            made["links"] = links
