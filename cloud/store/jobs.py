"""Jobs in the database: what an attempt may write, and what people read of it. Each function is one or two statements.

Whatever an attempt writes names its number, and is written only while that is the newest and the job is running: the
row's lock makes that one question. Events are numbered under the same lock, so a reader who has seen number n has seen
all before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from cloud.store.database import Connection
from shared.errors import NotFound
from shared.jobs import ENDED, Job, JobState
from shared.store import Page
from shared.sync.records import from_ms

#: Lines of a job's log that are kept, and the characters of one.
MAX_LINES: Final = 5_000
MAX_LINE: Final = 2_000

_JOB: Final = (
    "SELECT id, kind, owner, state, parameters, percent, message, best, result, error_code, error, attempts,"
    " is_cancel_asked, made_ms, due_ms, started_ms, ended_ms, told, events FROM jobs"
)
_NEXT: Final = "UPDATE jobs SET events = events + 1"
_MINE: Final = " WHERE id = %s AND attempts = %s AND state = 'running'"
_NOTED: Final = (
    " RETURNING seq, events) INSERT INTO job_events (job_seq, n, at_ms, name, text)"
    " SELECT seq, events, %s, 'state', %s FROM changed RETURNING n"
)


class Happened(msgspec.Struct, frozen=True):
    """A line of the log or a change of state; ``n`` only grows within a job."""

    n: int
    at_ms: int
    name: str
    text: str


class Told(msgspec.Struct, frozen=True):
    """A job as it stands, the number of the event that its progress stands for, and the newest number."""

    job: Job
    progress_n: int
    last_n: int
    happened: list[Happened]


class Begun(msgspec.Struct, frozen=True):
    """What an attempt is given; ``failures`` counts those before it."""

    kind: str
    owner: str
    parameters: bytes
    attempt: int
    failures: int
    kept: bytes | None


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a job made."""

    job_id: str
    attempt: int
    name: str
    media_type: str
    size_bytes: int
    sha256: bytes
    seen_as: str
    expires_ms: int


async def insert(
    db: Connection, *, identity: str, kind: str, owner: str, parameters: bytes, key: str | None, now_ms: int
) -> str | None:
    """Enter a queued job and return None, or the id of the one that this owner gave the same ``key``."""
    if key is not None:
        found = await db.execute("SELECT id FROM jobs WHERE owner = %s AND kind = %s AND key = %s", (owner, kind, key))
        if (row := await found.fetchone()) is not None:
            return str(row[0])
    entered = await db.execute(
        "WITH changed AS (INSERT INTO jobs (id, kind, owner, parameters, key, state, events, made_ms)"
        " VALUES (%s, %s, %s, %s, %s, 'queued', 1, %s) ON CONFLICT (owner, kind, key) DO NOTHING RETURNING seq, events)"
        " INSERT INTO job_events (job_seq, n, at_ms, name, text)"
        " SELECT seq, events, %s, 'state', 'queued' FROM changed RETURNING n",
        (identity, kind, owner, parameters.decode(), key, now_ms, now_ms),
    )
    if await entered.fetchone() is not None:
        return None
    found = await db.execute("SELECT id FROM jobs WHERE owner = %s AND kind = %s AND key = %s", (owner, kind, key))
    row = await found.fetchone()
    assert row is not None
    return str(row[0])


async def alive(db: Connection, owner: str, kind: str) -> int:
    """Return how many jobs of a kind wait or run for somebody."""
    found = await db.execute(
        "SELECT count(*) FROM jobs WHERE owner = %s AND kind = %s AND state IN ('queued', 'running')", (owner, kind)
    )
    row = await found.fetchone()
    return 0 if row is None else int(row[0])


async def set_queue_id(db: Connection, identity: str, queue_id: int) -> None:
    """Note under which number the queue knows a job."""
    await db.execute("UPDATE jobs SET queue_id = %s WHERE id = %s", (queue_id, identity))


async def job(db: Connection, identity: str, owner: str | None) -> Job:
    """Return a job; raises NotFound, also where ``owner`` is given and it is somebody else's."""
    return (await _row(db, identity, owner))[0]


async def told(db: Connection, identity: str, owner: str | None, after: int) -> Told:
    """Return a job and what has happened since event number ``after``."""
    found, progress_n, last_n = await _row(db, identity, owner)
    rows = await db.execute(
        "SELECT e.n, e.at_ms, e.name, e.text FROM job_events e JOIN jobs j ON j.seq = e.job_seq"
        " WHERE j.id = %s AND e.n > %s ORDER BY e.n",
        (identity, after),
    )
    return Told(found, progress_n, last_n, [Happened(*row) for row in await rows.fetchall()])


