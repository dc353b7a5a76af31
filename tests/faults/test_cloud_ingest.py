"""The cloud is killed between a frame's commit and its confirmation, and before either: the gateway loses nothing."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from cloud.ingest.directip import KEPT
from tests.fakes import START
from tests.faults.cloud_process import CloudProcess
from tests.faults.station_process import GUARD_S, until
from tests.satellites import directip, position
from tests.services import free_port

pytestmark = [pytest.mark.faults, pytest.mark.slow]

#: A few deaths by day, more by night.
ROUNDS = 20 if os.environ.get("OUTPOST_NIGHTLY") == "1" else 2


class Gateway:
    """Sends each message until it is confirmed, as Iridium's does."""

    def __init__(self, port: int) -> None:
        self._port = port

    def send(self, message: bytes) -> socket.socket:
        """Connect and send; the answer is not waited for."""
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=GUARD_S)
        connection.sendall(message)
        return connection

    def is_confirmed(self, message: bytes) -> bool:
        """Send, and say whether it was confirmed."""
        with self.send(message) as connection:
            return connection.makefile("rb").read(len(KEPT)) == KEPT


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[tuple[CloudProcess, Gateway]]:
    port = free_port()
    cloud = CloudProcess(
        tmp_path, ingest_directip_host="127.0.0.1", ingest_directip_port=port, ingest_directip_peers="127.0.0.1"
    )
    try:
        cloud.create()
        cloud.start()
        yield cloud, Gateway(port)
    finally:
        cloud.close()


def test_a_cloud_that_is_killed_around_a_commit_loses_no_frame_and_doubles_no_fix(
    cloud: tuple[CloudProcess, Gateway],
) -> None:
    program, gateway = cloud
    expected = 0
    for turn in range(ROUNDS):
        before, after = (
            directip(position(START + timedelta(hours=2 * turn + n)), momsn=2 * turn + n + 1) for n in range(2)
        )
        # killed while the commit waits: nothing is kept, and nothing was confirmed
        with psycopg.connect(program.database_url) as other:
            other.execute("SELECT value FROM counters WHERE name = 'frame' FOR UPDATE")
            with gateway.send(before) as connection:
                until(lambda: program.rows("SELECT 1 FROM pg_locks WHERE NOT granted") != [], "the commit")
                program.kill()
                with contextlib.suppress(ConnectionError):
                    assert connection.recv(len(KEPT)) == b""
            other.rollback()
        until(lambda: program.rows("SELECT 1 FROM pg_locks WHERE NOT granted") == [], "the server")
        program.start()
        assert gateway.is_confirmed(before)
        # killed once it is kept: its sender reads no confirmation, and sends it again
        with gateway.send(after):
            kept = 2 * turn + 2
            until(lambda kept=kept: program.rows("SELECT count(*) FROM frames") == [(kept,)], "the frame")  # type: ignore[misc] # of this turn
            program.kill()
        program.start()
        assert gateway.is_confirmed(after)
        expected += 2
        assert program.rows("SELECT sum(copies) - count(*) FROM frames") == [(turn + 1,)]
    until(lambda: program.rows("SELECT count(*) FROM fixes") == [(expected,)], "every fix")
    assert program.command("status")["frames"] == expected
    found = program.command("redecode")
    assert (found["frames"], found["new_fixes"], found["undecoded"]) == (expected, 0, 0)
    assert program.rows("SELECT count(*) FROM fixes") == [(expected,)]
