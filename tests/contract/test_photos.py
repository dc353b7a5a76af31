"""Photographs of observations on both homes: who reads where they were taken, and small copies of them."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import AsyncIterator

import httpx
import pytest
from litestar import Litestar
from PIL import Image

from shared.accounts.service import Accounts
from shared.accounts.users import User
from shared.photos.small import SIDE
from tests.access import TokenAuth, logged_in, person
from tests.contract.conftest import client_of

pytestmark = [pytest.mark.api, pytest.mark.sync, pytest.mark.usefixtures("only_homes")]

GPS_IFD = 0x8825
#: As Exif writes it: 2 degrees, 39 minutes, 12.5 seconds.
LATITUDE = (2.0, 39.0, 12.5)


def photograph(size: tuple[int, int] = (1600, 1200), *, kind: str = "JPEG", orientation: int = 6) -> bytes:
    """Return a picture whose Exif tells where it was taken, and that it stands on its side."""
    picture = Image.linear_gradient("L").resize(size).convert("RGB")
    picture.paste((200, 30, 30), (0, 0, size[0] // 4, size[1] // 4))
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Field camera 7"
    exif.get_ifd(GPS_IFD).update({1: "S", 2: LATITUDE, 3: "E", 4: (37.0, 6.0, 44.25)})
    saved = io.BytesIO()
    picture.save(saved, kind, exif=exif)
    return saved.getvalue()


async def bring(client: httpx.AsyncClient, content: bytes, kind: str = "image/jpeg") -> str:
    """Upload a file in parts; return its path."""
    path = f"/api/v1/blobs/{hashlib.sha256(content).hexdigest()}"
    step, is_whole = 64 << 10, False
    for offset in range(0, len(content), step):
        answer = await client.put(
            path, params={"offset": offset, "size": len(content)}, content=content[offset : offset + step],
            headers={"Content-Type": kind},
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
        is_whole = answer.json()["is_whole"]
    assert is_whole
    return path


@pytest.fixture
async def ranger(app: Litestar, accounts: Accounts, ranger_user: User) -> AsyncIterator[httpx.AsyncClient]:
    """Give a ranger who takes photographs."""
    access, _ = await logged_in(accounts, ranger_user)
    async with client_of(app, TokenAuth(lambda: access)) as client:
        yield client


@pytest.fixture
async def manager(app: Litestar, accounts: Accounts, manager_user: User) -> AsyncIterator[httpx.AsyncClient]:
    """Give a manager."""
    access, _ = await logged_in(accounts, manager_user)
    async with client_of(app, TokenAuth(lambda: access)) as client:
        yield client


@pytest.fixture
async def other(app: Litestar, accounts: Accounts) -> AsyncIterator[httpx.AsyncClient]:
    """Give another ranger of the same post."""
    access, _ = await logged_in(accounts, await person(accounts, "ranger", name="Other"))
    async with client_of(app, TokenAuth(lambda: access)) as client:
        yield client


async def test_another_ranger_gets_the_picture_without_where_it_was_taken(
    ranger: httpx.AsyncClient, other: httpx.AsyncClient, manager: httpx.AsyncClient
) -> None:
    for kind in ("jpeg", "png", "webp"):
        taken = photograph((640, 480), kind=kind.upper())
        path = await bring(ranger, taken, f"image/{kind}")
        for own in (ranger, manager):
            assert (await own.get(path)).content == taken
        given = await other.get(path)
        assert given.status_code == 200, given.text
        assert given.headers["Content-Type"] == f"image/{kind}"
        with Image.open(io.BytesIO(given.content)) as plain, Image.open(io.BytesIO(taken)) as whole:
            assert plain.getexif().get_ifd(GPS_IFD) == {}
            assert whole.getexif().get_ifd(GPS_IFD)[2] == LATITUDE
            assert plain.convert("RGB").tobytes() == whole.convert("RGB").tobytes()
            assert plain.getexif().get(0x0112, 1) == (6 if kind == "jpeg" else 1)
        assert b"Field camera" not in given.content
        part = await other.get(path, headers={"Range": "bytes=5-19"})
        assert (part.status_code, part.content) == (206, given.content[5:20])
        assert given.headers["Cache-Control"].startswith("private, max-age=604800")
        assert "Authorization" in given.headers["Vary"]
        assert given.headers["ETag"] != (await ranger.get(path)).headers["ETag"]


async def test_what_cannot_be_taken_apart_is_not_given_to_others(
    ranger: httpx.AsyncClient, other: httpx.AsyncClient, manager: httpx.AsyncClient
) -> None:
    for content, kind in ((b"<gpx/>" * 500, "application/gpx+xml"), (photograph()[:5_000], "image/jpeg")):
        path = await bring(ranger, content, kind)
        assert [(await each.get(path)).status_code for each in (ranger, manager, other)] == [200, 200, 403]


async def test_a_small_copy_stands_upright_tells_nothing_and_is_made_once(
    ranger: httpx.AsyncClient, other: httpx.AsyncClient, viewer_client: httpx.AsyncClient
) -> None:
    path = await bring(ranger, photograph())
    first, again = [await client.get(f"{path}/thumbnail") for client in (ranger, other)]
    assert (first.status_code, first.headers["Content-Type"]) == (200, "image/jpeg"), first.text
    assert first.content == again.content
    with Image.open(io.BytesIO(first.content)) as made:
        assert made.size == (SIDE * 3 // 4, SIDE)  # it stood on its side
        assert dict(made.getexif()) == {}
        red, green, _ = made.convert("RGB").getpixel((made.size[0] - 10, 10))  # type: ignore[misc]
        assert red > 150 > 80 > green  # the patch of the first corner, turned with the picture
    assert (await viewer_client.get(f"{path}/thumbnail")).status_code == 403
    assert (await ranger.get(f"/api/v1/blobs/{'0' * 64}/thumbnail")).status_code == 404


async def test_a_picture_that_asks_for_gigabytes_is_refused_and_harms_nobody(ranger: httpx.AsyncClient) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def png(side: int) -> bytes:
        header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
        rows = zlib.compress(bytes(4_000_000), 9)
        body = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + body

    for content, kind in ((png(60_000), "image/png"), (b"\xff\xd8" + bytes(5_000), "image/jpeg")):
        path = await bring(ranger, content, kind)
        for _ in range(2):  # and is known as such
            answer = await ranger.get(f"{path}/thumbnail")
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid"), answer.text
    assert (await ranger.get("/health/live")).status_code == 200


async def test_an_observation_names_its_photograph_before_it_has_come(
    ranger: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    taken = photograph((320, 240))
    path = f"/api/v1/blobs/{hashlib.sha256(taken).hexdigest()}"
    told = {"observation_type": "sighting", "timestamp": "2026-05-01T10:00:00Z", "photo_url": path}
    made = await ranger.post("/api/v1/tracking/observations/", json=told)
    assert made.status_code == 201, made.text
    url = (await other.get(f"/api/v1/tracking/observations/{made.json()['id']}/")).json()["photo_url"]
    assert (await other.get(url)).status_code == 404
    await bring(ranger, taken)
    assert (await other.get(url)).status_code == 200
    assert (await other.get(f"{url}/thumbnail")).status_code == 200