async def jobs(
    db: Connection, *, owner: str | None, kind: str | None, state: str | None, offset: int, limit: int
) -> Page[Job]:
    """Return a page of jobs, newest first; ``owner`` None: everybody's."""
    where = (
        " WHERE (%(owner)s::text IS NULL OR owner = %(owner)s) AND (%(kind)s::text IS NULL OR kind = %(kind)s)"
        " AND (%(state)s::text IS NULL OR state = %(state)s)"
    )
    values = {"owner": owner, "kind": kind, "state": state, "offset": offset, "limit": limit}
    counted = await (await db.execute(f"SELECT count(*) FROM jobs{where}".encode(), values)).fetchone()
    rows = await db.execute(f"{_JOB}{where} ORDER BY seq DESC LIMIT %(limit)s OFFSET %(offset)s".encode(), values)
    return Page(0 if counted is None else int(counted[0]), [_job(row) for row in await rows.fetchall()])


async def counts(db: Connection) -> dict[str, int]:
    """Return how many jobs are in each state."""
    rows = await db.execute("SELECT state, count(*) FROM jobs GROUP BY state ORDER BY state")
    return {str(state): int(n) for state, n in await rows.fetchall()}


# --- an attempt -------------------------------------------------------------------------------------------------------
async def kind_of(db: Connection, identity: str) -> str | None:
    """Return the kind of a job, None where there is no such job."""
    row = await (await db.execute("SELECT kind FROM jobs WHERE id = %s", (identity,))).fetchone()
    return None if row is None else str(row[0])


async def begin(db: Connection, identity: str, now_ms: int, most_failures: int) -> Begun | None:
    """Begin the next attempt at a job, in a transaction; None where there is nothing to do.

    A job that is still running has lost its worker, which counts as a failure: one that kills every worker must end.
    """
    found = await db.execute(
        "SELECT kind, owner, parameters, attempts, failures, kept, state, is_cancel_asked FROM jobs WHERE id = %s"
        " FOR UPDATE",
        (identity,),
    )
    if (row := await found.fetchone()) is None:
        return None
    kind, owner, parameters, attempts, failures, kept, state, is_cancel_asked = row
    if state in ENDED:
        return None
    if is_cancel_asked:
        await _end(db, identity, "cancelled", now_ms)
        return None
    if state == "running":
        failures += 1
    if failures >= most_failures:
        why = f"its worker ended {failures} times while it ran; an operator finds why in the worker's log"
        await _end(db, identity, "failed", now_ms, error_code="worker_lost", error=why)
        return None
    await db.execute(
        "WITH changed AS (UPDATE jobs SET events = events + 1, state = 'running', attempts = attempts + 1,"
        " failures = %s, due_ms = NULL, started_ms = coalesce(started_ms, %s), error_code = NULL, error = NULL"
        f" WHERE id = %s{_NOTED}".encode(),
        (failures, now_ms, identity, now_ms, "running"),
    )
    await db.execute("DELETE FROM job_parts WHERE job_seq = (SELECT seq FROM jobs WHERE id = %s)", (identity,))
    return Begun(kind, owner, parameters.encode(), attempts + 1, failures, None if kept is None else kept.encode())


async def is_mine(db: Connection, identity: str, attempt: int) -> bool:
    """Say whether an attempt is the newest of a running job, and hold the row to the end of the transaction."""
    found = await db.execute(f"SELECT 1 FROM jobs{_MINE} FOR UPDATE".encode(), (identity, attempt))
    return await found.fetchone() is not None


async def standing(db: Connection, identity: str) -> tuple[int, bool, bool] | None:
    """Return of a job its newest attempt, whether it runs, and whether its owner has cancelled it."""
    found = await db.execute("SELECT attempts, state = 'running', is_cancel_asked FROM jobs WHERE id = %s", (identity,))
    row = await found.fetchone()
    return None if row is None else (int(row[0]), bool(row[1]), bool(row[2]))


async def tell(
    db: Connection, identity: str, attempt: int, *, percent: float, message: str, best: bytes | None
) -> bool:
    """Write how far an attempt is; False where it is no longer the newest. Without ``best`` the last one stays."""
    found = await db.execute(
        f"{_NEXT}, told = events + 1, percent = %s, message = %s, best = coalesce(%s, best){_MINE}"
        " RETURNING 1".encode(),
        (percent, message, None if best is None else best.decode(), identity, attempt),
    )
    return await found.fetchone() is not None


