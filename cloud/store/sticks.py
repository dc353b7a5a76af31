"""What stations asked for on USB sticks, and the receipts that go back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec

from cloud.store.database import Connection, Database
from shared.wire.link import Channel
from shared.wire.stick import Receipted, Refused, Request

_PAGE = 500


class Asked(msgspec.Struct, frozen=True):
    """The last request of a station, and which of its batches were refused."""

    request: Request
    refused: list[Refused]


async def keep(connection: Connection, request: Request, refused: Sequence[Refused], now_ms: int) -> None:
    """Keep what a stick asked for, unless a later one of the same life of the station was read before it."""
    known = await asked(connection, request.station_id)
    if known is not None and known.request.epoch == request.epoch and known.request.number > request.number:
        return
    await connection.execute(
        "INSERT INTO sticks (station_id, request, refused, taken_ms) VALUES (%s, %s, %s, %s) ON CONFLICT (station_id)"
        " DO UPDATE SET request = excluded.request, refused = excluded.refused, taken_ms = excluded.taken_ms",
        (request.station_id, msgspec.msgpack.encode(request), msgspec.msgpack.encode(list(refused)), now_ms),
    )


async def asked(connection: Connection, station_id: str) -> Asked | None:
    """Return what a station asked for last; None where it never sent a stick."""
    found = await connection.execute("SELECT request, refused FROM sticks WHERE station_id = %s", (station_id,))
    row = await found.fetchone()
    if row is None:
        return None
    return Asked(
        msgspec.msgpack.decode(bytes(row[0]), type=Request), msgspec.msgpack.decode(bytes(row[1]), type=list[Refused])
    )


async def askers(connection: Connection) -> list[str]:
    """Return the stations that have sent a stick and are not retired."""
    found = await connection.execute(
        "SELECT k.station_id FROM sticks k JOIN stations s ON s.id = k.station_id WHERE s.retired_ms IS NULL"
        " ORDER BY k.station_id"
    )
    return [station_id for (station_id,) in await found.fetchall()]


async def receipts(
    database: Database, station_id: str, epoch: str, channel: Channel, after_n: int
) -> AsyncIterator[Receipted]:
    """Give the receipts of a stream behind a number, in their order."""
    while True:
        async with database.snapshot() as connection:
            found = await connection.execute(
                "SELECT n, answer FROM receipts WHERE station_id = %s AND epoch = %s AND channel = %s AND n > %s"
                " ORDER BY n LIMIT %s",
                (station_id, epoch, channel, after_n, _PAGE),
            )
            rows = await found.fetchall()
        for n, answer in rows:
            yield Receipted(epoch=epoch, channel=channel, n=n, receipt=bytes(answer))
        if len(rows) < _PAGE:
            return
        after_n = rows[-1][0]
