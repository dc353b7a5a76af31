"""What lies on a stick: sealed for one reader, in its place; signed by one writer; damage is told, never read."""

from __future__ import annotations

import msgspec
import pytest

from shared.accounts.sealing import seal_bytes_for, unseal_bytes
from shared.errors import Forbidden, Invalid
from shared.sync.streams import Head, StreamAnswer
from shared.wire.link import Changes
from shared.wire.signatures import new_key
from shared.wire.stick import (
    Carried,
    ChangesPage,
    Manifest,
    Message,
    Receipted,
    Refused,
    Reply,
    Request,
    check_signature,
    manifest_of,
    opened_part,
    part_of,
    sealed_part,
    signed_manifest,
)

REQUEST = Request(
    station_id="post-1", number=3, epoch="e1" * 8, cloud_epoch=None, cursor=7, heard_cursor=0, heard_after=None,
    clashes="c 4", acked={"fixes": 2},
)  # fmt: skip
MESSAGES: list[Message] = [
    REQUEST,
    Carried(epoch="e1" * 8, channel="fixes", n=3, prev_hash=bytes(32), hash=bytes(32), payload=b"\xcbF"),
    Reply(asked=REQUEST, cloud_epoch="c", heads={"fixes": Head(2, bytes(32))}, roster=None),
    Receipted(epoch="e1" * 8, channel="fixes", n=3, receipt=b"r"),
    Refused(epoch="e1" * 8, channel="alerts", n=1, hash=bytes(32), said=StreamAnswer("fork", 4, bytes(32))),
    ChangesPage(7, Changes("c", 9, False, b"b")),
]


def test_messages_come_out_as_they_went_in_for_their_reader_and_in_their_place_alone() -> None:
    seed, public = new_key()
    other, _ = new_key()
    sealed = sealed_part(public, "b-1", 0, MESSAGES)
    assert opened_part(seed, "b-1", 0, sealed) == MESSAGES
    for wrong in ((other, "b-1", 0), (seed, "b-2", 0), (seed, "b-1", 1)):
        with pytest.raises(Invalid, match="does not open"):
            opened_part(*wrong, sealed)
    assert sealed_part(public, "b-1", 0, MESSAGES) != sealed  # a finder cannot tell that two say the same


@pytest.mark.parametrize("length", [0, 31, 32, 44, 59])
def test_what_is_too_short_to_be_sealed_does_not_open(length: int) -> None:
    with pytest.raises(Invalid):
        unseal_bytes(new_key()[0], bytes(length), "here")


def test_every_changed_byte_of_what_is_sealed_is_noticed() -> None:
    seed, public = new_key()
    sealed = seal_bytes_for(public, b"where Saba is", "here")
    for place in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[place] ^= 0x10
        with pytest.raises(Invalid):
            unseal_bytes(seed, bytes(damaged), "here")


def test_a_manifest_counts_as_its_sender_signed_it() -> None:
    seed, public = new_key()
    manifest = Manifest(direction="up", station="post-1", number=1, id="b-1", parts=(part_of("part-0001", b"x"),))
    body, signature = signed_manifest(seed, manifest)
    check_signature(public, body, signature)
    assert manifest_of(body) == manifest
    for wrong in ((public, body + b" ", signature), (new_key()[1], body, signature), (public, body, b"no hex")):
        with pytest.raises(Forbidden):
            check_signature(*wrong)
    with pytest.raises(Invalid, match="format 2"):
        manifest_of(msgspec.json.encode(msgspec.structs.replace(manifest, format=2)))


def test_what_a_later_version_says_is_not_understood_and_not_guessed() -> None:
    seed, public = new_key()
    later = seal_bytes_for(public, msgspec.msgpack.encode([{"type": "tide", "n": 1}]), "stick b-1 0")
    with pytest.raises(Invalid, match="a later version"):
        opened_part(seed, "b-1", 0, later)
