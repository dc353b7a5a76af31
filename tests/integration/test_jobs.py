"""The job queue over a real PostgreSQL: what becomes of a job, whoever fails, stops, cancels or wakes up late."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from procrastinate import App, PsycopgConnector
from procrastinate.schema import SchemaManager

from cloud.jobs import queue
from cloud.jobs.attempt import Attempt, FileLimits
from cloud.jobs.kinds import JobCancelled, JobSuperseded, Kinds, Reporter, Run
from cloud.jobs.service import Jobs
from cloud.jobs.worker import JobWorker, WorkerSettings
from cloud.store import jobs as table
from cloud.store.database import Database
from cloud.store.migrate import migrate
from shared.errors import Forbidden, Invalid, ModelUnavailable, NotFound, StoreError
from shared.privacy import OPERATOR, Principal
from tests.clouds import ask
from tests.workers import GUARD_S, QUICK, Gate, Wish, kind_of, now, operator, working

pytestmark = [pytest.mark.integration]

KINDS: dict[str, int] = {}
RANGER = Principal(user_id="r", role="ranger")


async def test_a_job_runs_once_and_its_result_progress_and_log_are_kept(database_url: str) -> None:
    async def run(run: Run[Wish]) -> dict[str, Any]:
        await run.log("began")
        for step in range(run.parameters.n):
            await run.progress(100 * step / run.parameters.n, f"step {step}", best={"score": step})
        await run.log(f"for {run.owner.user_id}")
        return {"n": run.parameters.n, "id": run.identity("corridor")}

    async with working(database_url, kind_of(run)) as at:
        made = await at.jobs.submit("test", Wish(n=4), OPERATOR)
        assert made.state in ("queued", "running")
        job = await at.ended(made)
        told = await at.jobs.told(OPERATOR, job.id, 0)
    assert (job.state, job.percent, job.attempts, job.error) == ("succeeded", 100, 1, None)
    result = msgspec.json.decode(job.result or b"")
    assert result["n"] == 4
    assert (job.message, job.best) == ("step 3", msgspec.Raw(b'{"score":3}'))
    assert [(each.name, each.text) for each in told.happened] == [
        ("state", "queued"), ("state", "running"), ("log", "began"), ("log", "for operator"), ("state", "succeeded"),
    ]  # fmt: skip
    numbers = [each.n for each in told.happened]
    assert numbers == sorted(set(numbers))
    assert told.last_n == numbers[-1]
    assert ask(database_url, "SELECT count(*) FROM procrastinate_jobs") == [(0,)]


async def test_the_same_key_is_the_same_job_and_another_owner_s_is_another(database_url: str) -> None:
    gate = Gate()
    async with working(database_url, kind_of(lambda run: gate.wait_here(run))) as at:
        first = await at.jobs.submit("test", Wish(), OPERATOR, key="k")
        again = await at.jobs.submit("test", Wish(n=9), OPERATOR, key="k")
        other = await at.jobs.submit("test", Wish(), RANGER, key="k")
        together = await asyncio.gather(*(at.jobs.submit("test", Wish(), RANGER, key="both") for _ in range(4)))
        assert first.id == again.id != other.id
        assert len({job.id for job in together}) == 1
        gate.open.set()
        for job in (first, other, together[0]):
            assert (await at.ended(job)).state == "succeeded"
    assert ask(database_url, "SELECT count(*) FROM jobs") == [(3,)]


async def test_an_unknown_kind_a_bad_key_and_a_foreign_job_are_refused(database_url: str) -> None:
    async def run(run: Run[Wish]) -> None:
        return None

    async with Database.open(database_url) as database:
        jobs = Jobs(database, Kinds([kind_of(run)]), now=now)
        with pytest.raises(ModelUnavailable):
            await jobs.submit("corridor", Wish(), OPERATOR)
        for key in ("", "x" * 201, "a\nb", "\0"):
            with pytest.raises(Invalid, match="Idempotency-Key"):
                await jobs.submit("test", Wish(), OPERATOR, key=key)
        mine = await jobs.submit("test", Wish(word="a\0b"), RANGER)
        assert (await jobs.job(RANGER, mine.id)).id == mine.id
        assert (await jobs.job(OPERATOR, mine.id)).id == mine.id
        stranger = Principal(user_id="s", role="conservation_manager")
        for asked in (jobs.job(stranger, mine.id), jobs.cancel(stranger, mine.id), jobs.job(OPERATOR, "\0")):
            with pytest.raises(NotFound):
                await asked
        page = await jobs.page(stranger, kind=None, state=None, offset=0, limit=10)
        assert (page.count, page.results) == (0, [])
        page = await jobs.page(OPERATOR, kind="test", state="queued", offset=0, limit=10)
        assert [job.id for job in page.results] == [mine.id]
        with pytest.raises(ValueError, match="two kinds"):
            jobs.kinds.register(kind_of(run))


async def test_what_fails_for_a_while_is_tried_again_and_what_is_hopeless_is_not(database_url: str) -> None:
    tries: dict[str, int] = {}

    async def run(run: Run[Wish]) -> str:
        word = run.parameters.word
        tries[word] = tries.get(word, 0) + 1
        if word == "shaky" and tries[word] < 3:
            raise StoreError("the disk is away")
        if word == "broken":
            raise RuntimeError("secret detail")
        if word == "hopeless":
            raise Forbidden("not for you")
        return word

    async with working(database_url, kind_of(run)) as at:
        made = {
            word: await at.jobs.submit("test", Wish(word=word), OPERATOR) for word in ("shaky", "broken", "hopeless")
        }
        ended = {word: await at.ended(job) for word, job in made.items()}
    assert tries == {"shaky": 3, "broken": 3, "hopeless": 1}
    assert (ended["shaky"].state, ended["shaky"].attempts, ended["shaky"].error) == ("succeeded", 3, None)
    assert (ended["broken"].state, ended["broken"].error_code) == ("failed", "internal")
    assert "secret" not in (ended["broken"].error or "")
    assert (ended["hopeless"].state, ended["hopeless"].error_code) == ("failed", "forbidden")


async def test_the_pause_before_another_try_doubles_and_is_seen(database_url: str) -> None:
    async def run(run: Run[Wish]) -> None:
        raise StoreError("the disk is away")

    kind = kind_of(run, first_pause_s=60.0)
    assert [kind.pause_s(n) for n in (1, 2, 3, 20)] == [60, 120, 240, 3_600]
    async with working(database_url, kind) as at:
        made = await at.jobs.submit("test", Wish(), OPERATOR)
        waits = await at.until(made, lambda job: job.error_code is not None)
        assert (waits.state, waits.error_code) == ("queued", "store")
        assert waits.due_at is not None
        assert 50 < (waits.due_at - now()).total_seconds() <= 60
        cancelled = await at.jobs.cancel(OPERATOR, made.id)
        assert cancelled.state == "cancelled"


@pytest.mark.parametrize("is_heavy", [False, True])
async def test_cancelling_stops_what_waits_at_once_and_what_runs_at_its_next_step(
    database_url: str, is_heavy: bool
) -> None:
    gate, left = Gate(), []

    def search(reporter: Reporter) -> None:
        try:
            gate.wait(reporter)
        finally:
            left.append("cleaned up")

    async def run(run: Run[Wish]) -> None:
        await run.in_thread(search)

    one_at_a_time = msgspec.structs.replace(QUICK, light_jobs=1)
    async with working(database_url, kind_of(run, is_heavy=is_heavy), settings=one_at_a_time) as at:
        runs = await at.jobs.submit("test", Wish(), OPERATOR)
        await gate.is_reached()
        waits = await at.jobs.submit("test", Wish(), OPERATOR)
        assert (await at.jobs.cancel(OPERATOR, waits.id)).state == "cancelled"
        asked = await at.jobs.cancel(OPERATOR, runs.id)
        assert (asked.state, asked.is_cancel_asked) == ("running", True)
        ended = await at.ended(runs)
        assert ended.state == "cancelled"
        assert left == ["cleaned up"]
        assert (await at.jobs.cancel(OPERATOR, runs.id)).state == "cancelled"
        third = await at.jobs.submit("test", Wish(), OPERATOR)
        gate.open.set()
        assert (await at.ended(third)).state == "succeeded"  # the one that waited never ran in between
        assert (await at.jobs.job(OPERATOR, waits.id)).attempts == 0


async def test_one_heavy_job_at_a_time_and_light_ones_beside_it(database_url: str) -> None:
    gate, heavy_now, heavy_most = Gate(), 0, 0

    async def heavy(run: Run[Wish]) -> None:
        nonlocal heavy_now, heavy_most
        heavy_now += 1
        heavy_most = max(heavy_most, heavy_now)
        await gate.wait_here(run)
        heavy_now -= 1

    async def light(run: Run[Wish]) -> str:
        return "light"

    kinds = (kind_of(heavy, name="heavy", is_heavy=True), kind_of(light, name="light"))
    async with working(database_url, *kinds) as at:
        many = [await at.jobs.submit("heavy", Wish(), OPERATOR) for _ in range(3)]
        await gate.is_reached()
        beside = [await at.jobs.submit("light", Wish(), OPERATOR) for _ in range(6)]
        for job in beside:
            assert (await at.ended(job)).state == "succeeded"
        gate.open.set()
        for job in many:
            assert (await at.ended(job)).state == "succeeded"
    assert heavy_most == 1


async def test_a_worker_that_is_stopped_puts_its_job_back_and_the_next_goes_on_from_what_was_kept(
    database_url: str,
) -> None:
    gate, seen = Gate(), []

    async def run(run: Run[Wish]) -> list[int]:
        done: list[int] = run.kept or []
        seen.append((run.attempt, list(done)))
        while len(done) < run.parameters.n:
            done.append(len(done))
            await run.keep(done)
            if len(done) == 2:
                await gate.wait_here(run)
        return done

    async with working(database_url, kind_of(run)) as at:
        made = await at.jobs.submit("test", Wish(n=4), OPERATOR)
        await gate.is_reached()
    assert ask(database_url, "SELECT state, failures FROM jobs") == [("queued", 0)]
    gate.open.set()
    async with working(database_url, kind_of(run)) as at:
        job = await at.ended(made)
    assert (job.state, job.result, job.attempts) == ("succeeded", msgspec.Raw(b"[0,1,2,3]"), 2)
    assert seen == [(1, []), (2, [0, 1])]


@pytest.mark.parametrize("turns", range(8))
async def test_a_worker_that_is_told_to_stop_as_it_gets_its_first_connection_ends(
    database_url: str, turns: int
) -> None:
    told = asyncio.Event()

    async def handing_over(_connection: object) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        told.set()

    async def run(run: Run[Wish]) -> None:
        return None

    # its two queues and its housekeeping wait for the one connection, and the first who gives it back is the signal
    app = App(connector=PsycopgConnector(conninfo=database_url, min_size=1, max_size=1, reset=handing_over))
    patient = msgspec.structs.replace(QUICK, stop_s=600.0)  # it hears of it, and is not given up for hung
    async with Database.open(database_url) as database:
        worker = JobWorker(database, Kinds([kind_of(run)]), owner_of=operator, now=now, settings=patient)
        running = asyncio.create_task(worker.run(app, told, does_listen=False))
        done, _ = await asyncio.wait([running], timeout=GUARD_S)
    assert done == {running}
    assert running.exception() is None


async def test_an_attempt_that_was_given_up_for_dead_can_write_nothing_any_more(database_url: str) -> None:
    async def run(run: Run[Wish]) -> None:
        return None

    async with Database.open(database_url) as database:
        jobs = Jobs(database, Kinds([kind_of(run)]), now=now)
        made = await jobs.submit("test", Wish(), OPERATOR)

        async def begin() -> Attempt[Wish]:
            async with database.transaction() as connection:
                begun = await table.begin(connection, made.id, 1, 5)
            assert begun is not None
            return Attempt(database, made.id, begun, Wish(), OPERATOR, now=now, limits=FileLimits(10_000, 1_000))

        late = await begin()
        await late.log("the first")
        newest = await begin()
        for act in (late.keep([1]), late.add_part(0, b"x"), _commits(late), _writes_a_file(late)):
            with pytest.raises(JobSuperseded):
                await act
        with pytest.raises(JobSuperseded):
            late.check()
        async with database.transaction() as connection:
            assert not await table.succeed(connection, made.id, late.attempt, b"1", 2)
            assert not await table.fail(connection, made.id, late.attempt, "x", "x", 2)
            assert not await table.add_line(connection, made.id, late.attempt, 2, "late")
        async with newest.committing() as connection:
            await connection.execute("INSERT INTO facts VALUES ('effect', 'newest')")
        async with newest.pulsing():
            await newest.log("the second")
        async with database.transaction() as connection:
            assert await table.succeed(connection, made.id, newest.attempt, b"2", 3)
        told = await jobs.told(OPERATOR, made.id, 0)
    assert told.job.result == msgspec.Raw(b"2")
    assert [each.text for each in told.happened if each.name == "log"] == ["the second"]
    assert ask(database_url, "SELECT value FROM facts WHERE name = 'effect'") == [("newest",)]


async def _commits(attempt: Attempt[Wish]) -> None:
    async with attempt.committing() as connection:
        await connection.execute("INSERT INTO facts VALUES ('effect', 'late')")


async def _writes_a_file(attempt: Attempt[Wish]) -> None:
    async with attempt.file("x", "text/plain", seen_as="exact") as file:
        await file.write(b"x")


async def test_a_job_that_ends_every_worker_is_given_up(database_url: str) -> None:
    async def run(run: Run[Wish]) -> None:
        return None

    async with Database.open(database_url) as database:
        jobs = Jobs(database, Kinds([kind_of(run)]), now=now)
        made = await jobs.submit("test", Wish(), OPERATOR)
        for attempt in (1, 2, 3):
            async with database.transaction() as connection:
                begun = await table.begin(connection, made.id, 1, 3)
            assert begun is not None
            assert begun.attempt == attempt
        async with database.transaction() as connection:
            assert await table.begin(connection, made.id, 1, 3) is None
        job = await jobs.job(OPERATOR, made.id)
    assert (job.state, job.error_code) == ("failed", "worker_lost")


async def test_a_job_that_the_queue_has_lost_is_entered_again(database_url: str) -> None:
    async def run(run: Run[Wish]) -> str:
        return "done"

    async with Database.open(database_url) as database:
        jobs = Jobs(database, Kinds([kind_of(run)]), now=now)
        made = await jobs.submit("test", Wish(), OPERATOR)
    ask(database_url, "DELETE FROM procrastinate_jobs")
    async with working(database_url, kind_of(run)) as at:
        assert (await at.ended(made)).state == "succeeded"


async def test_jobs_run_behind_a_pooler_where_no_notification_arrives(database_url: str) -> None:
    async def run(run: Run[Wish]) -> str:
        return "done"

    async with working(database_url, kind_of(run), is_pooled=True) as at:
        assert (await at.ended(await at.jobs.submit("test", Wish(), OPERATOR))).state == "succeeded"


async def test_a_job_is_there_with_the_transaction_that_submits_it_or_not_at_all(database_url: str) -> None:
    async def run(run: Run[Wish]) -> str:
        return "done"

    async with Database.open(database_url) as database:
        jobs = Jobs(database, Kinds([kind_of(run)]), now=now)

        async def submit_and_fail() -> None:
            async with database.transaction() as connection:
                await jobs.submit_in(connection, "test", Wish(), OPERATOR)
                raise RuntimeError("no")

        with pytest.raises(RuntimeError, match="no"):
            await submit_and_fail()
    both = "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM procrastinate_jobs)"
    assert ask(database_url, both) == [(0, 0)]


def test_the_queue_s_tables_are_those_of_the_library_that_is_installed(database_url: str) -> None:
    shipped = sorted(path.name for path in Path(SchemaManager.get_migrations_path()).glob("*.sql"))
    noted = "SELECT value FROM facts WHERE name = 'queue_schema'"
    assert ask(database_url, noted) == [(shipped[-1],)]
    migrate(database_url)
    assert ask(database_url, noted) == [(shipped[-1],)]


async def test_a_log_is_bounded_and_says_so(database_url: str) -> None:
    async def run(run: Run[Wish]) -> None:
        async with run.committing() as connection:  # as if so many had been written
            await connection.execute(b"UPDATE jobs SET lines = %d" % (table.MAX_LINES - 5))
        for n in range(20):
            await run.log(f"{n}" + "x" * 3_000)

    async with working(database_url, kind_of(run)) as at:
        job = await at.ended(await at.jobs.submit("test", Wish(), OPERATOR))
        told = await at.jobs.told(OPERATOR, job.id, 0)
    lines = [each.text for each in told.happened if each.name == "log"]
    assert len(lines) == 5
    assert "full" in lines[-1]
    assert all(len(line) <= table.MAX_LINE for line in lines)


async def test_a_file_is_whole_and_goes_when_it_has_expired(database_url: str) -> None:
    body = bytes(range(256)) * 12_000

    async def run(run: Run[Wish]) -> int:
        async with run.file("a.bin", "application/octet-stream", seen_as="exact") as file:
            for start in range(0, len(body), 100_000):
                await file.write(body[start : start + 100_000])
        return len(body)

    async with working(database_url, kind_of(run)) as at:
        job = await at.ended(await at.jobs.submit("test", Wish(), OPERATOR))
        assert job.state == "succeeded"
        async with at.database.snapshot() as connection:
            file = await table.file_of(connection, job.id, 0)
            assert file is not None
            assert file.size_bytes == len(body)
            assert await table.file_of(connection, job.id, file.expires_ms) is None
        async with at.database.transaction() as connection:
            await table.sweep(connection, file.expires_ms, 1_000)
    assert ask(database_url, "SELECT count(*) FROM job_parts") == [(0,)]


async def test_a_file_beyond_the_limit_ends_the_job_with_what_to_do(database_url: str) -> None:
    async def run(run: Run[Wish]) -> None:
        async with run.file("a.bin", "application/octet-stream", seen_as="exact") as file:
            await file.write(b"x" * 1_000_001)

    small = WorkerSettings(poll_s=0.1, file_limit_mb=1)
    async with working(database_url, kind_of(run), settings=small) as at:
        job = await at.ended(await at.jobs.submit("test", Wish(), OPERATOR))
    assert (job.state, job.error_code) == ("failed", "invalid")
    assert "fewer animals" in (job.error or "")


async def test_a_thread_hands_back_its_errors_and_gets_rows_of_the_loop(database_url: str) -> None:
    async def rows() -> Any:
        for n in range(1_234):
            yield n

    async def run(run: Run[Wish]) -> int:
        with pytest.raises(KeyError):
            await run.in_thread(lambda _reporter: KINDS["nothing"])
        with pytest.raises(RuntimeError):
            await run.in_thread(lambda _reporter: next(iter(())))
        return await run.in_thread(lambda _reporter: sum(run.each_in_thread(rows())))

    async with working(database_url, kind_of(run)) as at:
        job = await at.ended(await at.jobs.submit("test", Wish(), OPERATOR))
    assert job.result == msgspec.Raw(str(sum(range(1_234))).encode())


def test_each_stop_is_a_word_of_its_own() -> None:
    assert not issubclass(JobCancelled, JobSuperseded)
    assert queue.queue_of(kind_of(_nothing, is_heavy=True)) != queue.queue_of(kind_of(_nothing))


async def _nothing(_run: Run[Wish]) -> None:
    return None


async def test_a_worker_whose_housekeeping_falls_ends_so_that_another_is_started(database_url: str) -> None:
    async def fall() -> None:
        raise ZeroDivisionError

    async with Database.open(database_url, pool_min=1, pool_max=6) as database:
        worker = JobWorker(database, Kinds([]), owner_of=operator, now=now, settings=QUICK, rounds=fall)
        running = worker.run(queue.working(database_url, is_pooled=False), asyncio.Event(), does_listen=True)
        with pytest.raises(StoreError, match="housekeeping"):
            await asyncio.wait_for(running, GUARD_S)