async def add_line(db: Connection, identity: str, attempt: int, at_ms: int, line: str) -> bool:
    """Add a line to the log; False where the attempt is no longer the newest. A full log takes no more."""
    found = await db.execute(
        f"WITH changed AS ({_NEXT}, lines = lines + 1{_MINE} RETURNING seq, events, lines), added AS ("
        "INSERT INTO job_events (job_seq, n, at_ms, name, text) SELECT seq, events, %s, 'log',"
        f" CASE WHEN lines = {MAX_LINES} THEN 'the log is full: what follows is not kept' ELSE %s END"
        f" FROM changed WHERE lines <= {MAX_LINES}) SELECT 1 FROM changed".encode(),
        (identity, attempt, at_ms, line[:MAX_LINE]),
    )
    return await found.fetchone() is not None


async def keep(db: Connection, identity: str, attempt: int, state: bytes) -> bool:
    """Keep what the next attempt goes on from; False where the attempt is no longer the newest."""
    found = await db.execute(
        f"UPDATE jobs SET kept = %s{_MINE} RETURNING 1".encode(), (state.decode(), identity, attempt)
    )
    return await found.fetchone() is not None


async def succeed(db: Connection, identity: str, attempt: int, result: bytes, now_ms: int) -> bool:
    """End a job well; False where the attempt is no longer the newest."""
    if not await is_mine(db, identity, attempt):
        return False
    await _end(db, identity, "succeeded", now_ms, result=result.decode())
    return True


async def fail(db: Connection, identity: str, attempt: int, code: str, detail: str, now_ms: int) -> bool:
    """End a job badly; False where the attempt is no longer the newest."""
    if not await is_mine(db, identity, attempt):
        return False
    await _end(db, identity, "failed", now_ms, error_code=code, error=detail)
    return True


async def cancelled(db: Connection, identity: str, attempt: int, now_ms: int) -> bool:
    """End a job whose owner cancelled it; False where the attempt is no longer the newest."""
    if not await is_mine(db, identity, attempt):
        return False
    await _end(db, identity, "cancelled", now_ms)
    return True


async def put_back(
    db: Connection, identity: str, attempt: int, *, due_ms: int, is_failure: bool, error: tuple[str, str] | None,
    now_ms: int,
) -> bool:  # fmt: skip
    """Let a job wait for another attempt; False where this one is no longer the newest."""
    code, detail = error or (None, None)
    found = await db.execute(
        f"WITH changed AS ({_NEXT}, state = 'queued', due_ms = %s, failures = failures + %s, error_code = %s,"
        f" error = %s{_MINE}{_NOTED}".encode(),
        (due_ms, int(is_failure), code, detail, identity, attempt, now_ms, "queued"),
    )
    return await found.fetchone() is not None


async def _end(
    db: Connection, identity: str, state: JobState, now_ms: int, *, result: str | None = None,
    error_code: str | None = None, error: str | None = None,
) -> None:  # fmt: skip
    percent = ", percent = 100" if state == "succeeded" else ""
    await db.execute(
        f"WITH changed AS ({_NEXT}, state = %s, result = %s, error_code = %s, error = %s, ended_ms = %s,"
        f" due_ms = NULL, kept = NULL{percent} WHERE id = %s{_NOTED}".encode(),
        (state, result, error_code, error, now_ms, identity, now_ms, state),
    )


async def ask_cancel(db: Connection, identity: str, owner: str | None, now_ms: int) -> Job:
    """Cancel a job that waits at once, one that runs at its next step; one that has ended stays as it is."""
    found = await db.execute(
        "SELECT state FROM jobs WHERE id = %s AND (%s::text IS NULL OR owner = %s) FOR UPDATE",
        (identity, owner, owner),
    )
    row = await found.fetchone()
    if row is None:
        raise NotFound(f"there is no job {identity}")
    if row[0] == "queued":
        await _end(db, identity, "cancelled", now_ms)
    elif row[0] == "running":
        await db.execute("UPDATE jobs SET is_cancel_asked = true WHERE id = %s", (identity,))
    return await job(db, identity, owner)


async def lost(db: Connection) -> list[tuple[str, str]]:
    """Return id and kind of jobs that should run and that the queue does not know."""
    found = await db.execute(
        "SELECT id, kind FROM jobs WHERE state IN ('queued', 'running') AND NOT EXISTS (SELECT 1 FROM"
        " procrastinate_jobs q WHERE q.id = jobs.queue_id AND q.status IN ('todo', 'doing')) ORDER BY seq"
        " FOR UPDATE SKIP LOCKED"
    )
    return [(str(identity), str(kind)) for identity, kind in await found.fetchall()]


