"""Photographs and other files, named by what they hold: the SHA-256 of their bytes.

A file comes in parts, each at the offset where the former ended, over as many connections as it takes; the home keeps
what has come and says how far that is. A part that comes again is nothing new; when the last has come the whole is
hashed, and what is not what its name says is thrown away and asked for anew. Nobody sees a file before that.

::

    HEAD -> offset     PUT part at offset -> offset     ...     PUT last part -> whole, or CorruptBatch and offset 0

Files lie in the home's own database, so the station's are encrypted like its fixes and the cloud's are in its backup.
Everything here is a job (``shared.accounts``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any, Final

import msgspec

from shared.accounts.users import Job
from shared.errors import Conflict, Invalid, NotFound, TooLarge
from shared.privacy import Principal
from shared.shelf import MODEL_FILE

HASH_DIGITS: Final = 64
#: The largest file, the largest part, and the smallest one that is not the last.
MAX_BYTES: Final = 16 << 20
MAX_PART_BYTES: Final = 1 << 20
MIN_PART_BYTES: Final = 1 << 10
#: So many files may be half there for one uploader.
MAX_UNFINISHED: Final = 50
#: What has come of a file that nobody finished is forgotten after this.
UNFINISHED_MS: Final = 30 * 86_400_000

MEDIA: Final = frozenset(
    {
        *(f"image/{kind}" for kind in ("jpeg", "png", "webp", "heic")),
        *("audio/mpeg", "audio/mp4", "video/mp4", "application/gpx+xml"),
    }
)


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """A file as far as it has come. ``origin`` is the station that brought it, '' for this home itself."""

    sha256: str
    size: int
    received: int
    is_whole: bool
    media_type: str
    owner: str | None
    origin: str
    created_ms: int

    def is_open_to(self, principal: Principal) -> bool:
        """Say whether a person may have it: one of some stations alone has theirs and his own."""
        return principal.stations is None or self.owner == principal.user_id or self.origin in principal.stations


_NAMES: Final = tuple(field.name for field in msgspec.structs.fields(Blob))
_SELECT: Final = f"SELECT {', '.join(_NAMES)} FROM blobs"
#: What waits for the cloud; models come down and never go up.
_UNSENT: Final = "is_whole = 1 AND sent_ms IS NULL AND media_type <> ?"


def check_name(sha256: str) -> None:
    """Raise Invalid for what is no SHA-256 in lower-case hex digits."""
    if len(sha256) != HASH_DIGITS or any(digit not in "0123456789abcdef" for digit in sha256):
        raise Invalid(f"sha256: must be {HASH_DIGITS} hex digits in lower case")


def find(sha256: str) -> Job[Blob | None]:
    """Return how far a file has come; None where nothing of it is here."""
    rows = yield f"{_SELECT} WHERE sha256 = ?", (sha256,)
    return _blob(rows[0]) if rows else None


def put(
    sha256: str,
    *,
    size: int,
    offset: int,
    part: bytes,
    media_type: str,
    owner: str | None,
    origin: str,
    now_ms: int,
    media: Collection[str] = MEDIA,
) -> Job[Blob]:
    """Keep a part; raises Invalid, TooLarge, and Conflict for an offset behind which something is missing.

    Where the whole is not what its name says, what came is thrown away: ``received`` is 0 again.
    """
    check_name(sha256)
    if media_type not in media:
        raise Invalid(f"Content-Type: must be one of {', '.join(sorted(media))}")
    if not 0 < size <= MAX_BYTES:
        raise TooLarge(f"size: a file has 1 to {MAX_BYTES} bytes")
    if len(part) > MAX_PART_BYTES:
        raise TooLarge(f"a part has at most {MAX_PART_BYTES} bytes")
    if not 0 <= offset <= offset + len(part) <= size:
        raise Invalid("offset: the part goes beyond the end of the file")
    if not part or (len(part) < MIN_PART_BYTES and offset + len(part) < size):
        raise Invalid(f"a part that is not the last has at least {MIN_PART_BYTES} bytes")
    kept = yield from find(sha256)
    if kept is None:
        kept = yield from _begin(sha256, size, media_type, owner, origin, now_ms)
    if kept.is_whole:
        return kept
    if kept.size != size:
        raise Conflict(f"size: this file was begun with {kept.size} bytes")
    if offset > kept.received:
        raise Conflict(f"offset: {kept.received} bytes have come; go on from there")
    fresh = part[kept.received - offset :]
    if not fresh:
        return kept
    yield "INSERT INTO blob_parts (sha256, first, part) VALUES (?, ?, ?)", (sha256, kept.received, fresh)
    received = kept.received + len(fresh)
    is_whole = received == size
    if is_whole and (yield from _hashed(sha256)) != sha256:
        yield "DELETE FROM blob_parts WHERE sha256 = ?", (sha256,)
        received, is_whole = 0, False
    yield (
        "UPDATE blobs SET received = ?, is_whole = ?, touched_ms = ? WHERE sha256 = ?",
        (received, int(is_whole), now_ms, sha256),
    )
    return msgspec.structs.replace(kept, received=received, is_whole=is_whole)


def read(sha256: str, first: int, end: int) -> Job[bytes]:
    """Return the bytes from ``first`` to before ``end``; raises NotFound unless the file is whole."""
    kept = yield from find(sha256)
    if kept is None or not kept.is_whole:
        raise NotFound(f"there is no file {sha256}")
    rows = yield (
        "SELECT first, part FROM blob_parts WHERE sha256 = ? AND first < ? AND first + length(part) > ? ORDER BY first",
        (sha256, end, first),
    )
    return b"".join(bytes(part)[max(first - at, 0) : end - at] for at, part in rows)


def unsent() -> Job[Blob | None]:
    """Return the oldest file that is whole here and that the cloud is not known to have; None for none."""
    rows = yield f"{_SELECT} WHERE {_UNSENT} ORDER BY created_ms, sha256 LIMIT 1", (MODEL_FILE,)
    return _blob(rows[0]) if rows else None


def waiting() -> Job[list[Blob]]:
    """Return every file that is whole here and that the cloud is not known to have, the oldest first."""
    rows = yield f"{_SELECT} WHERE {_UNSENT} ORDER BY created_ms, sha256", (MODEL_FILE,)
    return [_blob(row) for row in rows]


def of_models() -> Job[dict[str, int]]:
    """Return of each model file that is here, or begun, how many bytes have come."""
    rows = yield "SELECT sha256, received FROM blobs WHERE media_type = ? ORDER BY sha256", (MODEL_FILE,)
    return {str(sha256): int(received) for sha256, received in rows}


def sent(sha256: str, now_ms: int) -> Job[None]:
    """Note that the cloud has a file."""
    yield "UPDATE blobs SET sent_ms = ? WHERE sha256 = ?", (now_ms, sha256)


def forget_unfinished(now_ms: int) -> Job[int]:
    """Forget what has come of files that nobody went on with for long, and return of how many."""
    rows = yield (
        "SELECT sha256 FROM blobs WHERE is_whole = 0 AND touched_ms < ?",
        (now_ms - UNFINISHED_MS,),
    )
    for (sha256,) in rows:
        yield "DELETE FROM blob_parts WHERE sha256 = ?", (sha256,)
        yield "DELETE FROM blobs WHERE sha256 = ?", (sha256,)
    return len(rows)


def small_copy(sha256: str) -> Job[tuple[bytes | None, str | None] | None]:
    """Return the small copy of a photograph, or why there is none; None where nobody has asked for it yet."""
    rows = yield "SELECT jpeg, why FROM blob_copies WHERE sha256 = ?", (sha256,)
    return None if not rows else (None if rows[0][0] is None else bytes(rows[0][0]), rows[0][1])


def keep_small_copy(sha256: str, jpeg: bytes | None, why: str | None, now_ms: int) -> Job[None]:
    """Keep the small copy of a photograph, or why there is none, so that it is made once."""
    yield (
        "INSERT INTO blob_copies (sha256, jpeg, why, made_ms) VALUES (?, ?, ?, ?) ON CONFLICT (sha256) DO NOTHING",
        (sha256, jpeg, why, now_ms),
    )


def _begin(sha256: str, size: int, media_type: str, owner: str | None, origin: str, now_ms: int) -> Job[Blob]:
    whose = ("owner = ?", owner) if owner is not None else ("owner IS NULL AND origin = ?", origin)
    ((unfinished,),) = yield f"SELECT count(*) FROM blobs WHERE is_whole = 0 AND {whose[0]}", (whose[1],)
    if unfinished >= MAX_UNFINISHED:
        raise Conflict(f"{unfinished} files were begun and not finished: send the rest of those first")
    made = Blob(
        sha256=sha256, size=size, received=0, is_whole=False, media_type=media_type, owner=owner, origin=origin,
        created_ms=now_ms,
    )  # fmt: skip
    values: list[Any] = [getattr(made, name) for name in _NAMES]
    values[_NAMES.index("is_whole")] = 0
    yield (
        f"INSERT INTO blobs ({', '.join(_NAMES)}, touched_ms) VALUES ({', '.join('?' * (len(_NAMES) + 1))})",
        [*values, now_ms],
    )
    return made


def _hashed(sha256: str) -> Job[str]:
    """Return the hash of all parts, one after the other: a whole file need not fit into memory at once."""
    hashed = hashlib.sha256()
    at = 0
    while rows := (yield "SELECT part FROM blob_parts WHERE sha256 = ? AND first = ?", (sha256, at)):
        part = bytes(rows[0][0])
        hashed.update(part)
        at += len(part)
    return hashed.hexdigest()


def _blob(row: tuple[Any, ...]) -> Blob:
    columns = dict(zip(_NAMES, row, strict=True))
    return msgspec.convert({**columns, "is_whole": bool(columns["is_whole"])}, Blob)
