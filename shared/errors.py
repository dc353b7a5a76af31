"""Every error that Outpost raises on purpose, in one tree.

::

    OutpostError
      FrameError      bytes are not a valid frame or payload
      LinkError       the link failed, a retry may help
        LinkClosed      the peer or the operator ended it
        LinkTimeout     nothing arrived in time
      StoreError      the database cannot serve
        SchemaTooNew    it was written by a later version
        DatabaseCorrupt its pages do not add up
        WrongKey        it does not open with this key
        StoreFull       the disk has no room: nothing was written, the caller may try again
      SyncError       a peer's changes cannot be taken
        PullFirst       someone else changed what this phone changed: pull, merge, push again
        StaleCursor     the cursor is not of this home: begin anew, with what is not sent yet on top
        BatchTooNew     a later program wrote it: keep it and wait until this one is brought up to date
        BatchTooOld     a program three versions behind wrote it, or asks: bring that one up to date
        CorruptBatch    the bytes that came are not those that were sent: send the same again
      ConfigError     a configuration file or variable cannot be used
      ArtifactError   a model file is missing, altered or of the wrong shape
        ModelUnavailable
      AccessError
        NotAuthenticated
        Forbidden
        FactorRequired  a second factor of the last minutes is asked for
        RateLimited
      RequestError
        NotFound
        Conflict
        KeyReused       a name for a request that was given to another one before
        Invalid
        TooLarge

``code`` is stable: it goes on the wire as ``{"code": ..., "detail": ...}`` and clients may branch on it.
"""

from __future__ import annotations

from typing import ClassVar


class OutpostError(Exception):
    """The root; ``detail`` is a sentence for a person."""

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail


class FrameError(OutpostError):
    """Bytes are not a valid frame or payload; a stream decoder counts them instead of raising."""

    code = "frame"
    http_status = 400


class LinkError(OutpostError):
    """The link failed; a retry may help."""

    code = "link"
    http_status = 502


class LinkClosed(LinkError):
    """The link ended and will say no more."""

    code = "link_closed"


class LinkTimeout(LinkError):
    """Nothing arrived within the time allowed."""

    code = "link_timeout"
    http_status = 504


class StoreError(OutpostError):
    """The database cannot serve."""

    code = "store"
    http_status = 503


class SchemaTooNew(StoreError):
    """The database was written by a later version of the program; nothing was touched."""

    code = "schema_too_new"

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"the database has schema {found}, this program knows up to {known}: "
            "install the version that wrote it, or restore an older backup"
        )
        self.found = found
        self.known = known


class DatabaseCorrupt(StoreError):
    """The pages of the database do not add up."""

    code = "database_corrupt"


class WrongKey(StoreError):
    """The file does not open with this key, or is no database."""

    code = "wrong_key"


class StoreFull(StoreError):
    """The disk has no room: nothing was written and nothing acknowledged; try again when there is room."""

    code = "store_full"
    http_status = 507


class SyncError(OutpostError):
    """A peer's changes cannot be taken."""

    code = "sync"
    http_status = 409


class PullFirst(SyncError):
    """Someone else changed what a phone changed, after it had pulled: it pulls, merges and pushes again."""

    code = "pull_first"


class StaleCursor(SyncError):
    """The cursor is not of this home, or of a past that it no longer has: begin anew."""

    code = "must_refetch"
    http_status = 410


class BatchTooNew(SyncError):
    """A batch is of a later version than this program reads: nothing of it is taken, it waits where it is."""

    code = "batch_too_new"
    http_status = 426


class BatchTooOld(SyncError):
    """The other side's program is too far behind for this one to read it, or to write for it."""

    code = "batch_too_old"
    http_status = 426


class CorruptBatch(SyncError):
    """The bytes that came are not those that were sent: send the same again."""

    code = "corrupt_batch"
    http_status = 422


class ConfigError(OutpostError):
    """A configuration file or variable cannot be used."""

    code = "config"


class ArtifactError(OutpostError):
    """A model file is missing, altered or of the wrong shape."""

    code = "artifact"
    http_status = 503


class ModelUnavailable(ArtifactError):
    """No usable model for this species or purpose."""

    code = "model_unavailable"


class AccessError(OutpostError):
    """The caller may not do this."""

    code = "access"
    http_status = 403


class NotAuthenticated(AccessError):
    """The caller has not said who it is."""

    code = "not_authenticated"
    http_status = 401


class Forbidden(AccessError):
    """The caller is known and lacks the right."""

    code = "forbidden"


class FactorRequired(Forbidden):
    """The caller has the right, and is asked for a second factor once more before it is used."""

    code = "factor_required"


class RateLimited(AccessError):
    """Too many tries; ``retry_after_s`` says when the next one counts."""

    code = "rate_limited"
    http_status = 429

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class RequestError(OutpostError):
    """The request cannot be served as it stands."""

    code = "request"
    http_status = 400


class NotFound(RequestError):
    """There is no such thing, or not for this caller."""

    code = "not_found"
    http_status = 404


class Conflict(RequestError):
    """It contradicts what is stored."""

    code = "conflict"
    http_status = 409


class KeyReused(RequestError):
    """The name of this request (Idempotency-Key) was given to another one before; nothing was done."""

    code = "key_reused"
    http_status = 422


class Invalid(RequestError):
    """A value is missing, malformed or out of range."""

    code = "invalid"
    http_status = 400


class TooLarge(RequestError):
    """The body exceeds what this home reads."""

    code = "too_large"
    http_status = 413