async def sweep(db: Connection, now_ms: int, keep_ms: int) -> int:
    """Remove files that have expired and jobs that ended long ago; return how many rows went."""
    gone = await db.execute(
        "WITH old AS (DELETE FROM job_files WHERE expires_ms <= %s RETURNING job_seq)"
        " DELETE FROM job_parts WHERE job_seq IN (SELECT job_seq FROM old)",
        (now_ms,),
    )
    parts = gone.rowcount
    gone = await db.execute("DELETE FROM jobs WHERE ended_ms IS NOT NULL AND ended_ms < %s", (now_ms - keep_ms,))
    return parts + gone.rowcount


# --- files ------------------------------------------------------------------------------------------------------------
async def add_part(db: Connection, identity: str, attempt: int, n: int, body: bytes) -> bool:
    """Add a part to the file of an attempt; False where it is no longer the newest."""
    found = await db.execute(
        f"INSERT INTO job_parts (job_seq, attempt, n, body) SELECT seq, %s, %s, %s FROM jobs{_MINE}"
        " RETURNING 1".encode(),
        (attempt, n, body, identity, attempt),
    )
    return await found.fetchone() is not None


async def finish_file(db: Connection, file: File) -> bool:
    """Enter a file whose parts are all there; False where its attempt is no longer the newest."""
    found = await db.execute(
        "INSERT INTO job_files (job_seq, attempt, name, media_type, bytes, sha256, seen_as, expires_ms)"
        f" SELECT seq, %s, %s, %s, %s, %s, %s, %s FROM jobs{_MINE} ON CONFLICT (job_seq) DO UPDATE SET"
        " attempt = excluded.attempt, name = excluded.name, media_type = excluded.media_type,"
        " bytes = excluded.bytes, sha256 = excluded.sha256, seen_as = excluded.seen_as,"
        " expires_ms = excluded.expires_ms RETURNING 1".encode(),
        (
            file.attempt, file.name, file.media_type, file.size_bytes, file.sha256, file.seen_as, file.expires_ms,
            file.job_id, file.attempt,
        ),
    )  # fmt: skip
    return await found.fetchone() is not None


async def file_of(db: Connection, identity: str, now_ms: int) -> File | None:
    """Return the file of a job that has succeeded; None where there is none or it has expired."""
    found = await db.execute(
        "SELECT j.id, f.attempt, f.name, f.media_type, f.bytes, f.sha256, f.seen_as, f.expires_ms"
        " FROM job_files f JOIN jobs j ON j.seq = f.job_seq WHERE j.id = %s AND j.state = 'succeeded'"
        " AND f.expires_ms > %s",
        (identity, now_ms),
    )
    row = await found.fetchone()
    if row is None:
        return None
    names = ("job_id", "attempt", "name", "media_type", "size_bytes", "sha256", "seen_as", "expires_ms")
    return File(**dict(zip(names, row, strict=True)))


async def part(db: Connection, file: File, n: int) -> bytes | None:
    """Return a part of a file as it lies there, None after the last."""
    found = await db.execute(
        "SELECT p.body FROM job_parts p JOIN jobs j ON j.seq = p.job_seq WHERE j.id = %s AND p.attempt = %s"
        " AND p.n = %s",
        (file.job_id, file.attempt, n),
    )
    row = await found.fetchone()
    return None if row is None else bytes(row[0])


async def _row(db: Connection, identity: str, owner: str | None) -> tuple[Job, int, int]:
    if "\0" not in identity:  # PostgreSQL keeps no such text
        found = await db.execute(
            f"{_JOB} WHERE id = %s AND (%s::text IS NULL OR owner = %s)".encode(), (identity, owner, owner)
        )
        if (row := await found.fetchone()) is not None:
            return _job(row), int(row[17]), int(row[18])
    raise NotFound(f"there is no job {identity}")


def _job(row: Sequence[Any]) -> Job:
    return Job(
        id=row[0], kind=row[1], owner=row[2], state=row[3], parameters=_raw(row[4]) or msgspec.Raw(b"{}"),
        percent=row[5], message=row[6], best=_raw(row[7]), result=_raw(row[8]), error_code=row[9], error=row[10],
        attempts=row[11], is_cancel_asked=row[12], made_at=from_ms(row[13]),
        due_at=None if row[14] is None else from_ms(row[14]),
        started_at=None if row[15] is None else from_ms(row[15]),
        ended_at=None if row[16] is None else from_ms(row[16]),
    )  # fmt: skip


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())
