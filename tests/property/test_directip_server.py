"""The gateway's stream, however TCP cuts it: the same messages, and never more held than one of them."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.ingest.directip import read_message
from firmware_bridge.framing.directip import MAX_MESSAGE
from shared.errors import FrameError
from tests.satellites import directip

pytestmark = pytest.mark.unit

messages = st.builds(directip, st.none() | st.binary(min_size=1, max_size=1960), momsn=st.integers(0, 65_535))


def chunks(wire: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    return [wire[start:end] for start, end in itertools.pairwise(places)]


async def read_all(pieces: list[bytes]) -> tuple[list[bytes], str]:
    """Return the messages of a stream that arrives piece by piece, and why the reading ended."""
    reader = asyncio.StreamReader(limit=4096)

    async def arrive() -> None:
        for piece in pieces:
            reader.feed_data(piece)
            await asyncio.sleep(0)
        reader.feed_eof()

    arriving = asyncio.create_task(arrive())
    found: list[bytes] = []
    try:
        while (message := await read_message(reader)) is not None:
            assert len(message) <= MAX_MESSAGE
            found.append(message)
    except FrameError as error:
        return found, error.detail
    finally:
        await arriving
    return found, ""


@given(st.lists(messages, max_size=4), st.lists(st.integers(0, 10_000), max_size=30))
def test_any_chunking_gives_the_same_messages(sent: list[bytes], cuts: list[int]) -> None:
    assert asyncio.run(read_all(chunks(b"".join(sent), cuts))) == (sent, "")


@given(messages, st.data(), st.lists(st.integers(0, 10_000), max_size=10))
def test_a_message_that_is_cut_short_is_none_and_costs_none_before_it(
    sent: bytes, data: st.DataObject, cuts: list[int]
) -> None:
    part = sent[: data.draw(st.integers(1, len(sent) - 1))]
    found, why = asyncio.run(read_all(chunks(sent + part, cuts)))
    assert found == [sent]
    assert "middle of a message" in why


@given(st.binary(min_size=3, max_size=5_000), st.lists(st.integers(0, 10_000), max_size=10))
def test_bytes_of_nobody_give_what_their_length_claims_or_a_reason(wire: bytes, cuts: list[int]) -> None:
    whole = asyncio.run(read_all([wire]))
    assert asyncio.run(read_all(chunks(wire, cuts))) == whole
    found, why = whole
    assert wire.startswith(b"".join(found))
    assert why or b"".join(found) == wire
