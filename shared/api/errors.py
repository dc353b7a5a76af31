"""The one place that turns an exception into an answer: ``{"code": ..., "detail": ...}`` with the right status."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

import structlog
from litestar import Request, Response
from litestar.enums import MediaType
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Struct

from shared.errors import Invalid, NotAuthenticated, NotFound, OutpostError, RateLimited, TooLarge

log = structlog.get_logger(__name__)

_CODES = {
    HTTPStatus.BAD_REQUEST: Invalid.code,
    HTTPStatus.UNAUTHORIZED: NotAuthenticated.code,
    HTTPStatus.NOT_FOUND: NotFound.code,
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLarge.code,
}
_DETAILS = {
    HTTPStatus.NOT_FOUND: "there is nothing at this path",
    HTTPStatus.METHOD_NOT_ALLOWED: "this path does not answer to this method",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the body is larger than this home reads",
}


class ErrorOut(Struct, frozen=True):
    """Why a request was not served; ``code`` is stable, ``detail`` is for a person."""

    code: str
    detail: str


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorOut]:
    """Return the response to any exception; one that nobody meant is logged once and told without its traceback."""
    if isinstance(error, OutpostError):
        headers = {"Retry-After": str(math.ceil(error.retry_after_s))} if isinstance(error, RateLimited) else {}
        if isinstance(error, NotAuthenticated):
            headers["WWW-Authenticate"] = "Bearer"
        if error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error(
                "api.unserved", method=request.method, path=request.url.path, code=error.code, detail=error.detail
            )
        return _response(error.http_status, error.code, error.detail or error.code, headers)
    if isinstance(error, HTTPException) and error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return _of_framework(error)
    log.error("api.failed", method=request.method, path=request.url.path, exc_info=error)
    return _response(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "this home failed to serve the request; its log says why", {}
    )


def _of_framework(error: HTTPException) -> Response[ErrorOut]:
    status = HTTPStatus(error.status_code)
    code = _CODES.get(status, status.phrase.lower().replace(" ", "_"))
    return _response(status, code, _DETAILS.get(status) or _detail(error), error.headers or {})


def _detail(error: HTTPException) -> str:
    """Return the field and the reason where the framework knows them."""
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        told = [f"{item.get('key', 'request')}: {_lowered(item['message'])}" for item in error.extra]
        if told:
            return "; ".join(told)
    return _lowered(error.detail)


def _lowered(words: str) -> str:
    return words[:1].lower() + words[1:]


def _response(status: int, code: str, detail: str, headers: dict[str, str]) -> Response[ErrorOut]:
    return Response(ErrorOut(code, detail), status_code=status, headers=headers, media_type=MediaType.JSON)


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """Return the error answers of a route for the schema; 400 is always among them."""
    return {
        status: ResponseSpec(ErrorOut, description=HTTPStatus(status).phrase, generate_examples=False)
        for status in sorted({400, *statuses})
    }
