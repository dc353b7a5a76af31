"""The private PostgreSQL, and the pool of connections to one."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cloud.demo.cluster import PrivateCluster
from cloud.store.database import Connection, Database
from shared.errors import ConfigError, DatabaseCorrupt, StoreError, StoreFull
from tests.services import Postgres, require

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root drops to another user")


async def value(connection: Connection, query: str) -> object:
    row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return row[0]


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description is not None else []


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- the cluster ----------------------------------------------------------------------------------------------------


@pytest.fixture
def blank_folder() -> Iterator[Path]:
    """Give a folder that the server's user may enter; pytest's own it may not."""
    folder = Path(tempfile.mkdtemp(prefix="outpost-test-pg-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """Give the data of a server that was started once; copying it takes a tenth of making it."""
    folder = Path(tempfile.mkdtemp(prefix="outpost-test-pg-"))
    folder.chmod(0o755)
    with cluster_in(folder / "pg") as cluster:
        assert cluster.is_running
    yield cluster.folder
    shutil.rmtree(folder)


@pytest.fixture
def folder(blank_folder: Path, made: Path) -> Path:
    """Give a folder in which ``pg`` holds the data of a server that was started once."""
    subprocess.run(["cp", "-a", made, blank_folder / "pg"], check=True)
    return blank_folder


def cluster_in(folder: Path, *, is_durable: bool = False, fallback: Path | None = None) -> PrivateCluster:
    try:
        return PrivateCluster(folder, is_durable=is_durable, fallback=folder if fallback is None else fallback)
    except ConfigError as error:
        require(False, error.detail)
        raise


def test_what_was_committed_outlives_a_kill_of_every_process(folder: Path) -> None:
    with cluster_in(folder / "pg", is_durable=True) as cluster:
        url = cluster.url()
        rows(url, "CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000)")
        with psycopg.connect(url) as open_one:
            open_one.execute("INSERT INTO t VALUES (-1)")
            cluster.kill()
            assert not cluster.is_running
            with pytest.raises(psycopg.OperationalError):
                open_one.execute("SELECT 1")
        cluster.start()
        assert cluster.url() == url
        assert rows(url, "SELECT count(*), min(n) FROM t") == [(1000, 1)]
        assert rows(url, "SHOW fsync") == [("on",)]


def test_data_is_found_again_at_the_next_start_and_the_socket_is_gone_after_the_last(folder: Path) -> None:
    with cluster_in(folder / "pg") as cluster:
        rows(cluster.url(), "CREATE TABLE t ()")
        socket = Path(cluster.url().partition("host=")[2].partition("&")[0])
        assert (socket.stat().st_mode & 0o777, len(os.fsencode(socket)) < 60) == (0o700, True)
        shutil.rmtree(socket)  # as a cleaner of /tmp does; a start makes it anew
        cluster.stop()
        cluster.start()
        assert rows(cluster.url(), "SELECT * FROM t") == []
    assert not socket.exists()
    assert not cluster.is_running


def test_it_listens_on_no_port_and_counts_in_utc(folder: Path) -> None:
    with cluster_in(folder / "pg") as cluster:
        settings = {row[0]: row[1] for row in rows(cluster.url(), "SELECT name, setting FROM pg_settings")}
        assert (settings["listen_addresses"], settings["TimeZone"]) == ("", "UTC")
        ((collate, encoding),) = rows(
            cluster.url(),
            "SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'postgres'",
        )
        assert (collate in ("C", "C.UTF-8"), encoding) == (True, "UTF8")


def test_stopping_what_does_not_run_and_starting_what_runs_is_nothing(folder: Path) -> None:
    cluster = cluster_in(folder / "pg")
    cluster.stop()
    cluster.kill()
    assert cluster.pid is None
    with cluster:
        pid = cluster.pid
        cluster.start()
        assert cluster.pid == pid


@needs_root
def test_under_root_the_server_runs_as_its_own_user_and_owns_its_data(folder: Path) -> None:
    with cluster_in(folder / "pg") as cluster:
        user = pwd.getpwnam("postgres")
        status = Path(f"/proc/{cluster.pid}/status").read_text()
        assert f"Uid:\t{user.pw_uid}\t{user.pw_uid}\t{user.pw_uid}\t{user.pw_uid}" in status
        groups = next(line for line in status.splitlines() if line.startswith("Groups:"))
        assert "0" not in groups.split()[1:]
        assert (cluster.folder / "data").stat().st_uid == user.pw_uid
        assert cluster.folder.stat().st_mode & 0o777 == 0o700


@needs_root
def test_data_in_a_folder_that_the_servers_user_may_not_enter_lies_elsewhere_and_says_so(blank_folder: Path) -> None:
    (blank_folder / "private").mkdir(mode=0o700)
    wanted = blank_folder / "private" / "checkout" / "pg"
    with cluster_in(wanted, fallback=blank_folder / "elsewhere") as cluster:
        assert cluster.folder.parent == blank_folder / "elsewhere"
        assert cluster.notice is not None
        assert str(cluster.folder) in cluster.notice
        rows(cluster.url(), "CREATE TABLE t ()")
    with cluster_in(wanted, fallback=blank_folder / "elsewhere") as again:
        assert again.folder == cluster.folder
        assert rows(again.url(), "SELECT * FROM t") == []
    other = cluster_in(blank_folder / "private" / "other" / "pg", fallback=blank_folder / "elsewhere")
    assert other.folder != cluster.folder


@needs_root
def test_a_folder_of_somebody_else_is_refused(blank_folder: Path) -> None:
    theirs = blank_folder / "pg"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    require_cluster = cluster_in(blank_folder / "other")
    assert require_cluster.notice is None
    with pytest.raises(ConfigError, match="somebody else"):
        PrivateCluster(theirs)


def test_two_programs_do_not_share_a_folder(folder: Path) -> None:
    with cluster_in(folder / "pg") as cluster:
        second = cluster_in(folder / "pg")
        with pytest.raises(ConfigError, match="another program"):
            second.start()
        assert rows(cluster.url(), "SELECT 1") == [(1,)]  # the first one is not disturbed
    with second:
        assert second.is_running


OWNER = """
import sys, time
from pathlib import Path
from cloud.demo.cluster import PrivateCluster
cluster = PrivateCluster(Path(sys.argv[1]), is_durable=False)
cluster.start()
print(cluster.pid, cluster.url(), flush=True)
time.sleep(600)
"""


def test_a_server_that_outlived_its_program_is_ended_by_the_next_one(folder: Path) -> None:
    cluster = cluster_in(folder / "pg")
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder / "pg")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert owner.stdout is not None
    with owner.stdout:
        pid, url = owner.stdout.readline().split()
    rows(url, "CREATE TABLE t ()")
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert rows(url, "SELECT * FROM t") == []  # the orphan serves
    shutil.rmtree(url.partition("host=")[2].partition("&")[0])
    with cluster:
        assert cluster.pid != int(pid)
        assert rows(cluster.url(), "SELECT * FROM t") == []


def test_a_process_that_got_the_number_of_a_dead_server_is_left_alone(folder: Path) -> None:
    with cluster_in(folder / "pg") as cluster:
        cluster.kill()
        owner = (cluster.folder / "data").stat()
        # of the server's user: of another one's process the server itself knows that it is none of its own
        user = owner.st_uid if os.geteuid() == 0 else None
        bystander = subprocess.Popen(["sleep", "600"], user=user)
        try:
            file = cluster.folder / "data" / "postmaster.pid"
            file.write_text("\n".join([str(bystander.pid), *file.read_text().splitlines()[1:]]) + "\n")
            cluster.start()
            assert rows(cluster.url(), "SELECT 1") == [(1,)]
            assert bystander.poll() is None
        finally:
            bystander.kill()
            bystander.wait()


def test_data_that_was_never_finished_is_made_again(blank_folder: Path) -> None:
    cluster = cluster_in(blank_folder / "pg")
    (cluster.folder / "data.new" / "base").mkdir(parents=True)
    with cluster:
        assert rows(cluster.url(), "SELECT 1") == [(1,)]


def test_data_of_another_version_names_the_package_that_reads_it(blank_folder: Path) -> None:
    cluster_in(blank_folder / "other")
    (blank_folder / "pg" / "data").mkdir(parents=True)
    (blank_folder / "pg" / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ConfigError, match="postgresql-9 postgresql-9-postgis-3"):
        PrivateCluster(blank_folder / "pg")


def test_a_server_that_does_not_start_shows_the_end_of_its_log(folder: Path) -> None:
    cluster = cluster_in(folder / "pg")
    with cluster:
        pass
    (cluster.folder / "data" / "postgresql.conf").write_text("nonsense = 1\n")
    with pytest.raises(ConfigError, match="nonsense"):
        cluster.start()
    (cluster.folder / "data" / "postgresql.conf").write_text("")
    with cluster:  # nothing of the failed start is in the way
        assert cluster.is_running


# --- the pool -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def database(blank_database_url: str) -> AsyncIterator[Database]:
    async with Database.open(blank_database_url, pool_max=4) as database:
        async with database.transaction() as connection:
            await connection.execute("CREATE TABLE t (n int PRIMARY KEY CHECK (n < 100), word text)")
        yield database


async def count(database: Database) -> object:
    async with database.snapshot() as connection:
        return await value(connection, "SELECT count(*) FROM t")


async def test_a_block_that_ends_well_is_committed_and_one_that_raises_is_not(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("INSERT INTO t VALUES (1)")

    async def fail() -> None:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO t VALUES (2)")
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await count(database) == 1


async def test_a_block_that_is_cancelled_is_rolled_back_and_its_connection_serves_on(
    blank_database_url: str,
) -> None:
    async with Database.open(blank_database_url, pool_min=1, pool_max=1) as database:
        async with database.transaction() as connection:
            await connection.execute("CREATE TABLE t (n int)")
        started = asyncio.Event()

        async def slow() -> None:
            async with database.transaction() as connection:
                await connection.execute("INSERT INTO t VALUES (1)")
                started.set()
                await connection.execute("SELECT pg_sleep(60)")

        task = asyncio.create_task(slow())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await count(database) == 0


async def test_a_snapshot_sees_one_state_whatever_others_commit(database: Database) -> None:
    async with database.snapshot() as reader:
        assert await value(reader, "SELECT count(*) FROM t") == 0
        async with database.transaction() as writer:
            await writer.execute("INSERT INTO t VALUES (1)")
        assert await value(reader, "SELECT count(*) FROM t") == 0
    assert await count(database) == 1


async def test_a_snapshot_cannot_write_and_the_next_transaction_on_its_connection_can(
    blank_database_url: str,
) -> None:
    async with Database.open(blank_database_url, pool_min=1, pool_max=1) as database:
        with pytest.raises(StoreError, match="only reads"):
            async with database.snapshot() as connection:
                await connection.execute("CREATE TABLE t ()")
        async with database.transaction() as connection:
            await connection.execute("CREATE TABLE t ()")
            assert await value(connection, "SHOW transaction_isolation") == "read committed"


@pytest.mark.parametrize("is_pooled", [False, True])
async def test_a_transaction_is_durable_in_utc_limited_and_named(blank_database_url: str, *, is_pooled: bool) -> None:
    rows(blank_database_url, "ALTER ROLE outpost SET timezone = 'Africa/Nairobi'")
    try:
        async with Database.open(
            blank_database_url, is_pooled=is_pooled, statement_timeout_s=12.5, application_name="test"
        ) as database:
            for transaction in (database.transaction, database.snapshot):
                async with transaction() as connection:
                    assert await value(connection, "SHOW synchronous_commit") == "on"  # the test server's is off
                    assert await value(connection, "SHOW timezone") == "UTC"
                    assert await value(connection, "SHOW statement_timeout") == "12500ms"
                    assert await value(connection, "SHOW application_name") == "test"
    finally:
        rows(blank_database_url, "ALTER ROLE outpost RESET timezone")


@pytest.mark.parametrize("is_pooled", [False, True])
async def test_behind_a_pooler_nothing_outlives_a_transaction(blank_database_url: str, *, is_pooled: bool) -> None:
    async with Database.open(blank_database_url, pool_min=1, pool_max=1, is_pooled=is_pooled) as database:
        for number in range(20):
            async with database.transaction() as connection:
                await connection.execute("SELECT %s::int", (number,))
        async with database.transaction() as connection:
            prepared = await value(connection, "SELECT count(*) FROM pg_prepared_statements")
        assert (prepared == 0) is is_pooled
        async with database._pool.connection() as bare:
            limit = await value(bare, "SHOW statement_timeout")
        assert limit == ("0" if is_pooled else "30s")


async def test_a_statement_that_takes_too_long_is_ended(blank_database_url: str) -> None:
    async with Database.open(blank_database_url, statement_timeout_s=0.05) as database:
        with pytest.raises(StoreError, match="statement_timeout_s"):
            async with database.transaction() as connection:
                await connection.execute("SELECT pg_sleep(30)")


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        ("53100", StoreFull, "no room"),
        ("XX001", DatabaseCorrupt, "said"),
        ("40001", StoreError, "may be repeated"),
        ("40P01", StoreError, "may be repeated"),
        ("53300", StoreError, "pool_max"),
        ("57P01", StoreError, "may be sent again"),
        ("42P01", StoreError, "outpost-cloud migrate"),
        ("P0001", StoreError, "said"),
    ],
)
async def test_what_the_server_refuses_is_an_error_of_ours(
    database: Database, state: str, kind: type[StoreError], words: str
) -> None:
    async def fail() -> None:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO t VALUES (1)")
            await connection.execute(f"DO $$ BEGIN RAISE 'said' USING ERRCODE = '{state}'; END $$")

    with pytest.raises(StoreError, match=words) as refused:
        await fail()
    assert type(refused.value) is kind
    assert await count(database) == 0


async def test_a_row_at_fault_is_told_by_its_rule_and_not_by_its_values(database: Database) -> None:
    for statement, words in (
        ("INSERT INTO t VALUES (73), (73)", "UniqueViolation.*t_pkey"),
        ("INSERT INTO t VALUES (373)", "CheckViolation.*t_n_check"),
        ("SELECT 'secret 73'::int", "InvalidTextRepresentation"),
    ):
        with pytest.raises(StoreError, match=words) as refused:
            async with database.transaction() as connection:
                await connection.execute(statement)
        assert "73" not in refused.value.detail


async def test_two_that_change_one_row_from_one_state_do_not_both_win(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("INSERT INTO t VALUES (1)")

    async def both() -> None:
        async with database.transaction() as first:
            await first.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await value(first, "SELECT count(*) FROM t")
            async with database.transaction() as second:
                await second.execute("UPDATE t SET word = 'second'")
            await first.execute("UPDATE t SET word = 'first'")

    with pytest.raises(StoreError, match="may be repeated"):
        await both()
    async with database.snapshot() as reader:
        assert await value(reader, "SELECT word FROM t") == "second"


async def test_waiting_for_a_connection_ends(blank_database_url: str) -> None:
    async with Database.open(blank_database_url, pool_min=1, pool_max=1, wait_s=0.1) as database:
        async with database.transaction():
            with pytest.raises(StoreError, match="all are busy"):
                async with database.transaction():
                    pass
        assert await value_of_one(database) == 1


async def value_of_one(database: Database) -> object:
    async with database.snapshot() as connection:
        return await value(connection, "SELECT 1")


async def test_a_closed_pool_gives_nothing(blank_database_url: str) -> None:
    async with Database.open(blank_database_url) as database:
        pass
    await database.close()
    with pytest.raises(StoreError, match="ending"):
        await value_of_one(database)


async def test_a_database_that_is_not_there_says_which_and_hides_the_password(
    postgres: Postgres, tmp_path: Path
) -> None:
    nobody = postgres.cluster.url("nobody").replace("outpost@", "outpost:geheim@")
    for url, words in (
        (nobody, 'nobody at .*"nobody" does not exist'),
        (f"postgresql://u:geheim@/x?host={tmp_path}", "is the server running"),
        ("postgresql://u:geheim@127.0.0.1:1/x", "127.0.0.1:1 as u: .*refused"),
    ):
        with pytest.raises(StoreError, match=words) as refused:
            async with Database.open(url):
                pass
        assert "geheim" not in refused.value.detail
    with pytest.raises(ConfigError) as unread:
        async with Database.open("postgresql://u:geheim@[h/x"):
            pass
    assert "geheim" not in unread.value.detail


async def test_tls_is_the_urls_matter(postgres: Postgres) -> None:
    # over a unix socket libpq never speaks TLS; over TCP it insists on what the URL says before anything is sent
    ended = asyncio.Event()

    async def answer_no(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"N")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(answer_no, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(StoreError, match="SSL"):
            async with Database.open(f"postgresql://u@127.0.0.1:{port}/x?sslmode=require"):
                pass
        await asyncio.wait_for(ended.wait(), 120)


async def test_after_a_restart_of_the_server_the_next_request_is_served(folder: Path) -> None:
    with cluster_in(folder / "pg") as cluster:
        async with Database.open(cluster.url(), pool_min=3, wait_s=5) as database:

            async def interrupted() -> None:
                async with database.transaction() as connection:
                    cluster.kill()
                    await connection.execute("SELECT 1")

            with pytest.raises(StoreError, match="may be sent again"):
                await interrupted()
            cluster.start()
            # the others of the pool are dead too, and no caller meets one of them
            for _ in range(6):
                assert await value_of_one(database) == 1


async def test_a_connection_that_ended_a_moment_after_its_use_is_not_given(blank_database_url: str) -> None:
    async with Database.open(blank_database_url, pool_min=1, pool_max=1) as database:
        async with database.snapshot() as used:
            pid = await value(used, "SELECT pg_backend_pid()")
        assert used.is_sound()
        assert rows(blank_database_url, f"SELECT pg_terminate_backend({pid}, 20000)") == [(True,)]
        assert not used.is_sound()
        assert await value_of_one(database) == 1


async def test_a_server_that_was_away_for_longer_than_the_pool_tries_is_found_again(folder: Path) -> None:
    with cluster_in(folder / "pg") as cluster:
        async with Database.open(cluster.url(), pool_min=1, pool_max=2, wait_s=0.2) as database:
            cluster.kill()
            for _ in range(3):
                with pytest.raises(StoreError):
                    await value_of_one(database)
            cluster.start()
            deadline = time.monotonic() + 10
            while True:
                try:
                    assert await value_of_one(database) == 1
                except StoreError:
                    assert time.monotonic() < deadline
                else:
                    break
