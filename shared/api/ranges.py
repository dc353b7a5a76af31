"""Files in pieces: HTTP Range (RFC 9110, section 14), which a map in one large file is read by.

Litestar's own static files know no ranges, and a mounted application has no row in the table of roles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from litestar import Response
from litestar.response import Stream

from shared.errors import NotFound

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_CHUNK: Final = 64 * 1024


def span_of(header: str, size: int) -> tuple[int, int] | None:
    """Return first and last byte that a Range header asks for; None: all of it, or several ranges, which is allowed.

    Raises ValueError for a range that lies behind the end.
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
        if last and int(last) < start:
            return None
    if start >= size:
        raise ValueError(f"the file has {size} bytes")
    return start, end


def part_of(path: Path, header: str, if_range: str, media_type: str) -> Response[Any]:
    """Return the bytes of a file that a request asks for; raises NotFound."""
    try:
        facts = path.stat()
    except OSError as error:
        raise NotFound(f"there is no file {path.name} here") from error
    tag = f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"'
    headers = {"Accept-Ranges": "bytes", "ETag": tag, "Cache-Control": "private, max-age=3600"}
    try:
        span = span_of(header, facts.st_size) if header and if_range in ("", tag) else None
    except ValueError:
        headers["Content-Range"] = f"bytes */{facts.st_size}"
        return Response(b"", status_code=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=headers)
    status = HTTPStatus.OK if span is None else HTTPStatus.PARTIAL_CONTENT
    first, last = span or (0, facts.st_size - 1)
    if span is not None:
        headers["Content-Range"] = f"bytes {first}-{last}/{facts.st_size}"
    headers["Content-Length"] = str(last - first + 1)
    return Stream(_read(path, first, last + 1), status_code=status, headers=headers, media_type=media_type)


def _read(path: Path, first: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(first)
        while first < end and (piece := file.read(min(_CHUNK, end - first))):
            first += len(piece)
            yield piece
