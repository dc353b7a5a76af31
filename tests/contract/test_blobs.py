"""Files in parts, by the hash of what they hold, on both homes."""

from __future__ import annotations

import hashlib
import random

import httpx
import pytest
from litestar import Litestar

from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.sync import blobs
from shared.sync.records import to_ms
from tests.access import TokenAuth, logged_in
from tests.contract.conftest import client_of
from tests.fakes import START

pytestmark = [pytest.mark.api, pytest.mark.sync]

CONTENT = random.Random(4).randbytes(150_000)
NAME = hashlib.sha256(CONTENT).hexdigest()
URL = f"/api/v1/blobs/{NAME}/"


async def put(
    client: httpx.AsyncClient, part: bytes, offset: int = 0, *, url: str = URL, size: int = len(CONTENT),
    kind: str = "image/jpeg",
) -> httpx.Response:  # fmt: skip
    asked = {"offset": offset, "size": size}
    return await client.put(url, params=asked, content=part, headers={"Content-Type": kind})


async def test_a_file_comes_in_parts_in_any_cut_and_is_read_whole_or_in_ranges(client: httpx.AsyncClient) -> None:
    assert (await client.head(URL)).status_code == 404
    offset = 0
    for size in (40_000, 1_024, 100_000, 8_976):
        told = (await put(client, CONTENT[offset : offset + size], offset)).json()
        offset += size
        assert (told["received"], told["is_whole"]) == (offset, offset == len(CONTENT))
        far = await client.head(URL)
        assert (far.headers["Upload-Offset"], far.headers["Upload-Length"]) == (str(offset), str(len(CONTENT)))
        if offset < len(CONTENT):
            assert (await client.get(URL)).status_code == 404
    found = await client.get(URL)
    assert (found.status_code, found.content, found.headers["Content-Type"]) == (200, CONTENT, "image/jpeg")
    for asked, first, end in (("10-19", 10, 20), ("39999-41050", 39_999, 41_051), ("149990-", 149_990, 150_000),
                              ("-5", 149_995, 150_000), ("0-999999", 0, 150_000)):  # fmt: skip
        part = await client.get(URL, headers={"Range": f"bytes={asked}"})
        assert part.content == CONTENT[first:end]
        assert part.status_code == (200 if end - first == len(CONTENT) else 206)
    assert (await client.get(URL, headers={"Range": "bytes=150000-"})).status_code == 416


async def test_a_part_that_comes_again_changes_nothing_and_one_too_far_is_refused(client: httpx.AsyncClient) -> None:
    await put(client, CONTENT[:50_000])
    assert (await put(client, CONTENT[:20_000])).json()["received"] == 50_000
    assert (await put(client, CONTENT[30_000:60_000], 30_000)).json()["received"] == 60_000
    ahead = await put(client, CONTENT[70_000:80_000], 70_000)
    assert (ahead.status_code, ahead.json()["code"]) == (409, "conflict")
    assert "60000 bytes have come" in ahead.json()["detail"]
    assert (await put(client, CONTENT[60_000:], 60_000)).json()["is_whole"] is True
    assert (await put(client, CONTENT[:1_024])).json()["is_whole"] is True
    assert (await client.get(URL)).content == CONTENT


async def test_what_is_not_what_its_name_says_is_thrown_away(client: httpx.AsyncClient) -> None:
    await put(client, CONTENT[:100_000])
    damaged = await put(client, bytes(50_000), 100_000)
    assert (damaged.status_code, damaged.json()["code"]) == (422, "corrupt_batch")
    assert (await client.head(URL)).headers["Upload-Offset"] == "0"
    assert (await put(client, CONTENT)).json()["is_whole"] is True


async def test_what_no_file_may_be_is_refused_and_leaves_nothing(client: httpx.AsyncClient) -> None:
    for answer, status in (
        (await put(client, CONTENT[:9_000], url="/api/v1/blobs/ABC/"), 400),
        (await put(client, CONTENT[:9_000], kind="text/html"), 400),
        (await put(client, CONTENT[:9_000], size=blobs.MAX_BYTES + 1), 413),
        (await put(client, bytes(blobs.MAX_PART_BYTES + 1), size=blobs.MAX_BYTES), 413),
        (await put(client, CONTENT[:100]), 400),
        (await put(client, b""), 400),
        (await put(client, CONTENT, 1), 400),
    ):
        assert answer.status_code == status, answer.text
    assert (await client.head(URL)).status_code == 404


async def test_nobody_begins_files_without_end(client: httpx.AsyncClient) -> None:
    for number in range(blobs.MAX_UNFINISHED):
        assert (await put(client, CONTENT[:1_024], url=f"/api/v1/blobs/{number:064x}/")).status_code == 200
    assert (await put(client, CONTENT[:1_024])).status_code == 409


async def test_a_viewer_has_no_photographs(app: Litestar, accounts: Accounts, viewer_user: User) -> None:
    access, _ = await logged_in(accounts, viewer_user)
    async with client_of(app, TokenAuth(lambda: access)) as client:
        answers = [await put(client, CONTENT), await client.get(URL), await client.head(URL)]
        assert [each.status_code for each in answers] == [403, 403, 403]
    async with client_of(app) as nobody:
        assert (await nobody.head(URL)).status_code == 401


async def test_what_was_begun_and_left_is_forgotten(accounts: Accounts, client: httpx.AsyncClient) -> None:
    await put(client, CONTENT[:50_000])
    now_ms = to_ms(START) + blobs.UNFINISHED_MS
    assert await accounts.tables.write(blobs.forget_unfinished(now_ms)) == 0
    assert await accounts.tables.write(blobs.forget_unfinished(now_ms + 1_000)) == 1
    assert (await client.head(URL)).status_code == 404
